"""Reading whatever a person points at: results folders, run folders, globs, and CSV tables that others wrote.

A CSV table needs a column `seed` and one that names the variants; all other columns of runs.csv are optional. Cells
that name something are text, whatever they look like; only an empty cell is missing. A cell that cannot be what its
column holds is reported with its line, and then nothing of the file is used, because half a table is worse than none.
"""

from __future__ import annotations

import csv
import glob
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from pathlib import Path

from actbench.errors import StoreError, UsageError, suggestion
from actbench.metrics import METRICS
from actbench.store import Store, files, index
from actbench.store.csv import Cell, Row, parse_cell, parse_label
from actbench.store.run import (
    COLUMNS,
    ENVIRONMENT,
    LABELS,
    OUTCOMES,
    RESULT,
    RUN_ID,
    StoredProblem,
    StoredRun,
    read_run,
)
from actbench.text import slug, value_text

MAX_CSV_BYTES = 256 * 2**20
_NAMING = ("name", "variant", "activation")  # a table needs one of these; `variant` is read as `name`
_SIGNED = ("accuracy_gap",)  # fractions that may be negative
_LARGEST = 1e100
_MOST_PROBLEMS = 5
_MOST_CANDIDATES = 10
_KNOWN_TEXTS = 10_000  # texts whose value each column remembers
_TYPED = {*METRICS, *COLUMNS, *ENVIRONMENT, "probe"} - LABELS  # "probe" may be a word or a number


def find_one(name: str, results: Path) -> StoredRun:
    """Return the run that `name` means: a run folder, or one of the ids in `results` that `begun_by` finds.

    Raises UsageError if it means none or several, StoreError if the run is damaged.
    """
    if not name:
        raise UsageError("RUN is empty; give the id of a run, the beginning of one, or a run folder")
    if files.exists(Path(name) / RESULT):
        found = read_run(Path(name).resolve())
        if isinstance(found, StoredProblem):
            raise found.refusal()
        return found
    matches = begun_by(name, results)
    if len(matches) == 1:
        return Store(results).load(matches[0])
    if matches:
        raise UsageError(_ambiguous(name, matches, results))
    known = [*index.run_ids(results), *_ids_by_name(results)]
    raise UsageError(f"{results} holds no run {name!r}{suggestion(name, known)}")


def begun_by(name: str, results: Path) -> list[str]:
    """Return the id `name`, or else the ids that begin with it, or else those of the runs that it names.

    A run is also named by `<slug of its stored name>-s<seed>`, or the beginning of that. Raises StoreError.
    """
    with files.explained("read", results):
        ids = index.run_ids(results)
    if name in ids:
        return [name]
    if found := [run_id for run_id in ids if run_id.startswith(name)]:
        return found
    named = _ids_by_name(results)
    return named.get(name) or [run_id for short, found in named.items() if short.startswith(name) for run_id in found]


def _ids_by_name(results: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for run_id, name in index.stored_names(results).items():
        if is_id := RUN_ID.fullmatch(run_id):
            found.setdefault(f"{slug(name)}-s{is_id[2]}", []).append(run_id)
    return found


def _ambiguous(name: str, matches: Sequence[str], results: Path) -> str:
    """List the first runs that begin with `name`, each with the settings in which they differ."""
    read = {run_id: read_run(results / run_id) for run_id in matches[:_MOST_CANDIDATES]}
    told = {run_id: {"seed": run.seed, **run.config} for run_id, run in read.items() if isinstance(run, StoredRun)}
    keys = list(dict.fromkeys(key for settings in told.values() for key in settings if key != "name"))
    keys = [key for key in keys if len({value_text(settings.get(key)) for settings in told.values()}) > 1]
    lines = [f"{len(matches)} runs begin with {name!r}; give the whole id of one, or more of it:"]
    for run_id in read:
        differences = [f"{key} {value_text(told[run_id].get(key))}" for key in keys] if run_id in told else ["damaged"]
        lines.append(f"  {run_id}  {', '.join(differences)}")
    more = len(matches) - len(read)
    return "\n".join([*lines, *([f"  and {more} more; see: actbench list runs"] if more else [])])


def read_results(paths: Sequence[str], fallback: Path) -> tuple[list[StoredRun], list[StoredProblem]]:
    """Read the runs in results folders, run folders and globs; without paths, in the results folder `fallback`.

    Raises UsageError for a path that does not exist, StoreError for a folder that cannot be read.
    """
    runs: dict[Path, StoredRun] = {}
    problems: list[StoredProblem] = []
    for path in _expanded(paths) if paths else [fallback]:
        if files.exists(path / RESULT):
            found: Iterable[StoredRun | StoredProblem] = [read_run(path)]
        elif files.is_folder(path):
            stored, strange = Store(path).load_all()
            found = [*stored, *strange]
        elif paths:
            raise UsageError(_unreadable(path))
        else:
            raise StoreError(f"{path}: there are no results yet; train something, or name a folder with --results")
        home = path.resolve()
        for one in found:
            if isinstance(one, StoredRun):
                runs[home if one.folder == path else home / one.run_id] = one
            else:
                problems.append(one)
    return list(runs.values()), problems


@dataclass(frozen=True)
class ReadRows:
    """Rows of runs, those from folders first; what was skipped; and where each row, by its `id`, comes from."""

    rows: list[Row] = field(default_factory=list)
    problems: list[StoredProblem] = field(default_factory=list)
    sources: Mapping[int, StoredRun | Path] = field(default_factory=dict)

    def epochs(self, row: Row) -> list[Row]:
        """Return the epochs of one of the rows. Raises UsageError for a row of a CSV file, which has none."""
        source = self.sources[id(row)]
        if isinstance(source, StoredRun):
            return source.epochs()
        raise UsageError(f"{source}: a CSV file has no epochs; compare the results folder it came from")


def read_rows(paths: Sequence[str], fallback: Path) -> ReadRows:
    """Read the rows of runs, like `read_results`, and those of CSV files. Raises UsageError and StoreError."""
    expanded = _expanded(paths)
    tables = [path for path in expanded if path.suffix.casefold() == ".csv" and not files.is_folder(path)]
    folders = [str(path) for path in expanded if path not in tables]
    runs, problems = read_results(folders, fallback) if folders or not paths else ([], [])
    found: list[tuple[Row, StoredRun | Path]] = [(run.row, run) for run in runs]
    found += [(row, path) for path in dict.fromkeys(tables) for row in read_csv(path)]
    return ReadRows([row for row, _ in found], problems, {id(row): source for row, source in found})


def _expanded(paths: Sequence[str]) -> list[Path]:
    """Expand the globs that the shell has not."""
    found: list[Path] = []
    for path in paths:
        if not path:
            raise UsageError("a path is empty; name a results folder, a run folder or a CSV file")
        is_pattern = any(sign in path for sign in "*?[") and not files.exists(path)
        matches = sorted(glob.glob(path)) if is_pattern else []  # noqa: PTH207 - Path.glob takes no absolute pattern
        found += [Path(match) for match in matches] or [Path(path)]
    return found


def _unreadable(path: Path) -> str:
    if not files.exists(path):
        return f"{path}: there is no such file or folder"
    if path.suffix.casefold() == ".csv":
        return f"{path}: only compare, pivot and plot read CSV files; give the results folder it came from"
    return f"{path}: is not a results folder, a run folder or a CSV file"


def read_csv(path: Path) -> list[Row]:
    """Return the typed rows of a CSV file, one per run. Raises UsageError that lists what is wrong, line by line."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(_utf8(path)), "utf-8-sig", newline=""), strict=True)
    problems: list[str] = []
    rows: list[dict[str, Cell]] = []
    try:
        names = _names(path, next(reader, []))
        columns = [_Column(name) for name in names]
        wrong = [column.problems for column in columns if column.is_checked]
        for line in filter(None, reader):
            if len(line) != len(names):
                problems.append(f"{path}:{reader.line_num}: has {len(line)} cells, but the header has {len(names)}")
                continue
            rows.append(dict(zip(names, map(getitem, columns, line), strict=True)))
            problems += (f"{path}:{reader.line_num}: {told.pop()}" for told in wrong if told)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: is not valid CSV: {error}") from None
    if problems:
        more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise UsageError("\n".join([*problems[:_MOST_PROBLEMS], *more]))
    if not rows:
        raise UsageError(f"{path}: has no rows below its header")
    for name in set(names) - _TYPED - LABELS:
        _settle(rows, name)
    return list[Row](rows)


class _Column(dict[str, Cell]):
    """The cells of a column by their text. Each text is read once; `problems` gets what is wrong with the last one."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.problems = name, list[str]()
        self.is_checked = name in ("seed", "status") or name in METRICS
        self._read = parse_label if name in LABELS else _parsed if name in _TYPED else str

    def __missing__(self, text: str) -> Cell:
        value = self._read(text)
        if self.is_checked and (problem := _problem(self.name, value)):
            self.problems.append(problem)
        elif len(self) < _KNOWN_TEXTS:
            self[text] = value
        return value


def _parsed(text: str) -> Cell:
    return parse_cell(text, loose=True)


def _settle(rows: Sequence[dict[str, Cell]], name: str) -> None:
    """Type a column that actbench does not know: numbers or truth values if all of its cells are, else labels.

    A column without a name, such as the index that pandas writes, is dropped.
    """
    if not name:
        for row in rows:
            del row[name]
        return
    texts = [str(row[name]) for row in rows]
    cells = [*map(_parsed, texts)]
    kinds = {type(cell) for cell in cells if cell is not None}
    typed = kinds <= {int, float} or kinds <= {bool}
    for row, cell in zip(rows, cells if typed else map(parse_label, texts), strict=True):
        row[name] = cell


def _utf8(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CSV_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_CSV_BYTES:
        raise UsageError(f"{path}: is larger than {MAX_CSV_BYTES // 2**20} MiB; is it a table of runs?")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: is not UTF-8 text; save it as CSV in UTF-8") from None
    return data


def _names(path: Path, header: list[str]) -> list[str]:
    """Return the column names; a column without one gets an empty name."""
    names = [parse_label(name.strip()) or "" for name in header]
    if not any(names):
        raise UsageError(f"{path}: is empty; a table of runs has a header with seed and name")
    if len(names) == 1 and (sign := next((s for s in ";\t|" if s in names[0]), None)):
        what = {";": "semicolons", "\t": "tabs", "|": "bars"}[sign]
        raise UsageError(f"{path}: has {what} between its cells; save it with commas")
    if twice := sorted(name for name, count in Counter(names).items() if name and count > 1):
        raise UsageError(f"{path}:1: has the column {twice[0]!r} more than once")
    if not set(_NAMING) & set(names):
        raise UsageError(f"{path}:1: has no column that names the variants; add one of {', '.join(_NAMING)}")
    if "seed" not in names:
        raise UsageError(
            f"{path}:1: has no column 'seed', which pairs the runs; if your runs have no seeds, add it with empty cells"
        )
    return ["name" if name == "variant" and "name" not in names else name for name in names]


def _problem(column: str, value: Cell) -> str | None:
    """Say why a cell cannot be what its column holds; inf and nan count as missing numbers."""
    if column == "seed":
        whole = value is None or type(value) is int or (isinstance(value, float) and value.is_integer())
        return None if whole else f"seed: must be a whole number or empty, got {value!r}"
    if column == "status":
        known = value is None or value in OUTCOMES
        return None if known else f"status: must be {', '.join(OUTCOMES)} or empty, got {value!r}"
    if isinstance(value, bool | str):
        return f"{column}: must be a number or empty, got {value!r}{_hint(value)}"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if METRICS[column].kind == "fraction" and not (-1 if column in _SIGNED else 0) <= value <= 1:
        return f"{column}: must be a fraction from 0 to 1, got {value:g}; divide percents by 100"
    if abs(value) > _LARGEST:
        size = f"one of {len(str(value))} digits" if isinstance(value, int) else f"{value:g}"
        return f"{column}: must be a number up to {_LARGEST:g}, got {size}"
    return None


def _hint(value: Cell) -> str:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+,\d+", value):
        return "; write a decimal point"
    if isinstance(value, str) and value.endswith("%"):
        return "; write percents as fractions from 0 to 1"
    return ""
