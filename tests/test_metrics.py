"""METRICS: every measured name is described once, in one unit and direction, and nothing measured goes unnamed."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from test_engine import train, variant_of

from actbench.comparison import EXTRAS
from actbench.comparison.quantities import quantity
from actbench.config import Run
from actbench.metrics import METRICS, UNITS, Better, Kind, Metric
from actbench.neurons import RATIOS


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_is_described(metric: Metric) -> None:
    assert metric.title
    assert metric.title == metric.title.strip()
    assert len(metric.doc) > 10
    assert not metric.doc.endswith(".")
    assert metric.kind in get_args(Kind)
    assert metric.better in get_args(Better)
    assert not metric.parameters


def test_no_two_metrics_share_a_title() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_every_kind_has_a_unit() -> None:
    assert set(UNITS) == set(get_args(Kind))


def test_a_heading_is_the_title_with_its_unit() -> None:
    assert METRICS["test_accuracy"].heading == "test accuracy %"
    assert METRICS["wall_s"].heading == "time s"
    assert METRICS["test_loss"].heading == "test loss"


def test_more_accuracy_is_better_less_loss_and_fewer_dead_units_too() -> None:
    for name, metric in METRICS.items():
        if name.endswith("_accuracy"):
            assert (metric.kind, metric.better) == ("fraction", "higher"), name
        if name.endswith("_loss"):
            assert (metric.kind, metric.better) == ("number", "lower"), name
    assert METRICS["dead_ratio"].better == "lower"
    assert METRICS["sparsity"].better == "neither"
    assert METRICS["accuracy_gap"].better == "lower"
    assert METRICS["images_per_s"].better == "higher"


def test_every_ratio_of_the_neurons_is_a_metric_and_a_fraction() -> None:
    assert set(RATIOS) <= set(METRICS)
    assert {METRICS[name].kind for name in RATIOS} == {"fraction"}
    assert set(EXTRAS) <= set(METRICS)


def test_exactly_the_ratios_and_shares_are_fractions() -> None:
    for name, metric in METRICS.items():
        if name.endswith("_ratio"):
            assert metric.kind == "fraction", name


def test_a_run_stores_its_numbers_under_the_names_of_metrics() -> None:
    (outcome,) = train([Run(variant_of(hidden=(4,), epochs=1), 0)]).outcomes.values()
    stored = outcome.metrics
    assert set(stored) - set(METRICS) == {"batch_loss", "widths"}  # these need no direction or unit
    assert {"born_dead_ratio", "deaths", "wall_s", *RATIOS} <= set(stored)
    assert stored["widths"] == "4"
    for name, value in stored.items():
        if name == "widths":
            continue
        assert value is not None
        assert math.isfinite(value)
        assert quantity(name, stored).read(stored, lambda row: []) == value
        if name in METRICS and METRICS[name].kind == "fraction":
            assert 0 <= value <= 1, name
