"""A study: which runs the claims need, who shares them, how long they take, and what they show (layer 4).

Imports `files`, `evidence`, `verdict`, `sweeps` (for what is done already) and the store. Trains nothing: the runs of
a `Plan` go to `sweeps.execute`, and `judge` reads what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import actbench
from actbench import sweeps
from actbench.claims import evidence, verdict
from actbench.claims.evidence import Results, Rung
from actbench.claims.model import Claim, Reading
from actbench.claims.verdict import Judged, Verdict
from actbench.comparison.footnotes import ENVIRONMENT
from actbench.comparison.groups import varying
from actbench.errors import UnknownNameError, UsageError
from actbench.store import Store
from actbench.sweeps.preview import rough_seconds

if TYPE_CHECKING:
    from actbench.datasets import Dataset

_AT_ONCE = 2
"""The cores that times are told for."""


def folder() -> Path:
    """Return where the claim files are: in the checkout, or in the installed package."""
    package = Path(actbench.__file__).parent
    beside = package.parent / "configs" / "claims"
    return beside if beside.is_dir() else package / "claims" / "studies"


def claim_files(where: Path) -> list[Path]:
    """Return the claim files in the folder `where`; raises UsageError where there is none."""
    found = sorted(where.glob("*.yaml")) if where.is_dir() else []
    if not found:
        raise UsageError(f"{where}: holds no claim files (*.yaml)")
    return found


def select(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Return the claims that `names` name by number or by the name of their file; all without names.

    Raises `UnknownNameError` for a name that no claim has.
    """
    known = {name: claim for claim in claims for name in (str(claim.number), claim.slug, Path(claim.path).stem)}
    chosen = {}
    for name in names:
        key = name.lstrip("0") if name.isdigit() else Path(name).stem if name.endswith(".yaml") else name
        if key not in known:
            raise UnknownNameError("claim", name, known)
        chosen[known[key].number] = known[key]
    return [claim for claim in claims if not names or claim.number in chosen]


@dataclass(frozen=True)
class Need:
    """What one claim needs: its runs, those an earlier claim needs as well, those that have ended, and the rest.

    seconds: the time of the rest, about, on two cores; runs of earlier claims are counted there.
    """

    claim: Claim
    runs: int
    shared: int
    done: int
    to_train: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All runs of the claims, each once, and what each claim needs of them."""

    runs: sweeps.Plan
    needs: tuple[Need, ...]

    @property
    def seconds(self) -> float:
        """The time to train what is left, about, on two cores."""
        return sum(need.seconds for need in self.needs)


def plan(claims: Sequence[Claim], store: Store) -> Plan:
    """Look up what the claims need and what of it has ended. Reads only.

    Runs are in the order of their seeds, so that an interrupted study has whole pairs in every claim.
    """
    found = sweeps.plan(sorted((run for claim in claims for run in claim.runs), key=lambda run: run.seed), store)
    seen: set[str] = set()
    needs = []
    for claim in claims:
        own = {run.run_id: run for run in claim.runs}
        new = own.keys() - seen
        left = [run for run_id, run in own.items() if run_id in new and run_id not in found.ended]
        needs.append(
            Need(
                claim=claim,
                runs=len(own),
                shared=len(own) - len(new),
                done=sum(run_id in found.ended for run_id in own),
                to_train=len(left),
                seconds=sum(rough_seconds(run) for run in left) / _AT_ONCE,
            )
        )
        seen |= new
    return Plan(found, tuple(needs))


@dataclass(frozen=True)
class JudgedReading:
    """A reading with its evidence and verdict; `beside` are the metrics it only shows, arm by arm."""

    reading: Reading
    parts: tuple[Judged, ...]
    verdict: Verdict
    beside: tuple[tuple[Rung, ...], ...] = ()


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with the verdict of each reading."""

    claim: Claim
    readings: tuple[JudgedReading, ...]


@dataclass(frozen=True)
class Study:
    """What the claims asked for have come to.

    family: the parts of all claims, over which tests are adjusted; known: those of them that have a result.
    demonstration: whether nothing here is a verdict. environment: what the runs of the claims asked for should share,
    and do not, such as the number of threads, on which times depend.
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
    """Judge the claims `asked` for by what is stored.

    Results of the other `claims` count in Holm's adjustment where their runs have all ended and need no further
    measurement. `dataset` gives the images of a dataset, for what is measured on weights.
    """
    results = Results(store, dataset)
    wanted = {claim.number for claim in asked}
    others = [] if demonstration else ready(claims, results)
    counted = [claim for claim in claims if claim.number in wanted or claim in others]
    found = {claim.number: evidence.findings(claim, results) for claim in counted}
    flat = [finding for claim in counted for finding in found[claim.number]]
    family = sum(len(claim.parts) for claim in claims)
    judged = iter(verdict.demonstrate(flat) if demonstration else verdict.judge(flat, family))
    by_claim = {claim.number: [next(judged) for _ in found[claim.number]] for claim in counted}
    studied = tuple(_readings(claim, by_claim[claim.number], results) for claim in asked)
    known = sum(finding.found is not None for finding in flat)
    rows = [stored.row for claim in asked for run in claim.runs if (stored := results.run(run)) is not None]
    return Study(studied, family, known, demonstration, varying(rows, ENVIRONMENT))


def ready(claims: Sequence[Claim], results: Results) -> list[Claim]:
    """Return the claims whose evidence lies in the store, whole: nothing is to be trained or measured for them."""
    stored = [claim for claim in claims if not claim.measured and not any(part.is_structural for part in claim.parts)]
    return [claim for claim in stored if all(results.run(run) is not None for run in claim.runs)]


def _readings(claim: Claim, judged: Sequence[Judged], results: Results) -> JudgedClaim:
    readings = []
    for reading in claim.readings:
        parts, judged = tuple(judged[: len(reading.parts)]), judged[len(reading.parts) :]
        arms = list(dict.fromkeys(side.arm for part in reading.parts for side in part.sides if side.arm is not None))
        complete = not any(one.finding.untrained for one in parts)
        beside = tuple(tuple(evidence.means(claim, arms, one, results)) for one in reading.also if complete)
        combined = verdict.combine([one.verdict for one in parts])
        readings.append(JudgedReading(reading, parts, combined, beside))
    return JudgedClaim(claim, tuple(readings))
