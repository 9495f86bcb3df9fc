"""The chart of what activations cost (layer 4). Imports `look`, `errors`; altair when used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actbench.comparison.quantities import number
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.theme import Chart, alt

_PASSES = ("forward", "backward")


def cost(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any] | None = None) -> Chart:
    """Draw ns per element forward and backward with their intervals, and the share of a training step.

    rows: as `actbench cost --json` gives them: activation, forward_ns, forward_low, forward_high, the same for
    backward, step_share (a fraction; may be missing). settings: what else that says: threads, elements, rounds, device.
    Raises `UsageError` where a row has no name or no time.
    """
    if not rows:
        raise UsageError("there is no activation in these costs; see: actbench cost --json")
    for i, row in enumerate(rows):
        if not isinstance(row.get("activation"), str) or any(number(row.get(f"{one}_ns")) is None for one in _PASSES):
            raise UsageError(f"row {i + 1} of the costs has no activation, forward_ns or backward_ns")
    ordered = sorted(rows, key=lambda row: float(row["forward_ns"]) + float(row["backward_ns"]))
    names = theme.short_all([row["activation"] for row in ordered], 30)
    height = max(60, 17 * len(names))
    y = alt.Y(
        "activation:N", title=None, sort=list(names.values()), axis=alt.Axis(grid=True, ticks=False, domain=False)
    )
    times = [_time(row, names, one) for row in ordered for one in _PASSES]
    whole = _times(times, y).properties(width=380, height=height)
    shares = [
        {"activation": names[row["activation"]], "share": share, "text": f"{share:.1%}"}
        for row in ordered
        if (share := number(row.get("step_share"))) is not None
    ]
    if shares:
        bare = alt.Y("activation:N", title=None, sort=list(names.values()), axis=None)
        whole = alt.hconcat(whole, _shares(shares, bare).properties(width=190, height=height), spacing=24)
    notes = ["Mark: mean of the rounds. Bar: its 95% t interval. Cheapest first.", *_settings(settings or {})]
    title = f"Time per element of {len(names)} activation{'s' * (len(names) > 1)}, forward and backward"
    return theme.titled(whole, title, notes, 640)


def _time(row: Mapping[str, Any], names: Mapping[str, str], one: str) -> dict[str, Any]:
    low, high = number(row.get(f"{one}_low")), number(row.get(f"{one}_high"))
    mean = float(row[f"{one}_ns"])
    return {"activation": names[row["activation"]], "series": one, "ns": mean,
            "low": mean if low is None else low, "high": mean if high is None else high}  # fmt: skip


def _times(times: list[dict[str, Any]], y: Any) -> Chart:
    marks = theme.series_scales(_PASSES, theme.legend("pass", 2))
    x = alt.X("ns:Q", title="time per element (ns)", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=6))
    data = theme.records(times)
    tooltip = [
        alt.Tooltip("activation:N"), alt.Tooltip("series:N", title="pass"), alt.Tooltip("ns:Q", format=".3f"),
        alt.Tooltip("low:Q", title="95% from", format=".3f"), alt.Tooltip("high:Q", title="to", format=".3f"),
    ]  # fmt: skip
    bars = alt.Chart(data).mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=marks["color"])
    points = alt.Chart(data).mark_point(filled=True, size=55, opacity=1)
    return alt.layer(bars, points.encode(x=x, y=y, color=marks["color"], shape=marks["shape"], tooltip=tooltip))


def _shares(shares: list[dict[str, Any]], y: Any) -> Chart:
    most = max(row["share"] for row in shares)
    x = alt.X("share:Q", title="share of a training step", scale=alt.Scale(domain=[0, 1.25 * most or 1], nice=False),
              axis=alt.Axis(format="~%", tickCount=4))  # fmt: skip
    bars = alt.Chart(theme.records(shares)).mark_bar(height=9, style="bar-quiet").encode(x=x, y=y)
    texts = alt.Chart(theme.records(shares)).mark_text(align="left", dx=4, fontSize=10).encode(x=x, y=y, text="text:N")
    return alt.layer(bars, texts)


def _settings(settings: Mapping[str, Any]) -> list[str]:
    """Say how it was measured, as far as it is known."""
    known = {
        "elements": "{} elements a call",
        "threads": "threads for the step: {}",
        "rounds": "{} rounds",
        "device": "on {}",
    }
    told = [
        form.format(theme.short(str(settings[key]))) for key, form in known.items() if settings.get(key) is not None
    ]
    return [f"Measured: {', '.join(told)}."] if told else []
