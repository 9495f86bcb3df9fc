"""The charts: who shares a panel, what is drawn, and that nothing typed by a person breaks or leaves a picture."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from actbench import figures, stats
from actbench.activations import ACTIVATIONS
from actbench.activations.definition import chain_function
from actbench.config import Choice
from actbench.errors import UnknownNameError, UsageError
from actbench.figures.activations import shape
from actbench.figures.curves import PanelFormat, axis_domain, end_places, spread
from actbench.figures.neurons import picture
from actbench.figures.panels import arrange, measure, told_apart
from actbench.figures.theme import MOST_SERIES, labels_of

Row = dict[str, Any]
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>&amp;\n\x1b[31m\u202e\ud800"
    + "A" * 1000
)


def run(activation: str = "relu", lr: float = 0.1, seed: int = 0, **changes: Any) -> Row:
    """A run that is done, in the columns of runs.csv."""
    row = {"name": f"n {activation} lr={lr}", "dataset": "digits", "activation": activation, "lr": lr, "seed": seed,
           "status": "done", "test_accuracy": 0.9 + lr / 10 + seed / 1000, "dead_ratio": lr, "test_loss": 0.3,
           "run_id": f"{activation}-{lr}-{seed}-{changes.get('dataset')}"}  # fmt: skip
    return {**row, **changes}


def grid(activations: int = 2, lrs: int = 1, seeds: int = 3, **changes: Any) -> list[Row]:
    return [
        run(f"f{a}", 0.1 * (b + 1), seed, **changes)
        for a in range(activations)
        for b in range(lrs)
        for seed in range(seeds)
    ]


def curve(row: Row) -> list[Row]:
    """Epochs 0 to 4 of a run; one that diverged has no values from epoch 3 on."""
    last = 3 if row["status"] == "diverged" else 5
    return [
        {"epoch": e, "test_accuracy": 0.1 + 0.2 * e + row["seed"] / 100 if e < last else None, "dead_ratio": 0.02 * e,
         "near_dead_ratio": 0.03 * e, "deaths": e, "revivals": 0, "train_loss": 1 / (e + 1)}
        for e in range(5)
    ]  # fmt: skip


def data_of(chart: Any) -> list[Row]:
    """Every row of data that a chart holds."""
    found: list[Row] = []
    for rows in figures.specification(chart)["datasets"].values():
        found += rows
    return found


# --- who shares a panel ----------------------------------------------------------------------------------------


def test_up_to_seven_variants_share_a_panel_and_more_get_one_each_before_the_others_in_grey() -> None:
    few, many = arrange(grid(7)), arrange(grid(8))
    assert len(few.panels) == 1
    assert len(few.series) == 7
    assert many.alone
    assert [len(panel.members) for panel in many.panels] == [1] * 8
    assert all(len(panel.context) == 7 for panel in many.panels)


def test_many_variants_of_two_settings_are_spread_over_panels_by_the_second() -> None:
    found = arrange(grid(5, 4))
    assert (found.key, found.series) == ("activation", ("f0", "f1", "f2", "f3", "f4"))
    assert [panel.title for panel in found.panels] == ["lr=0.1", "lr=0.2", "lr=0.30000000000000004", "lr=0.4"]


def test_the_first_key_asked_for_makes_the_lines_and_the_others_the_panels() -> None:
    found = arrange(grid(2, 3), ["lr", "activation"])
    assert [panel.title for panel in found.panels] == ["activation=f0", "activation=f1"]
    assert found.series == ("0.1", "0.2", "0.30000000000000004")


def test_what_was_compared_and_with_how_many_seeds_is_said_in_a_few_words() -> None:
    assert arrange(grid(6, 5)).summary == "6 activations × 5 learning rates, 3 seeds"
    assert arrange([*grid(2), run("f9", seed=0)]).summary == "3 activations, 1–3 seeds"
    assert arrange([run()]).summary == "n relu lr=0.1, 1 seed"


def test_names_lose_the_words_that_all_of_them_share() -> None:
    assert told_apart(["n relu lr=1", "n tanh lr=1"]) == (["relu", "tanh"], ["n", "lr=1"])
    assert told_apart(["a", "a b"]) == (["a", "a b"], [])


words = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(" ".join)


@given(st.lists(words, min_size=2, unique=True))
def test_names_that_differ_still_differ_and_are_not_empty_without_shared_words(names: list[str]) -> None:
    short, common = told_apart(names)
    assert len(set(short)) == len(names)
    assert all(short)
    assert all(len(one.split()) + len(common) == len(name.split()) for one, name in zip(short, names, strict=True))


rows_of_runs = st.lists(
    st.builds(
        run,
        st.sampled_from([f"f{i}" for i in range(10)]),
        st.sampled_from([0.1, 0.01]),
        st.integers(0, 2),
        dataset=st.sampled_from(["mnist", "digits"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(rows_of_runs, st.sampled_from([None, ["activation"], ["lr", "activation"], ["activation", "seed"]]))
def test_every_group_is_drawn_once_and_never_beside_another_dataset(rows: list[Row], by: list[str] | None) -> None:
    found = arrange(rows, by)
    members = [group for panel in found.panels for _, group in panel.members]
    assert sorted(map(id, members)) == sorted(map(id, found.groups))
    assert all(group.dataset == panel.dataset for panel in found.panels for group in panel.groups)
    assert all(name in found.series for panel in found.panels for name, _ in panel.members)
    assert all(len({name for name, _ in panel.members}) == len(panel.members) <= 7 for panel in found.panels)


# --- texts and places that cannot break a picture ---------------------------------------------------------------


@given(st.lists(st.text(max_size=80), unique=True, max_size=20), st.integers(12, 40))
def test_shortened_names_stay_different_printable_and_short(names: list[str], limit: int) -> None:
    found = labels_of(names, limit)
    assert len(set(found.values())) == len(names)
    assert all(name.isprintable() and len(name) <= limit for name in found.values())


@given(st.lists(st.floats(-50, 250), min_size=1, max_size=12))
def test_labels_are_spread_without_overlap_in_the_order_of_their_lines(wanted: list[float]) -> None:
    places = spread(wanted, 15, 0, 200)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(places[b] - places[a] >= 15 - 1e-6 for a, b in pairwise(order))
    assert all(-1e-6 <= place <= 200 + 1e-6 for place in places)


def test_labels_with_room_stay_where_their_lines_end() -> None:
    assert spread([120.0, 10.0, 60.0], 15, 0, 200) == [120.0, 10.0, 60.0]


@pytest.mark.parametrize(("log", "apart"), [(False, 15 * (9 - 1) / 200), (True, 9 ** (15 / 200))])
def test_names_beside_line_ends_are_15_pixels_apart_on_the_axis(log: bool, apart: float) -> None:
    ends = [{"series": name, "mean": mean} for name, mean in (("a", 3.0), ("b", 3.0), ("c", 8.0))]
    a, b, c = sorted(row["place"] for row in end_places(ends, [1, 9], PanelFormat(300, 200, log=log)))
    assert b / a == pytest.approx(apart) if log else b - a == pytest.approx(apart)
    assert c == pytest.approx(8.0)


# --- what is measured --------------------------------------------------------------------------------------------


def test_a_band_is_the_t_interval_over_the_seeds_and_a_diverged_run_has_no_part_in_it() -> None:
    rows = [*grid(1), run("f0", 0.1, 3, status="diverged")]
    found = measure(arrange(rows).grouping, curve, "test_accuracy")
    (means,) = found.means.values()
    (runs,) = found.runs.values()
    values = [0.1 + 0.2 * 4 + seed / 100 for seed in range(3)]
    interval = stats.t_interval(values)
    assert interval is not None
    assert means[-1]["mean"] == pytest.approx(stats.mean(values))
    assert (means[-1]["low"], means[-1]["high"]) == pytest.approx(tuple(interval.clipped()), rel=1e-5)
    assert [(row["epoch"], row["run"]) for row in runs if row["broke"]] == [(2, "0.3")]
    assert {row["n"] for row in means} == {3}


def up_to(row: Row) -> list[Row]:
    """The epochs of a run that has `epochs` of them; each run has other values."""
    values = [{"test_accuracy": (row["seed"] + e) / 20, "dead_ratio": (row["seed"] * 3 + e) / 60} for e in range(11)]
    return [
        {"epoch": e, "near_dead_ratio": 0.5, "deaths": 0, "revivals": 0, **values[e]} for e in range(row["epochs"] + 1)
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["done", "done", "diverged"])), min_size=1, max_size=6))
def test_a_line_is_the_mean_over_one_set_of_runs(runs: list[tuple[int, str]]) -> None:
    rows = [run("f0", 0.1, seed, epochs=epochs, status=status) for seed, (epochs, status) in enumerate(runs)]
    found = measure(arrange(rows, ["activation"]).grouping, up_to, "dead_ratio")
    (means,) = found.means.values()
    sets: dict[str, set[tuple[int, ...]]] = {}
    for row in means:
        alive = [r for r in rows if r["epochs"] >= row["epoch"] and r["status"] == "done"]
        assert row["mean"] == pytest.approx(stats.mean([up_to(r)[row["epoch"]]["dead_ratio"] for r in alive]), rel=1e-5)
        assert row["n"] == len(alive)
        sets.setdefault(row["line"], set()).add(tuple(r["seed"] for r in alive))
    assert all(len(found) == 1 for found in sets.values())
    assert len(found.breaks) == max(0, len(sets) - 1)
    assert sum(row["end"] for row in means) == len(sets)


def test_a_line_that_breaks_is_told_and_has_a_mark_at_each_end() -> None:
    rows = [run("f0", 0.1, seed, epochs=epochs) for seed, epochs in enumerate((2, 2, 10, 10))]
    rows += [run("f1", 0.1, seed, epochs=10) for seed in range(4)]
    by = ["activation"]
    for chart in (figures.curves(rows, up_to, "dead_ratio", by=by), figures.dead(rows, up_to, by=by)):
        assert "A line breaks where its set of runs changes: f0 after epoch 2." in subtitle(chart)
        assert {row["line"] for row in data_of(chart) if "line" in row} == {"0.0", "0.1", "1.0"}
        assert {row["epoch"] for row in data_of(chart) if row.get("line", "")[:1] == "0" and row["end"]} == {2, 10}
    whole = figures.curves([row for row in rows if row["epochs"] == 10], up_to, "dead_ratio", by=by)
    assert "A line breaks" not in subtitle(whole)


def test_a_broken_line_has_a_gap_in_the_picture() -> None:
    rows = [run("f0", 0.1, seed, epochs=epochs) for seed, epochs in enumerate((2, 2, 10, 10))]
    svg = figures.render(figures.curves(rows, up_to, "dead_ratio", by=["activation"]), "svg").decode()
    lines = re.findall(r'<path[^>]* d="(M[^"]*)"[^>]*stroke-width="2.2"', svg)
    assert [line.count("L") for line in lines] == [2, 7]  # epochs 0 to 2, and 3 to 10


def test_the_untrained_network_is_left_out_of_accuracies_and_losses_only() -> None:
    found = arrange(grid(2)).grouping
    assert measure(found, curve, "test_accuracy").first == 1
    assert measure(found, curve, "train_loss").first == 1
    assert measure(found, curve, "dead_ratio").first == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1))
def test_an_axis_holds_every_run_and_no_impossible_share(values: list[float], shift: float) -> None:
    rows = [run(seed=i, value=value) for i, value in enumerate(values)]
    found = arrange(rows)
    lines = {
        row["seed"]: [{"epoch": e, "dead_ratio": (row["value"] + shift * e) / 2} for e in range(2)] for row in rows
    }
    low, high = axis_domain(measure(found.grouping, lambda row: lines[row["seed"]], "dead_ratio"), found.groups)
    drawn = [line["dead_ratio"] for of_run in lines.values() for line in of_run]
    assert 0 <= low <= min(drawn) + 1e-6
    assert max(drawn) - 1e-6 <= high
    assert low < high


def test_a_metric_without_a_curve_or_without_values_is_refused() -> None:
    with pytest.raises(UsageError, match="has no curve"):
        figures.curves(grid(2), curve, "epochs_to:test_accuracy>=0.9")
    with pytest.raises(UsageError, match="no epoch of these runs"):
        figures.curves(grid(2), lambda row: [], "test_accuracy")
    with pytest.raises(UsageError, match="--log"):
        figures.curves(grid(2), curve, "dead_ratio", log=True)
    with pytest.raises(UnknownNameError, match="did you mean 'dead_ratio'"):
        figures.curves(grid(2), curve, "dead_ratios")


@pytest.mark.parametrize("rows", [[], [run(status="failed")]])
def test_nothing_to_draw_is_said(rows: list[Row]) -> None:
    for draw in (lambda: figures.curves(rows, curve), lambda: figures.heatmap(rows), lambda: figures.landscape(rows)):
        with pytest.raises(UsageError, match=r"no runs to draw|nothing to draw"):
            draw()


# --- charts ------------------------------------------------------------------------------------------------------


def subtitle(chart: Any) -> str:
    return " ".join(figures.specification(chart)["title"]["subtitle"])


def test_diverged_runs_and_mixed_settings_are_told_under_the_title() -> None:
    rows = [*grid(2, 2), run("f0", 0.1, 7, status="diverged")]
    told = subtitle(figures.curves(rows, curve, by=["activation"]))
    assert "1 run diverged and has no final value: f0 (1 of 7)" in told
    assert "lr: 0.1, 0.2" in told
    assert "Cross: diverged" in told


def test_a_chart_may_hold_more_rows_than_altairs_limit() -> None:
    rows = [run(seed=seed, dead_ratio=seed / 6_000) for seed in range(6_000)]
    assert len(data_of(figures.landscape(rows))) == 6_000


def test_many_variants_are_cut_to_a_page_with_a_note_and_the_deadest_are_named() -> None:
    rows = [run(f"f{i:02}") for i in range(40)]
    deadest = {f"f{i:02}" for i in range(30, 37)}

    def short(row: Row) -> list[Row]:
        return [{**line, "dead_ratio": 0.5 * (row["activation"] in deadest)} for line in curve(row)[1:2]]

    chart = figures.curves(rows, short)
    assert len(figures.specification(chart)["concat"]) == 36
    assert "36 of 40 panels" in subtitle(chart)
    dead = figures.dead(rows, short)
    scales = re.findall(r'"domain": (\[[^\]]*"f30"[^\]]*\])', json.dumps(figures.specification(dead)))
    assert {name for scale in scales for name in json.loads(scale)} == deadest
    assert "7 of 40" in subtitle(dead)


def test_dead_draws_four_metrics_a_row() -> None:
    spec = figures.specification(figures.dead(grid(4, 2), curve))
    assert spec["columns"] == 4
    assert len(spec["concat"]) == 8


def cells(chart: Any) -> dict[tuple[str, str], Row]:
    return {(row["down"], row["across"]): row for row in data_of(chart) if "across" in row}


def test_a_heat_map_has_the_mean_of_each_cell_and_marks_diverged_runs() -> None:
    rows = [*grid(2, 2), run("f0", 0.1, 9, status="diverged"), run("f2", 0.2, 0, status="diverged")]
    found = cells(figures.heatmap(rows, "activation", "lr", "test_accuracy"))
    assert found["f1", "0.2"]["mean"] == pytest.approx(0.9 + 0.02 + 0.001)
    assert found["f0", "0.1"]["text"] == "91.1%*"
    assert found["f2", "0.2"]["text"] == "diverged"
    assert ("f2", "0.1") not in found


def test_a_heat_map_never_averages_datasets() -> None:
    rows = [*grid(2, 2, dataset="mnist", dead_ratio=0.0), *grid(2, 2, dataset="digits", dead_ratio=0.5)]
    values = {(row["dataset"], row["mean"]) for row in data_of(figures.heatmap(rows)) if "across" in row}
    assert values == {("mnist", 0.0), ("digits", 0.5)}
    side_by_side = cells(figures.heatmap(rows, "activation", "dataset"))
    assert side_by_side["f0", "mnist"]["mean"] == 0.0
    assert side_by_side["f0", "digits"]["mean"] == 0.5


def test_a_heat_map_chooses_the_settings_that_vary_and_refuses_what_it_cannot_draw() -> None:
    assert "by activation and lr" in figures.specification(figures.heatmap(grid(2, 2)))["title"]["text"]
    with pytest.raises(UsageError, match="two different settings"):
        figures.heatmap(grid(2), "lr", "lr")
    with pytest.raises(UnknownNameError, match="column 'lrr'"):
        figures.heatmap(grid(2), "lrr")
    with pytest.raises(UsageError, match="at most 60"):
        figures.heatmap([run(lr=i / 1000) for i in range(1, 70)], "activation", "lr")


def test_values_over_many_decades_get_a_logarithmic_scale() -> None:
    rows = [run(lr=lr, test_loss=loss) for lr, loss in ((0.1, 0.01), (0.2, 1.0), (0.3, 1e9))]
    assert '"type": "log"' in json.dumps(figures.specification(figures.heatmap(rows, metric="test_loss")))
    assert '"type": "log"' in json.dumps(figures.specification(figures.landscape(rows, y="test_loss")))
    assert '"type": "log"' not in json.dumps(figures.specification(figures.heatmap(rows)))


def test_a_landscape_has_one_mark_for_every_run_that_did_not_diverge() -> None:
    rows = [*grid(9, 2), run("f0", 0.1, 9, status="diverged")]
    marks = [row for row in data_of(figures.landscape(rows)) if "variant" in row]
    assert len(marks) == 54
    assert {row["series"] for row in marks} >= {"0.1", "0.2"}


def test_equal_rows_give_equal_charts() -> None:
    first, second = (figures.specification(figures.dead(grid(2, 2, 2), curve)) for _ in range(2))
    assert first == second


# --- activations -------------------------------------------------------------------------------------------------


def choice(name: str, **parameters: Any) -> tuple[Choice, ...]:
    return (Choice.of("activation", name, **parameters),)


def test_saturated_regions_are_where_the_definition_puts_them() -> None:
    assert shape(choice("relu")).zero == [(-8.0, pytest.approx(0.0, abs=0.03))]
    left, right = shape(choice("tanh")).saturated
    edge = math.acosh(10)  # tanh' = 1 / cosh^2 = 0.01
    assert (left[1], right[0]) == (pytest.approx(-edge, abs=0.03), pytest.approx(edge, abs=0.03))
    assert shape(choice("tanh")).zero == []
    assert shape(choice("identity")).saturated == []
    assert shape(choice("leaky_relu")).saturated == []  # its slope of 0.01 is exactly at the bound


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_the_points_kept_of_an_activation_show_it_to_a_thousandth(name: str) -> None:
    chosen = choice(name)
    entry, params = ACTIVATIONS[name], chosen[0].params
    inputs, _ = entry.ratio(params)
    drawn = shape(chosen).outputs[0]
    assert len(drawn) < 400
    for (z0, y0), (z1, y1) in pairwise(drawn):
        if y0 is None or y1 is None or z0 == z1:
            continue
        z = torch.linspace(z0 + 1e-9, z1 - 1e-9, 5, dtype=torch.float64)
        others = torch.full((5, inputs - 1), 0.0 if name == "maxout" else 1.0, dtype=torch.float64)
        exact = chain_function(torch.cat([others, z[:, None]], dim=-1), [(entry, params)])[:, 0]
        straight = torch.tensor([y0 + (y1 - y0) * (float(at) - z0) / (z1 - z0) for at in z], dtype=torch.float64)
        assert float((exact - straight).abs().max()) < 5e-3


def test_a_jump_is_a_gap_at_the_jump() -> None:
    slope = shape(choice("relu")).slope
    gap = next(i for i, (_, y) in enumerate(slope) if y is None)
    assert slope[gap][0] == pytest.approx(0, abs=1e-6)
    assert (slope[gap - 1][1], slope[gap + 1][1]) == (0, 1)


def test_activations_are_named_with_their_parameters_and_chains_with_their_links() -> None:
    chains = [choice("elu", alpha=2.0), choice("relu") + choice("sigmoid")]
    text = json.dumps(figures.specification(figures.activations(chains)))
    assert "elu(alpha=2)" in text
    assert "relu > sigmoid" in text


# --- neurons -----------------------------------------------------------------------------------------------------


def unit(number: int, rate: float | None, **changes: Any) -> Row:
    flags = {"dead": rate == 0, "near_dead": rate == 0, "rms": rate}
    return {"layer": 0, "unit": number, "firing_rate": rate, **flags, **changes}


def test_a_histogram_counts_every_unit_once_and_the_silent_ones_apart() -> None:
    rates = [0, 0, 0.0001, 0.049, 0.05, 0.5, 1.0]
    rows = [row for row in data_of(figures.neurons(run(), [unit(i, r) for i, r in enumerate(rates)])) if "rates" in row]
    assert {(row["rates"], row["state"]): row["units"] for row in rows} == {
        ("never", "dead"): 2, ("0% to 5%", "other"): 2, ("5% to 10%", "other"): 1, ("50% to 55%", "other"): 1,
        ("95% to 100%", "other"): 1,
    }  # fmt: skip


def test_weights_of_dead_and_of_the_most_active_units_are_pictured_with_one_scale() -> None:
    members = [unit(i, 0 if i < 20 else i / 40) for i in range(40)]
    weights = np.linspace(-1, 1, 40 * 784, dtype=np.float32).reshape(40, 784)
    chart = figures.neurons(run(), members, weights)
    pictured = [row["unit"] for row in data_of(chart) if "picture" in row]
    assert len(pictured) == 16
    assert (pictured[0], pictured[7]) == ("unit 0", "unit 19")
    assert pictured[8:] == [f"unit {i}" for i in range(39, 31, -1)]
    assert "8 of 20" in json.dumps(figures.specification(chart))


def test_a_picture_shows_each_weight_at_its_place_blue_below_zero_orange_above_and_white_at_zero() -> None:
    weights = np.zeros(784)
    weights[0], weights[-1], weights[29] = -1.0, 5.0, np.nan
    address = picture(weights, 1.0)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    assert pixels.shape == (112, 112, 3)
    assert tuple(pixels[0, 0]) == (0, 90, 160)
    assert tuple(pixels[-1, -1]) == (213, 94, 0)
    assert tuple(pixels[4, 4]) == tuple(pixels[50, 50]) == (247, 247, 247)


@given(st.floats(-2, 2), st.floats(0.01, 10))
def test_the_colours_of_weights_are_neutral_at_zero_and_equally_strong_on_both_sides(
    weight: float, limit: float
) -> None:
    def colour(value: float) -> Any:
        address = picture(np.full(784, value * limit), limit)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))[0, 0].astype(int)

    white, ends = colour(0), {-1: colour(-1), 1: colour(1)}
    assert len(set(white)) == 1
    sign, share = (1 if weight >= 0 else -1), min(1, abs(weight))
    assert np.abs(colour(weight) - (white + share * (ends[sign] - white))).max() <= 1


def test_the_key_of_the_weights_is_symmetric_about_zero_and_has_the_pictures_colours() -> None:
    weights = np.linspace(-0.1, 3, 8 * 784, dtype=np.float32).reshape(8, 784)
    text = json.dumps(figures.specification(figures.neurons(run(), [unit(i, 0.5) for i in range(8)], weights)))
    (scale,) = {json.dumps(found) for found in _scales(json.loads(text)) if "#f7f7f7" in json.dumps(found)}
    low, middle, high = json.loads(scale)["domain"]
    assert (middle, low) == (0, -high)
    assert json.loads(scale)["range"] == ["#005aa0", "#f7f7f7", "#d55e00"]


def _scales(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from (found for key, found in value.items() if key == "scale" and isinstance(found, dict))
        value = list(value.values())
    for one in value if isinstance(value, list) else []:
        yield from _scales(one)


@pytest.mark.parametrize("weights", [None, np.zeros((3, 100)), np.zeros((5, 784)), np.zeros((16, 1, 3, 3))])
def test_weights_that_are_no_images_are_said_and_not_drawn(weights: Any) -> None:
    chart = figures.neurons(run(), [unit(i, None) for i in range(3)], weights)
    assert "No pictures of weights" in subtitle(chart)
    assert figures.render(chart, "svg")


def test_units_without_outputs_of_their_own_have_no_histogram_but_pictures() -> None:
    members = [unit(i, None, rms=None, dead=False, near_dead=False) for i in range(20)]
    chart = figures.neurons(run("glu"), members, np.ones((20, 784)))
    assert "no firing rate" in subtitle(chart)
    assert len([row for row in data_of(chart) if "picture" in row]) == 8
    assert not [row for row in data_of(chart) if "rates" in row]


def test_layers_of_a_convolutional_network_are_named() -> None:
    members = [{**unit(0, 0.5), "layer": layer} for layer in range(3)]
    text = json.dumps(figures.specification(figures.neurons(run(network="cnn"), members)))
    assert "convolution 2, 1 unit" in text
    assert "hidden layer 1, 1 unit" in text


def test_a_run_without_hidden_units_is_refused() -> None:
    with pytest.raises(UsageError, match="no measured hidden units to draw: its network has none"):
        figures.neurons(run(), [])
    with pytest.raises(UsageError, match="it diverged"):
        figures.neurons(run(status="diverged"), [])


# --- cost --------------------------------------------------------------------------------------------------------


def test_costs_are_drawn_from_the_cheapest_on_and_without_what_is_missing() -> None:
    rows = [{"activation": name, "forward_ns": ns, "backward_ns": ns} for name, ns in (("slow", 2.0), ("fast", 1.0))]
    spec = figures.specification(figures.cost(rows))
    assert re.findall(r'"sort": \["(\w+)", "(\w+)"\]', json.dumps(spec))[0] == ("fast", "slow")
    assert "share" not in json.dumps(spec["datasets"])
    whole = [{**row, "forward_low": 1, "forward_high": 2, "backward_low": 1, "backward_high": 2, "step_share": 0.1}
             for row in rows]  # fmt: skip
    assert "10.0%" in json.dumps(figures.specification(figures.cost(whole, {"elements": "64x512", "rounds": 5})))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"activation": "relu", "forward_ns": 1.0}],
        [{"forward_ns": 1, "backward_ns": 1}],
        [{"activation": "relu", "forward_ns": "fast", "backward_ns": 1}],
    ],
)
def test_costs_without_a_name_or_a_time_are_refused(rows: list[Row]) -> None:
    with pytest.raises(UsageError, match=r"activation|no activation"):
        figures.cost(rows)


# --- files -------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def hostile_runs() -> list[Row]:
    names = [HOSTILE, HOSTILE + "B", "=cmd|' /C calc'!A0", "${x} {{7*7}} %s"]
    return [run(name, seed=seed, name=name) for name in names for seed in range(2)]


@pytest.fixture(scope="module")
def hostile_charts() -> dict[str, Any]:
    rows = hostile_runs()
    return {
        "curves": figures.curves(rows, curve),
        "dead": figures.dead(rows, curve),
        "heatmap": figures.heatmap(rows, "activation", "lr"),
        "landscape": figures.landscape(rows),
        "neurons": figures.neurons(rows[0], [unit(0, 0.5)]),
        "cost": figures.cost([{"activation": HOSTILE, "forward_ns": 1.0, "backward_ns": 1.0}]),
    }


@pytest.mark.parametrize("kind", ["curves", "dead", "heatmap", "landscape", "neurons", "cost"])
def test_a_hostile_name_is_text_in_a_picture_and_nothing_else(kind: str, hostile_charts: dict[str, Any]) -> None:
    chart = hostile_charts[kind]
    tree = ET.fromstring(figures.render(chart, "svg").decode())
    assert not {element.tag for element in tree.iter()} & {f"{SVG}script", f"{SVG}img", f"{SVG}foreignObject"}
    assert not [name for element in tree.iter() for name in element.attrib if name.lower().startswith("on")]
    texts = "".join(tree.itertext())
    assert "</script>" in texts
    assert all(sign.isprintable() or sign.isspace() for sign in texts)
    assert len(max(texts.split("A" * 5), key=len)) < 5_000


def test_a_page_lets_only_its_own_script_run_and_holds_no_address_to_load(hostile_charts: dict[str, Any]) -> None:
    page = figures.render(hostile_charts["curves"], "html").decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    *_, script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    outside = page.replace(script, "")
    assert not re.findall(r"<(?:link|img|iframe|script[^>]*src)", outside)
    assert "owned'</script>" not in outside
    assert json.loads(re.findall(r'id="chart-data">(.*?)</script>', page, re.DOTALL)[0])["title"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_chart_has_no_colours_of_its_own_paper(theme: figures.Theme) -> None:
    chart = figures.curves(grid(3), curve)
    assert "config" not in figures.specification(chart, None)
    paper = figures.configuration(theme)["background"]
    drawn = Image.open(io.BytesIO(figures.render(chart, "png", theme=theme)))
    assert "#{:02x}{:02x}{:02x}".format(*drawn.convert("RGB").getpixel((2, 2))) == paper


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_and_lines_stand_out_from_the_paper(theme: figures.Theme) -> None:
    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    config = figures.configuration(theme)
    paper = config["background"]
    assert contrast(config["title"]["color"], paper) > 12
    assert contrast(config["axis"]["labelColor"], paper) > 4.5
    assert all(contrast(colour, paper) > 2.2 for colour in config["range"]["category"])
    assert len(set(config["range"]["category"])) == MOST_SERIES


def test_every_ending_gives_a_file_of_that_kind() -> None:
    chart = figures.landscape(grid(2))
    starts = {"svg": b"<svg", "png": b"\x89PNG\r\n", "pdf": b"%PDF-", ".HTML": b"<!doctype html>"}
    for ending, start in starts.items():
        assert figures.render(chart, ending).startswith(start)
    for wrong in ("jpg", "", "svgz"):
        with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf or \.html"):
            figures.render(chart, wrong)


# --- the page in a browser ---------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    """Open a chart's page in a browser without a network: gives (page, what the console said)."""
    sync_api = pytest.importorskip("playwright.sync_api")
    import shutil

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(offline=True, color_scheme="dark", viewport={"width": 1100, "height": 800})
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))

        def show(chart: Any) -> tuple[Any, list[str]]:
            path = tmp_path / "chart.html"
            path.write_bytes(figures.render(chart, "html"))
            page.goto(path.as_uri())
            page.wait_for_selector("svg.marks")
            return page, said

        yield show
        browser.close()


@pytest.mark.browser
def test_a_page_draws_without_a_network_follows_the_scheme_and_tells_values_on_hover(opened: Any) -> None:
    page, said = opened(figures.curves(hostile_runs(), curve))
    assert said == []
    assert page.title() != "owned"
    assert page.evaluate("getComputedStyle(document.querySelector('svg.marks')).backgroundColor") == "rgb(22, 24, 29)"
    page.hover("path[aria-roledescription='point'][opacity='0'] >> nth=0", force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.inner_text("#vg-tooltip-element")
    assert "Test accuracy" in told
    assert page.evaluate("document.querySelectorAll('#vg-tooltip-element script, #vg-tooltip-element img').length") == 0
    assert said == []
