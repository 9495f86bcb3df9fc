"""Learning curves and heat maps of groups of runs, as plain numbers (layer 4; imports the comparison and `stats`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench import stats
from actbench.comparison.groups import Group
from actbench.comparison.quantities import Row
from actbench.metrics import METRICS, UNITS
from actbench.text import value_text

METRICS_OF_CURVES = (
    "test_accuracy", "test_loss", "train_accuracy", "train_loss", "validation_accuracy", "dead_ratio",
    "near_dead_ratio", "deaths", "revivals", "silent_ratio", "sparsity", "saturated_ratio", "mean_activation",
    "effective_rank", "grad_norm", "first_grad_norm",
)  # fmt: skip
_HEAT = ("test_accuracy", "dead_ratio")
_STEPS = 9  # shades of a heat map

Epochs = Callable[[Row], Sequence[Row]]


def curves(groups: Sequence[Group], epochs: Epochs) -> dict[str, Any]:
    """Return, for each metric that is there, mean and 95% t interval a group and epoch, and every seed's values.

    Fractions are given in percent. A band is there from 2 seeds on; a run that diverged ends where it did.
    """
    rows = [[list(epochs(run)) for run in group.runs] for group in groups]
    found: dict[str, Any] = {}
    for name in METRICS_OF_CURVES:
        metric = METRICS[name]
        scale = 100 if metric.kind == "fraction" else 1
        lines = [_lines(of_group, name, scale) for of_group in rows]
        if any(seeds for seeds in lines):
            found[name] = {
                "title": metric.heading,
                "doc": metric.doc,
                "unit": UNITS[metric.kind],
                "groups": [_band(seeds) for seeds in lines],
            }
    return found


def _lines(runs: Sequence[Sequence[Row]], name: str, scale: int) -> list[dict[int, float]]:
    """Each run's values by epoch; runs without any are left out."""
    lines = []
    for run in runs:
        values = {int(row["epoch"]): row.get(name) for row in run if isinstance(row.get("epoch"), int)}
        numbers = {e: float(v) * scale for e, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        if numbers:
            lines.append(numbers)
    return lines


def _band(seeds: Sequence[Mapping[int, float]]) -> dict[str, Any]:
    epochs = sorted({epoch for line in seeds for epoch in line})
    points = []
    for epoch in epochs:
        values = [line[epoch] for line in seeds if epoch in line]
        interval = stats.t_interval(values)
        low, high = (interval.low, interval.high) if interval else (None, None)
        points.append([epoch, _short(stats.mean(values)), _short(low), _short(high), len(values)])
    return {"points": points, "seeds": [[_short(line.get(epoch)) for epoch in epochs] for line in seeds]}


def _short(value: float | None) -> float | None:
    """Five digits are more than a screen shows."""
    return None if value is None else float(f"{value:.5g}")


@dataclass(frozen=True)
class HeatMap:
    """A metric over the values of two settings: cells of (text, shade 0-8, number of runs), None where none is."""

    title: str
    rows: str
    columns: str
    row_values: tuple[str, ...]
    column_values: tuple[str, ...]
    cells: tuple[tuple[tuple[str, int, int] | None, ...], ...]


def heat_maps(runs: Sequence[Row], varying: Mapping[str, Sequence[Any]]) -> list[HeatMap]:
    """Return maps of accuracy and dead units where two settings vary and most combinations of them were trained."""
    if len(varying) != 2:
        return []
    (row_key, row_values), (column_key, column_values) = varying.items()
    maps = []
    for name in _HEAT:
        means: dict[tuple[Any, Any], tuple[float, int]] = {}
        for r in row_values:
            for c in column_values:
                cell = [run.get(name) for run in runs if run.get(row_key) == r and run.get(column_key) == c]
                numbers = [float(v) for v in cell if isinstance(v, int | float)]
                if numbers:
                    means[r, c] = (sum(numbers) / len(numbers), len(cell))
        if 2 * len(means) > len(row_values) * len(column_values):
            maps.append(_map(name, row_key, row_values, column_key, column_values, means))
    return maps


def _map(
    name: str,
    row_key: str,
    row_values: Sequence[Any],
    column_key: str,
    column_values: Sequence[Any],
    means: Mapping[tuple[Any, Any], tuple[float, int]],
) -> HeatMap:
    low = min(mean for mean, _ in means.values())
    high = max(mean for mean, _ in means.values())

    def cell(r: Any, c: Any) -> tuple[str, int, int] | None:
        if (r, c) not in means:
            return None
        mean, n = means[r, c]
        shade = round((_STEPS - 1) * (mean - low) / (high - low)) if high > low else 0
        return f"{100 * mean:.2f}", shade, n

    return HeatMap(
        METRICS[name].heading,
        row_key,
        column_key,
        tuple(map(value_text, row_values)),
        tuple(map(value_text, column_values)),
        tuple(tuple(cell(r, c) for c in column_values) for r in row_values),
    )
