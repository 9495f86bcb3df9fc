"""The command that times activation functions: cost (layer 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actbench.activations import ACTIVATIONS
from actbench.cli.console import plain_json, streams
from actbench.cli.options import JsonOption, QuietOption
from actbench.tables import FORMATS, Column

if TYPE_CHECKING:
    from actbench.cost import Cost


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("cost")(cost)


def cost(
    activations: Annotated[
        list[str] | None, typer.Argument(metavar="[ACTIVATION]...", help="Which activations; all of them by default.")
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="How many threads share the products of the training step; an activation takes one, as in training.",
        ),
    ] = 1,
    elements: Annotated[
        str, typer.Option("--elements", metavar="BATCHxWIDTH", help="How many elements a call gets.")
    ] = "64x512",
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=2, max=10_000, help="How many interleaved rounds.")
    ] = 10,
    output: Annotated[
        str, typer.Option("--format", metavar="table|md|latex|csv|json", help="How to print it.")
    ] = "table",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time activation functions: ns per element forward and backward, beside relu, and the share of a training step.

    Backward is what training does: the gradient times the exact slope; autograd's where that does not suffice.

    Example: actbench cost tanh gelu mish --rounds 20
    """
    output = "json" if as_json else output
    names = list(dict.fromkeys(["relu", *(activations or ACTIVATIONS)]))
    for name in names:
        ACTIVATIONS[name]  # unknown names and formats are refused before torch is imported
    form = FORMATS[output] if output != "table" else None
    from actbench import cost

    size = cost.Elements.parse(elements)
    to = streams()
    if not quiet:
        to.note(f"timing {len(names)} activations in {rounds} rounds; anything else on this machine disturbs it")
    costs = cost.measure(names, size, threads=threads, rounds=rounds)
    if output == "json":
        settings = {"threads": threads, "elements": str(size), "rounds": rounds, "device": "cpu"}
        to.result(plain_json({"rows": [one.row for one in costs], **settings}))
    elif output == "csv":
        to.result(FORMATS["csv"].write([Column(key, key) for key in costs[0].row], [one.row for one in costs], []))
    else:
        rows, notes = [_shown(one, costs[0]) for one in costs], _notes(costs, str(size), threads, rounds)
        if form is None:
            to.table(_COLUMNS, rows, notes)
        else:
            to.result(form.write(_COLUMNS, rows, notes))


_COLUMNS = [
    Column("activation", "activation"),
    Column("forward", "forward ns", right=True),
    Column("forward_ratio", "x relu", right=True),
    Column("backward", "backward ns", right=True),
    Column("backward_ratio", "x relu", right=True),
    Column("step_share", "% of step", right=True),
]


def _shown(one: Cost, relu: Cost) -> dict[str, Any]:
    """The row of one activation as a person reads it."""
    return {
        "activation": one.activation if one.by_slope else f"{one.activation} [2]",
        "forward": _time(one.forward_ns, one.forward_low, one.forward_high),
        "forward_ratio": f"{one.forward_ns / relu.forward_ns:.2f}",
        "backward": _time(one.backward_ns, one.backward_low, one.backward_high),
        "backward_ratio": f"{one.backward_ns / relu.backward_ns:.2f}",
        "step_share": f"{100 * one.step_share:.1f}",
    }


def _time(ns: float, low: float, high: float) -> str:
    """A mean with half its interval; long times, of few elements, without decimals."""
    digits = 3 if high < 100 else 0
    return f"{ns:.{digits}f} ±{max(high - ns, ns - low):.{digits}f}"


def _notes(costs: Sequence[Cost], elements: str, threads: int, rounds: int) -> list[str]:
    batch, width = elements.split("x")
    notes = [
        f"ns per element of {elements}, mean of {rounds} rounds ± 95% t interval; the step is that of a network "
        f"784-{width}-10 at batch size {batch}, Adam, {threads} {'thread' if threads == 1 else 'threads'}"
    ]
    if not all(one.by_slope for one in costs):
        notes.append("backward by autograd; elsewhere the gradient times the exact slope, as in training")
    return notes
