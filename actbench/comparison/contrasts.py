"""Contrasts: one quantity in groups of runs, and how each group differs from a reference.

Runs become values by seed, and seeds become pairs. If a group mixes settings (`--by activation` over several learning
rates), a seed's value is its mean over the settings, and a pair uses only the settings that both groups ran with that
seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actbench import stats
from actbench.comparison.groups import Group, is_diverged, order, setting
from actbench.comparison.quantities import Curve, Quantity, read_once
from actbench.stats import Difference, Interval

Unit = tuple[Any, tuple[Any, ...]]  # a seed, and the values of the mixed settings
Rank = Literal["best", "tied", ""]


@dataclass(frozen=True)
class Sample:
    """The values of one quantity in one group, by seed and mixed settings; None for a run without a value.

    missing: the number of runs without a value, diverged runs included.
    """

    values: Mapping[Unit, float | None]
    missing: int

    def by_seed(self, units: Sequence[Unit]) -> dict[Any, float]:
        """Return the mean of each seed over those of `units` that have a value."""
        if units and not units[0][1]:  # no settings are mixed: each unit is a seed of its own
            return {unit[0]: value for unit in units if (value := self.values[unit]) is not None}
        found: dict[Any, list[float]] = {}
        for unit in units:
            value = self.values[unit]
            if value is not None:
                found.setdefault(unit[0], []).append(value)
        return {seed: sum(values) / len(values) for seed, values in found.items()}


@dataclass(frozen=True)
class Estimate:
    """One quantity in one group: its mean, standard deviation and t interval over the seeds.

    n: seeds with a value. missing: runs without one. mean is None for n = 0, sd and interval are None for n < 2. The
    interval of a fraction is clipped to [0, 1].
    """

    n: int
    missing: int
    mean: float | None
    sd: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Contrast:
    """How a group differs from its reference, and the verdict.

    adjusted_p: adjusted by Holm over the `comparisons` with the same reference, quantity and dataset. equivalence_p:
    of two one-sided tests, adjusted likewise; None without a margin. superiority: the probability that a run does
    better than its partner, ties counting half (if neither direction is better: that its value is higher). unmatched:
    seeds without a partner. lost: seeds that both sides ran, but one side has no value. withheld: no verdict, because
    the numbers favour a side on which runs are missing.
    """

    found: Difference
    adjusted_p: float
    comparisons: int
    equivalence_p: float | None
    superiority: float
    verdict: str
    significant: bool
    unmatched: int
    lost: int
    withheld: bool


def sample(group: Group, quantity: Quantity, curve: Curve, mixed: Sequence[str]) -> Sample:
    """Read `quantity` from every run of `group`. A diverged run has no value, whatever its row says.

    Repeats of a run with different results are one unit, with their mean as its value.
    """
    found: dict[Unit, list[float]] = {}
    missing = 0
    for row in group.runs:
        seed = row.get("seed")
        unit = (seed if seed is not None else ("no seed", id(row)), tuple(setting(row, key) for key in mixed))
        values = found.setdefault(unit, [])
        value = None if is_diverged(row) else quantity.read(row, curve)
        if value is None:
            missing += 1
        else:
            values.append(value)

    def place(unit: Unit) -> Any:
        """Order by seed and settings; runs without a seed come last, ordered by their values."""
        has_seed = not isinstance(unit[0], tuple)
        return order(unit[0] if has_seed else None), tuple(map(order, unit[1])), found[unit]

    simple = not mixed and all(
        type(unit[0]) is int for unit in found
    )  # integers sort as `place` sorts them, but faster
    units = sorted(found) if simple else sorted(found, key=place)
    return Sample({unit: sum(found[unit]) / len(found[unit]) if found[unit] else None for unit in units}, missing)


def estimate(of: Sample, quantity: Quantity, confidence: float) -> Estimate:
    """Return the mean, standard deviation and t interval over the seeds of a sample."""
    values = list(of.by_seed(list(of.values)).values())
    interval = stats.t_interval(values, confidence)
    if interval is not None and quantity.kind == "fraction":
        interval = interval.clipped()
    return Estimate(len(values), of.missing, stats.mean(values), stats.sd(values), interval)


def value_of(
    group: Group, quantity: Quantity, curve: Curve, mixed: Sequence[str], confidence: float = 0.95
) -> Estimate:
    """Return a group's value of a quantity. Every table, chart and page shows this value.

    It is the mean over the seeds that have a value; a seed's value is its mean over the settings `mixed`, which vary
    within groups. Diverged runs have none.
    """
    return estimate(sample(group, quantity, curve, mixed), quantity, confidence)


class Samples:
    """The samples and estimates of all groups, each read once."""

    def __init__(self, curve: Curve | None, mixed: Sequence[str], alpha: float) -> None:
        self._curve, self._mixed, self._confidence = read_once(curve), tuple(mixed), 1 - alpha
        self._read: dict[tuple[int, str], tuple[Sample, Estimate]] = {}

    def sample(self, group: Group, quantity: Quantity) -> Sample:
        """Return the values of a quantity in a group."""
        return self._of(group, quantity)[0]

    def estimate(self, group: Group, quantity: Quantity) -> Estimate:
        """Return the mean and interval of a quantity in a group."""
        return self._of(group, quantity)[1]

    def _of(self, group: Group, quantity: Quantity) -> tuple[Sample, Estimate]:
        key = id(group), quantity.name
        if key not in self._read:
            found = sample(group, quantity, self._curve, self._mixed)
            self._read[key] = found, estimate(found, quantity, self._confidence)
        return self._read[key]


def contrasts(
    samples: Sequence[Sample],
    reference: Sample,
    quantity: Quantity,
    alpha: float,
    margin: float | None = None,
) -> list[Contrast | None]:
    """Compare each sample with `reference`; None for the reference itself, and for a sample without values to compare.

    Samples are paired by seed if at least half of the seeds of the smaller side have a partner; otherwise Welch's
    interval and the Mann-Whitney test apply. The family of Holm's adjustment is all samples compared here.
    """
    judged: list[Contrast | None] = [None] * len(samples)
    matched = {i: _match(one, reference) for i, one in enumerate(samples) if one is not reference}
    kept = {i: match for i, match in matched.items() if match is not None}
    if not kept:
        return judged
    found = [match.difference(1 - alpha) for match in kept.values()]
    adjusted = stats.holm([one.p for one in found]).tolist()
    smallest = stats.holm([one.smallest_p for one in found]).tolist()
    equivalence = _equivalence(list(kept.values()), margin)
    for (i, match), one, p, least, tost in zip(kept.items(), found, adjusted, smallest, equivalence, strict=True):
        said = stats.verdict(
            one,
            p,
            comparisons=len(kept),
            smallest_adjusted_p=least,
            better=quantity.better,
            alpha=alpha,
            equivalence_p=tost,
        )
        withheld = match.favours_missing(said)
        judged[i] = Contrast(
            found=one,
            adjusted_p=p,
            comparisons=len(kept),
            equivalence_p=tost,
            superiority=1 - one.superiority if quantity.better == "lower" else one.superiority,
            verdict="~" if withheld else said,
            significant=stats.significant(one, p, alpha) and not withheld,
            unmatched=match.unmatched,
            lost=match.lost,
            withheld=withheld,
        )
    return judged


@dataclass(frozen=True)
class _Match:
    """The values to compare, and how many runs of each side have none."""

    a: list[float]
    b: list[float]
    paired: bool
    missing: tuple[int, int]
    unmatched: int = 0
    lost: int = 0

    def difference(self, confidence: float) -> Difference:
        return (stats.paired if self.paired else stats.unpaired)(self.a, self.b, confidence)

    def favours_missing(self, verdict: str) -> bool:
        """Whether a verdict favours a side on which runs have no value."""
        favoured = {"better": self.missing[0], "worse": self.missing[1], "equivalent": max(self.missing)}
        return favoured.get(verdict, 0) > 0


def _match(one: Sample, reference: Sample) -> _Match | None:
    """Return the values to compare, paired if enough seeds match; None if no values are left."""
    missing = (one.missing, reference.missing)
    shared = [unit for unit in one.values if unit in reference.values]
    seeds, theirs, common = ({unit[0] for unit in units} for units in (one.values, reference.values, shared))
    if len(common) * 2 < min(len(seeds), len(theirs)) or not common:
        a, b = one.by_seed(list(one.values)), reference.by_seed(list(reference.values))
        return _Match([*a.values()], [*b.values()], False, missing) if a and b else None
    whole = [u for u in shared if one.values[u] is not None and reference.values[u] is not None]
    a, b = one.by_seed(whole), reference.by_seed(whole)
    if not a:
        return None
    return _Match([*a.values()], [*b.values()], True, missing, len(seeds ^ theirs), len(common) - len(a))


def _equivalence(matches: Sequence[_Match], margin: float | None) -> list[float | None]:
    """Return the adjusted p of two one-sided tests; None without a margin, and for too few values."""
    if margin is None:
        return [None] * len(matches)
    raw = [(stats.tost_paired if m.paired else stats.tost_welch)(m.a, m.b, margin) for m in matches]
    adjusted = iter(stats.holm([p for p in raw if p is not None]).tolist())
    return [next(adjusted) if p is not None else None for p in raw]


def ranks(quantity: Quantity, samples: Sequence[Sample], estimates: Sequence[Estimate], alpha: float) -> list[Rank]:
    """Mark the best mean, and means not shown to differ from it, among samples without missing values."""
    means = {i: e.mean for i, e in enumerate(estimates) if e.mean is not None and e.missing == 0}
    marks: list[Rank] = [""] * len(samples)
    if quantity.better == "neither" or not means:
        return marks
    best = (max if quantity.better == "higher" else min)(means.values())
    first = next(i for i, mean in means.items() if mean == best)
    found = contrasts([samples[i] for i in means], samples[first], quantity, alpha)
    for (i, mean), contrast in zip(means.items(), found, strict=True):
        # Bonferroni, because the data chose the reference. The truly best row is then marked with probability
        # 1 - alpha (Gupta's subset selection).
        is_worse = contrast is not None and stats.significant(
            contrast.found, contrast.found.p * contrast.comparisons, alpha
        )
        marks[i] = "best" if math.isclose(mean, best, rel_tol=1e-12) else "" if is_worse else "tied"
    return marks
