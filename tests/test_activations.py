"""Every activation against torch, autograd and what its entry claims; gains, widths and chains."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from actbench.activations import ACTIVATIONS
from actbench.activations.definition import (
    Activation,
    chain_function,
    chain_gain,
    chain_slope,
    chain_sup_slope,
    check_chain,
    derived_gain,
    normal_mean,
)
from actbench.errors import UnknownNameError, UsageError

# fmt: off
REQUIRED = {
    "relu", "leaky_relu", "prelu", "elu", "sigmoid", "tanh", "softplus", "silu", "swish", "mish", "identity",
    "selu", "celu", "gelu", "hardswish", "hardsigmoid", "hardtanh", "relu6", "rrelu", "logsigmoid", "softsign",
    "tanhshrink", "softshrink", "hardshrink", "threshold", "squared_relu", "quick_gelu", "lecun_tanh", "sin",
    "snake", "crelu", "glu", "swiglu", "geglu", "maxout",
}
# fmt: on

OTHER_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"negative_slope": a} for a in (0, 0.2, 1, 3)],
    "prelu": [{"negative_slope": -0.5}, {"negative_slope": -2.0}, {"per_unit": True}],
    "elu": [{"alpha": a} for a in (0, 0.5, 2)],
    "celu": [{"alpha": 0.5}, {"alpha": 2}],
    "rrelu": [{"lower": 0.1, "upper": 0.9}, {"lower": 1.0, "upper": 2.0}],
    "softplus": [{"beta": 0.5}, {"beta": 5}],
    "swish": [{"beta": b} for b in (0, 0.3, 4)] + [{"learned": True}],
    "gelu": [{"approximate": "tanh"}],
    "hardtanh": [{"min_val": -2, "max_val": 0.5}, {"min_val": -0.3, "max_val": 0.3}],
    "threshold": [{"threshold": -0.5, "value": 2}, {"threshold": 0.5, "value": -1}],
    "softshrink": [{"lambd": 1.2}],
    "hardshrink": [{"lambd": 1.2}],
    "snake": [{"a": 0.3}, {"learned": True}],
    "maxout": [{"pieces": 3}],
}

Case = tuple[Activation, dict[str, Any]]


def _cases() -> list[Any]:
    cases = []
    for name, entry in ACTIVATIONS.items():
        for given_params in [{}, *OTHER_PARAMETERS.get(name, [])]:
            label = ",".join([name, *(f"{key}={value}" for key, value in given_params.items())])
            cases.append(pytest.param((entry, ACTIVATIONS.complete(name, given_params)), id=label))
    return cases


ALL = _cases()
ELEMENTWISE = [case for case in ALL if case.values[0][0].ratio(case.values[0][1]) == (1, 1)]
OTHERS = [case for case in ALL if case not in ELEMENTWISE]

TORCHS_OWN: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda negative_slope, per_unit: nn.PReLU(1, negative_slope).double().requires_grad_(False),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "rrelu": lambda lower, upper: nn.RReLU(lower, upper).eval(),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softsign": nn.Softsign,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "threshold": nn.Threshold,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink,
    "sin": lambda: torch.sin,
    "identity": nn.Identity,
    "glu": nn.GLU,
}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


BY_HAND: dict[str, Callable[..., float]] = {
    "lecun_tanh": lambda x: 1.7159 * math.tanh(2 * x / 3),
    "swish": lambda x, beta, learned: x * _sigmoid(beta * x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "squared_relu": lambda x: max(0.0, x) ** 2,
    "snake": lambda x, a, learned: x + math.sin(a * x) ** 2 / a,
}
BY_EXAMPLE: dict[str, tuple[list[float], list[float]]] = {
    "crelu": ([-2, 3], [0, 3, 2, 0]),
    "swiglu": ([2, 3, 0.5, -1], [2 * 0.5 * _sigmoid(0.5), -3 * _sigmoid(-1)]),
    "geglu": ([2, 3, 0, -1], [0, -3 * 0.15865525393145705]),
    "maxout": ([1, -4, 0, 5, 2, -6], [5, 2, 0]),
}


def _grid(params: dict[str, Any]) -> Tensor:
    """Points around 0, the usual kinks and those at the parameters' values exactly, and extremes."""
    numbers = [float(v) for v in params.values() if isinstance(v, int | float)]
    kinks = [0.0, 1.0, 3.0, 6.0, 100.0, 1e4, *numbers]
    exact = torch.tensor([*kinks, *(-k for k in kinks)], dtype=torch.float64)
    return torch.cat([torch.linspace(-9, 9, 1801, dtype=torch.float64), exact])


def _autograd(entry: Activation, params: dict[str, Any], z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    entry.function(z, **params).sum().backward()
    assert z.grad is not None
    return z.grad


def test_every_required_activation_exists_and_is_checked_against_a_reference() -> None:
    assert set(ACTIVATIONS) == REQUIRED
    assert set(ACTIVATIONS) == TORCHS_OWN.keys() | BY_HAND.keys() | BY_EXAMPLE.keys()


@pytest.mark.parametrize("name", TORCHS_OWN)
def test_functions_agree_with_torch(name: str) -> None:
    for given_params in [{}, *OTHER_PARAMETERS.get(name, [])]:
        params = ACTIVATIONS.complete(name, given_params)
        z = _grid(params)[:1810]
        expected = TORCHS_OWN[name](**params)(z)
        torch.testing.assert_close(ACTIVATIONS[name].function(z, **params), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("leaky_relu", nn.LeakyReLU()),
        ("elu", nn.ELU()),
        ("celu", nn.CELU()),
        ("rrelu", nn.RReLU().eval()),
        ("softplus", nn.Softplus()),
        ("gelu", nn.GELU()),
        ("hardtanh", nn.Hardtanh()),
        ("softshrink", nn.Softshrink()),
        ("hardshrink", nn.Hardshrink()),
    ],
)
def test_defaults_agree_with_torch(name: str, module: nn.Module) -> None:
    z = torch.linspace(-9, 9, 401)
    entry = ACTIVATIONS[name]
    torch.testing.assert_close(entry.function(z, **entry.defaults), module(z))


def test_prelu_starts_from_torchs_slope() -> None:
    assert ACTIVATIONS["prelu"].defaults["negative_slope"] == nn.PReLU().weight.item()


@pytest.mark.parametrize("name", BY_HAND)
def test_a_function_that_torch_lacks_follows_its_formula(name: str) -> None:
    for given_params in [{}, *OTHER_PARAMETERS.get(name, [])]:
        params = ACTIVATIONS.complete(name, given_params)
        z = torch.linspace(-9, 9, 61, dtype=torch.float64)
        expected = torch.tensor([BY_HAND[name](x, **params) for x in z.tolist()], dtype=torch.float64)
        torch.testing.assert_close(ACTIVATIONS[name].function(z, **params), expected)


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_a_widening_or_gated_function_works_along_the_last_axis(name: str) -> None:
    z, a = (torch.tensor(numbers, dtype=torch.float64) for numbers in BY_EXAMPLE[name])
    params = ACTIVATIONS.complete(name, {})
    torch.testing.assert_close(ACTIVATIONS[name].function(z, **params), a)
    stacked = z.expand(2, 5, -1)
    torch.testing.assert_close(ACTIVATIONS[name].function(stacked, **params), a.expand(2, 5, -1))


@pytest.mark.parametrize("case", ELEMENTWISE)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 3e-9), (torch.float32, 1e-6)])
def test_slopes_agree_with_autograd_even_at_kinks_and_far_out(case: Case, dtype: torch.dtype, atol: float) -> None:
    entry, params = case
    z = _grid(params).to(dtype)
    slope = entry.slope(z, **params)
    assert slope.shape == z.shape
    assert slope.dtype == dtype
    # 3e-9: torch's softplus is the identity from beta z = 20 on; its slope here keeps the last 2e-9.
    torch.testing.assert_close(slope, _autograd(entry, params, z), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("case", OTHERS)
def test_the_slope_of_a_widening_or_gated_function_is_its_largest_derivative(case: Case) -> None:
    entry, params = case
    z = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: entry.function(z, **params), z)  # type: ignore[no-untyped-call]
    slope = entry.slope(z, **params)
    largest = jacobian.gather(0, jacobian.abs().argmax(0, keepdim=True))[0]
    if entry.ratio(params)[1] > 1:
        largest = largest.abs()
    torch.testing.assert_close(slope, largest)
    stacked = z.expand(2, 5, 12)
    torch.testing.assert_close(entry.slope(stacked, **params), slope.expand(2, 5, 12))


def test_crelu_has_slope_zero_at_zero_and_maxout_gives_a_tie_to_one_piece_as_autograd_does() -> None:
    assert ACTIVATIONS["crelu"].slope(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [1, 0, 1]
    entry, z = ACTIVATIONS["maxout"], torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 0.0])
    params: dict[str, Any] = {"pieces": 3}
    assert torch.equal(entry.slope(z, **params), _autograd(entry, params, z))
    assert entry.slope(z, **params).sum() == 2


@pytest.mark.parametrize("case", ALL)
def test_slopes_stay_finite_at_any_size_of_input(case: Case) -> None:
    entry, params = case
    sizes = [float(s) for s in (0, 1e-30, 1, 17, 50, 100, 1e4, 1e8, 1e30)]
    pairs = torch.tensor([*sizes, *(-s for s in sizes)]).unsqueeze(1).expand(-1, 12)
    assert torch.isfinite(entry.slope(pairs, **params)).all()


@pytest.mark.parametrize(
    ("name", "far", "expected"),
    [
        ("sigmoid", 30.0, math.exp(-30)),
        ("sigmoid", -30.0, math.exp(-30)),
        ("tanh", 20.0, 4 * math.exp(-40)),
        ("lecun_tanh", -30.0, 1.7159 * 2 / 3 * 4 * math.exp(-40)),
        ("logsigmoid", 40.0, math.exp(-40)),
        ("softplus", -50.0, math.exp(-50)),
        ("silu", -30.0, -29 * math.exp(-30)),
        ("mish", -30.0, -29 * math.exp(-30)),
        ("elu", -30.0, math.exp(-30)),
        ("softsign", 1e4, 1 / 10001**2),
        ("gelu", -8.0, 6.220960574271786e-16 - 8 * math.exp(-32) / math.sqrt(2 * math.pi)),
    ],
)
def test_a_tiny_slope_keeps_its_digits_in_float32(name: str, far: float, expected: float) -> None:
    entry = ACTIVATIONS[name]
    assert entry.slope(torch.tensor([far]), **entry.defaults).item() == pytest.approx(expected, rel=2e-5, abs=0)


STEP = 5e-4
DENSE = torch.cat(
    [
        torch.tensor([-1e5, -1e4, -100.0], dtype=torch.float64),
        torch.arange(-60_000, 60_001, dtype=torch.float64) * STEP,
        torch.tensor([100.0, 1e4, 1e5], dtype=torch.float64),
    ]
)


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_range_monotony_and_boundedness_are_as_stated(case: Case) -> None:
    entry, params = case
    facts, a = entry.facts(params), entry.function(DENSE, **params)
    for stated, reached in [(-facts.low, -float(a.min())), (facts.high, float(a.max()))]:
        assert reached <= stated + 1e-9
        assert reached > 500 if math.isinf(stated) else reached == pytest.approx(stated, abs=2 * STEP)
    assert facts.monotone == bool((a.diff() >= -1e-8).all())  # torch's softplus steps down by 2e-9 at 20
    assert facts.bounded == (float(a.abs().max()) < 500)
    assert facts.range == (facts.low, facts.high)


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_the_largest_slope_is_reached_and_never_exceeded(case: Case) -> None:
    entry, params = case
    sup, highest = entry.sup_slope(params), float(entry.slope(DENSE, **params).abs().max())
    assert highest <= sup + 1e-9
    assert highest > 1000 if math.isinf(sup) else highest == pytest.approx(sup, rel=1e-3)


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_only_slopes_that_are_not_smooth_jump(case: Case) -> None:
    entry, params = case
    jump = float(entry.slope(DENSE[3:-3], **params).diff().abs().max())
    assert jump < 10 * STEP if entry.facts(params).smooth else jump > 0.1


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_zero_centred_means_that_outputs_of_a_standard_normal_input_average_to_zero(case: Case) -> None:
    entry, params = case
    mean = normal_mean(lambda z: entry.function(z, **params))
    assert entry.facts(params).zero_centred == (abs(mean) < 1e-9)


@pytest.mark.parametrize("case", OTHERS)
def test_facts_of_a_widening_or_gated_function_hold_on_random_inputs(case: Case) -> None:
    entry, params = case
    inputs, outputs = entry.ratio(params)
    z = 30 * torch.randn(40_000, inputs, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    facts, a = entry.facts(params), entry.function(z, **params)
    assert a.shape == (40_000, outputs)
    assert a.min() >= facts.low
    assert a.max() > 50
    assert a.min() < -10 if facts.low < 0 else a.min() == 0
    assert entry.slope(z, **params).abs().max() == pytest.approx(1) or math.isinf(entry.sup_slope(params))
    spread = float(entry.function(z / 30, **params).std() / math.sqrt(a.numel()))
    assert facts.zero_centred == (abs(float(entry.function(z / 30, **params).mean())) < 5 * spread)


def test_exactly_the_gains_that_torch_has_are_labelled_torch() -> None:
    for name, entry in ACTIVATIONS.items():
        try:
            stated = nn.init.calculate_gain("linear" if name == "identity" else name)  # type: ignore[arg-type]
        except ValueError:
            assert entry.gain_source == "derived", name
        else:
            assert entry.gain_source == "torch", name
            assert entry.gain(entry.defaults) == pytest.approx(stated, abs=1e-12), name


@pytest.mark.parametrize("negative_slope", [0.0, 0.01, 0.2, 1.0, 3.0])
def test_the_gain_of_leaky_relu_follows_its_slope_as_in_torch(negative_slope: float) -> None:
    gain = ACTIVATIONS["leaky_relu"].gain({"negative_slope": negative_slope})
    assert gain == pytest.approx(nn.init.calculate_gain("leaky_relu", negative_slope), abs=1e-12)


@pytest.mark.parametrize("case", [c for c in ELEMENTWISE if c.values[0][0].gain_source == "derived"])
def test_a_derived_gain_keeps_the_second_moment_of_a_standard_normal_input(case: Case) -> None:
    entry, params = case
    z = (np.arange(-600_000, 600_000) + 0.5) * 2e-5  # a plain midpoint sum, without the adaptive quadrature
    with torch.no_grad():
        a = entry.function(torch.from_numpy(z), **params).numpy()
    moment = float(np.sum(a * a * np.exp(-z * z / 2)) * 2e-5 / math.sqrt(2 * math.pi))
    assert entry.gain(params) == pytest.approx(1 / math.sqrt(moment), abs=1e-6)


@pytest.mark.parametrize("name", ["glu", "swiglu", "geglu"])
def test_the_gain_of_a_gated_function_is_that_of_its_gate_since_the_value_has_unit_variance(
    name: str,
) -> None:
    entry = ACTIVATIONS[name]
    gain = derived_gain(lambda g: entry.function(torch.stack([torch.ones_like(g), g], dim=-1)).squeeze(-1))
    assert entry.gain({}) == pytest.approx(gain, abs=1e-9)


def test_the_gains_of_maxout_and_crelu_are_those_of_order_statistics() -> None:
    moments = {2: 1.0, 3: 1 + math.sqrt(3) / (2 * math.pi), 4: 1 + math.sqrt(3) / math.pi}
    for pieces, moment in moments.items():
        assert ACTIVATIONS["maxout"].gain({"pieces": pieces}) == pytest.approx(1 / math.sqrt(moment), abs=1e-9)
    assert ACTIVATIONS["crelu"].gain({}) == ACTIVATIONS["relu"].gain({})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.ones_like, 1.0),
        (lambda z: z**4, 3.0),
        (F.relu, 1 / math.sqrt(2 * math.pi)),
        (lambda z: (z > 0.7071).double(), 0.5 * math.erfc(0.7071 / math.sqrt(2))),
        (lambda z: torch.sin(40 * z) ** 2, 0.5 * (1 - math.exp(-3200))),
        (torch.zeros_like, 0.0),
    ],
)
def test_the_quadrature_is_exact_through_kinks_jumps_and_oscillations(
    function: Callable[[Tensor], Tensor], expected: float
) -> None:
    assert normal_mean(function) == pytest.approx(expected, abs=1e-10)


def test_a_function_that_is_always_zero_has_no_gain() -> None:
    with pytest.raises(UsageError, match="set the init's gain"):
        derived_gain(torch.zeros_like)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("leaky_relu", {"negative_slope": -0.1}, "negative_slope must be a number >= 0"),
        ("prelu", {"per_unit": 1}, "per_unit must be true or false"),
        ("elu", {"alpha": -1}, "alpha must be a number >= 0"),
        ("celu", {"alpha": 0}, "alpha must be a number >= 0.001"),
        ("softplus", {"beta": 0}, "beta must be a number"),
        ("swish", {"beta": math.nan}, "beta must be a number"),
        ("swish", {"learned": "yes"}, "learned must be true or false"),
        ("gelu", {"approximate": "tan"}, "did you mean 'tanh'"),
        ("rrelu", {"upper": math.inf}, "upper must be a number"),
        ("hardtanh", {"min_val": 0.5}, "min_val must be a number"),
        ("hardtanh", {"max_val": 0}, "max_val must be a number"),
        ("softshrink", {"lambd": 0}, "lambd must be a number > 0"),
        ("hardshrink", {"lambd": -1}, "lambd must be a number > 0"),
        ("threshold", {"threshold": "low"}, "threshold must be a number"),
        ("snake", {"a": 0}, "a must be a number"),
        ("maxout", {"pieces": 1}, "pieces must be an integer >= 2"),
        ("maxout", {"pieces": 2.0}, "pieces must be an integer"),
    ],
)
def test_a_bad_parameter_is_refused_and_the_bounds_are_named(name: str, bad: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ACTIVATIONS.complete(name, bad)


def test_an_unknown_activation_or_parameter_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'swish'"):
        ACTIVATIONS["swsh"]
    with pytest.raises(UnknownNameError, match="did you mean 'negative_slope'"):
        ACTIVATIONS.complete("leaky_relu", {"negativ_slope": 0.1})


@pytest.mark.parametrize("entry", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_every_entry_is_described(entry: Activation) -> None:
    assert entry.formula.isascii()
    assert entry.source
    assert entry.latex.count("{") == entry.latex.count("}")
    assert entry.latex.strip()
    assert all(parameter.doc for parameter in entry.parameters)


def test_parameters_that_are_trained_are_named() -> None:
    learned = {
        name: entry.learned(entry.defaults) for name, entry in ACTIVATIONS.items() if entry.learned(entry.defaults)
    }
    assert learned == {"prelu": {"negative_slope": "one"}}
    assert ACTIVATIONS["prelu"].learned({"negative_slope": 0.1, "per_unit": True}) == {"negative_slope": "unit"}
    assert ACTIVATIONS["swish"].learned({"beta": 2.0, "learned": True}) == {"beta": "one"}
    assert ACTIVATIONS["snake"].learned({"a": 2.0, "learned": True}) == {"a": "one"}


@pytest.mark.parametrize("width", [1, 6])
def test_prelu_with_tensors_gives_each_lane_what_torch_gives_it_and_trains_its_slopes(width: int) -> None:
    draws = torch.Generator().manual_seed(3)
    z = torch.randn(3, 5, 6, generator=draws)
    slopes = torch.rand(3, 1, width, generator=draws).requires_grad_()
    entry = ACTIVATIONS["prelu"]
    params = {"negative_slope": slopes, "per_unit": width > 1}
    a = entry.function(z, **params)
    a.square().sum().backward()
    assert slopes.grad is not None
    sup = entry.sup_slope({"negative_slope": 3 * slopes.detach(), "per_unit": width > 1})
    assert torch.equal(sup, (3 * slopes.detach()).clamp(min=1))
    for lane in range(3):
        weight = slopes[lane, 0].detach().clone().requires_grad_()
        expected = F.prelu(z[lane], weight)
        expected.square().sum().backward()
        torch.testing.assert_close(a[lane], expected)
        torch.testing.assert_close(slopes.grad[lane, 0], weight.grad)
        sign = torch.where(z[lane] > 0, 1.0, weight.detach())
        assert torch.equal(entry.slope(z, **params)[lane], sign)


@pytest.mark.parametrize(("name", "parameter"), [("swish", "beta"), ("snake", "a")])
def test_a_learned_parameter_gives_each_lane_its_own_curve_and_gets_a_gradient(name: str, parameter: str) -> None:
    entry = ACTIVATIONS[name]
    z = torch.linspace(-4, 4, 50, dtype=torch.float64).expand(3, 2, 50)
    values = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64).view(3, 1, 1)
    params = {parameter: values, "learned": True}
    for lane in range(3):
        alone = {parameter: values[lane].item(), "learned": False}
        torch.testing.assert_close(entry.function(z, **params)[lane], entry.function(z[lane], **alone))
        torch.testing.assert_close(entry.slope(z, **params)[lane], entry.slope(z[lane], **alone))
        assert entry.sup_slope(params) == entry.sup_slope(alone)
    assert torch.autograd.gradcheck(
        lambda v: entry.function(z[:, :1, ::5], **{parameter: v, "learned": True}),
        values.clone().requires_grad_(),
    )


def test_rrelu_takes_its_slopes_from_the_noise_in_training_and_their_mean_in_evaluation() -> None:
    entry, params = ACTIVATIONS["rrelu"], {"lower": 0.2, "upper": 0.6}
    z, noise = torch.tensor([-2.0, -2.0, -2.0, 0.0, 3.0]), torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0])
    torch.testing.assert_close(entry.function(z, noise=noise, **params), torch.tensor([-0.4, -0.8, -1.2, 0, 3]))
    torch.testing.assert_close(entry.slope(z, noise=noise, **params), torch.tensor([0.2, 0.4, 0.6, 0.6, 1.0]))
    torch.testing.assert_close(entry.function(z, **params), F.rrelu(z, 0.2, 0.6, training=False))
    assert [name for name, entry in ACTIVATIONS.items() if entry.noise] == ["rrelu"]


WIDTHS = st.integers(1, 2000)


@given(st.sampled_from(["crelu", "glu", "swiglu", "geglu", "maxout"]), WIDTHS, WIDTHS, WIDTHS)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_no_other_width_is_closer_in_parameters_to_an_elementwise_layer(
    name: str, hidden: int, fan_in: int, fan_out: int
) -> None:
    entry = ACTIVATIONS[name]
    inputs, outputs = entry.ratio(entry.defaults)
    pre, post = entry.widths(hidden, fan_in, fan_out, entry.defaults)
    k = pre // inputs
    assert (pre, post) == (inputs * k, outputs * k)
    inputs, outputs = entry.ratio(entry.defaults)
    assert pre // inputs * outputs == post

    def distance(k: int) -> int:
        return abs((fan_in + 1) * inputs * k + outputs * k * fan_out - hidden * (fan_in + 1 + fan_out))

    assert k >= 1
    assert distance(k) <= distance(k + 1)
    assert k == 1 or distance(k) <= distance(k - 1)


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_an_elementwise_activation_keeps_the_nominal_width(case: Case) -> None:
    entry, params = case
    assert entry.widths(512, 784, 10, params) == (512, 512)
    assert entry.ratio(params) == (1, 1)


def test_swiglu_between_equal_widths_takes_two_thirds() -> None:
    pre, post = ACTIVATIONS["swiglu"].widths(768, 768, 768, {})
    assert post == pytest.approx(512, abs=1)
    assert pre == 2 * post


def _shared(case: Case) -> bool:
    """Whether it has no parameter that each unit learns: such a one stands alone."""
    entry, params = case
    return "unit" not in entry.learned(params).values()


LINKS = [case.values[0] for case in ELEMENTWISE if _shared(case.values[0])]
CHAINED = st.lists(st.sampled_from(LINKS), min_size=1, max_size=4)


def test_an_activation_that_learns_per_unit_cannot_be_part_of_a_chain() -> None:
    per_unit = (ACTIVATIONS["prelu"], {"negative_slope": 0.25, "per_unit": True})
    check_chain([per_unit])
    with pytest.raises(UsageError, match="for each unit"):
        check_chain([per_unit, (ACTIVATIONS["relu"], {})])


@given(CHAINED)
@settings(derandomize=True, max_examples=80, deadline=None)
def test_a_chain_composes_and_its_slope_is_that_of_autograd(chain: list[Case]) -> None:
    check_chain(chain)
    z = torch.linspace(-3, 3, 121, dtype=torch.float64).requires_grad_()
    a = z
    for entry, params in chain:
        a = entry.function(a, **params)
    assert torch.equal(chain_function(z, chain), a)
    (expected,) = torch.autograd.grad(a.sum(), z)
    torch.testing.assert_close(chain_slope(z.detach(), chain), expected, rtol=1e-6, atol=1e-8)


def _chain(*names: str) -> list[Case]:
    return [(ACTIVATIONS[name], ACTIVATIONS.complete(name, {})) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["relu", "sigmoid"], 0.25),
        (["tanh", "tanh", "relu"], 1.0),
        (["selu", "hardswish"], 1.5 * 1.0507009873554805),
        (["sigmoid", "sigmoid"], 0.058959),  # below the product 0.0625 of the two bounds
        (["squared_relu", "identity"], math.inf),
        (["squared_relu", "relu6"], 2 * math.sqrt(6)),
    ],
)
def test_the_largest_slope_of_a_chain_is_found(names: list[str], expected: float) -> None:
    assert chain_sup_slope(_chain(*names)) == pytest.approx(expected, rel=1e-3)


def test_a_chain_of_one_is_that_activation() -> None:
    leaky = [(ACTIVATIONS["leaky_relu"], {"negative_slope": 2.0})]
    assert chain_sup_slope(leaky) == 2
    assert chain_gain(leaky) == (pytest.approx(math.sqrt(2 / 5)), "torch")


def test_the_gain_of_a_chain_is_derived() -> None:
    gain, source = chain_gain(_chain("relu", "sigmoid"))
    z = (np.arange(0, 600_000) + 0.5) * 2e-5
    right = np.sum(np.exp(-z * z / 2) / (1 + np.exp(-z)) ** 2) * 2e-5 / math.sqrt(2 * math.pi)
    assert gain == pytest.approx(1 / math.sqrt(0.125 + right), abs=1e-6)
    assert source == "derived"
    assert chain_gain(_chain("identity", "relu"))[0] == pytest.approx(math.sqrt(2), abs=1e-9)


def test_noise_reaches_the_link_that_uses_it() -> None:
    chain, z = _chain("identity", "rrelu", "tanh"), torch.tensor([-1.0, 1.0])
    drawn = chain_function(z, chain, [None, torch.tensor([0.0, 0.0]), None])
    torch.testing.assert_close(drawn, torch.tanh(torch.tensor([-1 / 8, 1.0])))


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if ACTIVATIONS[n].ratio(ACTIVATIONS[n].defaults) != (1, 1)])
def test_an_activation_that_changes_the_width_cannot_be_part_of_a_chain(name: str) -> None:
    check_chain(_chain(name))
    for names in itertools.permutations([name, "relu"]):
        with pytest.raises(UsageError, match=f"{name} changes the width"):
            check_chain(_chain(*names))


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(UsageError, match="identity"):
        check_chain([])


LISTING = """
import sys
from actbench.activations import ACTIVATIONS
from actbench.initializers import INITIALIZERS
for entry in ACTIVATIONS.values():
    params = entry.defaults
    entry.facts(params), entry.sup_slope(params), entry.gain(params), entry.learned(params), entry.ratio(params)
print("torch" in sys.modules)
ACTIVATIONS["elu"].gain({"alpha": 0.5})
print("torch" in sys.modules)
"""


def test_listing_all_facts_does_not_import_torch_and_the_check_would_notice() -> None:
    shown = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "True"]
