"""Reads what a person points at: results folders, run folders, CSV files, globs (layer 2).

Imports the store, `records`, `foreign` and `errors`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench.errors import StoreError, UsageError, suggestion
from actbench.store import Store, files, index
from actbench.store.csv import Row
from actbench.store.foreign import read_csv
from actbench.store.run import RESULT, StoredProblem, StoredRun, read_run


def read_results(paths: Sequence[str], fallback: Path) -> tuple[list[StoredRun], list[StoredProblem]]:
    """Read the runs in results folders, run folders and globs; `fallback` when no path is given.

    Raises UsageError for a path that is not there, StoreError for a folder that cannot be read.
    """
    runs: dict[Path, StoredRun] = {}
    problems: list[StoredProblem] = []
    for path in _expanded(paths) if paths else [fallback]:
        home = path.resolve()
        if (path / RESULT).exists():
            found: Iterable[StoredRun | StoredProblem] = [read_run(path)]
        elif path.is_dir():
            stored, strange = Store(path).load_all()
            found = [*stored, *strange]
        elif paths:
            raise UsageError(_what_it_is_not(path))
        else:
            raise StoreError(f"{path}: there are no results yet; train something, or name a folder with --results")
        for one in found:
            if isinstance(one, StoredRun):
                runs[home if one.folder == path else home / one.run_id] = one
            else:
                problems.append(one)
    return list(runs.values()), problems


@dataclass(frozen=True)
class ReadRows:
    """Rows of runs, those of folders first, and what had to be skipped."""

    rows: list[Row]
    problems: list[StoredProblem]
    stored: Mapping[int, StoredRun]
    origin: Mapping[int, Path]

    def epochs(self, row: Mapping[str, Any]) -> list[Row]:
        """Return the epochs of one of the rows. Raises UsageError for one of a CSV file, which has none."""
        if id(row) in self.stored:
            return self.stored[id(row)].epochs()
        path = self.origin[id(row)]
        raise UsageError(f"{path}: a CSV file has no epochs; compare the results folder that it is from")


NOTHING = ReadRows([], [], {}, {})


def read_rows(paths: Sequence[str], fallback: Path) -> ReadRows:
    """Read the rows of runs in results folders, run folders, CSV files and globs; `fallback` without a path.

    Raises UsageError and StoreError.
    """
    expanded = _expanded(paths)
    tables = [path for path in expanded if path.suffix.casefold() == ".csv" and not path.is_dir()]
    folders = [str(path) for path in expanded if path not in tables]
    runs, problems = read_results(folders, fallback) if folders or not paths else ([], [])
    rows = [run.row for run in runs]
    origin: dict[int, Path] = {}
    for path in dict.fromkeys(tables):
        found = read_csv(path)
        origin |= {id(row): path for row in found}
        rows += found
    return ReadRows(rows, problems, {id(run.row): run for run in runs}, origin)


def _expanded(paths: Sequence[str]) -> list[Path]:
    """Expand globs that the shell has left alone."""
    found: list[Path] = []
    for path in paths:
        is_pattern = any(sign in path for sign in "*?[") and not Path(path).exists()
        matches = sorted(glob.glob(path)) if is_pattern else []  # noqa: PTH207 - Path.glob takes no absolute one
        found += [Path(match) for match in matches] or [Path(path)]
    return found


def _what_it_is_not(path: Path) -> str:
    if not os.path.lexists(path):
        return f"{path}: there is no such file or folder"
    if path.suffix.casefold() == ".csv":
        return f"{path}: is a CSV file, which only compare and plot read; give the results folder that it is from"
    return f"{path}: is neither a results folder, nor a run's folder, nor a CSV file"


def find_one(name: str, results: Path) -> StoredRun:
    """Return the run that `name` means: its folder, its id in `results`, or the beginning of exactly one id.

    Raises UsageError where it means none or several, StoreError where it is damaged.
    """
    if (Path(name) / RESULT).exists():
        found = read_run(Path(name).resolve())
        if isinstance(found, StoredProblem):
            raise StoreError(str(found))
        return found
    with files.explained("read", results):
        ids = index.run_ids(results)
    matches = [name] if name in ids else [run_id for run_id in ids if run_id.startswith(name)]
    if len(matches) == 1:
        return Store(results).load(matches[0])
    if matches:
        listed = ", ".join(matches[:6]) + (", ..." if len(matches) > 6 else "")
        raise UsageError(f"{len(matches)} runs begin with {name!r}: {listed}")
    raise UsageError(f"{results} holds no run {name!r}{suggestion(name, ids)}")
