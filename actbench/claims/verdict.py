"""The rule that turns findings into verdicts, applied to the claims of a study.

A part predicts that a difference d is higher, lower or the same, and states how large a difference must be to matter.
Two families of tests, each over the parts of all claims, are adjusted by Holm: "d is not 0" (paired by seed, exact
sign-flip test) and "|d| is below the margin" (two one-sided t tests). At alpha = 0.05, the first line that applies
decides:

    no difference within the margin    |d| is shown to be below the margin (if `same` was expected: supported)
    supported                          d is shown to differ from 0 as predicted, by the margin or more
    contradicted                       d is shown to differ from 0 otherwise, by the margin or more
    not decided                        anything else, including parts whose runs are missing or diverged

So at most 5% of studies contain any "supported" or "contradicted" where there is no difference or the opposite one,
and at most 5% contain any "no difference" where the difference is as large as the margin. A part without a result
counts as p = 1, so judging some of the claims never says more than judging all of them.

A reading with several parts is supported only if all of them are. Otherwise its verdict is the first of contradicted,
no difference and not decided that any part has: one part that fails refutes a statement that says "and". A claim that
can be read in several ways gets a verdict for each reading, and no overall verdict.

A demonstration has too few seeds and too small a dataset for any of this. It reports what its numbers point to, by
the unadjusted interval, and uses none of the words above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from actbench import stats
from actbench.claims import evidence
from actbench.claims.evidence import ArmMean, Finding, RunCache
from actbench.claims.measures import PREFIX
from actbench.claims.model import Claim, Reading, Side
from actbench.comparison.groups import varying
from actbench.comparison.quantities import Quantity
from actbench.stats import permutation
from actbench.store import Store
from actbench.store.run import ENVIRONMENT
from actbench.text import plural

if TYPE_CHECKING:
    from actbench.datasets import Dataset

ALPHA = 0.05


class Verdict(StrEnum):
    """The possible verdicts; the last three are those of a demonstration."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    SAME = "no difference within the margin"
    OPEN = "not decided"
    TOWARDS = "points towards"
    AGAINST = "points against"
    UNDECIDED = "undecided"


# The verdict of a reading is the first of these that one of its parts has. If none has any, all parts hold.
_REFUTING = (Verdict.CONTRADICTED, Verdict.AGAINST, Verdict.SAME, Verdict.OPEN, Verdict.UNDECIDED)
_IN_A_DEMONSTRATION = {Verdict.SUPPORTED: Verdict.TOWARDS, Verdict.CONTRADICTED: Verdict.AGAINST}


@dataclass(frozen=True)
class JudgedPart:
    """A finding with its verdict, and `why` nothing was decided; the p values are adjusted, None without a finding."""

    finding: Finding
    verdict: Verdict
    adjusted_p: float | None = None
    equivalence_p: float | None = None
    why: str = ""


@dataclass(frozen=True)
class JudgedReading:
    """A reading with its evidence and verdict. `means` has each `also` metric with the arms' means."""

    reading: Reading
    parts: Sequence[JudgedPart]
    verdict: Verdict
    means: Sequence[tuple[Quantity, tuple[ArmMean, ...]]] = ()


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its judged readings."""

    claim: Claim
    readings: Sequence[JudgedReading]


@dataclass(frozen=True)
class Study:
    """The judged claims.

    family: the number of parts of all claims, over which tests are adjusted. known: how many of them have a result.
    demonstration: whether the verdicts are those of a demonstration. environment: settings that the runs of these
    claims should share but do not, such as the number of threads, on which times depend.
    """

    claims: Sequence[JudgedClaim]
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
    judged = iter(demonstrate(found) if demonstration else judge_parts(found, family))
    by_claim = {claim.number: iter([next(judged) for _ in claim.parts]) for claim in counted}
    studied = []
    for claim in asked:
        parts = by_claim[claim.number]
        readings = [_judge_reading(claim, one, [next(parts) for _ in one.parts], runs) for one in claim.readings]
        studied.append(JudgedClaim(claim, readings))
    known = sum(finding.found is not None for finding in found)
    rows = [stored.row for claim in asked for run in claim.runs if (stored := runs.run(run)) is not None]
    return Study(studied, family, known, demonstration, varying(rows, ENVIRONMENT))


def ready(claims: Sequence[Claim], runs: RunCache) -> list[Claim]:
    """Return the claims that the store can decide: all runs have ended, and nothing needs to be measured."""

    def is_measured(claim: Claim) -> bool:
        return bool(claim.measured) or any(part.quantity.name.startswith(PREFIX) for part in claim.parts)

    return [claim for claim in claims if not is_measured(claim) and all(map(runs.run, claim.runs))]


def _judge_reading(claim: Claim, reading: Reading, parts: Sequence[JudgedPart], runs: RunCache) -> JudgedReading:
    arms = list(dict.fromkeys(side.arm for part in reading.parts for side in part.sides if side.arm is not None))
    complete = not any(one.finding.untrained for one in parts)
    means = [(one, evidence.means(claim, arms, one, Side(), runs)) for one in reading.also if complete]
    return JudgedReading(reading, parts, combine([one.verdict for one in parts]), means)


def judge_parts(findings: Sequence[Finding], family: int) -> list[JudgedPart]:
    """Judge the known findings of a family of `family` parts; the unknown ones count as p = 1."""
    unknown = [1.0] * (family - len(findings))
    differences = [one.found.p if one.found is not None else 1.0 for one in findings]
    equivalences = [one.equivalence_p if one.equivalence_p is not None else 1.0 for one in findings]
    adjusted, same = (stats.holm([*ps, *unknown])[: len(findings)].tolist() for ps in (differences, equivalences))
    judged = []
    for one, p, same_p in zip(findings, adjusted, same, strict=True):
        verdict, why = _decide(one, p < ALPHA, same_p < ALPHA)
        if one.found is None:
            judged.append(JudgedPart(one, verdict, why=why))
            continue
        if verdict is Verdict.OPEN and not why and one.found.smallest_p * family >= ALPHA:
            needed = permutation.seeds_needed(family, ALPHA)
            why = f"{plural(one.found.n, 'seed')} cannot decide one of {family} contrasts; {needed} can"
        judged.append(JudgedPart(one, verdict, p, same_p, why))
    return judged


def demonstrate(findings: Sequence[Finding]) -> list[JudgedPart]:
    """Report what each finding of a demonstration points to."""
    judged = []
    for one in findings:
        interval = one.found.interval if one.found is not None else None
        differs = interval is not None and not interval.low <= 0 <= interval.high
        verdict, why = _decide(one, differs, one.equivalence_p is not None and one.equivalence_p < ALPHA)
        judged.append(JudgedPart(one, _IN_A_DEMONSTRATION.get(verdict, Verdict.UNDECIDED), why=why))
    return judged


def _decide(finding: Finding, differs: bool, same: bool) -> tuple[Verdict, str]:
    """Return the verdict, and why there is none if the finding itself prevents it.

    differs: the difference is shown not to be 0. same: it is shown to be below the margin.
    """
    found, expect = finding.found, finding.part.expect
    if finding.untrained:
        return Verdict.OPEN, f"{plural(finding.untrained, 'run')} not trained yet"
    if found is None or finding.lost:
        lost = f"{finding.lost} of {finding.wanted} pairs have no value: a run diverged or did not measure it"
        return Verdict.OPEN, finding.why or lost
    if same and finding.never == (0, 0):
        return (Verdict.SUPPORTED if expect == "same" else Verdict.SAME), ""
    if not differs or abs(found.difference) < finding.margin:
        return Verdict.OPEN, ""
    is_higher = found.difference > 0
    if finding.never[is_higher]:  # the side that looks lower has lower bounds, so it may be higher
        return Verdict.OPEN, "runs on the side that looks lower never reached the threshold"
    as_predicted = expect == ("higher" if is_higher else "lower")
    return (Verdict.SUPPORTED if as_predicted else Verdict.CONTRADICTED), ""


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a reading from the verdicts of its parts (at least one)."""
    return next((verdict for verdict in _REFUTING if verdict in verdicts), verdicts[0])
