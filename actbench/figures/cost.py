"""`plot cost`: what activations cost, as `actbench cost` measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actbench.comparison.quantities import number
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.theme import Chart, alt
from actbench.text import plural

_PASSES = ("forward", "backward")
_SETTINGS = {
    "elements": "{} elements per call", "threads": "threads for the step: {}", "rounds": "{} rounds",
    "device": "on {}",
}  # fmt: skip


def cost(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any] | None = None) -> Chart:
    """Draw ns per element, forward and backward, with their intervals, and the share of a training step.

    rows: as `actbench cost --format json` prints them: activation, forward_ns, forward_low, forward_high, the same for
    backward, and step_share (a fraction, optional). settings: how it was measured: elements, threads, rounds, device.
    Raises `UsageError` for a row without a name or a time.
    """
    if not rows:
        raise UsageError("there is no activation in these costs; see: actbench cost --format json")
    for i, row in enumerate(rows):
        if not isinstance(row.get("activation"), str) or any(number(row.get(f"{one}_ns")) is None for one in _PASSES):
            raise UsageError(f"row {i + 1} of the costs has no activation, forward_ns or backward_ns")
    ordered = sorted(rows, key=lambda row: float(row["forward_ns"]) + float(row["backward_ns"]))
    names = theme.labels_of([row["activation"] for row in ordered], 30)
    height = max(60, 17 * len(names))
    place = {"title": None, "sort": list(names.values())}
    y = alt.Y("activation:N", axis=alt.Axis(grid=True, ticks=False, domain=False), **place)
    times = [_time(row, names, one) for row in ordered for one in _PASSES]
    whole = _times(times, y).properties(width=380, height=height)
    known = [(names[row["activation"]], number(row.get("step_share"))) for row in ordered]
    shares = [{"activation": name, "share": of, "text": f"{of:.1%}"} for name, of in known if of is not None]
    if shares:
        bars = _shares(shares, alt.Y("activation:N", axis=None, **place)).properties(width=190, height=height)
        whole = alt.hconcat(whole, bars, spacing=24)
    notes = ["Mark: mean of the rounds. Bar: its 95% t interval. Cheapest first."]
    stated = {key: (settings or {}).get(key) for key in _SETTINGS}
    if told := [_SETTINGS[key].format(theme.label(str(one))) for key, one in stated.items() if one is not None]:
        notes.append(f"Measured: {', '.join(told)}.")
    title = f"Time per element of {plural(len(names), 'activation')}, forward and backward"
    return theme.titled(whole, title, notes, 640)


def _time(row: Mapping[str, Any], names: Mapping[str, str], one: str) -> dict[str, Any]:
    low, high, mean = (number(row.get(f"{one}_{what}")) for what in ("low", "high", "ns"))
    return {"activation": names[row["activation"]], "series": one, "ns": mean,
            "low": mean if low is None else low, "high": mean if high is None else high}  # fmt: skip


def _times(times: list[dict[str, Any]], y: Any) -> Chart:
    marks = theme.series_scales(_PASSES, theme.legend("pass", 2))
    x = alt.X("ns:Q", title="time per element (ns)", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=6))
    tooltip = [
        alt.Tooltip("activation:N"), alt.Tooltip("series:N", title="pass"), alt.Tooltip("ns:Q", format=".3f"),
        *theme.interval_tooltip(".3f"),
    ]  # fmt: skip
    bars = theme.chart(times).mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=marks["color"])
    points = theme.chart(times).mark_point(filled=True, size=55, opacity=1)
    return alt.layer(bars, points.encode(x=x, y=y, color=marks["color"], shape=marks["shape"], tooltip=tooltip))


def _shares(shares: list[dict[str, Any]], y: Any) -> Chart:
    most = max(row["share"] for row in shares)
    x = alt.X("share:Q", title="share of a training step", scale=alt.Scale(domain=[0, 1.25 * most or 1], nice=False),
              axis=alt.Axis(format="~%", tickCount=4))  # fmt: skip
    base = theme.chart(shares).encode(x=x, y=y)
    return alt.layer(
        base.mark_bar(height=9, style="bar-quiet"),
        base.mark_text(align="left", dx=4, fontSize=10).encode(text="text:N"),
    )
