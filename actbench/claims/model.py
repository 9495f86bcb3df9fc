"""What a claim study consists of, and which runs it needs.

    Claim     a common statement, and how it is tested: the arms to train, and the seeds
    Reading   one meaning of the statement; each reading gets its own verdict
    Part      one contrast that a reading needs: a metric, two sides, the direction, the margin
    Side      an arm after some epoch and in some layer, or a fixed number

The two sides of a part are paired by seed; a fixed number is paired with every seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from actbench import sweeps
from actbench.comparison.quantities import Quantity
from actbench.config import Run, Variant, builtin_folder
from actbench.errors import UnknownNameError, UsageError
from actbench.store import Store
from actbench.sweeps.preview import rough_seconds

Expect = Literal["higher", "lower", "same"]
_CORES = 2
"""Training times are estimated for this many cores."""


@dataclass(frozen=True)
class Side:
    """One side of a contrast: an arm, or a `number`.

    epoch: None means the last one. layer: a hidden layer, from 0, or backwards from -1; None: the whole network.
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


def folder() -> Path:
    """Return the folder of the claim files that come with actbench."""
    return builtin_folder() / "claims"


def claim_files(where: Path) -> list[Path]:
    """Return the claim files in the folder `where`. Raises UsageError if there are none."""
    found = sorted(where.glob("*.yaml")) if where.is_dir() else []
    if not found:
        raise UsageError(f"{where}: holds no claim files (*.yaml)")
    return found


def select(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Return the claims with these numbers or file names, by default all. Raises UnknownNameError."""
    known = {name: claim for claim in claims for name in (str(claim.number), claim.slug, Path(claim.path).stem)}
    chosen = set()
    for name in names:
        key = name.lstrip("0") if name.isdigit() else Path(name).stem if name.endswith(".yaml") else name
        if key not in known:
            raise UnknownNameError("claim", name, known)
        chosen.add(known[key].number)
    return [claim for claim in claims if not names or claim.number in chosen]


@dataclass(frozen=True)
class StudyPlan:
    """The runs of all claims, each once, and a row per claim that counts what it needs.

    `shared` runs are those that an earlier claim needs, too; `to_train` and `seconds` leave them to that claim.
    """

    runs: sweeps.Plan
    rows: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """The estimated time to train the remaining runs."""
        total: float = sum(row["seconds"] for row in self.rows)
        return total

    @property
    def totals(self) -> dict[str, Any]:
        """The row of all claims together, in which every run counts once."""
        counts = {"runs": len(self.runs.runs), "done": len(self.runs.ended), "to_train": len(self.runs.open)}
        return {"claim": "all, each run once", **counts, "seconds": self.seconds}


def plan(claims: Sequence[Claim], store: Store) -> StudyPlan:
    """Return what the claims need and how much of it has ended. Only reads.

    Runs are ordered by seed, so that an interrupted study has whole pairs in every claim.
    """
    found = sweeps.make_plan(sorted((run for claim in claims for run in claim.runs), key=lambda run: run.seed), store)
    seen: set[str] = set()
    rows = []
    for claim in claims:
        own = {run.run_id: run for run in (sweeps.in_store(run, store) for run in claim.runs)}
        left = [run for run_id, run in own.items() if run_id not in seen and run_id not in found.ended]
        rows.append(
            {
                "id": claim.number,
                "claim": claim.slug,
                "seeds": len(claim.seeds),
                "arms": len(claim.arms),
                "runs": len(own),
                "shared": len(own.keys() & seen),
                "done": len(own.keys() & found.ended.keys()),
                "to_train": len(left),
                "seconds": sum(map(rough_seconds, left)) / _CORES,
            }
        )
        seen |= own.keys()
    return StudyPlan(found, rows)
