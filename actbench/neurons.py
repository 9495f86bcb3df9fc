"""Neuron health: which hidden units are dead, silent, dormant or saturated, counted exactly.

This module knows tensors, not networks. A meter is fed with chunks of what an activation function received, returned,
and its slope there, in evaluation mode over the whole probe.

Notation: z, a = f(z) and f'(z) are (L, B, H) for a chunk of B of the probe's N images. Lf = sup|f'| is (L, 1) or
(L, H). If the slope is unbounded, Lf counts as 0 below, so that the rules ask for exact equality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

NEAR_DEAD, SATURATED, CONSTANT = 1e-3, 1e-2, 1e-6
_GRAM_NUMBERS = 1 << 22  # float64 numbers held at once to find a rank
DORMANT = (0.025, 0.1)  # thresholds from Sokar et al. 2023, "The Dormant Neuron Phenomenon"

Map = Callable[[Callable[[Tensor], float], list[Tensor]], Iterable[float]]

RATIOS = (
    "dead_ratio", "near_dead_ratio", "silent_ratio", "constant_ratio", "always_linear_ratio",
    "dormant_0.025_ratio", "dormant_0.1_ratio", "dormant_centred_0.025_ratio", "dormant_centred_0.1_ratio",
    "sparsity", "saturated_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class LayerHealth:
    """What the units of one layer did over the probe; every tensor is (L, H): a flag, share or value per unit.

    dead: max |f'| = 0, so no image can change the unit's incoming weights. near_dead: max |f'| <= 1e-3 Lf. silent: the
    output is 0 for every image. constant: max a - min a <= 1e-6. always_linear: not dead, and
    max f' - min f' <= 1e-3 Lf. dormant[tau]: mean |a| <= tau times its mean over the layer. zero_share: the share of
    images with a = 0. saturated_share: with |f'| < 0.01 Lf, or f' = 0 if it is unbounded. mean and rms: of the outputs.
    """

    images: int
    dead: Tensor
    near_dead: Tensor
    always_linear: Tensor
    saturated_share: Tensor
    max_slope: Tensor
    silent: Tensor
    constant: Tensor
    dormant: dict[float, Tensor]
    zero_share: Tensor
    mean: Tensor
    rms: Tensor

    def per_unit(self, lane: int) -> dict[str, list[Any]]:
        """Return one lane's columns of neurons.csv, each with one value per unit.

        A unit is an input z of the activation function. If that has more or fewer outputs than inputs (crelu, glu),
        an output belongs to no single unit, and the columns about outputs are None.
        """
        columns = {
            "max_slope": self.max_slope, "dead": self.dead, "near_dead": self.near_dead,
            "firing_rate": 1 - self.zero_share, "mean": self.mean, "rms": self.rms, "silent": self.silent,
            **{f"dormant_{tau}": flags for tau, flags in self.dormant.items()},
        }  # fmt: skip
        return _by_unit(columns, lane, self.dead.shape[1])

    def shares(self) -> dict[str, Tensor]:
        """Return the `RATIOS` that cover the whole probe, each as (L, H) values whose mean is the ratio."""
        return {
            "dead_ratio": self.dead, "near_dead_ratio": self.near_dead, "silent_ratio": self.silent,
            "constant_ratio": self.constant, "always_linear_ratio": self.always_linear,
            **{f"dormant_{tau}_ratio": flags for tau, flags in self.dormant.items()},
            "sparsity": self.zero_share, "saturated_ratio": self.saturated_share,
        }  # fmt: skip


class Chunk(NamedTuple):
    """What a chunk of the probe adds to a meter: extremes and sums over its images, each (L, H)."""

    images: int
    low_slope: Tensor
    high_slope: Tensor
    low: Tensor
    high: Tensor
    sums: Tensor
    """(4, L, H), float64: the sums of a, |a| and a^2, and the count of a != 0."""
    unsaturated: Tensor
    """(L, H), float64: the count of images in which |f'| is not below the saturation bound."""


def _over_rows(x: Tensor, reduce: Callable[..., Tensor]) -> Tensor:
    """Reduce x (L, R, H) over its rows -> (L, H). Few units (a convolution's) take several rows at once: 7x faster."""
    L, R, H = x.shape
    together = min(R & -R, max(1, 256 // H))  # a power of two that divides the rows
    together = 1 << (together.bit_length() - 1)
    if together > 1:
        x = reduce(x.view(L, R // together, together * H), dim=1).view(L, together, H)
    return reduce(x, dim=1)


class HealthMeter:
    """Adds up one layer's health over the chunks of a probe; `sup_slope` is Lf, (L, 1) or (L, H).

    The ratios are exact because "never" (dead, silent) is judged by extremes over every image, not by means or samples.
    Extremes do not depend on how the probe is divided; sums are kept in float64.
    """

    def __init__(self, sup_slope: Tensor) -> None:
        self._bound = torch.where(torch.isfinite(sup_slope), sup_slope, 0.0).unsqueeze(1)  # (L, 1, H or 1)
        below = torch.nextafter(SATURATED * self._bound, torch.full_like(self._bound, -1.0))
        self._saturated = below.clamp(min=0)  # the largest saturated |f'|, as `saturated` is strict
        self._seen: Chunk | None = None

    def read(self, z: Tensor, a: Tensor, slope: Tensor) -> Chunk:
        """Summarise a chunk, z and slope (L, B, H), a (L, B, H'), without adding it. Any thread may call this."""
        # Separate amin and amax, and counts as sums of signs or of 0.0 and 1.0, are many times faster than aminmax and
        # sums of bools, and just as exact (a chunk's counts are far below 2^24). One array of a's size serves all
        # steps; a new one for each would fall out of the caches.
        size = a.abs()
        by_output = [_over_rows(a, torch.sum), _over_rows(size, torch.sum)]
        nonzero = _over_rows(size.sign_(), torch.sum)
        by_output += [_over_rows(torch.mul(a, a, out=size), torch.sum), nonzero]
        unsaturated = slope.abs().gt_(self._saturated)
        return Chunk(
            images=z.shape[1],
            low_slope=_over_rows(slope, torch.amin),  # (L, B, H) -> (L, H)
            high_slope=_over_rows(slope, torch.amax),
            low=_over_rows(a, torch.amin),
            high=_over_rows(a, torch.amax),
            sums=torch.stack(by_output).double(),
            unsaturated=_over_rows(unsaturated, torch.sum).double(),
        )

    def add(self, chunk: Chunk) -> None:
        """Add what `read` returned."""
        seen = self._seen
        self._seen = chunk if seen is None else Chunk(
            images=seen.images + chunk.images,
            low_slope=torch.minimum(seen.low_slope, chunk.low_slope),
            high_slope=torch.maximum(seen.high_slope, chunk.high_slope),
            low=torch.minimum(seen.low, chunk.low),
            high=torch.maximum(seen.high, chunk.high),
            sums=seen.sums + chunk.sums,
            unsaturated=seen.unsaturated + chunk.unsaturated,
        )  # fmt: skip

    def result(self) -> LayerHealth:
        """Return the health over all images added so far, on the CPU."""
        assert self._seen is not None
        images, *parts = self._seen
        low_slope, high_slope, low, high, sums, unsaturated = (part.cpu() for part in parts)
        bound = self._bound[:, 0].cpu()
        max_slope = torch.maximum(high_slope, -low_slope)
        dead = max_slope == 0
        mean, mean_abs, mean_square, nonzero = sums / images  # (L, H) each
        layer_mean = mean_abs.mean(dim=1, keepdim=True)
        return LayerHealth(
            images=images,
            dead=dead,
            near_dead=max_slope <= NEAR_DEAD * bound,
            always_linear=(high_slope - low_slope <= NEAR_DEAD * bound) & ~dead,
            saturated_share=1 - unsaturated / images,
            max_slope=max_slope,
            silent=(low == 0) & (high == 0),
            constant=high - low <= CONSTANT,
            dormant={tau: mean_abs <= tau * layer_mean for tau in DORMANT},
            zero_share=1 - nonzero,
            mean=mean,
            rms=mean_square.sqrt(),
        )


@dataclass(frozen=True)
class SampleHealth:
    """What is measured on a sample of the training images, because the whole probe would cost too much.

    centred_dormant[tau], (L, H) per hidden layer: whether the unit's mean |a - mean a| is at most tau times the layer's
    mean of it. That is Sokar's score without the mean, which also flags a sigmoid stuck at 1. effective_rank, (L,) per
    hidden layer: see the function of that name. grad_norm, (L,) per hidden layer and for the output layer: the L2 norm
    of the gradient of its weights.
    """

    centred_dormant: list[dict[float, Tensor]]
    effective_rank: list[Tensor]
    grad_norm: list[Tensor]

    @classmethod
    def of(cls, outputs: Sequence[Tensor], gradients: Sequence[Tensor], each: Map = map) -> SampleHealth:
        """Measure hidden outputs (L, N, H) and the gradients (L, ...) of all weights, including the output layer's.

        `each` applies a function to the lanes, one after the other as `map` does, or several at a time.
        """
        dormant: list[dict[float, Tensor]] = []
        for a in outputs:
            spread = (a - a.mean(dim=1, keepdim=True)).abs_().mean(dim=1).cpu()  # (L, H)
            bound = spread.mean(dim=1, keepdim=True)
            dormant.append({tau: spread <= tau * bound for tau in DORMANT})
        norms = [torch.linalg.vector_norm(g.flatten(1).double(), dim=1).cpu() for g in gradients]
        return cls(dormant, [effective_rank(a, each) for a in outputs], norms)

    def per_unit(self, layer: int, lane: int, units: int) -> dict[str, list[Any]]:
        """Return one lane's other columns of neurons.csv, as `LayerHealth.per_unit` does."""
        columns = {f"dormant_centred_{tau}": flags for tau, flags in self.centred_dormant[layer].items()}
        return _by_unit(columns, lane, units)


def _by_unit(columns: dict[str, Tensor], lane: int, units: int) -> dict[str, list[Any]]:
    rows = {name: values[lane].tolist() for name, values in columns.items()}
    return {name: row if len(row) == units else [None] * units for name, row in rows.items()}


def effective_rank(a: Tensor, each: Map = map) -> Tensor:
    """Return exp(entropy of the singular values, as shares of their sum) of each lane's outputs a (L, N, H): (L,).

    It lies between 1 (one direction) and min(N, H), and is nan if all outputs are 0 or one is not finite. The singular
    values are the roots of the eigenvalues of the smaller of a'a and aa', in float64. Source: Roy & Vetterli 2007,
    section 2.
    """
    return torch.tensor(list(each(_rank, [_gram(lane).cpu() for lane in a])), dtype=torch.float64)


def _gram(a: Tensor) -> Tensor:
    """Return the smaller of a'a and aa', in float64, working on some of the rows at a time."""
    rows = a if a.shape[0] >= a.shape[1] else a.t()
    parts = torch.split(rows, _GRAM_NUMBERS // rows.shape[1] + 1)
    return torch.stack([part.double().t() @ part.double() for part in parts]).sum(dim=0)


def _rank(gram: Tensor) -> float:
    if not torch.isfinite(gram).all():
        return math.nan
    singular = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_()
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


@dataclass
class DeathLedger:
    """Tracks dead units from epoch to epoch; dead_t = dead_(t-1) + deaths - revivals always holds.

    `dead` and `died_in` are (L, units) over all layers. `died_in` is -1 for a living unit, 0 for one born dead, else
    the epoch in which it died.
    """

    dead: Tensor
    died_in: Tensor

    @classmethod
    def begin(cls, dead: Tensor) -> DeathLedger:
        """Start with the flags of the untrained network."""
        return cls(dead, torch.where(dead, 0, -1))

    def update(self, dead: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Record the flags after `epoch`; return the deaths and revivals since the previous epoch, each (L,)."""
        deaths, revivals = dead & ~self.dead, self.dead & ~dead
        self.died_in = torch.where(deaths, epoch, torch.where(revivals, -1, self.died_in))
        self.dead = dead
        return deaths.sum(dim=1), revivals.sum(dim=1)


def summarize(
    layers: Sequence[LayerHealth], sample: SampleHealth, lane: int
) -> tuple[dict[str, float | None], list[dict[str, float | None]]]:
    """Return one lane's metrics over all hidden units, and those of each layer.

    Overall ratios, means and rms weight every unit equally. `effective_rank` is the mean over the hidden layers,
    `grad_norm` covers all weights together, and `first_grad_norm` those of the first layer. The output layer comes
    last and has only a gradient. A network without hidden units has no ratios: they are None, not 0.
    """
    by_layer: list[dict[str, float | None]] = []
    pooled: dict[str, list[Tensor]] = {name: [] for name in (*RATIOS, "mean_activation", "rms_activation")}
    for k, health in enumerate(layers):
        dormant = sample.centred_dormant[k]
        shares = health.shares() | {f"dormant_centred_{tau}_ratio": flags for tau, flags in dormant.items()}
        mean, squares, rank = health.mean[lane], health.rms[lane].square(), sample.effective_rank[k][lane].item()
        for name, share in shares.items():
            pooled[name].append(share[lane])
        pooled["mean_activation"].append(mean)
        pooled["rms_activation"].append(squares)
        row: dict[str, float | None] = {name: share[lane].double().mean().item() for name, share in shares.items()}
        row |= {"mean_activation": mean.mean().item(), "rms_activation": squares.mean().sqrt().item()}
        by_layer.append({**row, "effective_rank": rank if math.isfinite(rank) else None})
    overall: dict[str, float | None] = {
        name: torch.cat(parts).double().mean().item() if parts else None for name, parts in pooled.items()
    }
    if overall["rms_activation"] is not None:
        overall["rms_activation"] = math.sqrt(overall["rms_activation"])
    ranks = [row["effective_rank"] for row in by_layer]
    known = [rank for rank in ranks if rank is not None]
    overall["effective_rank"] = sum(known) / len(ranks) if ranks and len(known) == len(ranks) else None
    norms = [norm[lane].item() for norm in sample.grad_norm]
    overall |= {"grad_norm": math.hypot(*norms), "first_grad_norm": norms[0]}
    by_layer.append(dict.fromkeys(by_layer[0] if by_layer else ()))
    return overall, [{**row, "grad_norm": norm} for row, norm in zip(by_layer, norms, strict=True)]
