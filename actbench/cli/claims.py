"""The command that tests claims: claims (layer 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from actbench import claims, datasets, sweeps
from actbench.claims import writeup
from actbench.cli.console import Streams, plain_json, streams
from actbench.cli.live import PlainWatcher, watcher
from actbench.cli.notes import failures
from actbench.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    LanesOption,
    MirrorOption,
    OfflineOption,
    QuietOption,
    ResultsOption,
    SeedsOption,
    ThreadsOption,
)
from actbench.config import Run
from actbench.events import run_label
from actbench.store import RunRecord, Store
from actbench.store.csv import Row
from actbench.tables import FORMATS, Column
from actbench.text import duration, readable_lines

QUICK_FOLDER = "claims-quick"
"""Where in the results folder the runs of a demonstration are, apart from those that count."""

PLAN_COLUMNS = (
    Column("id", "id", str, right=True),
    Column("claim", "claim"),
    *(Column(key, key, str, right=True) for key in ("seeds", "arms", "runs", "shared", "done")),
    Column("to_train", "to train", str, right=True),
    Column("seconds", "time", lambda seconds: duration(seconds) if seconds else "", right=True),
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("claims")(run_claims)


def run_claims(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Claims by number or name; all without one.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A demonstration in two minutes, on digits: it decides nothing.")
    ] = False,
    seeds: SeedsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs, those that claims share, and the time; train nothing.")
    ] = False,
    output: Annotated[
        str, typer.Option("--format", metavar="table|md|latex|csv|json", help="How to print it.")
    ] = "table",
    as_json: JsonOption = False,
    folder: Annotated[
        Path | None, typer.Option("--claims", metavar="DIR", help="Where the claim files are. Default: ours.")
    ] = None,
    results: ResultsOption = Path("results"),
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    lanes: LanesOption = None,
    offline: OfflineOption = False,
    mirror: MirrorOption = None,
    quiet: QuietOption = False,
) -> None:
    """Test what is commonly said about activation functions: train what is missing, and give each claim a verdict.

    A run that several claims need is trained once, and the same command again is the resume. All claims together take
    about two hours on two cores; --dry-run says what is left, --quick shows it all on a small scale.

    Example: actbench claims 6 --seeds 12
    """
    output = "json" if as_json else output
    if output != "table":
        FORMATS[output]  # an unknown format is refused before anything is trained
    files = claims.claim_files(folder or claims.folder())
    loaded = claims.load_all(files, claims.Flags(quick, seeds, device))
    asked = claims.select(loaded, names or ())
    results = results / QUICK_FOLDER if quick else results
    to = streams()
    if dry_run:
        _show_plan(to, claims.plan(asked, Store(results)), output)
        return
    options = sweeps.Options(threads, lanes, data_dir, offline, mirror)
    code = _train(to, asked, results, options, quiet=quiet)
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
        text = writeup.write(study, output)
        to.result(readable_lines(text) if to.out.is_terminal else text)
    raise typer.Exit(code)


def _show_plan(to: Streams, plan: claims.StudyPlan, output: str) -> None:
    rows = writeup.plan_rows(plan)
    if output == "json":
        to.result(plain_json({"format_version": 1, "claims": rows, "seconds": plan.seconds}))
    elif output == "table":
        to.table(PLAN_COLUMNS, rows)
    else:
        to.result(FORMATS[output].write(PLAN_COLUMNS, rows, ()))


def _show(to: Streams, study: claims.Study) -> None:
    for line in writeup.terminal_lines(study, to.out.width):
        to.result(line.encode("ascii", "replace").decode() if to.ascii_only else line)
    for note in writeup.footnotes(study):
        to.result(note)


class _StudyWatcher(PlainWatcher):
    """One line a run instead of one an epoch: a study has hundreds of runs."""

    def __init__(self, to: Streams, runs: Sequence[Run], *, quiet: bool) -> None:
        super().__init__(to, runs, quiet=quiet)
        self._ended, self._all = 0, len(runs)

    def on_epoch(self, run: Run, row: Row) -> None:
        """Nothing: see on_end."""

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Count the run, and say how it ended."""
        self._ended += 1
        if record.status == "failed":
            super().on_end(run, record)
        else:
            self.say(f"{self._ended}/{self._all}  {run_label(run)}: {record.status}")


def _train(to: Streams, asked: Sequence[claims.Claim], results: Path, options: sweeps.Options, *, quiet: bool) -> int:
    """Train what is missing; return the exit code."""
    store = Store(results, note=to.note)
    plan = claims.plan(asked, store)
    todo = plan.runs
    if todo.open and not quiet:
        about = duration(plan.seconds)
        to.note(f"{len(todo.runs)} runs: {len(todo.open)} to train, {len(todo.ended)} done; about {about} on two cores")
    live = watcher(to, todo.open, quiet=quiet)
    watching = _StudyWatcher(to, todo.open, quiet=quiet) if type(live) is PlainWatcher else live
    with sweeps.Interrupts(to.note) as stop, watching:
        report = sweeps.run(todo, store, options, watching, stop)
    for note in failures(todo, report, store, options.data_dir):
        to.note(note)
    if stop():
        to.note("stopped; unfinished runs are kept: to continue, run the same command again")
    return stop.exit_code or (1 if report.failed else 0)
