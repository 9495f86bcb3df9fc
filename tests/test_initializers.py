"""Every initializer against its formula, torch, and the rule that runs with one seed are paired."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from actbench.errors import UnknownNameError, UsageError
from actbench.initializers import INITIALIZERS, Fans

SHAPES = [(784, 512), (512, 10), (300, 700)]
RULES = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "lecun": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
}
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated": 3.0}  # truncated: at most that of the normal


def draw(name: str, shape: tuple[int, int], seed: int = 0, gain: float = 1.0, **given_params: Any) -> Tensor:
    params = INITIALIZERS.complete(name, given_params)
    return INITIALIZERS[name].draw(shape, torch.Generator().manual_seed(seed), params, gain)[0]


def assert_mean_and_std(w: Tensor, std: float, kurtosis: float) -> None:
    """Mean 0 and `std`, each within 5 of its standard errors for as many independent numbers."""
    n = w.numel()
    assert abs(w.double().mean().item()) < 5 * std / math.sqrt(n)
    assert abs(w.double().std().item() - std) < 5 * std * math.sqrt((kurtosis - 1) / (4 * n))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", KURTOSIS)
@pytest.mark.parametrize("rule", RULES)
def test_mean_and_standard_deviation_follow_the_formula(rule: str, family: str, shape: tuple[int, int]) -> None:
    std = RULES[rule](*shape)
    w = draw(f"{rule}_{family}", shape)
    assert w.shape == shape
    assert w.dtype == torch.float32
    assert_mean_and_std(w, std, KURTOSIS[family])
    bound = {"normal": math.inf, "uniform": math.sqrt(3) * std, "truncated": 2 * std / 0.87962566103423978}[family]
    assert w.abs().max() <= bound * (1 + 1e-6)
    if family != "normal":  # the largest of so many comes close to the bound
        assert w.abs().max() > 0.99 * bound


@pytest.mark.parametrize(("name", "std", "kurtosis"), [("normal", 0.3, 3.0), ("uniform", 0.4 / math.sqrt(3), 1.8)])
def test_normal_and_uniform_use_their_parameter(name: str, std: float, kurtosis: float) -> None:
    w = draw(name, (400, 300), **({"std": 0.3} if name == "normal" else {"bound": 0.4}))
    assert_mean_and_std(w, std, kurtosis)
    assert name == "normal" or 0.399 < w.abs().max() <= 0.4


def test_constant_and_zeros_fill_the_weights() -> None:
    assert (draw("constant", (5, 3), value=-0.25) == -0.25).all()
    assert (draw("zeros", (5, 3)) == 0).all()


@pytest.mark.parametrize("rule", ["he", "lecun"])
def test_mode_fan_out_divides_by_the_number_of_outputs(rule: str) -> None:
    w = draw(f"{rule}_normal", (300, 700), mode="fan_out")
    torch.testing.assert_close(w * math.sqrt(700), draw(f"{rule}_normal", (300, 700)) * math.sqrt(300))


@pytest.mark.parametrize("family", KURTOSIS)
@pytest.mark.parametrize(("rule", "auto"), [("he", math.sqrt(2)), ("xavier", 1.0), ("lecun", 1.0)])
def test_a_given_gain_replaces_the_rules_own_and_the_activations_is_ignored(
    rule: str, auto: float, family: str
) -> None:
    name = f"{rule}_{family}"
    automatic = draw(name, (60, 40))
    assert torch.equal(draw(name, (60, 40), gain=7.0), automatic)
    torch.testing.assert_close(draw_with_gain(name, 0.5), automatic * 0.5 / auto)


def draw_with_gain(name: str, value: float, activation_gain: float = 1.0) -> Tensor:
    params = INITIALIZERS.complete(name, {"gain": value})
    return INITIALIZERS[name].draw((60, 40), torch.Generator().manual_seed(0), params, activation_gain)[0]


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (50, 50), (1, 7)])
def test_orthogonal_weights_are_orthonormal_times_the_activations_gain(shape: tuple[int, int]) -> None:
    w = draw("orthogonal", shape, gain=1.7).double() / 1.7
    product = w.t() @ w if shape[0] >= shape[1] else w @ w.t()
    torch.testing.assert_close(product, torch.eye(min(shape), dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_gain_given_to_orthogonal_replaces_the_activations() -> None:
    torch.testing.assert_close(draw_with_gain("orthogonal", 3.0, 9.0), 3 * draw("orthogonal", (60, 40)))


def test_orthogonal_weights_are_symmetric_about_zero_because_the_sign_of_qr_is_fixed() -> None:
    first = torch.stack([draw("orthogonal", (4, 4), seed)[0, 0] for seed in range(400)])
    assert abs(first.mean().item()) < 5 * 0.5 / math.sqrt(400)  # entries of a random rotation: variance 1/4
    assert (first > 0).any()
    assert (first < 0).any()


def test_torch_default_draws_weights_and_bias_from_the_interval_of_nn_linear() -> None:
    init = INITIALIZERS["torch_default"]
    w, b = init.draw((784, 5000), torch.Generator().manual_seed(0), {})
    assert b is not None
    assert b.shape == (5000,)
    assert not torch.isin(b, w[0]).all()  # numbers of its own
    torch.manual_seed(0)
    linear = nn.Linear(784, 5000)
    bound = 1 / math.sqrt(784)
    for ours, theirs in [(w, linear.weight), (b, linear.bias)]:
        assert ours.dtype == torch.float32
        assert_mean_and_std(ours, bound / math.sqrt(3), 1.8)
        for drawn in (ours, theirs):
            assert 0.99 * bound < drawn.abs().max().item() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name != "torch_default"])
def test_other_initializers_leave_the_bias_to_the_config(name: str) -> None:
    params = INITIALIZERS.complete(name, {})
    assert INITIALIZERS[name].draw((5, 3), torch.Generator().manual_seed(0), params)[1] is None


def test_torch_default_has_a_sixth_of_the_variance_of_he() -> None:
    ratio = draw("he_uniform", (784, 512)) / draw("torch_default", (784, 512))
    torch.testing.assert_close(ratio.square(), torch.full_like(ratio, 6.0))


@pytest.mark.parametrize(
    ("name", "theirs", "kurtosis"),
    [
        ("he_normal", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), 3.0),
        ("he_uniform", lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), 1.8),
        ("xavier_normal", nn.init.xavier_normal_, 3.0),
        ("xavier_uniform", nn.init.xavier_uniform_, 1.8),
    ],
)
@pytest.mark.parametrize("kernel", [None, (3, 5)])
def test_standard_deviations_agree_with_torch_even_for_convolutions(
    name: str, theirs: Any, kurtosis: float, kernel: tuple[int, int] | None
) -> None:
    torch.manual_seed(0)
    n_in, n_out, area = 64, 96, math.prod(kernel or ())
    reference = theirs(torch.empty(n_out, n_in, *(kernel or ())))
    ours, _ = INITIALIZERS[name].draw(
        (n_in * area, n_out),
        torch.Generator().manual_seed(0),
        INITIALIZERS.complete(name, {}),
        fan_out=n_out * area,
    )
    assert ours.numel() == reference.numel()
    std = ours.std().item()
    error = std * math.sqrt(2) * math.sqrt((kurtosis - 1) / (4 * ours.numel()))
    assert abs(std - reference.std().item()) < 5 * error


def test_explicit_fans_replace_those_of_the_shape() -> None:
    params, generator = INITIALIZERS.complete("xavier_normal", {}), torch.Generator()
    plain, _ = INITIALIZERS["xavier_normal"].draw((60, 40), generator.manual_seed(0), params)
    wider, _ = INITIALIZERS["xavier_normal"].draw((60, 40), generator.manual_seed(0), params, fan_in=100, fan_out=300)
    torch.testing.assert_close(wider, plain * math.sqrt(100 / 400))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(derandomize=True, max_examples=40, deadline=None)
def test_every_initializer_is_paired_by_seed_and_leaves_the_generator_in_the_same_state(
    fan_in: int, fan_out: int, seed: int
) -> None:
    shape = (fan_in, fan_out)
    states = []
    for name, init in INITIALIZERS.items():
        generator = torch.Generator().manual_seed(seed)
        init.draw(shape, generator, INITIALIZERS.complete(name, {}), 1.3)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)
    n = draw("normal", shape, seed, std=1.0)
    for rule in RULES:
        std = RULES[rule](*shape)
        torch.testing.assert_close(draw(f"{rule}_normal", shape, seed), std * n)
        uniform = draw(f"{rule}_uniform", shape, seed) / (std * math.sqrt(3))
        torch.testing.assert_close(uniform, 2 * torch.special.ndtr(n) - 1, rtol=1e-5, atol=1e-6)
        order = n.flatten().argsort()
        for family in ("uniform", "truncated"):
            assert (draw(f"{rule}_{family}", shape, seed).flatten()[order].diff() >= 0).all()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_seed_always_gives_the_same_weights_and_another_seed_different_ones(name: str) -> None:
    assert torch.equal(draw(name, (30, 20), seed=4), draw(name, (30, 20), seed=4))
    same = torch.equal(draw(name, (30, 20), seed=4), draw(name, (30, 20), seed=5))
    assert same == (name in ("constant", "zeros"))


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name != "orthogonal"])
def test_no_standard_draw_however_unlikely_gives_an_infinite_weight(name: str) -> None:
    n = torch.tensor([-40.0, -8.3, 0.0, 8.3, 40.0], dtype=torch.float64)
    weights = INITIALIZERS[name].weights(n, Fans(784, 512, 1.0), INITIALIZERS.complete(name, {}))
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("he_normal", {"mode": "fan_inn"}, "mode must be one of 'fan_in', 'fan_out'.*did you mean 'fan_in'"),
        ("he_uniform", {"gain": 0}, "gain must be one of 'auto' or a number > 0"),
        ("xavier_normal", {"gain": "automatic"}, "gain must be one of 'auto'"),
        ("orthogonal", {"gain": math.nan}, "gain must be"),
        ("normal", {"std": 0}, "std must be a number > 0"),
        ("uniform", {"bound": -1}, "bound must be a number > 0"),
        ("constant", {"value": math.inf}, "value must be a number"),
        ("zeros", {"value": 1}, "unknown parameter of zeros 'value'"),
        ("xavier_uniform", {"mode": "fan_in"}, "unknown parameter of xavier_uniform 'mode'"),
    ],
)
def test_a_bad_parameter_is_refused_and_what_is_allowed_is_named(name: str, bad: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        INITIALIZERS.complete(name, bad)


def test_an_unknown_initializer_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'he_normal'"):
        INITIALIZERS["he_norma"]


def test_every_entry_is_described() -> None:
    for entry in INITIALIZERS.values():
        assert entry.formula.isascii()
        assert entry.source
        assert entry.latex.strip()
        assert entry.latex.count("{") == entry.latex.count("}")
        assert all(parameter.doc for parameter in entry.parameters)
