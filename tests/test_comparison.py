"""Comparisons: which runs belong together, what differs, and what so few seeds cannot show."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.comparison import Comparison, ComparisonRow, compare, failing, pivot, undecided
from actbench.comparison.groups import group_runs, is_diverged, order
from actbench.comparison.quantities import number, quantity
from actbench.errors import ActbenchError, UnknownNameError, UsageError
from actbench.tables import FORMATS, write_comparison
from actbench.text import value_text

# Noise of eight seeds; what is added to it decides who is better.
NOISE = (0.0, 0.0011, -0.0004, 0.0007, -0.0009, 0.0002, 0.0005, -0.0006)
OTHER = (0.0003, -0.0008, 0.0009, -0.0001, 0.0004, -0.0005, 0.0, 0.0006)


def run(activation: str = "relu", seed: int = 0, accuracy: float | None = 0.97, **more: Any) -> dict[str, Any]:
    row = {"name": activation, "dataset": "mnist", "activation": activation, "lr": 0.01, "seed": seed}
    row |= {"status": "done", "test_accuracy": accuracy, "dead_ratio": 0.1, "wall_s": 2.0}
    return {**row, **more}


def runs(activation: str = "relu", base: float = 0.97, seeds: int = 8, **more: Any) -> list[dict[str, Any]]:
    noise = NOISE if activation == "relu" else OTHER
    return [run(activation, seed, base + noise[seed % 8], **more) for seed in range(seeds)]


def row_of(found: Comparison, label: str, dataset: str = "mnist") -> ComparisonRow:
    (row,) = (row for row in found.rows if row.label == label and row.dataset == dataset)
    return row


def verdict(found: Comparison, label: str, metric: str = "test_accuracy") -> str | None:
    contrast = row_of(found, label).results[metric].contrast
    return contrast.verdict if contrast else None


def labels(found: Comparison) -> list[str]:
    return [row.label for row in found.rows]


def notes(found: Comparison) -> str:
    return "\n".join(found.footnotes)


# --- groups --------------------------------------------------------------------------------------------------


def test_by_default_a_row_is_a_variant_labelled_with_its_name() -> None:
    found = compare(runs("tanh", 0.95) + runs())
    assert labels(found) == ["relu", "tanh"]
    assert [row.n for row in found.rows] == [8, 8]
    assert found.columns == ("label",)


def test_variants_of_the_same_name_are_told_apart_by_what_differs() -> None:
    found = compare([*runs(lr=0.1), *runs(lr=0.2), *runs("tanh")])
    assert sorted(labels(found)) == ["relu lr=0.1", "relu lr=0.2", "tanh"]


def test_keys_make_rows_and_name_columns() -> None:
    rows = [run(a, s, lr=lr) for a in ("relu", "tanh") for lr in (0.1, 0.01) for s in range(2)]
    found = compare(rows, by=["activation", "lr"])
    assert found.columns == ("activation", "lr")
    assert {(r.keys["activation"], r.keys["lr"]) for r in found.rows} == {
        ("relu", 0.1), ("relu", 0.01), ("tanh", 0.1), ("tanh", 0.01)
    }  # fmt: skip
    assert {r.label for r in found.rows} >= {"relu lr=0.1", "tanh lr=0.01"}
    only = compare(runs() + runs("tanh"), by=["activation", "lr"], only_changed=True)
    assert only.columns == ("activation",)


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown column 'activaton'; did you mean 'activation'"):
        compare(runs(), by=["activaton"])


def test_the_same_run_from_two_folders_counts_once() -> None:
    rows = [run(seed=s, run_id=f"relu-{s}") for s in range(3)]
    found = compare([*rows, *(dict(row) for row in rows)])
    assert found.rows[0].n == 3
    assert "Counted once although stored more than once: 3 runs." in notes(found)
    without_ids = compare([*runs(seeds=2), *runs(seeds=2)])
    assert without_ids.rows[0].n == 2


def test_a_run_trained_again_with_other_results_is_one_seed_with_their_mean_and_it_is_said() -> None:
    rows = [run(seed=s, run_id=f"relu-{s}", accuracy=0.97 + s / 1000, torch_version="2.12") for s in range(3)]
    again = [{**row, "test_accuracy": row["test_accuracy"] + 0.002, "torch_version": "2.13"} for row in rows]
    for some in (rows + again, again + rows):
        found = compare(some)
        estimate = found.rows[0].results["test_accuracy"].estimate
        assert (found.rows[0].n, estimate.n) == (6, 3)
        assert estimate.mean == pytest.approx(0.972)
        assert (
            "Stored again with different results or times: 3 runs. The value of a seed is the mean of its runs."
            in notes(found)
        )
        assert "The runs differ in torch_version: 2.12, 2.13." in found.footnotes


def test_rows_that_share_a_label_are_not_said_to_be_trained_again_unless_their_run_id_says_so() -> None:
    rows = runs(seeds=3) + [{**row, "test_accuracy": row["test_accuracy"] + 0.002} for row in runs(seeds=3)]
    found = compare(rows)
    assert (found.rows[0].n, found.rows[0].results["test_accuracy"].estimate.n) == (6, 3)
    assert "Same label, settings and seed as another row, but other results, and no run_id: 3 rows." in notes(found)
    assert "Stored again" not in notes(found)
    settings = [{**row, "run_id": f"x{row['seed']}", "lr": 0.1 * (i // 3 + 1)} for i, row in enumerate(rows)]
    merged = compare(settings, by=["activation"])
    assert "Rows average over settings that vary within them (lr: 0.1, 0.2)" in notes(merged)
    assert "Stored again" not in notes(merged)


def test_a_copy_with_fewer_columns_is_a_copy() -> None:
    rows = [run(seed=s, run_id=f"relu-{s}", train_accuracy=0.99) for s in range(3)]
    short = [{key: row[key] for key in ("run_id", "name", "seed", "test_accuracy")} for row in rows]
    found = compare([*rows, *short])
    assert (len(found.rows), found.rows[0].n) == (1, 3)
    assert "Counted once although stored more than once: 3 runs." in found.footnotes


def test_of_a_run_that_failed_in_one_place_and_ended_in_another_the_end_counts() -> None:
    rows = [run(seed=s, run_id=f"relu-{s}", status=status) for s in range(2) for status in ("failed", "done")]
    found = compare(rows)
    assert (found.rows[0].n, found.rows[0].failed) == (2, 0)
    both = compare([run(run_id="relu-0"), run(run_id="relu-0", status="diverged", accuracy=None)])
    assert (both.rows[0].n, both.rows[0].diverged) == (2, 1)  # both are results: neither may hide the other


def test_runs_without_seeds_are_compared_unpaired_in_any_order() -> None:
    rows = [run("relu", 0, 0.97 + x) for x in NOISE] + [run("tanh", 0, 0.9 + x) for x in OTHER]
    rows = [{**row, "seed": None} for row in rows]
    for some in (rows, rows[::-1]):
        found = compare(some)
        contrast = row_of(found, "tanh").results["test_accuracy"].contrast
        assert contrast is not None
        assert (contrast.found.method, contrast.found.n, contrast.verdict) == ("unpaired", 8, "worse")
        assert row_of(found, "relu").results == row_of(compare(rows), "relu").results


def test_datasets_are_never_averaged_together() -> None:
    rows = [*runs(), *runs("tanh", 0.9), *runs(base=0.8, dataset="kmnist"), *runs("tanh", 0.85, dataset="kmnist")]
    found = compare(rows)
    assert [(r.dataset, r.label) for r in found.rows] == [
        ("kmnist", "tanh"), ("kmnist", "relu"), ("mnist", "relu"), ("mnist", "tanh")
    ]  # fmt: skip
    assert found.columns[:2] == ("dataset", "label")
    assert "2 datasets: rows are compared within each dataset and never averaged over them." in found.footnotes
    assert row_of(found, "tanh", "kmnist").results["test_accuracy"].rank == "best"
    assert row_of(found, "relu", "mnist").results["test_accuracy"].rank == "best"
    contrast = row_of(found, "tanh", "kmnist").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.comparisons == 1
    assert contrast.found.difference == pytest.approx(0.05, abs=0.001)


def test_a_dataset_without_the_baseline_says_so() -> None:
    found = compare([*runs(), *runs("tanh"), *runs("tanh", dataset="kmnist")])
    assert "kmnist has no row relu to compare its rows with." in notes(found)
    assert row_of(found, "tanh", "kmnist").results["test_accuracy"].contrast is None


def test_settings_are_sorted_numbers_first_and_shown_as_in_yaml() -> None:
    assert sorted([None, "b", 10, 2.5, "a"], key=order) == [2.5, 10, "a", "b", None]
    assert [value_text(v) for v in (None, True, 0.001, 3, "x")] == ["none", "true", "0.001", "3", "x"]


def test_a_missing_setting_and_nan_are_the_same_setting() -> None:
    grouping = group_runs([run(seed=0, dropout=None), run(seed=1, dropout=float("nan")), run(seed=2)])
    assert len(grouping.groups) == 1


# --- the baseline --------------------------------------------------------------------------------------------


def test_the_baseline_is_relu_or_else_the_first_by_its_settings_whoever_is_best() -> None:
    assert compare(runs("tanh", 0.99) + runs()).baseline == "relu"
    for silu in (0.98, 0.995):
        assert compare(runs("tanh", 0.99) + runs("silu", silu)).baseline == "silu"
    assert compare([*runs("tanh", 0.9, lr=0.1), *runs("tanh", 0.99, lr=0.01)], by=["lr"]).baseline == "0.01"
    many = [*runs(base=0.9, lr=0.001), *runs(base=0.99, lr=0.1), *runs("tanh", lr=0.1)]
    assert compare(many, by=["activation", "lr"], sort="-lr").baseline == "relu lr=0.001"


@pytest.mark.parametrize("wanted", ["tanh", "TANH", "activation=tanh"])
def test_a_baseline_is_named_by_label_name_or_key(wanted: str) -> None:
    found = compare(runs("tanh") + runs(), by=["activation"], baseline=wanted)
    assert found.baseline == "tanh"
    assert row_of(found, "tanh").is_baseline
    assert not row_of(found, "relu").is_baseline


def test_an_unknown_baseline_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown baseline 'relo'; did you mean 'relu'"):
        compare(runs("tanh") + runs(), baseline="relo")


def test_a_baseline_that_matches_several_rows_is_refused_with_their_labels() -> None:
    with pytest.raises(UsageError, match=r"matches several rows: relu lr=0\.1, relu lr=0\.2; give one"):
        compare(runs(lr=0.1) + runs(lr=0.2), baseline="relu", sort="label")


# --- pairs and verdicts --------------------------------------------------------------------------------------


def test_runs_are_paired_by_seed() -> None:
    seeds = range(8)
    rows = [run("relu", s, 0.9 + s / 100) for s in seeds]
    rows += [run("tanh", s, 0.905 + s / 100 + s / 1e5) for s in reversed(seeds)]
    contrast = row_of(compare(rows), "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.found.method == "paired"
    # Unpaired, a spread of 0.024 would hide a difference of 0.005.
    assert contrast.found.p == 2 / 2**8
    assert contrast.verdict == "better"
    assert contrast.significant


def test_runs_that_share_no_seeds_are_compared_unpaired_and_it_is_said() -> None:
    rows = runs() + [run("tanh", 100 + s, 0.95 + OTHER[s]) for s in range(8)]
    found = compare(rows)
    contrast = row_of(found, "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.found.method == "unpaired"
    assert contrast.verdict == "worse"
    (position,) = row_of(found, "tanh").notes
    assert found.footnotes[position - 1] == "Not paired by seed: Welch's interval and the Mann-Whitney test."


def test_seeds_without_a_partner_are_left_out_and_it_is_said() -> None:
    found = compare(runs() + runs("tanh", 0.96, seeds=6))
    contrast = row_of(found, "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert (contrast.found.n, contrast.unmatched) == (6, 2)
    assert "Seeds without a partner in the baseline" in notes(found)


@pytest.mark.parametrize(("shift", "method", "n"), [(0, "paired", 8), (4, "paired", 4), (5, "unpaired", 8)])
def test_pairs_are_used_where_at_least_half_of_the_seeds_have_a_partner(shift: int, method: str, n: int) -> None:
    rows = runs() + [run("tanh", s + shift, 0.95 + OTHER[s]) for s in range(8)]
    contrast = row_of(compare(rows), "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert (contrast.found.method, contrast.found.n) == (method, n)


@pytest.mark.parametrize(("seeds", "expected"), [(1, "needs >= 6 seeds"), (5, "needs >= 6 seeds"), (6, "worse")])
def test_below_six_seeds_no_verdict_is_given(seeds: int, expected: str) -> None:
    found = compare(runs(seeds=seeds) + runs("tanh", 0.5, seeds=seeds))
    assert verdict(found, "tanh") == expected
    assert ("cannot give a p below" in notes(found)) == (seeds < 6)
    if seeds == 5:
        assert "5 seeds cannot give a p below 0.0625; a verdict at 0.05 needs >= 6 seeds." in found.footnotes
    if seeds == 1:
        assert row_of(found, "tanh").results["test_accuracy"].estimate.interval is None


def test_holm_counts_every_row_that_is_compared() -> None:
    rows = runs(seeds=6) + [r for a in ("tanh", "silu", "gelu") for r in runs(a, 0.5, seeds=6)]
    found = compare(rows)
    contrast = row_of(found, "silu").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.adjusted_p == pytest.approx(3 * 2 / 2**6)
    assert contrast.verdict == "needs >= 7 seeds"
    assert "0.0938 after Holm over 3 rows" in notes(found)


def test_holm_counts_each_metric_by_itself_and_says_so() -> None:
    rows = runs() + [r for a in ("tanh", "silu") for r in runs(a, 0.5)]
    found = compare(rows, metrics=["test_accuracy", "dead_ratio"])
    assert (
        "p is adjusted by Holm over the 2 rows compared, separately for each metric; intervals are not adjusted."
        in notes(found)
    )
    contrasts = [result.contrast for row in found.rows for result in row.results.values() if result.contrast]
    assert {one.comparisons for one in contrasts} == {2}
    assert "Holm" not in notes(compare(runs() + runs("tanh")))


def test_p_of_many_pairs_says_that_it_was_drawn() -> None:
    few, many = (notes(compare(runs(seeds=n) + runs("tanh", seeds=n))) for n in (20, 21))
    assert "Above 20 pairs, p is estimated from 19,999 random sign patterns and is never below 0.00005." in many
    assert "random" not in few


@pytest.mark.parametrize(("seeds", "expected"), [(1, "needs >= 4 seeds"), (3, "needs >= 4 seeds"), (4, "worse")])
def test_unpaired_rows_get_a_verdict_as_soon_as_their_smallest_p_can_be_below_alpha(seeds: int, expected: str) -> None:
    found = compare(runs(seeds=seeds) + [run("tanh", 100 + s, 0.5 + OTHER[s]) for s in range(seeds)])
    assert verdict(found, "tanh") == expected
    if seeds == 3:
        assert "3 runs per side cannot give a p below 0.1; a verdict at 0.05 needs >= 4 seeds." in found.footnotes


def test_ranks_that_point_one_way_and_means_the_other_are_no_verdict() -> None:
    rows = runs() + [run("tanh", 100 + s, 0.99 + OTHER[s] if s else 0.1) for s in range(8)]
    found = compare(rows)
    assert verdict(found, "tanh") == "~"
    assert "Ranks and means point in opposite directions: no verdict." in found.footnotes
    assert failing(found, "diff(test_accuracy) < 0") == ()


def test_a_difference_within_the_noise_is_no_difference() -> None:
    found = compare(runs() + runs("tanh"))
    assert verdict(found, "tanh") == "~"
    ranks = {row.label: row.results["test_accuracy"].rank for row in found.rows}
    assert sorted(ranks.values()) == ["best", "tied"]


def test_within_the_margin_rows_are_equivalent_and_outside_they_are_not() -> None:
    rows = runs() + runs("tanh")
    assert verdict(compare(rows, equivalence=0.005), "tanh") == "equivalent"
    assert verdict(compare(rows, equivalence=0.0001), "tanh") == "~"
    assert verdict(compare(runs() + runs("tanh", 0.9), equivalence=0.005), "tanh") == "worse"


@pytest.mark.parametrize("margin", [0.0, -0.01, float("nan"), float("inf")])
def test_a_margin_that_is_no_positive_number_is_refused(margin: float) -> None:
    with pytest.raises(UsageError, match="--equivalence must be a number > 0"):
        compare(runs() + runs("tanh"), equivalence=margin)


def test_a_margin_is_explained_in_the_unit_that_is_shown() -> None:
    texts = notes(compare(runs() + runs("tanh"), equivalence=0.002))
    assert (
        "equivalent: test accuracy differs by less than 0.2 percentage points (two one-sided t tests, Holm)." in texts
    )
    timed = notes(compare(runs() + runs("tanh"), metrics=["wall_s"], equivalence=0.5))
    assert "equivalent: time differs by less than 0.5 s (" in timed


def test_a_comparison_of_no_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="--metric names no metric"):
        compare(runs(), metrics=())


def test_a_metric_without_a_good_direction_is_higher_or_lower_and_never_best() -> None:
    rows = [{**r, "sparsity": 0.5 + NOISE[r["seed"]]} for r in runs()]
    rows += [{**r, "sparsity": 0.6 + OTHER[r["seed"]]} for r in runs("tanh")]
    found = compare(rows, metrics=["sparsity"])
    assert verdict(found, "tanh", "sparsity") == "higher"
    assert {row.results["sparsity"].rank for row in found.rows} == {""}


def test_fewer_dead_units_are_better() -> None:
    rows = [{**r, "dead_ratio": 0.3 + NOISE[r["seed"]]} for r in runs()]
    rows += [{**r, "dead_ratio": 0.1 + OTHER[r["seed"]]} for r in runs("tanh")]
    found = compare(rows, metrics=["dead_ratio"])
    assert verdict(found, "tanh", "dead_ratio") == "better"
    assert labels(found) == ["tanh", "relu"]


def test_the_truly_best_row_is_nearly_always_among_those_marked() -> None:
    """Ten equal variants: whichever is the best in truth, it may be left out in one table of twenty."""
    random, tables, left_out = Random(5), 200, 0
    for _ in range(tables):
        rows = [run(f"a{i}", s, 0.97 + random.gauss(0, 0.002)) for i in range(10) for s in range(12)]
        left_out += row_of(compare(rows), "a0").results["test_accuracy"].rank == ""
    assert left_out <= 0.05 * tables + 2 * (0.05 * 0.95 * tables) ** 0.5


def test_the_probability_to_do_better_goes_by_what_is_better() -> None:
    rows = [{**r, "test_loss": 0.1 + s / 1000} for s, r in enumerate(runs())]
    rows += [{**r, "test_loss": 0.2 + s / 1000} for s, r in enumerate(runs("tanh", 0.99))]
    found = compare(rows, metrics=["test_accuracy", "test_loss"])
    results = row_of(found, "tanh").results
    assert [one.contrast.superiority for one in results.values() if one.contrast] == [1.0, 0.0]


# --- runs that went wrong ------------------------------------------------------------------------------------


def test_a_diverged_run_counts_in_n_has_no_value_and_its_row_is_never_best() -> None:
    rows = runs(base=0.9) + runs("tanh", 0.99)
    rows[-1] |= {"status": "diverged", "test_accuracy": 0.9999}
    found = compare(rows)
    tanh = row_of(found, "tanh")
    assert (tanh.n, tanh.diverged) == (8, 1)
    assert tanh.results["test_accuracy"].estimate.n == 7
    mean = tanh.results["test_accuracy"].estimate.mean
    assert mean is not None
    assert mean < 0.995
    assert tanh.results["test_accuracy"].rank == ""
    assert labels(found) == ["relu", "tanh"]  # last, although its other runs are the better ones
    assert row_of(found, "relu").results["test_accuracy"].rank == "best"
    assert any("Diverged runs count in n" in found.footnotes[i - 1] for i in tanh.notes)
    assert any("Pairs in which one run has no value" in found.footnotes[i - 1] for i in tanh.notes)


def test_a_row_of_diverged_runs_only_is_shown_without_values() -> None:
    rows = runs() + [{**r, "status": "diverged"} for r in runs("tanh", 0.99)]
    found = compare(rows)
    tanh = row_of(found, "tanh")
    assert tanh.diverged == 8
    assert tanh.results["test_accuracy"].estimate.mean is None
    assert tanh.results["test_accuracy"].contrast is None
    assert compare([{**r, "status": "diverged"} for r in runs()]).rows[0].n == 8


@pytest.mark.parametrize("lost", ["diverged", "no value"])
def test_no_verdict_is_in_favour_of_a_row_of_which_runs_are_missing(lost: str) -> None:
    def crippled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        change = {"status": "diverged"} if lost == "diverged" else {"test_accuracy": float("nan")}
        return [*rows[:-1], rows[-1] | change]

    better = compare(runs() + crippled(runs("tanh", 0.99)))
    contrast = row_of(better, "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.adjusted_p < 0.05
    assert (contrast.verdict, contrast.significant, contrast.withheld) == ("~", False, True)
    assert "No favourable verdict when runs are missing" in notes(better)
    assert failing(better, "diff(test_accuracy) > 0") == ()
    assert [row.label for row in undecided(better, "diff(test_accuracy) > 0")] == ["tanh"]
    # What is worse, although its worst run is not even counted, is worse.
    assert verdict(compare(runs() + crippled(runs("tanh", 0.9))), "tanh") == "worse"
    # The same for the baseline, and for equivalence.
    assert verdict(compare(crippled(runs()) + runs("tanh", 0.9)), "tanh") == "~"
    assert verdict(compare(crippled(runs()) + runs("tanh", 0.99)), "tanh") == "better"
    assert verdict(compare(runs() + crippled(runs("tanh")), equivalence=0.01), "tanh") == "~"


def test_a_metric_that_some_runs_lack_says_so() -> None:
    rows = runs() + runs("tanh", 0.9)
    rows[-1]["test_accuracy"] = float("nan")
    found = compare(rows)
    assert "Some runs have no value of test accuracy; they only count in n." in found.footnotes
    assert (row_of(found, "tanh").n, row_of(found, "tanh").results["test_accuracy"].estimate.n) == (8, 7)


def test_a_baseline_that_diverged_throughout_says_that_there_is_nothing_to_compare_with() -> None:
    found = compare([{**r, "status": "diverged"} for r in runs()] + runs("tanh") + runs("silu"))
    assert "relu has no value of test accuracy to compare other rows with." in found.footnotes
    assert verdict(found, "tanh") is None
    assert row_of(found, "relu").is_baseline


def test_failed_runs_are_counted_but_not_compared() -> None:
    rows = runs() + runs("tanh")
    rows[-1] |= {"status": "failed", "test_accuracy": 0.0}
    rows.append(run("silu", 0, None, status="failed"))
    found = compare(rows)
    tanh, silu = row_of(found, "tanh"), row_of(found, "silu")
    assert (tanh.n, tanh.failed) == (7, 1)
    estimate = tanh.results["test_accuracy"].estimate
    assert estimate.mean is not None
    assert estimate.mean > 0.96
    assert (silu.n, silu.failed) == (0, 1)
    assert "Not compared and not in n: 2 failed runs." in found.footnotes


def test_a_run_without_a_status_is_done() -> None:
    row = run()
    del row["status"]
    assert not is_diverged(row)
    assert compare([row]).rows[0].n == 1


# --- footnotes -----------------------------------------------------------------------------------------------


def test_settings_that_vary_unasked_within_a_row_are_named() -> None:
    found = compare([*runs(lr=0.1), *runs(lr=0.01)], by=["activation"])
    assert "Rows average over settings that vary within them (lr: 0.01, 0.1); see --by and --filter." in notes(found)
    assert found.rows[0].n == 16
    assert found.rows[0].results["test_accuracy"].estimate.n == 8  # a seed's value is its mean over the settings
    assert "vary within" not in notes(compare(runs(lr=0.1) + runs("tanh", lr=0.01), by=["activation"]))


def test_means_over_different_settings_are_not_to_be_compared_and_it_is_said() -> None:
    rows = [*runs(lr=0.1), *runs(lr=0.01, base=0.6), *runs("tanh", 0.96, lr=0.1)]
    said = "Rows average over different values of these settings: compare the differences, not the means."
    found = compare(rows, by=["activation"])
    assert said in found.footnotes
    contrast = row_of(found, "tanh").results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.found.difference < 0  # at the lr that both have, although tanh's mean is the higher one
    whole = [*rows, *runs("tanh", 0.96, lr=0.01)]
    assert said not in compare(whole, by=["activation"]).footnotes
    lost = [r | {"status": "diverged"} if (r["activation"], r["lr"]) == ("tanh", 0.01) else r for r in whole]
    assert said in compare(lost, by=["activation"]).footnotes


def test_settings_in_which_rows_differ_unasked_are_named() -> None:
    found = compare(runs(lr=0.1) + runs("tanh", lr=0.01), by=["activation"])
    assert "Rows also differ in lr, which may cause a difference." in found.footnotes
    assert "also differ" not in notes(compare(runs() + runs("tanh"), by=["activation"]))
    apart = runs(lr=0.1) + runs("tanh", lr=0.1) + runs(lr=0.01, dataset="kmnist")
    assert "also differ" not in notes(compare(apart, by=["activation"]))  # these are not compared with each other
    named = compare(runs(lr=0.1) + runs("tanh", lr=0.01), by=["name"])
    assert "Rows differ in activation, lr: any of these may cause a difference" in notes(named)


def test_mixed_settings_are_named_in_one_order_whichever_row_comes_first() -> None:
    rows = [*runs(lr=0.1), *runs(lr=0.01), *runs("tanh", lr=0.1, init="he"), *runs("tanh", lr=0.1, init="xavier")]
    for some in (rows, rows[::-1]):
        assert "(init: he, xavier; lr: 0.01, 0.1)" in notes(compare(some, by=["activation"]))


def test_rows_that_differ_in_several_settings_say_so() -> None:
    found = compare(runs(lr=0.1) + runs("tanh", lr=0.01))
    assert "Rows differ in activation, lr: any of these may cause a difference" in notes(found)
    assert "Rows differ" not in notes(compare(runs() + runs("tanh")))


@pytest.mark.parametrize("key", ["device", "torch_version", "actbench_version", "threads"])
def test_runs_from_different_machines_or_versions_say_so(key: str) -> None:
    found = compare(runs(**{key: "1"}) + runs("tanh", **{key: "2"}))
    assert f"The runs differ in {key}: 1, 2." in found.footnotes
    same = compare(runs(**{key: "1"}) + runs("tanh", **{key: "1"}))
    assert "The runs differ" not in notes(same)


# --- tuning --------------------------------------------------------------------------------------------------


def tried(activation: str, best: float, **more: Any) -> list[dict[str, Any]]:
    """Three learning rates: validation likes `best`, the test set likes 0.1 throughout."""
    rows: list[dict[str, Any]] = []
    for lr in (0.001, 0.01, 0.1):
        accuracy = 0.98 if lr == best else 0.9
        rows += runs(activation, 0.99 if lr == 0.1 else 0.95, lr=lr, validation_accuracy=accuracy, **more)
    return rows


def test_each_row_is_taken_at_its_best_setting_by_validation_accuracy_not_by_the_test_set() -> None:
    found = compare(tried("relu", 0.01) + tried("tanh", 0.001), by=["activation"], tune="lr")
    assert {row.n for row in found.rows} == {8}
    means = [row.results["test_accuracy"].estimate.mean for row in found.rows]
    assert means == pytest.approx([0.95, 0.95], abs=0.001)
    assert (
        "Each row uses its best of 3 values of lr by validation accuracy after the last epoch: relu 0.01, tanh 0.001."
        in found.footnotes
    )
    assert "The best lr is the smallest or largest one tried for tanh: try values beyond it." in found.footnotes


def test_tuning_works_on_variants_too() -> None:
    found = compare(tried("relu", 0.01) + tried("tanh", 0.01), tune="lr")
    assert sorted(labels(found)) == ["relu", "tanh"]
    assert "smallest or largest" not in notes(found)


def test_a_setting_at_which_a_run_diverged_is_not_the_best() -> None:
    rows = tried("relu", 0.01)
    next(r for r in rows if r["lr"] == 0.01)["status"] = "diverged"
    found = compare(rows, by=["activation"], tune="lr")
    assert found.rows[0].diverged == 0
    assert "relu 0.01." not in notes(found)


def test_tuning_says_where_luck_may_have_chosen() -> None:
    even = compare(tried("relu", 0.01) + tried("tanh", 0.01), by=["activation"], tune="lr")
    assert "to luck" not in notes(even)
    rows = tried("relu", 0.01) + [r for r in tried("tanh", 0.01) if r["lr"] != 0.1 or r["seed"] < 3]
    assert "Values of lr were tried with 3 to 8 runs each; fewer runs leave more to luck." in notes(
        compare(rows, by=["activation"], tune="lr")
    )
    other = [{**r, "lr": r["lr"] * 2} for r in tried("tanh", 0.01)]
    found = compare(tried("relu", 0.01) + other, by=["activation"], tune="lr")
    assert "Rows tried equally many values of lr, but not the same ones." in found.footnotes
    assert "also differ" not in notes(found)  # that lr differs is the point of tuning


def test_tuning_needs_equal_budgets_only_within_a_dataset() -> None:
    kmnist = [r for r in tried("relu", 0.01, dataset="kmnist") if r["lr"] != 0.1]
    found = compare(tried("relu", 0.01) + kmnist, by=["activation"], tune="lr")
    assert "best of 2 or 3" in notes(found)
    assert "relu on" not in notes(found)
    with pytest.raises(UsageError, match=r"got relu: 3, tanh: 2; train the missing ones"):
        compare(
            tried("relu", 0.01) + [r | {"status": "failed"} if r["lr"] == 0.1 else r for r in tried("tanh", 0.01)],
            by=["activation"],
            tune="lr",
        )


def test_what_is_tuned_cannot_make_the_rows() -> None:
    with pytest.raises(UsageError, match="lr cannot name rows or columns as well"):
        compare(tried("relu", 0.01), by=["activation", "lr"], tune="lr")


def test_tuning_without_validation_accuracy_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"validation_accuracy, which 8 runs of .* lack; train with `validation: 5000`"
    ):
        compare(runs(lr=0.1) + runs(lr=0.01), by=["activation"], tune="lr")


def test_tuning_is_refused_where_one_row_tried_more_values_than_another() -> None:
    with pytest.raises(UsageError, match="the same number of values of lr for every row, got relu: 3, tanh: 1"):
        compare(tried("relu", 0.01) + runs("tanh", validation_accuracy=0.9), by=["activation"], tune="lr")
    with pytest.raises(UsageError, match="only one value of lr"):
        compare(runs(validation_accuracy=0.9), by=["activation"], tune="lr")
    with pytest.raises(UnknownNameError, match="unknown column 'lrr'"):
        compare(runs(), tune="lrr")


# --- curves --------------------------------------------------------------------------------------------------

CURVE = [
    {"epoch": 0, "test_accuracy": 0.1, "train_s": 0.0},
    {"epoch": 1, "test_accuracy": 0.8, "train_s": 2.0},
    {"epoch": 2, "test_accuracy": 0.97, "train_s": 3.0},
    {"epoch": 3, "test_accuracy": 0.96, "train_s": 4.0},
]


def curve(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """tanh is one epoch behind."""
    behind = 1 if row["activation"] == "tanh" else 0
    return [{**line, "epoch": line["epoch"] + behind} for line in CURVE]


def mean_of(metric: str, rows: list[dict[str, Any]] | None = None, **options: Any) -> float | None:
    found = compare(rows or runs(), metrics=[metric], curve=curve, **options)
    return found.rows[0].results[metric].estimate.mean


def test_the_epochs_and_seconds_to_a_threshold_are_the_first_that_reach_it() -> None:
    assert mean_of("epochs_to:test_accuracy>=0.97") == 2.0
    assert mean_of("epochs_to:test_accuracy >= 0.8") == 1.0
    assert mean_of("seconds_to:test_accuracy>=0.97") == 5.0
    assert mean_of("epochs_to:test_accuracy<=0.5") == 0.0


def test_the_area_under_a_curve_is_its_mean_over_the_epochs() -> None:
    assert mean_of("auc:test_accuracy") == pytest.approx((0.9 / 2 + 1.77 / 2 + 1.93 / 2) / 3)


def test_an_epoch_can_be_compared_instead_of_the_last_one() -> None:
    assert mean_of("test_accuracy", epoch=1) == 0.8
    found = compare(runs() + runs("tanh"), curve=curve, epoch=1)
    assert row_of(found, "tanh").results["test_accuracy"].estimate.mean == 0.1
    assert verdict(found, "tanh") == "worse"
    assert "All values are taken after epoch 1, not after the last epoch." in found.footnotes
    assert "wall_s" not in {one.name for one in found.extras}
    curves = compare(runs(), metrics=["test_accuracy", "auc:test_accuracy"], curve=curve, epoch=1)
    assert "All values except auc:test_accuracy are taken after epoch 1, not after the last epoch." in notes(curves)
    with pytest.raises(UsageError, match="no run has a value of test_accuracy after epoch 9; the longest has 3 epochs"):
        compare(runs(epochs_run=3), curve=curve, epoch=9)


def test_a_threshold_that_is_never_reached_is_a_missing_value_not_a_mistake() -> None:
    metric = "epochs_to:test_accuracy>=0.99"
    found = compare(runs() + runs("tanh"), metrics=[metric], curve=curve)
    assert {row.results[metric].estimate.mean for row in found.rows} == {None}
    assert "Some runs never reached the threshold: epochs to test accuracy >= 99%" in notes(found)


def test_fewer_epochs_to_a_threshold_are_better() -> None:
    metric = "epochs_to:test_accuracy>=0.97"
    found = compare(runs() + runs("tanh"), metrics=[metric], curve=curve)
    assert verdict(found, "tanh", metric) == "worse"
    assert labels(found) == ["relu", "tanh"]


def test_curves_that_are_not_known_are_asked_for() -> None:
    with pytest.raises(UsageError, match="epochs of these runs are not known"):
        compare(runs(), metrics=["auc:test_accuracy"])


def test_runs_of_different_lengths_are_told_where_their_epochs_are_averaged() -> None:
    rows = [{**row, "epochs_run": 3 if row["seed"] else 2} for row in runs()]
    told = "auc:test_accuracy: the mean over each run's own epochs; the runs have 2 to 3 epochs."
    for metrics in (["auc:test_accuracy"], ["test_accuracy", "auc:test_accuracy"]):
        assert told in notes(compare(rows, metrics=metrics, curve=curve))
    assert told not in notes(compare(rows))
    assert told not in notes(
        compare([{**row, "epochs_run": 3} for row in rows], metrics=["auc:test_accuracy"], curve=curve)
    )


def test_each_runs_epochs_are_read_once() -> None:
    read: list[int] = []

    def counted(row: Mapping[str, Any]) -> list[dict[str, Any]]:
        read.append(row["seed"])
        return curve(row)

    compare(runs(), metrics=["auc:test_accuracy", "epochs_to:test_accuracy>=0.9"], curve=counted)
    assert sorted(read) == list(range(8))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("test_acuracy", "unknown metric 'test_acuracy'; did you mean 'test_accuracy'"),
        ("auc:test_acuracy", "unknown metric 'test_acuracy'"),
        ("max:test_accuracy", "the forms are NAME, auc:NAME, epochs_to:NAME>=X, seconds_to:NAME>=X"),
        ("epochs_to:test_accuracy", "write it as epochs_to:test_accuracy>=0.97"),
        ("epochs_to:test_accuracy>=high", "write it as epochs_to:test_accuracy>=0.97"),
        ("seconds_to:test_accuracy>=nan", "write it as seconds_to:test_accuracy>=0.97"),
        ("always_linear_ratio", "no run has a value of always_linear_ratio; these have numbers: test_accuracy, dead_"),
        ("activation", "no run has a value of activation; these have numbers: test_accuracy, dead_ratio, wall_s"),
    ],
)
def test_a_metric_that_cannot_be_had_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare(runs(), metrics=[spec], curve=curve)
    assert message in str(caught.value)


def test_any_column_of_numbers_is_a_metric_and_the_gap_is_made_from_its_parts() -> None:
    assert mean_of("parameters", [run(parameters=407050)]) == 407050
    assert mean_of("accuracy_gap", [run(train_accuracy=0.995, accuracy=0.97)]) == pytest.approx(0.025)
    assert quantity("parameters", ["parameters"]).better == "neither"


def test_only_finite_numbers_are_numbers() -> None:
    assert [number(v) for v in (1, 0.5, True, "1", None, float("nan"), float("inf"), 1e300, 10**400)] == [
        1.0,
        0.5,
        *[None] * 7,
    ]


# --- filter, sort, top ---------------------------------------------------------------------------------------


def test_a_filter_keeps_the_runs_for_which_it_holds() -> None:
    found = compare(runs() + runs("tanh"), filter="seed < 3 and activation == 'relu'")
    assert labels(found) == ["relu"]
    assert found.rows[0].n == 3
    with pytest.raises(UsageError, match="leaves none of the 8 runs"):
        compare(runs(), filter="seed > 100")
    with pytest.raises(UsageError, match="no runs to compare"):
        compare([])


THREE = [*runs("silu", 0.96, lr=0.1), *runs("tanh", 0.98, lr=0.01), *runs("relu", 0.97, lr=0.001)]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "tanh relu silu"),
        ("test_accuracy", "tanh relu silu"),
        ("-test_accuracy", "silu relu tanh"),
        ("label", "relu silu tanh"),
        ("-label", "tanh silu relu"),
        ("lr", "relu tanh silu"),
        ("-lr", "silu tanh relu"),
        ("wall_s", "relu silu tanh"),  # all the same: by label
    ],
)
def test_rows_are_sorted_by_a_metric_a_setting_or_the_label(sort: str | None, expected: str) -> None:
    assert labels(compare(THREE, sort=sort)) == expected.split()


WORN = [
    *runs("relu", 0.97),
    *runs("silu", 0.99, seeds=7, wall_s=1.0),
    *runs("tanh", 0.95, wall_s=3.0),
    *[r | {"status": "diverged"} if r["seed"] == 7 else r for r in runs("elu", 0.98, wall_s=4.0)],
    *[r | {"test_accuracy": None} for r in runs("gelu")],
]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "silu relu tanh elu gelu"),
        ("n", "elu gelu relu tanh silu"),
        ("-n", "silu elu gelu relu tanh"),
        ("diverged", "gelu relu silu tanh elu"),
        ("-diverged", "elu gelu relu silu tanh"),
        ("name", "elu gelu relu silu tanh"),
        ("-variant", "tanh silu relu gelu elu"),
        ("time", "silu gelu relu tanh elu"),  # elu has lost a run
        ("-wall_s", "tanh gelu relu silu elu"),
        ("test accuracy", "silu relu tanh elu gelu"),
        ("difference", "silu elu tanh gelu relu"),
        ("-difference", "tanh elu silu gelu relu"),
        ("p", "tanh elu silu gelu relu"),
        ("effect", "silu elu tanh gelu relu"),
        ("verdict", "silu elu tanh gelu relu"),
        ("dead", "gelu relu silu tanh elu"),
    ],
)
def test_rows_are_sorted_by_any_column_those_without_a_value_last_either_way(sort: str | None, expected: str) -> None:
    assert labels(compare(WORN, sort=sort)) == expected.split()


def test_how_rows_are_sorted_changes_nothing_in_them() -> None:
    plain = compare(WORN)
    for sort in ("n", "-n", "label", "-test_accuracy", "p"):
        found = compare(WORN, sort=sort)
        assert found.baseline == plain.baseline == "relu"
        assert {row.label: row for row in found.rows} == {row.label: row for row in plain.rows}


def test_an_unknown_sort_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'wall_s'"):
        compare(THREE, sort="-wals_s")
    with pytest.raises(UnknownNameError, match="unknown column to sort by 'foo'"):
        compare(THREE, sort="foo")


def test_the_top_rows_are_shown_beside_the_baseline_and_p_is_adjusted_for_all() -> None:
    found = compare(THREE, top=1)
    assert labels(found) == ["tanh", "relu"]
    assert "2 of 3 rows are shown; p is adjusted for all of them." in found.footnotes
    contrast = found.rows[0].results["test_accuracy"].contrast
    assert contrast is not None
    assert contrast.comparisons == 2
    assert labels(compare(THREE, top=3)) == ["tanh", "relu", "silu"]


WORSE = compare(runs() + runs("tanh", 0.95))

# --- --fail-if -----------------------------------------------------------------------------------------------


def test_only_a_significant_difference_fails() -> None:
    worse = compare(runs() + runs("tanh", 0.95))
    assert [row.label for row in failing(worse, "diff(test_accuracy) < -0.005")] == ["tanh"]
    assert undecided(worse, "diff(test_accuracy) < -0.005") == ()
    assert failing(worse, "diff(test_accuracy) < -0.05") == ()
    few = compare(runs(seeds=5) + runs("tanh", 0.95, seeds=5))
    assert failing(few, "diff(test_accuracy) < -0.005") == ()
    assert [row.label for row in undecided(few, "diff(test_accuracy) < -0.005")] == ["tanh"]
    assert undecided(few, "diff(test_accuracy) > 0.005") == ()


def test_a_row_without_a_difference_is_undecided() -> None:
    rows = runs() + [{**r, "status": "diverged"} for r in runs("tanh")]
    found = compare(rows)
    assert failing(found, "diff(test_accuracy) < 0") == ()
    assert [row.label for row in undecided(found, "diff(test_accuracy) < 0")] == ["tanh"]
    assert [row.label for row in failing(found, "diverged > 0")] == ["tanh"]


def test_a_failing_condition_may_name_rows_and_refuses_what_is_not_compared() -> None:
    found = compare(runs() + runs("tanh", 0.95))
    assert failing(found, "diff(test_accuracy) < 0 and label != 'tanh'") == ()
    with pytest.raises(UsageError, match="unknown name 'test_acuracy'; did you mean 'test_accuracy'"):
        failing(found, "test_acuracy < 0.5")


def test_a_metric_is_a_mean_and_diff_of_it_is_a_difference() -> None:
    found = compare(runs() + runs("tanh", 0.95))
    assert [row.label for row in failing(found, "test_accuracy < 0.96")] == ["tanh"]
    assert [row.label for row in failing(found, "test_accuracy > 0.96")] == ["relu"]  # the baseline has a mean, too
    assert [row.label for row in failing(found, "dead_ratio > 0.05")] == ["relu", "tanh"]  # shown beside the metric
    assert [row.label for row in failing(found, "diff(test_accuracy) < 0 and test_accuracy > 0.9")] == ["tanh"]
    assert undecided(found, "test_accuracy < 0.96") == ()
    nothing = compare(runs() + [{**r, "status": "diverged"} for r in runs("tanh")])
    assert failing(nothing, "test_accuracy < 0.5") == ()
    assert [row.label for row in undecided(nothing, "test_accuracy < 0.5")] == ["tanh"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("test_accuracy < -0.005", "which is never negative; for its difference from the baseline, write: "
                                   "diff(test_accuracy) < -0.005"),
        ("n > 3 and -0.005 >= test_accuracy", "write: diff(test_accuracy) <= -0.005"),
        ("wall_s < -1", "write: diff(wall_s) < -1"),
        ("test_accuracy < 97", "a fraction from 0 to 1; for 97%, write: test_accuracy < 0.97"),
        ("diff(test_accuracy) < 0.97", "is too far from 0 for one; for the row's mean, write: test_accuracy < 0.97"),
        ("not 0.97 < diff(test_accuracy)", "write: test_accuracy > 0.97"),
        ("diff(test_accuracy) < -2", "a fraction from -1 to 1; for 2 percentage points, write: "
                                     "diff(test_accuracy) < -0.02"),
    ],
)  # fmt: skip
def test_a_bound_that_nothing_can_reach_is_refused_with_what_was_probably_meant(condition: str, message: str) -> None:
    found = compare(runs() + runs("tanh", 0.95), metrics=["test_accuracy", "wall_s"])
    for check in (failing, undecided):
        with pytest.raises(UsageError) as caught:
            check(found, condition)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    "condition", ["accuracy_gap < -0.01", "diff(dead_ratio) > 0.9", "diff(wall_s) > 100", "my_column < -3", "n > 100"]
)
def test_a_bound_that_can_be_reached_is_taken(condition: str) -> None:
    more = {"accuracy_gap": 0.01, "my_column": -2.0}
    metrics = ["test_accuracy", "accuracy_gap", "dead_ratio", "wall_s", "my_column"]
    assert failing(compare(runs(**more) + runs("tanh", **more), metrics=metrics), condition) == ()


@given(st.floats(-1, 1), st.sampled_from(["<", "<=", ">", ">="]), st.booleans())
def test_a_row_meets_a_check_exactly_if_its_number_does(bound: float, sign: str, relative: bool) -> None:
    found = WORSE
    try:
        met = failing(found, f"diff(test_accuracy) {sign} {bound!r}" if relative else f"test_accuracy {sign} {bound!r}")
    except UsageError:
        assert abs(bound) > 0.5 if relative else bound < 0
        return
    compare_with = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign]
    for row in found.rows:
        result = row.results["test_accuracy"]
        value = result.estimate.mean
        if relative:
            value = result.contrast.found.difference if result.contrast is not None else None
        assert (row in met) == (value is not None and compare_with(value, bound))


def test_a_failing_condition_names_derived_metrics_in_brackets() -> None:
    metric = "epochs_to:test_accuracy>=0.97"
    found = compare(runs() + runs("tanh"), metrics=[metric], curve=curve)
    assert [row.label for row in failing(found, f"diff([{metric}]) >= 1")] == ["tanh"]
    assert failing(found, f"diff([{metric}]) > 1") == ()


# --- size and order ------------------------------------------------------------------------------------------


def test_ten_thousand_runs_are_compared_too() -> None:
    rows = [run(f"a{i}", s, 0.9 + i / 1e5 + OTHER[s]) for i in range(1250) for s in range(8)]
    found = compare(rows)
    assert (len(found.rows), sum(row.n for row in found.rows)) == (1250, 10_000)
    assert found.rows[0].label == "a1249"


MIXED = [
    *runs(lr=0.1, validation_accuracy=0.9),
    *runs(lr=0.01, base=0.96, validation_accuracy=0.95),
    *runs("tanh", 0.95, lr=0.1, validation_accuracy=0.97),
    *runs("tanh", 0.94, lr=0.01, validation_accuracy=0.96, device="cuda"),
    *runs("silu", 0.95, lr=0.1, seeds=3, validation_accuracy=0.97),
    *runs("silu", 0.95, lr=0.01, seeds=3, validation_accuracy=0.97, status="diverged"),
    *runs("silu", 0.95, lr=0.1, dataset="kmnist", validation_accuracy=0.97),
    *runs("silu", 0.95, lr=0.01, dataset="kmnist", validation_accuracy=0.97),
]


@settings(derandomize=True, deadline=None, max_examples=12)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_runs_changes_nothing(random: Random) -> None:
    shuffled = list(MIXED)
    random.shuffle(shuffled)
    for options in ({}, {"by": ["activation"]}, {"tune": "lr"}, {"sort": "lr"}, {"by": ["lr"], "baseline": "0.1"}):
        first, second = (compare(rows, **options) for rows in (MIXED, shuffled))  # type: ignore[arg-type]
        assert first.footnotes == second.footnotes
        assert first.rows == second.rows


# --- anything at all -----------------------------------------------------------------------------------------

accuracies = st.sampled_from([0.97, 0.97, 0.98, 0.5, 0.0, 1.0, math.nan, math.inf, None, "high", True])
anything = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["relu", "tanh", "", "=1", None, "\x1b[31m"]),
        "dataset": st.sampled_from(["mnist", "kmnist", None]),
        "lr": st.sampled_from([0.1, 0.01, 1, None, "auto", math.nan]),
        "seed": st.sampled_from([0, 1, 2, 3, 4, 5, 6, None, 10**30]),
        "status": st.sampled_from(["done", "done", "done", "diverged", "failed", None, "strange"]),
        "test_accuracy": accuracies,
        "validation_accuracy": accuracies,
        "dead_ratio": accuracies,
    },
    optional={"run_id": st.sampled_from(["a", "b", "c", None]), "wall_s": st.sampled_from([1.0, None, 1e300, -1e300])},
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "by": st.sampled_from([["lr"], ["name"], ["name", "lr"], []]),
        "sort": st.sampled_from(["n", "-p", "lr", "-time", "label", "verdict"]),
        "tune": st.just("lr"),
        "equivalence": st.just(0.01),
        "top": st.just(1),
        "metrics": st.sampled_from([["dead_ratio", "test_accuracy"], ["wall_s"], ["lr"]]),
        "only_changed": st.booleans(),
    },
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(anything, max_size=40), choices)
def test_whatever_runs_hold_there_is_a_table_or_an_error_for_a_person(
    rows: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    try:
        found = compare(rows, **options)
        pivot(rows, down=["name"], across=["lr"])
    except ActbenchError as error:
        assert str(error)  # noqa: PT017 - that no other error escapes is what is tested
        return
    assert sum(row.n + row.failed for row in found.rows) <= len(rows)
    for row in found.rows:
        for result in row.results.values():
            mean, interval, contrast = result.estimate.mean, result.estimate.interval, result.contrast
            assert mean is None or math.isfinite(mean)
            assert interval is None or interval.low <= interval.high
            assert (mean is None) == (result.estimate.n == 0)
            assert not (row.diverged and result.rank)
            if contrast is not None:
                assert contrast.found.smallest_p <= contrast.found.p <= contrast.adjusted_p <= 1
                assert 0 <= contrast.superiority <= 1
                assert not (row.diverged and contrast.verdict in ("better", "equivalent"))
    for name in FORMATS:
        assert write_comparison(found, name)


class CountedRow(dict[str, Any]):
    """A row that counts how often its cells are read."""

    reads = 0

    def get(self, key: str, default: Any = None) -> Any:
        type(self).reads += 1
        return super().get(key, default)


def reads_of_comparing(rows: int, columns: int, *, seeds: int) -> float:
    """How often a cell is read, on average over the rows, when `rows` runs of one variant are compared."""
    more = {f"column{i}": i for i in range(columns)}
    CountedRow.reads = 0
    made = [CountedRow(name="relu", seed=i % seeds, test_accuracy=i / rows, **more) for i in range(rows)]
    assert compare(made).rows[0].n == rows
    return CountedRow.reads / rows


@pytest.mark.parametrize("seeds", [1, 10, 4000])
def test_the_work_of_a_comparison_grows_with_its_rows_and_not_faster(seeds: int) -> None:
    assert reads_of_comparing(4000, 3, seeds=seeds) <= 1.1 * reads_of_comparing(400, 3, seeds=min(seeds, 400))


def test_columns_that_are_not_asked_for_cost_nothing_but_their_reading() -> None:
    assert reads_of_comparing(50, 1000, seeds=50) == reads_of_comparing(50, 10, seeds=50)
