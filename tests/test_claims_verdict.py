"""The rule that decides claims: what each verdict requires, and how often it is wrong if there is no difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actbench import stats
from actbench.claims.evidence import Finding
from actbench.claims.measures import quantity
from actbench.claims.model import Expect, Part, Side
from actbench.claims.verdict import Verdict, combine, demonstrate, judge_parts
from actbench.stats import permutation

SEEDS = 13


def part(expect: Expect = "higher", margin: float = 0.01, *, log: bool = False) -> Part:
    metric = quantity("test_accuracy", "", None)
    return Part(metric, Side("relu"), Side("tanh"), expect, margin, log)


def finding(differences: Sequence[float], of: Part | None = None, **changes: Any) -> Finding:
    """Return the finding of runs whose sides differ by these amounts, seed by seed."""
    of = of or part()
    a, b = list(differences), [0.0] * len(differences)
    made = Finding(of, len(a), len(a), found=stats.paired(a, b))
    return replace(made, **{"equivalence_p": stats.tost_paired(a, b, made.margin), **changes})


def around(mean: float, spread: float, n: int = SEEDS, seed: int = 0) -> list[float]:
    """Return n numbers with exactly this mean and standard deviation."""
    x = np.random.default_rng(seed).normal(size=n)
    return ((x - x.mean()) / x.std(ddof=1) * spread + mean).tolist()


def verdict(one: Finding, family: int = 1) -> Verdict:
    return judge_parts([one], family)[0].verdict


@pytest.mark.parametrize(
    ("expect", "mean", "spread", "expected"),
    [
        ("higher", 0.03, 0.005, Verdict.SUPPORTED),
        ("lower", -0.03, 0.005, Verdict.SUPPORTED),
        ("higher", -0.03, 0.005, Verdict.CONTRADICTED),
        ("lower", 0.03, 0.005, Verdict.CONTRADICTED),
        ("same", 0.03, 0.005, Verdict.CONTRADICTED),
        ("same", 0.001, 0.005, Verdict.SUPPORTED),
        ("higher", 0.001, 0.005, Verdict.SAME),
        ("lower", 0.001, 0.005, Verdict.SAME),
        ("higher", 0.02, 0.1, Verdict.OPEN),
        ("same", 0.02, 0.1, Verdict.OPEN),
    ],
)
def test_each_verdict_follows_from_its_evidence(expect: Expect, mean: float, spread: float, expected: Verdict) -> None:
    assert verdict(finding(around(mean, spread), part(expect))) is expected


def test_a_significant_difference_below_the_margin_does_not_support_a_claim() -> None:
    close = finding(around(0.0095, 0.002), part("higher", 0.01))
    assert close.found is not None
    assert close.found.p < 0.05
    assert verdict(close) is Verdict.OPEN
    assert verdict(finding(around(0.005, 0.002), part("higher", 0.01))) is Verdict.SAME, (
        "significant, but too small to matter"
    )


def test_a_log_part_compares_with_the_logarithm_of_its_margin() -> None:
    twice = finding(around(math.log(2), 0.05), part("higher", 1.5, log=True))
    assert verdict(twice) is Verdict.SUPPORTED
    assert verdict(replace(twice, part=part("higher", 3.0, log=True))) is Verdict.OPEN


def test_too_few_seeds_leave_a_part_undecided_and_it_says_how_many_are_needed() -> None:
    clear = finding(around(0.1, 0.001, n=10))
    assert verdict(clear, family=25) is Verdict.SUPPORTED
    judged = judge_parts([clear], 100)[0]
    assert judged.verdict is Verdict.OPEN
    assert judged.why == "10 seeds cannot decide one of 100 contrasts; 12 can"


def test_thirteen_seeds_can_decide_one_of_200_contrasts() -> None:
    assert permutation.seeds_needed(200) == SEEDS
    assert verdict(finding(around(0.1, 0.001)), family=200) is Verdict.SUPPORTED


@pytest.mark.parametrize("change", [{"lost": 1}, {"untrained": 3, "found": None, "equivalence_p": None}])
def test_missing_runs_or_pairs_leave_a_part_undecided_and_are_reported(change: dict[str, Any]) -> None:
    judged = judge_parts([finding(around(0.1, 0.001), **change)], 1)[0]
    assert judged.verdict is Verdict.OPEN
    assert judged.why


def test_lower_bounds_decide_only_in_the_direction_that_they_understate() -> None:
    slower = finding(around(0.1, 0.01), part("higher"))
    assert verdict(replace(slower, never=(2, 0))) is Verdict.SUPPORTED, (
        "runs that never reached the threshold are even slower"
    )
    assert verdict(replace(slower, never=(0, 2))) is Verdict.OPEN, "the side that looks faster may be slower"
    faster = finding(around(-0.1, 0.01), part("lower"))
    assert verdict(replace(faster, never=(0, 2))) is Verdict.SUPPORTED
    assert verdict(replace(faster, never=(2, 0))) is Verdict.OPEN
    assert verdict(replace(finding(around(0.0, 0.001), part("same")), never=(1, 0))) is Verdict.OPEN


def test_a_reading_needs_all_its_parts_and_one_failed_part_refutes_it() -> None:
    good, bad, same, unknown = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.SAME, Verdict.OPEN
    assert combine([good, good]) is good
    assert combine([good, unknown]) is unknown
    assert combine([unknown, same, good]) is same
    assert combine([good, bad, same, unknown]) is bad
    assert combine([Verdict.TOWARDS, Verdict.UNDECIDED]) is Verdict.UNDECIDED


def test_a_demonstration_never_uses_the_words_of_a_verdict() -> None:
    words = {"supported", "contradicted", "no difference within the margin", "not decided"}
    cases = [
        finding(around(mean, 0.004, n=4), part(expect)) for mean in (-0.1, 0.0, 0.1) for expect in ("higher", "same")
    ]  # type: ignore[arg-type]
    judged = demonstrate([*cases, Finding(part(), 0, 4, untrained=1)])
    assert not words & {str(one.verdict) for one in judged}
    assert {one.verdict for one in judged} == {Verdict.TOWARDS, Verdict.AGAINST, Verdict.UNDECIDED}


# --- how often the rule is wrong -----------------------------------------------------------------------------------


def studies(mean: float, margin: float, *, count: int = 150, parts: int = 12) -> list[list[Verdict]]:
    """Return the verdicts of many studies whose differences have this true mean, in units of their spread."""
    draws = np.random.default_rng(7).normal(mean, 1.0, size=(count, parts, SEEDS))
    return [
        [one.verdict for one in judge_parts([finding(d.tolist(), part("higher", margin)) for d in study], parts)]
        for study in draws
    ]


def test_if_nothing_differs_a_study_is_rarely_wrong_even_once() -> None:
    wrong = [bool({Verdict.SUPPORTED, Verdict.CONTRADICTED} & set(found)) for found in studies(0.0, 1e-6)]
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(wrong))


def test_if_the_difference_equals_the_margin_a_study_rarely_reports_no_difference() -> None:
    wrong = [Verdict.SAME in found for found in studies(1.5, 1.5)]
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(wrong))


def test_large_differences_and_true_equality_are_detected() -> None:
    assert all(set(found) == {Verdict.SUPPORTED} for found in studies(4.0, 1.0, count=20))
    assert np.mean([found.count(Verdict.SAME) / len(found) for found in studies(0.0, 2.0, count=20)]) > 0.9


@given(st.lists(st.lists(st.floats(-1, 1), min_size=SEEDS, max_size=SEEDS), min_size=1, max_size=6), st.data())
def test_judging_some_parts_never_says_more_than_judging_all(values: list[list[float]], data: st.DataObject) -> None:
    all_findings = [finding(one) for one in values]
    known = data.draw(st.lists(st.sampled_from(range(len(values))), min_size=1, unique=True))
    whole = judge_parts(all_findings, len(values))
    for k, judged in zip(known, judge_parts([all_findings[k] for k in known], len(values)), strict=True):
        assert judged.adjusted_p is not None
        assert whole[k].adjusted_p is not None
        assert judged.adjusted_p >= whole[k].adjusted_p - 1e-12
        assert judged.verdict in (whole[k].verdict, Verdict.OPEN)
