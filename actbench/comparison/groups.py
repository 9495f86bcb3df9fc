"""Groups: which runs belong together. Each group becomes one row of a comparison.

Runs on different datasets are never in one group. A group also holds its failed runs, which have no values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from actbench import conditions
from actbench.config import SETTINGS
from actbench.errors import UnknownNameError, UsageError
from actbench.store.csv import Row
from actbench.text import plural, value_text


@dataclass(frozen=True)
class Group:
    """Runs that become one row: those that ended (done or diverged), and those that failed.

    label: the name of the group, the same on every dataset. keys: the values of the grouping keys.
    """

    label: str
    dataset: Any
    keys: Mapping[str, Any]
    runs: tuple[Row, ...]
    failed: tuple[Row, ...]

    @property
    def diverged(self) -> int:
        """How many of the runs diverged."""
        return sum(is_diverged(row) for row in self.runs)

    @property
    def name(self) -> Any:
        """The name that all runs share, or None."""
        names = {row.get("name") for row in self.runs}
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True)
class Grouping:
    """All groups, and the keys `by` which runs were grouped.

    mixed: settings that vary within a group although nobody asked for it, with their values. For copies, again and
    merged, see `Distinct`.
    """

    groups: tuple[Group, ...]
    by: tuple[str, ...]
    mixed: Mapping[str, tuple[Any, ...]]
    copies: int
    again: int
    merged: int


class Distinct(NamedTuple):
    """The rows without copies, and how many were special.

    copies: rows left out as copies of a run. again: rows with other results for a run id that another row has too: the
    run was trained again. merged: rows without a run id that have the settings and seed of another row, but other
    results; nothing says whether they are of the same settings, trained again, or differ in what has no column.
    """

    rows: list[Row]
    copies: int
    again: int
    merged: int


def is_diverged(row: Row) -> bool:
    """Whether the run's loss became non-finite."""
    return row.get("status") == "diverged"


def has_failed(row: Row) -> bool:
    """Whether the run ended in an error. A row without a status counts as done."""
    return row.get("status") not in {"done", "diverged", None}


def select(rows: Sequence[Row], condition: str | None) -> list[Row]:
    """Return the rows for which `condition`, an expression over their columns, holds; without one, all rows.

    Raises `UsageError` if there are no rows, or none is left.
    """
    if not rows:
        raise UsageError("there are no runs to compare; train some first, or name other results folders")
    if condition is None:
        return list(rows)
    expression = conditions.condition(condition, columns_of(rows))
    kept = [row for row in rows if expression.holds(row)]
    if not kept:
        raise UsageError(f"--filter {condition!r} leaves none of the {plural(len(rows), 'run')}")
    return kept


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return every column that a row has, in the order of first appearance."""
    found: dict[str, None] = {}
    for keys in dict.fromkeys(map(tuple, rows)):  # thousands of rows share a few sets of columns
        found |= dict.fromkeys(keys)
    return tuple(found)


def varying(rows: Sequence[Row], keys: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Return the keys that have several values in `rows`, with their values in order."""
    keys = tuple(keys)
    columns = zip(*dict.fromkeys(settings_of(rows, keys)), strict=True)
    values = {key: dict.fromkeys(column) for key, column in zip(keys, columns, strict=bool(rows))}
    return {key: tuple(sorted(column, key=order)) for key, column in values.items() if len(column) > 1}


def settings_of(rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the `setting` of each of `keys`, for each row. Rows with the same cells share the work."""
    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    found: list[tuple[Any, ...]] = []
    for row in rows:
        cells = tuple(map(row.get, keys))
        try:
            values = known.get(cells)
        except TypeError:  # a list among them, which cannot be a key
            found.append(tuple(setting(row, key) for key in keys))
            continue
        if values is None:
            values = known[cells] = tuple(setting(row, key) for key in keys)
        found.append(values)
    return found


def setting(row: Row, key: str) -> Any:
    """Return a value in a form that can be a key: None for nan, a tuple for a list."""
    value = row.get(key)
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def order(value: Any) -> tuple[int, Any]:
    """Return a sort key: numbers by size, then texts by alphabet, then missing values."""
    if isinstance(value, int | float):
        return (0, value)
    return (1, str(value)) if value is not None else (2, "")


def group_runs(rows: Sequence[Row], by: Sequence[str] | None = None) -> Grouping:
    """Group `rows` by dataset and by the columns `by`, in order of first appearance.

    By default runs are grouped by every setting, so that a group is a variant. Its label is its name, followed by
    the keys that tell apart variants of the same name. Copies of a run are one run, see `distinct`. Raises
    `UnknownNameError` for a column that no row has.
    """
    columns = columns_of(rows)
    for key in by or ():
        if key not in columns:
            raise UnknownNameError("column", key, columns)
    config = [key for key in SETTINGS if key in columns and key != "dataset"]
    keys = [key for key in dict.fromkeys(by or ()) if key != "dataset"] if by is not None else config
    unique, *counts = distinct(rows, ["dataset", *config])
    buckets: dict[tuple[Any, ...], list[Row]] = {}
    for row, values in zip(unique, settings_of(unique, ["dataset", *keys]), strict=True):
        buckets.setdefault(values, []).append(row)
    labels = _labels(keys, [bucket[1:] for bucket in buckets], told_apart=by is None)
    groups: list[Group] = []
    mixed: dict[str, dict[Any, None]] = {}
    for label, (values, bucket) in zip(labels, buckets.items(), strict=True):
        ended = tuple(row for row in bucket if not has_failed(row))
        keyed = dict(zip(keys, values[1:], strict=True))
        failed = tuple(row for row in bucket if has_failed(row))
        groups.append(Group(label, values[0], keyed, ended, failed))
        if by is not None:
            rest = [key for key in config if key != "name" and key not in keys]
            for key, found in varying(ended, rest).items():
                mixed.setdefault(key, {}).update(dict.fromkeys(found))
    in_order = {key: tuple(sorted(mixed[key], key=order)) for key in config if key in mixed}
    return Grouping(tuple(groups), tuple(keys), in_order, *counts)


def _labels(keys: Sequence[str], values: Sequence[tuple[Any, ...]], *, told_apart: bool) -> list[str]:
    """Return labels `first key=value ...`; with `told_apart`, only with keys that tell labels apart.

    A missing first value is `none`, or `(missing)` beside the text "none".
    """
    if not keys:
        return ["all runs"] * len(values)
    alike: dict[Any, list[tuple[Any, ...]]] = {}
    for value in values:
        alike.setdefault(value[0], []).append(value)
    needed = {
        first: [i for i in range(1, len(keys)) if not told_apart or len({v[i] for v in same}) > 1]
        for first, same in alike.items()
    }
    firsts = {first: value_text(first) for first in alike}
    if None in alike and "none" in alike:
        firsts[None] = "(missing)"
    return [
        " ".join([firsts[value[0]], *(f"{keys[i]}={value_text(value[i])}" for i in needed[value[0]])])
        for value in values
    ]


def distinct(rows: Sequence[Row], config: Sequence[str]) -> Distinct:
    """Drop copies of runs.

    Rows with the same run_id, or the same settings and seed, are the same run. They are copies if they agree wherever
    both have a value, such as two folders with the same run, or a folder and a line of a CSV file. A failed row is
    dropped if the run ended elsewhere. Rows that differ are all kept: a run trained again under another version may
    have other results, see `contrasts.sample`.
    """
    kept: dict[Any, list[Row]] = {}
    repeats: dict[Any, _Repeats] = {}
    copies = again = merged = 0
    in_order = sorted(rows, key=has_failed)
    for position, (row, values) in enumerate(zip(in_order, settings_of(in_order, config), strict=True)):
        if row.get("run_id") is not None:
            identity: Any = row["run_id"]
        elif row.get("seed") is not None:
            identity = (*values, row["seed"])
        else:
            identity = position  # without a seed, nothing says that two rows are the same run
        known = kept.setdefault(identity, [])
        if not known:
            known.append(row)
        elif has_failed(row) or repeats.setdefault(identity, _Repeats(known[0])).has_copy_of(row):
            copies += 1
        else:
            if row.get("run_id") is None:
                merged += 1
            elif not any(key != "name" and _differ(row, known[0], key) for key in config):
                again += 1
            known.append(row)
            repeats[identity].add(row)
    return Distinct([row for same_run in kept.values() for row in same_run], copies, again, merged)


def _differ(one: Row, other: Row, key: str) -> bool:
    values = {setting(one, key), setting(other, key)}
    return None not in values and len(values) > 1


class _Repeats:
    """The rows of one run that differ, found by their values: comparing each with each would take too long."""

    def __init__(self, first: Row) -> None:
        self._rows: dict[tuple[str, ...], list[Row]] = {}  # by the columns in which they have values
        self._seen: dict[tuple[tuple[str, ...], tuple[str, ...]], set[tuple[Any, ...]]] = {}  # ... and some of them
        self.add(first)

    def add(self, row: Row) -> None:
        filled = _filled(row)
        self._rows.setdefault(filled, []).append(row)
        for (columns, shared), seen in self._seen.items():
            if columns == filled:
                seen.update(settings_of([row], shared))

    def has_copy_of(self, row: Row) -> bool:
        """Whether `row` agrees with one of the rows wherever both have a value."""
        filled = set(_filled(row))
        for columns, rows in self._rows.items():
            shared = tuple(column for column in columns if column in filled)
            if (columns, shared) not in self._seen:
                self._seen[columns, shared] = set(settings_of(rows, shared))
            if settings_of([row], shared)[0] in self._seen[columns, shared]:
                return True
        return False


def _filled(row: Row) -> tuple[str, ...]:
    return tuple(sorted(column for column in row if setting(row, column) is not None))
