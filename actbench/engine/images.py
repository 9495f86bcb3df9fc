"""Images on the device: normalised once, and augmented at random in every step if the config asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.config import Augment, Variant
from actbench.datasets import Dataset, Split
from actbench.model.draws import Demand


@dataclass(frozen=True)
class Arrays:
    """A dataset on the device: images float32 (N, D), normalised; labels int64 (N,).

    The validation images are the last of the training images that the config allows, the same for every seed.
    `black` is the normalised value of the background, and `classes` their number.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    black: float
    classes: int

    @classmethod
    def of(cls, dataset: Dataset, variant: Variant, device: torch.device) -> Arrays:
        """Normalise as torchvision's ToTensor and Normalize do, (x / 255 - mean) / std, up to the limits.

        Your own data is not divided by 255: its mean and std are those of the numbers as they are.
        """

        def images(split: Split, limit: int | None) -> Tensor:
            pixels = split.images[:limit].flatten(1).to(device, torch.float32, copy=True)  # (N, 28, 28) -> (N, D)
            return pixels.div_(dataset.unit).sub_(dataset.mean).div_(dataset.std)

        train_images = images(dataset.train, variant.train_limit)
        train_labels = dataset.train.labels[: variant.train_limit].to(device)
        n = len(train_labels) - variant.validation
        return cls(
            train_images[:n],
            train_labels[:n],
            images(dataset.test, variant.test_limit),
            dataset.test.labels[: variant.test_limit].to(device),
            train_images[n:],
            train_labels[n:],
            (dataset.background / dataset.unit - dataset.mean) / dataset.std,
            dataset.classes,
        )


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
