"""What a claim study consists of.

    Claim     a common statement, and how it is tested: the arms to train, and the seeds
    Reading   one meaning of the statement; each reading gets its own verdict
    Part      one contrast that a reading needs: a metric, two sides, the direction, the margin
    Side      an arm after some epoch and in some layer, or a fixed number

The two sides of a part are paired by seed; a fixed number is paired with every seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from actbench.comparison.quantities import Quantity
from actbench.config import Run, Variant

Expect = Literal["higher", "lower", "same"]


@dataclass(frozen=True)
class Side:
    """One side of a contrast: an arm, or a `number`.

    epoch: None means the last one. layer: a hidden layer, counted from 0, or backwards from -1; None means the whole
    network.
    """

    arm: str | None = None
    number: float | None = None
    epoch: int | None = None
    layer: int | None = None


@dataclass(frozen=True)
class Part:
    """One contrast: the quantity of `arm` minus that of `against`, and what the claim predicts.

    margin: the smallest difference that matters, in the quantity's stored unit. With `log`, ratios are compared instead
    of differences, and the margin is the smallest factor that matters (above 1).
    """

    quantity: Quantity
    arm: Side
    against: Side
    expect: Expect
    margin: float
    log: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.arm, self.against


@dataclass(frozen=True)
class Reading:
    """One meaning of a claim. All its parts must hold; `also` names metrics to show beside the evidence."""

    says: str
    parts: tuple[Part, ...]
    also: tuple[Quantity, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A claim and how it is tested.

    arms: the variants to train, by name. ladders: for each arm that has a `ladder`, the names of its rungs in order.
    measured: "cost" if the evidence is timed when the claim is judged instead of read from trained runs.
    """

    number: int
    slug: str
    path: str
    text: str
    source: str
    note: str = ""
    arms: Mapping[str, Variant] = field(default_factory=dict)
    ladders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    readings: tuple[Reading, ...] = ()
    measured: str = ""

    @property
    def runs(self) -> list[Run]:
        """The runs to train, ordered by seed: pairs train side by side, and an interrupted study has whole pairs."""
        arms = self.arms.values() if not self.measured else ()
        return [Run(variant, seed) for seed in self.seeds for variant in arms]

    @property
    def parts(self) -> list[Part]:
        """The parts of all readings."""
        return [part for reading in self.readings for part in reading.parts]

    def ladder_of(self, side: Side) -> tuple[str, ...]:
        """Return the ladder that a side's arm belongs to; empty if it belongs to none."""
        return next((rungs for rungs in self.ladders.values() if side.arm in rungs), ())
