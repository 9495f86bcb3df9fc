"""Everything that a run draws at random: initial weights, and the noise of every training step.

Every lane has its own generator for each purpose, so no use of randomness and no lane affects another. Noise is drawn
into fixed buffers before each step, where a captured step reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actbench.activations.definition import chain_gain
from actbench.config import Variant
from actbench.initializers import INITIALIZERS
from actbench.structure import WINDOW, Layer, Structure


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one run for one purpose ("init", "order", ...).

    It depends on seed and purpose alone, so runs with the same seed start from the same standard draw and see the
    images in the same order. Another kind of device draws other numbers.
    """
    digest = hashlib.sha256(f"actbench:{purpose}:{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def initialise(structure: Structure, theta: Tensor, variant: Variant, seed: int) -> None:
    """Draw the weights of one lane, theta (1, P) on the CPU, layer by layer: first the weights, then the biases."""
    draws = generator(seed, "init")
    init = INITIALIZERS[variant.init.name]
    segments = {segment.name: segment for segment in structure.segments()}
    gain, _ = chain_gain(variant.links)
    output = Layer("output", structure.output_fan_in, structure.classes, structure.classes)
    for layer in (*structure.layers, output):
        shape, fan_out = (layer.fan_in, layer.pre), layer.pre * (1 if layer.side is None else WINDOW)
        own_gain = 1.0 if layer is output else gain
        weight, bias = init.draw(shape, draws, variant.init.params, own_gain, fan_out=fan_out)
        place = segments[f"{layer.name}.weight"].of(theta)[0]
        place.copy_(weight if layer.side is None else weight.t().reshape(place.shape))
        if f"{layer.name}.bias" not in segments:
            continue
        if variant.bias_init is not None and layer is not output:
            bias = torch.full_like(bias if bias is not None else weight[0], variant.bias_init)
        if bias is not None:
            segments[f"{layer.name}.bias"].of(theta)[0] = bias
    for name, segment in segments.items():
        if name.endswith("norm.weight"):
            segment.of(theta).fill_(1.0)
        elif ".activation." in name:
            i, parameter = name.split(".")[-2:]
            segment.of(theta).fill_(float(variant.activation[int(i)].params[parameter]))


@dataclass(frozen=True)
class Demand:
    """Numbers that some lanes need in every step: `rows` an image, each of `width`.

    Lanes that are not named get zeros. Demands of one purpose are met in their order.
    """

    key: str
    purpose: str
    lanes: tuple[int, ...]
    rows: int
    width: int


class Noise:
    """U(0, 1) numbers for every step, as `demands` say, for runs with these seeds, on a device."""

    def __init__(self, demands: Sequence[Demand], seeds: Sequence[int], device: torch.device) -> None:
        self._demands, self._lanes, self._device = demands, len(seeds), device
        needed = sorted({(demand.purpose, lane) for demand in demands for lane in demand.lanes})
        self._generators = {(purpose, lane): generator(seeds[lane], purpose, device) for purpose, lane in needed}
        self._buffers: dict[int, dict[str, Tensor]] = {}

    def buffers(self, batch: int) -> Mapping[str, Tensor]:
        """Return the numbers for a batch of so many images, (L, batch * rows, width) by key: always these tensors."""
        if batch not in self._buffers:
            self._buffers[batch] = {
                demand.key: torch.zeros(self._lanes, batch * demand.rows, demand.width, device=self._device)
                for demand in self._demands
            }
        return self._buffers[batch]

    def draw(self, batch: int) -> None:
        """Fill the buffers for the next step."""
        buffers = self.buffers(batch)
        for demand in self._demands:
            for lane in demand.lanes:
                buffers[demand.key][lane].uniform_(generator=self._generators[demand.purpose, lane])

    def state(self, lane: int) -> dict[str, Tensor]:
        """Return the state of a lane's generators by purpose."""
        return {p: draws.get_state() for (p, k), draws in self._generators.items() if k == lane}

    def load_state(self, lane: int, states: Mapping[str, Tensor]) -> None:
        """Set what `state` gave. Raises ValueError where the purposes differ."""
        if set(states) != set(self.state(lane)):
            raise ValueError(f"a checkpoint with the generators {sorted(states)} does not fit this run")
        for purpose, state in states.items():
            self._generators[purpose, lane].set_state(state)
