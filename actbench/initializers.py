"""INITIALIZERS: how a layer's weights are drawn. To add an initializer, add one entry here.

All runs with one seed start from the same *standard draw*: whatever the initializer, `draw` takes standard normal
numbers n, first in the shape of the weight, then in that of the bias. The initializer's formula maps n to weights. So
runs that differ only in their initializer are paired, and all leave the generator in the same state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actbench.registry import LazyModule, Parameter, Params, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


@dataclass(frozen=True)
class Fans:
    """How many inputs a unit reads, how many units read an input, and the gain of the activation that follows."""

    fan_in: int
    fan_out: int
    activation_gain: float


@dataclass(frozen=True)
class Initializer:
    """One initializer: `weights(n, fans, params)` maps standard normal numbers n, float64, to weights.

    With `draws_bias`, it draws the bias in the same way; otherwise the config's `bias_init` sets it.
    """

    name: str
    formula: str
    latex: str
    source: str
    weights: Callable[[Tensor, Fans, Params], Tensor]
    parameters: tuple[Parameter, ...] = ()
    draws_bias: bool = False

    def draw(
        self,
        shape: tuple[int, int],
        generator: torch.Generator,
        params: Params,
        activation_gain: float = 1.0,
        *,
        fan_in: int | None = None,
        fan_out: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Draw a weight (in, out) and a bias (out,), float32; a bias of None means `bias_init`.

        Always takes in * out + out numbers from `generator`, a CPU generator. `params` are all parameters of the
        entry. `activation_gain` is the gain of the activation after the layer (1 for the output layer). The fans
        default to those of `shape`; a convolution with a kernel (kh, kw) has shape (in * kh * kw, out) and fan_out
        out * kh * kw.
        """
        fans = Fans(fan_in or shape[0], fan_out or shape[1], activation_gain)
        n = torch.randn(shape, generator=generator, dtype=torch.float64)
        n_bias = torch.randn(shape[1], generator=generator, dtype=torch.float64)
        bias = self.weights(n_bias, fans, params).float() if self.draws_bias else None
        return self.weights(n, fans, params).float(), bias


def _gain(params: Params, auto: float) -> float:
    return auto if params["gain"] == "auto" else float(params["gain"])


def _fan(fans: Fans, params: Params) -> int:
    return fans.fan_in if params["mode"] == "fan_in" else fans.fan_out


def _uniform(n: Tensor, bound: float) -> Tensor:
    """Map N(0, 1) to U(-bound, bound) through its distribution function: 2 Phi(n) - 1 = erf(n / sqrt(2))."""
    return bound * torch.erf(n / math.sqrt(2))


_BELOW_MINUS_2 = 0.5 * math.erfc(math.sqrt(2))
_WITHIN_2 = 1 - 2 * _BELOW_MINUS_2
_TRUNCATED_STD = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / _WITHIN_2)  # 0.87962566


def _truncated(n: Tensor, std: float) -> Tensor:
    """Map N(0, 1) to a normal distribution cut off at 2 of its own sigmas, scaled to the standard deviation `std`.

    u = Phi(n) is squeezed into [Phi(-2), Phi(2)], then mapped back by the inverse distribution function.
    """
    u = _BELOW_MINUS_2 + _WITHIN_2 * torch.special.ndtr(n)
    cut: Tensor = torch.special.ndtri(u)
    return std / _TRUNCATED_STD * cut


def _orthogonal(n: Tensor, fans: Fans, params: Params) -> Tensor:
    """Return the orthogonal factor Q of n = QR; with R's diagonal made positive, it is uniform over all of them."""
    wide = n.shape[0] < n.shape[1]
    factors: tuple[Tensor, Tensor] = torch.linalg.qr(n.t() if wide else n)
    q = factors[0] * torch.sign(factors[1].diagonal())
    return _gain(params, fans.activation_gain) * (q.t() if wide else q)


def _family(
    name: str,
    variance: str,
    latex: str,
    source: str,
    std: Callable[[Fans, Params], float],
    parameters: tuple[Parameter, ...],
) -> list[Initializer]:
    """Return the normal, uniform and truncated initializers that share one rule for the standard deviation."""
    return [
        Initializer(
            f"{name}_normal", f"N(0, {variance})", rf"\mathcal{{N}}(0, {latex})", source,
            lambda n, fans, params: std(fans, params) * n, parameters,
        ),
        Initializer(
            f"{name}_uniform", f"U(+-sqrt(3 * {variance}))", rf"\mathcal{{U}}(\pm\sqrt{{3 \cdot {latex}}})",
            source, lambda n, fans, params: _uniform(n, math.sqrt(3) * std(fans, params)), parameters,
        ),
        Initializer(
            f"{name}_truncated", f"N(0, {variance}) cut at 2 sigma, widened to keep that variance",
            rf"\mathcal{{N}}_{{|w| \le 2\sigma}}(0, {latex})", source,
            lambda n, fans, params: _truncated(n, std(fans, params)), parameters,
        ),
    ]  # fmt: skip


def _gain_parameter(auto: str) -> Parameter:
    doc = f"factor on the standard deviation; auto: {auto}"
    return Parameter("gain", "auto", doc, low=0, high=1000, low_open=True, choices=("auto",), or_number=True)


_MODE = Parameter("mode", "fan_in", "the fan that divides the variance", choices=("fan_in", "fan_out"))

INITIALIZERS: Registry[Initializer] = Registry(
    "initializer",
    [
        *_family(
            "he", "2 / fan_in", r"\tfrac{2}{n_{in}}", "torch.nn.init.kaiming_normal_; He et al. 2015, eq. 10",
            lambda fans, params: _gain(params, math.sqrt(2)) / math.sqrt(_fan(fans, params)),
            (_MODE, _gain_parameter("sqrt(2), whatever the activation")),
        ),
        *_family(
            "xavier", "2 / (fan_in + fan_out)", r"\tfrac{2}{n_{in} + n_{out}}",
            "torch.nn.init.xavier_normal_; Glorot & Bengio 2010, eq. 12 and 16",
            lambda fans, params: _gain(params, 1.0) * math.sqrt(2 / (fans.fan_in + fans.fan_out)),
            (_gain_parameter("1, whatever the activation"),),
        ),
        *_family(
            "lecun", "1 / fan_in", r"\tfrac{1}{n_{in}}", "LeCun et al. 1998, section 4.6",
            lambda fans, params: _gain(params, 1.0) / math.sqrt(_fan(fans, params)),
            (_MODE, _gain_parameter("1, whatever the activation")),
        ),
        Initializer(
            "orthogonal", "gain Q, Q'Q = 1 or QQ' = 1", r"g Q,\ Q^\top Q = I",
            "torch.nn.init.orthogonal_; Saxe et al. 2014", _orthogonal,
            (_gain_parameter("the activation's gain"),),
        ),
        Initializer(
            "torch_default", "U(+-1 / sqrt(fan_in)), weights and biases",
            r"\mathcal{U}(\pm 1 / \sqrt{n_{in}})", "torch.nn.Linear.reset_parameters",
            lambda n, fans, params: _uniform(n, 1 / math.sqrt(fans.fan_in)), draws_bias=True,
        ),
        Initializer(
            "normal", "N(0, std^2)", r"\mathcal{N}(0, \sigma^2)", "torch.nn.init.normal_",
            lambda n, fans, params: float(params["std"]) * n,
            (Parameter("std", 0.01, "standard deviation", low=0, high=1000, low_open=True),),
        ),
        Initializer(
            "uniform", "U(+-bound)", r"\mathcal{U}(\pm b)", "torch.nn.init.uniform_",
            lambda n, fans, params: _uniform(n, float(params["bound"])),
            (Parameter("bound", 0.05, "largest weight", low=0, high=1000, low_open=True),),
        ),
        Initializer(
            "constant", "value", "c", "torch.nn.init.constant_",
            lambda n, fans, params: torch.full_like(n, float(params["value"])),
            (Parameter("value", 0.01, "every weight", low=-1000, high=1000),),
        ),
        Initializer(
            "zeros", "0", "0", "torch.nn.init.zeros_", lambda n, fans, params: torch.zeros_like(n),
        ),
    ],
)  # fmt: skip
