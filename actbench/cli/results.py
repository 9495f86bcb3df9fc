"""The commands results rm, results merge and results verify, which look after a results folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from actbench.cli import completion, options
from actbench.cli.console import Streams, streams
from actbench.comparison.groups import select
from actbench.errors import CheckFailed, UsageError
from actbench.store import Store, StoredProblem
from actbench.store.maintain import merge, remove
from actbench.store.read import find_one, read_results
from actbench.text import plural

app = typer.Typer(name="results", help="Look after a results folder: remove, merge, verify.", no_args_is_help=True)


@app.command("rm")
def rm(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Run ids, or beginnings of them.", autocompletion=completion.run_id),
    ] = None,
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help="Only runs such as \"status == 'failed'\".")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    results: options.Results = options.RESULTS,
) -> None:
    """Remove stored runs, their rows in runs.csv and their checkpoints.

    Runs that are being trained, damaged folders and links are left alone and named; the exit code is then 1.

    Example: actbench results rm --filter "status == 'failed'" --dry-run
    """
    if not runs and condition is None:
        raise UsageError("name the runs to remove, or select them with --filter")
    to, store = streams(), Store(results)
    found, damaged = ([find_one(run, results) for run in runs], []) if runs else store.load_all()
    to.skipped(damaged)
    for one in found:
        if one.folder.parent.resolve() != results.resolve():
            raise UsageError(f"{one.folder} does not lie in {results}; give its results folder with --results")
    chosen = {id(row) for row in select([one.row for one in found], condition)}
    ids = list(dict.fromkeys(one.run_id for one in found if id(one.row) in chosen))
    if dry_run or not yes:
        to.document("\n".join(ids))
        to.note(f"{plural(len(ids), 'run')} in {results}")
    if dry_run:
        return
    if not yes:
        _confirm(f"Remove {plural(len(ids), 'run')}?")
    changes = remove(store, ids)
    to.note(f"removed {plural(len(changes.done), 'run')}")
    _refuse(to, changes.kept, "not removed")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nothing was removed: this is no terminal to ask on; add --yes")
    if not typer.confirm(question, err=True):
        raise CheckFailed("nothing was removed")


@app.command("merge")
def merge_folders(
    others: Annotated[list[Path], typer.Argument(metavar="OTHER", help="Results folders.", parser=options.path)],
    results: options.Results = options.RESULTS,
) -> None:
    """Copy the runs of other results folders into this one.

    The other folders stay as they are. A run that is in both is never replaced, unless it is failed or damaged here.
    If the two differ, both stay where they are, and the run is named. Every file is checked before it is copied. The
    exit code is 1 if a run was left out.

    Example: actbench results merge server/results laptop/results --results all
    """
    to, kept = streams(), list[StoredProblem]()
    for other in others:
        changes = merge(Store(results, note=to.note), Store(other))
        known = f", {changes.known} already there" if changes.known else ""
        to.note(f"{other}: {plural(len(changes.done), 'run')} merged into {results}{known}")
        kept += changes.kept
    _refuse(to, kept, "not merged")


@app.command("verify")
def verify(paths: options.Folders = None, results: options.Results = options.RESULTS) -> None:
    """Check every file of every run against its checksum.

    The exit code is 1 if anything is damaged, missing or unknown; each such folder is named.

    Example: actbench results verify results
    """
    to = streams()
    runs, problems = read_results(paths or [], results)
    problems += [problem for run in runs for problem in run.verify()]
    damaged = {problem.path for problem in problems}
    to.result(f"{plural(sum(run.folder not in damaged for run in runs), 'run')} intact")
    _refuse(to, problems, "damaged or unknown")


def _refuse(to: Streams, problems: list[StoredProblem], what: str) -> None:
    """Name what is wrong, and end with exit code 1 if anything is."""
    for problem in problems:
        to.result(f"{what}: {problem}")
    if problems:
        raise CheckFailed(f"{plural(len({problem.path for problem in problems}), 'folder')} {what}")
