"""A study: which runs the claims need, which runs they share, how long training takes, and what the runs show.

Nothing here trains. `sweeps.run` trains the runs of a `StudyPlan`; `judge` then reads what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench import sweeps
from actbench.claims import evidence, verdict
from actbench.claims.evidence import ArmMean, RunCache
from actbench.claims.measures import PREFIX
from actbench.claims.model import Claim, Reading
from actbench.claims.verdict import JudgedPart, Verdict
from actbench.comparison.groups import varying
from actbench.comparison.quantities import Quantity
from actbench.config import builtin
from actbench.errors import UnknownNameError, UsageError
from actbench.store import Store
from actbench.store.run import ENVIRONMENT
from actbench.sweeps.preview import rough_seconds

if TYPE_CHECKING:
    from actbench.datasets import Dataset

_CORES = 2
"""Training times are estimated for this many cores."""


def folder() -> Path:
    """Return the folder of the claim files that come with actbench."""
    return builtin.folder() / "claims"


def claim_files(where: Path) -> list[Path]:
    """Return the claim files in the folder `where`. Raises UsageError if there are none."""
    found = sorted(where.glob("*.yaml")) if where.is_dir() else []
    if not found:
        raise UsageError(f"{where}: holds no claim files (*.yaml)")
    return found


def select(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Return the claims with these numbers or file names, or all claims if there are no `names`.

    Raises UnknownNameError for a name that no claim has.
    """
    known = {name: claim for claim in claims for name in (str(claim.number), claim.slug, Path(claim.path).stem)}
    chosen = set()
    for name in names:
        key = name.lstrip("0") if name.isdigit() else Path(name).stem if name.endswith(".yaml") else name
        if key not in known:
            raise UnknownNameError("claim", name, known)
        chosen.add(known[key].number)
    return [claim for claim in claims if not names or claim.number in chosen]


@dataclass(frozen=True)
class ClaimRuns:
    """How many runs one claim needs, and how many of them an earlier claim needs too, have ended, or must be trained.

    seconds: the estimated time to train the rest. Runs that an earlier claim needs are counted there.
    """

    claim: Claim
    runs: int
    shared: int
    done: int
    to_train: int
    seconds: float


@dataclass(frozen=True)
class StudyPlan:
    """The runs of all claims, each once, and what each claim needs."""

    runs: sweeps.Plan
    needs: tuple[ClaimRuns, ...]

    @property
    def seconds(self) -> float:
        """The estimated time to train the remaining runs."""
        return sum(need.seconds for need in self.needs)


def plan(claims: Sequence[Claim], store: Store) -> StudyPlan:
    """Return what the claims need and how much of it has ended. Reads only.

    Runs are ordered by seed, so that an interrupted study has whole pairs in every claim.
    """
    found = sweeps.make_plan(sorted((run for claim in claims for run in claim.runs), key=lambda run: run.seed), store)
    seen: set[str] = set()
    needs = []
    for claim in claims:
        own = {run.run_id: run for run in claim.runs}
        new = own.keys() - seen
        left = [run for run_id, run in own.items() if run_id in new and run_id not in found.ended]
        needs.append(
            ClaimRuns(
                claim=claim,
                runs=len(own),
                shared=len(own) - len(new),
                done=sum(run_id in found.ended for run_id in own),
                to_train=len(left),
                seconds=sum(map(rough_seconds, left)) / _CORES,
            )
        )
        seen |= new
    return StudyPlan(found, tuple(needs))


@dataclass(frozen=True)
class JudgedReading:
    """A reading with its evidence and verdict. `means` has each `also` metric with the arms' means."""

    reading: Reading
    parts: tuple[JudgedPart, ...]
    verdict: Verdict
    means: tuple[tuple[Quantity, list[ArmMean]], ...] = ()


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its judged readings."""

    claim: Claim
    readings: tuple[JudgedReading, ...]


@dataclass(frozen=True)
class Study:
    """The judged claims.

    family: the number of parts of all claims, over which tests are adjusted. known: how many of them have a result.
    demonstration: whether the verdicts are those of a demonstration. environment: settings that the runs of these
    claims should share but do not, such as the number of threads, on which times depend.
    """

    claims: tuple[JudgedClaim, ...]
    family: int
    known: int
    demonstration: bool
    environment: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def judge(
    claims: Sequence[Claim],
    asked: Sequence[Claim],
    store: Store,
    dataset: Callable[[str], Dataset],
    *,
    demonstration: bool = False,
) -> Study:
    """Judge the claims `asked` for by the stored runs.

    The other `claims` count in Holm's adjustment if all their runs have ended and they need no further measurement.
    `dataset` loads a dataset by name, for measurements on weights.
    """
    runs = RunCache(store, dataset)
    others = [] if demonstration else ready(claims, runs)
    numbers = {claim.number for claim in (*asked, *others)}
    counted = [claim for claim in claims if claim.number in numbers]
    found = [finding for claim in counted for finding in evidence.findings(claim, runs)]
    family = sum(len(claim.parts) for claim in claims)
    judged = iter(verdict.demonstrate(found) if demonstration else verdict.judge_parts(found, family))
    by_claim = {claim.number: [next(judged) for _ in claim.parts] for claim in counted}
    studied = tuple(_judge_readings(claim, by_claim[claim.number], runs) for claim in asked)
    known = sum(finding.found is not None for finding in found)
    rows = [stored.row for claim in asked for run in claim.runs if (stored := runs.run(run)) is not None]
    return Study(studied, family, known, demonstration, varying(rows, ENVIRONMENT))


def ready(claims: Sequence[Claim], runs: RunCache) -> list[Claim]:
    """Return the claims that the store can decide: all runs have ended, and nothing needs to be measured."""

    def is_measured(claim: Claim) -> bool:
        return bool(claim.measured) or any(part.quantity.name.startswith(PREFIX) for part in claim.parts)

    return [claim for claim in claims if not is_measured(claim) and all(map(runs.run, claim.runs))]


def _judge_readings(claim: Claim, judged: Sequence[JudgedPart], runs: RunCache) -> JudgedClaim:
    readings = []
    for reading in claim.readings:
        parts, judged = tuple(judged[: len(reading.parts)]), judged[len(reading.parts) :]
        arms = list(dict.fromkeys(side.arm for part in reading.parts for side in part.sides if side.arm is not None))
        complete = not any(one.finding.untrained for one in parts)
        means = tuple((one, evidence.means(claim, arms, one, runs)) for one in reading.also if complete)
        readings.append(JudgedReading(reading, parts, verdict.combine([one.verdict for one in parts]), means))
    return JudgedClaim(claim, tuple(readings))
