"""Statistics: they agree with scipy and with what can be worked out by hand, and keep the error rate they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as reference

from actbench import stats
from actbench.comparison.contrasts import Sample, contrasts
from actbench.comparison.quantities import quantity
from actbench.stats import Interval, permutation

quick = settings(derandomize=True, deadline=None, max_examples=60)
accuracies = st.floats(0.9, 1.0).map(lambda x: round(x, 4))
ACCURACY = quantity("test_accuracy", [])


def drawn(seed: int, *shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def as_sample(values: NDArray[np.float64], first_seed: int = 0) -> Sample:
    return Sample({(first_seed + i, ()): float(value) for i, value in enumerate(values)}, 0)


# --- against scipy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_the_paired_interval_is_that_of_scipys_paired_t_test(n: int) -> None:
    a, b = drawn(1, n), drawn(2, n) + 0.3
    found = stats.paired(a, b, 0.9)
    expected = reference.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.9)
    assert found.interval == pytest.approx((low, high), rel=1e-9)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.effect == pytest.approx(expected.statistic / math.sqrt(n))


@pytest.mark.parametrize(("n", "m"), [(2, 3), (8, 8), (5, 20)])
def test_the_unpaired_interval_is_welchs_and_p_is_mann_whitneys(n: int, m: int) -> None:
    a, b = drawn(3, n), 2 * drawn(4, m) - 0.5
    found = stats.unpaired(a, b)
    low, high = reference.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high), rel=1e-9)
    assert found.p == pytest.approx(reference.mannwhitneyu(a, b).pvalue)
    assert found.method == "unpaired"
    assert found.n == min(n, m)
    assert found.smallest_p == pytest.approx(2 / math.comb(n + m, n))


@pytest.mark.parametrize("n", [2, 5, 9, 11])
def test_the_sign_flip_p_is_scipys_exact_permutation_p(n: int) -> None:
    d = drawn(n, n) + 0.4
    expected = reference.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert permutation.sign_flip(d) == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_sign_flip_p_counts_equal_sums_of_rounded_differences() -> None:
    # (0.1, 0.2, 0.3): the sum 0.6 and its mirror image only; (0.3, -0.1, -0.2): every pattern reaches |0|.
    assert permutation.sign_flip([0.1, 0.2, 0.3]) == 0.25
    assert permutation.sign_flip([0.3, -0.1, -0.2]) == 1.0
    # Sums of ±0.1 ±0.2 ±0.3 with |sum| >= 0.4: ±0.6 and ±(0.3 + 0.2 - 0.1), although 0.1 is no binary fraction.
    assert permutation.sign_flip([-0.1, 0.2, 0.3]) == 0.5


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125), (20, 2**-19)])
def test_the_least_p_of_n_pairs_is_2_over_2_to_the_n(n: int, p: float) -> None:
    d = np.linspace(1, 2, n)
    assert permutation.sign_flip(d) == p
    assert permutation.sign_flip(-d) == p
    assert permutation.smallest_p(n) == p


def test_above_twenty_pairs_p_is_drawn_close_to_the_exact_one_and_never_zero() -> None:
    d = drawn(5, 22) + 0.35
    signs = np.array(list(itertools.product((-1, 1), repeat=11)))
    sums = (signs @ d[:11])[:, None] + (signs @ d[11:])[None, :]
    exact = float((np.abs(sums) >= abs(d.sum()) - 1e-9).mean())
    assert permutation.sign_flip(d) == pytest.approx(exact, abs=4 * math.sqrt(exact / permutation.SIGN_DRAWS))
    assert permutation.sign_flip(np.ones(40)) == 1 / (permutation.SIGN_DRAWS + 1)


@pytest.mark.parametrize("n", [21, 24, 100, 1003])
def test_drawn_signs_give_the_p_of_their_plain_products(n: int) -> None:
    d = drawn(n, n) + 1 / math.sqrt(n)
    signs = 1 - 2 * np.random.default_rng(n).integers(0, 2, size=(permutation.SIGN_DRAWS, n), dtype=np.int8)
    hits = int((np.abs(signs @ np.sort(np.abs(d))) >= abs(d.sum()) - 1e-9).sum())
    assert permutation.sign_flip(d) == (hits + 1) / (permutation.SIGN_DRAWS + 1)


@pytest.mark.parametrize("n", [2, 6, 20])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_t_interval_is_scipys(n: int, confidence: float) -> None:
    x = drawn(6, n)
    expected = reference.t.interval(confidence, n - 1, loc=x.mean(), scale=reference.sem(x))
    assert stats.t_interval(x, confidence) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 3), (4, 6), (8, 8), (20, 20), (9, 31)])
def test_without_ties_rank_sums_are_counted_as_scipys_exact_test_does(n: int, m: int) -> None:
    for shift in (0.0, 1.0):
        a, b = drawn(40, n) + shift, drawn(41, m)
        assert permutation.mann_whitney(a, b) == pytest.approx(reference.mannwhitneyu(a, b, method="exact").pvalue)


def test_above_forty_runs_rank_sums_are_scipys() -> None:
    a, b = drawn(42, 30), drawn(43, 25) + 0.5
    assert permutation.mann_whitney(a, b) == reference.mannwhitneyu(a, b).pvalue


@quick
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_with_ties_rank_sums_are_those_of_every_way_to_deal_the_runs_out(a: list[int], b: list[int]) -> None:
    both = reference.rankdata([*a, *b])
    sums = [sum(chosen) for chosen in itertools.combinations(both, len(a))]
    own = sum(both[: len(a)])
    tails = sum(s <= own for s in sums), sum(s >= own for s in sums)
    assert permutation.mann_whitney(a, b) == pytest.approx(min(1.0, 2 * min(tails) / len(sums)))


def test_three_runs_against_three_are_never_significant_ties_or_not() -> None:
    # scipy takes the normal approximation where there are ties, and calls this 0.047.
    assert reference.mannwhitneyu([1, 1, 1], [0, 0, 0]).pvalue < 0.05
    assert permutation.mann_whitney([1, 1, 1], [0, 0, 0]) == pytest.approx(0.1)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    a, b = drawn(7, 10) + 0.2, drawn(8, 10)
    above = reference.ttest_1samp(a - b, -1.5, alternative="greater").pvalue
    below = reference.ttest_1samp(a - b, 1.5, alternative="less").pvalue
    assert stats.tost_paired(a, b, 1.5) == pytest.approx(max(above, below))
    above = reference.ttest_ind(a + 1.5, b, equal_var=False, alternative="greater").pvalue
    below = reference.ttest_ind(a - 1.5, b, equal_var=False, alternative="less").pvalue
    assert stats.tost_welch(a, b, 1.5) == pytest.approx(max(above, below))


def test_equivalence_needs_two_values_and_a_margin_above_zero() -> None:
    assert stats.tost_paired([1.0], [1.0], 0.1) is None
    assert stats.tost_welch([1.0, 2.0], [1.0], 0.1) is None
    with pytest.raises(ValueError, match="margin must be > 0"):
        stats.tost_paired([1.0, 2.0], [1.0, 2.5], 0.0)


def test_equal_values_are_equivalent_within_any_margin_and_a_constant_gap_only_below_it() -> None:
    assert stats.tost_paired([0.5, 0.7], [0.5, 0.7], 1e-6) == 0.0
    assert stats.tost_paired([0.6, 0.8], [0.5, 0.7], 0.05) == 1.0


# --- by hand -------------------------------------------------------------------------------------------------


def test_holm_multiplies_the_smallest_most_and_never_reverses_an_order() -> None:
    # 0.01 * 4, then max(0.04, 0.02 * 3), then max(0.06, 0.03 * 2), then max(0.06, 0.04 * 1)
    assert stats.holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert stats.holm([0.2]).tolist() == [0.2]
    assert stats.holm([]).tolist() == []


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_p_and_bonferronis(p: list[float]) -> None:
    adjusted = stats.holm(p)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, np.array(p) * len(p) + 1e-12))


def test_ties_count_half_in_the_probability_that_a_beats_b() -> None:
    assert stats.paired([1, 2, 3, 4], [0, 2, 3, 5]).superiority == (1 + 2 / 2) / 4
    assert stats.unpaired([1, 2], [1, 0, 3]).superiority == pytest.approx((1 / 2 + 1 + 1 + 1) / 6)
    assert stats.paired([2, 2], [1, 1]).superiority == 1.0


def test_hedges_g_is_the_pooled_difference_with_the_small_sample_factor() -> None:
    # Both sides have variance 2; the difference is 3, and the factor for 4 runs is 1 - 3/7.
    found = stats.unpaired([4, 6], [1, 3])
    assert found.effect == pytest.approx(3 / math.sqrt(2) * (1 - 3 / 7))
    assert found.effect_name == "g"


def test_the_paired_effect_is_the_mean_over_the_spread_of_the_differences() -> None:
    found = stats.paired([1, 2, 3], [0, 0, 0])
    assert found.effect == pytest.approx(2.0)
    assert found.effect_name == "d_z"


def test_mean_and_sd_are_none_where_there_is_too_little() -> None:
    assert stats.mean([]) is None
    assert stats.sd([1.0]) is None
    assert stats.t_interval([1.0]) is None
    assert stats.mean([1.0, 3.0]) == 2.0
    assert stats.sd([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_an_interval_of_a_share_is_clipped_to_what_a_share_can_be() -> None:
    assert Interval(-0.1, 1.2).clipped() == (0.0, 1.0)
    assert Interval(0.2, 0.4).clipped() == (0.2, 0.4)
    assert Interval(0.2, 0.4).half == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("comparisons", "alpha", "needed"), [(1, 0.05, 6), (3, 0.05, 7), (1, 0.0625, 6), (1, 0.01, 8), (10, 0.05, 9)]
)
def test_the_seeds_needed_are_the_fewest_whose_least_p_is_below_alpha(
    comparisons: int, alpha: float, needed: int
) -> None:
    assert permutation.seeds_needed(comparisons, alpha) == needed
    assert comparisons * permutation.smallest_p(needed) < alpha <= comparisons * permutation.smallest_p(needed - 1)


@pytest.mark.parametrize(("comparisons", "needed"), [(1, 4), (3, 5), (10, 6), (500, 9)])
def test_unpaired_runs_need_fewer_seeds_as_there_are_more_ways_to_deal_them_out(comparisons: int, needed: int) -> None:
    assert permutation.seeds_needed(comparisons, paired=False) == needed
    least, before = (permutation.smallest_p_unpaired(n, n) for n in (needed, needed - 1))
    assert comparisons * least < 0.05 <= comparisons * before
    assert least == pytest.approx(permutation.mann_whitney(range(needed), range(100, 100 + needed)))


# --- degenerate inputs ---------------------------------------------------------------------------------------


def test_equal_runs_differ_by_nothing_with_p_1() -> None:
    found = stats.paired([0.9, 0.95, 0.97], [0.9, 0.95, 0.97])
    assert (found.difference, found.p, found.effect, found.superiority) == (0.0, 1.0, None, 0.5)
    assert found.interval == (0.0, 0.0)
    assert stats.unpaired([0.9, 0.9], [0.9, 0.9]).p == 1.0


def test_rounding_errors_are_not_differences() -> None:
    a = [0.1 + 0.2, 0.7 + 0.1, 0.3 + 0.6]
    assert a[0] != 0.3
    assert stats.paired(a, [0.3, 0.8, 0.9]).p == 1.0
    assert stats.sd([0.1 + 0.2, 0.3]) == 0.0


def test_one_pair_has_a_difference_but_no_interval() -> None:
    found = stats.paired([0.9], [0.8])
    assert found.difference == pytest.approx(0.1)
    assert (found.interval, found.effect, found.p) == (None, None, 1.0)
    alone = stats.unpaired([0.9], [0.8, 0.7])
    assert (alone.interval, alone.effect) == (None, None)


def test_a_constant_difference_has_an_interval_of_width_zero_and_no_effect_size() -> None:
    found = stats.paired([0.5, 0.75, 1.0], [0.25, 0.5, 0.75])
    assert found.interval == (0.25, 0.25)
    assert found.effect is None
    assert found.p == 0.25
    apart = stats.unpaired([2.0, 2.0], [1.0, 1.0])
    assert (apart.interval, apart.effect) == ((1.0, 1.0), None)


def test_sides_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="as many values on both sides"):
        stats.paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least one"):
        stats.paired([], [])
    with pytest.raises(ValueError, match="at least one value on each side"):
        stats.unpaired([1.0], [])
    with pytest.raises(ValueError, match="at least one difference"):
        permutation.sign_flip([])


@pytest.mark.parametrize("n", [2, 7, 3000])
def test_the_share_of_wins_is_counted_over_all_pairs_of_runs(n: int) -> None:
    a, b = np.round(drawn(30, n), 1), np.round(drawn(31, 40) - 0.3, 1)
    expected = np.mean(a[:, None] > b) + np.mean(a[:, None] == b) / 2
    assert stats.unpaired(a, b).superiority == pytest.approx(expected)


def test_rounding_errors_are_ties_for_ranks_too() -> None:
    assert 0.1 + 0.2 != 0.3
    assert stats.unpaired([0.1 + 0.2, 0.5], [0.3, 0.5]).p == stats.unpaired([0.3, 0.5], [0.3, 0.5]).p == 1.0
    assert stats.unpaired([0.1 + 0.2], [0.3]).superiority == 0.5


def test_many_thousand_runs_are_no_trouble() -> None:
    a, b = drawn(32, 2, 5000)
    for found in (stats.paired(a, b), stats.unpaired(a, b)):
        assert 0 < found.p <= 1
        assert abs(found.superiority - 0.5) < 0.05


# --- verdicts ------------------------------------------------------------------------------------------------


def test_below_six_pairs_there_is_no_verdict_however_large_the_difference() -> None:
    five = stats.paired(np.arange(5) + 10, np.zeros(5))
    assert stats.verdict(five, five.p) == "needs >= 6 seeds"
    assert stats.verdict(five, five.p, equivalence_p=0.001) == "needs >= 6 seeds"
    six = stats.paired(np.arange(6) + 10, np.zeros(6))
    assert stats.verdict(six, six.p) == "better"


@pytest.mark.parametrize(("n", "expected"), [(1, "needs >= 4 seeds"), (3, "needs >= 4 seeds"), (4, "better")])
def test_unpaired_runs_get_a_verdict_once_their_smallest_p_can_reach_it(n: int, expected: str) -> None:
    found = stats.unpaired(np.arange(n) + 10.0, np.arange(n) + 0.5)
    assert found.p == pytest.approx(found.smallest_p)
    assert stats.verdict(found, found.p) == expected


def test_a_single_run_gets_no_verdict_however_many_stand_against_it() -> None:
    found = stats.unpaired([10.0], np.arange(60) / 60)
    assert found.p < 0.05
    assert stats.verdict(found, found.p) == "needs >= 4 seeds"
    assert not stats.significant(found, found.p)


def test_ranks_and_means_that_point_apart_give_no_verdict() -> None:
    a = [0.980, 0.981, 0.982, 0.983, 0.984, 0.985, 0.986, 0.1]  # mostly better, once far worse
    b = [0.970, 0.971, 0.972, 0.973, 0.974, 0.975, 0.976, 0.977]
    found = stats.unpaired(a, b)
    assert found.p < 0.05
    assert found.difference < 0 < found.superiority - 0.5
    assert stats.verdict(found, found.p) == "~"
    assert stats.paired(a, b).one_way


def test_many_comparisons_need_more_seeds() -> None:
    six = stats.paired(np.arange(6) + 10, np.zeros(6))
    found = stats.verdict(six, 3 * six.p, comparisons=3, smallest_adjusted_p=3 * six.smallest_p)
    assert found == "needs >= 7 seeds"


@pytest.mark.parametrize(
    ("better", "sign", "expected"),
    [
        ("higher", 1, "better"),
        ("higher", -1, "worse"),
        ("lower", 1, "worse"),
        ("lower", -1, "better"),
        ("neither", 1, "higher"),
        ("neither", -1, "lower"),
    ],
)
def test_a_verdict_says_what_is_good_about_a_metric(better: stats.Better, sign: int, expected: str) -> None:
    found = stats.paired(sign * (np.arange(8) + 1.0), np.zeros(8))
    assert stats.verdict(found, 0.01, better=better) == expected
    assert stats.verdict(found, 0.05, better=better) == "~"
    assert stats.verdict(found, 0.01, better=better, equivalence_p=0.01) == "equivalent"


# --- error rates ---------------------------------------------------------------------------------------------


def test_under_the_null_a_pair_of_variants_gets_a_verdict_as_rarely_as_promised() -> None:
    tables = 2000
    x = drawn(11, tables, 2, 8)
    found = [stats.paired(a, b) for a, b in x]
    wrong = sum(stats.verdict(one, one.p) != "~" for one in found)
    # p is a multiple of 2/256: the test's exact size is 12/256, just below 0.05.
    assert reference.binom.ppf(0.0005, tables, 12 / 256) <= wrong <= reference.binom.ppf(0.9995, tables, 12 / 256)
    covered = sum(one.interval is not None and one.interval.low <= 0 <= one.interval.high for one in found)
    assert reference.binom.ppf(0.0005, tables, 0.95) <= covered <= reference.binom.ppf(0.9995, tables, 0.95)


@pytest.mark.parametrize("kept", [8, 0], ids=["paired", "unpaired"])
def test_under_the_null_a_whole_table_has_any_verdict_at_most_as_often_as_alpha(kept: int) -> None:
    tables = 2000
    wrong = 0
    for table in drawn(12, tables, 4, 8):
        samples = [as_sample(values, 8 * i if not kept else 0) for i, values in enumerate(table)]
        found = contrasts(samples, samples[0], ACCURACY, 0.05)
        assert {one.found.method for one in found if one} == {"paired" if kept else "unpaired"}
        wrong += any(one is not None and one.verdict in ("better", "worse") for one in found)
    # Holm over three rows with one baseline in common errs less often than alpha, but not never.
    assert 0.01 * tables < wrong <= reference.binom.ppf(0.9995, tables, 0.05)


@pytest.mark.parametrize("n", [4, 10])
def test_under_the_null_unpaired_runs_get_a_verdict_as_rarely_as_promised(n: int) -> None:
    tables = 2000
    found = [stats.unpaired(a, b) for a, b in drawn(15, tables, 2, n)]
    wrong = sum(stats.verdict(one, one.p) != "~" for one in found)
    sizes = np.unique([one.p for one in found])
    size = max(p for p in sizes if p < 0.05)  # p is discrete: the exact size of the test
    assert reference.binom.ppf(0.0005, tables, size) <= wrong <= reference.binom.ppf(0.9995, tables, size)


def test_at_the_margin_two_variants_are_called_equivalent_as_rarely_as_promised() -> None:
    tables = 2000
    found = [stats.tost_paired(a + 1.0, b, 1.0) for a, b in drawn(16, tables, 2, 8)]
    wrong = sum(p is not None and p < 0.05 for p in found)
    assert wrong <= reference.binom.ppf(0.9995, tables, 0.05)
    assert wrong > reference.binom.ppf(0.0005, tables, 0.04)


def test_without_holm_a_table_would_break_that_promise() -> None:
    x = drawn(12, 600, 9, 8)
    wrong = sum(any(permutation.sign_flip(row - table[0]) < 0.05 for row in table[1:]) for table in x)
    assert wrong > reference.binom.ppf(0.9995, 600, 0.05)


@pytest.mark.parametrize(("effect", "n"), [(0.8, 10), (1.2, 10), (2.1, 8)])
def test_a_known_effect_is_found_about_as_often_as_a_t_test_finds_it_and_called_by_its_side(
    effect: float, n: int
) -> None:
    tables = 400
    pairs = drawn(13, tables, n) + effect  # the differences: their mean is `effect` spreads
    verdicts = [stats.verdict(one, one.p) for one in (stats.paired(d, np.zeros(n)) for d in pairs)]
    critical = reference.t.ppf(0.975, n - 1)
    power = 1 - reference.nct.cdf(critical, n - 1, effect * math.sqrt(n))
    assert verdicts.count("better") / tables == pytest.approx(power, abs=0.08)
    assert "worse" not in verdicts


@pytest.mark.parametrize("n", [3, 8])
def test_a_t_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    found = [stats.t_interval(x) for x in drawn(14, 2000, n)]
    covered = sum(one is not None and one.low <= 0 <= one.high for one in found)
    assert reference.binom.ppf(0.0005, 2000, 0.95) <= covered <= reference.binom.ppf(0.9995, 2000, 0.95)


# --- invariants ----------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(pairs: list[tuple[float, float]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (stats.paired(*zip(*some, strict=True)) for some in (pairs, shuffled))
    assert first.p == second.p
    assert first.superiority == second.superiority
    assert first.difference == pytest.approx(second.difference, abs=1e-12)


@quick
@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=9))
def test_exchanging_the_sides_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    for compare in (stats.paired, stats.unpaired):
        forth, back = compare(a, b), compare(b, a)
        assert back.difference == pytest.approx(-forth.difference, abs=1e-12)
        assert back.p == pytest.approx(forth.p)
        assert back.superiority == pytest.approx(1 - forth.superiority)


@quick
@given(st.lists(accuracies, min_size=1, max_size=9))
def test_p_is_a_share_of_the_sign_patterns(differences: list[float]) -> None:
    p = permutation.sign_flip(differences)
    assert permutation.smallest_p(len(differences)) <= p <= 1
    assert (p * 2 ** len(differences)).is_integer()
