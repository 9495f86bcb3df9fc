"""The random numbers of a training step: dropout, random slopes, augmentation.

Every lane has its own generator for each purpose, so no use of randomness and no lane affects another. The numbers are
drawn into fixed buffers before each step, where a captured step reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one run for one purpose ("init", "order", ...).

    It depends on seed and purpose alone, so runs with the same seed start from the same standard draw and see the
    images in the same order. Another kind of device draws other numbers.
    """
    digest = hashlib.sha256(f"actbench:{purpose}:{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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
