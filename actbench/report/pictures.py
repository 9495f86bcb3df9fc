"""Pictures for the report: shapes of activation functions, and what neurons look at (layer 4).

Imports the activations (and torch, to evaluate them), numpy, pillow to write PNG. Gives SVG paths and data URIs.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actbench.activations import ACTIVATIONS, chain_function, chain_slope
from actbench.config import Variant
from actbench.config.variant import flat_value
from actbench.store.csv import Row
from actbench.store.run import StoredRun

WIDTH, HEIGHT = 220, 150
_REACH, _LOW, _HIGH = 5.0, -2.0, 5.0  # z from -5 to 5, f from -2 to 5
_SIDE, _TIMES = 28, 2


@dataclass(frozen=True)
class Shape:
    """An activation function over z in [-5, 5]: paths of f and f' in a box of `WIDTH` x `HEIGHT`, and its formula."""

    label: str
    formula: str
    function: str
    slope: str


def shapes(variants: Sequence[Variant]) -> list[Shape]:
    """Return the shape of every different elementwise activation of the variants, in their order."""
    import torch

    found: dict[str, Shape] = {}
    z = torch.linspace(-_REACH, _REACH, 241, dtype=torch.float64)
    for variant in variants:
        chain = [(ACTIVATIONS[choice.name], choice.params) for choice in variant.activation]
        label = str(flat_value("activation", variant.activation))
        if label in found or any(entry.ratio(params) != (1, 1) for entry, params in chain):
            continue
        formula = chain[0][0].formula if len(chain) == 1 else "one after the other"
        f, slope = chain_function(z, chain).tolist(), chain_slope(z, chain).tolist()
        found[label] = Shape(label, formula, _path(z.tolist(), f), _path(z.tolist(), slope))
    return list(found.values())


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """An SVG path; where it leaves the box it is cut."""
    parts, drawing = [], False
    for x, y in zip(xs, ys, strict=True):
        inside = _LOW - 0.5 <= y <= _HIGH + 0.5
        if inside:
            across = (x + _REACH) / (2 * _REACH) * WIDTH
            down = HEIGHT - (y - _LOW) / (_HIGH - _LOW) * HEIGHT
            parts.append(f"{'L' if drawing else 'M'}{across:.1f} {down:.1f}")
        drawing = inside
    return "".join(parts)


@dataclass(frozen=True)
class Neuron:
    """One hidden unit: its number, what is said of it, and its 28x28 incoming weights as a PNG in a data URI."""

    unit: int
    caption: str
    image: str


def neurons(run: StoredRun, most: int = 8) -> tuple[list[Neuron], list[Neuron]]:
    """Return pictures of the dead and of the most active units of a run's first layer; none where it has no pixels.

    Blue weights are negative, orange ones positive, the strongest weight of each unit at full colour.
    """
    weights = run.weights().get("hidden.0.weight")
    if weights is None or weights.shape[1] != _SIDE**2:
        return [], []
    rows = [row for row in run.neurons() if row["layer"] == 0]
    dead = [row for row in rows if row["dead"] is True][:most]
    alive = [row for row in rows if row["dead"] is False and isinstance(row.get("rms"), int | float)]
    active = sorted(alive, key=lambda row: -float(row["rms"]))[:most]

    def picture(row: Row, caption: str) -> Neuron:
        unit = int(row["unit"])
        return Neuron(unit, caption, _png(np.asarray(weights[unit], dtype=np.float64).reshape(_SIDE, _SIDE)))

    return (
        [picture(row, _died(row)) for row in dead],
        [picture(row, f"fires for {100 * float(row['firing_rate']):.0f}%") for row in active],
    )


def _died(row: Row) -> str:
    return "born dead" if row["died_in"] == 0 else f"died in epoch {row['died_in']}"


def _png(weights: np.ndarray) -> str:
    """A diverging map from blue over white to orange, symmetric about 0."""
    share = np.clip(weights / max(float(np.abs(weights).max()), 1e-30), -1, 1)[..., None]
    white, blue, orange = (np.array(colour, dtype=np.float64) for colour in ((247,) * 3, (0, 90, 160), (213, 94, 0)))
    pixels = np.where(share < 0, white + (white - blue) * share, white + (orange - white) * share)
    image = Image.fromarray(pixels.round().astype(np.uint8), "RGB")
    large = image.resize((_SIDE * _TIMES, _SIDE * _TIMES), Image.Resampling.NEAREST).quantize(64)
    buffer = io.BytesIO()
    large.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
