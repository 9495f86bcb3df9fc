"""The commands that train: train and sweep (layer 5)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from actbench import comparison, config, sweep, tables
from actbench.cli.common import (
    ConfigOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    LanesOption,
    MirrorOption,
    OfflineOption,
    QuietOption,
    ResultsOption,
    SeedOption,
    SeedsOption,
    SetOption,
    Streams,
    ThreadsOption,
    plain_json,
    streams,
)
from actbench.cli.progress import watcher
from actbench.config import Config, grid
from actbench.errors import UsageError
from actbench.store import Store, StoredRun
from actbench.tables import Column

ForceOption = Annotated[bool, typer.Option("--force", help="Train anew what is done, and replace it.")]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that fails.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("train")(train)
    app.command("sweep")(run_sweep)


def train(
    configs: ConfigOption,
    changes: SetOption = None,
    seeds: SeedsOption = None,
    seed: SeedOption = None,
    results: ResultsOption = Path("results"),
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    lanes: LanesOption = None,
    offline: OfflineOption = False,
    mirror: MirrorOption = None,
    force: ForceOption = False,
    fail_fast: FailFastOption = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved config, which runs back in, and stop.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train every seed of each config's variant, and end with a table of accuracy, dead neurons and time.

    Runs that are done are skipped, interrupted ones go on, failed ones are tried again: the same command
    again is the resume. Progress goes to stderr, the table to stdout.

    Example: actbench train --config configs/relu.yaml --set lr=0.01 --seeds 10
    """
    loaded = config.load_all(configs, changes or (), seeds=seeds, seed=seed, device=device)
    if print_config:
        if len(loaded) != 1:
            raise UsageError(f"--print-config prints one config, but {len(loaded)} were given")
        streams().out.file.write(config.to_yaml(loaded[0].variant, loaded[0].seeds))
        return
    options = sweep.Options(threads, lanes, data_dir, offline, mirror, force, fail_fast)
    raise typer.Exit(_train(loaded, results, options, quiet=quiet, as_json=as_json))


def run_sweep(
    configs: ConfigOption,
    grids: Annotated[
        list[str] | None, typer.Option("--grid", "-g", metavar="KEY=V1,V2,...", help="Vary a key over values.")
    ] = None,
    changes: SetOption = None,
    seeds: SeedsOption = None,
    seed: SeedOption = None,
    results: ResultsOption = Path("results"),
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    lanes: LanesOption = None,
    offline: OfflineOption = False,
    mirror: MirrorOption = None,
    force: ForceOption = False,
    fail_fast: FailFastOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and stop.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Expand sweep files and grids into variants, and train every seed of each that is not done.

    Example: actbench sweep -c configs/relu.yaml -g activation=relu,tanh -g lr=1e-4,1e-3 --seeds 6
    """
    loaded = grid.load_sweep(configs, changes or (), grids or (), seeds=seeds, seed=seed, device=device)
    options = sweep.Options(threads, lanes, data_dir, offline, mirror, force, fail_fast)
    if dry_run:
        _show_plan(loaded, results, force=force, as_json=as_json)
        return
    raise typer.Exit(_train(loaded, results, options, quiet=quiet, as_json=as_json))


def _show_plan(configs: Sequence[Config], results: Path, *, force: bool, as_json: bool) -> None:
    """Print each variant with how many of its runs are done."""
    to, store = streams(), Store(results)
    rows: list[dict[str, object]] = []
    total = done = 0
    for one in configs:
        found = sweep.plan(one.runs(), store, force=force)
        total, done = total + len(found.runs), done + len(found.ended)
        rows.append({"variant": one.variant.name, "runs": len(found.runs), "done": len(found.ended)})
    if as_json:
        to.result(plain_json({"format_version": 1, "variants": rows}))
        return
    to.table([Column("variant", "variant"), *(Column(key, key, right=True) for key in ("runs", "done"))], rows)
    to.note(f"{len(rows)} variants, {total} runs: {done} done, {total - done} to train")


def _train(configs: Sequence[Config], results: Path, options: sweep.Options, *, quiet: bool, as_json: bool) -> int:
    """Train what is open, print the table of all that was asked for, return the exit code."""
    to = streams()
    store = Store(results, note=to.note)
    plan = sweep.plan([run for one in configs for run in one.runs()], store, force=options.force)
    if not quiet:
        to.note(_announcement(plan))
    with stop_signals(to) as received, watcher(to, plan.open, quiet=quiet) as watching:
        report = sweep.execute(plan, store, options, watching, stop=lambda: bool(received))
    ended = [*plan.ended, *report.trained, *report.elsewhere]
    stored = [store.load(run.run_id) for run in plan.runs if run.run_id in set(ended)]
    _show_results(to, stored, report, as_json=as_json)
    for run in plan.runs:
        if run.run_id in report.failed:
            to.note(f"failed: {run.run_id}; its traceback: actbench show {run.run_id}; the same command tries it again")
    if received:
        open_runs = len(plan.open) - len(report.trained) - len(report.failed) - len(report.elsewhere)
        to.note(f"stopped; {open_runs} runs are unfinished and kept: the same command goes on with them")
        return 128 + received[0]
    return 1 if report.failed else 0


def _announcement(plan: sweep.Plan) -> str:
    variants = len({run.variant.name for run in plan.runs})
    head = f"{len(plan.runs)} runs ({variants} variants)" if variants > 1 else f"{len(plan.runs)} runs"
    if not plan.open:
        return f"{head}: all done already, nothing to train (--force trains anew)"
    done = f", {len(plan.ended)} done already" if plan.ended else ""
    return f"{head}: {len(plan.open)} to train{done}"


def _show_results(to: Streams, stored: Sequence[StoredRun], report: sweep.Report, *, as_json: bool) -> None:
    rows = [run.row for run in stored]
    if as_json:
        to.result(plain_json({"format_version": 1, "runs": rows, "failed": report.failed, "stopped": report.stopped}))
    elif rows:
        found = comparison.compare(rows)
        to.table(*tables.comparison_table(found), found.footnotes)


@contextmanager
def stop_signals(to: Streams) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that training can end at an epoch; the second one ends it at once."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)
        to.note("stopping after this epoch and keeping a checkpoint; again: stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
