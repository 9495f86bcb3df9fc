"""What a claim study is: arms, readings, the contrasts that decide them (layer 4; imports `config`, `comparison`).

    Claim     a sentence that is commonly said, and how it is tested: the arms that are trained, with seeds
    Reading   one meaning of the sentence; each reading gets a verdict of its own
    Part      one contrast that the reading needs: a metric, two sides, the direction, the margin
    Side      an arm after an epoch and in a layer, or a fixed number

A part is a difference of two sides that are paired by seed, and a fixed number is a pair for every seed.
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

    epoch: None for the last one. layer: a hidden layer, from 0, or from -1 backwards; None for the whole network.
    """

    arm: str | None = None
    number: float | None = None
    epoch: int | None = None
    layer: int | None = None


@dataclass(frozen=True)
class Part:
    """One contrast: `metric` of `arm` minus that of `against`, and what the claim says of it.

    margin: the smallest difference that matters, in the metric's stored unit; with `log`, where ratios are compared
    instead of differences, the smallest factor that matters, above 1.
    """

    metric: str
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

    @property
    def is_structural(self) -> bool:
        """Whether it is measured on the weights of trained networks."""
        return self.metric.startswith("measured:")


@dataclass(frozen=True)
class Reading:
    """One meaning of a claim; every part has to hold. `also` names metrics that are shown beside the evidence."""

    says: str
    parts: tuple[Part, ...]
    also: tuple[Quantity, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A claim and how it is tested.

    arms: what is trained, by name. ladders: the arms that an arm with a `ladder` stands for, from rung to rung.
    measured: "cost" where the evidence is a measurement of its own instead of trained runs.
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
        """What has to be trained, seed by seed: an interrupted study has whole pairs, and pairs train side by side."""
        arms = self.arms.values() if not self.measured else ()
        return [Run(variant, seed) for seed in self.seeds for variant in arms]

    @property
    def parts(self) -> list[Part]:
        """The parts of all readings."""
        return [part for reading in self.readings for part in reading.parts]

    def ladder_of(self, side: Side) -> tuple[str, ...]:
        """Return the ladder that a side's arm belongs to; nothing where it belongs to none."""
        return next((rungs for rungs in self.ladders.values() if side.arm in rungs), ())
