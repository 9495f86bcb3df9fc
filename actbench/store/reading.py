"""Reads what a person points at: results folders, run folders, globs (layer 2).

Imports the store, `records` and `errors`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from actbench.errors import StoreError, UsageError, suggestion
from actbench.store import Store, atomic, index
from actbench.store.records import RESULT, StoredProblem, StoredRun, read_run


def read_results(paths: Sequence[str], fallback: Path) -> tuple[list[StoredRun], list[StoredProblem]]:
    """Read the runs in results folders, run folders and globs; `fallback` when no path is given.

    Raises UsageError for a path that is not there, StoreError for a folder that cannot be read.
    """
    runs: dict[Path, StoredRun] = {}
    problems: list[StoredProblem] = []
    for path in _expanded(paths) if paths else [fallback]:
        if (path / RESULT).exists():
            found: Iterable[StoredRun | StoredProblem] = [read_run(path)]
        elif path.is_dir():
            stored, strange = Store(path).load_all()
            found = [*stored, *strange]
        elif paths:
            raise UsageError(f"{path}: is neither a results folder nor a run's folder")
        else:
            raise StoreError(f"{path}: there are no results yet; train something, or name a folder with --results")
        for one in found:
            if isinstance(one, StoredRun):
                runs[one.folder.resolve()] = one
            else:
                problems.append(one)
    return list(runs.values()), problems


def _expanded(paths: Sequence[str]) -> list[Path]:
    """Expand globs that the shell has left alone."""
    found: list[Path] = []
    for path in paths:
        is_pattern = any(sign in path for sign in "*?[") and not Path(path).exists()
        matches = sorted(glob.glob(path)) if is_pattern else []  # noqa: PTH207 - Path.glob takes no absolute one
        found += [Path(match) for match in matches] or [Path(path)]
    return found


def find_one(name: str, results: Path) -> StoredRun:
    """Return the run that `name` means: its folder, its id in `results`, or the beginning of exactly one id.

    Raises UsageError where it means none or several, StoreError where it is damaged.
    """
    if (Path(name) / RESULT).exists():
        found = read_run(Path(name).resolve())
        if isinstance(found, StoredProblem):
            raise StoreError(str(found))
        return found
    with atomic.explained("read", results):
        ids = index.run_ids(results)
    matches = [name] if name in ids else [run_id for run_id in ids if run_id.startswith(name)]
    if len(matches) == 1:
        return Store(results).load(matches[0])
    if matches:
        listed = ", ".join(matches[:6]) + (", ..." if len(matches) > 6 else "")
        raise UsageError(f"{len(matches)} runs begin with {name!r}: {listed}")
    raise UsageError(f"{results} holds no run {name!r}{suggestion(name, ids)}")
