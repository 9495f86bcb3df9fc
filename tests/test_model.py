"""The stacked network against plain nn.Sequential twins, and its initial weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twin import give, twin_of, twin_optimizer

from actbench.activations import ACTIVATIONS
from actbench.config import Choice, Run, Variant
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.model import LaneNetwork, generator
from actbench.optimizers import OPTIMIZERS, bare_step

# What float32 gives after a few steps when the same sums are added in another order: relative 2^-24 a term,
# some hundred terms a sum, amplified a little by each step.
RTOL, ATOL = 2e-4, 2e-6
STEPS, BATCH, WIDTH = 5, 32, 24
# The error of a gradient, relative to the mean size of its neighbours: the largest of 20,000 sums of up to 784 rounded
# terms, 2^-24 sqrt(784) times the ratio of a large term to a mean one, about 10. Measured: 3e-6.
GRADIENT_ERROR = 2e-5


def small_arrays(n: int = 256) -> Arrays:
    draws = torch.Generator().manual_seed(7)
    images = torch.randn(n, 784, generator=draws)
    labels = torch.randint(0, 10, (n,), generator=draws)
    return Arrays(images, labels, images[:64], labels[:64], images[:0], labels[:0], black=-0.4242, classes=10)


def variant_of(activation: str = "relu", **settings: object) -> Variant:
    """Plain SGD unless said otherwise: where a gradient is 0 but for rounding (BatchNorm takes a bias' effect
    away), Adam's division by its size makes a step of full length out of the rounding, in lane and twin alike."""
    settings = {"optimizer": Choice.of("optimizer", "momentum"), "hidden": (WIDTH,), **settings}
    chain = (Choice.of("activation", activation),)
    return Variant(activation=chain, batch_size=BATCH, **settings)  # type: ignore[arg-type]


def assert_matches_twins(
    variants: list[Variant], seeds: list[int], atol: float = ATOL, steps: int = STEPS, warm_epochs: int = 0
) -> None:
    """Train a stack and one twin per lane on the same batches; compare weights after every step, and logits at the end.

    The twins start where the stack stands after `warm_epochs` epochs of 8 steps, with the same optimizer state.
    """
    arrays = small_arrays()
    stack = LaneStack([Run(v, s) for v, s in zip(variants, seeds, strict=True)], arrays)
    for epoch in range(warm_epochs):
        stack.train_epoch(epoch + 1)
    twins = [twin_of(v, stack.network.weights(lane)) for lane, v in enumerate(variants)]
    optimizers = [twin_optimizer(v, twin) for v, twin in zip(variants, twins, strict=True)]
    if warm_epochs:
        for lane, (twin, optimizer) in enumerate(zip(twins, optimizers, strict=True)):
            copy_optimizer_state(stack, lane, twin, optimizer)
    order = torch.stack([torch.randperm(256, generator=generator(seed, "order")) for seed in seeds])
    for step in range(steps):
        index = order[:, step * BATCH : (step + 1) * BATCH]
        stack.step(index)
        for lane, (twin, optimizer) in enumerate(zip(twins, optimizers, strict=True)):
            optimizer.zero_grad()
            give(twin, {key: numbers[lane] for key, numbers in stack.noise.buffers(BATCH).items()})
            logits, smoothing = twin(arrays.train_images[index[lane]]), variants[lane].label_smoothing
            F.cross_entropy(logits, arrays.train_labels[index[lane]], label_smoothing=smoothing).backward()
            optimizer.step()
        for lane, twin in enumerate(twins):
            reference = twin_of(variants[lane], stack.network.weights(lane))
            for ours, theirs in zip(reference.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=RTOL, atol=atol)
    with torch.no_grad():
        images = arrays.test_images.expand(len(variants), -1, -1)
        logits = stack.network.forward(images)
        for lane, twin in enumerate(twins):
            twin.eval()
            torch.testing.assert_close(logits[lane], twin(arrays.test_images), rtol=10 * RTOL, atol=10 * atol)


def copy_optimizer_state(stack: LaneStack, lane: int, twin: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the twin's optimizer what the lane's optimizer keeps: step count, moments and momentum."""
    for name, value in stack.state(lane).items():
        if name.startswith("optimizer."):
            split = [value.clone() for _ in twin.parameters()] if value.dim() == 0 else by_parameter(stack, value)
            for parameter, part in zip(twin.parameters(), split, strict=True):
                optimizer.state[parameter][name.removeprefix("optimizer.")] = part


def by_parameter(stack: LaneStack, row: Tensor) -> list[Tensor]:
    """Split a lane's row of a flat buffer into tensors with the shapes and the order of its plain twin's parameters."""
    parts = [segment.of(row.unsqueeze(0))[0] for segment in stack.network.segments.values()]
    return [(part.t() if part.dim() == 2 else part).clone() for part in parts]  # (in, out) -> (out, in)


ELEMENTWISE = [name for name, entry in ACTIVATIONS.items() if not entry.noise and entry.ratio(entry.defaults) == (1, 1)]


@pytest.mark.parametrize("batch_norm", [False, "before", "after"])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_a_lane_matches_its_plain_twin_step_by_step(activation: str, batch_norm: bool | str) -> None:
    assert_matches_twins([variant_of(activation, batch_norm=batch_norm, lr=0.003)], [3])


STEPPING = [Choice.of("optimizer", name) for name in OPTIMIZERS] + [
    Choice.of("optimizer", "sgd", momentum=0.5, nesterov=True),
    Choice.of("optimizer", "adam", beta1=0.5, beta2=0.9, eps=1e-3),
    Choice.of("optimizer", "adamw", beta1=0.5, beta2=0.9, eps=1e-3),
    Choice.of("optimizer", "adagrad", eps=1e-3),
    Choice.of("optimizer", "rmsprop", alpha=0.9, eps=1e-3, momentum=0.5),
]


@pytest.mark.parametrize("optimizer", STEPPING, ids=lambda choice: choice.name)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_every_optimizer_steps_as_the_plain_one_does(optimizer: Choice, weight_decay: float) -> None:
    # Lane and twin add the terms of a gradient g in a different order, so their gradients differ by a rounding error.
    # RMSprop steps by lr g / (sqrt(v) + eps). In a fresh state v is (1 - alpha) g^2; where g is almost 0 (weight decay
    # may cancel it), the step becomes lr g / eps and multiplies the error by lr / eps = 1e5. Adam and Adagrad do the
    # same. After two epochs v is a mean over 16 gradients, nowhere near 0: the error is multiplied by at most 1.
    variant = variant_of("tanh", optimizer=optimizer, lr=0.001, weight_decay=weight_decay)
    assert_matches_twins([variant], [0], warm_epochs=2)


@pytest.mark.parametrize("optimizer", STEPPING, ids=lambda choice: choice.name)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_first_step_of_every_optimizer_is_that_of_the_plain_one(optimizer: Choice, weight_decay: float) -> None:
    # From a fresh state every optimizer's step is monotone in the gradient. So the lane's weight lies between those
    # that the plain optimizer reaches with the gradient a little too small and a little too large, both in float64.
    # The two are apart only where the step is ill-conditioned: where the gradient is smaller than its own error.
    variant = variant_of("tanh", optimizer=optimizer, lr=0.001, weight_decay=weight_decay)
    arrays, index = small_arrays(), torch.arange(BATCH)
    stack = LaneStack([Run(variant, 0)], arrays)
    start, reached = twin_of(variant, stack.network.weights(0)), []
    for sign in (-1, 1):
        twin = twin_of(variant, stack.network.weights(0)).double()
        plain = twin_optimizer(variant, twin)
        F.cross_entropy(twin(arrays.train_images[index].double()), arrays.train_labels[index]).backward()
        for parameter in twin.parameters():
            assert parameter.grad is not None
            parameter.grad += sign * GRADIENT_ERROR * parameter.grad.abs().mean()
        plain.step()
        reached.append(list(twin.parameters()))
    stack.step(index.unsqueeze(0))
    reference = twin_of(variant, stack.network.weights(0))
    for before, ours, low, high in zip(start.parameters(), reference.parameters(), *reached, strict=True):
        # A step is at most 16 operations, each of which rounds to 2^-24 of the weight or of the step.
        rounding = 16 * 2**-24 * torch.maximum(before.abs(), (ours - before).abs())
        assert (ours <= torch.maximum(low, high) + rounding).all()
        assert (ours >= torch.minimum(low, high) - rounding).all()
        assert ((high - low).abs() < 1e-6).double().mean() > 0.99


@pytest.mark.parametrize("batch_norm", [False, "before", "after"])
def test_lanes_that_differ_in_activation_rate_seed_and_decay_match_their_twins_in_one_stack(
    batch_norm: bool | str,
) -> None:
    variants = [
        variant_of("relu", batch_norm=batch_norm),
        variant_of("relu", batch_norm=batch_norm, lr=0.01),
        variant_of("tanh", batch_norm=batch_norm, lr=0.01),
        variant_of("silu", batch_norm=batch_norm, weight_decay=0.02, init=Choice.of("init", "xavier_uniform")),
    ]
    assert_matches_twins(variants, [0, 1, 0, 5])


@pytest.mark.parametrize("hidden", [[WIDTH], [WIDTH, 5]])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_a_lane_alone_takes_a_shorter_way_to_the_same_bits(activation: str, hidden: list[int]) -> None:
    variant = variant_of(activation, hidden=tuple(hidden))
    arrays = small_arrays()
    network = LaneStack([Run(variant, 1)], arrays).network
    if ACTIVATIONS[activation].learned(dict(variant.activation[0].params)):
        assert network.alone is None
        return
    assert network.alone is not None
    x, labels = arrays.train_images[:BATCH], arrays.train_labels[:BATCH]
    loss = network.alone.backpropagate(x, labels, 1)
    gradient = network.grad.clone()
    network.grad.zero_()
    (slowly,) = network.backpropagate(x.unsqueeze(0), labels.unsqueeze(0))
    assert torch.equal(loss, slowly)
    assert gradient.any()
    assert torch.equal(gradient, network.grad)


@pytest.mark.parametrize(
    "changes",
    [{"dropout": 0.1}, {"label_smoothing": 0.1}, {"batch_norm": "before"}, {"network": "cnn"}, {"activation": "rrelu"}],
)
def test_what_needs_more_than_slopes_goes_the_general_way(changes: dict[str, Any]) -> None:
    variant = Variant(**{"hidden": [WIDTH], **changes})
    assert LaneStack([Run(variant, 0)], small_arrays()).network.alone is None


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_bare_kernel_of_adam_steps_to_the_bits_of_torchs_own_step(optimizer: str, weight_decay: float) -> None:
    entry, draws = OPTIMIZERS[optimizer], torch.Generator().manual_seed(0)
    settings = entry.settings(dict(Choice.of("optimizer", optimizer).params), 0.01, weight_decay)
    rows = [torch.ones(1, 1000, requires_grad=True) for _ in range(2)]
    bare, whole = (entry.build([{"params": [row], **settings}], device="cpu") for row in rows)
    step = bare_step(bare)
    for k in range(5):
        gradient = torch.randn(1, 1000, generator=draws)
        for row, built in zip(rows, (bare, whole), strict=True):
            row.grad = gradient.clone()
            built.param_groups[0]["lr"] = 0.01 / (k + 1)
        with torch.no_grad():
            step()
        whole.step()
        assert torch.equal(*rows)
    assert bare.state[rows[0]]["step"] == 5


def test_learned_slopes_of_two_prelu_lanes_match_their_twins_in_one_stack() -> None:
    steep = Variant(
        activation=(Choice.of("activation", "prelu", negative_slope=0.6),), hidden=(WIDTH,), batch_size=BATCH
    )
    flat = Variant(hidden=(WIDTH,), batch_size=BATCH, activation=(Choice.of("activation", "prelu"),), lr=0.01)
    assert_matches_twins([flat, flat, steep], [0, 1, 0])


def test_dropout_and_label_smoothing_of_different_lanes_match_their_twins_in_one_stack() -> None:
    variants = [
        variant_of("relu", dropout=0.5, label_smoothing=0.1),
        variant_of("relu", lr=0.01),
        variant_of("tanh", dropout=0.1),
        variant_of("relu", label_smoothing=0.3, hidden=[WIDTH]),
    ]
    assert_matches_twins(variants, [0, 1, 0, 5])
    assert_matches_twins(variants[:1], [0])


@pytest.mark.parametrize("batch_norm", [False, "before", "after"])
def test_dropout_stands_behind_everything_else_of_every_layer(batch_norm: bool | str) -> None:
    assert_matches_twins([variant_of("relu", hidden=(20, 16), dropout=0.3, batch_norm=batch_norm)], [4])


@pytest.mark.parametrize("batch_norm", [False, "before"])
def test_random_slopes_match_their_twins_alone_and_in_a_chain(batch_norm: bool | str) -> None:
    assert_matches_twins([variant_of("rrelu", batch_norm=batch_norm)], [2])
    chain = (Choice.of("activation", "tanh"), Choice.of("activation", "rrelu", lower=0.5, upper=1.5))
    mixed = Variant(activation=chain, hidden=(WIDTH,), batch_size=BATCH, batch_norm=batch_norm)
    assert_matches_twins([mixed, variant_of("relu", batch_norm=batch_norm, optimizer=mixed.optimizer)], [0, 1])


# Not ReLU before BatchNorm: a channel that is all but silent has a tiny variance, which makes a rounding large.
@pytest.mark.parametrize(
    ("activation", "batch_norm"),
    [
        ("relu", False),
        ("relu", "before"),
        ("prelu", False),
        ("sigmoid", False),
        ("sigmoid", "before"),
        ("tanh", "after"),
    ],
)
def test_a_convolutional_lane_matches_its_plain_twin(activation: str, batch_norm: bool | str) -> None:
    # Among 25,000 positions a rounding may put one on the other side of ReLU's kink: its share of a step is 1e-5.
    kinks = 2e-5 if activation in ("relu", "prelu") else ATOL
    assert_matches_twins([variant_of(activation, network="cnn", batch_norm=batch_norm)], [1], kinks, steps=2)


def test_convolutional_lanes_of_different_kinds_match_their_twins_in_one_stack() -> None:
    variants = [variant_of("relu", network="cnn", dropout=0.2), variant_of("tanh", network="cnn", lr=0.01)]
    assert_matches_twins(variants, [0, 3], atol=2e-5, steps=2)
    assert_matches_twins([variant_of("relu", network="cnn", hidden=())], [0], atol=2e-5, steps=2)


def test_deeper_networks_and_chains_match_their_twins() -> None:
    chain = (Choice.of("activation", "relu"), Choice.of("activation", "sigmoid"))
    deep = Variant(activation=chain, hidden=(20, 16, 12), batch_size=BATCH)
    assert_matches_twins([deep, deep], [0, 1])


def test_a_network_without_hidden_layers_is_the_linear_model() -> None:
    assert_matches_twins([Variant(hidden=(), batch_size=BATCH)], [0])


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 407_050),
        ({"batch_norm": "before"}, 407_050 + 1_024 - 512),
        ({"batch_norm": "after"}, 407_050 + 1_024),
        ({"activation": (Choice.of("activation", "prelu"),)}, 407_051),
        ({"hidden": ()}, 7_850),
        ({"network": "cnn"}, 160 + 4_640 + 803_328 + 5_130),
        ({"network": "cnn", "hidden": ()}, 160 + 4_640 + 15_690),
    ],
)
def test_the_parameter_count_is_the_published_one(settings: dict[str, object], count: int) -> None:
    variant = Variant(**settings)  # type: ignore[arg-type]
    assert variant.parameter_count == count
    weights = LaneNetwork([variant], [0], 784, 10, torch.device("cpu")).weights(0)
    assert sum(w.numel() for name, w in weights.items() if "running" not in name) == count


def test_initial_weights_depend_on_the_seed_and_the_init_alone() -> None:
    def weights(seed: int, beside: int, **settings: object) -> torch.Tensor:
        variants = [variant_of(**settings)] + [variant_of()] * beside  # type: ignore[arg-type]
        return LaneNetwork(variants, [seed, *range(beside)], 784, 10, torch.device("cpu")).weights(0)["hidden.0.weight"]

    torch.testing.assert_close(weights(3, 0), weights(3, 4), rtol=0, atol=0)
    torch.testing.assert_close(weights(3, 0), weights(3, 0, lr=0.1), rtol=0, atol=0)
    assert not torch.equal(weights(3, 0), weights(4, 0))
    xavier = weights(3, 0, init=Choice.of("init", "xavier_normal"))
    ratio = weights(3, 0) / xavier  # the same standard draw, scaled
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio[0, 0].item()), rtol=1e-5, atol=0)


def test_bias_init_fills_the_hidden_biases_and_leaves_the_output_alone() -> None:
    weights = LaneNetwork([variant_of(bias_init=-0.5)], [0], 784, 10, torch.device("cpu")).weights(0)
    assert set(weights["hidden.0.bias"].tolist()) == {-0.5}
    assert set(weights["output.bias"].tolist()) == {0.0}


def test_torch_default_draws_the_biases_within_the_bound_of_nn_linear() -> None:
    variant = Variant(init=Choice.of("init", "torch_default"))
    weights = LaneNetwork([variant], [0], 784, 10, torch.device("cpu")).weights(0)
    for name, fan_in in (("hidden.0", 784), ("output", 512)):
        for part in ("weight", "bias"):
            largest = weights[f"{name}.{part}"].abs().max().item()
            assert 0 < largest <= fan_in**-0.5


def test_networks_of_different_structures_cannot_be_stacked() -> None:
    with pytest.raises(ValueError, match="different structures"):
        LaneNetwork([variant_of(), variant_of("prelu")], [0, 0], 784, 10, torch.device("cpu"))


def test_one_lane_that_diverges_leaves_its_neighbours_as_they_are() -> None:
    calm = variant_of("relu", optimizer=Choice.of("optimizer", "sgd"), lr=0.01)
    wild = variant_of("relu", optimizer=Choice.of("optimizer", "sgd"), lr=1e6)
    arrays = small_arrays()
    stacks = [LaneStack([Run(calm, 0), Run(second, 1)], arrays) for second in (wild, calm)]
    for stack in stacks:
        stack.train_epoch()
    assert not torch.isfinite(stacks[0].network.theta[1]).all()
    assert torch.equal(stacks[0].network.theta[0], stacks[1].network.theta[0])
