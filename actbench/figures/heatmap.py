"""Charts of final values: a metric over two settings, and one metric against another (layer 4).

Imports `arrangement`, `look`, `comparison`; altair when used. Datasets get a map each and are never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison.contrasts import estimate, sample
from actbench.comparison.groups import Group, Grouping, columns_of, group_runs, is_diverged, order
from actbench.comparison.quantities import Curve, Quantity, Row, quantity
from actbench.errors import UnknownNameError, UsageError
from actbench.figures import theme
from actbench.figures.panels import Arrangement, arrange, differing, seeds
from actbench.figures.theme import Chart, alt
from actbench.text import value_text

MOST_CELLS = 60
"""So many rows, and so many columns, a heat map may have."""


def heatmap(
    rows: Sequence[Row],
    down: str | None = None,
    across: str | None = None,
    metric: str = "dead_ratio",
    *,
    curve: Curve | None = None,
) -> Chart:
    """Draw the mean of a metric over the seeds, a cell for each pair of values of the columns `down` and `across`.

    rows: of runs.csv. down, across: by default the first two settings that vary, else activation and lr. metric:
    anything that `compare` takes; `curve` gives a run's epochs where that needs them. A cell
    of which some runs diverged has a star and is the mean over the others. Raises `UsageError` where there is nothing
    to draw or too much, `UnknownNameError` for columns that no run has.
    """
    down, across = _chosen(rows, down, across)
    if down == across:
        raise UsageError(f"a heat map needs two different settings, got {down} twice")
    columns = columns_of(rows)
    for key in (down, across):
        if key not in columns:
            raise UnknownNameError("column", key, columns)
    one = quantity(metric, columns)
    if one.from_curve and curve is None:
        raise UsageError(f"{metric} needs the epochs of these runs, which are not known")
    found = Arrangement((), (), "", group_runs(rows, [down, across]))
    if not found.groups:
        raise UsageError("there are no runs to draw: none was given, or all of them failed")
    cells = [_cell(group, found.grouping, one, curve, (down, across)) for group in found.groups]
    _check_cells(cells, metric, (down, across))
    datasets = [None] if "dataset" in (down, across) else list(dict.fromkeys(cell["dataset"] for cell in cells))
    scale = Colours.of([cell["mean"] for cell in cells if cell["mean"] is not None], one)
    maps = []
    for dataset in datasets:
        chosen = [cell for cell in cells if dataset is None or cell["dataset"] == dataset]
        drawn = _map(chosen, (down, across), one, scale)
        maps.append(theme.headed(drawn, theme.short(value_text(dataset)) if len(datasets) > 1 else ""))
    what = theme.capital(theme.metric_title(one))
    title = f"{what} by {theme.short(down)} and {theme.short(across)}: {seeds(found.groups)}"
    notes = [f"{found.compared} · mean over the seeds", *found.notes()]
    if any(cell["mean"] is not None and cell["diverged"] for cell in cells):
        notes.append("* some runs of the cell diverged; it is the mean over the others.")
    whole = maps[0] if len(maps) == 1 else alt.concat(*maps, columns=2)
    return theme.titled(whole, title, notes, 560 if len(maps) == 1 else 900)


def _chosen(rows: Sequence[Row], down: str | None, across: str | None) -> tuple[str, str]:
    """Return both keys, those that were not given from the settings that vary."""
    if not rows:
        raise UsageError("there are no runs to draw; train some first, or give other results folders")
    grouping = group_runs(rows)
    free = [*differing(grouping.groups, grouping.by), "activation", "lr"]
    down = down or next(key for key in free if key != across)
    return down, across or next(key for key in free if key != down)


def _cell(
    group: Group, grouping: Grouping, one: Quantity, curve: Curve | None, keys: tuple[str, str]
) -> dict[str, Any]:
    """Return one cell: its place, its mean with interval, and the text in it."""
    nothing: Curve = lambda _: []  # noqa: E731 - without curves no quantity asks for one
    found = estimate(sample(group, one, curve or nothing, tuple(grouping.mixed)), one, 0.95)
    low, high = found.interval or (None, None)
    text = "" if found.mean is None else theme.cell_text(found.mean, one.kind)
    if found.mean is None:
        text = "diverged" if group.diverged else "none" if one.threshold else ""
    elif group.diverged:
        text += "*"
    values = [group.dataset if key == "dataset" else group.keys[key] for key in keys]
    return {
        "dataset": group.dataset, "down": values[0], "across": values[1], "mean": found.mean, "low": low, "high": high,
        "n": found.n, "runs": len(group.runs), "diverged": group.diverged, "text": text,
    }  # fmt: skip


def _check_cells(cells: Sequence[dict[str, Any]], metric: str, keys: tuple[str, str]) -> None:
    if all(cell["mean"] is None and not cell["diverged"] for cell in cells):
        raise UsageError(f"no run has a value of {metric}; see: actbench list metrics")
    for key, side in zip(keys, ("down", "across"), strict=True):
        if (count := len({cell[side] for cell in cells})) > MOST_CELLS:
            raise UsageError(f"{key} has {count} values, a heat map holds at most {MOST_CELLS}; see --filter")


@dataclass(frozen=True)
class Colours:
    """The span of the values that a map colours, on a logarithmic scale where only that shows them apart."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, means: Sequence[float], one: Quantity) -> Colours:
        """Return the colours of these values."""
        low, high = (min(means), max(means)) if means else (0.0, 1.0)
        return cls(low, high if high > low else low + 1e-9 + abs(low) * 1e-6, theme.spans_decades(means, one.kind))

    def is_light(self, value: float) -> bool:
        """Whether dark letters are read best on the colour of `value`."""
        low, high, at = map(math.log, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return (at - low) / (high - low) > 0.55

    @property
    def scale(self) -> Any:
        """The scale of the chart: dark to light, so that it can be read in grey."""
        return alt.Scale(scheme="cividis", domain=[self.low, self.high], type="log" if self.log else "linear")


def _map(cells: list[dict[str, Any]], keys: tuple[str, str], one: Quantity, colours: Colours) -> Chart:
    """Draw the cells of one dataset, with their numbers where there is room."""
    sides = {side: sorted({cell[side] for cell in cells}, key=order) for side in ("down", "across")}
    names = {side: theme.short_all([value_text(value) for value in values], 28) for side, values in sides.items()}
    widest = max(len(cell["text"]) for cell in cells)
    room = len(sides["across"]) <= 20 and len(sides["down"]) <= 40
    width = max(44, 7 * widest + 12) if room else max(12, 900 // len(sides["across"]))
    height = 30 if room else max(12, 700 // len(sides["down"]))
    rows = [
        {**cell, **{side: names[side][value_text(cell[side])] for side in sides},
         "ink": "none" if cell["mean"] is None else "dark" if colours.is_light(cell["mean"]) else "light"}
        for cell in cells
    ]  # fmt: skip
    axes = {
        side: {"title": theme.short(key), "sort": list(names[side].values()), "scale": alt.Scale(paddingInner=0.04)}
        for side, key in zip(("down", "across"), keys, strict=True)
    }
    flat = max(len(name) for name in names["across"].values()) * 6.2 < width
    plain = alt.Axis(grid=False, domain=False, ticks=False, labelPadding=6)
    turned = alt.Axis(grid=False, domain=False, ticks=False, labelPadding=6, labelAngle=0 if flat else -40)
    x, y = alt.X("across:N", axis=turned, **axes["across"]), alt.Y("down:N", axis=plain, **axes["down"])
    title = theme.axis_title(theme.capital(theme.metric_title(one)), one.kind)
    colour = alt.Color(
        "mean:Q",
        scale=colours.scale,
        legend=alt.Legend(title=title, gradientLength=130, tickCount=4, **theme.number_format(one.kind, colours.high)),
    )
    filled = alt.Chart(theme.records([row for row in rows if row["mean"] is not None])).mark_rect()
    empty = alt.Chart(theme.records([row for row in rows if row["mean"] is None])).mark_rect(style="empty")
    tooltip = _told(keys, one)
    layers = [empty.encode(x=x, y=y, tooltip=tooltip), filled.encode(x=x, y=y, color=colour, tooltip=tooltip)]
    if room:
        for ink, style in (("light", {"fill": "#ffffff"}), ("dark", {"fill": "#111111"}), ("none", {"style": "quiet"})):
            some = [row for row in rows if row["ink"] == ink]
            layers.append(alt.Chart(theme.records(some)).mark_text(**style).encode(x=x, y=y, text="text:N"))
    return alt.layer(*layers).properties(width=alt.Step(width), height=alt.Step(height))


def _told(keys: tuple[str, str], one: Quantity) -> list[Any]:
    form = theme.exact_format(one.kind)
    return [
        alt.Tooltip("down:N", title=theme.short(keys[0])),
        alt.Tooltip("across:N", title=theme.short(keys[1])),
        alt.Tooltip("mean:Q", title=theme.short(theme.metric_title(one)), format=form),
        alt.Tooltip("low:Q", title="95% from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
        alt.Tooltip("n:Q", title="seeds", format="d"),
        alt.Tooltip("diverged:Q", title="diverged runs", format="d"),
    ]


def landscape(
    rows: Sequence[Row],
    *,
    by: Sequence[str] | None = None,
    x: str = "dead_ratio",
    y: str = "test_accuracy",
    curve: Curve | None = None,
) -> Chart:
    """Draw one metric against another, by default test accuracy against the dead ratio: one mark a run.

    rows: of runs.csv. by: columns; the first makes colours and shapes, the others say nothing here, as nothing is
    averaged. Raises `UsageError` where no run has both metrics.
    """
    found = arrange(rows, by, split=False)
    columns = columns_of([row for group in found.groups for row in group.runs])
    ones = quantity(x, columns), quantity(y, columns)
    nothing: Curve = lambda _: []  # noqa: E731
    points = [
        {"series": name, "variant": theme.short(group.label), "dataset": group.dataset,
         "seed": value_text(row.get("seed")), **dict(zip(("x", "y"), values, strict=True))}
        for panel in found.panels for name, group in panel.members for row in group.runs
        if not is_diverged(row)
        and None not in (values := [one.read(row, curve or nothing) for one in ones])
    ]  # fmt: skip
    if not points:
        raise UsageError(f"no run has values of both {x} and {y}; see: actbench list metrics")
    drawn = []
    for panel in found.panels:
        chosen = [point for point in points if point["dataset"] == panel.dataset]
        drawn.append(theme.headed(_scatter(chosen, found, ones, alone=len(found.panels) == 1), panel.title))
    title = f"{theme.capital(theme.metric_title(ones[1]))} against {theme.metric_title(ones[0])}: {found.summary}"
    notes = [f"{found.compared} · one mark a run", *found.notes()]
    whole = drawn[0] if len(drawn) == 1 else alt.concat(*drawn, columns=2)
    return theme.titled(whole, title, notes, 620 if len(drawn) == 1 else 900)


def _axis(values: Sequence[float], one: Quantity) -> dict[str, Any]:
    """Return an axis a little longer than its values, so that no mark is cut."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    log = theme.spans_decades(values, one.kind)
    span = high - low or abs(high) * 0.1 or 0.01
    domain = [low / 2, high * 2] if log else [low - 0.05 * span, high + 0.05 * span]
    return {
        "title": theme.axis_title(theme.capital(theme.metric_title(one)), one.kind),
        "scale": alt.Scale(domain=domain, type="log" if log else "linear", nice=False, zero=False),
        "axis": theme.axis(one.kind, 6, high),
    }


def _scatter(
    points: list[dict[str, Any]], found: Arrangement, ones: tuple[Quantity, Quantity], *, alone: bool
) -> Chart:
    """Draw the runs of one dataset."""
    axes = {side: _axis([point[side] for point in points], one) for side, one in zip(("x", "y"), ones, strict=True)}
    several = len(found.series) > 1
    marks = theme.series_scales(found.series, theme.legend(found.key, len(found.series)) if several else None)
    tooltip = [alt.Tooltip("variant:N"), alt.Tooltip("seed:N")]
    tooltip += [
        alt.Tooltip(f"{side}:Q", title=theme.short(theme.metric_title(one)), format=theme.exact_format(one.kind))
        for side, one in zip(("x", "y"), ones, strict=True)
    ]
    mark = alt.Chart(theme.records(points)).mark_point(filled=True, size=70, opacity=0.75)
    chart = mark.encode(
        x=alt.X("x:Q", **axes["x"]), y=alt.Y("y:Q", **axes["y"]), color=marks["color"], shape=marks["shape"],
        tooltip=tooltip,
    )  # fmt: skip
    return chart.properties(width=520 if alone else 380, height=360 if alone else 280)
