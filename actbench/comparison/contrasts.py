"""One quantity over groups of runs: what each group has, and how it differs from a reference (layer 3).

Imports `stats`, `groups`, `quantities`. Here runs become values by seed, and seeds become pairs. Where a group mixes
settings (`--by activation` over several learning rates), a seed's value is the mean over the settings, and a
pair uses only the settings that both groups ran with that seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench import stats
from actbench.comparison.groups import Group, is_diverged, order, setting
from actbench.comparison.quantities import Curve, Quantity
from actbench.stats import Difference, Interval

Unit = tuple[Any, tuple[Any, ...]]  # a seed, and the settings that are mixed


@dataclass(frozen=True)
class Sample:
    """The values of one quantity in one group, one a seed and mixed setting; None where a run has none.

    `missing`: runs without a value, the diverged ones among them.
    """

    values: Mapping[Unit, float | None]
    missing: int

    def by_seed(self, units: Sequence[Unit]) -> dict[Any, float]:
        """Return each seed's mean over those of `units` that have a value."""
        found: dict[Any, list[float]] = {}
        for unit in units:
            value = self.values[unit]
            if value is not None:
                found.setdefault(unit[0], []).append(value)
        return {seed: sum(values) / len(values) for seed, values in found.items()}


@dataclass(frozen=True)
class Estimate:
    """One quantity in one group: its mean, spread and t interval over the seeds.

    n: seeds with a value. missing: runs without one. mean is None for n = 0, sd and interval for n < 2;
    the interval of a fraction is clipped to [0, 1].
    """

    n: int
    missing: int
    mean: float | None
    sd: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Contrast:
    """How a group differs from its reference, and what may be said about it.

    adjusted_p: Holm's, over the `comparisons` with the same reference, quantity and dataset. equivalence_p:
    TOST's, adjusted likewise; None without a margin. superiority: the probability that a run does better than
    its partner (that its value is higher, where neither is better), ties count half. unmatched: seeds without a
    partner. lost: seeds that both ran, but where one side has no value. withheld: the numbers favour a side with
    runs that have none, so there is no verdict: what diverged is not better than what did not.
    """

    found: Difference
    adjusted_p: float
    smallest_adjusted_p: float
    comparisons: int
    equivalence_p: float | None
    superiority: float
    verdict: str
    significant: bool
    unmatched: int
    lost: int
    withheld: bool


def sample(group: Group, quantity: Quantity, curve: Curve, mixed: Sequence[str]) -> Sample:
    """Read `quantity` from every run of `group`; a diverged run has no value, whatever its row says.

    A run that was trained again with other results is one unit: its value is their mean.
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
    # Runs without a seed have nothing to be in order by but their values.
    in_order = sorted(found, key=lambda u: (order(u[0] if seeded(u) else None), tuple(map(order, u[1])), found[u]))
    return Sample({u: sum(found[u]) / len(found[u]) if found[u] else None for u in in_order}, missing)


def seeded(unit: Unit) -> bool:
    """Whether its run has a seed, and so may have a partner."""
    return not isinstance(unit[0], tuple)


def estimate(of: Sample, quantity: Quantity, confidence: float) -> Estimate:
    """Return mean, sd and t interval over the seeds of a sample."""
    values = list(of.by_seed(list(of.values)).values())
    interval = stats.t_interval(values, confidence)
    if interval is not None and quantity.kind == "fraction":
        interval = interval.clipped()
    return Estimate(len(values), of.missing, stats.mean(values), stats.sd(values), interval)


def contrasts(
    samples: Sequence[Sample],
    reference: Sample,
    quantity: Quantity,
    alpha: float,
    margin: float | None = None,
) -> list[Contrast | None]:
    """Compare each sample with `reference`: None where it is the reference, or where no value is left.

    Paired by seed where at least half of the seeds of the smaller side have a partner, else Welch and
    Mann-Whitney. Holm's family is everything that is compared here.
    """
    matched = [_match(one, reference) if one is not reference else None for one in samples]
    kept = [match for match in matched if match is not None]
    if not kept:
        return [None] * len(samples)
    found = [_difference(match, 1 - alpha) for match in kept]
    adjusted = stats.holm([one.p for one in found])
    smallest = stats.holm([one.smallest_p for one in found])
    equivalence = _equivalence(kept, margin) if margin is not None else [None] * len(kept)
    judged = iter(
        _judged(quantity, alpha, match, one, float(p), float(least), len(kept), tost)
        for match, one, p, least, tost in zip(kept, found, adjusted, smallest, equivalence, strict=True)
    )
    return [next(judged) if match is not None else None for match in matched]


def _judged(
    quantity: Quantity,
    alpha: float,
    match: _Match,
    found: Difference,
    p: float,
    least: float,
    comparisons: int,
    tost: float | None,
) -> Contrast:
    """Say what may be said about one difference."""
    higher = quantity.better != "lower"
    said = stats.verdict(
        found,
        p,
        comparisons=comparisons,
        smallest_adjusted_p=least,
        better=quantity.better,
        alpha=alpha,
        equivalence_p=tost,
    )
    withheld = (
        (said == "better" and match.missing[0] > 0)
        or (said == "worse" and match.missing[1] > 0)
        or (said == "equivalent" and max(match.missing) > 0)
    )
    return Contrast(
        found=found,
        adjusted_p=p,
        smallest_adjusted_p=least,
        comparisons=comparisons,
        equivalence_p=tost,
        superiority=found.superiority if higher else 1 - found.superiority,
        verdict="~" if withheld else said,
        significant=stats.significant(found, p, alpha) and not withheld,
        unmatched=match.unmatched,
        lost=match.lost,
        withheld=withheld,
    )


@dataclass(frozen=True)
class _Match:
    """The values to compare, and how many runs of either side have none."""

    a: list[float]
    b: list[float]
    paired: bool
    missing: tuple[int, int]
    unmatched: int = 0
    lost: int = 0


def _match(one: Sample, reference: Sample) -> _Match | None:
    """Return the values to compare, seed by seed where the seeds match; None where nothing is left."""
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


def _difference(match: _Match, confidence: float) -> Difference:
    return (stats.paired if match.paired else stats.unpaired)(match.a, match.b, confidence)


def _equivalence(matches: Sequence[_Match], margin: float) -> list[float | None]:
    raw = [(stats.tost_paired if m.paired else stats.tost_welch)(m.a, m.b, margin) for m in matches]
    adjusted = iter(stats.holm([p for p in raw if p is not None]).tolist())
    return [next(adjusted) if p is not None else None for p in raw]
