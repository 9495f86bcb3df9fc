"""`plot activations`: f, f', and where the slope is saturated. z is the input of the activation.

If an activation works on several inputs at once, one of them is drawn and the others are held: the value v of a gate
at 1, the other pieces of maxout at 0.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from actbench.activations import ACTIVATIONS
from actbench.activations.definition import Chain, chain_function, chain_slope, chain_sup_slope
from actbench.config import Choice
from actbench.figures import theme
from actbench.figures.theme import Chart, alt
from actbench.registry import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")

_REACH, _STEP = 8.0, 0.02
_SATURATED = 0.01  # of sup |f'|, as in `neurons`
_LOW, _HIGH = -1.5, 3.0  # the axis of a function that fits it
_DEFAULTS = (
    "relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh", "hardswish",
)  # fmt: skip
_GATE = "glu, swiglu, geglu: drawn over the gate's input, v = 1."
_HELD = {
    "glu": _GATE, "swiglu": _GATE, "geglu": _GATE, "maxout": "maxout: drawn over one of its inputs, the others at 0.",
    "crelu": "crelu: both outputs; the slope is the larger one.",
}  # fmt: skip
_LINES = ("f(z)", "f′(z)")
Point = tuple[float, float | None]


@dataclass(frozen=True)
class Shape:
    """Points of each output of f and of f' (None at a jump), and where the slope is saturated and exactly 0.

    sample: values of f on an even grid.
    """

    outputs: list[list[Point]]
    slope: list[Point]
    saturated: list[tuple[float, float]]
    zero: list[tuple[float, float]]
    sample: list[float]


def activations(chains: Sequence[Sequence[Choice]] = ()) -> Chart:
    """Draw f and f' of activations in small panels, with the saturated region shaded.

    chains: one or more choices each, as in `Variant.activation`; by default a dozen common activations. Saturated is
    where |f'| < 1% of sup |f'|, or exactly 0 if f' is unbounded.
    """
    drawn = list(chains) or [(Choice.of("activation", name),) for name in _DEFAULTS]
    columns = min(4, len(drawn))
    panels = [
        draw_shape(chain, titled_x=i + columns >= len(drawn), titled_y=i % columns == 0, large=len(drawn) <= 2)
        for i, chain in enumerate(drawn)
    ]
    notes = ["Shaded: the slope is saturated, |f′| < 1% of its supremum. Darker: it is exactly 0, so no gradient "
             "passes. z: input of the activation."]  # fmt: skip
    names = {choice.name for chain in drawn for choice in chain}
    notes += dict.fromkeys(note for name, note in _HELD.items() if name in names)
    what = f"{theme.label(_name(drawn[0]), 60)} and its slope"
    title = what if len(drawn) == 1 else f"{len(drawn)} activation functions and their slopes"
    return theme.titled(theme.tiled(panels, columns), title, notes, 225 * max(columns, 2))


def _name(chain: Sequence[Choice]) -> str:
    return " > ".join(choice.label for choice in chain)


def draw_shape(chain: Sequence[Choice], *, titled_x: bool = True, titled_y: bool = True, large: bool = False) -> Chart:
    """Draw one activation, from back to front: shades, the lines through 0, f and its slope."""
    found = shape(chain)
    domain = _domain(found)
    width, height = (400, 280) if large else (185, 140)
    x = alt.X("z:Q", title="z" if titled_x else None, scale=alt.Scale(domain=[-_REACH, _REACH], nice=False),
              axis=alt.Axis(values=[-8, -4, 0, 4, 8], grid=False))  # fmt: skip
    y = alt.Y("y:Q", title="f(z), f′(z)" if titled_y else None, scale=alt.Scale(domain=domain, nice=False, zero=False),
              axis=alt.Axis(tickCount=5))  # fmt: skip
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.4, offset=4)
    dashes = alt.Scale(domain=list(_LINES), range=[[1, 0], [6, 3]])
    shades = [
        theme.chart([{"from": low, "to": high} for low, high in spans])
        .mark_rect(style="shade")
        .encode(x=alt.X("from:Q"), x2="to:Q")
        for spans in (found.saturated, found.zero)
    ]
    origin = theme.chart([{"at": 0}]).mark_rule(strokeWidth=0.8)
    lines = theme.chart(_points_drawn(found, domain)).mark_line(strokeWidth=2.4, clip=True).encode(
        x=x, y=y, order="order:Q", detail="part:N",
        color=alt.Color("curve:N", scale=alt.Scale(domain=list(_LINES)), legend=legend, sort=None),
        strokeDash=alt.StrokeDash("curve:N", scale=dashes, legend=legend, sort=None),
        tooltip=[alt.Tooltip("curve:N"), alt.Tooltip("z:Q", format=".2f"), alt.Tooltip("y:Q", format=".4~g")],
    )  # fmt: skip
    chart = alt.layer(*shades, origin.encode(x=alt.X("at:Q")), origin.encode(y=alt.Y("at:Q")), lines)
    formula = ACTIVATIONS[chain[0].name].formula if len(chain) == 1 else ""
    below = textwrap.wrap(formula, 72 if large else 36)[:2]
    return theme.headed(chart.properties(width=width, height=height), theme.label(_name(chain)), below)


def shape(chain: Sequence[Choice]) -> Shape:
    """Return the points and regions of a chain of activations for z from -8 to 8."""
    links: Chain = [(ACTIVATIONS[choice.name], choice.params) for choice in chain]
    first, params = links[0]
    inputs, outputs = first.ratio(params)

    def at(z: Tensor) -> Tensor:
        """Return the inputs of one piece, with z in the last place: (N,) -> (N, inputs)."""
        held = torch.full((len(z), inputs - 1), 0.0 if first.name == "maxout" else 1.0, dtype=z.dtype)
        return torch.cat([held, z[:, None]], dim=-1)

    def output(number: int) -> Callable[[Tensor], Tensor]:
        return lambda z: chain_function(at(z), links)[:, number]

    def slope(z: Tensor) -> Tensor:
        return chain_slope(at(z), links)[:, -1]

    sup = float(chain_sup_slope(links))
    z = torch.arange(-round(_REACH / _STEP), round(_REACH / _STEP) + 1, dtype=torch.float64) * _STEP
    size = slope(z).abs()
    saturated = size < _SATURATED * sup if math.isfinite(sup) else size == 0
    lines = [_points(output(number), z) for number in range(outputs)]
    return Shape(lines, _points(slope, z), _spans(z, saturated), _spans(z, size == 0), output(0)(z).tolist())


def _points(function: Callable[[Tensor], Tensor], z: Tensor) -> list[Point]:
    """Return the points of a function on the grid `z`, with both ends of each jump and a gap between them."""
    left, right = z[:-1].clone(), z[1:].clone()
    for _ in range(40):  # halve each step towards the half in which the function changes more
        middle = (left + right) / 2
        before, centre, after = function(left), function(middle), function(right)
        goes_left = (centre - before).abs() >= (after - centre).abs()
        left, right = torch.where(goes_left, left, middle), torch.where(goes_left, middle, right)
    before, after = function(left), function(right)
    jumps = (after - before).abs() > 1e-4
    points: list[Point] = []
    for i, (at, value) in enumerate(zip(z.tolist(), function(z).tolist(), strict=True)):
        points.append((at, value))
        if i < len(jumps) and jumps[i]:
            place = float(left[i] + right[i]) / 2
            points += [(place, float(before[i])), (place, None), (place, float(after[i]))]
    return _thinned(points)


def _thinned(points: Sequence[Point], tolerance: float = 1e-3) -> list[Point]:
    """Drop the points that a straight line from the last kept point to the next one shows as well."""
    kept = [points[0]]
    between: list[tuple[float, float]] = []
    for (z, y), (after, then) in pairwise(points[1:]):
        start, begin = kept[-1]
        if y is not None and then is not None and begin is not None and after != start:
            between.append((z, y))
            slope = (then - begin) / (after - start)
            if all(abs(begin + slope * (at - start) - seen) <= tolerance for at, seen in between):
                continue
        kept.append((z, y))
        between = []
    return [*kept, points[-1]]


def _spans(z: Tensor, holds: Tensor) -> list[tuple[float, float]]:
    """Return the stretches of the grid on which a condition holds at neighbouring points."""
    stretches = [(held, list(members)) for held, members in groupby(range(len(z)), key=lambda i: bool(holds[i]))]
    return [(float(z[found[0]]), float(z[found[-1]])) for held, found in stretches if held and len(found) > 1]


def _points_drawn(found: Shape, domain: Sequence[float]) -> list[dict[str, Any]]:
    """Return the points of all lines. Points far outside the axis are moved to just outside it."""
    low, high = 2 * domain[0] - domain[1], 2 * domain[1] - domain[0]
    lines = [*((_LINES[0], points) for points in found.outputs), (_LINES[1], found.slope)]
    return [
        {"curve": name, "part": part, "order": i, "z": round(z, 4),
         "y": y if y is None else round(max(low, min(y, high)), 4)}
        for part, (name, points) in enumerate(lines) for i, (z, y) in enumerate(points)
    ]  # fmt: skip


def _domain(found: Shape) -> list[float]:
    """Return the usual axis, made longer if the slope or most of the function lies beyond it."""
    slopes = [y for _, y in found.slope if y is not None]
    values = sorted(found.sample)
    low, high = min(_LOW, *slopes), max(_HIGH, *slopes)
    if values[0] >= _LOW - 1:
        low = min(low, values[0])
    if sum(low <= y <= high for y in values) < len(values) / 2:
        low, high = min(low, values[len(values) // 4]), max(high, values[-len(values) // 4])
    return [math.floor(2 * low) / 2, math.ceil(2 * high) / 2]
