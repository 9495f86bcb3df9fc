"""Charts over the epochs: any metric, and who dies when (layer 4).

Imports `measured`, `arrangement`, `look`; altair when used. A line is the mean over the seeds, its band the 95% t
interval, a thin line one seed; where a run diverged, its thin line ends in a cross and the mean goes on without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actbench.comparison.quantities import Curve, Row
from actbench.figures import theme
from actbench.figures.measured import Measured, measure
from actbench.figures.panels import MOST_PANELS, Arrangement, Panel, arrange
from actbench.figures.theme import MOST_SERIES, Chart, alt

DEAD_METRICS = {
    "dead_ratio": "Dead hidden units",
    "near_dead_ratio": "Near-dead hidden units",
    "deaths": "Deaths in the epoch",
    "revivals": "Revivals in the epoch",
}
_LABEL_GAP, _LABEL_OFFSET = 15, 26  # pixels between names beside line ends, and from the ends to the names


@dataclass(frozen=True)
class Frame:
    """How large a panel is in pixels, which of its axes have titles, and whether names stand beside line ends."""

    width: int
    height: int
    titled_x: bool = True
    titled_y: bool = True
    ends: bool = False
    log: bool = False


def curves(
    rows: Sequence[Row],
    curve: Curve,
    metric: str = "test_accuracy",
    *,
    by: Sequence[str] | None = None,
    log: bool = False,
    free: bool = False,
) -> Chart:
    """Draw a metric over the epochs, a line with a band for each variant.

    rows: of runs.csv, one a run. `curve(row)` gives a run's epochs. by: columns; the first makes the lines and the
    others the panels. log: a logarithmic axis. free: each panel has an axis of its own, else each dataset. Raises
    `UsageError` where no run has the metric, and for values <= 0 on a logarithmic axis.
    """
    found = arrange(rows, by)
    measured = measure(found, curve, metric)
    found = found.cut(MOST_PANELS)
    width, height, columns = _sizes(len(found.panels))
    ends = len(found.panels) == 1 and 1 < len(found.series) <= MOST_SERIES
    drawn = []
    for i, panel in enumerate(found.panels):
        is_lowest = i + columns >= len(found.panels)
        frame = Frame(width, height, is_lowest, i % columns == 0, ends, log)
        groups = panel.groups if free else [group for group in found.groups if group.dataset == panel.dataset]
        drawn.append(_panel(found, panel, measured, measured.domain(groups, log=log), frame))
    whole = drawn[0] if len(drawn) == 1 else alt.concat(*drawn, columns=columns)
    title = f"{measured.title} over the epochs: {found.summary}"
    notes = [found.compared, _explained(found, [measured]), *found.notes(), *measured.notes()]
    return theme.titled(whole, title, notes, max(600, min(len(drawn), columns) * width))


def dead(rows: Sequence[Row], curve: Curve, *, by: Sequence[str] | None = None) -> Chart:
    """Draw dead and near-dead units, deaths and revivals over the epochs: a column each, a row a panel.

    Arguments and errors as in `curves`. Where there are many variants, those with most dead units are named.
    """
    found = arrange(rows, by)
    notes = []
    if found.alone:
        ranked = measure(found, curve, "dead_ratio")
        total = len(found.series)
        found = found.highlighted(ranked.final)
        notes.append(
            f"Named are the {len(found.series)} of {total} with most dead units at the end; the others are grey."
        )
    measured = [measure(found, curve, metric, title) for metric, title in DEAD_METRICS.items()]
    found = found.cut(8)
    drawn = []
    for i, panel in enumerate(found.panels):
        for j, one in enumerate(measured):
            frame = Frame(195, 150, titled_x=i == len(found.panels) - 1)
            shown = panel if j == 0 else replace(panel, title="")
            drawn.append(_panel(found, shown, one, one.domain(found.groups), frame))
    notes = [found.compared, _explained(found, measured), *notes, *found.notes()]
    notes.append("Dead: no training image can change the unit's incoming weights (max |f′| = 0). Near-dead: max |f′| ≤ "
                 "0.1% of sup |f′|. Deaths and revivals are counts of hidden units.")  # fmt: skip
    title = f"Dead hidden units over the epochs: {found.summary}"
    return theme.titled(alt.concat(*drawn, columns=len(measured)), title, notes, 950)


def _sizes(panels: int) -> tuple[int, int, int]:
    """Return a panel's width and height, and how many stand in a row."""
    if panels == 1:
        return 560, 340, 1
    if panels <= 4:
        return 330, 230, 2
    return (240, 170, 3) if panels <= 12 else (150, 110, 6)


def _explained(found: Arrangement, measured: Sequence[Measured]) -> str:
    """Say what the marks are."""
    told = ["Line: mean over the seeds.", "Band: its 95% t interval.", "Thin: one seed each."]
    if all(one.single for one in measured):
        told = ["One seed each: no interval."]
    elif not any(rows for one in measured for rows in one.means.values()):
        told = ["Thin: one seed each."]
    if any(one.broken for one in measured):
        told.append("Cross: diverged after this epoch.")
    if found.alone:
        told.append("Grey: the other variants.")
    return " ".join(told)


@dataclass(frozen=True)
class Axes:
    """The encodings that all layers of a panel share: the epoch, any field on the metric's axis, and the series."""

    x: Any
    y: Callable[[str], Any]
    marks: Mapping[str, Any]
    domain: Sequence[float]


def _axes(found: Arrangement, panel: Panel, measured: Measured, domain: Sequence[float], frame: Frame) -> Axes:
    last = measured.last_of([group for group in found.groups if group.dataset == panel.dataset])
    first = min(measured.first, last - 1)
    scale = alt.Scale(domain=domain, type="log" if frame.log else "linear", nice=False, zero=False)
    axis = theme.axis(measured.kind, 7 if frame.height > 300 else 4, domain[1])
    title = theme.axis_title(measured.title, measured.kind) if frame.titled_y else None
    return Axes(
        x=alt.X(
            "epoch:Q",
            title="epoch" if frame.titled_x else None,
            scale=alt.Scale(domain=[first, last], nice=False),
            axis=alt.Axis(format="d", tickMinStep=1, tickCount=8 if frame.width >= 200 else 4, grid=False),
        ),
        y=lambda field: alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis),
        marks=theme.series_scales([""] if found.alone else found.series, _legend(found, frame)),
        domain=domain,
    )


def _panel(found: Arrangement, panel: Panel, measured: Measured, domain: Sequence[float], frame: Frame) -> Chart:
    """Draw one panel: from back to front grey context, bands, seeds, crosses, means, and the names at line ends."""
    axes = _axes(found, panel, measured, domain, frame)
    means = [row for name, group in panel.members for row in measured.mean_rows(name, group)]
    threads = [row for name, group in panel.members for row in measured.thread_rows(name, group)]
    context = [row for group in panel.context for row in measured.mean_rows(group.label, group)]
    layers = []
    if context:
        grey = alt.Chart(theme.records(context)).mark_line(style="context", strokeWidth=0.8, clip=True)
        layers.append(grey.encode(x=axes.x, y=axes.y("mean"), detail="line:N"))
    layers += _spread_layers(means, threads, axes, measured, frame)
    if means:
        layers += _mean_layers(means, axes, measured, frame)
    if means and frame.ends:
        layers += _names(means, axes, frame)
    return theme.headed(alt.layer(*layers).properties(width=frame.width, height=frame.height), panel.title)


def _spread_layers(
    means: list[dict[str, Any]], threads: list[dict[str, Any]], axes: Axes, measured: Measured, frame: Frame
) -> list[Chart]:
    """Draw what says how sure the means are: the bands, the seeds, and where a run diverged."""
    layers = []
    colour = {"color": axes.marks["color"]}
    floor = axes.domain[0] if frame.log else -math.inf  # there is no 0 on a logarithmic axis
    if bands := [{**row, "low": max(row["low"], floor)} for row in means if row["low"] is not None]:
        band = alt.Chart(theme.records(bands)).mark_area(opacity=0.16, clip=True)
        layers.append(band.encode(x=axes.x, y=axes.y("low"), y2="high:Q", **colour))
    if threads := [row for row in threads if not measured.single or row["diverged"]]:
        thin = alt.Chart(theme.records(threads)).mark_line(strokeWidth=0.7, opacity=0.45, clip=True)
        layers.append(thin.encode(x=axes.x, y=axes.y("value"), detail="run:N", **colour))
    low, high = axes.domain
    if crosses := [row for row in threads if row["broke"] and low <= row["value"] <= high]:
        cross = alt.Chart(theme.records(crosses)).mark_point(shape=theme.CROSS, size=60, strokeWidth=1.6)
        tooltip = _told(measured, "value", "diverged after epoch")
        layers.append(cross.encode(x=axes.x, y=axes.y("value"), **colour, tooltip=tooltip))
    return layers


def _mean_layers(means: list[dict[str, Any]], axes: Axes, measured: Measured, frame: Frame) -> list[Chart]:
    """Draw the means: a dashed line, its shape at some of the epochs, and something to point at on all of them."""
    place = {"x": axes.x, "y": axes.y("mean")}
    line = alt.Chart(theme.records(means)).mark_line(strokeWidth=2.2, clip=True)
    every = max(1, round((measured.last - measured.first) / (frame.width / 70)))
    some = [row for row in means if (measured.last - row["epoch"]) % every == 0]
    shapes = alt.Chart(theme.records(some)).mark_point(filled=True, size=42, opacity=1)
    points = alt.Chart(theme.records(means)).mark_point(filled=True, size=150, opacity=0)
    return [
        line.encode(**place, color=axes.marks["color"], strokeDash=axes.marks["strokeDash"]),
        shapes.encode(**place, color=axes.marks["color"], shape=axes.marks["shape"]),
        points.encode(**place, tooltip=_told(measured, "mean", "epoch")),
    ]


def _told(measured: Measured, field: str, when: str) -> list[Any]:
    """Return what pointing at a mark shows."""
    form = theme.exact_format(measured.kind)
    told = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("epoch:Q", title=when, format="d"),
        alt.Tooltip(f"{field}:Q", title=measured.title, format=form),
    ]
    if field == "mean":
        told += [
            alt.Tooltip("low:Q", title="95% from", format=form),
            alt.Tooltip("high:Q", title="to", format=form),
            alt.Tooltip("n:Q", title="seeds", format="d"),
        ]
    return told


def _legend(found: Arrangement, frame: Frame) -> Any:
    """Return the legend, or None where the lines are named otherwise, or there is only one."""
    if frame.ends or found.alone or len(found.series) == 1:
        return None
    return theme.legend(found.key, len(found.series))


def _names(means: list[dict[str, Any]], axes: Axes, frame: Frame) -> list[Chart]:
    """Write each line's name beside its end, moved apart where they would overlap."""
    last = {row["series"]: row for row in means}
    wanted = [theme.pixel(row["mean"], axes.domain, frame.height, log=frame.log) for row in last.values()]
    places = theme.spread(wanted, _LABEL_GAP, 0, frame.height)
    ends = [
        {**row, "place": theme.value(place, axes.domain, frame.height, log=frame.log)}
        for row, place in zip(last.values(), places, strict=True)
    ]
    data, edge, y = theme.records(ends), alt.value(frame.width), axes.y("place")
    rule = alt.Chart(data).mark_rule(strokeWidth=0.8, xOffset=6, x2Offset=_LABEL_OFFSET - 3)
    sign = alt.Chart(data).mark_point(filled=True, size=42, opacity=1, xOffset=_LABEL_OFFSET + 3)
    text = alt.Chart(data).mark_text(align="left", baseline="middle", dx=_LABEL_OFFSET + 11)
    return [
        rule.encode(x=axes.x, x2=edge, y=axes.y("mean"), y2="place:Q"),
        sign.encode(x=edge, y=y, color=axes.marks["color"], shape=axes.marks["shape"]),
        text.encode(x=edge, y=y, text="variant:N"),
    ]
