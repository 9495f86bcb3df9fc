"""Rows of runs -> one row a variant, with intervals, differences and verdicts (layer 4).

Imports `contrasts`, `remarks`, `groups`, `quantities`, `expressions`, `errors`. Reads no files, prints nothing.

What is honest about a table of few seeds stands in its footnotes: what n cannot show, runs that diverged,
settings that vary unasked, runs from different machines. A diverged run counts in n but has no value; a row
with one is ranked after all rows without and is never the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actbench.comparison import expressions, remarks
from actbench.comparison.contrasts import Contrast, Estimate, Sample, contrasts, estimate, sample
from actbench.comparison.groups import (
    Group,
    Grouping,
    columns_of,
    group_runs,
    is_diverged,
    listed,
    order,
    select,
    shown,
    tuned,
)
from actbench.comparison.quantities import Curve, Quantity, Row, number, quantity
from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS

EXTRAS = ("dead_ratio", "wall_s")
"""Shown beside the metrics asked for, with a mean and an interval but no comparison."""


@dataclass(frozen=True)
class Result:
    """One quantity in one row.

    contrast: the difference to the baseline; None in the baseline's row and where nothing can be compared.
    rank: "best" for the best mean of the dataset, "tied" where no difference from it is shown; rows in
    which a run has no value have no rank.
    """

    estimate: Estimate
    contrast: Contrast | None = None
    rank: Literal["best", "tied", ""] = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One group of runs. n counts done and diverged ones; notes are positions in the footnotes, from 1."""

    label: str
    dataset: Any
    keys: Mapping[str, Any]
    n: int
    diverged: int
    failed: int
    is_baseline: bool
    results: Mapping[str, Result]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The rows, dataset by dataset, best first.

    quantities: those asked for, whose results have contrasts. extras: those that only have estimates.
    columns: the columns that name a row, among "dataset", "label" and the grouping keys.
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
    """Compare the runs in `rows`, one mapping a run with the columns of runs.csv.

    by: the columns that make a row, by default all settings. baseline: a label, a name or a key's value; by
    default relu, else the first row. metrics: see `quantities`. filter: an expression over the columns.
    sort: a metric, a column or "label"; "-" in front turns it round. epoch: compare after this epoch. curve:
    gives a run's epochs. equivalence: the margin of the first metric, in its stored unit, within which rows
    are called equivalent. tune: a setting at whose best value each row is taken. top: rows to keep a dataset,
    beside the baseline; Holm's adjustment counts all of them.

    Raises `UsageError` where something asked for cannot be had, and says what to do instead.
    """
    if not metrics:
        raise UsageError("--metric names no metric; see: actbench list metrics")
    if equivalence is not None and not 0 < equivalence < math.inf:
        raise UsageError(f"--equivalence must be a number > 0, got {equivalence:g}")
    kept, texts = select(rows, filter), list[str]()
    if tune is not None:
        kept, texts = tuned(kept, by, tune)
    grouping, columns = group_runs(kept, by), columns_of(kept)
    asked = tuple(quantity(spec, columns, epoch) for spec in dict.fromkeys(metrics))
    extras = _extras(kept, columns, epoch, asked)
    table = _Table(grouping, asked, extras, _cached(curve), alpha, equivalence, texts)
    table.refuse_empty(epoch)
    ranked = table.ordered(sort, columns, epoch)
    chosen = choose_baseline(ranked, baseline)
    found: list[ComparisonRow] = []
    for dataset in sorted({group.dataset for group in ranked}, key=order):
        within = table.rows([group for group in ranked if group.dataset == dataset], chosen)
        found += within if top is None else [r for i, r in enumerate(within) if i < top or r.is_baseline]
    if len(found) < len(ranked):
        texts.append(f"{len(found)} of {len(ranked)} rows are shown; p is adjusted for all of them.")
    if epoch is not None:
        whole = [one.name for one in asked if ":" in one.name]
        but = f" but those of {listed(whole)}" if whole else ""
        texts.append(f"All values{but} are those after epoch {epoch}, not after the last one.")
    contrasted = [result.contrast for row in found for result in row.results.values() if result.contrast]
    texts += remarks.on_power(contrasted, alpha)
    texts += remarks.on_settings(grouping, by_variant=by is None)
    texts += remarks.on_runs(grouping)
    named = _name_columns(grouping, by_variant=by is None, only_changed=only_changed)
    return Comparison(tuple(found), asked, extras, named, tuple(texts), chosen, alpha)


def choose_baseline(groups: Sequence[Group], wanted: str | None) -> str:
    """Return the label of the baseline among `groups`, which are in the order of the table.

    Matches a label, then a name, then the value of a key; without `wanted`, relu if it is there, else the
    first group. Raises `UnknownNameError` when nothing matches, `UsageError` when several labels do.
    """
    target = (wanted if wanted is not None else "relu").casefold()
    views: tuple[Callable[[Group], list[str]], ...] = (
        lambda group: [group.label],
        lambda group: [shown(group.name)],
        lambda group: [text for key, v in group.keys.items() for text in (shown(v), f"{key}={shown(v)}")],
    )
    for view in views:
        labels = list(dict.fromkeys(g.label for g in groups if target in map(str.casefold, view(g))))
        if len(labels) == 1 or (labels and wanted is None):
            return labels[0]
        if labels:
            raise UsageError(f"--baseline {wanted!r} matches several rows: {listed(labels)}; give one of these")
    if wanted is None:
        return groups[0].label
    known = [text for group in groups for view in views[:2] for text in view(group)]
    raise UnknownNameError("baseline", wanted, dict.fromkeys(known))


def failing(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows whose significant differences to the baseline meet the expression `condition`.

    In it, a metric's name stands for the difference of its means, in its stored unit: `test_accuracy < -0.005`
    is half a point worse. A difference that is not significant after Holm is unknown and meets nothing. The
    columns n, diverged, failed and those that name the row stand for themselves. Raises `UsageError`.
    """
    expression = _about_rows(comparison, condition)
    return tuple(row for row in comparison.rows if expression.holds(_facts(row, only_significant=True)))


def unproven(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows that `failing` passes only for lack of evidence.

    They would meet `condition` if their differences were significant, or have no difference to judge by.
    """
    expression = _about_rows(comparison, condition)
    proven = failing(comparison, condition)
    return tuple(
        row
        for row in comparison.rows
        if not row.is_baseline
        and row not in proven
        and expression.decide(_facts(row, only_significant=False)) is not False
    )


def _about_rows(comparison: Comparison, condition: str) -> expressions.Expression:
    names = [one.name for one in comparison.quantities]
    keys = dict.fromkeys(key for row in comparison.rows for key in row.keys)
    return expressions.parse(condition, [*names, "label", "dataset", "n", "diverged", "failed", *keys])


def _facts(row: ComparisonRow, *, only_significant: bool) -> dict[str, Any]:
    facts = {**row.keys, "label": row.label, "dataset": row.dataset}
    facts |= {"n": row.n, "diverged": row.diverged, "failed": row.failed}
    for name, result in row.results.items():
        usable = result.contrast is not None and (result.contrast.significant or not only_significant)
        facts[name] = result.contrast.found.difference if usable and result.contrast else None
    return facts


def _extras(
    rows: Sequence[Row], columns: Sequence[str], epoch: int | None, asked: Sequence[Quantity]
) -> tuple[Quantity, ...]:
    """Return the extras that were measured; after an epoch, what is known of the whole run only is not one."""
    names = [name for name in EXTRAS if name not in {one.name for one in asked}]
    if epoch is not None:
        names = [name for name in names if name != "wall_s"]
    measured = [name for name in names if any(number(row.get(name)) is not None for row in rows)]
    return tuple(quantity(name, columns, epoch) for name in measured)


def _cached(curve: Curve | None) -> Curve:
    """Read each run's epochs once, and say so where there are none to read."""
    known: dict[int, Sequence[Row]] = {}

    def read(row: Row) -> Sequence[Row]:
        if curve is None:
            raise UsageError("the epochs of these runs are not known; compare results folders instead")
        if id(row) not in known:
            known[id(row)] = curve(row)
        return known[id(row)]

    return read


def _name_columns(grouping: Grouping, *, by_variant: bool, only_changed: bool) -> tuple[str, ...]:
    """Return the columns that name a row: the label of a variant and what varies, or the keys asked for."""
    groups = grouping.groups
    several = {key for key in grouping.by if len({group.keys[key] for group in groups}) > 1}
    dataset = ["dataset"] if len({group.dataset for group in groups}) > 1 else []
    if by_variant:
        telling = [key for key in grouping.by if key in several and key != "name"]
        return (*dataset, "label", *(k for k in telling if any(shown(g.keys[k]) != g.label for g in groups)))
    keys = [key for key in grouping.by if key in several or not only_changed]
    return (*dataset, *keys) if keys or dataset else ("label",)


@dataclass(frozen=True)
class _Table:
    """What all rows of a comparison share while they are made; `texts` collects the footnotes."""

    grouping: Grouping
    asked: tuple[Quantity, ...]
    extras: tuple[Quantity, ...]
    curve: Curve
    alpha: float
    margin: float | None
    texts: list[str]

    def sample(self, group: Group, one: Quantity) -> Sample:
        return sample(group, one, self.curve, tuple(self.grouping.mixed))

    def refuse_empty(self, epoch: int | None) -> None:
        """Raise `UsageError` for a quantity that no run has, though some run ended well."""
        healthy = [group for group in self.grouping.groups if any(not is_diverged(row) for row in group.runs)]
        for one in self.asked:
            has_value = any(v is not None for group in healthy for v in self.sample(group, one).values.values())
            if healthy and not one.threshold and not has_value:
                when = f" after epoch {epoch}" if epoch is not None else ""
                raise UsageError(f"no run has a value of {one.name}{when}; see: actbench list metrics")

    def ordered(self, sort: str | None, columns: Sequence[str], epoch: int | None) -> list[Group]:
        """Return the groups in the order of the table: by default the first metric's mean, best first.

        Groups without a value, or with a run that has none, come after all others, whatever the direction.
        """
        groups = self.grouping.groups
        name = (sort or "").removeprefix("-")
        turned = (sort or "").startswith("-")
        if name == "label":
            return sorted(groups, key=lambda group: group.label, reverse=turned)
        if sort and name not in METRICS and any(name in group.keys for group in groups):
            return sorted(groups, key=lambda group: (order(group.keys[name]), group.label), reverse=turned)
        one = quantity(name, columns, epoch) if sort else self.asked[0]
        falling = (one.better == "higher") != turned

        def key(group: Group) -> tuple[bool, float, str]:
            found = estimate(self.sample(group, one), one, 1 - self.alpha)
            value = found.mean if found.mean is not None else 0.0
            return found.mean is None or found.missing > 0, -value if falling else value, group.label

        return sorted(groups, key=key)

    def rows(self, groups: Sequence[Group], baseline: str) -> list[ComparisonRow]:
        """Return the rows of one dataset, in the order of `groups`."""
        reference = next((group for group in groups if group.label == baseline), None)
        if reference is None:
            self.texts.append(f"{shown(groups[0].dataset)} has no row {baseline}: nothing to compare its rows with.")
        results: list[dict[str, Result]] = [{} for _ in groups]
        notes: list[list[int]] = [[] for _ in groups]
        for one in (*self.asked, *self.extras):
            samples = [self.sample(group, one) for group in groups]
            estimates = [estimate(found, one, 1 - self.alpha) for found in samples]
            contrasted: list[Contrast | None] = [None] * len(groups)
            ranks: list[Literal["best", "tied", ""]] = [""] * len(groups)
            if one in self.asked:
                if reference is not None:
                    against = samples[groups.index(reference)]
                    margin = self.margin if one is self.asked[0] else None
                    contrasted = contrasts(samples, against, one, self.alpha, margin)
                ranks = self._ranks(one, samples, estimates)
                for i, found in enumerate(contrasted):
                    notes[i] += self._remarks(one, estimates[i], found, groups[i])
            for i, parts in enumerate(zip(estimates, contrasted, ranks, strict=True)):
                results[i][one.name] = Result(*parts)
        return [
            ComparisonRow(
                label=group.label,
                dataset=group.dataset,
                keys=group.keys,
                n=len(group.runs),
                diverged=group.diverged,
                failed=len(group.failed),
                is_baseline=group is reference,
                results=found,
                notes=tuple(dict.fromkeys(noted)),
            )
            for group, found, noted in zip(groups, results, notes, strict=True)
        ]

    def _ranks(
        self, one: Quantity, samples: Sequence[Sample], estimates: Sequence[Estimate]
    ) -> list[Literal["best", "tied", ""]]:
        """Mark the best mean among rows without a missing value, and what is not shown to differ from it."""
        means = {i: e.mean for i, e in enumerate(estimates) if e.mean is not None and e.missing == 0}
        if one.better == "neither" or not means:
            return [""] * len(samples)
        best = (max if one.better == "higher" else min)(means, key=lambda i: means[i])
        whole = list(means)
        found = contrasts([samples[i] for i in whole], samples[best], one, self.alpha)
        ranks: list[Literal["best", "tied", ""]] = [""] * len(samples)
        for i, contrast in zip(whole, found, strict=True):
            ranks[i] = "best" if i == best else "tied" if contrast is None or not contrast.significant else ""
        return ranks

    def _remarks(self, one: Quantity, found: Estimate, contrast: Contrast | None, group: Group) -> list[int]:
        """Return the positions of the footnotes that belong to one row."""
        notes = []
        if group.diverged:
            notes.append(
                self._note("A row with diverged runs counts them in n; they have no value, and it is never the best.")
            )
        if one.threshold and found.missing > group.diverged:
            notes.append(self._note(f"Some runs never reached it: {one.title} is the mean over those that did."))
        if contrast is not None and contrast.found.method == "unpaired":
            notes.append(self._note("Not paired by seed: Welch's interval and the Mann-Whitney test."))
        if contrast is not None and contrast.unmatched:
            notes.append(self._note("Some seeds have no partner in the baseline and are left out of the difference."))
        if contrast is not None and contrast.lost:
            notes.append(self._note("Pairs in which one run has no value are left out of the difference."))
        return notes

    def _note(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
