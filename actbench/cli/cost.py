"""The command cost: times activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actbench.activations import ACTIVATIONS
from actbench.cli import options
from actbench.cli.console import streams
from actbench.errors import UsageError
from actbench.registry import Parameter
from actbench.sweeps.plan import THREADS
from actbench.tables import Column
from actbench.text import plural

if TYPE_CHECKING:
    from actbench.cost import Cost

_ROUNDS = Parameter("rounds", 10, "interleaved rounds", low=2, high=10_000)


def cost(
    activations: Annotated[
        list[str] | None, typer.Argument(metavar="ACTIVATION", help='Such as gelu or "elu(alpha=2)". Default: all.')
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            metavar="N",
            callback=options.within(THREADS),
            help="Threads for the matrix products of the training step. An activation itself takes one thread.",
        ),
    ] = 1,
    elements: Annotated[str, typer.Option("--elements", metavar="BATCHxWIDTH", help="Elements per call.")] = "64x512",
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", metavar="N", callback=options.within(_ROUNDS), help="Number of interleaved rounds, at least 2."
        ),
    ] = 10,
    output: options.Format = "table",
    quiet: options.Quiet = False,
) -> None:
    """Time activation functions.

    Prints ns per element forward and backward, the ratio to relu, and the share of a training step. The backward pass
    is the one used in training: the gradient times the exact slope, or autograd where an activation needs it.

    Example: actbench cost tanh gelu mish --rounds 20
    """
    chains = options.activation_chains(["relu", *(activations or ACTIVATIONS)])
    if any(len(chain) > 1 for chain in chains):
        raise UsageError("cost times activations one by one; give the parts of a chain as separate arguments")
    chosen = list(dict.fromkeys(chain[0] for chain in chains))
    from actbench import compute, cost

    size = cost.Elements.parse(elements)
    to = streams()
    threads = compute.allowed_threads(threads, to.note)
    if not quiet:
        what = f"{plural(len(chosen), 'activation')} in {rounds} rounds"
        to.note(f"timing {what}; other programs on this machine disturb the times")
    costs = cost.measure(chosen, size, threads=threads, rounds=rounds)
    if output == "json":
        settings = {"threads": threads, "elements": str(size), "rounds": rounds, "device": "cpu"}
        to.json({"rows": [one.row for one in costs], **settings})
    elif output == "csv":
        to.rows(output, [Column(key, key) for key in costs[0].row], [one.row for one in costs])
    else:
        rows = [_row_text(one, costs[0]) for one in costs]
        to.rows(output, _COLUMNS, rows, _notes(costs, str(size), threads, rounds))


_COLUMNS = [
    Column("activation", "activation"),
    Column("forward", "forward ns", right=True),
    Column("forward_ratio", "x relu", right=True),
    Column("backward", "backward ns", right=True),
    Column("backward_ratio", "x relu", right=True),
    Column("step_share", "% of step", right=True),
]


def _row_text(one: Cost, relu: Cost) -> dict[str, Any]:
    """Format the row of one activation for people."""
    return {
        "activation": one.activation if one.by_slope else f"{one.activation} [2]",
        "forward": _time(one.forward_ns, one.forward_low, one.forward_high),
        "forward_ratio": f"{one.forward_ns / relu.forward_ns:.2f}",
        "backward": _time(one.backward_ns, one.backward_low, one.backward_high),
        "backward_ratio": f"{one.backward_ns / relu.backward_ns:.2f}",
        "step_share": f"{100 * one.step_share:.1f}",
    }


def _time(ns: float, low: float, high: float) -> str:
    """Format a mean and half its interval; long times, which come from few elements, have no decimals."""
    digits = 3 if high < 100 else 0
    return f"{ns:.{digits}f} ±{max(high - ns, ns - low):.{digits}f}"


def _notes(costs: Sequence[Cost], elements: str, threads: int, rounds: int) -> list[str]:
    batch, width = elements.split("x")
    notes = [
        f"ns per element of {elements}, mean of {rounds} rounds ± 95% t interval; the training step is that of a "
        f"784-{width}-10 network with batch size {batch} and Adam on {plural(threads, 'thread')}"
    ]
    if not all(one.by_slope for one in costs):
        notes.append("backward by autograd; for the others, the gradient times the exact slope, as in training")
    return notes
