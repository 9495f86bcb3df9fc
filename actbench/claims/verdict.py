"""The rule that turns findings into verdicts.

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

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from actbench import stats
from actbench.claims.evidence import Finding
from actbench.text import plural

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
_IN_A_DEMONSTRATION = {
    Verdict.SUPPORTED: Verdict.TOWARDS,
    Verdict.CONTRADICTED: Verdict.AGAINST,
    Verdict.SAME: Verdict.UNDECIDED,
    Verdict.OPEN: Verdict.UNDECIDED,
}


@dataclass(frozen=True)
class JudgedPart:
    """A finding with its verdict.

    adjusted_p, equivalence_p: adjusted by Holm; None if there is nothing to compare. why: what prevented a decision.
    """

    finding: Finding
    verdict: Verdict
    adjusted_p: float | None = None
    equivalence_p: float | None = None
    why: str = ""


def judge_parts(findings: Sequence[Finding], family: int, *, alpha: float = ALPHA) -> list[JudgedPart]:
    """Judge the known findings of a family of `family` parts; the unknown ones count as p = 1."""
    unknown = [1.0] * (family - len(findings))
    differences = [one.found.p if one.found is not None else 1.0 for one in findings]
    equivalences = [one.equivalence_p if one.equivalence_p is not None else 1.0 for one in findings]
    adjusted, same = (stats.holm([*ps, *unknown])[: len(findings)].tolist() for ps in (differences, equivalences))
    return [_judge_part(*known, family, alpha) for known in zip(findings, adjusted, same, strict=True)]


def _judge_part(finding: Finding, p: float, same_p: float, family: int, alpha: float) -> JudgedPart:
    found = finding.found
    verdict, why = _decide(finding, p < alpha, same_p < alpha)
    if found is None:
        return JudgedPart(finding, verdict, why=why)
    if verdict is Verdict.OPEN and not why and found.smallest_p * family >= alpha:
        needed = stats.seeds_needed(family, alpha)
        why = f"{plural(found.n, 'seed')} cannot decide one of {family} contrasts; {needed} can"
    return JudgedPart(finding, verdict, p, same_p, why)


def demonstrate(findings: Sequence[Finding], *, alpha: float = ALPHA) -> list[JudgedPart]:
    """Report what each finding of a demonstration points to."""
    judged = []
    for one in findings:
        interval = one.found.interval if one.found is not None else None
        differs = interval is not None and not interval.low <= 0 <= interval.high
        verdict, why = _decide(one, differs, one.equivalence_p is not None and one.equivalence_p < alpha)
        judged.append(JudgedPart(one, _IN_A_DEMONSTRATION[verdict], why=why))
    return judged


def _decide(finding: Finding, differs: bool, same: bool) -> tuple[Verdict, str]:
    """Return the verdict, and why there is none if the finding itself prevents it.

    differs: the difference is shown not to be 0. same: it is shown to be below the margin.
    """
    found, expect = finding.found, finding.part.expect
    if found is None or finding.lost:
        return Verdict.OPEN, _missing(finding)
    if same and finding.never == (0, 0):
        return (Verdict.SUPPORTED if expect == "same" else Verdict.SAME), ""
    if not differs or abs(found.difference) < finding.margin:
        return Verdict.OPEN, ""
    is_higher = found.difference > 0
    if finding.never[is_higher]:  # the side that looks lower has lower bounds, so it may be higher
        return Verdict.OPEN, "runs on the side that looks lower never reached the threshold"
    as_predicted = expect == ("higher" if is_higher else "lower")
    return (Verdict.SUPPORTED if as_predicted else Verdict.CONTRADICTED), ""


def _missing(finding: Finding) -> str:
    if finding.why:
        return finding.why
    if finding.untrained:
        return f"{plural(finding.untrained, 'run')} not trained yet"
    return f"{finding.lost} of {finding.wanted} pairs have no value: a run diverged or did not measure it"


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a reading from the verdicts of its parts (at least one)."""
    return next((verdict for verdict in _REFUTING if verdict in verdicts), verdicts[0])
