"""runs.csv, the table of all runs.

It is derived from the run folders: rows whose folder is gone are dropped, and folders without a row are read. So any
process that updates it makes it complete, whatever happened to the ones before.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path

from actbench.store import files
from actbench.store.csv import Row, format_line
from actbench.store.run import COLUMNS, RUN_ID, StoredRun, read_run

RUNS_CSV = "runs.csv"
RUNNING = ".running"
LOCK_TIMEOUT_S = 20.0


def run_ids(root: Path) -> list[str]:
    """Return the run ids in `root`, sorted by name and then seed; [] if `root` does not exist."""
    try:
        with os.scandir(root) as entries:
            found = [match for entry in entries if (match := RUN_ID.fullmatch(entry.name))]
    except FileNotFoundError:
        return []
    return [match[0] for match in sorted(found, key=lambda match: (match[1], int(match[2]), match[3]))]


def update(root: Path) -> None:
    """Bring runs.csv up to date with the run folders. Raises StoreError.

    Runs with a folder in .running are read again, because they may have been retrained. Damaged folders get no row.
    Even without a working lock the table ends up right, because every writer lists the folders again after writing.
    """
    running, path = root / RUNNING, root / RUNS_CSV
    with files.explained("write", path):
        files.refuse_link(running)
        running.mkdir(exist_ok=True)
        with _locked(running / "index.lock") as lock:
            claimed = {entry.name for entry in running.iterdir()}
            if lock is not None:
                for name in claimed:
                    if name.startswith(f".{RUNS_CSV}."):  # the temporary file of a writer that was killed
                        (running / name).unlink(missing_ok=True)
            listed, written = run_ids(root), None
            while written != listed:
                old = _read_text(path)
                new = _new_text(root, old, listed, claimed)
                if new != old and (listed or path.exists()):
                    files.write_bytes(path, new.encode(errors="backslashreplace"), beside=running)
                listed, written = run_ids(root), listed


def stored_names(root: Path) -> dict[str, str]:
    """Return the names of the runs in `root` by id, as runs.csv has them; {} without a sound runs.csv."""
    columns, lines = _lines_by_run(_read_text(root / RUNS_CSV))
    at, there = columns.index("name"), (run_id for run_id in run_ids(root) if run_id in lines)
    return {run_id: next(csv.reader(io.StringIO(lines[run_id], newline="")))[at] for run_id in there}


def is_current(root: Path) -> bool:
    """Whether runs.csv has one row per run folder and no others."""
    return _lines_by_run(_read_text(root / RUNS_CSV))[1].keys() == set(run_ids(root))


def _locked(path: Path) -> contextlib.AbstractContextManager[files.Lock | None]:
    try:
        return files.wait_for_lock(path, LOCK_TIMEOUT_S) or contextlib.nullcontext()
    except OSError:  # it belongs to another user, say; `update` is correct without it
        return contextlib.nullcontext()


def _read_text(path: Path) -> str:
    try:
        return files.read_bytes(path).decode()
    except (OSError, ValueError):  # missing or damaged: rewrite it from the folders
        return ""


def _new_text(root: Path, old: str, listed: list[str], claimed: set[str]) -> str:
    columns, lines = _lines_by_run(old)
    rows = {run_id: _row(root / run_id) for run_id in listed if run_id not in lines or run_id in claimed}
    if not {key for row in rows.values() for key in row} <= set(columns):  # a new column
        rows |= {run_id: _row(root / run_id) for run_id in listed if run_id not in rows}
        columns = (*COLUMNS, *sorted({key for row in rows.values() for key in row} - set(COLUMNS)))
    lines |= {run_id: format_line(map(row.get, columns)) if row else "" for run_id, row in rows.items()}
    kept = (line for run_id in listed if (line := lines[run_id]))
    return "\n".join((format_line(columns), *kept, ""))


def _row(folder: Path) -> Row:
    run = read_run(folder)
    return run.row if isinstance(run, StoredRun) else {}


def _lines_by_run(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the columns and each run's line, unparsed; no lines at all if anything looks wrong."""
    nothing: dict[str, str] = {}
    head, _, body = text.partition("\n")
    columns = tuple(head.split(","))
    extra = columns[len(COLUMNS) :]
    if columns[: len(COLUMNS)] != COLUMNS or list(extra) != sorted(set(extra)) or not text.endswith("\n"):
        return COLUMNS, nothing
    lines: dict[str, str] = {}
    start = ""
    for piece in body.split("\n")[:-1]:
        line = start + piece
        if line.count('"') % 2:  # a line end inside quoted text
            start = f"{line}\n"
            continue
        start = ""
        commas, run_id = line.count(","), line.partition(",")[0]
        whole = commas == len(columns) - 1 or (commas >= len(columns) and '"' in line)
        if not whole or run_id in lines:
            return COLUMNS, nothing
        lines[run_id] = line
    return (COLUMNS, nothing) if start else (columns, lines)
