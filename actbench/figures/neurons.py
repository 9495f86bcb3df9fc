"""`plot neurons`: how often one run's hidden units fire, and what the weights into them look like.

The pictures are PNG images in data addresses. They take a few kilobytes each; a mark per weight would take many times
as much.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.comparison.quantities import number
from actbench.errors import UsageError
from actbench.figures import theme
from actbench.figures.theme import Chart, alt
from actbench.registry import LazyModule
from actbench.store.csv import Row
from actbench.text import plural, value_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
image: Any = LazyModule("PIL.Image")

FIRST_LAYER = "hidden.0.weight"
"""The name of the weights that are pictured, in a run's model."""
_SIDE = 28
_PICTURES = 8  # in a row
_BINS = 20
_STATES = {"dead": "#D55E00", "near-dead": "#F0E442", "other": "#56B4E9"}  # distinct in grey as well
_SHOWN, _ENLARGED = 66, 4  # pixels of a picture in the layout, and of one weight in the image
_ENDS = ((0, 90, 160), (247, 247, 247), (213, 94, 0))  # the most negative weight, 0 and the most positive


@dataclass(frozen=True)
class Gallery:
    """Units of one kind, each with a picture of its weights; those beyond +-`limit` have the strongest colours."""

    heading: str
    pictured: list[tuple[Row, str]]
    limit: float


def neurons(row: Row, units: Sequence[Row], weights: NDArray[Any] | None = None) -> Chart:
    """Draw one run: a histogram of the firing rates of each hidden layer, and pictures of incoming weights.

    row: the run's row of runs.csv. units: the rows of its neurons.csv. weights: (units, 784) of the first hidden layer,
    `hidden.0.weight`, from which the pictures are drawn. A unit's firing rate is the share of the probe's images for
    which its output is not 0. Raises `UsageError` without units.
    """
    if not units:
        why = "it diverged" if row.get("status") == "diverged" else "its network has none"
        raise UsageError(f"{value_text(row.get('run_id'))} has no measured hidden units to draw: {why}")
    activation = value_text(row.get("activation"))
    rates = [number(unit.get("firing_rate")) for unit in units]
    notes, parts = [_described(row, units)], []
    if all(rate is None for rate in rates):
        notes.append(f"A unit of {activation} has no output of its own, so it has no firing rate.")
    else:
        parts.append(_histograms(units, 2 if row.get("network") == "cnn" else 0))
    if all(rate == 1 for rate in rates):
        notes.append("All units fire for every image: no output is 0.")
    if found := galleries(units, weights):
        parts += [_gallery(one, keyed=one is found[0]) for one in found]
    else:
        notes.append("No pictures of weights: the first hidden layer has no 28x28 input, or they are not stored.")
    title = f"Hidden units of {theme.label(value_text(row.get('name')), 50)}, seed {value_text(row.get('seed'))}"
    nothing = theme.chart([{"text": "nothing to draw"}]).mark_text(style="quiet").encode(text="text:N")
    whole = alt.vconcat(*(parts or [nothing.properties(width=560, height=40)]), spacing=26)
    return theme.titled(whole.resolve_scale(color="independent"), title, notes, 640)


def _state(unit: Row) -> str:
    return "dead" if unit.get("dead") else "near-dead" if unit.get("near_dead") else "other"


def _described(row: Row, units: Sequence[Row]) -> str:
    counts = {name: sum(_state(unit) == name for unit in units) for name in _STATES}
    dataset, activation, lr = (value_text(row.get(key)) for key in ("dataset", "activation", "lr"))
    accuracy = number(row.get("test_accuracy"))
    ended = ", diverged" if row.get("status") == "diverged" else ""
    if accuracy is not None:
        ended = f", test accuracy {accuracy:.2%}"
    return (
        f"{dataset}, {activation}, lr {lr}, one seed{ended}. "
        f"{counts['dead']} of {len(units)} units are dead: no training image can change the weights into "
        f"them. {counts['near-dead']} more are near-dead: max |f′| ≤ 0.1% of sup |f′|."
    )


def _histograms(units: Sequence[Row], convolutions: int) -> Chart:
    """Draw the firing rates, one panel per layer; the first `convolutions` layers are convolutions."""
    layers = sorted({int(unit["layer"]) for unit in units})
    panels = []
    for i, layer in enumerate(layers):
        found = [unit for unit in units if unit["layer"] == layer]
        name = f"convolution {i + 1}" if i < convolutions else f"hidden layer {i + 1 - convolutions}"
        panel = _histogram(_bars(found), last=i == len(layers) - 1, small=len(layers) > 2)
        panels.append(theme.headed(panel, f"{name}, {plural(len(found), 'unit')}" if len(layers) > 1 else ""))
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=14)


def _bars(units: Sequence[Row]) -> list[dict[str, Any]]:
    """Return stacked counts of units in bins of 5%; units that never fire have a bin of their own."""
    counts: dict[float, dict[str, int]] = {}
    for unit in units:
        rate = number(unit.get("firing_rate"))
        if rate is not None:
            at = -1 / _BINS if rate == 0 else min(int(rate * _BINS), _BINS - 1) / _BINS
            counts.setdefault(at, dict.fromkeys(_STATES, 0))[_state(unit)] += 1
    rows = []
    for at in sorted(counts):
        below, rates = 0, "never" if at < 0 else f"{at:.0%} to {at + 1 / _BINS:.0%}"
        for name, count in counts[at].items():
            if count:
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
    tooltip = [alt.Tooltip("rates:N", title="firing rate"), alt.Tooltip("state:N"), alt.Tooltip("units:Q")]
    bars = theme.chart(rows).mark_rect().encode(x=x, x2="to:Q", y=y, y2="high:Q", color=colour, tooltip=tooltip)
    return bars.properties(width=560, height=90 if small else 170)


def galleries(units: Sequence[Row], weights: NDArray[Any] | None) -> list[Gallery]:
    """Picture the weights into dead units and into the most active units of the first layer, on one colour scale.

    units, weights: as in `neurons`. Returns nothing for weights that are not images.
    """
    lowest = min(unit["layer"] for unit in units)
    first = [unit for unit in units if unit["layer"] == lowest]
    if weights is None or weights.shape != (len(first), _SIDE * _SIDE):
        return []
    dead = [i for i, unit in enumerate(first) if unit.get("dead")]
    by_size = sorted(range(len(first)), key=lambda i: number(first[i].get("rms")) or 0.0)
    active = [i for i in reversed(by_size) if i not in dead][:_PICTURES]
    rows = []
    if dead:
        more = f", {_PICTURES} of {len(dead)}" if len(dead) > _PICTURES else ""
        rows.append((f"Incoming weights of dead units{more}", _evenly(dead)))
    if all(number(unit.get("rms")) is None for unit in first):
        rows.append(("Incoming weights of some units", _evenly(range(len(first)))))
    else:
        if not dead:
            least = "No unit is dead; incoming weights of the least active units (smallest RMS output)"
            rows.append((least, by_size[:_PICTURES]))
        rows.append(("Incoming weights of the most active units (largest RMS output)", active))
    rows = [(heading, members) for heading, members in rows if members]
    shown = np.nan_to_num(weights[[i for _, members in rows for i in members]].astype(np.float64), posinf=0, neginf=0)
    limit = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    return [
        Gallery(heading, [(first[i], picture(weights[i], limit)) for i in members], limit) for heading, members in rows
    ]


def _evenly(members: Sequence[int]) -> list[int]:
    """Return at most a row of members, evenly spread over all of them."""
    count = min(_PICTURES, len(members))
    return [members[round(i * (len(members) - 1) / max(1, count - 1))] for i in range(count)]


def _gallery(one: Gallery, *, keyed: bool) -> Chart:
    """Draw one row of pictures, with the units' numbers and firing rates below."""
    rows = []
    for i, (unit, address) in enumerate(one.pictured):
        rate = number(unit.get("firing_rate"))
        rows.append({"at": i + 0.5, "picture": address, "unit": f"unit {unit['unit']}", "weight": 0.0,
                     "rate": "" if rate is None else "never fires" if rate == 0 else f"fires {rate:.0%}"})  # fmt: skip
    x = alt.X("at:Q", axis=None, scale=alt.Scale(domain=[0, _PICTURES], nice=False))
    colours = ["#" + "".join(f"{part:02x}" for part in end) for end in _ENDS]
    key = alt.Color(
        "weight:Q",
        scale=alt.Scale(domain=[-one.limit, 0, one.limit], range=colours, interpolate="rgb"),
        legend=alt.Legend(title="weight", gradientLength=_SHOWN + 10, tickCount=3, format=".2~g") if keyed else None,
    )
    data, middle = theme.chart(rows).encode(x=x), alt.value(_SHOWN / 2)
    images = data.mark_image(width=_SHOWN, height=_SHOWN)
    small = data.mark_text(style="quiet", fontSize=10)
    chart = alt.layer(
        data.mark_point(opacity=0).encode(y=middle, color=key),
        images.encode(y=middle, url="picture:N", tooltip=["unit:N", "rate:N"]),
        *(small.encode(y=alt.value(_SHOWN + down), text=f"{of}:N") for of, down in (("unit", 10), ("rate", 22))),
    )
    return theme.headed(chart.properties(width=(_SHOWN + 6) * _PICTURES, height=_SHOWN + 28), one.heading)


def picture(incoming: NDArray[Any], limit: float) -> str:
    """Return 784 weights as a PNG in a data address, 28x28 enlarged: blue below 0, white at 0, orange above."""
    scaled = np.nan_to_num(incoming.astype(np.float64), nan=0.0) / limit
    share = np.clip(scaled, -1, 1).reshape(_SIDE, _SIDE, 1)
    low, middle, high = (np.asarray(end, dtype=np.float64) for end in _ENDS)
    colours = middle + np.where(share < 0, (low - middle) * -share, (high - middle) * share)
    pixels = colours.round().astype(np.uint8).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
