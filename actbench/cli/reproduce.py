"""The command reproduce: trains a stored run again and says whether it came out the same (layer 5)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from actbench import sweeps, tables
from actbench.cli.console import Streams, plain_json, streams
from actbench.cli.live import watcher
from actbench.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    MirrorOption,
    OfflineOption,
    QuietOption,
    ResultsOption,
    RunArgument,
    ThreadsOption,
)
from actbench.errors import CheckFailed
from actbench.metrics import METRICS
from actbench.reproduce import Reproduction, explain, run_of
from actbench.reproduce import reproduce as train_again
from actbench.store.read import find_one
from actbench.tables import Column


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("reproduce")(reproduce)


def reproduce(
    run: RunArgument,
    results: ResultsOption = Path("results"),
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
    mirror: MirrorOption = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="X",
            help="How far a metric may be off; by default 0.02 (2 points) for accuracies, 0.05 for all others.",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a stored run again, in a folder of its own, and say whether it came out the same.

    Identical means to the bit: weights, every number of every epoch, layer and neuron, only times aside. Otherwise
    the metrics after each epoch decide: numbers up to 1 may be off by the tolerance, larger ones by that
    share of themselves, counts of neurons by that share of all. What the two trainings did not share is named.
    Nothing in the results folder is changed. Exit code 1 when the run came out different.

    Example: actbench reproduce relu-s0
    """
    to = streams()
    stored = find_one(run, results)
    wanted = run_of(stored, device)
    options = sweeps.Options(threads, data_dir=data_dir, offline=offline, mirror=mirror)
    message = "stopping after this epoch; press Ctrl-C again to stop at once"
    with sweeps.Interrupts(to.note, message) as stop, watcher(to, [wanted], quiet=quiet) as watching:
        found = train_again(stored, wanted, options, watching, tolerance=tolerance, stop=stop)
    if found is None:
        raise typer.Exit(stop.exit_code)
    if as_json:
        to.result(plain_json({"format_version": 1, **asdict(found), "explanation": _why(found)}))
    else:
        _show(to, found)
    if found.verdict == "different":
        raise CheckFailed(f"{found.run_id} came out different: {explain(found)}")


def _why(found: Reproduction) -> str | None:
    return None if found.verdict == "identical" else explain(found)


def _show(to: Streams, found: Reproduction) -> None:
    """Put the verdict and what led to it on stdout."""
    if found.verdict == "identical":
        to.result(f"{found.run_id}: identical to the bit ({', '.join(found.parts)})")
    else:
        same = [name for name, is_same in found.parts.items() if is_same]
        also = f"; identical to the bit: {', '.join(same)}" if same else ""
        to.result(f"{found.run_id}: {found.verdict}{also}")
        if found.status[0] != found.status[1]:
            to.result(f"it ended as {found.status[0]}, and now as {found.status[1]}")
        if found.largest_weight is not None and not found.parts["weights"]:
            to.result(f"largest difference of a weight: {found.largest_weight:.3g}")
        _show_differences(to, found)
        if found.verdict != "different":
            to.result(f"why: {explain(found)}")
    if found.not_compared:
        to.result(f"not compared, as only one of the two has it: {', '.join(found.not_compared)}")


def _show_differences(to: Streams, found: Reproduction) -> None:
    rows = [
        {
            "metric": one.metric,
            "where": one.where,
            "stored": _value(one.metric, one.stored),
            "again": _value(one.metric, one.again),
            "difference": f"{one.size:.3g}",
            "allowed": f"{'' if one.within else 'not '}{one.allowed:g}",
        }
        for one in found.differences
    ]
    if rows:
        columns = [Column("metric", "metric"), Column("where", "most after"), Column("stored", "stored", right=True)]
        columns += [Column("again", "again", right=True), Column("difference", "difference", right=True)]
        to.table([*columns, Column("allowed", "within", right=True)], rows)


def _value(metric: str, value: float | None) -> Any:
    if value is None:
        return None
    is_fraction = metric in METRICS and METRICS[metric].kind == "fraction"
    return f"{tables.show_fraction(value)} %" if is_fraction else f"{value:.5g}"
