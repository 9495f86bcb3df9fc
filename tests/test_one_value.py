"""A quantity has one value: the same for a row in compare, pivot, the report, heat maps, curves and landscapes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_report import stored

from actbench import figures, tables
from actbench.comparison import ComparisonRow, compare, pivot
from actbench.figures.heatmap import heat_cells
from actbench.figures.panels import arrange, measure
from actbench.metrics import METRICS as METRICS_OF
from actbench.report.gather import HEALTH_METRICS, gather
from actbench.store.csv import Row
from actbench.store.read import read_results
from actbench.store.run import StoredRun

METRICS = ("test_accuracy", "dead_ratio", "deaths")


def random_runs(root: Path, seed: int) -> list[StoredRun]:
    """Runs with gaps: settings without some seeds, diverged and failed runs, and names shared by several variants."""
    draw = random.Random(seed)
    stored(root, "n", 5, 0.5, 0.5)
    for activation in ("relu", "tanh", "elu"):
        for lr in (0.1, 0.01, 0.001):
            for number in draw.sample(range(5), draw.choice([0, 1, 2, 3, 4])):
                status = draw.choice(["done", "done", "done", "done", "diverged", "failed"])
                name = draw.choice(["n", f"{activation} {lr}"])
                stored(root, name, number, draw.random(), draw.random(), status, activation=activation, lr=lr)
    return read_results([str(root)], root)[0]


Means = dict[tuple[str, ...], float | None]


def means(rows: Sequence[ComparisonRow], metric: str) -> Means:
    return {tuple(map(str, row.keys.values())): row.results[metric].estimate.mean for row in rows}


def ended(found: Means, rows: Sequence[Row]) -> Means:
    """Leave out the rows in which all runs failed: a chart has nothing to draw for them."""
    known = {(str(row["activation"]), str(row["lr"])) for row in rows if row["status"] != "failed"}
    return {key: mean for key, mean in found.items() if key in known}


@pytest.fixture(scope="module", params=range(8))
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[StoredRun]:
    return random_runs(tmp_path_factory.mktemp("runs"), request.param)


@pytest.mark.parametrize("metric", METRICS)
def test_a_cell_of_a_pivot_and_of_a_heat_map_is_the_row_of_the_comparison(runs: list[StoredRun], metric: str) -> None:
    rows = [run.row for run in runs]
    found = means(compare(rows, by=["activation", "lr"], metrics=[metric]).rows, metric)
    grid = pivot(rows, down=["activation"], across=["lr"], metrics=[metric])
    in_pivot: Means = {
        (str(line.keys["activation"]), str(lr)): cell.results[metric].estimate.mean
        for line in grid.lines
        for (lr,), cell in line.cells.items()
    }
    heat = heat_cells(rows, ("activation", "lr"), metric).cells
    assert in_pivot == found
    assert {(str(cell["down"]), str(cell["across"])): cell["mean"] for cell in heat} == ended(found, rows)


@pytest.mark.parametrize("metric", ["test_accuracy", "dead_ratio"])  # deaths are counted per epoch in a curve
def test_a_curve_ends_at_the_value_of_its_row(runs: list[StoredRun], metric: str) -> None:
    by_id = {run.run_id: run for run in runs}
    rows = [run.row for run in runs]
    grouping = arrange(rows, ["activation"]).grouping
    curves = measure(grouping, lambda row: by_id[str(row["run_id"])].epochs(), metric)
    ends = {
        (group.label,): [row["mean"] for row in curves.means[id(group)][-1:]] for group in grouping.groups if group.runs
    }
    found = means(compare(rows, by=["activation"], metrics=[metric]).rows, metric)
    for key, end in ends.items():
        assert end == ([] if found[key] is None else [pytest.approx(found[key], rel=1e-5)])


def test_a_landscape_has_the_values_that_the_rows_are_means_of(runs: list[StoredRun]) -> None:
    rows = [run.row for run in runs]
    charted = figures.specification(figures.landscape(rows, by=["activation"]))["datasets"].values()
    marks = sorted((mark["x"], mark["y"]) for data in charted for mark in data if "series" in mark)
    assert marks == sorted((row["dead_ratio"], row["test_accuracy"]) for row in rows if row["status"] == "done")


@pytest.mark.parametrize("by", [None, ["activation"], ["activation", "lr"]])
def test_the_report_shows_the_values_of_the_comparison(runs: list[StoredRun], by: list[str] | None) -> None:
    rows = [run.row for run in runs]
    found = compare(rows, by=by, metrics=METRICS)
    page = gather(runs, by=by, metrics=METRICS)
    assert page.rows == tables.comparison_table(found)[1]
    for row, said in zip(found.rows, page.health_rows, strict=True):
        for metric in ("dead_ratio", "deaths"):
            mean = row.results[metric].estimate.mean
            assert said[0] == row.label
            text = "" if mean is None else tables.SHOW[METRICS_OF[metric].kind](mean)
            assert said[1 + HEALTH_METRICS.index(metric)] == text
    pairs = compare(rows, by=["activation", "lr"], metrics=METRICS)
    for heat, metric in zip(page.heat_tables, ("test_accuracy", "dead_ratio"), strict=False):
        assert heat.rows == "activation"
        texts = {
            (down, across): cell[0].rstrip("*")
            for down, line in zip(heat.row_values, heat.cells, strict=True)
            for across, cell in zip(heat.column_values, line, strict=True)
            if cell is not None
        }
        assert texts == {
            key: "diverged" if mean is None else tables.show_fraction(mean)
            for key, mean in ended(means(pairs.rows, metric), rows).items()
        }
