"""`plot heatmap`: the mean of a metric over two settings. Each dataset has its own map; datasets are never averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison.contrasts import value_of
from actbench.comparison.groups import columns_of, group_runs, order
from actbench.comparison.quantities import Curve, Quantity, quantity, read_once
from actbench.errors import UnknownNameError, UsageError
from actbench.figures import theme
from actbench.figures.panels import Arrangement, differing, seeds
from actbench.figures.theme import Chart, alt
from actbench.store.csv import Row
from actbench.text import value_text

_MOST_CELLS = 60  # in a row, and in a column


@dataclass(frozen=True)
class HeatCells:
    """The cells of a heat map: dataset, down and across (the settings' values), mean, low, high, n, runs, diverged.

    text is the mean as it is printed, with a star if some runs of the cell diverged. A cell without a mean has None
    and says why. The colours span the means from `least` to `most`, on a logarithmic scale if only that shows their
    differences.
    """

    keys: tuple[str, str]
    metric: Quantity
    cells: list[dict[str, Any]]
    runs: Arrangement
    least: float
    most: float
    log: bool

    def share(self, mean: float) -> float:
        """Return where on the scale of colours `mean` lies, from 0 (dark) to 1 (light)."""
        low, high, at = map(math.log if self.log else float, (self.least, self.most, mean))
        return (at - low) / (high - low)


def heat_cells(rows: Sequence[Row], keys: tuple[str, str], metric: str, curve: Curve | None = None) -> HeatCells:
    """Return one cell for each dataset and pair of values of the columns `keys`, down and across.

    Errors as in `heatmap`.
    """
    columns = columns_of(rows)
    for key in keys:
        if key not in columns:
            raise UnknownNameError("column", key, columns)
    one = quantity(metric, columns)
    runs = Arrangement((), (), "", group_runs(rows, keys))
    if not runs.groups:
        raise UsageError("there are no runs to draw: none was given, or all of them failed")
    epochs, cells = read_once(curve), []
    for group in runs.groups:
        of = value_of(group, one, epochs, tuple(runs.grouping.mixed))
        low, high = of.interval or (None, None)
        text = "diverged" if group.diverged else "none" if one.threshold else ""
        if of.mean is not None:
            text = theme.cell_text(of.mean, one.kind) + "*" * bool(group.diverged)
        down, across = (group.dataset if key == "dataset" else group.keys[key] for key in keys)
        cells.append(
            {"dataset": group.dataset, "down": down, "across": across, "mean": of.mean, "low": low, "high": high,
             "n": of.n, "runs": len(group.runs), "diverged": group.diverged, "text": text}
        )  # fmt: skip
    if all(cell["mean"] is None and not cell["diverged"] for cell in cells):
        raise UsageError(f"no run has a value of {metric}; see: actbench list metrics")
    means = [cell["mean"] for cell in cells if cell["mean"] is not None] or [0.0, 1.0]
    least, most = min(means), max(means)
    most = most if most > least else least + 1e-9 + abs(least) * 1e-6
    return HeatCells(keys, one, cells, runs, least, most, theme.spans_decades(means, one.kind))


def heatmap(
    rows: Sequence[Row],
    down: str | None = None,
    across: str | None = None,
    metric: str = "dead_ratio",
    *,
    curve: Curve | None = None,
) -> Chart:
    """Draw the mean of a metric over the seeds, with one cell for each pair of values of two columns.

    rows: of runs.csv. down, across: the columns; by default the first two settings that vary, else activation and lr.
    metric: anything that `compare` takes; `curve` returns a run's epochs, for metrics that need them. If some runs of
    a cell diverged, it has a star and is the mean over the others. Raises `UsageError` if there is nothing or too much
    to draw, `UnknownNameError` for columns that no run has.
    """
    keys = _chosen(rows, down, across)
    if keys[0] == keys[1]:
        raise UsageError(f"a heat map needs two different settings, got {keys[0]} twice")
    found = heat_cells(rows, keys, metric, curve)
    for key, side in zip(keys, ("down", "across"), strict=True):
        if (count := len({cell[side] for cell in found.cells})) > _MOST_CELLS:
            raise UsageError(f"{key} has {count} values, but a heat map holds at most {_MOST_CELLS}; see --filter")
    datasets = [None] if "dataset" in keys else list(dict.fromkeys(cell["dataset"] for cell in found.cells))
    maps = []
    for dataset in datasets:
        chosen = [cell for cell in found.cells if dataset is None or cell["dataset"] == dataset]
        maps.append(theme.headed(_map(chosen, found), theme.label(value_text(dataset)) if len(datasets) > 1 else ""))
    by = " and ".join(map(theme.label, keys))
    title = f"{theme.capital(theme.metric_title(found.metric))} by {by}: {seeds(found.runs.groups)}"
    notes = [f"{found.runs.compared} · mean over the seeds", *found.runs.notes([found.metric])]
    if any(cell["mean"] is not None and cell["diverged"] for cell in found.cells):
        notes.append("* Some runs of the cell diverged; it shows the mean over the others.")
    return theme.titled(theme.tiled(maps, 2), title, notes, 560 if len(maps) == 1 else 900)


def _chosen(rows: Sequence[Row], down: str | None, across: str | None) -> tuple[str, str]:
    """Return both columns, choosing those that were not given from the settings that vary."""
    if not rows:
        raise UsageError("there are no runs to draw; train some first, or name other results folders")
    grouping = group_runs(rows)
    free = [*differing(grouping.groups, grouping.by), "activation", "lr"]
    down = down or next(key for key in free if key != across)
    return down, across or next(key for key in free if key != down)


def _map(cells: list[dict[str, Any]], found: HeatCells) -> Chart:
    """Draw the cells of one dataset, with their numbers if there is room."""
    one = found.metric
    sides = {side: sorted({cell[side] for cell in cells}, key=order) for side in ("down", "across")}
    names = {side: theme.labels_of([value_text(value) for value in values], 28) for side, values in sides.items()}
    widest = max(len(cell["text"]) for cell in cells)
    room = len(sides["across"]) <= 20 and len(sides["down"]) <= 40
    width = max(44, 7 * widest + 12) if room else max(12, 900 // len(sides["across"]))
    height = 30 if room else max(12, 700 // len(sides["down"]))
    drawn = [{**cell, **{side: names[side][value_text(cell[side])] for side in sides}} for cell in cells]
    filled = [cell for cell in drawn if cell["mean"] is not None]
    empty = [cell for cell in drawn if cell["mean"] is None]
    flat = max(len(name) for name in names["across"].values()) * 6.2 < width
    axes = {
        side: {"title": theme.label(key), "sort": list(names[side].values()), "scale": alt.Scale(paddingInner=0.04),
               "axis": alt.Axis(grid=False, domain=False, ticks=False, labelPadding=6, **angle)}
        for side, key, angle in zip(sides, found.keys, ({}, {"labelAngle": 0 if flat else -40}), strict=True)
    }  # fmt: skip
    place = {"x": alt.X("across:N", **axes["across"]), "y": alt.Y("down:N", **axes["down"])}
    title, exact = theme.metric_title(one), theme.exact_format(one.kind)
    colour = alt.Color(
        "mean:Q",
        scale=alt.Scale(scheme="cividis", domain=[found.least, found.most], type="log" if found.log else "linear"),
        legend=alt.Legend(
            title=theme.axis_title(title, one.kind), gradientLength=130, tickCount=4,
            **theme.number_format(one.kind, found.most),
        ),
    )  # fmt: skip
    tooltip = [
        alt.Tooltip("down:N", title=theme.label(found.keys[0])),
        alt.Tooltip("across:N", title=theme.label(found.keys[1])),
        alt.Tooltip("mean:Q", title=theme.label(title), format=exact),
        *theme.interval_tooltip(exact),
        alt.Tooltip("n:Q", title="seeds", format="d"),
        alt.Tooltip("diverged:Q", title="diverged runs", format="d"),
    ]
    layers = [
        theme.chart(empty).mark_rect(style="empty").encode(**place, tooltip=tooltip),
        theme.chart(filled).mark_rect().encode(**place, color=colour, tooltip=tooltip),
    ]
    if room:
        dark = [cell for cell in filled if found.share(cell["mean"]) <= 0.55]
        light = [cell for cell in filled if found.share(cell["mean"]) > 0.55]
        for some, ink in ((dark, {"fill": "#ffffff"}), (light, {"fill": "#111111"}), (empty, {"style": "quiet"})):
            layers.append(theme.chart(some).mark_text(**ink).encode(**place, text="text:N"))
    return alt.layer(*layers).properties(width=alt.Step(width), height=alt.Step(height))
