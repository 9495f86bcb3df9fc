"""Charts of activation functions: f, f', and where the slope saturates (layer 4).

Imports `activations`, `config.fields`, `look`; torch and altair when used. z is the input of the activation. Where an
activation works on several inputs at once, one of them is drawn and the others are held: the value v of a gate at 1,
the other pieces of maxout at 0.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from actbench.activations import ACTIVATIONS, Chain, chain_function, chain_slope, chain_sup_slope
from actbench.config import Choice
from actbench.figures import theme
from actbench.figures.theme import Chart, alt
from actbench.registry import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")

REACH, STEP = 8.0, 0.02
SATURATED = 0.01  # of sup |f'|, as in `neurons`
LOW, HIGH = -1.5, 3.0  # the axis of a function that fits it
DEFAULTS = (
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "tanh",
    "hardswish",
)
_HELD = {"maxout": 0.0}
_CURVES = ("f(z)", "f′(z)")


@dataclass(frozen=True)
class Shape:
    """Points of each output of f and of f' (None at a jump), where the slope is saturated, and where exactly 0.

    sample: values of f on an even grid.
    """

    outputs: list[list[tuple[float, float | None]]]
    slope: list[tuple[float, float | None]]
    saturated: list[tuple[float, float]]
    zero: list[tuple[float, float]]
    sample: list[float]


def activations(chains: Sequence[Sequence[Choice]] = ()) -> Chart:
    """Draw f and f' of activations in small panels, with the saturated region shaded.

    chains: of one or more choices each, as `Variant.activation` holds them; `DEFAULTS` when none is given. Saturated is
    where |f'| <= 1% of sup |f'|, exactly 0 where that has no bound.
    """
    drawn = [*chains] or [(Choice.of("activation", name),) for name in DEFAULTS]
    columns = min(4, len(drawn))
    panels = []
    for i, chain in enumerate(drawn):
        is_lowest = i + columns >= len(drawn)
        panels.append(_panel(chain, titled_x=is_lowest, titled_y=i % columns == 0, large=len(drawn) <= 2))
    label = _label(drawn[0]) if len(drawn) == 1 else f"{len(drawn)} activation functions"
    notes = ["Shaded where the slope is saturated, |f′| ≤ 1% of its supremum; darker where it is exactly 0, so that no "
             "gradient passes. z: input of the activation."]  # fmt: skip
    held = {choice.name for chain in drawn for choice in chain if choice.name in _SEVERAL}
    notes += dict.fromkeys(_SEVERAL[name] for name in _SEVERAL if name in held)
    whole = panels[0] if len(panels) == 1 else alt.concat(*panels, columns=columns)
    title = f"{theme.short(label, 60)} and {'its slope' if len(drawn) == 1 else 'their slopes'}"
    return theme.titled(whole, title, notes, 225 * max(columns, 2))


_SEVERAL = {
    "glu": "glu, swiglu, geglu: drawn over the gate's input, v = 1.",
    "swiglu": "glu, swiglu, geglu: drawn over the gate's input, v = 1.",
    "geglu": "glu, swiglu, geglu: drawn over the gate's input, v = 1.",
    "maxout": "maxout: drawn over one of its inputs, the others at 0.",
    "crelu": "crelu: both outputs; the slope is the larger one.",
}


def shape(chain: Sequence[Choice]) -> Shape:
    """Return the points and regions of a chain of activations on [-REACH, REACH]."""
    links: Chain = [(ACTIVATIONS[choice.name], choice.params) for choice in chain]
    (first, params), *_ = links
    inputs, outputs = first.ratio(params)
    held = _HELD.get(first.name, 1.0)

    def at(z: Tensor) -> Tensor:
        """Give the other inputs of a piece their fixed value: (N,) -> (N, inputs), z in the last place."""
        others = torch.full((len(z), inputs - 1), held, dtype=z.dtype)
        return torch.cat([others, z[:, None]], dim=-1)

    def output(number: int) -> Callable[[Tensor], Tensor]:
        return lambda z: chain_function(at(z), links)[:, number]

    def slope(z: Tensor) -> Tensor:
        return chain_slope(at(z), links)[:, -1]

    sup = float(chain_sup_slope(links))
    bound = SATURATED * sup if math.isfinite(sup) else 0.0
    z = torch.arange(-round(REACH / STEP), round(REACH / STEP) + 1, dtype=torch.float64) * STEP
    size = slope(z).abs()
    lines = [_points(output(number), z) for number in range(outputs)]
    return Shape(lines, _points(slope, z), _spans(z, size <= bound), _spans(z, size == 0), output(0)(z).tolist())


def _points(function: Callable[[Tensor], Tensor], z: Tensor) -> list[tuple[float, float | None]]:
    """Return the points of a function, with its two ends and a gap at each jump."""
    left, right = z[:-1].clone(), z[1:].clone()
    for _ in range(40):  # halve each step towards the half in which the function changes more
        middle = (left + right) / 2
        ends, centre = (function(left), function(right)), function(middle)
        goes_left = (centre - ends[0]).abs() >= (ends[1] - centre).abs()
        left, right = torch.where(goes_left, left, middle), torch.where(goes_left, middle, right)
    before, after = function(left), function(right)
    jumps = (after - before).abs() > 1e-4
    points: list[tuple[float, float | None]] = []
    values = function(z)
    for i in range(len(z)):
        points.append((float(z[i]), float(values[i])))
        if i < len(jumps) and jumps[i]:
            place = float(left[i] + right[i]) / 2
            points += [(place, float(before[i])), (place, None), (place, float(after[i]))]
    return _thinned(points)


def _thinned(points: Sequence[tuple[float, float | None]], tolerance: float = 1e-3) -> list[tuple[float, float | None]]:
    """Return the points without those that a straight line from the last kept one to the next shows as well."""
    kept = [points[0]]
    between: list[tuple[float, float]] = []
    for (z, y), (after, then) in pairwise(points[1:]):
        (start, begin) = kept[-1]
        if y is None or then is None or begin is None or after == start:
            kept.append((z, y))
            between = []
            continue
        between.append((z, y))
        slope = (then - begin) / (after - start)
        if any(abs(begin + slope * (at - start) - seen) > tolerance for at, seen in between):
            kept.append((z, y))
            between = []
    return [*kept, points[-1]]


def _spans(z: Tensor, holds: Tensor) -> list[tuple[float, float]]:
    """Return the stretches of the grid on which a condition holds at neighbouring points."""
    spans: list[tuple[float, float]] = []
    for i in range(len(z) - 1):
        if holds[i] and holds[i + 1]:
            start = spans.pop()[0] if spans and spans[-1][1] == float(z[i]) else float(z[i])
            spans.append((start, float(z[i + 1])))
    return spans


def _label(chain: Sequence[Choice]) -> str:
    return " > ".join(choice.label for choice in chain)


def _panel(chain: Sequence[Choice], *, titled_x: bool, titled_y: bool, large: bool) -> Chart:
    """Draw one activation: shades behind, then the lines through 0, then f and its slope."""
    found = shape(chain)
    domain = _domain(found)
    width, height = (400, 280) if large else (185, 140)
    x = alt.X("z:Q", title="z" if titled_x else None, scale=alt.Scale(domain=[-REACH, REACH], nice=False),
              axis=alt.Axis(values=[-8, -4, 0, 4, 8], grid=False))  # fmt: skip
    y = alt.Y("y:Q", title="f(z), f′(z)" if titled_y else None, scale=alt.Scale(domain=domain, nice=False, zero=False),
              axis=alt.Axis(tickCount=5))  # fmt: skip
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.4, offset=4)
    scales = {"color": alt.Scale(domain=list(_CURVES)), "dash": alt.Scale(domain=list(_CURVES), range=[[1, 0], [6, 3]])}
    layers = [
        alt.Chart(theme.records([{"from": low, "to": high} for low, high in spans]))
        .mark_rect(style="shade")
        .encode(x=alt.X("from:Q"), x2="to:Q")
        for spans in (found.saturated, found.zero)
    ]
    origin = theme.records([{"at": 0}])
    layers.append(alt.Chart(origin).mark_rule(strokeWidth=0.8).encode(x=alt.X("at:Q")))
    layers.append(alt.Chart(origin).mark_rule(strokeWidth=0.8).encode(y=alt.Y("at:Q")))
    layers.append(
        alt.Chart(theme.records(_rows(found, domain)))
        .mark_line(strokeWidth=2.4, clip=True)
        .encode(
            x=x, y=y, order="order:Q", detail="part:N",
            color=alt.Color("curve:N", scale=scales["color"], legend=legend, sort=None),
            strokeDash=alt.StrokeDash("curve:N", scale=scales["dash"], legend=legend, sort=None),
            tooltip=[alt.Tooltip("curve:N"), alt.Tooltip("z:Q", format=".2f"), alt.Tooltip("y:Q", format=".4~g")],
        )
    )  # fmt: skip
    chart = alt.layer(*layers)
    formula = ACTIVATIONS[chain[0].name].formula if len(chain) == 1 else ""
    below = textwrap.wrap(formula, 72 if large else 36)[:2]
    return theme.headed(chart.properties(width=width, height=height), theme.short(_label(chain)), below)


def _rows(found: Shape, domain: Sequence[float]) -> list[dict[str, Any]]:
    """Return the points of all lines; those far outside the axis are brought as near as a line that leaves it needs."""
    low, high = 2 * domain[0] - domain[1], 2 * domain[1] - domain[0]
    lines = [*((_CURVES[0], points) for points in found.outputs), (_CURVES[1], found.slope)]
    return [
        {
            "curve": name,
            "part": part,
            "order": i,
            "z": round(z, 4),
            "y": y if y is None else round(max(low, min(y, high)), 4),
        }
        for part, (name, points) in enumerate(lines)
        for i, (z, y) in enumerate(points)
    ]


def _domain(found: Shape) -> list[float]:
    """Return the axis: the usual one, longer where the slope or most of the function lies beyond it."""
    slopes = [y for _, y in found.slope if y is not None]
    values = sorted(found.sample)
    low, high = min(LOW, *slopes), max(HIGH, *slopes)
    if values[0] >= LOW - 1:
        low = min(low, values[0])
    if sum(low <= y <= high for y in values) < len(values) / 2:
        low, high = min(low, values[len(values) // 4]), max(high, values[-len(values) // 4])
    return [math.floor(2 * low) / 2, math.ceil(2 * high) / 2]
