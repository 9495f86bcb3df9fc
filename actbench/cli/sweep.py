"""The command sweep: sweep files and grids -> variants, which train as `train` trains them."""

from __future__ import annotations

from typing import Annotated

import typer

from actbench import config, sweeps
from actbench.cli import completion, options
from actbench.cli.train import chosen_executor, train_variants


def sweep(
    configs: options.Configs,
    grids: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            "-g",
            metavar="KEY=V1,V2,...",
            help="Values that a key takes in turn (repeatable).",
            autocompletion=completion.column,
        ),
    ] = None,
    changes: options.Changes = None,
    seeds: options.Seeds = None,
    seed: options.Seed = None,
    results: options.Results = options.RESULTS,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    threads: options.Threads = None,
    lanes: options.Lanes = None,
    offline: options.Offline = False,
    mirror: options.Mirror = None,
    force: options.Force = False,
    fail_fast: options.FailFast = False,
    executor: options.Executor = None,
    ray_address: options.RayAddress = None,
    tf32: options.Tf32 = False,
    dry_run: options.DryRun = False,
    track: options.Track = None,
    quiet: options.Quiet = False,
    output: options.JsonFormat = "table",
) -> None:
    """Train every variant of a sweep. Finished runs are skipped, as in `train`.

    The variants come from the `sweep` key of the files, from --grid, or from both.

    Example: actbench sweep -c relu -g activation=relu,tanh -g lr=1e-4,1e-3 --seeds 6
    """
    settings = config.settings(changes or (), seeds=seeds, seed=seed, device=device)
    variants = config.load_sweep(configs, settings, grids or ())
    chosen = chosen_executor(executor, ray_address)
    how = sweeps.Options(threads, lanes, data_dir, offline, mirror, force, fail_fast, chosen, ray_address, tf32)
    train_variants(variants, how, results, track or (), dry_run=dry_run, quiet=quiet, output=output)
