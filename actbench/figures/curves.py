"""`plot curves`: any metric over the epochs. `plot dead` draws its panels with the same functions.

A line is the mean over the seeds, its band the 95% t interval, a thin line one seed. A line breaks where some of its
runs end. The thin line of a run that diverged ends in a cross, and no mean includes that run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison.groups import Group
from actbench.comparison.quantities import Curve
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.panels import Arrangement, LearningCurves, Panel, PointsByGroup, arrange, measure, notes_on_breaks
from actbench.figures.theme import MOST_SERIES, Chart, alt
from actbench.store.csv import Row

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
    notes = [found.compared, legend_note(found, [measured]), *notes_on_breaks([measured]), *found.notes()]
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


def draw_panel(
    found: Arrangement, panel: Panel, measured: LearningCurves, domain: Sequence[float], form: PanelFormat
) -> Chart:
    """Draw one panel, from back to front: grey context, bands, seeds, crosses, means, and the names at line ends."""
    x, y, series = _encodings(found, panel, measured, domain, form)
    color, exact = series["color"], theme.exact_format(measured.metric.kind)

    def placed(marks: Chart, field: str, **encodings: Any) -> Chart:
        return marks.encode(x=x, y=y(field), **encodings)

    def named(points: PointsByGroup) -> list[dict[str, Any]]:
        drawn = [(name, row) for name, group in panel.members for row in measured.drawn(points, [group])]
        return [{**row, "series": "" if found.alone else name, "variant": name} for name, row in drawn]

    def tooltip(field: str, epoch: str) -> list[Any]:
        value = alt.Tooltip(f"{field}:Q", title=measured.title, format=exact)
        return [alt.Tooltip("variant:N"), alt.Tooltip("epoch:Q", title=epoch, format="d"), value]

    layers = []
    means, runs, context = named(measured.means), named(measured.runs), measured.drawn(measured.means, panel.context)
    if context:
        grey = theme.chart(context).mark_line(style="context", strokeWidth=0.8, clip=True)
        layers.append(placed(grey, "mean", detail="line:N"))
    low, high = domain
    floor = low if form.log else -math.inf  # a logarithmic axis has no 0
    if bands := [{**row, "low": max(row["low"], floor)} for row in means if row["low"] is not None]:
        area = theme.chart(bands).mark_area(opacity=0.16, clip=True)
        layers.append(placed(area, "low", y2="high:Q", color=color, detail="line:N"))
    if runs := [row for row in runs if not measured.single or row["diverged"]]:
        thin = theme.chart(runs).mark_line(strokeWidth=0.7, opacity=0.45, clip=True)
        layers.append(placed(thin, "value", detail="run:N", color=color))
    if crosses := [row for row in runs if row["broke"] and low <= row["value"] <= high]:
        cross = theme.chart(crosses).mark_point(shape=theme.CROSS, size=60, strokeWidth=1.6)
        layers.append(placed(cross, "value", color=color, tooltip=tooltip("value", "diverged after epoch")))
    if means:
        every = max(1, round((measured.last - measured.first) / (form.width / 70)))
        some = [row for row in means if row["end"] or (measured.last - row["epoch"]) % every == 0]
        line = theme.chart(means).mark_line(strokeWidth=2.2, clip=True)
        signs = theme.chart(some).mark_point(filled=True, size=42, opacity=1)
        targets = theme.chart(means).mark_point(filled=True, size=150, opacity=0)  # larger to point at, and invisible
        interval = [*theme.interval_tooltip(exact), alt.Tooltip("n:Q", title="seeds", format="d")]
        layers.append(placed(line, "mean", color=color, strokeDash=series["strokeDash"], detail="line:N"))
        layers.append(placed(signs, "mean", color=color, shape=series["shape"]))
        layers.append(placed(targets, "mean", tooltip=[*tooltip("mean", "epoch"), *interval]))
    if means and form.named_ends:
        ends = theme.chart(end_places(means, domain, form))
        rule = ends.mark_rule(strokeWidth=0.8, xOffset=6, x2Offset=_NAME_OFFSET - 3)
        sign = ends.mark_point(filled=True, size=42, opacity=1, xOffset=_NAME_OFFSET + 3)
        name = ends.mark_text(align="left", baseline="middle", dx=_NAME_OFFSET + 11)
        edge = alt.value(form.width)
        layers.append(placed(rule, "mean", x2=edge, y2="place:Q"))
        layers.append(sign.encode(x=edge, y=y("place"), color=color, shape=series["shape"]))
        layers.append(name.encode(x=edge, y=y("place"), text="variant:N"))
    return theme.headed(alt.layer(*layers).properties(width=form.width, height=form.height), panel.title)


def _encodings(
    found: Arrangement, panel: Panel, measured: LearningCurves, domain: Sequence[float], form: PanelFormat
) -> tuple[Any, Callable[[str], Any], Mapping[str, Any]]:
    """Return what all layers of a panel share: the epoch, any field on the metric's axis, and the series."""
    runs = measured.drawn(measured.runs, [group for group in found.groups if group.dataset == panel.dataset])
    last = max((row["epoch"] for row in runs), default=measured.last)
    x = alt.X(
        "epoch:Q",
        title="epoch" if form.titled_x else None,
        scale=alt.Scale(domain=[min(measured.first, last - 1), last], nice=False),
        axis=alt.Axis(format="d", tickMinStep=1, tickCount=8 if form.width >= 200 else 4, grid=False),
    )
    kind, series = measured.metric.kind, [""] if found.alone else found.series
    scale = alt.Scale(domain=domain, type="log" if form.log else "linear", nice=False, zero=False)
    axis = theme.axis(kind, 7 if form.height > 300 else 4, domain[1])
    title = theme.axis_title(measured.title, kind) if form.titled_y else None
    legend = theme.legend(found.key, len(series)) if len(series) > 1 and not form.named_ends else None
    return (
        x,
        lambda field: alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis),
        theme.series_scales(series, legend),
    )


def end_places(means: Sequence[dict[str, Any]], domain: Sequence[float], form: PanelFormat) -> list[dict[str, Any]]:
    """Return the last row of each line with the `place` of its name, moved apart if names would overlap."""
    ends = [*{row["series"]: row for row in means}.values()][::-1]  # of equal lines, the first one's name is on top
    scale, inverse = (math.log, math.exp) if form.log else (float, float)
    low, high = map(scale, domain)
    places = spread([scale(row["mean"]) for row in ends], _NAME_GAP * (high - low) / form.height, low, high)
    return [{**row, "place": inverse(place)} for row, place in zip(ends, places, strict=True)]


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
