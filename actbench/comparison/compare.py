"""Compare groups of runs: one row per group, with intervals, differences from a baseline, verdicts and footnotes.

Footnotes keep a table of few seeds honest: they name what so few seeds cannot show, diverged runs, settings that vary
unasked, and runs from different machines. A diverged run counts in n but has no value. A row with a diverged run comes
after all rows without one, is never the best, and is never called better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.contrasts import Contrast
from actbench.comparison.groups import Group, Grouping, order
from actbench.comparison.quantities import Curve, Quantity, number, quantity
from actbench.comparison.rows import ComparisonRow, RowMaker
from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS
from actbench.registry import Parameter
from actbench.store.csv import Row
from actbench.text import comma_list, value_text

TOP = Parameter("top", 1, "rows to keep", low=1, high=100_000)
EXTRAS = ("dead_ratio", "wall_s")
"""Shown beside the metrics asked for, with a mean and an interval but no comparison."""


@dataclass(frozen=True)
class Comparison:
    """The rows, dataset by dataset, best first unless sorted otherwise.

    quantities: those asked for, whose results have contrasts. extras: those that only have estimates. columns: those
    that name a row, among "dataset", "label" and the grouping keys.
    """

    rows: tuple[ComparisonRow, ...]
    quantities: tuple[Quantity, ...]
    extras: tuple[Quantity, ...]
    columns: tuple[str, ...]
    footnotes: tuple[str, ...]
    baseline: str
    alpha: float


def compare(
    rows: Sequence[Row],
    *,
    by: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = ("test_accuracy",),
    filter: str | None = None,  # noqa: A002 - named like its flag
    sort: str | None = None,
    epoch: int | None = None,
    curve: Curve | None = None,
    equivalence: float | None = None,
    tune: str | None = None,
    only_changed: bool = False,
    top: int | None = None,
    alpha: float = 0.05,
) -> Comparison:
    """Compare the runs in `rows`, which have the columns of runs.csv.

    by: the columns that make a row, by default all settings. baseline: see `choose_baseline`. metrics: see
    `quantities`. filter: an expression over the columns. sort: any column of the table; by default the first metric,
    best first. epoch: compare after this epoch. curve: gives a run's epochs. equivalence: the margin of the first
    metric, in its stored unit, within which rows are called equivalent. tune: a setting; each row uses its best value.
    top: rows to keep per dataset, besides the baseline; Holm's adjustment counts all rows.

    Raises `UsageError` that says what is not available, and what to do instead.
    """
    if equivalence is not None and not 0 < equivalence < math.inf:
        raise UsageError(f"--equivalence must be a number > 0, got {equivalence:g}")
    if top is not None:
        TOP.require(top)
    maker = RowMaker(rows, by, metrics, filter=filter, epoch=epoch, curve=curve, tune=tune, alpha=alpha)
    grouping, asked, texts = maker.grouping, maker.asked, maker.footnotes
    extras = _extras(maker)
    resort = _sorter(sort, maker, extras) if sort else None
    in_order = sorted(grouping.groups, key=lambda group: (*map(order, group.keys.values()), group.label))
    chosen = choose_baseline(in_order, baseline)
    found: list[ComparisonRow] = []
    for groups in maker.datasets():
        ranked = maker.best_first(groups)
        within = maker.rows(ranked, chosen, extras, equivalence)
        within = resort(within, ranked) if resort else within
        found += within if top is None else [row for i, row in enumerate(within) if i < top or row.is_baseline]
    if len(found) < len(grouping.groups):
        texts.append(f"{len(found)} of {len(grouping.groups)} rows are shown; p is adjusted for all of them.")
    contrasted = [result.contrast for row in found for result in row.results.values() if result.contrast]
    texts += footnotes.on_epoch(asked, epoch)
    texts += footnotes.on_lengths(asked, grouping)
    texts += footnotes.on_method(contrasted, len(asked))
    texts += footnotes.on_margin(asked[0], equivalence)
    texts += footnotes.on_power(contrasted, alpha)
    texts += footnotes.on_settings(grouping, by_variant=by is None, besides=[tune] if tune else ())
    texts += footnotes.on_runs(grouping)
    named = _naming_columns(grouping, by_variant=by is None, only_changed=only_changed)
    return Comparison(tuple(found), asked, extras, named, tuple(texts), chosen, alpha)


def _extras(maker: RowMaker) -> tuple[Quantity, ...]:
    """Return the extras that were measured. `wall_s` belongs to a whole run: there is none after an epoch."""
    names = [name for name in EXTRAS if name not in {one.name for one in maker.asked}]
    names = [name for name in names if maker.epoch is None or name != "wall_s"]
    measured = [name for name in names if any(number(row.get(name)) is not None for row in maker.kept)]
    return tuple(quantity(name, maker.columns, maker.epoch) for name in measured)


def _naming_columns(grouping: Grouping, *, by_variant: bool, only_changed: bool) -> tuple[str, ...]:
    """Return the columns that name a row: the label of a variant and what varies, or the keys asked for."""
    groups = grouping.groups
    several = {key for key in grouping.by if len({group.keys[key] for group in groups}) > 1}
    dataset = ["dataset"] if len({group.dataset for group in groups}) > 1 else []
    if by_variant:
        telling = [key for key in grouping.by if key in several and key != "name"]
        return (*dataset, "label", *(k for k in telling if any(value_text(g.keys[k]) != g.label for g in groups)))
    keys = [key for key in grouping.by if key in several or not only_changed]
    return (*dataset, *keys) if keys or dataset else ("label",)


def choose_baseline(groups: Sequence[Group], wanted: str | None) -> str:
    """Return the label of the baseline among `groups`, whose order must not depend on the results.

    Matches a label, then a name, then the value of a key. The default is relu, or else the first group: beside a
    baseline that the data chose as the best, every other row would look worse than it is. Raises `UnknownNameError` if
    nothing matches, `UsageError` if several labels match.
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
    raise UnknownNameError("baseline", wanted, known)


_VERDICTS = ("better", "higher", "equivalent", "~", "lower", "worse")
_OF_CONTRAST: dict[str, Callable[[Contrast], Any]] = {
    "difference": lambda contrast: contrast.found.difference,
    "p": lambda contrast: contrast.adjusted_p,
    "effect": lambda contrast: contrast.found.effect,
    "verdict": lambda contrast: (*_VERDICTS, contrast.verdict).index(contrast.verdict),
}
_SortKey = Callable[[ComparisonRow, Group], Any]
"""Gives what a row is sorted by; None puts the row last, in either direction."""


def _sorter(
    sort: str, maker: RowMaker, extras: Sequence[Quantity]
) -> Callable[[Sequence[ComparisonRow], Sequence[Group]], list[ComparisonRow]]:
    """Return a function that orders rows, given with their groups, by the column that `sort` names.

    That is a metric or its title, n, diverged, failed, the label (also called name or variant), a key, or the
    difference, p, effect or verdict of the first metric. Better values, more runs, smaller settings and smaller p come
    first; a "-" in front reverses the order. Raises `UnknownNameError`.
    """
    name, reverse = sort.removeprefix("-"), sort.startswith("-")
    key, largest_first = _sort_key(name, maker, extras)

    def in_order(rows: Sequence[ComparisonRow], groups: Sequence[Group]) -> list[ComparisonRow]:
        by_label = sorted(zip(rows, groups, strict=True), key=lambda pair: pair[0].label)
        keyed = [(key(row, group), row) for row, group in by_label]
        known = sorted(
            (item for item in keyed if item[0] is not None), key=itemgetter(0), reverse=largest_first != reverse
        )
        return [row for _, row in known] + [row for value, row in keyed if value is None]

    return in_order


def _sort_key(name: str, maker: RowMaker, extras: Sequence[Quantity]) -> tuple[_SortKey, bool]:
    """Return a key, and whether the largest value comes first."""
    first, by = maker.asked[0], maker.grouping.by
    if name in by and name not in METRICS:
        return lambda row, _: order(row.keys[name]), False
    if name in ("label", "variant", "name"):
        return lambda row, _: row.label, False
    if name == "dataset":
        return lambda row, _: order(row.dataset), False
    if name in ("n", "diverged", "failed"):
        return lambda row, _: getattr(row, name), name == "n"
    if name in _OF_CONTRAST:

        def of_contrast(row: ComparisonRow, _: Group) -> Any:
            contrast = row.results[first.name].contrast
            return None if contrast is None else _OF_CONTRAST[name](contrast)

        return of_contrast, name in ("difference", "effect") and first.better == "higher"
    spec = {metric.title: known for known, metric in METRICS.items()}.get(name, name)
    shown = {one.name: one for one in (*maker.asked, *extras)}
    if spec not in METRICS and spec not in maker.columns and ":" not in spec:
        plain = ("label", "variant", "name", "n", "diverged", "failed", *_OF_CONTRAST)
        raise UnknownNameError("column to sort by", name, [*plain, *shown, *by, *METRICS, *maker.columns])
    one = shown.get(spec) or quantity(spec, maker.columns, maker.epoch)
    return lambda _, group: maker.place(group, one), one.better == "higher"
