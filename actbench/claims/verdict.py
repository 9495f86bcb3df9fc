"""Findings -> verdicts: the rule that decides a claim (layer 4; imports `evidence`, `stats`; no files, no runs).

A part says that a difference d is higher, lower or the same, and how large a difference has to be to matter. Two
families of tests are adjusted by Holm, each over the parts of all claims: "d is not 0" (paired by seed, exact
sign-flip test) and "|d| is below the margin" (two one-sided t tests). At alpha = 0.05, in this order:

    no difference within the margin    |d| is shown to be below the margin (for `same`: supported)
    supported                          d is shown to differ from 0, the way it was said, by the margin or more
    contradicted                       the same the other way (for `same`: either way)
    not decided                        anything else; also where runs are missing, or broke

So in at most 5% of studies any "supported" or "contradicted" stands where there is no difference, or one the other way,
and in at most 5% any "no difference" where there is one of the margin or more. A part whose result is still to come
counts as p = 1: a part of a study never says more than the whole.

A reading with several parts is supported only when all are; else the first of contradicted, no difference, not decided
that a part has is its verdict: one part that fails refutes a sentence that says "and". A claim that can be read in
several ways has a verdict for each reading, and none over all of them.

A demonstration has too few seeds and too small a dataset for any of this. It says what its numbers point to, by the
unadjusted interval, and uses none of the words above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from actbench import stats
from actbench.claims.evidence import Finding

ALPHA = 0.05


class Verdict(StrEnum):
    """What may be said; the last three are those of a demonstration."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    SAME = "no difference within the margin"
    OPEN = "not decided"
    TOWARDS = "points towards"
    AGAINST = "points against"
    UNDECIDED = "undecided"


# The verdict of a reading is the first of these that one of its parts has; if there is none, all parts hold.
_REFUTING = (Verdict.CONTRADICTED, Verdict.AGAINST, Verdict.SAME, Verdict.OPEN, Verdict.UNDECIDED)


@dataclass(frozen=True)
class Judged:
    """A finding with its place in the whole study.

    adjusted_p, equivalence_p: Holm's; None where there is nothing to compare. why: what kept it from a decision.
    """

    finding: Finding
    verdict: Verdict
    adjusted_p: float | None = None
    equivalence_p: float | None = None
    why: str = ""


def judge(findings: Sequence[Finding], family: int, *, alpha: float = ALPHA) -> list[Judged]:
    """Judge findings, which are all that is known of a `family` of so many parts."""
    differences = [one.found.p if one.found is not None else 1.0 for one in findings]
    equivalences = [one.equivalence_p if one.equivalence_p is not None else 1.0 for one in findings]
    unknown = [1.0] * (family - len(findings))
    adjusted = stats.holm([*differences, *unknown])[: len(findings)].tolist()
    same = stats.holm([*equivalences, *unknown])[: len(findings)].tolist()
    return [_judged(*parts, family, alpha) for parts in zip(findings, adjusted, same, strict=True)]


def _judged(finding: Finding, p: float, same_p: float, family: int, alpha: float) -> Judged:
    found = finding.found
    if found is None:
        return Judged(finding, Verdict.OPEN, why=_missing(finding))
    verdict, why = _decide(finding, p < alpha, same_p < alpha)
    if verdict is Verdict.OPEN and not why and found.smallest_p * family >= alpha:
        seeds = "1 seed" if found.n == 1 else f"{found.n} seeds"
        why = f"{seeds} cannot decide one of {family} contrasts, {stats.seeds_needed(family, alpha)} can"
    return Judged(finding, verdict, p, same_p, why)


def demonstrate(findings: Sequence[Finding], *, alpha: float = ALPHA) -> list[Judged]:
    """Say what each finding of a demonstration points to."""
    judged = []
    for one in findings:
        interval = one.found.interval if one.found is not None else None
        apart = interval is not None and not interval.low <= 0 <= interval.high
        verdict, why = _decide(one, apart, one.equivalence_p is not None and one.equivalence_p < alpha)
        judged.append(Judged(one, _IN_A_DEMONSTRATION[verdict], why=why if one.found else _missing(one)))
    return judged


_IN_A_DEMONSTRATION = {
    Verdict.SUPPORTED: Verdict.TOWARDS,
    Verdict.CONTRADICTED: Verdict.AGAINST,
    Verdict.SAME: Verdict.UNDECIDED,
    Verdict.OPEN: Verdict.UNDECIDED,
}


def _decide(finding: Finding, apart: bool, same: bool) -> tuple[Verdict, str]:
    """Apply the rule to a difference that is shown to be one, or is shown to be small, or neither."""
    found, expect = finding.found, finding.part.expect
    if found is None:
        return Verdict.OPEN, ""
    if finding.lost:
        return Verdict.OPEN, _missing(finding)
    if same and finding.never == (0, 0):
        return (Verdict.SUPPORTED if expect == "same" else Verdict.SAME), ""
    if not apart or abs(found.difference) < finding.margin:
        return Verdict.OPEN, ""
    is_higher = found.difference > 0
    if finding.never[is_higher]:  # those of the side that looks lower, and may not be
        return Verdict.OPEN, "runs on the side that looks lower never got there"
    as_said = expect == ("higher" if is_higher else "lower")
    return (Verdict.SUPPORTED if as_said else Verdict.CONTRADICTED), ""


def _missing(finding: Finding) -> str:
    if finding.why:
        return finding.why
    if finding.untrained:
        return f"{finding.untrained} runs are not trained yet"
    return f"{finding.lost} of {finding.wanted} pairs have no value: a run diverged, or has none"


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a reading from those of its parts, of which there is one or more."""
    return next((verdict for verdict in _REFUTING if verdict in verdicts), verdicts[0])
