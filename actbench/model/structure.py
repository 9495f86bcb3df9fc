"""The shapes of a network and where each parameter lies in its plane (layer 3).

Imports the activations' widths and `config` for a variant's keys; no torch but for its types. See the notation in
`actbench.model`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from actbench.activations import ACTIVATIONS
from actbench.config import Variant

_ALIGNMENT = 16  # floats: every parameter starts on a cache line of 64 bytes


@dataclass(frozen=True)
class Segment:
    """A parameter's place in the plane."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Where the next parameter starts."""
        return self.start + -(-self.size // _ALIGNMENT) * _ALIGNMENT

    def of(self, plane: Tensor) -> Tensor:
        """Return this parameter of every lane as a view into `plane` (L, P), shaped (L, *shape)."""
        return plane[:, self.start : self.start + self.size].view(-1, *self.shape)


@dataclass(frozen=True)
class Layer:
    """One hidden layer: inputs, width of z (`pre`) and of the activation's output (`post`)."""

    fan_in: int
    pre: int
    post: int


@dataclass(frozen=True)
class Structure:
    """What runs must share to be stacked: the shapes of everything that is learned or tracked."""

    inputs: int
    layers: tuple[Layer, ...]
    classes: int
    batch_norm: str | bool
    learned: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, variant: Variant, inputs: int, classes: int) -> Structure:
        """Work out the structure that `variant` gives a network of `inputs` pixels and `classes` classes."""
        layers: list[Layer] = []
        learned: list[tuple[str, tuple[int, ...]]] = []
        fan_in = inputs
        for k, hidden in enumerate(variant.hidden):
            fan_out = variant.hidden[k + 1] if k + 1 < len(variant.hidden) else classes
            pre = post = hidden
            for i, choice in enumerate(variant.activation):
                entry = ACTIVATIONS[choice.name]
                pre, post = entry.widths(hidden, fan_in, fan_out, choice.params)
                for name, kind in entry.learned(choice.params).items():
                    learned.append((f"hidden.{k}.activation.{i}.{name}", (1, pre if kind == "unit" else 1)))
            layers.append(Layer(fan_in, pre, post))
            fan_in = post
        return cls(inputs, tuple(layers), classes, variant.batch_norm, tuple(learned))

    def segments(self) -> list[Segment]:
        """Lay the parameters out in the plane, each on a cache line of its own."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for k, layer in enumerate(self.layers):
            shapes.append((f"hidden.{k}.weight", (layer.fan_in, layer.pre)))
            if self.batch_norm != "before":  # BatchNorm's shift makes that bias redundant
                shapes.append((f"hidden.{k}.bias", (layer.pre,)))
            if self.batch_norm:
                width = layer.pre if self.batch_norm == "before" else layer.post
                shapes += [(f"hidden.{k}.norm.weight", (width,)), (f"hidden.{k}.norm.bias", (width,))]
        shapes += [("output.weight", (self.output_fan_in, self.classes)), ("output.bias", (self.classes,))]
        segments: list[Segment] = []
        start = 0
        for name, shape in (*shapes, *self.learned):
            segments.append(Segment(name, shape, start))
            start = segments[-1].end
        return segments

    @property
    def output_fan_in(self) -> int:
        """Width of what the output layer reads; the images themselves when there is no hidden layer."""
        return self.layers[-1].post if self.layers else self.inputs

    @property
    def parameter_count(self) -> int:
        """Learned numbers of one network: 407,050 for 784-512-10."""
        return sum(segment.size for segment in self.segments())
