"""`plot curves`: any metric over the epochs. `plot dead` draws its panels with the same functions.

A line is the mean over the seeds, its band the 95% t interval, a thin line one seed. The thin line of a run that
diverged ends in a cross, and the mean goes on without that run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison.groups import Group
from actbench.comparison.quantities import Curve, Row
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.panels import Arrangement, LearningCurves, Panel, arrange, measure
from actbench.figures.theme import MOST_SERIES, Chart, alt

_MOST_PANELS = 36
_NAME_GAP, _NAME_OFFSET = 15, 26  # pixels between the names beside line ends, and from the line ends to the names


@dataclass(frozen=True)
class PanelFormat:
    """A panel's size in pixels, which axes have titles, whether names stand beside line ends, and a log scale for y."""

    width: int
    height: int
    titled_x: bool = True
    titled_y: bool = True
    named_ends: bool = False
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
    """Draw a metric over the epochs, with one line and band per variant.

    rows: of runs.csv, one per run. `curve(row)` returns a run's epochs. by: columns; the first makes the lines and the
    others the panels. log: a logarithmic axis. free: each panel has its own axis; otherwise each dataset has one.
    Raises `UsageError` if no run has the metric, and for values <= 0 on a logarithmic axis.
    """
    found = arrange(rows, by)
    measured = measure(found.grouping, curve, metric)
    found = found.cut(_MOST_PANELS)
    count = len(found.panels)
    width, height, columns = _sizes(count)
    drawn = []
    for i, panel in enumerate(found.panels):
        form = PanelFormat(
            width, height, titled_x=i + columns >= count, titled_y=i % columns == 0, log=log,
            named_ends=count == 1 and 1 < len(found.series) <= MOST_SERIES,
        )  # fmt: skip
        groups = panel.groups if free else [group for group in found.groups if group.dataset == panel.dataset]
        drawn.append(draw_panel(found, panel, measured, axis_domain(measured, groups, log=log), form))
    notes = [found.compared, legend_note(found, [measured]), *found.notes()]
    if any(row["epoch"] < measured.first for runs in measured.runs.values() for row in runs):
        notes.append("The untrained network (epoch 0) is not drawn.")
    title = f"{measured.title} over the epochs: {found.summary}"
    return theme.titled(theme.tiled(drawn, columns), title, notes, max(600, min(count, columns) * width))


def _sizes(panels: int) -> tuple[int, int, int]:
    """Return the width and height of a panel, and how many panels stand in a row."""
    if panels == 1:
        return 560, 340, 1
    if panels <= 4:
        return 330, 230, 2
    return (240, 170, 3) if panels <= 12 else (150, 110, 6)


def legend_note(found: Arrangement, measured: Sequence[LearningCurves]) -> str:
    """Say what the marks are."""
    texts = ["Line: mean over the seeds.", "Band: its 95% t interval.", "Thin: one seed each."]
    if all(one.single for one in measured):
        texts = ["One seed each: no interval."]
    if not any(rows for one in measured for rows in one.means.values()):
        texts = ["Thin: one seed each."]
    if any(row["broke"] for one in measured for rows in one.runs.values() for row in rows):
        texts.append("Cross: diverged after this epoch.")
    if found.alone:
        texts.append("Grey: the other variants.")
    return " ".join(texts)


def axis_domain(measured: LearningCurves, groups: Sequence[Group], *, log: bool = False) -> list[float]:
    """Return the ends of an axis that holds every run of `groups`, and their intervals as far as possible.

    Diverged runs count only if there are no others. The wide intervals of few seeds lengthen the axis by at most a
    quarter at each end. Raises `UsageError` for values <= 0 with `log`.
    """
    runs = measured.drawn(measured.runs, groups)
    values = [row["value"] for row in runs if not row["diverged"]] or [row["value"] for row in runs] or [0, 1]
    least, low, high = min(values), min(values), max(values)
    if log and low <= 0:
        raise UsageError(f"--log: {measured.metric.name} has values <= 0, which a logarithmic axis cannot show")
    if log:
        return [low / 1.1, high * 1.1]
    span = high - low or abs(high) or 1.0
    high = low + span if high == low == 0 else high
    ends = [row for row in measured.drawn(measured.means, groups) if row["low"] is not None]
    low = max(min([low, *(row["low"] for row in ends)]), low - span / 4)
    high = min(max([high, *(row["high"] for row in ends)]), high + span / 4)
    pad = 0.04 * (high - low or span)
    low, high = low - pad, high + pad
    if measured.metric.kind == "fraction" and max(values) <= 1:
        high = min(high, 1.0)
    if least >= 0:  # an axis of what cannot be negative starts at 0 or above, and a share of 0 lies on the axis
        low = 0.0 if measured.metric.kind == "count" or least <= 0.1 * span else max(low, 0.0)
    return [low, high]


@dataclass(frozen=True)
class _Encodings:
    """What all layers of a panel share: the epoch, any field on the metric's axis, and the series."""

    x: Any
    y: Callable[[str], Any]
    series: Mapping[str, Any]
    domain: Sequence[float]


def _encodings(
    found: Arrangement, panel: Panel, measured: LearningCurves, domain: Sequence[float], form: PanelFormat
) -> _Encodings:
    runs = measured.drawn(measured.runs, [group for group in found.groups if group.dataset == panel.dataset])
    last = max((row["epoch"] for row in runs), default=measured.last)
    kind, series = measured.metric.kind, [""] if found.alone else found.series
    unnamed = len(series) > 1 and not form.named_ends
    scale = alt.Scale(domain=domain, type="log" if form.log else "linear", nice=False, zero=False)
    axis = theme.axis(kind, 7 if form.height > 300 else 4, domain[1])
    title = theme.axis_title(measured.title, kind) if form.titled_y else None
    return _Encodings(
        x=alt.X(
            "epoch:Q",
            title="epoch" if form.titled_x else None,
            scale=alt.Scale(domain=[min(measured.first, last - 1), last], nice=False),
            axis=alt.Axis(format="d", tickMinStep=1, tickCount=8 if form.width >= 200 else 4, grid=False),
        ),
        y=lambda field: alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis),
        series=theme.series_scales(series, theme.legend(found.key, len(series)) if unnamed else None),
        domain=domain,
    )


def draw_panel(
    found: Arrangement, panel: Panel, measured: LearningCurves, domain: Sequence[float], form: PanelFormat
) -> Chart:
    """Draw one panel, from back to front: grey context, bands, seeds, crosses, means, and the names at line ends."""
    to = _encodings(found, panel, measured, domain, form)
    means, runs = (
        [
            {**row, "series": "" if found.alone else name, "variant": name}
            for name, group in panel.members
            for row in measured.drawn(points, [group])
        ]
        for points in (measured.means, measured.runs)
    )
    layers = []
    if context := measured.drawn(measured.means, panel.context):
        grey = theme.chart(context).mark_line(style="context", strokeWidth=0.8, clip=True)
        layers.append(grey.encode(x=to.x, y=to.y("mean"), detail="line:N"))
    layers += _spread_layers(means, runs, to, measured, form)
    if means:
        layers += _mean_layers(means, to, measured, form)
    if means and form.named_ends:
        layers += _end_names(means, to, form)
    return theme.headed(alt.layer(*layers).properties(width=form.width, height=form.height), panel.title)


def _spread_layers(
    means: list[dict[str, Any]], runs: list[dict[str, Any]], to: _Encodings, measured: LearningCurves, form: PanelFormat
) -> list[Chart]:
    """Draw how certain the means are: the bands, the seeds, and where a run diverged."""
    layers = []
    colour = {"color": to.series["color"]}
    low, high = to.domain
    floor = low if form.log else -math.inf  # a logarithmic axis has no 0
    if bands := [{**row, "low": max(row["low"], floor)} for row in means if row["low"] is not None]:
        band = theme.chart(bands).mark_area(opacity=0.16, clip=True)
        layers.append(band.encode(x=to.x, y=to.y("low"), y2="high:Q", **colour))
    if runs := [row for row in runs if not measured.single or row["diverged"]]:
        thin = theme.chart(runs).mark_line(strokeWidth=0.7, opacity=0.45, clip=True)
        layers.append(thin.encode(x=to.x, y=to.y("value"), detail="run:N", **colour))
    if crosses := [row for row in runs if row["broke"] and low <= row["value"] <= high]:
        cross = theme.chart(crosses).mark_point(shape=theme.CROSS, size=60, strokeWidth=1.6)
        tooltip = _tooltip(measured, "value", "diverged after epoch")
        layers.append(cross.encode(x=to.x, y=to.y("value"), **colour, tooltip=tooltip))
    return layers


def _mean_layers(
    means: list[dict[str, Any]], to: _Encodings, measured: LearningCurves, form: PanelFormat
) -> list[Chart]:
    """Draw the means: a dashed line, its shape at some of the epochs, and invisible marks to point at on all."""
    place = {"x": to.x, "y": to.y("mean")}
    line = theme.chart(means).mark_line(strokeWidth=2.2, clip=True)
    every = max(1, round((measured.last - measured.first) / (form.width / 70)))
    some = [row for row in means if (measured.last - row["epoch"]) % every == 0]
    shapes = theme.chart(some).mark_point(filled=True, size=42, opacity=1)
    targets = theme.chart(means).mark_point(filled=True, size=150, opacity=0)
    tooltip = [
        *_tooltip(measured, "mean", "epoch"),
        *theme.interval_tooltip(theme.exact_format(measured.metric.kind)),
        alt.Tooltip("n:Q", title="seeds", format="d"),
    ]
    return [
        line.encode(**place, color=to.series["color"], strokeDash=to.series["strokeDash"]),
        shapes.encode(**place, color=to.series["color"], shape=to.series["shape"]),
        targets.encode(**place, tooltip=tooltip),
    ]


def _tooltip(measured: LearningCurves, field: str, epoch: str) -> list[Any]:
    form = theme.exact_format(measured.metric.kind)
    return [
        alt.Tooltip("variant:N"),
        alt.Tooltip("epoch:Q", title=epoch, format="d"),
        alt.Tooltip(f"{field}:Q", title=measured.title, format=form),
    ]


def _end_names(means: list[dict[str, Any]], to: _Encodings, form: PanelFormat) -> list[Chart]:
    """Write each line's name beside its end, moved apart if names would overlap."""
    last = {row["series"]: row for row in means}
    wanted = [pixel(row["mean"], to.domain, form.height, log=form.log) for row in last.values()]
    places = spread(wanted, _NAME_GAP, 0, form.height)
    ends = [
        {**row, "place": value_at(place, to.domain, form.height, log=form.log)}
        for row, place in zip(last.values(), places, strict=True)
    ]
    edge, y = alt.value(form.width), to.y("place")
    rule = theme.chart(ends).mark_rule(strokeWidth=0.8, xOffset=6, x2Offset=_NAME_OFFSET - 3)
    sign = theme.chart(ends).mark_point(filled=True, size=42, opacity=1, xOffset=_NAME_OFFSET + 3)
    text = theme.chart(ends).mark_text(align="left", baseline="middle", dx=_NAME_OFFSET + 11)
    return [
        rule.encode(x=to.x, x2=edge, y=to.y("mean"), y2="place:Q"),
        sign.encode(x=edge, y=y, color=to.series["color"], shape=to.series["shape"]),
        text.encode(x=edge, y=y, text="variant:N"),
    ]


def pixel(value: float, domain: Sequence[float], height: float, *, log: bool = False) -> float:
    """Return how far below the top of a panel a value lies."""
    low, high, at = (math.log(one) for one in (*domain, value)) if log else (*domain, value)
    return height * (high - at) / (high - low)


def value_at(place: float, domain: Sequence[float], height: float, *, log: bool = False) -> float:
    """Return the value that lies `place` pixels below the top of a panel: the inverse of `pixel`."""
    low, high = (math.log(one) for one in domain) if log else domain
    at = high - place / height * (high - low)
    return math.exp(at) if log else at


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near those `wanted`, in the same order, at least `gap` apart, within [low, high] if they fit.

    Places that crowd form a block around the mean of what they wanted.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[list[float]] = []  # the wanted places of each block

    def start(block: Sequence[float]) -> float:
        length = gap * (len(block) - 1)
        return max(low, min(sum(block) / len(block) - length / 2, high - length))

    for i in order:
        blocks.append([min(max(wanted[i], low), high)])
        while len(blocks) > 1 and start(blocks[-1]) < start(blocks[-2]) + gap * len(blocks[-2]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    places = [start(block) + gap * position for block in blocks for position in range(len(block))]
    return [place for _, place in sorted(zip(order, places, strict=True))]
