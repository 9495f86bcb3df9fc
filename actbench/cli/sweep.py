"""The command sweep: expands a sweep into variants and trains them."""

from __future__ import annotations

from typing import Annotated

import typer

from actbench import config
from actbench.cli import completion
from actbench.cli.options import with_fields_of
from actbench.cli.train import Flags, train_or_preview


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("sweep")(with_fields_of(Flags)(sweep))


def sweep(
    flags: Flags,
    grids: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", "-g", metavar="KEY=V1,V2,...", help="Vary a key over values.", autocompletion=completion.column
        ),
    ] = None,
) -> None:
    """Expand sweep files and grids into variants, and train every seed of each that is not done.

    Example: actbench sweep -c configs/relu.yaml -g activation=relu,tanh -g lr=1e-4,1e-3 --seeds 6
    """
    loaded = config.load_sweep(
        flags.configs, flags.changes or (), grids or (), seeds=flags.seeds, seed=flags.seed, device=flags.device
    )
    train_or_preview(loaded, flags)
