"""Data augmentation: each training image is rotated, shifted and resized at random."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.config import Augment
from actbench.model.noise import Demand


class Augmentation:
    """Rotates every image by up to `rotation` degrees, shifts it by up to `shift` pixels, and resizes it by `scale`.

    Each amount is drawn uniformly between minus and plus its limit; the size is multiplied by 1 + the amount drawn. One
    bilinear sampling about the centre of the image does all three. Pixels from outside the image are black.

    Args:
        augments: one per lane.
        side: width and height of the images, in pixels.
        black: the value of a pixel without ink.
    """

    def __init__(self, augments: Sequence[Augment], side: int, black: float, device: torch.device) -> None:
        amounts = [
            (math.radians(augment.rotation), augment.shift * 2 / side, augment.shift * 2 / side, augment.scale)
            for augment in augments
        ]
        self._amounts = torch.tensor(amounts, dtype=torch.float32, device=device).unsqueeze(1)  # (L, 1, 4)
        self._side, self._black = side, black
        self.demand = Demand("augment", "augment", tuple(range(len(augments))), rows=1, width=4)

    def __call__(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Change the images x (L, B, D) by `drawn` (L, B, 4), U(0, 1): angle, two shifts, size."""
        angle, right, down, growth = ((2 * drawn - 1) * self._amounts).flatten(0, 1).unbind(dim=1)  # (L*B,) each
        cos, sin = torch.cos(angle) / (1 + growth), torch.sin(angle) / (1 + growth)
        # A pixel p of the result comes from A (p - t) in the image; A undoes the rotation and the change of size.
        rows = [cos, sin, -cos * right - sin * down, -sin, cos, sin * right - cos * down]
        where = torch.stack(rows, dim=1).view(-1, 2, 3)
        images = (x - self._black).view(-1, 1, self._side, self._side)  # (L*B, 1, side, side)
        grid = F.affine_grid(where, list(images.shape), align_corners=False)
        changed = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return changed.view_as(x) + self._black
