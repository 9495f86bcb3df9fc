"""Which runs belong together: rows of runs -> groups (layer 3).

Imports `quantities`, `expressions` and `errors`. A group is what becomes one row of a comparison.
Runs on different datasets are never in one group; failed runs are counted in theirs, but have no values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench import expressions
from actbench.comparison.quantities import Row
from actbench.errors import UnknownNameError, UsageError
from actbench.text import value_text

CONFIG_KEYS = (
    "name", "dataset", "network", "activation", "init", "batch_norm", "lr", "optimizer", "epochs",
    "batch_size", "hidden", "dropout", "schedule", "augment", "bias_init", "weight_decay",
    "label_smoothing", "validation", "probe", "train_limit", "test_limit",
)  # fmt: skip
"""The columns that say what was trained; seed, device and tags do not change what a run is."""

ENVIRONMENT = ("device", "threads", "torch_version", "actbench_version")
"""Columns that should be the same for all runs compared."""


@dataclass(frozen=True)
class Group:
    """Runs that become one row: those that ended, done or diverged, and those that failed.

    `keys` are the values of the grouping keys, `label` names the group, the same on every dataset.
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
        """The name that all its runs share, or None."""
        names = {row.get("name") for row in self.runs}
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True)
class Grouping:
    """All groups, the keys they were made by, and what was noticed on the way.

    `mixed`: settings that vary within a group although nobody asked for it, with their values. `copies`: rows
    left out, as their run was there already. `again`: runs that were there with other results.
    """

    groups: tuple[Group, ...]
    by: tuple[str, ...]
    mixed: Mapping[str, tuple[Any, ...]]
    copies: int
    again: int


def is_diverged(row: Row) -> bool:
    """Whether the run's loss became non-finite."""
    return row.get("status") == "diverged"


def has_failed(row: Row) -> bool:
    """Whether the run ended in an error; a row without a status counts as done."""
    return row.get("status") not in {"done", "diverged", None}


def select(rows: Sequence[Row], condition: str | None) -> list[Row]:
    """Return the rows for which the expression `condition` over their columns holds; all without one.

    Raises `UsageError` when there are no rows, or none is left.
    """
    if not rows:
        raise UsageError("there are no runs to compare; train some first, or give other results folders")
    if condition is None:
        return list(rows)
    expression = expressions.condition(condition, columns_of(rows))
    kept = [row for row in rows if expression.holds(row)]
    if not kept:
        raise UsageError(f"--filter {condition!r} leaves none of the {len(rows)} runs")
    return kept


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return every column that some row has, in the order of first use."""
    found: dict[str, None] = {}
    for keys in dict.fromkeys(map(tuple, rows)):  # thousands of rows, but few kinds of them
        found |= dict.fromkeys(keys)
    return tuple(found)


def varying(rows: Sequence[Row], keys: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Return the keys that have more than one value in `rows`, with these values in order."""
    values = {key: dict.fromkeys(setting(row, key) for row in rows) for key in keys}
    return {key: tuple(sorted(found, key=order)) for key, found in values.items() if len(found) > 1}


def setting(row: Row, key: str) -> Any:
    """Return a value that can be a key: nan is missing, a list is a tuple."""
    value = row.get(key)
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def order(value: Any) -> tuple[int, Any]:
    """Sort numbers by size, before texts by alphabet, missing values last."""
    if isinstance(value, int | float):
        return (0, value)
    return (1, str(value)) if value is not None else (2, "")


def group_runs(rows: Sequence[Row], by: Sequence[str] | None = None) -> Grouping:
    """Group `rows` by dataset and the values of the columns `by`, in order of first appearance.

    By default every config key counts, so that a group is a variant: it is labelled with its name, followed
    by the keys that tell apart variants of the same name. Copies of a run are one run, see `distinct`. Raises
    `UnknownNameError` for a column that no row has.
    """
    columns = columns_of(rows)
    for key in by or ():
        if key not in columns:
            raise UnknownNameError("column", key, columns)
    config = [key for key in CONFIG_KEYS if key in columns and key != "dataset"]
    keys = [key for key in dict.fromkeys(by or ()) if key != "dataset"] if by is not None else config
    unique, copies, again = distinct(rows, ["dataset", *config])
    buckets: dict[tuple[Any, ...], list[Row]] = {}
    for row in unique:
        buckets.setdefault(tuple(setting(row, key) for key in ("dataset", *keys)), []).append(row)
    labels = _labels(keys, [bucket[1:] for bucket in buckets], told_apart=by is None)
    groups: list[Group] = []
    mixed: dict[str, tuple[Any, ...]] = {}
    for label, (values, bucket) in zip(labels, buckets.items(), strict=True):
        ended = tuple(row for row in bucket if not has_failed(row))
        keyed = dict(zip(keys, values[1:], strict=True))
        failed = tuple(row for row in bucket if has_failed(row))
        groups.append(Group(label, values[0], keyed, ended, failed))
        if by is not None:
            rest = [key for key in config if key != "name" and key not in keys]
            for key, found in varying(ended, rest).items():
                mixed[key] = tuple(sorted({*mixed.get(key, ()), *found}, key=order))
    in_order = {key: mixed[key] for key in config if key in mixed}
    return Grouping(tuple(groups), tuple(keys), in_order, copies, again)


def _labels(keys: Sequence[str], values: Sequence[tuple[Any, ...]], *, told_apart: bool) -> list[str]:
    """Return `first key=value ...` each; with `told_apart`, only the keys that vary among equal firsts."""
    if not keys:
        return ["all runs"] * len(values)
    alike: dict[Any, list[tuple[Any, ...]]] = {}
    for value in values:
        alike.setdefault(value[0], []).append(value)
    needed = {
        first: [i for i in range(1, len(keys)) if not told_apart or len({v[i] for v in same}) > 1]
        for first, same in alike.items()
    }
    return [
        " ".join([value_text(value[0]), *(f"{keys[i]}={value_text(value[i])}" for i in needed[value[0]])])
        for value in values
    ]


def distinct(rows: Sequence[Row], config: Sequence[str]) -> tuple[list[Row], int, int]:
    """Drop copies of runs; return the rest, how many copies there were, and how many runs were done again.

    The same run_id, or the same settings and seed, are the same run. Rows of it that agree in all they both say
    (two folders that hold it, or its line in a CSV file) are one; of one that failed, what it did elsewhere is
    kept. Rows that differ, as a run trained again under another version may, are all kept: see `sample`.
    """
    kept: dict[Any, list[Row]] = {}
    copies = again = 0
    for position, row in enumerate(sorted(rows, key=has_failed)):
        if row.get("run_id") is not None:
            same: Any = row["run_id"]
        elif row.get("seed") is not None:
            same = (*(setting(row, key) for key in config), row["seed"])
        else:
            same = position  # nothing says that it is the same run
        known = kept.setdefault(same, [])
        if known and (has_failed(row) or any(_agree(row, other) for other in known)):
            copies += 1
        else:
            again += bool(known)
            known.append(row)
    return [row for same_run in kept.values() for row in same_run], copies, again


def _agree(one: Row, other: Row) -> bool:
    """Whether two rows say the same wherever both say something."""
    pairs = ((setting(one, key), setting(other, key)) for key in one if key in other)
    return all(a == b for a, b in pairs if a is not None and b is not None)
