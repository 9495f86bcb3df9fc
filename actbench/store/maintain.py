"""Looking after a results folder: removing runs, and taking in those of another folder.

Both respect the claims of live processes, follow no symbolic links and never delete a folder that is not an intact run.
What is left alone is returned with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actbench.errors import StoreError, UsageError
from actbench.store import Store, files, index
from actbench.store.claim import LOCK, Claim, is_result, lock_run
from actbench.store.run import TIMES, StoredProblem, StoredRun, find_run, find_whole


@dataclass
class Changes:
    """The ids of the runs that were removed or taken in, how many were there already, and what was left alone."""

    done: list[str] = field(default_factory=list)
    known: int = 0
    kept: list[StoredProblem] = field(default_factory=list)


def remove(store: Store, run_ids: Iterable[str]) -> Changes:
    """Remove stored runs and their checkpoints. Raises StoreError if the folder cannot be written.

    Each run is renamed out of sight and then deleted, so none is ever half there; runs.csv is updated at the end.
    """
    changes = Changes()
    try:
        for run_id in run_ids:
            if reason := _remove(store, run_id):
                changes.kept.append(StoredProblem(store.root / run_id, reason))
            else:
                changes.done.append(run_id)
    finally:
        if changes.done:
            index.update(store.root)
    return changes


def _remove(store: Store, run_id: str) -> str | None:
    """Remove a run; return why it was left alone, if it was."""
    if reason := _not_removable(store.root, run_id):
        return reason
    lock = lock_run(store.root, run_id)
    if lock is None:
        return "is being trained"
    with lock:
        claim = Claim(store.root, run_id, lock, store.note)
        if reason := _not_removable(store.root, run_id):
            return reason
        files.place_folder(store.root / run_id, claim.folder / files.temporary_name("removed"))
        claim.clear()
    return None


def _not_removable(root: Path, run_id: str) -> str | None:
    stored = find_run(root, run_id)
    if (root / run_id).is_symlink():
        return "is a symbolic link, which actbench neither follows nor deletes"
    if isinstance(stored, StoredProblem):
        return f"{stored.reason}; what is not an intact run is never deleted, so do it yourself"
    return None if stored is not None else "is gone already"


def merge(store: Store, other: Store) -> Changes:
    """Take the runs of `other` into `store`; `other` stays as it is. Raises StoreError, and UsageError for one folder.

    A run that both have stays as it is in `store`: it is known if its results are the same, else it is kept apart. Only
    a failed or damaged run makes room for one that ended. Every file is checked before it is copied.
    """
    runs, problems = other.load_all()
    if store.root.resolve() == other.root.resolve():
        raise UsageError(f"{other.root} is the results folder itself; name another one")
    store.prepare()
    changes = Changes(kept=problems)
    try:
        for run in runs:
            try:
                reason = _take_in(store, other, run, changes)
            except StoreError as error:
                reason = str(error).removeprefix(f"{run.folder}: ")
            if reason:
                changes.kept.append(StoredProblem(run.folder, reason))
    finally:
        index.update(store.root)
        for run_id in changes.done:
            if (lock := lock_run(store.root, run_id)) is not None:
                with lock:
                    Claim(store.root, run_id, lock, store.note).clear()
    return changes


def _results(run: StoredRun) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Return what two trainings of one run have in common: everything but the times."""
    return run.status, {name: value for name, value in run.metrics.items() if name not in TIMES}, run.layers


def _take_in(store: Store, other: Store, run: StoredRun, changes: Changes) -> str | None:
    """Copy one run and note it in `changes`; return why it was left alone, if it was."""
    if run.folder.is_symlink():
        return "is a symbolic link, which actbench does not follow"
    if files.is_locked(other.root / index.RUNNING / run.run_id / LOCK):
        return "is being trained"
    stored = find_whole(store.root, run.run_id)
    if isinstance(stored, StoredRun) and (is_result(stored) or run.status == "failed"):
        if _results(stored) != _results(run):
            return f"differs from the run of the same id in {store.root}; each stays in its folder"
        changes.known += 1
        return None
    contents = run.contents()
    with store.claim(run.run_id) as claim:
        if claim is None:
            return f"is being trained in {store.root}"
        claim.put(contents, failed=run.status == "failed")
    changes.done.append(run.run_id)
    return None
