"""The command claims: trains what the claim studies need and prints a verdict for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from actbench import claims, datasets, sweeps
from actbench.claims import writeup
from actbench.cli import notes, options
from actbench.cli.console import Streams, streams
from actbench.cli.live import watcher
from actbench.config import Run
from actbench.events import PlainProgress, run_label
from actbench.store import RunRecord, Store
from actbench.store.csv import Row
from actbench.tables import Column
from actbench.text import ascii_text, duration, plural

QUICK_FOLDER = "claims-quick"
"""Subfolder of the results for the runs of a demonstration, which do not count."""

PLAN_COLUMNS = (
    Column("id", "id", str, right=True),
    Column("claim", "claim"),
    *(Column(key, key, str, right=True) for key in ("seeds", "arms", "runs", "shared", "done")),
    Column("to_train", "to train", str, right=True),
    Column("seconds", "time", lambda seconds: duration(seconds) if seconds else "", right=True),
)


def run_claims(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Claims by number or name. Default: all.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two-minute demonstration on the digits; it decides nothing.")
    ] = False,
    seeds: options.Seeds = None,
    dry_run: options.DryRun = False,
    output: options.Format = "table",
    folder: Annotated[
        Path | None,
        typer.Option("--claims", metavar="DIR", help="Folder of claim files. Default: built-in.", parser=options.path),
    ] = None,
    results: options.Results = options.RESULTS,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    threads: options.Threads = None,
    lanes: options.Lanes = None,
    offline: options.Offline = False,
    mirror: options.Mirror = None,
    quiet: options.Quiet = False,
) -> None:
    """Test common claims about activation functions. Trains the missing runs, then prints a verdict for each claim.

    A run that several claims need is trained once. All claims together take about two hours on two cores. To resume,
    run the same command again. --dry-run shows what is left, --quick shows the whole study on a small scale.

    Example: actbench claims 6 --seeds 12
    """
    files = claims.claim_files(folder or claims.folder())
    loaded = claims.load_all(files, claims.Flags(quick, seeds, device))
    asked = claims.select(loaded, names or ())
    results = results / QUICK_FOLDER if quick else results
    to = streams()
    if dry_run:
        _show_plan(to, claims.plan(asked, Store(results)), output)
        return
    how = sweeps.Options(threads, lanes, data_dir, offline, mirror)
    code = _train(to, asked, results, how, quiet=quiet)
    study = claims.judge(
        loaded,
        asked,
        Store(results),
        lambda name: datasets.load(name, datasets.data_folder(data_dir), offline=offline, mirror=mirror),
        demonstration=quick,
    )
    if output == "table":
        _show(to, study)
    else:
        to.document(writeup.write(study, output))
    raise typer.Exit(code)


def _show_plan(to: Streams, plan: claims.StudyPlan, output: str) -> None:
    rows = [*plan.rows, plan.totals]
    if output == "json":
        to.json({"format_version": 1, "claims": rows, "seconds": plan.seconds})
    else:
        to.rows(output, PLAN_COLUMNS, rows)


def _show(to: Streams, study: claims.Study) -> None:
    for line in writeup.terminal_lines(study, to.out.width):
        to.result(ascii_text(line) if to.ascii_only else line)
    for note in writeup.footnotes(study):
        to.result(note)


class _StudyProgress(PlainProgress):
    """One line per run instead of one per epoch: a study has hundreds of runs."""

    def __init__(self, runs: int, say: Callable[[str], object], *, quiet: bool) -> None:
        super().__init__(say, quiet=quiet)
        self._ended, self._runs = 0, runs

    def on_epoch(self, run: Run, row: Row) -> None:
        """Print nothing: see `on_end`."""

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Count the run and say how it ended."""
        self._ended += 1
        if record.status == "failed":
            super().on_end(run, record)
        else:
            self.say(f"{self._ended}/{self._runs}  {run_label(run)}: {record.status}")


def _train(to: Streams, asked: Sequence[claims.Claim], results: Path, how: sweeps.Options, *, quiet: bool) -> int:
    """Train the missing runs and return the exit code."""
    store = Store(results, note=to.note)
    plan = claims.plan(asked, store)
    todo = plan.runs
    if todo.open and not quiet:
        to.note(
            f"{plural(len(todo.runs), 'run')}: {len(todo.open)} to train, {len(todo.ended)} done; "
            f"about {duration(plan.seconds)} on two cores"
        )
    plain = partial(_StudyProgress, len(todo.open))
    with sweeps.Interrupts(to.note) as stop, watcher(to, todo.open, quiet=quiet, plain=plain) as watching:
        report = sweeps.run(todo, store, how, watching, stop)
    for note in (*notes.failures(todo, report, store, how.data_dir), *notes.stopped(report)):
        to.note(note)
    return stop.exit_code or (1 if report.failed else 0)
