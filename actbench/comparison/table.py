"""Groups of runs -> the rows of one dataset, with estimates, contrasts and ranks (layer 3).

Imports `contrasts`, `groups`, `quantities`, `results` and `errors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from actbench import stats
from actbench.comparison.contrasts import Contrast, Estimate, Sample, contrasts, estimate, sample
from actbench.comparison.groups import CONFIG_KEYS, ENVIRONMENT, Group, Grouping, columns_of, is_diverged, order
from actbench.comparison.quantities import Curve, Quantity, Row, number
from actbench.comparison.results import ComparisonRow, Rank, Result
from actbench.errors import UsageError
from actbench.text import comma_list, value_text


def rounded(mean: float | None) -> float:
    """Return a mean without what rounding errors leave in its last digits, so that equal rows sort as equal."""
    return float(f"{mean or 0.0:.12g}")


def cached(curve: Curve | None) -> Curve:
    """Read each run's epochs once, and say so where there are none to read."""
    known: dict[int, Sequence[Row]] = {}

    def read(row: Row) -> Sequence[Row]:
        if curve is None:
            raise UsageError("the epochs of these runs are not known; compare results folders instead")
        if id(row) not in known:
            known[id(row)] = curve(row)
        return known[id(row)]

    return read


@dataclass(frozen=True)
class Table:
    """What all rows of a comparison share while they are made.

    `texts` collects the footnotes, `samples` what was read already, by group and name of the quantity.
    """

    grouping: Grouping
    asked: tuple[Quantity, ...]
    extras: tuple[Quantity, ...]
    curve: Curve
    alpha: float
    margin: float | None
    texts: list[str]
    samples: dict[tuple[int, str], Sample] = field(default_factory=dict)

    def sample(self, group: Group, one: Quantity) -> Sample:
        """Return the values of a quantity in a group."""
        key = (id(group), one.name)
        if key not in self.samples:
            self.samples[key] = sample(group, one, self.curve, tuple(self.grouping.mixed))
        return self.samples[key]

    def estimate(self, group: Group, one: Quantity) -> Estimate:
        """Return the mean and interval of a quantity in a group."""
        return estimate(self.sample(group, one), one, 1 - self.alpha)

    def refuse_empty(self, epoch: int | None) -> None:
        """Raise `UsageError` for a quantity that no run has, though some run ended well."""
        healthy = [group for group in self.grouping.groups if any(not is_diverged(row) for row in group.runs)]
        for one in self.asked:
            has_value = any(v is not None for group in healthy for v in self.sample(group, one).values.values())
            if healthy and not one.threshold and not has_value:
                if epoch is None:
                    raise UsageError(f"no run has a value of {one.name}; {self._measured()}")
                longest = max((number(r.get("epochs_run")) or 0 for group in healthy for r in group.runs), default=0)
                known = f"; the longest has {longest:g} epochs" if longest else ""
                raise UsageError(f"no run has a value of {one.name} after epoch {epoch}{known}")

    def _measured(self) -> str:
        """Say which columns can be compared."""
        rows = [row for group in self.grouping.groups for row in group.runs]
        known = {*CONFIG_KEYS, *ENVIRONMENT, "seed"}
        names = [k for k in columns_of(rows) if k not in known and any(number(row.get(k)) is not None for row in rows)]
        return f"these have numbers: {comma_list(names)}" if names else "see: actbench list metrics"

    def in_order(self) -> list[Group]:
        """Order by the settings, which no result has a say in."""
        return sorted(self.grouping.groups, key=lambda g: (*(order(value) for value in g.keys.values()), g.label))

    def best_first(self, groups: Sequence[Group]) -> list[Group]:
        """Order by the mean of the first quantity; groups without one, or with a run that has none, come last."""
        one = self.asked[0]

        def key(group: Group) -> tuple[bool, float, str]:
            found = self.estimate(group, one)
            value = rounded(found.mean)
            return found.mean is None or found.missing > 0, -value if one.better == "higher" else value, group.label

        return sorted(groups, key=key)

    def rows(self, groups: Sequence[Group], baseline: str | None) -> list[ComparisonRow]:
        """Return the rows of one dataset, in the order of `groups`; without a baseline nothing is contrasted."""
        reference = next((group for group in groups if group.label == baseline), None)
        if reference is None and baseline is not None:
            self.texts.append(
                f"{value_text(groups[0].dataset)} has no row {baseline}: nothing to compare its rows with."
            )
        results: list[dict[str, Result]] = [{} for _ in groups]
        notes: list[list[int]] = [[] for _ in groups]
        for one in (*self.asked, *self.extras):
            samples = [self.sample(group, one) for group in groups]
            estimates = [estimate(found, one, 1 - self.alpha) for found in samples]
            contrasted: list[Contrast | None] = [None] * len(groups)
            ranks: list[Rank] = [""] * len(groups)
            if one in self.asked:
                if reference is not None:
                    against = samples[groups.index(reference)]
                    if estimates[groups.index(reference)].mean is None and len(groups) > 1:
                        self._note(f"{baseline} has no value of {one.title}: nothing to compare its rows with.")
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
                notes=tuple(sorted(set(noted))),
            )
            for group, found, noted in zip(groups, results, notes, strict=True)
        ]

    def _ranks(self, one: Quantity, samples: Sequence[Sample], estimates: Sequence[Estimate]) -> list[Rank]:
        """Mark the best means among rows without a missing value, and what is not value_text to differ from them."""
        means = {i: e.mean for i, e in enumerate(estimates) if e.mean is not None and e.missing == 0}
        ranks: list[Rank] = [""] * len(samples)
        if one.better == "neither" or not means:
            return ranks
        best = (max if one.better == "higher" else min)(means.values())
        first = next(i for i, mean in means.items() if mean == best)
        found = contrasts([samples[i] for i in means], samples[first], one, self.alpha)
        for (i, mean), contrast in zip(means.items(), found, strict=True):
            # Bonferroni, as the data chose what all are compared with: so the row that is best in truth is, with
            # the confidence asked for, among those marked (Gupta's subset selection).
            shown_apart = contrast is not None and stats.significant(
                contrast.found, contrast.found.p * contrast.comparisons, self.alpha
            )
            ranks[i] = "best" if math.isclose(mean, best, rel_tol=1e-12) else "" if shown_apart else "tied"
        return ranks

    def _remarks(self, one: Quantity, found: Estimate, contrast: Contrast | None, group: Group) -> list[int]:
        """Return the positions of the footnotes that belong to one row."""
        said = []
        if group.diverged:
            said.append("A row with diverged runs counts them in n; they have no value, and it is never the best.")
        if one.threshold and found.missing > group.diverged:
            said.append(f"Some runs never reached it: {one.title} is the mean over those that did.")
        elif found.missing > group.diverged:
            said.append(f"Some runs have no value of {one.title}; they count in n only.")
        if contrast is not None and contrast.found.method == "unpaired":
            said.append("Not paired by seed: Welch's interval and the Mann-Whitney test.")
            if contrast.adjusted_p < self.alpha and not contrast.found.one_way:
                said.append("The ranks point one way and the means the other: no verdict.")
        if contrast is not None and contrast.unmatched:
            said.append("Some seeds have no partner in the baseline and are left out of the difference.")
        if contrast is not None and contrast.lost:
            said.append("Pairs in which one run has no value are left out of the difference.")
        if contrast is not None and contrast.withheld:
            said.append("No verdict in favour of a row of which runs are missing: what is left of it may be its luck.")
        return [self._note(text) for text in said]

    def _note(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
