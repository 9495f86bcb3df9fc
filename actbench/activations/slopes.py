"""Slopes that take more than one expression, and functions that torch does not have; float tensors in and out.

They stay exact where the textbook form rounds to 0 or gives inf * 0, through `bell` and exponents that cannot overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actbench.registry import LazyModule

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

_GELU_A, _GELU_B = math.sqrt(8 / math.pi), 0.044715


def one_where(condition: Tensor, z: Tensor) -> Tensor:
    """1 where `condition` holds, else 0, in the dtype of z."""
    return condition.to(z.dtype)


def positive(z: Tensor) -> Tensor:
    """1 right of 0, else 0. Five times as fast as a comparison, ten times as fast as `torch.where`."""
    return z.sign().clamp_(min=0)


def bell(z: Tensor) -> Tensor:
    """The slope of the sigmoid s as s(z) s(-z); in float32, s (1 - s) rounds to 0 beyond z = 17."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def leaky_slope(z: Tensor, negative_slope: Any, **_: Any) -> Tensor:
    """1 right of 0, `negative_slope` (a number, or a tensor that broadcasts against z) elsewhere."""
    right = positive(z)
    slope: Tensor = (1 - right) * negative_slope + right
    return slope


def elu_slope(z: Tensor, alpha: float, steepness: float = 1.0) -> Tensor:
    """1 right of 0, alpha exp(steepness z) elsewhere."""
    left = torch.exp_(steepness * z.clamp(max=0))  # 1 right of 0
    return left if alpha == 1 else leaky_slope(z, alpha * left)


def swish_slope(z: Tensor, beta: Any, **_: Any) -> Tensor:
    """s(u) + u s'(u), u = beta z."""
    u: Tensor = beta * z
    return torch.sigmoid(u) + u * bell(u)


def mish_slope(z: Tensor) -> Tensor:
    """tanh(p) + z tanh'(p) p', p = softplus(z)."""
    p: Tensor = F.softplus(z)
    return torch.tanh(p) + z * 4 * bell(2 * p) * torch.sigmoid(z)


def gelu_slope(z: Tensor, approximate: str = "none") -> Tensor:
    """Phi(z) + z phi(z); or s(u) + z s'(u) u' for the tanh form, which is z s(u) with a cubic u."""
    if approximate == "none":
        below = torch.erfc(-z / math.sqrt(2)) / 2  # Phi(z); in float32, torch's ndtr rounds to 0 below z = -5.5
        return below + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    z = z.clamp(-30, 30)  # beyond, the slope is exactly 0 or 1; within, z^3 cannot overflow
    u = _GELU_A * (z + _GELU_B * z**3)
    return torch.sigmoid(u) + z * bell(u) * _GELU_A * (1 + 3 * _GELU_B * z**2)


def hardswish_slope(z: Tensor) -> Tensor:
    """0 up to -3, 1 from 3 on, z / 3 + 1/2 in between."""
    inside, below = positive(3 - z.abs()), positive(3 - z)
    return inside * (z.clamp(-3, 3) / 3 + 0.5) + (1 - below)


def rrelu(z: Tensor, lower: float, upper: float, noise: Tensor | None = None) -> Tensor:
    """max(0, z) + r min(0, z), with r drawn by `noise` (U(0, 1), shaped like z), else the mean of the two bounds."""
    return torch.where(z > 0, z, _random_slope(lower, upper, noise) * z)


def rrelu_slope(z: Tensor, lower: float, upper: float, noise: Tensor | None = None) -> Tensor:
    """1 right of 0, r elsewhere."""
    return leaky_slope(z, _random_slope(lower, upper, noise))


def _random_slope(lower: float, upper: float, noise: Tensor | None) -> Any:
    return (lower + upper) / 2 if noise is None else lower + (upper - lower) * noise


def gated(z: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
    """Return v gate(g), with z = [v, g] along the last axis as in torch's glu: (..., 2 H) -> (..., H)."""
    v, g = z.chunk(2, dim=-1)
    return v * gate(g)


def gated_slope(z: Tensor, gate: Callable[[Tensor], Tensor], gate_slope: Callable[[Tensor], Tensor]) -> Tensor:
    """gate(g) for the first half and v gate'(g) for the second: (..., 2 H) -> (..., 2 H)."""
    v, g = z.chunk(2, dim=-1)
    return torch.cat([gate(g), v * gate_slope(g)], dim=-1)


def maxout(z: Tensor, pieces: int) -> Tensor:
    """The maximum over `pieces` blocks of the last axis: (..., pieces H) -> (..., H)."""
    return _blocks(z, pieces).max(dim=-2).values


def maxout_slope(z: Tensor, pieces: int) -> Tensor:
    """1 for the largest piece, 0 for the others; if pieces tie, the one that torch's `max` picks."""
    blocks = _blocks(z, pieces)
    winner = blocks.max(dim=-2, keepdim=True).indices
    return torch.zeros_like(blocks).scatter(-2, winner, 1.0).reshape(z.shape)


def _blocks(z: Tensor, pieces: int) -> Tensor:
    return z.reshape(*z.shape[:-1], pieces, -1)  # (..., pieces, H)
