"""The command reproduce: trains a stored run again and says whether it came out the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from actbench import sweeps, tables
from actbench.cli import junit, options
from actbench.cli.console import Streams, streams
from actbench.cli.live import watcher
from actbench.errors import CheckFailed
from actbench.metrics import METRICS
from actbench.reproduce import Reproduction, explain, run_of
from actbench.reproduce import reproduce as train_again
from actbench.store.read import find_one
from actbench.tables import Column
from actbench.text import number_text


def reproduce(
    run: options.Run,
    results: options.Results = options.RESULTS,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    threads: options.Threads = None,
    offline: options.Offline = False,
    mirror: options.Mirror = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="X",
            help="Allowed difference of a metric. Default: 0.02 (2 points) for accuracies, 0.05 for other metrics.",
        ),
    ] = None,
    junit_file: junit.File = None,
    quiet: options.Quiet = False,
    output: options.JsonFormat = "table",
) -> None:
    """Train a stored run again and compare the two.

    Identical means to the bit: all weights and every number of every epoch, layer and neuron, except times. If the
    runs are not identical, the metrics after each epoch decide. A number up to 1 may differ by the tolerance, a larger
    number by that share of itself, and a count of neurons by that share of all neurons. The report names what differed
    between the two trainings. The new run is stored in a temporary folder only. The exit code is 1 if it came out
    different.

    Example: actbench reproduce relu-s0
    """
    to = streams()
    stored = find_one(run, results)
    wanted = run_of(stored, device)
    how = sweeps.Options(threads, data_dir=data_dir, offline=offline, mirror=mirror)
    message = "stopping after this epoch; press Ctrl-C again to stop at once"
    with sweeps.Interrupts(to.note, message) as stop, watcher(to, [wanted], quiet=quiet) as watching:
        found = train_again(stored, wanted, how, watching, tolerance=tolerance, stop=stop)
    if found is None:
        raise typer.Exit(stop.exit_code)
    if output == "json":
        why = None if found.verdict == "identical" else explain(found)
        to.json({"format_version": 1, **asdict(found), "explanation": why})
    else:
        _show(to, found)
    failure = f"{found.run_id} came out different: {explain(found)}" if found.verdict == "different" else ""
    if junit_file is not None:
        junit.write(junit_file, "reproduce", [junit.Case(found.run_id, "failure" if failure else "passed", failure)])
    if failure:
        raise CheckFailed(failure)


def _show(to: Streams, found: Reproduction) -> None:
    """Print the verdict and the evidence for it."""
    if found.verdict == "identical":
        to.result(f"{found.run_id}: identical to the bit ({', '.join(found.parts)})")
    else:
        same = [name for name, is_same in found.parts.items() if is_same]
        also = f"; identical to the bit: {', '.join(same)}" if same else ""
        to.result(f"{found.run_id}: {found.verdict}{also}")
        if found.status[0] != found.status[1]:
            to.result(f"it ended as {found.status[0]}, this time as {found.status[1]}")
        if found.largest_weight is not None and not found.parts["weights"]:
            to.result(f"largest difference in a weight: {number_text(found.largest_weight, '.3g')}")
        _show_differences(to, found)
        if found.verdict != "different":
            to.result(f"why: {explain(found)}")
    if found.not_compared:
        to.result(f"not compared, because only one of the two runs has it: {', '.join(found.not_compared)}")


def _show_differences(to: Streams, found: Reproduction) -> None:
    rows = [
        {
            "metric": one.metric,
            "where": one.where,
            "stored": _value(one.metric, one.stored),
            "again": _value(one.metric, one.again),
            "difference": number_text(one.size, ".3g"),
            "allowed": f"{'' if one.within else 'not '}{one.allowed:g}",
        }
        for one in found.differences
    ]
    if rows:
        columns = [Column("metric", "metric"), Column("where", "largest after"), Column("stored", "stored", right=True)]
        columns += [Column("again", "again", right=True), Column("difference", "difference", right=True)]
        to.table([*columns, Column("allowed", "within", right=True)], rows)


def _value(metric: str, value: float | None) -> str | None:
    if value is None:
        return None
    is_fraction = metric in METRICS and METRICS[metric].kind == "fraction"
    return f"{tables.show_fraction(value)} %" if is_fraction else number_text(value, ".5g")
