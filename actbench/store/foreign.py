"""Reads a CSV file that has the columns of runs.csv, whoever wrote it (layer 2).

Imports `cells`, `metrics` and `errors`. It needs a column `seed` and one that names the variants; everything else
may be missing. What a cell cannot be is told with its line, and nothing of the file is used: a table that is read
half is worse than none. Numbers may be written as spreadsheets and pandas do (` 1E-3`, `.5`, `True`, `NA`).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from actbench.errors import UsageError
from actbench.metrics import METRICS
from actbench.store.csv import Cell, Row, parse_cell

NAMING = ("name", "variant", "activation")
"""One of these columns has to be there; `variant` is read as `name`."""

MAX_BYTES = 256 * 2**20
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Cell] = {
    "true": True, "false": False, "nan": None, "na": None, "n/a": None, "null": None, "none": None,
}  # fmt: skip
_STATUS = ("done", "diverged", "failed")
_SIGNED = ("accuracy_gap",)  # fractions that may be below zero
_LARGEST = 1e100
_MOST_PROBLEMS = 5


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file with typed cells, one a run. Raises UsageError that says what is wrong where."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = _names(path, next(reader, []))
        problems: list[str] = []
        rows: list[Row] = []
        for line in reader:
            if not line:
                continue
            where = f"{path}:{reader.line_num}"
            if len(line) != len(names):
                problems.append(f"{where}: has {len(line)} cells, but the header has {len(names)}")
                continue
            row = {name: _cell(text) for name, text in zip(names, line, strict=True) if name}
            problems += (f"{where}: {problem}" for problem in _problems(row))
            rows.append(row)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: is not CSV: {error}") from None
    if problems:
        more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise UsageError("\n".join([*problems[:_MOST_PROBLEMS], *more]))
    if not rows:
        raise UsageError(f"{path}: has no rows below its header")
    return rows


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: is larger than {MAX_BYTES // 2**20} MiB; is it a table of runs?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: is not UTF-8 text; save it as CSV in UTF-8") from None


def _names(path: Path, header: list[str]) -> list[str]:
    """Return the names of the columns; those without one (the index that pandas writes) are empty."""
    names = [str(parse_cell(name.strip())) if name.strip() else "" for name in header]
    if not any(names):
        raise UsageError(f"{path}: is empty; a table of runs has a header with seed and name")
    if len(names) == 1 and (sign := next((s for s in ";\t|" if s in names[0]), None)):
        what = {";": "semicolons", "\t": "tabs", "|": "bars"}[sign]
        raise UsageError(f"{path}: has {what} between its cells; save it with commas")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise UsageError(f"{path}:1: has the column {twice[0]!r} more than once")
    if not set(NAMING) & set(names):
        raise UsageError(f"{path}:1: has no column that names the variants, one of {', '.join(NAMING)}")
    if "seed" not in names:
        raise UsageError(
            f"{path}:1: has no column 'seed', by which runs are paired; where runs have none, add it with empty cells"
        )
    return ["name" if name == "variant" and "name" not in names else name for name in names]


def _cell(text: str) -> Cell:
    if text.startswith("'"):  # our own guard: it was text, and is to stay text
        return parse_cell(text)
    text = text.strip()
    if text.casefold() in _WORDS:
        return _WORDS[text.casefold()]
    value = parse_cell(text)
    if isinstance(value, str) and len(text) < 400 and _NUMBER.fullmatch(text):
        return float(text)
    return value


def _problems(row: Row) -> Iterator[str]:
    """Say which cells cannot be what their column holds."""
    seed, status = row.get("seed"), row.get("status")
    if isinstance(seed, bool | str) or (isinstance(seed, float) and not seed.is_integer()):
        yield f"seed: must be a whole number or empty, got {seed!r}"
    if status not in (None, *_STATUS):
        yield f"status: must be {', '.join(_STATUS)} or empty, got {status!r}"
    for name in (name for name in METRICS if name in row):
        value = row[name]
        if isinstance(value, bool | str):
            yield f"{name}: must be a number or empty, got {value!r}{_hint(value)}"
        elif (
            value is not None and METRICS[name].kind == "fraction" and _outside(value, -1 if name in _SIGNED else 0, 1)
        ):
            yield f"{name}: must be a fraction from 0 to 1, got {value:g}; divide percents by 100"
        elif value is not None and _outside(value, -_LARGEST, _LARGEST):
            yield f"{name}: must be a number up to {_LARGEST:g}, got one of {len(str(value))} digits"


def _outside(value: float, low: float, high: float) -> bool:
    """Whether a number lies outside these bounds; inf and nan are no numbers, but missing ones."""
    missing = isinstance(value, float) and not math.isfinite(value)
    return not missing and not low <= value <= high


def _hint(value: Cell) -> str:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+,\d+", value):
        return "; write a decimal point"
    if isinstance(value, str) and value.endswith("%"):
        return "; write percents as fractions from 0 to 1"
    return ""
