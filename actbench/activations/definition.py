"""What an activation function is, and what follows from it: its gain, and chains (layer 1).

Imports `errors`, `lazy` and `registry`; numpy and torch when used. The entries are in `activations`.

Notation: z is the input of an activation, a = f(z) its output, f' the slope, N a standard normal number.
An *elementwise* activation has one output for each input. A *widening* one has more (crelu), a *gated* one
fewer (glu, swiglu, geglu, maxout); these work along the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actbench.errors import UsageError
from actbench.registry import LazyModule, Parameter, Value

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

Params = Mapping[str, Any]
GainSource = Literal["torch", "derived"]


@dataclass(frozen=True)
class Facts:
    """What holds of f with one set of parameters.

    `low`, `high`: infimum and supremum of f (reached or not). `monotone`: f never falls. `smooth`: f' is
    continuous. `zero_centred`: E f(N) = 0, so the outputs of a standard normal input average to zero (every
    odd function does; SELU does by its design).
    """

    low: float
    high: float
    monotone: bool = True
    smooth: bool = True
    zero_centred: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """Infimum and supremum of f."""
        return self.low, self.high

    @property
    def bounded(self) -> bool:
        """Whether |f| stays below some number."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Activation:
    """One activation function and everything that is known about it.

    `function(z, **params)` takes z (..., H_in) and gives a (..., H_out); `slope(z, **params)` gives f'(z) in
    the shape of z, exact at every finite z, with the convention of torch's autograd at kinks (ReLU'(0) = 0).
    Where an input feeds several outputs (crelu), the slope is the largest |da/dz| over them. Both take all
    parameters of the entry by name; learned ones may be tensors that broadcast against z.

    A fact that depends on the parameters is stored as a function of them: `facts_at`, `sup_slope_at`,
    `gain_at`, `ratio_at` and `learned_at` hold a value or such a function; the methods without `_at` give
    the value for given parameters. With `noise`, `function` and `slope` also take `noise=`, a tensor like z
    of U(0, 1) numbers in training; left out, they are those of evaluation.
    """

    name: str
    formula: str
    latex: str
    function: Callable[..., torch.Tensor]
    slope: Callable[..., torch.Tensor]
    facts_at: Facts | Callable[..., Facts]
    sup_slope_at: float | Callable[..., Any]
    gain_at: float | Callable[..., float]
    gain_source: GainSource
    source: str
    parameters: tuple[Parameter, ...] = ()
    ratio_at: tuple[int, int] | Callable[..., tuple[int, int]] = (1, 1)
    learned_at: Callable[..., dict[str, str]] | None = None
    noise: bool = False

    @property
    def defaults(self) -> dict[str, Value]:
        """All parameters with their default values."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def facts(self, params: Params) -> Facts:
        """Return range, monotony, smoothness and centring of f with `params` (numbers)."""
        return self.facts_at(**params) if callable(self.facts_at) else self.facts_at

    def sup_slope(self, params: Params) -> Any:
        """Return sup|f'|: a float, inf where the slope has no bound (squared_relu and the gated ones).

        Where a learned parameter that matters arrives as a tensor, the answer is a tensor of its shape.
        """
        return self.sup_slope_at(**params) if callable(self.sup_slope_at) else self.sup_slope_at

    def gain(self, params: Params) -> float:
        """Return the factor on 1/sqrt(fan_in) that keeps the size of signals through a layer.

        `gain_source` "torch": what `torch.nn.init.calculate_gain` gives. "derived", where torch has none:
        1 / sqrt(E f(N)^2), stored for the default parameters and integrated for others (which imports torch).
        """
        if callable(self.gain_at):
            return self.gain_at(**params)
        if self.gain_source == "torch" or dict(params) == self.defaults:
            return self.gain_at
        return derived_gain(lambda z: self.function(z, **params))

    def learned(self, params: Params) -> dict[str, str]:
        """Return the parameters that are trained: name -> "one" (a layer has one) or "unit" (one a unit)."""
        return self.learned_at(**params) if self.learned_at is not None else {}

    def ratio(self, params: Params) -> tuple[int, int]:
        """Return inputs and outputs of the smallest piece: (1, 1) elementwise, (2, 1) glu, (1, 2) crelu."""
        return self.ratio_at(**params) if callable(self.ratio_at) else self.ratio_at

    def outputs(self, inputs: int, params: Params) -> int:
        """Return the width behind f for `inputs` before it, which must be a multiple of `ratio`'s inputs."""
        per_piece, out_of_piece = self.ratio(params)
        return inputs // per_piece * out_of_piece

    def widths(self, hidden: int, fan_in: int, fan_out: int, params: Params) -> tuple[int, int]:
        """Return the widths (pre, post) before and after f in a hidden layer of nominal width `hidden`.

        The nominal width stands for the parameters that an elementwise activation would have there, between
        `fan_in` inputs and a next layer of `fan_out` units: (fan_in + 1) hidden + hidden fan_out. Of all
        pre = i k, post = o k (`ratio` i, o; k >= 1) the pair is taken whose (fan_in + 1) pre + post fan_out
        is closest to that. Elementwise: (hidden, hidden). With fan_in = fan_out swiglu gets the usual
        k = 2/3 hidden (Shazeer 2020).
        """
        inputs, outputs = self.ratio(params)
        budget = hidden * (fan_in + 1 + fan_out)
        k = max(1, round(budget / ((fan_in + 1) * inputs + fan_out * outputs)))
        return inputs * k, outputs * k


Link = tuple[Activation, Params]
Chain = Sequence[Link]


def check_chain(chain: Chain) -> None:
    """Raise `UsageError` unless `chain` is one activation of any kind, or several elementwise ones."""
    if not chain:
        raise UsageError("the list of activations is empty; no activation is `identity`")
    for activation, params in chain:
        if len(chain) > 1 and "unit" in activation.learned(params).values():
            raise UsageError(f"{activation.name} learns a parameter for each unit, so it cannot stand in a chain")
        if len(chain) > 1 and activation.ratio(params) != (1, 1):
            raise UsageError(f"{activation.name} changes the width, so it cannot stand in a chain; name it alone")


def chain_function(z: torch.Tensor, chain: Chain, noise: Sequence[Any] | None = None) -> torch.Tensor:
    """Apply the activations of `chain` one after the other: z (..., H) -> a (..., H_out).

    `noise` has one item a link: U(0, 1) numbers like z for a link that takes them in training, else None.
    """
    for (activation, params), drawn in zip(chain, noise or [None] * len(chain), strict=True):
        extra = {"noise": drawn} if drawn is not None else {}
        z = activation.function(z, **params, **extra)
    return z


def chain_slope(z: torch.Tensor, chain: Chain, noise: Sequence[Any] | None = None) -> torch.Tensor:
    """Return the chain's slope, in the shape of z: the product of its links' slopes; `noise` as in `chain_function`."""
    slope = None
    for k, (activation, params) in enumerate(chain):
        extra = {"noise": noise[k]} if noise and noise[k] is not None else {}
        here = activation.slope(z, **params, **extra)
        slope = here if slope is None else slope * here
        if k + 1 < len(chain):
            z = activation.function(z, **params, **extra)
    assert slope is not None
    return slope


def chain_sup_slope(chain: Chain) -> Any:
    """Return sup|f'| of the whole chain, inf if it has no bound; for one activation its own `sup_slope`.

    The product of the bounds of several may never be reached, so their slope is read on a grid: step 0.001
    on [-20, 20], and out to +-1e6 (exact to 0.1% for slopes that bend on the scale of 0.02). A slope twice as
    large far out as near 0 counts as unbounded. Parameters of several must be numbers.
    """
    if len(chain) == 1:
        activation, params = chain[0]
        return activation.sup_slope(params)
    near = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    far = torch.logspace(1.3, 6, 200, dtype=torch.float64)
    highest = float(chain_slope(near, chain).abs().max())
    highest_far = float(chain_slope(torch.cat([-far, far]), chain).abs().max())
    return math.inf if highest_far > 2 * highest else max(highest, highest_far)


def chain_gain(chain: Chain) -> tuple[float, GainSource]:
    """Return the gain and its source: a single activation's own, else derived. Parameters are numbers."""
    if len(chain) == 1:
        activation, params = chain[0]
        return activation.gain(params), activation.gain_source
    return derived_gain(lambda z: chain_function(z, chain)), "derived"


def derived_gain(function: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return 1 / sqrt(E f(N)^2), the gain after which f keeps the second moment of a standard normal input.

    The rule of He et al. 2015 (ReLU: sqrt(2)) for any f. Raises `UsageError` where E f(N)^2 is 0 or infinite.
    """
    moment = normal_mean(lambda z: function(z) ** 2)
    if not 0 < moment < math.inf:
        raise UsageError(f"no gain follows from this activation (E f(N)^2 = {moment:g}); set the init's gain")
    return 1 / math.sqrt(moment)


def normal_mean(function: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return E f(N), N standard normal, to about 1e-10 relative to E|f(N)|, wherever f has kinks or jumps.

    Adaptive Gauss-Legendre quadrature on [-12, 12] in float64: every panel whose two halves disagree with
    it is split, until none does (or 100,000 would be open at once, as for a very fast oscillation).
    """
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(12))

    def panels(left: torch.Tensor) -> torch.Tensor:  # (P,) -> (P,)
        z = left[:, None] + width * (nodes + 1) / 2  # (P, 12)
        density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return (function(z) * density) @ weights * (width / 2)

    width = 0.25
    left = torch.arange(-12, 12, width, dtype=torch.float64)
    whole = panels(left)
    tolerance = 1e-13 * float(whole.abs().sum())
    total = 0.0
    while 0 < len(left) < 100_000 and width > 1e-12:
        width /= 2
        halves = torch.stack([panels(left), panels(left + width)])  # (2, P)
        split = (halves.sum(0) - whole).abs() > tolerance
        total += float(halves[:, ~split].sum())
        left = torch.cat([left[split], left[split] + width])
        whole = halves[:, split].flatten()
    return total + float(whole.sum())
