"""Which runs belong together: rows of runs -> groups, and each group at its own best setting (layer 3).

Imports `quantities`, `expressions` and `errors`. A group is what becomes one row of a comparison.
Runs on different datasets are never in one group; failed runs are counted in theirs, but have no values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison import expressions
from actbench.comparison.quantities import Row, number
from actbench.errors import UnknownNameError, UsageError

CONFIG_KEYS = (
    "name", "dataset", "network", "activation", "init", "batch_norm", "lr", "optimizer", "epochs",
    "batch_size", "hidden", "dropout", "schedule", "augment", "bias_init", "weight_decay",
    "label_smoothing", "validation", "probe", "train_limit", "test_limit",
)  # fmt: skip
"""The columns that say what was trained; seed, device and tags do not change what a run is."""


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

    `mixed`: settings that vary within a group although nobody asked for it, with their values. `duplicates`:
    runs that were there more than once.
    """

    groups: tuple[Group, ...]
    by: tuple[str, ...]
    mixed: Mapping[str, tuple[Any, ...]]
    duplicates: int


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
    expression = expressions.parse(condition, columns_of(rows))
    kept = [row for row in rows if expression.holds(row)]
    if not kept:
        raise UsageError(f"--filter {condition!r} leaves none of the {len(rows)} runs")
    return kept


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return every column that some row has, in the order of first use."""
    return tuple(dict.fromkeys(key for row in rows for key in row))


def shown(value: Any) -> str:
    """Return a setting as text, as it would stand in YAML: `true`, `none`, `0.001`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


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
    by the keys that tell apart variants of the same name. The same run given twice (two folders that hold a
    copy of it) is one run. Raises `UnknownNameError` for a column that no row has.
    """
    columns = columns_of(rows)
    for key in by or ():
        if key not in columns:
            raise UnknownNameError("column", key, columns)
    config = [key for key in CONFIG_KEYS if key in columns and key != "dataset"]
    keys = [key for key in dict.fromkeys(by or ()) if key != "dataset"] if by is not None else config
    buckets: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        buckets.setdefault(tuple(setting(row, key) for key in ("dataset", *keys)), []).append(row)
    labels = _labels(keys, [bucket[1:] for bucket in buckets], told_apart=by is None)
    groups: list[Group] = []
    mixed: dict[str, tuple[Any, ...]] = {}
    duplicates = 0
    for label, (values, bucket) in zip(labels, buckets.items(), strict=True):
        unique = _without_duplicates(bucket, config)
        duplicates += len(bucket) - len(unique)
        ended = tuple(row for row in unique if not has_failed(row))
        keyed = dict(zip(keys, values[1:], strict=True))
        failed = tuple(row for row in unique if has_failed(row))
        groups.append(Group(label, values[0], keyed, ended, failed))
        if by is not None:
            rest = [key for key in config if key != "name" and key not in keys]
            for key, found in varying(ended, rest).items():
                mixed[key] = tuple(sorted({*mixed.get(key, ()), *found}, key=order))
    in_order = {key: mixed[key] for key in config if key in mixed}
    return Grouping(tuple(groups), tuple(keys), in_order, duplicates)


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
        " ".join([shown(value[0]), *(f"{keys[i]}={shown(value[i])}" for i in needed[value[0]])]) for value in values
    ]


def _without_duplicates(rows: Sequence[Row], config: Sequence[str]) -> list[Row]:
    """Drop runs that are there already; of the copies of a run, one that is done is kept first."""
    kept: dict[Any, Row] = {}
    for position, row in enumerate(sorted(rows, key=lambda row: 2 * has_failed(row) + is_diverged(row))):
        if row.get("run_id") is not None:
            same: Any = row["run_id"]
        elif row.get("seed") is not None:
            same = (*(setting(row, key) for key in config), row["seed"])
        else:
            same = position  # nothing says that it is the same run
        kept.setdefault(same, row)
    return list(kept.values())


def tuned(rows: Sequence[Row], by: Sequence[str] | None, key: str) -> tuple[list[Row], list[str]]:
    """Keep, of each group, only the runs at its best value of `key`; return them and what to say about it.

    The best value is the one with the highest mean validation_accuracy; values at which a run diverged come
    after those at which none did. The test set has no say. Raises `UsageError` without validation data, and
    where groups tried different numbers of values: who tries more finds better ones.
    """
    columns = columns_of(rows)
    if key not in columns:
        raise UnknownNameError("column", key, columns)
    others = by if by is not None else [k for k in CONFIG_KEYS if k in columns and k != "name"]
    grouping = group_runs(rows, [*(k for k in others if k != key), key])
    tried: dict[tuple[Any, ...], list[Group]] = {}
    for group in grouping.groups:
        same = tuple(value for k, value in group.keys.items() if k != key)
        tried.setdefault((group.dataset, *same), []).append(group)
    budgets = {len(groups) for groups in tried.values()}
    if len(budgets) > 1:
        counts = ", ".join(f"{_names(groups)}: {len(groups)}" for groups in list(tried.values())[:5])
        raise UsageError(
            f"--tune {key} needs the same number of values of {key} for every row, got {counts}; "
            f"train the missing ones or --filter"
        )
    if budgets == {1}:
        raise UsageError(f"--tune {key}: every row has only one value of {key}; group by other keys with --by")
    kept: list[Row] = []
    chosen, edge = [], []
    for groups in tried.values():
        best = min(groups, key=lambda group: (*_validation_rank(group, key), order(group.keys[key])))
        kept.extend((*best.runs, *best.failed))
        chosen.append(f"{_names([best])} {shown(best.keys[key])}")
        ends = sorted((group.keys[key] for group in groups), key=order)
        if len(ends) > 1 and best.keys[key] in {ends[0], ends[-1]}:
            edge.append(_names([best]))
    notes = [f"{key} is each row's best of {budgets.pop()} by validation accuracy: {listed(sorted(chosen))}."]
    if edge:
        notes.append(
            f"The best {key} lies at the edge of what was tried for {listed(sorted(edge))}: try values beyond."
        )
    return kept, notes


def _validation_rank(group: Group, key: str) -> tuple[bool, float]:
    scores = [number(row.get("validation_accuracy")) for row in group.runs if not is_diverged(row)]
    found = [score for score in scores if score is not None]
    if len(found) < len(scores):
        raise UsageError(
            f"--tune {key} chooses by validation_accuracy, which {len(scores) - len(found)} runs of "
            f"{group.label!r} lack; train with `validation: 5000`, so that the test set stays unseen"
        )
    lost = group.diverged > 0 or not found
    return lost, -math.fsum(found) / len(found) if found else math.inf


def _names(groups: Sequence[Group]) -> str:
    names = {shown(row.get("name") or row.get("activation")) for group in groups for row in group.runs}
    return listed(sorted(names), 2) if names else groups[0].label


def listed(texts: Sequence[str], most: int = 6) -> str:
    """Return `a, b, c`, at most so many, then how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
