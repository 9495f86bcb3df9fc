"""Which row is the baseline, and in which order rows stand (layer 3).

Imports `table`, `groups`, `quantities`, `results`, `metrics` and `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actbench.comparison.groups import Group, order
from actbench.comparison.quantities import Quantity, quantity
from actbench.comparison.results import ComparisonRow
from actbench.comparison.table import Table, rounded
from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS
from actbench.text import comma_list, value_text

_VERDICTS = ("better", "higher", "equivalent", "~", "lower", "worse")


def choose_baseline(groups: Sequence[Group], wanted: str | None) -> str:
    """Return the label of the baseline among `groups`, which stand in an order that the results did not make.

    Matches a label, then a name, then the value of a key; without `wanted`, relu if it is there, else the
    first group. Raises `UnknownNameError` when nothing matches, `UsageError` when several labels do.
    """
    target = (wanted if wanted is not None else "relu").casefold()
    views: tuple[Callable[[Group], list[str]], ...] = (
        lambda group: [group.label],
        lambda group: [value_text(group.name)],
        lambda group: [text for key, v in group.keys.items() for text in (value_text(v), f"{key}={value_text(v)}")],
    )
    for view in views:
        labels = list(dict.fromkeys(g.label for g in groups if target in map(str.casefold, view(g))))
        if len(labels) == 1 or (labels and wanted is None):
            return labels[0]
        if labels:
            raise UsageError(f"--baseline {wanted!r} matches several rows: {comma_list(labels)}; give one of these")
    if wanted is None:
        return groups[0].label
    known = [text for group in groups for view in views[:2] for text in view(group)]
    raise UnknownNameError("baseline", wanted, dict.fromkeys(known))


SortKey = Callable[[ComparisonRow, Group], tuple[bool, Any]]
"""Gives whether a row has nothing to be sorted by (it then comes last, either way round), and its place."""


def sorter(sort: str, table: Table, columns: Sequence[str], epoch: int | None) -> Callable[..., list[ComparisonRow]]:
    """Return what puts rows in the order that `sort` names, given rows and their groups.

    `sort` is any column of the table: a metric or its title, n, diverged, failed, the label (also called name
    or variant), a key, or of the first metric its difference, p, effect or verdict. What is better, more (runs)
    or smaller (settings, p) comes first; "-" in front turns it round. Raises `UnknownNameError`.
    """
    name, turned = sort.removeprefix("-"), sort.startswith("-")
    key, falling = _key(name, table, columns, epoch)

    def in_order(rows: Sequence[ComparisonRow], groups: Sequence[Group]) -> list[ComparisonRow]:
        both = sorted(zip(rows, groups, strict=True), key=lambda pair: pair[0].label)
        keyed = [(*key(row, group), row) for row, group in both]
        known = [item for item in keyed if not item[0]]
        known.sort(key=lambda item: item[1], reverse=falling != turned)
        return [row for *_, row in (*known, *(item for item in keyed if item[0]))]

    return in_order


def _key(name: str, table: Table, columns: Sequence[str], epoch: int | None) -> tuple[SortKey, bool]:
    """Return a key, and whether the largest comes first."""
    first = table.asked[0]
    by_title = {metric.title: known for known, metric in METRICS.items()}
    if name in table.grouping.by and name not in METRICS:
        return lambda row, _: (False, order(row.keys[name])), False
    if name in ("label", "variant", "name"):
        return lambda row, _: (False, row.label), False
    if name == "dataset":
        return lambda row, _: (False, order(row.dataset)), False
    if name == "n":
        return lambda row, _: (False, row.n), True
    if name in ("diverged", "failed"):
        return lambda row, _: (False, getattr(row, name)), False
    if name in ("difference", "p", "effect", "verdict"):
        return _of_contrast(name, first), name in ("difference", "effect") and first.better == "higher"
    spec = by_title.get(name, name)
    if spec not in METRICS and spec not in columns and ":" not in spec:
        raise UnknownNameError("column to sort by", name, _sortable(table, columns))
    one = next((one for one in (*table.asked, *table.extras) if one.name == spec), None)
    one = one or quantity(spec, columns, epoch)
    return _of_estimate(one, table), one.better == "higher"


def _of_contrast(name: str, one: Quantity) -> SortKey:
    def key(row: ComparisonRow, _: Group) -> tuple[bool, Any]:
        contrast = row.results[one.name].contrast
        if contrast is None:
            return True, 0
        if name == "verdict":
            said = contrast.verdict
            return False, _VERDICTS.index(said) if said in _VERDICTS else len(_VERDICTS)
        value = {"difference": contrast.found.difference, "p": contrast.adjusted_p, "effect": contrast.found.effect}
        return value[name] is None, value[name]

    return key


def _of_estimate(one: Quantity, table: Table) -> SortKey:
    def key(row: ComparisonRow, group: Group) -> tuple[bool, Any]:
        known = row.results.get(one.name)
        found = known.estimate if known is not None else table.estimate(group, one)
        return found.mean is None or found.missing > 0, rounded(found.mean)

    return key


def _sortable(table: Table, columns: Sequence[str]) -> list[str]:
    told = ("label", "variant", "name", "n", "diverged", "failed", "difference", "p", "effect", "verdict")
    shown_first = [one.name for one in (*table.asked, *table.extras)]
    return list(dict.fromkeys([*told, *shown_first, *table.grouping.by, *METRICS, *columns]))
