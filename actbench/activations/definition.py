"""What an activation function is, and what follows from it: its gain, and chains of several.

Notation: z is the input of an activation, a = f(z) its output, f' its slope, N a standard normal number. An
*elementwise* activation has one output per input. A *widening* one has more (crelu), a *gated* one fewer (glu, swiglu,
geglu, maxout); both work along the last axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actbench.errors import UsageError
from actbench.registry import LazyModule, Parameter, Params, Value

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

GainSource = Literal["torch", "derived"]


@dataclass(frozen=True)
class Facts:
    """What is true of f with one set of parameters.

    `low` and `high` are the infimum and supremum of f, whether reached or not. `monotone`: f never decreases.
    `smooth`: f' is continuous. `zero_centred`: E f(N) = 0, as for every odd function, and for SELU by design.
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
        """Whether |f| has a bound."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Activation:
    """One activation function and everything that is known about it.

    `function(z, **params)` maps z (..., H_in) to a (..., H_out). `slope(z, **params)` returns f'(z) in the shape of z,
    exact at every finite z, with torch's convention at kinks (ReLU'(0) = 0); if an input feeds several outputs
    (crelu), it is the largest |da/dz| of them. Both take all parameters by name; learned ones may be tensors that
    broadcast against z.

    `facts_at`, `sup_slope_at`, `gain_at`, `ratio_at` and `learned_at` hold a value, or a function of the parameters if
    the value depends on them; the method without `_at` evaluates it. With `noise`, `function` and `slope` also take
    `noise=`, a tensor of U(0, 1) numbers shaped like z, during training.
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
        """Return the facts about f with `params` (numbers)."""
        return self.facts_at(**params) if callable(self.facts_at) else self.facts_at

    def sup_slope(self, params: Params) -> Any:
        """Return sup|f'|: a float, inf if the slope is unbounded (squared_relu and the gated ones).

        If it depends on a learned parameter given as a tensor, it is a tensor of that shape.
        """
        return self.sup_slope_at(**params) if callable(self.sup_slope_at) else self.sup_slope_at

    def gain(self, params: Params) -> float:
        """Return the factor on 1/sqrt(fan_in) that preserves the size of signals through a layer.

        If `gain_source` is "torch", it is that of `torch.nn.init.calculate_gain`. If torch has none, it is "derived":
        1 / sqrt(E f(N)^2), stored for the default parameters and integrated for others, which imports torch.
        """
        if callable(self.gain_at):
            return self.gain_at(**params)
        if self.gain_source == "torch" or dict(params) == self.defaults:
            return self.gain_at
        return derived_gain(lambda z: self.function(z, **params))

    def learned(self, params: Params) -> dict[str, str]:
        """Return the parameters that are trained: name -> "one" (one per layer) or "unit" (one per unit)."""
        return self.learned_at(**params) if self.learned_at is not None else {}

    def ratio(self, params: Params) -> tuple[int, int]:
        """Return the inputs and outputs of the smallest piece: (1, 1) elementwise, (2, 1) glu, (1, 2) crelu."""
        return self.ratio_at(**params) if callable(self.ratio_at) else self.ratio_at

    def widths(self, hidden: int, fan_in: int, fan_out: int, params: Params) -> tuple[int, int]:
        """Return the widths (pre, post) before and after f in a hidden layer of nominal width `hidden`.

        The parameters are matched. An elementwise activation between `fan_in` inputs and a next layer of `fan_out`
        units would need (fan_in + 1) hidden + hidden fan_out of them. Of all pre = i k, post = o k (`ratio` i, o;
        k >= 1), the pair is chosen whose (fan_in + 1) pre + post fan_out is closest to that. Elementwise: (hidden,
        hidden). With fan_in = fan_out, swiglu gets the usual k = 2/3 hidden (Shazeer 2020).
        """
        inputs, outputs = self.ratio(params)
        budget = hidden * (fan_in + 1 + fan_out)
        k = max(1, round(budget / ((fan_in + 1) * inputs + fan_out * outputs)))
        return inputs * k, outputs * k


Link = tuple[Activation, Params]
Chain = Sequence[Link]


def check_chain(chain: Chain) -> None:
    """Raise UsageError unless `chain` is one activation of any kind or several elementwise ones."""
    if not chain:
        raise UsageError("the list of activations is empty; for no activation, use `identity`")
    for activation, params in chain:
        if len(chain) > 1 and "unit" in activation.learned(params).values():
            raise UsageError(f"{activation.name} learns a parameter for each unit, so it cannot be part of a chain")
        if len(chain) > 1 and activation.ratio(params) != (1, 1):
            raise UsageError(f"{activation.name} changes the width, so it cannot be part of a chain; use it alone")


def chain_function(z: torch.Tensor, chain: Chain, noise: Sequence[Any] | None = None) -> torch.Tensor:
    """Apply the activations of `chain` in turn: z (..., H) -> a (..., H_out).

    `noise` has one item per link: U(0, 1) numbers shaped like z if the link uses them in training, else None.
    """
    for activation, arguments in _links(chain, noise):
        z = activation.function(z, **arguments)
    return z


def chain_slope(z: torch.Tensor, chain: Chain, noise: Sequence[Any] | None = None) -> torch.Tensor:
    """Return the chain's slope, the product of its links' slopes, in the shape of z; `noise` as in `chain_function`."""
    links = list(_links(chain, noise))
    slope = links[0][0].slope(z, **links[0][1])
    for (before, inner), (activation, arguments) in itertools.pairwise(links):
        z = before.function(z, **inner)
        slope = slope * activation.slope(z, **arguments)
    return slope


def _links(chain: Chain, noise: Sequence[Any] | None) -> Iterator[tuple[Activation, Params]]:
    """Yield each activation with all its arguments, including the noise of a link that has some."""
    for (activation, params), drawn in zip(chain, noise or [None] * len(chain), strict=True):
        yield activation, params if drawn is None else {**params, "noise": drawn}


def chain_sup_slope(chain: Chain) -> Any:
    """Return sup|f'| of the whole chain, inf if it is unbounded; for one activation, its own `sup_slope`.

    The product of several bounds may never be reached, so the slope of several links, whose parameters must be
    numbers, is sampled: in steps of 0.001 on [-20, 20], then out to +-1e6 (exact to 0.1% for slopes that bend on a
    scale of 0.02). If it is more than twice as large far out as near 0, it counts as unbounded.
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
    """Return the gain of a chain and its source: a single activation's own, else derived. Parameters are numbers."""
    if len(chain) == 1:
        activation, params = chain[0]
        return activation.gain(params), activation.gain_source
    return derived_gain(lambda z: chain_function(z, chain)), "derived"


def derived_gain(function: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return 1 / sqrt(E f(N)^2), the gain with which f preserves the second moment of a standard normal input.

    This is the rule of He et al. 2015 (ReLU: sqrt(2)) for any f. Raises UsageError if E f(N)^2 is 0 or infinite.
    """
    moment = normal_mean(lambda z: function(z) ** 2)
    if not 0 < moment < math.inf:
        raise UsageError(f"this activation has no gain (E f(N)^2 = {moment:g}); set the init's gain")
    return 1 / math.sqrt(moment)


def normal_mean(function: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return E f(N), to about 1e-10 relative to E|f(N)|, wherever f has kinks or jumps.

    Adaptive Gauss-Legendre quadrature on [-12, 12] in float64: a panel is split as long as its two halves disagree
    with it (or until 100,000 panels would be open, as for a very fast oscillation).
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
