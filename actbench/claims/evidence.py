"""What the stored runs say about each part of a claim, before any verdict.

A pair is one seed. A diverged run has no value, and a pair with a missing value is lost. Lost pairs are counted and
leave their part undecided, because runs do not diverge at random. A run that never reaches a threshold
(`epochs_to:...`) needs more than all of its training, so its value is that lower bound; this understates the
difference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from actbench import stats
from actbench.claims import measures
from actbench.claims.model import Claim, Part, Side
from actbench.comparison.quantities import Quantity, number
from actbench.config import Run
from actbench.stats import Difference, Interval
from actbench.store import Store, StoredRun
from actbench.store.csv import Row
from actbench.sweeps import in_store

if TYPE_CHECKING:
    from actbench.datasets import Dataset

Found = TypeVar("Found")
Values = list[float | None]
"""One value per seed; None if the seed has none."""


@dataclass(frozen=True)
class ArmMean:
    """The mean of a metric over one arm's seeds. `interval` needs at least two seeds."""

    arm: str
    n: int
    mean: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Finding:
    """What is known about one part.

    n: pairs. wanted: seeds asked for. untrained: runs that have not ended. lost: pairs with a missing value.
    never: for each side, the runs that never reached the threshold although their partner did (their values are lower
    bounds). means: the means of both sides, geometric if the part has `log`. found: the difference, of logarithms if
    the part has `log`. ladders: the means along each side's ladder. why: any other reason that prevents a comparison.
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
    ladders: tuple[tuple[ArmMean, ...], ...] = ()
    why: str = ""

    @property
    def margin(self) -> float:
        """The margin in the unit of `found`."""
        return math.log(self.part.margin) if self.part.log else self.part.margin


class RunCache:
    """Stored runs, each file read once. `dataset` loads the images that measurements on weights need."""

    def __init__(self, store: Store, dataset: Callable[[str], Dataset]) -> None:
        self._store, self._dataset = store, functools.cache(dataset)
        self._known: dict[tuple[str, str], Any] = {}

    def _once(self, what: str, run_id: str, make: Callable[[], Found]) -> Found:
        if (what, run_id) not in self._known:
            self._known[what, run_id] = make()
        found: Found = self._known[what, run_id]
        return found

    def run(self, run: Run) -> StoredRun | None:
        """Return a run that is done or diverged; None if it has not ended."""
        return self._once("run", run.run_id, lambda: self._store.result(in_store(run, self._store).run_id))

    def curve(self, run: StoredRun) -> Sequence[Row]:
        """Return one row per epoch."""
        return self._once("curve", run.run_id, run.epochs)

    def layers(self, run: StoredRun) -> Sequence[Row]:
        """Return one row per epoch and layer."""
        return self._once("layers", run.run_id, run.layer_rows)

    def structure(self, metric: str, run: Run, stored: StoredRun) -> float:
        """Return a `measured:` metric of the run's weights."""
        images = self._dataset(run.variant.dataset)
        return self._once(metric, run.run_id, lambda: measures.structure(metric, run.variant, stored, images))


def findings(claim: Claim, runs: RunCache) -> list[Finding]:
    """Return what is known about each part of `claim`, in order. Costs are measured by this call."""
    if not claim.measured:
        return [_of_runs(claim, part, runs) for part in claim.parts]
    rows = measures.costs(claim.arms, len(claim.seeds))

    def values(part: Part, side: Side) -> Values:
        fixed = [side.number for _ in claim.seeds]
        return fixed if side.arm is None else [number(row[part.quantity.name]) for row in rows[side.arm]]

    return [_compare(part, *(values(part, side) for side in part.sides)) for part in claim.parts]


def means(claim: Claim, arms: Sequence[str], metric: Quantity, side: Side, runs: RunCache) -> tuple[ArmMean, ...]:
    """Return each arm's mean over the runs that have a value, in the layer and after the epoch of `side`."""
    found = []
    for arm in arms:
        values = _values(claim, metric.name, replace(side, arm=arm), runs)
        known = [value for value in values if value is not None]
        interval = stats.t_interval(known)
        if interval is not None and metric.kind == "fraction":
            interval = interval.clipped()
        found.append(ArmMean(arm, len(known), stats.mean(known), interval))
    return tuple(found)


def _of_runs(claim: Claim, part: Part, runs: RunCache) -> Finding:
    arms = dict.fromkeys(side.arm for side in part.sides if side.arm is not None)
    stored = [runs.run(Run(claim.arms[arm], seed)) for arm in arms for seed in claim.seeds]
    if untrained := sum(run is None for run in stored):
        return Finding(part, 0, len(claim.seeds), untrained)
    on_cuda = any(str(run.row.get("device")).startswith("cuda") for run in stored if run is not None)
    if part.quantity.name.startswith("seconds_to") and on_cuda:
        why = "on CUDA the runs of a group share every call, so one run has no time of its own"
        return Finding(part, 0, len(claim.seeds), why=why)
    a, b = (_values(claim, part.quantity.name, side, runs) for side in part.sides)
    never = (0, 0)
    if part.quantity.threshold:
        bounds_a, bounds_b = (_bounds(claim, part, side, runs) for side in part.sides)
        (a, never_a), (b, never_b) = _bounded(a, b, bounds_a), _bounded(b, a, bounds_b)
        never = (never_a, never_b)
    ladders = {rungs: side for side in reversed(part.sides) for rungs in claim.ladders.values() if side.arm in rungs}
    along = tuple(means(claim, rungs, part.quantity, side, runs) for rungs, side in ladders.items())
    return replace(_compare(part, a, b), never=never, ladders=along)


def _values(claim: Claim, metric: str, side: Side, runs: RunCache) -> Values:
    """Return one side's value for each seed; None for a run that diverged or did not measure the metric."""
    if side.arm is None:
        return [side.number for _ in claim.seeds]
    read = measures.quantity(metric, claim.measured, side.epoch).read

    def value(run: Run) -> float | None:
        stored = runs.run(run)
        if stored is None or stored.status == "diverged":
            return None
        if metric.startswith(measures.PREFIX):
            return runs.structure(metric, run, stored)
        if side.layer is not None:
            return _in_layer(metric, side.layer, side.epoch, runs.layers(stored))
        return read(stored.row, lambda _: runs.curve(stored))

    return [value(Run(claim.arms[side.arm], seed)) for seed in claim.seeds]


def _in_layer(metric: str, layer: int, epoch: int | None, rows: Sequence[Row]) -> float | None:
    """Return the metric of one hidden layer after an epoch (None: the last); None if there is no such layer."""
    epochs = [number(row["epoch"]) or 0.0 for row in rows]
    wanted = max(epochs, default=0.0) if epoch is None else epoch
    hidden = [row for row in rows if row["epoch"] == wanted][:-1]  # the last row is the output layer's
    return number(hidden[layer].get(metric)) if -len(hidden) <= layer < len(hidden) else None


def _bounds(claim: Claim, part: Part, side: Side, runs: RunCache) -> Values:
    """Return what a run that never reaches the part's threshold exceeds: the length of its training."""
    if side.arm is None:
        return [side.number for _ in claim.seeds]
    curves = [runs.curve(run) if (run := runs.run(Run(claim.arms[side.arm], seed))) else () for seed in claim.seeds]
    if part.quantity.name.startswith("seconds_to"):
        return [math.fsum(number(row.get("train_s")) or 0.0 for row in rows) for rows in curves]
    return [float(len(rows)) for rows in curves]  # epoch 0 is a row, so this is one epoch more than the run had


def _bounded(values: Values, partners: Values, bounds: Values) -> tuple[Values, int]:
    """Replace a missing value by its bound if the partner has a value; return the values and how many are bounds."""
    missing = [x is None and y is not None for x, y in zip(values, partners, strict=True)]
    found = [bound if is_missing else x for x, bound, is_missing in zip(values, bounds, missing, strict=True)]
    return found, sum(missing)


def _compare(part: Part, a: Values, b: Values) -> Finding:
    """Compare two sides seed by seed: their values, or with `log` the logarithms of their values."""
    if part.log:
        a, b = ([math.log(v) if v is not None and v > 0 else None for v in values] for values in (a, b))
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    finding = Finding(part, len(pairs), len(a), lost=len(a) - len(pairs))
    if not pairs:
        return finding
    left, right = ([pair[k] for pair in pairs] for k in (0, 1))
    both = (math.fsum(left) / len(pairs), math.fsum(right) / len(pairs))
    return replace(
        finding,
        found=stats.paired(left, right),
        means=(math.exp(both[0]), math.exp(both[1])) if part.log else both,
        equivalence_p=stats.tost_paired(left, right, finding.margin),
    )
