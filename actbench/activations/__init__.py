"""ACTIVATIONS: every activation function that a config can name. To add one, add one entry here.

A longer slope goes into `slopes`. `definition` says what the fields of an entry mean.
"""

# ruff: noqa: PLW0108 - writing `lambda z: F.relu(z)` and not `F.relu` keeps torch from being imported here

from __future__ import annotations

import math
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from actbench.activations import slopes
from actbench.activations.definition import Activation, Facts
from actbench.registry import LazyModule, Parameter, Registry

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

_SILU_LOW, _SILU_SUP_SLOPE = -0.2784645427610738, 1.0998393201288669  # at z = -1.2785 and 2.3994
_GELU_LOW = {"none": -0.16997120747990366, "tanh": -0.17004075057125406}
_GELU_SUP_SLOPE = {"none": 1.1289041451851548, "tanh": 1.1289930686587718}
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _leaky_facts(negative_slope: float, **_: Any) -> Facts:
    low = -inf if negative_slope > 0 else 0
    straight = negative_slope == 1
    return Facts(low, inf, monotone=negative_slope >= 0, smooth=straight, zero_centred=straight)


def _leaky_sup_slope(negative_slope: Any, **_: Any) -> Any:
    number = isinstance(negative_slope, int | float)
    return max(1.0, abs(negative_slope)) if number else negative_slope.abs().clamp(min=1)


def _maxout_gain(pieces: int) -> float:
    """Return 1 / sqrt(E max(N_1 ... N_k)^2), by the trapezoid rule over the density k phi Phi^(k-1)."""
    step = 1 / 64
    moment = 0.0
    for i in range(-12 * 64, 12 * 64 + 1):
        x = i * step
        below = 0.5 * math.erfc(-x / sqrt(2))
        moment += x * x * pieces * below ** (pieces - 1) * math.exp(-x * x / 2) / sqrt(2 * math.pi)
    return 1 / sqrt(moment * step)


_BETA = Parameter("beta", 1.0, "sharpness of the bend", low=0, high=100)
_TRAIN = "train it, one per layer, starting from the given value"
_LAMBD = Parameter("lambd", 0.5, "half the width of the flat middle", low=0, high=10, low_open=True)
_ODD = Facts(-1, 1, zero_centred=True)

# Each entry: name, formula, LaTeX; f, f'; facts, sup|f'|; gain, its source; source; parameters.
ACTIVATIONS: Registry[Activation] = Registry(
    "activation",
    [
        Activation(
            "relu", "max(0, z)", r"\max(0, z)", lambda z: F.relu(z), lambda z: torch.sign(F.relu(z)),
            Facts(0, inf, smooth=False), 1.0, sqrt(2), "torch", "torch.nn.ReLU; Nair & Hinton 2010",
        ),
        Activation(
            "leaky_relu", "max(0, z) + negative_slope min(0, z)", r"\max(0, z) + a \min(0, z)",
            lambda z, negative_slope: F.leaky_relu(z, negative_slope), slopes.leaky_slope,
            _leaky_facts, _leaky_sup_slope, lambda negative_slope: sqrt(2 / (1 + negative_slope**2)), "torch",
            "torch.nn.LeakyReLU; Maas et al. 2013",
            (Parameter("negative_slope", 0.01, "slope left of 0", low=0, high=100),),
        ),
        Activation(
            "prelu", "max(0, z) + negative_slope min(0, z), slope learned", r"\max(0, z) + a \min(0, z)",
            lambda z, negative_slope, per_unit: torch.where(z > 0, z, negative_slope * z), slopes.leaky_slope,
            _leaky_facts, _leaky_sup_slope, 1.3719886811400707, "derived", "torch.nn.PReLU; He et al. 2015",
            (
                Parameter("negative_slope", 0.25, "initial slope left of 0; learned", low=-100, high=100),
                Parameter("per_unit", False, "learn one slope per unit instead of one per layer"),
            ),
            learned_at=lambda negative_slope, per_unit: {"negative_slope": "unit" if per_unit else "one"},
        ),
        Activation(
            "elu", "z if z > 0 else alpha (exp(z) - 1)",
            r"z \text{ if } z > 0 \text{ else } \alpha (e^z - 1)",
            lambda z, alpha: F.elu(z, alpha), slopes.elu_slope,
            lambda alpha: Facts(-alpha, inf, smooth=alpha == 1), lambda alpha: max(1.0, alpha),
            1.2451983007007066, "derived", "torch.nn.ELU; Clevert et al. 2016",
            (Parameter("alpha", 1.0, "minus the limit on the far left", low=0, high=100),),
        ),
        Activation(
            "selu", "1.0507 (z if z > 0 else 1.6733 (exp(z) - 1))",
            r"\lambda z \text{ if } z > 0 \text{ else } \lambda \alpha (e^z - 1)",
            lambda z: F.selu(z), lambda z: _SELU_SCALE * slopes.elu_slope(z, _SELU_ALPHA),
            Facts(-_SELU_SCALE * _SELU_ALPHA, inf, smooth=False, zero_centred=True),
            _SELU_SCALE * _SELU_ALPHA, 0.75, "torch", "torch.nn.SELU; Klambauer et al. 2017",
        ),
        Activation(
            "celu", "z if z > 0 else alpha (exp(z / alpha) - 1)",
            r"z \text{ if } z > 0 \text{ else } \alpha (e^{z / \alpha} - 1)",
            lambda z, alpha: F.celu(z, alpha), lambda z, alpha: slopes.elu_slope(z, 1.0, 1 / alpha),
            lambda alpha: Facts(-alpha, inf), 1.0, 1.2451983007007066, "derived",
            "torch.nn.CELU; Barron 2017",
            (Parameter("alpha", 1.0, "minus the limit on the far left", low=0.001, high=100),),
        ),
        Activation(
            "rrelu", "max(0, z) + r min(0, z), r ~ U(lower, upper) in training, else its mean",
            r"\max(0, z) + r \min(0, z),\ r \sim U(l, u)", slopes.rrelu, slopes.rrelu_slope,
            lambda lower, upper: _leaky_facts((lower + upper) / 2),
            lambda lower, upper: _leaky_sup_slope((lower + upper) / 2),
            1.3784796645460572, "derived", "torch.nn.RReLU; Xu et al. 2015",
            (
                Parameter("lower", 1 / 8, "one end of the random slopes left of 0", low=0, high=100),
                Parameter("upper", 1 / 3, "the other end", low=0, high=100),
            ),
            noise=True,
        ),
        Activation(
            "sigmoid", "1 / (1 + exp(-z))", r"\frac{1}{1 + e^{-z}}", lambda z: torch.sigmoid(z), slopes.bell,
            Facts(0, 1), 0.25, 1.0, "torch", "torch.nn.Sigmoid",
        ),
        Activation(
            "tanh", "tanh(z)", r"\tanh z", lambda z: torch.tanh(z), lambda z: 4 * slopes.bell(2 * z),
            _ODD, 1.0, 5 / 3, "torch", "torch.nn.Tanh",
        ),
        Activation(
            "lecun_tanh", "1.7159 tanh(2 z / 3)", r"1.7159 \tanh \tfrac{2}{3} z",
            lambda z: 1.7159 * torch.tanh(2 / 3 * z), lambda z: 1.7159 * 2 / 3 * 4 * slopes.bell(4 / 3 * z),
            Facts(-1.7159, 1.7159, zero_centred=True), 1.7159 * 2 / 3, 1.1543694539761428, "derived",
            "LeCun et al. 1998, section 4.4",
        ),
        Activation(
            "softsign", "z / (1 + |z|)", r"\frac{z}{1 + |z|}", lambda z: F.softsign(z),
            lambda z: (1 / (1 + z.abs())) ** 2, _ODD, 1.0, 2.3375333631085397, "derived",
            "torch.nn.Softsign; Bergstra et al. 2009",
        ),
        Activation(
            "softplus", "log(1 + exp(beta z)) / beta", r"\tfrac{1}{\beta} \log(1 + e^{\beta z})",
            lambda z, beta: F.softplus(z, beta), lambda z, beta: torch.sigmoid(beta * z),
            Facts(0, inf), 1.0, 1.0418668355353017, "derived", "torch.nn.Softplus; Dugas et al. 2001",
            (Parameter("beta", 1.0, _BETA.doc, low=0.001, high=100),),
        ),
        Activation(
            "logsigmoid", "log(sigmoid(z))", r"\log \sigma(z)", lambda z: F.logsigmoid(z),
            lambda z: torch.sigmoid(-z), Facts(-inf, 0), 1.0, 1.0418668355353017, "derived",
            "torch.nn.LogSigmoid",
        ),
        Activation(
            "silu", "z sigmoid(z)", r"z\,\sigma(z)", lambda z: F.silu(z), lambda z: slopes.swish_slope(z, 1.0),
            Facts(_SILU_LOW, inf, monotone=False), _SILU_SUP_SLOPE, 1.6765324703310912, "derived",
            "torch.nn.SiLU; Elfwing et al. 2018",
        ),
        Activation(
            "swish", "z sigmoid(beta z)", r"z\,\sigma(\beta z)",
            lambda z, beta, learned: z * torch.sigmoid(beta * z), slopes.swish_slope,
            lambda beta, learned: Facts(_SILU_LOW / beta, inf, False) if beta else Facts(-inf, inf, zero_centred=True),
            lambda beta, learned: 0.5 if not learned and beta == 0 else _SILU_SUP_SLOPE,
            1.6765324703310912, "derived", "Ramachandran et al. 2017",
            (_BETA, Parameter("learned", False, _TRAIN)),
            learned_at=lambda beta, learned: {"beta": "one"} if learned else {},
        ),
        Activation(
            "mish", "z tanh(log(1 + exp(z)))", r"z \tanh \log(1 + e^z)", lambda z: F.mish(z), slopes.mish_slope,
            Facts(-0.3088434130172504, inf, monotone=False), 1.0884981612517279, 1.4868475812732081,
            "derived", "torch.nn.Mish; Misra 2020",
        ),
        Activation(
            "gelu", "z Phi(z)", r"z\,\Phi(z)",
            lambda z, approximate: F.gelu(z, approximate=approximate), slopes.gelu_slope,
            lambda approximate: Facts(_GELU_LOW[approximate], inf, monotone=False),
            lambda approximate: _GELU_SUP_SLOPE[approximate], 1.5335304411955352, "derived",
            "torch.nn.GELU; Hendrycks & Gimpel 2016",
            (Parameter("approximate", "none", "none: exact, by erf; tanh: approximate", choices=("none", "tanh")),),
        ),
        Activation(
            "quick_gelu", "z sigmoid(1.702 z)", r"z\,\sigma(1.702 z)", lambda z: z * torch.sigmoid(1.702 * z),
            lambda z: slopes.swish_slope(z, 1.702), Facts(_SILU_LOW / 1.702, inf, monotone=False), _SILU_SUP_SLOPE,
            1.5394587622988314, "derived", "Hendrycks & Gimpel 2016, section 2",
        ),
        Activation(
            "hardswish", "z min(max(z + 3, 0), 6) / 6", r"\tfrac{1}{6} z \min(\max(z + 3, 0), 6)",
            lambda z: F.hardswish(z), slopes.hardswish_slope,
            Facts(-0.375, inf, monotone=False, smooth=False), 1.5, 1.7366572127665416, "derived",
            "torch.nn.Hardswish; Howard et al. 2019",
        ),
        Activation(
            "hardsigmoid", "min(max(z + 3, 0), 6) / 6", r"\tfrac{1}{6} \min(\max(z + 3, 0), 6)",
            lambda z: F.hardsigmoid(z), lambda z: slopes.one_where(z.abs() < 3, z) / 6,
            Facts(0, 1, smooth=False), 1 / 6, 1.8978404247295590, "derived", "torch.nn.Hardsigmoid",
        ),
        Activation(
            "hardtanh", "min(max(z, min_val), max_val)", r"\min(\max(z, l), h)",
            lambda z, min_val, max_val: F.hardtanh(z, min_val, max_val),
            lambda z, min_val, max_val: slopes.one_where((z > min_val) & (z < max_val), z),
            lambda min_val, max_val: Facts(min_val, max_val, smooth=False, zero_centred=min_val == -max_val),
            1.0, 1.3920361404483098, "derived", "torch.nn.Hardtanh; Collobert 2004",
            (
                Parameter("min_val", -1.0, "lower limit", low=-100, high=0),
                Parameter("max_val", 1.0, "upper limit", low=0.001, high=100),
            ),
        ),
        Activation(
            "relu6", "min(max(z, 0), 6)", r"\min(\max(z, 0), 6)", lambda z: F.relu6(z),
            lambda z: slopes.one_where((z > 0) & (z < 6), z), Facts(0, 6, smooth=False), 1.0, 1.4142135650950737,
            "derived", "torch.nn.ReLU6; Krizhevsky 2010",
        ),
        Activation(
            "squared_relu", "max(0, z)^2", r"\max(0, z)^2", lambda z: F.relu(z) ** 2, lambda z: 2 * F.relu(z),
            Facts(0, inf), inf, sqrt(2 / 3), "derived", "So et al. 2021",
        ),
        Activation(
            "threshold", "z if z > threshold else value", r"z \text{ if } z > \theta \text{ else } v",
            lambda z, threshold, value: F.threshold(z, threshold, value),
            lambda z, threshold, value: slopes.one_where(z > threshold, z),
            lambda threshold, value: Facts(min(threshold, value), inf, value <= threshold, smooth=False),
            1.0, 1.5799030817610499, "derived", "torch.nn.Threshold; defaults: Konda et al. 2015",
            (
                Parameter("threshold", 1.0, "up to this input, the output is `value`", low=-10, high=10),
                Parameter("value", 0.0, "the output up to the threshold", low=-100, high=100),
            ),
        ),
        Activation(
            "tanhshrink", "z - tanh(z)", r"z - \tanh z", lambda z: F.tanhshrink(z),
            lambda z: torch.tanh(z) ** 2, Facts(-inf, inf, zero_centred=True), 1.0, 2.3383675301021214,
            "derived", "torch.nn.Tanhshrink",
        ),
        Activation(
            "softshrink", "sign(z) max(|z| - lambd, 0)", r"\mathrm{sign}(z) \max(|z| - \lambda, 0)",
            lambda z, lambd: F.softshrink(z, lambd), lambda z, lambd: slopes.one_where(z.abs() > lambd, z),
            Facts(-inf, inf, smooth=False, zero_centred=True), 1.0, 1.5443605282801334, "derived",
            "torch.nn.Softshrink", (_LAMBD,),
        ),
        Activation(
            "hardshrink", "z if |z| > lambd else 0", r"z \text{ if } |z| > \lambda \text{ else } 0",
            lambda z, lambd: F.hardshrink(z, lambd), lambda z, lambd: slopes.one_where(z.abs() > lambd, z),
            Facts(-inf, inf, smooth=False, zero_centred=True), 1.0, 1.0157963547197340, "derived",
            "torch.nn.Hardshrink", (_LAMBD,),
        ),
        Activation(
            "sin", "sin(z)", r"\sin z", lambda z: torch.sin(z), lambda z: torch.cos(z),
            Facts(-1, 1, monotone=False, zero_centred=True), 1.0, 1.5208666231788149, "derived",
            "Sitzmann et al. 2020",
        ),
        Activation(
            "snake", "z + sin(a z)^2 / a", r"z + \tfrac{1}{a} \sin^2 a z",
            lambda z, a, learned: z + torch.sin(a * z) ** 2 / a,
            lambda z, a, learned: 1 + torch.sin(2 * a * z),
            Facts(-inf, inf), 2.0, 0.8745809829313702, "derived", "Ziyin et al. 2020",
            (Parameter("a", 1.0, "frequency", low=0.001, high=100), Parameter("learned", False, _TRAIN)),
            learned_at=lambda a, learned: {"a": "one"} if learned else {},
        ),
        Activation(
            "identity", "z", "z", lambda z: z, lambda z: torch.ones_like(z),
            Facts(-inf, inf, zero_centred=True), 1.0, 1.0, "torch", "torch.nn.Identity",
        ),
        Activation(
            "crelu", "[max(0, z), max(0, -z)], two outputs", r"[\max(0, z), \max(0, -z)]",
            lambda z: torch.cat([F.relu(z), F.relu(-z)], dim=-1), lambda z: slopes.one_where(z != 0, z),
            Facts(0, inf, monotone=False, smooth=False), 1.0, sqrt(2), "derived", "Shang et al. 2016",
            ratio_at=(1, 2),
        ),
        Activation(
            "glu", "v sigmoid(g), z = [v, g]", r"v\,\sigma(g)", lambda z: F.glu(z, dim=-1),
            lambda z: slopes.gated_slope(z, torch.sigmoid, slopes.bell),
            Facts(-inf, inf, monotone=False, zero_centred=True), inf, 1.8462285453386054, "derived",
            "torch.nn.GLU; Dauphin et al. 2017", ratio_at=(2, 1),
        ),
        Activation(
            "swiglu", "v silu(g), z = [v, g]", r"v\,g\,\sigma(g)", lambda z: slopes.gated(z, F.silu),
            lambda z: slopes.gated_slope(z, F.silu, lambda g: slopes.swish_slope(g, 1.0)),
            Facts(-inf, inf, monotone=False, zero_centred=True), inf, 1.6765324703310912, "derived",
            "Shazeer 2020", ratio_at=(2, 1),
        ),
        Activation(
            "geglu", "v gelu(g), z = [v, g]", r"v\,g\,\Phi(g)", lambda z: slopes.gated(z, F.gelu),
            lambda z: slopes.gated_slope(z, F.gelu, slopes.gelu_slope),
            Facts(-inf, inf, monotone=False, zero_centred=True),
            inf, 1.5335304411955352, "derived", "Shazeer 2020", ratio_at=(2, 1),
        ),
        Activation(
            "maxout", "max(z_1, ..., z_pieces)", r"\max(z_1, \dots, z_k)",
            slopes.maxout, slopes.maxout_slope,
            Facts(-inf, inf, smooth=False), 1.0, _maxout_gain, "derived", "Goodfellow et al. 2013",
            (Parameter("pieces", 2, "inputs per output", low=2, high=16),),
            ratio_at=lambda pieces: (pieces, 1),
        ),
    ],
)  # fmt: skip
