"""`plot landscape`: one metric against another, one mark per run. Nothing is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actbench.comparison.groups import columns_of, is_diverged
from actbench.comparison.quantities import Curve, Quantity, quantity, read_once
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.panels import Arrangement, arrange
from actbench.figures.theme import Chart, alt
from actbench.store.csv import Row
from actbench.text import value_text


def landscape(
    rows: Sequence[Row],
    *,
    by: Sequence[str] | None = None,
    x: str = "dead_ratio",
    y: str = "test_accuracy",
    curve: Curve | None = None,
) -> Chart:
    """Draw one metric against another, by default test accuracy against the dead ratio.

    rows: of runs.csv. by: columns; the first makes colours and shapes, the others have no effect. `curve` returns a
    run's epochs, for metrics that need them. Raises `UsageError` if no run has both metrics.
    """
    found = arrange(rows, by, split=False)
    columns = columns_of([row for group in found.groups for row in group.runs])
    metrics = quantity(x, columns), quantity(y, columns)
    epochs, points = read_once(curve), []
    for name, group in (member for panel in found.panels for member in panel.members):
        variant = {"series": name, "variant": theme.label(group.label), "dataset": group.dataset}
        for row in group.runs:
            at = [one.read(row, epochs) for one in metrics]
            if not is_diverged(row) and None not in at:
                points.append({**variant, "seed": value_text(row.get("seed")), "x": at[0], "y": at[1]})
    if not points:
        raise UsageError(f"no run has values of both {x} and {y}; see: actbench list metrics")
    drawn = []
    for panel in found.panels:
        chosen = [point for point in points if point["dataset"] == panel.dataset]
        drawn.append(theme.headed(_scatter(chosen, found, metrics), panel.title))
    title = f"{theme.capital(theme.metric_title(metrics[1]))} against {theme.metric_title(metrics[0])}: {found.summary}"
    notes = [f"{found.compared} · one mark per run", *found.notes(metrics)]
    return theme.titled(theme.tiled(drawn, 2), title, notes, 620 if len(drawn) == 1 else 900)


def _scatter(points: list[dict[str, Any]], found: Arrangement, metrics: tuple[Quantity, Quantity]) -> Chart:
    """Draw the runs of one dataset."""
    axes = [_axis([point[side] for point in points], one) for side, one in zip("xy", metrics, strict=True)]
    several = len(found.series) > 1
    marks = theme.series_scales(found.series, theme.legend(found.key, len(found.series)) if several else None)
    tooltip = [alt.Tooltip("variant:N"), alt.Tooltip("seed:N")]
    tooltip += [
        alt.Tooltip(f"{side}:Q", title=theme.label(theme.metric_title(one)), format=theme.exact_format(one.kind))
        for side, one in zip("xy", metrics, strict=True)
    ]
    chart = theme.chart(points).mark_point(filled=True, size=70, opacity=0.75).encode(
        x=alt.X("x:Q", **axes[0]), y=alt.Y("y:Q", **axes[1]), color=marks["color"], shape=marks["shape"],
        tooltip=tooltip,
    )  # fmt: skip
    alone = len(found.panels) == 1
    return chart.properties(width=520 if alone else 380, height=360 if alone else 280)


def _axis(values: Sequence[float], one: Quantity) -> dict[str, Any]:
    """Return an axis a little longer than its values, so that no mark is cut off."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    log = theme.spans_decades(values, one.kind)
    span = high - low or abs(high) * 0.1 or 0.01
    domain = [low / 2, high * 2] if log else [low - 0.05 * span, high + 0.05 * span]
    return {
        "title": theme.axis_title(theme.metric_title(one), one.kind),
        "scale": alt.Scale(domain=domain, type="log" if log else "linear", nice=False, zero=False),
        "axis": theme.axis(one.kind, 6, high),
    }
