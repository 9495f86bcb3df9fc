"""The shapes of a network, and the place of each of its parameters in the flat buffer; imports no torch.

Notation: L lanes, P numbers in a lane's row of the buffer; `actbench.model` describes the buffer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actbench.activations.definition import Chain

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS, WINDOW = (16, 32), 9
"""Widths of the two convolutions of `network: cnn`, and the positions that each sees at once, 3x3."""
_ALIGNMENT = 16  # floats: every parameter starts on a cache line of 64 bytes


@dataclass(frozen=True)
class Segment:
    """A parameter's place in the flat buffer."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """How many numbers the parameter has."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Where the next parameter starts."""
        return self.start + -(-self.size // _ALIGNMENT) * _ALIGNMENT

    def of(self, buffer: Tensor) -> Tensor:
        """Return this parameter of every lane as a view into `buffer` (L, P), shaped (L, *shape)."""
        return buffer[:, self.start : self.start + self.size].view(-1, *self.shape)


@dataclass(frozen=True)
class Layer:
    """One hidden layer: its name, inputs per unit, width of z (`pre`) and of the activation's output (`post`).

    A convolution has a `side`: its input images have side x side positions, and its window is 3x3. Its units are
    channels, and 2x2 max pooling follows its activation.
    """

    name: str
    fan_in: int
    pre: int
    post: int
    side: int | None = None

    @property
    def positions(self) -> int:
        """How many times a unit computes z for one image."""
        return 1 if self.side is None else self.side**2

    @property
    def pooled(self) -> int:
        """How many positions of an image are left after pooling."""
        return 1 if self.side is None else (self.side // 2) ** 2

    @property
    def reads(self) -> int:
        """Width of a row of the layer's input: units, or the channels of one position."""
        return self.fan_in if self.side is None else self.fan_in // WINDOW

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The weight's shape in the flat buffer: (in, out), or torch's (out, channels, 3, 3) for a convolution."""
        return (self.fan_in, self.pre) if self.side is None else (self.pre, self.reads, 3, 3)


@dataclass(frozen=True)
class Structure:
    """What runs must share to form a stack: the shapes of everything that is learned or tracked."""

    inputs: int
    layers: tuple[Layer, ...]
    classes: int
    batch_norm: str | bool
    learned: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(
        cls,
        network: str,
        activation: Chain,
        hidden: Sequence[int],
        batch_norm: str | bool,
        inputs: int,
        classes: int,
    ) -> Structure:
        """Return the structure of a network of `inputs` pixels and `classes` classes."""
        layers: list[Layer] = []
        learned: list[tuple[str, tuple[int, ...]]] = []
        plan = [(f"conv.{k}", width) for k, width in enumerate(CHANNELS if network == "cnn" else ())]
        side: int | None = math.isqrt(inputs) if plan else None
        plan += [(f"hidden.{k}", width) for k, width in enumerate(hidden)]
        reads = 1 if plan and side else inputs  # channels, or units
        for (name, nominal), (following, next_width) in itertools.pairwise([*plan, ("output", classes)]):
            convolves = name.startswith("conv")
            fan_in = reads * WINDOW if convolves else reads
            pooled = (side or 0) // 2
            # How many weights of the next layer read one unit of this layer.
            fan_out = next_width * (1 if not convolves else WINDOW if following.startswith("conv") else pooled**2)
            pre = post = nominal
            for i, (entry, params) in enumerate(activation):
                pre, post = entry.widths(nominal, fan_in, fan_out, params)
                for parameter, kind in entry.learned(params).items():
                    shape = (1, pre if kind == "unit" else 1)
                    learned.append((f"{name}.activation.{i}.{parameter}", shape))
            layers.append(Layer(name, fan_in, pre, post, side if convolves else None))
            if convolves:
                side = pooled
                reads = post if following.startswith("conv") else post * pooled**2
            else:
                reads = post
        return cls(inputs, tuple(layers), classes, batch_norm, tuple(learned))

    def segments(self) -> list[Segment]:
        """Lay out the parameters in the flat buffer; each starts on a new cache line."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for layer in self.layers:
            shapes.append((f"{layer.name}.weight", layer.weight_shape))
            if self.batch_norm != "before":  # BatchNorm's shift makes that bias redundant
                shapes.append((f"{layer.name}.bias", (layer.pre,)))
            if self.batch_norm:
                width = layer.pre if self.batch_norm == "before" else layer.post
                shapes += [(f"{layer.name}.norm.weight", (width,)), (f"{layer.name}.norm.bias", (width,))]
        shapes += [("output.weight", (self.output_fan_in, self.classes)), ("output.bias", (self.classes,))]
        segments: list[Segment] = []
        start = 0
        for name, shape in (*shapes, *self.learned):
            segments.append(Segment(name, shape, start))
            start = segments[-1].end
        return segments

    @property
    def output_fan_in(self) -> int:
        """Inputs of the output layer; without hidden layers, the pixels of an image."""
        if not self.layers:
            return self.inputs
        return self.layers[-1].post * self.layers[-1].pooled

    @property
    def widths(self) -> str:
        """Units per hidden layer, `512 x 256`; `683>342` if its activation maps 683 numbers to 342."""
        texts = [f"{x.pre}" if x.pre == x.post else f"{x.pre}>{x.post}" for x in self.layers]
        return " x ".join(texts) or "none"

    @property
    def parameter_count(self) -> int:
        """How many numbers one network learns: 407,050 for 784-512-10."""
        return sum(segment.size for segment in self.segments())
