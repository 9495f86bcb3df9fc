"""Charts of one run's hidden units: how often they fire, and what the weights into them look like (layer 4).

Imports `look`, `comparison`; numpy, pillow and altair when used. The pictures are PNG images in data addresses: a few
kilobytes each, where a mark for every weight would take many times that.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actbench.comparison.quantities import Row, number
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.theme import Chart, alt
from actbench.registry import LazyModule
from actbench.text import value_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
image: Any = LazyModule("PIL.Image")

SIDE = 28
_CONVOLUTIONS = 2  # layers of the network cnn before its hidden ones
PICTURES = 8  # in a row of them
_BINS = 20
_STATES = {"dead": "#D55E00", "near-dead": "#F0E442", "other": "#56B4E9"}  # apart in grey as well
_SHOWN, _ENLARGED = 66, 4  # pixels of a picture in the layout, and of one weight in the image
_ENDS = ((0, 34, 78), (124, 123, 120), (254, 232, 56))  # the most negative, no and the most positive weight


def neurons(row: Row, units: Sequence[Row], weights: NDArray[Any] | None = None) -> Chart:
    """Draw one run: a histogram of the firing rates of each hidden layer, and pictures of incoming weights.

    row: the run's row of runs.csv. units: the rows of its neurons.csv. weights: (units, 784) of the first hidden layer,
    `hidden.0.weight`; pictures of its dead units and of the most active ones are drawn where they are given. A unit's
    firing rate is the share of the probe's images for which its output is not 0. Raises `UsageError` without units.
    """
    if not units:
        why = "it diverged" if row.get("status") == "diverged" else "its network has none"
        raise UsageError(f"{value_text(row.get('run_id'))} has no measured hidden units to draw: {why}")
    first = [unit for unit in units if unit["layer"] == min(unit["layer"] for unit in units)]
    rates = [number(unit.get("firing_rate")) for unit in units]
    notes, parts = [_described(row, units)], []
    if all(rate is None for rate in rates):
        notes.append(
            f"A unit of {value_text(row.get('activation'))} has no output of its own, so it has no firing rate."
        )
    else:
        parts.append(_histograms(units, _CONVOLUTIONS if row.get("network") == "cnn" else 0))
    if all(rate == 1 for rate in rates):
        notes.append(f"All units fire for every image: {value_text(row.get('activation'))} gives no zeros.")
    if weights is not None and weights.ndim == 2 and weights.shape == (len(first), SIDE * SIDE):
        parts += _galleries(first, weights)
    else:
        notes.append("No pictures of weights: the first hidden layer sees no 28x28 image, or they are not stored.")
    title = f"Hidden units of {theme.short(value_text(row.get('name')), 50)}, seed {value_text(row.get('seed'))}"
    whole = alt.vconcat(*(parts or [_text("nothing to draw")]), spacing=26)
    return theme.titled(whole.resolve_scale(color="independent"), title, notes, 640)


def _text(text: str) -> Chart:
    """Draw words in place of a chart."""
    found = alt.Chart(theme.records([{"text": text}])).mark_text(style="quiet").encode(text="text:N")
    return found.properties(width=560, height=40)


def state(unit: Row) -> str:
    """Return what neurons.csv says of a unit: dead, near-dead or other."""
    return "dead" if unit.get("dead") else "near-dead" if unit.get("near_dead") else "other"


def _described(row: Row, units: Sequence[Row]) -> str:
    counts = {name: sum(state(unit) == name for unit in units) for name in _STATES}
    dataset, activation, lr = (value_text(row.get(key)) for key in ("dataset", "activation", "lr"))
    what = f"{dataset}, {activation}, lr {lr}, one seed"
    accuracy = number(row.get("test_accuracy"))
    reached = (
        f", test accuracy {accuracy:.2%}" if accuracy is not None else ", diverged" * (row.get("status") == "diverged")
    )
    return (
        f"{what}{reached}. {counts['dead']} of {len(units)} units are dead: no training image can change the weights "
        f"into them. {counts['near-dead']} more are near-dead: max |f′| ≤ 0.1% of sup |f′|."
    )


def _histograms(units: Sequence[Row], convolutions: int) -> Chart:
    """Draw the firing rates, a panel a layer, of which the first are `convolutions`."""
    panels = []
    layers = sorted({int(unit["layer"]) for unit in units})
    for i, layer in enumerate(layers):
        found = [unit for unit in units if unit["layer"] == layer]
        name = f"convolution {i + 1}" if i < convolutions else f"hidden layer {i + 1 - convolutions}"
        panel = _histogram(_bars(found), last=i == len(layers) - 1, small=len(layers) > 2)
        panels.append(
            theme.headed(panel, f"{name}, {len(found)} unit{'s' * (len(found) > 1)}" if len(layers) > 1 else "")
        )
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=14)


def _bars(units: Sequence[Row]) -> list[dict[str, Any]]:
    """Return stacked counts of units in bins of 5%; those that never fire have a bin of their own."""
    counts: dict[tuple[float, str], int] = {}
    for unit in units:
        rate = number(unit.get("firing_rate"))
        if rate is not None:
            at = -1 / _BINS if rate == 0 else min(int(rate * _BINS), _BINS - 1) / _BINS
            counts[at, state(unit)] = counts.get((at, state(unit)), 0) + 1
    rows = []
    for at in sorted({at for at, _ in counts}):
        below = 0
        for name in _STATES:
            if count := counts.get((at, name), 0):
                rates = "never" if at < 0 else f"{at:.0%} to {at + 1 / _BINS:.0%}"
                rows.append({"from": at + 0.003, "to": at + 1 / _BINS - 0.003, "low": below, "high": below + count,
                             "state": name, "units": count, "rates": rates})  # fmt: skip
                below += count
    return rows


def _histogram(rows: list[dict[str, Any]], *, last: bool, small: bool) -> Chart:
    """Draw the bars of one layer."""
    never = "datum.value < 0 ? 'never' : format(datum.value, '.0%')"
    axis = alt.Axis(values=[-0.5 / _BINS, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1], labelExpr=never, grid=False)
    title = "firing rate: share of images for which the output is not 0" if last else None
    x = alt.X("from:Q", scale=alt.Scale(domain=[-1 / _BINS, 1], nice=False), axis=axis, title=title)
    y = alt.Y("low:Q", title="hidden units", scale=alt.Scale(nice=True), axis=alt.Axis(tickMinStep=1, tickCount=5))
    colour = alt.Color(
        "state:N", sort=None, scale=alt.Scale(domain=list(_STATES), range=list(_STATES.values())),
        legend=alt.Legend(title="hidden units", orient="right", symbolType="square"),
    )  # fmt: skip
    bars = alt.Chart(theme.records(rows)).mark_rect().encode(
        x=x, x2="to:Q", y=y, y2="high:Q", color=colour,
        tooltip=[alt.Tooltip("rates:N", title="firing rate"), alt.Tooltip("state:N"), alt.Tooltip("units:Q")],
    )  # fmt: skip
    return bars.properties(width=560, height=90 if small else 170)


def _galleries(units: Sequence[Row], weights: NDArray[Any]) -> list[Chart]:
    """Draw the weights into dead units and into the most active ones, with one scale of colours for all."""
    dead = [i for i, unit in enumerate(units) if unit.get("dead")]
    by_size = sorted(range(len(units)), key=lambda i: number(units[i].get("rms")) or 0.0)
    alive = [i for i in reversed(by_size) if i not in set(dead)][:PICTURES]
    rows = []
    if dead:
        more = f", {PICTURES} of {len(dead)}" if len(dead) > PICTURES else ""
        rows.append((f"Incoming weights of dead units{more}", _evenly(dead)))
    if all(number(unit.get("rms")) is None for unit in units):
        rows.append(("Incoming weights of some units", _evenly(range(len(units)))))
    else:
        if not dead:
            least = "No unit is dead; incoming weights of the least active units (smallest RMS output)"
            rows.append((least, by_size[:PICTURES]))
        rows.append(("Incoming weights of the most active units (largest RMS output)", alive))
    rows = [(text, members) for text, members in rows if members]
    chosen = [i for _, members in rows for i in members]
    finite = np.nan_to_num(weights[chosen].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    limit = float(np.quantile(np.abs(finite), 0.995)) or 1.0
    return [
        _gallery(text, [units[i] for i in members], weights[members], limit, keyed=row == 0)
        for row, (text, members) in enumerate(rows)
    ]


def _evenly(members: Sequence[int]) -> list[int]:
    """Return at most `PICTURES` members, evenly spread over all of them."""
    count = min(PICTURES, len(members))
    return [members[round(i * (len(members) - 1) / max(1, count - 1))] for i in range(count)]


def _gallery(text: str, units: Sequence[Row], weights: NDArray[Any], limit: float, *, keyed: bool) -> Chart:
    """Draw one row of pictures with the units' numbers and firing rates below."""
    rows = []
    for i, (unit, incoming) in enumerate(zip(units, weights, strict=True)):
        rate = number(unit.get("firing_rate"))
        below = f"unit {unit['unit']}"
        rows.append({"at": i + 0.5, "picture": picture(incoming, limit), "unit": below, "weight": 0.0,
                     "rate": "" if rate is None else "never fires" if rate == 0 else f"fires {rate:.0%}"})  # fmt: skip
    width = (_SHOWN + 6) * PICTURES
    x = alt.X("at:Q", axis=None, scale=alt.Scale(domain=[0, PICTURES], nice=False))
    data = theme.records(rows)
    key = alt.Color(
        "weight:Q",
        scale=alt.Scale(domain=[-limit, 0, limit], range=[_hex(end) for end in _ENDS], interpolate="rgb"),
        legend=alt.Legend(title="weight", gradientLength=_SHOWN + 10, tickCount=3, format=".2~g") if keyed else None,
    )
    images = alt.Chart(data).mark_image(width=_SHOWN, height=_SHOWN).encode(
        x=x, y=alt.value(_SHOWN / 2), url="picture:N", tooltip=["unit:N", "rate:N"]
    )  # fmt: skip
    invisible = alt.Chart(data).mark_point(opacity=0).encode(x=x, y=alt.value(_SHOWN / 2), color=key)
    names = [
        alt.Chart(data).mark_text(style="quiet", fontSize=10).encode(x=x, y=alt.value(_SHOWN + down), text=f"{field}:N")
        for field, down in (("unit", 10), ("rate", 22))
    ]
    chart = alt.layer(invisible, images, *names).properties(width=width, height=_SHOWN + 28)
    return theme.headed(chart, text)


def picture(incoming: NDArray[Any], limit: float) -> str:
    """Return 784 weights as a PNG in a data address, 28x28 enlarged: dark below 0, light above, grey at 0."""
    scaled = np.nan_to_num(incoming.astype(np.float64), nan=0.0) / limit
    share = np.clip(scaled, -1, 1).reshape(SIDE, SIDE, 1)
    low, middle, high = (np.asarray(end, dtype=np.float64) for end in _ENDS)
    colours = middle + np.where(share < 0, (low - middle) * -share, (high - middle) * share)
    pixels = colours.round().astype(np.uint8).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
