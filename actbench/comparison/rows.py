"""The rows of a comparison, and what makes them: groups of runs become rows with estimates, contrasts and ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.contrasts import Contrast, Estimate, Rank, Samples, contrasts, ranks
from actbench.comparison.groups import Group, columns_of, group_runs, is_diverged, order, select
from actbench.comparison.quantities import Curve, Quantity, number, quantities
from actbench.comparison.tuning import tuned
from actbench.config import SETTINGS
from actbench.errors import UsageError
from actbench.registry import Parameter
from actbench.store.csv import Row
from actbench.store.run import ENVIRONMENT
from actbench.text import comma_list, value_text

EPOCH = Parameter("epoch", 0, "epoch after which runs are compared", low=0, high=100_000)


@dataclass(frozen=True)
class Result:
    """One quantity in one row.

    contrast: the difference from the baseline; None in the baseline's row, and if there is nothing to compare.
    rank: "best" for the best mean of the dataset, "tied" for a mean not shown to differ from it. A row in which a run
    has no value has no rank.
    """

    estimate: Estimate
    contrast: Contrast | None = None
    rank: Rank = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One group of runs. n counts done and diverged runs; notes are positions in the footnotes, from 1."""

    label: str
    dataset: Any
    keys: Mapping[str, Any]
    n: int
    diverged: int
    failed: int
    is_baseline: bool
    results: Mapping[str, Result]
    notes: tuple[int, ...] = ()


class RowMaker:
    """Selects and groups the runs of a comparison or pivot, and makes their rows; `footnotes` collects what to say.

    The parameters are those of `compare`. Raises `UsageError` for a quantity that no run has.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        by: Sequence[str] | None,
        metrics: Sequence[str],
        *,
        filter: str | None,  # noqa: A002 - named like its flag
        epoch: int | None,
        curve: Curve | None,
        tune: str | None,
        alpha: float,
    ) -> None:
        self.kept, self.footnotes = select(rows, filter), list[str]()
        if tune is not None:
            self.kept, self.footnotes = tuned(self.kept, by, tune)
        self.grouping, self.columns = group_runs(self.kept, by), columns_of(self.kept)
        if epoch is not None:
            EPOCH.require(epoch)
        self.asked = quantities(metrics, self.columns, epoch)
        self.epoch, self.alpha = epoch, alpha
        self.samples = Samples(curve, tuple(self.grouping.mixed), alpha)
        self._refuse_empty()

    def _refuse_empty(self) -> None:
        """Raise `UsageError` for a quantity that no run has, unless all runs diverged or failed."""
        healthy = [group for group in self.grouping.groups if any(not is_diverged(row) for row in group.runs)]
        for one in self.asked:
            if not healthy or one.threshold or any(self.samples.estimate(group, one).n for group in healthy):
                continue
            if self.epoch is None:
                known = {*SETTINGS, *ENVIRONMENT, "seed"}
                ended = [row for group in self.grouping.groups for row in group.runs]
                names = [key for key in columns_of(ended) if key not in known]
                names = [key for key in names if any(number(row.get(key)) is not None for row in ended)]
                hint = f"these have numbers: {comma_list(names)}" if names else "see: actbench list metrics"
                raise UsageError(f"no run has a value of {one.name}; {hint}")
            longest = max((number(r.get("epochs_run")) or 0 for group in healthy for r in group.runs), default=0)
            hint = f"; the longest has {longest:g} epochs" if longest else ""
            raise UsageError(f"no run has a value of {one.name} after epoch {self.epoch}{hint}")

    def datasets(self) -> Iterator[list[Group]]:
        """Give the groups of one dataset after the other."""
        by_dataset: dict[Any, list[Group]] = {}
        for group in self.grouping.groups:
            by_dataset.setdefault(group.dataset, []).append(group)
        for dataset in sorted(by_dataset, key=order):
            yield by_dataset[dataset]

    def place(self, group: Group, one: Quantity) -> float | None:
        """Return the mean by which a group is sorted; None if a run has no value, as such groups come last."""
        found = self.samples.estimate(group, one)
        return None if found.missing else _rounded(found.mean)

    def best_first(self, groups: Sequence[Group]) -> list[Group]:
        """Order groups by the mean of the first quantity; groups with a run without a value come last."""
        one = self.asked[0]
        sign = -1 if one.better == "higher" else 1

        def key(group: Group) -> tuple[bool, float, str]:
            found = self.samples.estimate(group, one)
            return found.mean is None or found.missing > 0, sign * (_rounded(found.mean) or 0.0), group.label

        return sorted(groups, key=key)

    def rows(
        self,
        groups: Sequence[Group],
        baseline: str | None,
        extras: Sequence[Quantity] = (),
        margin: float | None = None,
    ) -> list[ComparisonRow]:
        """Return the rows of one dataset, in the order of `groups`; without a baseline, they have no contrasts."""
        reference = next((group for group in groups if group.label == baseline), None)
        if reference is None and baseline is not None:
            dataset = value_text(groups[0].dataset)
            self.footnotes.append(f"{dataset} has no row {baseline} to compare its rows with.")
        results: list[dict[str, Result]] = [{} for _ in groups]
        notes: list[set[int]] = [set() for _ in groups]
        for one in self.asked:
            samples = [self.samples.sample(group, one) for group in groups]
            estimates = [self.samples.estimate(group, one) for group in groups]
            contrasted: list[Contrast | None] = [None] * len(groups)
            if reference is not None:
                if self.samples.estimate(reference, one).mean is None and len(groups) > 1:
                    self._note(f"{baseline} has no value of {one.title} to compare other rows with.")
                against = self.samples.sample(reference, one)
                contrasted = contrasts(samples, against, one, self.alpha, margin if one is self.asked[0] else None)
            marks = ranks(one, samples, estimates, self.alpha)
            for i, result in enumerate(map(Result, estimates, contrasted, marks)):
                results[i][one.name] = result
                said = footnotes.on_row(one, result.estimate, result.contrast, groups[i], self.alpha)
                notes[i] |= set(map(self._note, said))
        for one in extras:
            for group, found in zip(groups, results, strict=True):
                found[one.name] = Result(self.samples.estimate(group, one))
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
                notes=tuple(sorted(noted)),
            )
            for group, found, noted in zip(groups, results, notes, strict=True)
        ]

    def _note(self, text: str) -> int:
        """Return the position of a footnote, from 1; add the footnote if it is new."""
        if text not in self.footnotes:
            self.footnotes.append(text)
        return self.footnotes.index(text) + 1


def _rounded(mean: float | None) -> float | None:
    """Drop rounding errors in the last digits, so that they do not decide the order of equal groups."""
    return None if mean is None else float(f"{mean:.12g}")
