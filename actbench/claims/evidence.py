"""What the runs say about the parts of a claim, before any verdict (layer 4; imports `measures`, `stats`, the store).

A pair is one seed. A run that diverged has no value, and a pair without two values is lost: it is counted, and its
part stays undecided, since runs that break are not missing by chance. A run that never reaches a threshold
(`epochs_to:...`) has more than its own length: that bound is its value, which makes the difference smaller than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from actbench import stats
from actbench.claims import measures
from actbench.claims.model import Claim, Part, Side
from actbench.comparison.quantities import Quantity, Row, number
from actbench.config import Run
from actbench.stats import Difference, Interval
from actbench.store import Store, StoredRun

if TYPE_CHECKING:
    from actbench.datasets import Dataset


@dataclass(frozen=True)
class Rung:
    """One arm of a ladder: its mean, with an interval from two seeds on."""

    arm: str
    n: int
    mean: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Finding:
    """What is known about one part.

    n: pairs. wanted: seeds asked for. untrained: runs that have not ended. lost: pairs without two values.
    never: runs of either side that never reached the threshold, though their partner did: bounds from below. means: of
    both sides (geometric ones of a `log` part). found: of the logarithms there. ladders: those of the two sides.
    why: what else keeps the sides from being compared.
    """

    part: Part
    n: int
    wanted: int
    untrained: int = 0
    lost: int = 0
    never: tuple[int, int] = (0, 0)
    means: tuple[float | None, float | None] = (None, None)
    found: Difference | None = None
    equivalence_p: float | None = None
    ladders: tuple[tuple[Rung, ...], ...] = ()
    why: str = ""

    @property
    def margin(self) -> float:
        """The margin in the unit of `found`."""
        return math.log(self.part.margin) if self.part.log else self.part.margin


@dataclass
class Results:
    """Stored runs, each read once; `dataset` gives the images for what is measured on weights."""

    store: Store
    dataset: Callable[[str], Dataset]
    _runs: dict[str, StoredRun | None] = field(default_factory=dict)
    _curves: dict[str, Sequence[Row]] = field(default_factory=dict)
    _layers: dict[str, Sequence[Row]] = field(default_factory=dict)
    _measured: dict[tuple[str, str], float] = field(default_factory=dict)
    _loaded: dict[str, Dataset] = field(default_factory=dict)

    def run(self, run: Run) -> StoredRun | None:
        """Return a run that is done or diverged."""
        if run.run_id not in self._runs:
            self._runs[run.run_id] = self.store.result(run.run_id)
        return self._runs[run.run_id]

    def curve(self, run: StoredRun) -> Sequence[Row]:
        """Return the epochs of a run."""
        if run.run_id not in self._curves:
            self._curves[run.run_id] = run.epochs()
        return self._curves[run.run_id]

    def layers(self, run: StoredRun) -> Sequence[Row]:
        """Return one row an epoch and layer of a run."""
        if run.run_id not in self._layers:
            self._layers[run.run_id] = run.layer_rows()
        return self._layers[run.run_id]

    def structure(self, spec: str, run: Run, stored: StoredRun) -> float:
        """Measure something on the weights of a run."""
        key, name = (spec, run.run_id), run.variant.dataset
        if key not in self._measured:
            if name not in self._loaded:
                self._loaded[name] = self.dataset(name)
            self._measured[key] = measures.structure(spec, run.variant, stored, self._loaded[name])
        return self._measured[key]


Values = list[float | None]


def findings(claim: Claim, results: Results) -> list[Finding]:
    """Return what is known about each part of `claim`, in order; costs are measured now."""
    if not claim.measured:
        return [_of_runs(claim, part, results) for part in claim.parts]
    rows = measures.costs(claim.arms, len(claim.seeds))

    def values(part: Part, side: Side) -> Values:
        if side.arm is None:
            return [side.number for _ in claim.seeds]
        return [number(row[part.metric]) for row in rows[side.arm]]

    return [_compare(part, values(part, part.arm), values(part, part.against)) for part in claim.parts]


def means(claim: Claim, arms: Sequence[str], metric: Quantity, results: Results) -> list[Rung]:
    """Return the mean of a metric after the last epoch, arm by arm; runs without a value are left out."""
    return [_rung(arm, _values(claim, metric.name, Side(arm), results), metric) for arm in arms]


def _of_runs(claim: Claim, part: Part, results: Results) -> Finding:
    arms = dict.fromkeys(side.arm for side in part.sides if side.arm is not None)
    runs = [Run(claim.arms[arm], seed) for arm in arms for seed in claim.seeds]
    if untrained := sum(results.run(run) is None for run in runs):
        return Finding(part, 0, len(claim.seeds), untrained)
    if part.metric.startswith("seconds_to") and any(_on_cuda(results.run(run)) for run in runs):
        return Finding(part, 0, len(claim.seeds), why="on CUDA the runs of a group share every call, and so their time")
    a, b = (_values(claim, part.metric, side, results) for side in part.sides)
    never = (0, 0)
    if part.quantity.threshold:
        lengths = [_lengths(claim, part, side, results) for side in part.sides]
        a, b, never = _bounded(a, b, *lengths)
    ladders = {rungs: side for side in reversed(part.sides) if (rungs := claim.ladder_of(side))}

    def rung(arm: str, side: Side) -> Rung:
        return _rung(arm, _values(claim, part.metric, replace(side, arm=arm), results), part.quantity)

    return replace(
        _compare(part, a, b),
        never=never,
        ladders=tuple(tuple(rung(arm, side) for arm in rungs) for rungs, side in ladders.items()),
    )


def _on_cuda(run: StoredRun | None) -> bool:
    return run is not None and str(run.row.get("device")).startswith("cuda")


def _values(claim: Claim, metric: str, side: Side, results: Results) -> Values:
    """Return the value of one side for each seed; None for a run that diverged, or never measured it."""
    if side.arm is None:
        return [side.number for _ in claim.seeds]
    read = measures.quantity(metric, claim.measured, side.epoch).read
    variant, found = claim.arms[side.arm], list[float | None]()
    for run in (Run(variant, seed) for seed in claim.seeds):
        stored = results.run(run)
        if stored is None or stored.status == "diverged":
            found.append(None)
        elif metric.startswith(measures.PREFIX):
            found.append(results.structure(metric, run, stored))
        elif side.layer is not None:
            found.append(_in_layer(metric, side, results.layers(stored)))
        else:
            found.append(read(stored.row, partial(_curve, results, stored)))
    return found


def _curve(results: Results, run: StoredRun, _row: Row) -> Sequence[Row]:
    return results.curve(run)


def _in_layer(metric: str, side: Side, rows: Sequence[Row]) -> float | None:
    """Return the metric of one hidden layer after the side's epoch, or the last one; the last layer is the output."""
    epochs = [epoch for row in rows if (epoch := number(row["epoch"])) is not None]
    epoch = max(epochs, default=0.0) if side.epoch is None else side.epoch
    hidden = [row for row in rows if row["epoch"] == epoch][:-1]
    assert side.layer is not None
    return number(hidden[side.layer].get(metric)) if -len(hidden) <= side.layer < len(hidden) else None


def _lengths(claim: Claim, part: Part, side: Side, results: Results) -> Values:
    """Return a bound for runs that never reach the part's threshold: they need more than all of their training."""
    if side.arm is None:
        return [side.number for _ in claim.seeds]
    found: Values = []
    for seed in claim.seeds:
        stored = results.run(Run(claim.arms[side.arm], seed))
        rows = results.curve(stored) if stored is not None else ()
        in_seconds = part.metric.startswith("seconds_to")
        seconds = math.fsum(number(row.get("train_s")) or 0.0 for row in rows)
        found.append(seconds if in_seconds else float(len(rows)))  # epoch 0 is a row, so this is one epoch more
    return found


def _bounded(a: Values, b: Values, a_lengths: Values, b_lengths: Values) -> tuple[Values, Values, tuple[int, int]]:
    """Put bounds where one of a pair never got there; return both sides, and how many bounds each has."""
    a_bound = [x is None and y is not None for x, y in zip(a, b, strict=True)]
    b_bound = [x is not None and y is None for x, y in zip(a, b, strict=True)]
    new_a = [length if bound else x for x, length, bound in zip(a, a_lengths, a_bound, strict=True)]
    new_b = [length if bound else y for y, length, bound in zip(b, b_lengths, b_bound, strict=True)]
    return new_a, new_b, (sum(a_bound), sum(b_bound))


def _compare(part: Part, a: Values, b: Values) -> Finding:
    """Compare two sides seed by seed, as they are or by their logarithms."""
    if part.log:
        a, b = ([math.log(v) if v is not None and v > 0 else None for v in values] for values in (a, b))
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    lost = len(a) - len(pairs)
    if not pairs:
        return Finding(part, 0, len(a), lost=lost)
    left, right = ([pair[k] for pair in pairs] for k in (0, 1))
    both = (math.fsum(left) / len(pairs), math.fsum(right) / len(pairs))
    finding = Finding(part, len(pairs), len(a), lost=lost, found=stats.paired(left, right))
    return replace(
        finding,
        means=(math.exp(both[0]), math.exp(both[1])) if part.log else both,
        equivalence_p=stats.tost_paired(left, right, finding.margin),
    )


def _rung(arm: str, values: Values, metric: Quantity) -> Rung:
    known = [value for value in values if value is not None]
    interval = stats.t_interval(known)
    if interval is not None and metric.kind == "fraction":
        interval = interval.clipped()
    return Rung(arm, len(known), stats.mean(known), interval)
