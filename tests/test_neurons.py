"""Neuron health against its definitions written out plainly, and the invariants that connect the numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from twin import twin_of

from actbench.activations import ACTIVATIONS
from actbench.config import Choice, Run, Variant
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.engine.measure import Measurer
from actbench.neurons import DeathLedger, HealthMeter, LayerHealth, SampleHealth, _over_rows, effective_rank, summarize

NAMES = ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "silu", "mish", "gelu", "hardtanh", "identity"]


def health_of(activation: str, z: Tensor, chunk: int = 7) -> LayerHealth:
    """Feed z (N, H) to a meter in chunks."""
    entry = ACTIVATIONS[activation]
    meter = HealthMeter(torch.tensor([[float(entry.sup_slope(entry.defaults))]]))
    for part in z.split(chunk):
        part = part.unsqueeze(0)
        meter.add(meter.read(part, entry.function(part, **entry.defaults), entry.slope(part, **entry.defaults)))
    return meter.result()


@st.composite
def activations_inputs(draw: st.DrawFn) -> tuple[str, Tensor]:
    name = draw(st.sampled_from(NAMES))
    seed = draw(st.integers(0, 10_000))
    n, h = draw(st.integers(2, 40)), draw(st.integers(1, 9))
    draws = torch.Generator().manual_seed(seed)
    z = torch.randn(n, h, generator=draws) * draw(st.sampled_from([0.1, 1.0, 30.0]))
    z += torch.randn(h, generator=draws) * draw(st.sampled_from([0.0, 3.0, 100.0]))
    if draw(st.booleans()):
        z[:, 0] = -1e4
    return name, z


@settings(max_examples=80, deadline=None, derandomize=True)
@given(activations_inputs())
def test_the_meter_agrees_with_the_definitions_over_the_whole_probe(case: tuple[str, Tensor]) -> None:
    name, z = case
    entry = ACTIVATIONS[name]
    a, slopes = entry.function(z, **entry.defaults), entry.slope(z, **entry.defaults)
    slope = slopes.abs()
    bound = float(entry.sup_slope(entry.defaults))
    found = health_of(name, z)
    expected = {
        "dead_ratio": (slope.amax(0) == 0).double().mean(),
        "near_dead_ratio": (slope.amax(0) <= 1e-3 * bound).double().mean(),
        "silent_ratio": (a == 0).all(0).double().mean(),
        "constant_ratio": (a.amax(0) - a.amin(0) <= 1e-6).double().mean(),
        "sparsity": (a == 0).double().mean(),
        "saturated_ratio": (slope < torch.tensor(0.01 * bound)).double().mean(),
        "always_linear_ratio": ((slopes.amax(0) - slopes.amin(0) <= 1e-3 * bound) & (slope.amax(0) > 0))
        .double()
        .mean(),
    }
    sample = SampleHealth.of([a.unsqueeze(0)], [torch.ones(1, 2, 2), torch.ones(1, 3)])
    overall, (layer, output) = summarize([found], sample, 0)
    assert {name for name, value in output.items() if value is not None} == {"grad_norm"}
    for metric, value in expected.items():
        assert overall[metric] == pytest.approx(value.item(), abs=1e-12), metric
        assert layer[metric] == overall[metric]
    torch.testing.assert_close(found.mean[0], a.double().mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.rms[0], a.double().square().mean(0).sqrt(), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(activations_inputs(), st.integers(1, 39))
def test_strict_death_implies_near_death_and_a_larger_probe_never_raises_either(
    case: tuple[str, Tensor], fewer: int
) -> None:
    name, z = case
    whole, part = health_of(name, z), health_of(name, z[: max(1, min(fewer, len(z) - 1))])
    assert (whole.dead <= whole.near_dead).all()
    assert (whole.dead <= part.dead).all()
    assert (whole.near_dead <= part.near_dead).all()
    assert (whole.silent <= part.silent).all()


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_the_size_of_the_chunks_does_not_matter(chunk: int) -> None:
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) - 2
    reference, found = health_of("relu", z, 50), health_of("relu", z, chunk)
    assert torch.equal(reference.dead, found.dead)
    assert torch.equal(reference.zero_share, found.zero_share)


def test_sparsity_is_not_the_dead_ratio() -> None:
    z = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    health = health_of("relu", z)
    assert health.dead.tolist() == [[False, False, True]]
    assert health.zero_share.mean().item() == pytest.approx(7 / 9)


def test_a_relu_input_of_exactly_zero_has_slope_zero() -> None:
    assert health_of("relu", torch.zeros(5, 1)).dead.item()


def test_a_leaky_unit_is_never_dead_however_negative_its_input() -> None:
    health = health_of("leaky_relu", torch.full((10, 4), -1e30))
    assert not health.dead.any()
    assert not health.near_dead.any()


def test_a_sigmoid_stuck_at_one_is_near_dead_and_not_silent_nor_dormant() -> None:
    health = health_of("sigmoid", torch.full((10, 2), 15.0))
    assert health.near_dead.all()
    assert not health.silent.any()
    assert not health.dormant[0.1].any()


def test_a_unit_that_never_switches_off_is_always_linear() -> None:
    z = torch.rand(20, 2, generator=torch.Generator().manual_seed(1)) + torch.tensor([0.5, -0.5])
    assert health_of("relu", z).always_linear.tolist() == [[True, False]]


COLUMNS = torch.tensor([[-9.0, 2.0, -0.5], [-8.0, 5.0, 3.0]])  # three units: always below 0, always above, both


@pytest.mark.parametrize(
    ("activation", "dead", "always_linear", "saturated_share"),
    [
        ("relu", [True, False, False], [False, True, False], [1, 0, 0.5]),
        ("leaky_relu", [False] * 3, [True, True, False], [0, 0, 0]),  # slope 0.01, exactly at the bound
        ("hardtanh", [True, True, False], [False] * 3, [1, 1, 0.5]),
        ("identity", [False] * 3, [True] * 3, [0, 0, 0]),
        ("sigmoid", [False] * 3, [True, False, False], [1, 0, 0]),  # s'(-8) = 3e-4, s'(5) = 0.0066, sup 0.25
    ],
)
def test_dead_linear_and_saturated_units_have_closed_forms(
    activation: str, dead: list[bool], always_linear: list[bool], saturated_share: list[float]
) -> None:
    health = health_of(activation, COLUMNS)
    assert health.dead.tolist() == [dead]
    assert health.always_linear.tolist() == [always_linear]
    assert health.saturated_share.tolist() == [saturated_share]


@pytest.mark.parametrize(
    ("activation", "always_linear", "saturated"),
    [("relu", 0, 1), ("leaky_relu", 1, 0), ("hardtanh", 0, 1), ("sigmoid", 1, 1), ("identity", 1, 0)],
)
def test_a_network_whose_units_are_all_far_below_zero_is_linear_only_where_it_can_learn(
    activation: str, always_linear: float, saturated: float
) -> None:
    stack = stack_of(Variant(activation=Choice.of("activation", activation), hidden=(16,)), n=50)
    stack.network.segments["hidden.0.bias"].of(stack.network.theta).fill_(-50.0)
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    row = measurer.rows[0][0]
    assert row["dead_ratio"] == (activation in {"relu", "hardtanh"})
    assert (row["always_linear_ratio"], row["saturated_ratio"]) == (always_linear, saturated)


def test_a_slope_without_bound_is_saturated_only_where_it_is_zero() -> None:
    meter = HealthMeter(torch.tensor([[math.inf]]))
    z = torch.tensor([[[1e-9, -1.0], [2.0, 3.0]]])
    meter.add(meter.read(z, z.relu() ** 2, 2 * z.relu()))
    assert meter.result().saturated_share.tolist() == [[0, 0.5]]


def test_dormancy_compares_a_unit_with_the_mean_of_its_layer() -> None:
    z = torch.tensor([[1.0, 0.09, 0.02]]).expand(4, 3)
    mean = (1 + 0.09 + 0.02) / 3
    health = health_of("relu", z)
    assert health.dormant[0.025].tolist() == [[v / mean <= 0.025 for v in (1, 0.09, 0.02)]]
    assert health.dormant[0.1].tolist() == [[v / mean <= 0.1 for v in (1, 0.09, 0.02)]]


def test_an_unbounded_slope_asks_for_exact_equality() -> None:
    meter = HealthMeter(torch.tensor([[math.inf]]))
    z = torch.tensor([[[1e-9, -1.0]]])
    meter.add(meter.read(z, z.relu() ** 2, 2 * z.relu()))
    assert meter.result().near_dead.tolist() == [[False, True]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=2, max_size=8))
def test_dead_units_change_by_deaths_minus_revivals_in_every_epoch(history: list[list[bool]]) -> None:
    flags = torch.tensor(history)
    ledger = DeathLedger.begin(flags[:1])
    for epoch in range(1, len(flags)):
        deaths, revivals = ledger.update(flags[epoch : epoch + 1], epoch)
        assert flags[epoch].sum() == flags[epoch - 1].sum() + deaths[0] - revivals[0]
    died = ledger.died_in[0]
    assert ((died >= 0) == flags[-1]).all()
    for unit in range(5):
        if flags[-1, unit]:
            alive = [e for e in range(len(flags)) if not flags[e, unit]]
            assert died[unit] == (alive[-1] + 1 if alive else 0)


def stack_of(variant: Variant, n: int = 400) -> LaneStack:
    draws = torch.Generator().manual_seed(11)
    images, labels = torch.randn(n, 784, generator=draws), torch.randint(0, 10, (n,), generator=draws)
    return LaneStack(
        [Run(variant, 0)],
        Arrays(images, labels, images[:50], labels[:50], images[:0], labels[:0], black=-0.4, classes=10),
    )


@pytest.mark.parametrize("k", [0, 1, 100, 512])
def test_killing_k_chosen_units_gives_exactly_k_of_512_more_or_all(k: int) -> None:
    stack = stack_of(Variant())
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    assert measurer.rows[0][0]["dead_ratio"] == 0
    stack.network.segments["hidden.0.bias"].of(stack.network.theta)[0, :k] = -1e4
    measurer.measure(None, 0.0)
    row = measurer.rows[0][1]
    assert row["dead_ratio"] == row["silent_ratio"] == k / 512
    assert (row["deaths"], row["revivals"]) == (k, 0)


def test_scaling_the_input_weights_of_a_relu_net_without_biases_keeps_the_mask() -> None:
    stack = stack_of(Variant(hidden=(64,)), n=6)  # few images: some units are dead by chance
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    before = measurer.health[0].dead
    assert 0 < before.sum() < 64
    stack.network.segments["hidden.0.weight"].of(stack.network.theta).mul_(4.0)
    measurer.measure(None, 0.0)
    assert torch.equal(before, measurer.health[0].dead)


def test_plain_sgd_revives_no_unit_of_a_one_hidden_layer_net() -> None:
    variant = Variant(hidden=(64,), optimizer=Choice.of("optimizer", "sgd"), lr=0.5, batch_size=16)
    stack = stack_of(variant)
    stack.network.segments["hidden.0.bias"].of(stack.network.theta)[0, :20] = -60.0
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    for _ in range(4):
        measurer.measure(stack.train_epoch(), 0.0)
    rows = measurer.rows[0]
    assert rows[0]["dead_ratio"] >= 20 / 64
    assert [row["revivals"] for row in rows] == [0] * 5


@pytest.mark.parametrize("probe", ["test", 37])
def test_the_probe_is_the_set_that_the_config_names(probe: str | int) -> None:
    stack = stack_of(Variant(hidden=(8,), probe=probe))
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    assert measurer.health[0].images == (50 if probe == "test" else 37)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(activations_inputs())
def test_centred_dormancy_on_the_sample_agrees_with_its_definition(case: tuple[str, Tensor]) -> None:
    name, z = case
    a = ACTIVATIONS[name].function(z, **ACTIVATIONS[name].defaults)
    score = (a - a.mean(0)).abs().mean(0)
    (found,) = SampleHealth.of([a.unsqueeze(0)], []).centred_dormant
    for tau, flags in found.items():
        assert flags[0].tolist() == (score <= tau * score.mean()).tolist()


def test_a_sigmoid_stuck_at_one_is_dormant_once_outputs_are_centred() -> None:
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    z[:, 0] = 40.0
    (found,) = SampleHealth.of([torch.sigmoid(z).unsqueeze(0)], []).centred_dormant
    assert found[0.025].tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (300, 3)])
def test_the_effective_rank_is_exp_of_the_entropy_of_the_singular_values(shape: tuple[int, int]) -> None:
    a = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)).relu()
    for lane, rank in enumerate(effective_rank(a)):
        shares = torch.linalg.svdvals(a[lane].double())
        shares = shares / shares.sum()
        assert rank.item() == pytest.approx(math.exp(-(shares * shares.log()).sum()), rel=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 100))
def test_the_effective_rank_lies_between_one_and_the_rank(n: int, h: int, seed: int) -> None:
    a = torch.randn(1, n, h, generator=torch.Generator().manual_seed(seed))
    assert 1 - 1e-9 <= effective_rank(a).item() <= min(n, h) + 1e-9
    assert effective_rank(3 * a).item() == pytest.approx(effective_rank(a).item(), rel=1e-6)


def test_known_effective_ranks() -> None:
    assert effective_rank(torch.eye(5).unsqueeze(0)).item() == pytest.approx(5)
    assert effective_rank(torch.ones(1, 9, 4)).item() == pytest.approx(1, abs=1e-5)
    assert math.isnan(effective_rank(torch.zeros(1, 9, 4)).item())
    assert math.isnan(effective_rank(torch.full((1, 9, 4), math.nan)).item())


@pytest.mark.parametrize("settings_of", [{}, {"batch_norm": "before"}, {"network": "cnn"}, {"label_smoothing": 0.2}])
def test_gradient_norms_are_those_of_a_plain_network_on_the_first_images(settings_of: dict[str, object]) -> None:
    variant = Variant(hidden=(20, 10), dropout=0.3, **settings_of)  # type: ignore[arg-type]
    stack = stack_of(variant, n=120)
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    twin = twin_of(Variant(**{**variant.__dict__, "dropout": 0.0, "name": "twin"}), stack.network.weights(0))
    logits = twin(stack.arrays.train_images)
    F.cross_entropy(logits, stack.arrays.train_labels, label_smoothing=variant.label_smoothing).backward()
    norms = [m.weight.grad.norm().item() for m in twin if isinstance(m, nn.Linear | nn.Conv2d)]
    rows = measurer.layer_rows[0]
    assert [row["grad_norm"] for row in rows] == pytest.approx(norms, rel=1e-4)
    overall = measurer.rows[0][0]
    assert overall["first_grad_norm"] == pytest.approx(norms[0], rel=1e-4)
    assert overall["grad_norm"] == pytest.approx(math.hypot(*norms), rel=1e-4)


def test_every_layer_has_its_own_numbers_at_every_epoch() -> None:
    stack = stack_of(Variant(hidden=(12, 6)))
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    measurer.measure(stack.train_epoch(), 0.0)
    assert [(row["epoch"], row["layer"]) for row in measurer.layer_rows[0]] == [
        (e, k) for e in (0, 1) for k in range(3)
    ]
    for epoch in (0, 1):
        first, second, output = (row for row in measurer.layer_rows[0] if row["epoch"] == epoch)
        overall = measurer.rows[0][epoch]
        assert overall["sparsity"] == pytest.approx((12 * first["sparsity"] + 6 * second["sparsity"]) / 18)
        assert output["sparsity"] is None
        assert output["grad_norm"] > 0


def test_units_of_a_convolution_are_channels_and_die_as_a_whole() -> None:
    stack = stack_of(Variant(network="cnn", hidden=(16,)), n=60)
    measurer = Measurer(stack)
    measurer.measure(None, 0.0)
    assert [len(layer.dead[0]) for layer in measurer.health] == [16, 32, 16]
    stack.network.segments["conv.1.bias"].of(stack.network.theta)[0, :5] = -1e4
    measurer.measure(None, 0.0)
    assert measurer.health[1].dead[0].tolist() == [True] * 5 + [False] * 27
    before, after = (measurer.rows[0][epoch]["dead_ratio"] * 64 for epoch in (0, 1))
    assert measurer.rows[0][1]["deaths"] - measurer.rows[0][1]["revivals"] == pytest.approx(after - before)
    assert measurer.health[1].images == 60 * 14 * 14
    dead = [row for row in measurer.neurons(0) if row["layer"] == 1 and row["dead"]]
    assert [(row["unit"], row["firing_rate"], row["died_in"]) for row in dead] == [(u, 0.0, 1) for u in range(5)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.sampled_from([1, 2, 3, 16, 300]), st.integers(0, 50))
def test_folding_rows_changes_neither_extremes_nor_counts(rows: int, units: int, seed: int) -> None:
    x = torch.randn(2, rows, units, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(_over_rows(x, torch.amax), x.amax(dim=1))
    assert torch.equal(_over_rows((x > 0).float(), torch.sum), (x > 0).float().sum(dim=1))


def test_measuring_does_not_affect_training() -> None:
    stack = stack_of(Variant(hidden=(16,), batch_norm="before"))
    stack.train_epoch()
    before = {name: tensor.clone() for name, tensor in stack.state(0).items()}
    Measurer(stack).measure(None, 0.0)
    for name, tensor in stack.state(0).items():
        assert torch.equal(before[name], tensor), name
