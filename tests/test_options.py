"""Network options in training: schedules, augmentation, validation, and randomness that belongs to its run alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import Recorder, assert_same, tiny_dataset, train, variant_of
from test_schema import CONFIGS
from torch.nn import functional as F
from twin import give, twin_of, twin_optimizer

from actbench.activations import ACTIVATIONS
from actbench.config import Augment, Choice, Run, Variant
from actbench.datasets import Dataset, load
from actbench.engine import train_lanes
from actbench.engine.images import Arrays, Augmentation
from actbench.engine.lanes import LaneStack
from actbench.errors import ConfigError
from actbench.initializers import INITIALIZERS
from actbench.model import generator
from actbench.schedules import SCHEDULES, multiplier
from configs import from_mapping

EVERYTHING: dict[str, Any] = {
    "dropout": 0.3,
    "label_smoothing": 0.1,
    "schedule": Choice.of("schedule", "one_cycle"),
    "augment": Augment(rotation=20.0, shift=2.0, scale=0.1),
    "validation": 30,
    "weight_decay": 0.001,
    "batch_norm": "before",
}
POOL = [
    Run(variant_of("rrelu", **EVERYTHING), 0),
    Run(variant_of("rrelu", **EVERYTHING), 1),
    Run(variant_of("relu", network="cnn", **EVERYTHING), 0),
    Run(variant_of("relu", validation=30, dropout=0.5), 0),
    Run(variant_of("relu", validation=30), 0),
]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", None)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_run_with_every_option_resumes_to_the_bit(network: str, stop_after: int) -> None:
    run = Run(variant_of("rrelu", network=network, **{**EVERYTHING, "epochs": 3}), 0)
    whole = train([run])
    asked = iter(range(100))
    cut = train([run], stop=lambda: next(asked) >= stop_after)
    resumed = train([run], checkpoints=cut.checkpoints)
    assert_same(resumed.outcomes[run.run_id], whole.outcomes[run.run_id])
    assert resumed.outcomes[run.run_id].layer_rows == whole.outcomes[run.run_id].layer_rows


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.permutations(POOL), st.integers(1, 3))
def test_randomness_in_training_belongs_to_the_run_whatever_trains_beside_it(runs: list[Run], threads: int) -> None:
    outcomes = train(runs, threads=threads).outcomes
    for run in runs[:2]:
        assert_same(outcomes[run.run_id], train([run]).outcomes[run.run_id])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_lane_with_a_schedule_matches_its_plain_twin_over_its_epochs(schedule: str) -> None:
    variants = [
        Variant(schedule=Choice.of("schedule", schedule), hidden=(12,), batch_size=32, epochs=3, lr=lr, optimizer=sgd)
        for lr, sgd in [(0.05, Choice.of("optimizer", "momentum")), (0.1, Choice.of("optimizer", "momentum"))]
    ]
    arrays = Arrays.of(tiny_dataset(), variants[0], torch.device("cpu"))
    stack = LaneStack([Run(variant, 3) for variant in variants], arrays)
    twins = [twin_of(variant, stack.network.weights(lane)) for lane, variant in enumerate(variants)]
    for epoch in (1, 2, 3):
        stack.train_epoch(epoch)
    for lane, (variant, twin) in enumerate(zip(variants, twins, strict=True)):
        optimizer, order, step = twin_optimizer(variant, twin), generator(3, "order"), 0
        for _ in range(3):
            for index in torch.randperm(150, generator=order).split(32):
                for group in optimizer.param_groups:
                    group["lr"] = variant.lr * multiplier(schedule, variant.schedule.params, step, 5, 3)
                optimizer.zero_grad()
                F.cross_entropy(twin(arrays.train_images[index]), arrays.train_labels[index]).backward()
                optimizer.step()
                step += 1
        expected = twin_of(variant, stack.network.weights(lane))
        for ours, theirs in zip(expected.parameters(), twin.parameters(), strict=True):
            # 15 steps at a rate 50 times the usual one: rounding grows with both.
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_schedule_goes_on_where_an_interrupted_run_stood() -> None:
    run = Run(variant_of("tanh", schedule=Choice.of("schedule", "exponential", gamma=0.1), epochs=3), 0)
    asked = iter(range(10))
    cut = train([run], stop=lambda: next(asked) >= 2)
    resumed = train([run], checkpoints=cut.checkpoints)
    assert_same(resumed.outcomes[run.run_id], train([run]).outcomes[run.run_id])


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    run = Run(variant_of("sigmoid", hidden=(400,), dropout=0.25), 0)  # its outputs are never 0
    stack = LaneStack([run], Arrays.of(tiny_dataset(), run.variant, torch.device("cpu")))
    network, output_bias = stack.network, stack.network.segments["output.bias"]
    x, labels = stack.arrays.train_images[:1].unsqueeze(0), stack.arrays.train_labels[:1].unsqueeze(0)

    def outputs(noise: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the hidden units hand on for one image: the output weights' gradient over the biases' gradient."""
        network.backpropagate(x, labels, noise)
        return network.weight_gradients()[-1][0, :, 0] / output_bias.of(network.grad)[0, 0]

    kept = []
    for _ in range(100):
        stack.noise.draw(1)
        kept.append(outputs(stack.noise.buffers(1)) / outputs({}))
    factor = torch.cat(kept).double()
    torch.testing.assert_close(factor[factor != 0], torch.full_like(factor[factor != 0], 1 / 0.75), rtol=1e-5, atol=0)
    assert (factor == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)  # 40,000 draws: 0.002 standard error
    assert factor.mean().item() == pytest.approx(1, abs=0.01)


def test_what_is_dropped_differs_from_step_to_step_and_from_seed_to_seed() -> None:
    variant = variant_of("relu", dropout=0.5)
    arrays = Arrays.of(tiny_dataset(), variant, torch.device("cpu"))
    stack = LaneStack([Run(variant, 0), Run(variant, 1)], arrays)
    stack.noise.draw(32)
    first = stack.noise.buffers(32)["hidden.0.dropout"].clone()
    stack.noise.draw(32)
    assert not torch.equal(first, stack.noise.buffers(32)["hidden.0.dropout"])
    assert not torch.equal(first[0], first[1])


def test_measuring_drops_nothing_and_uses_the_mean_slope() -> None:
    variant = variant_of("rrelu", dropout=0.5, label_smoothing=0.2, epochs=1)
    stack = LaneStack([Run(variant, 0)], Arrays.of(tiny_dataset(), variant, torch.device("cpu")))
    twin = twin_of(variant, stack.network.weights(0)).eval()
    images = stack.arrays.test_images
    logits = twin.double()(images.double())
    # A logit near 0 is what is left of sums whose terms are as large as the largest logits. Each of some 784 additions
    # rounds by 2^-24 of that, up or down at random.
    rounding = 2**-24 * 784**0.5 * logits.abs().max().item()
    measured = stack.network.forward(images.unsqueeze(0))[0].double()
    torch.testing.assert_close(measured, logits, rtol=0, atol=rounding)


def images_with_a_dot(row: int, column: int) -> torch.Tensor:
    images = torch.full((1, 1, 28, 28), -0.4)
    images[..., row, column] = 2.0
    return images.view(1, 1, 784)


def changed(augment: Augment, drawn: list[float], images: torch.Tensor) -> torch.Tensor:
    augmentation = Augmentation([augment], 28, -0.4, torch.device("cpu"))
    return augmentation(images, torch.tensor(drawn).view(1, 1, 4)).view(28, 28)


def test_the_middle_of_all_draws_leaves_an_image_as_it_is() -> None:
    images = torch.randn(1, 1, 784, generator=torch.Generator().manual_seed(0))
    same = changed(Augment(rotation=30.0, shift=4.0, scale=0.3), [0.5] * 4, images)
    torch.testing.assert_close(same, images.view(28, 28), rtol=1e-4, atol=1e-4)


def test_a_shift_moves_right_and_down_by_whole_pixels_and_black_comes_in() -> None:
    moved = changed(Augment(shift=3.0), [0.5, 1.0, 1.0, 0.5], images_with_a_dot(10, 12))
    expected = images_with_a_dot(13, 15).view(28, 28)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    gone = changed(Augment(shift=14.0), [0.5, 1.0, 0.5, 0.5], images_with_a_dot(10, 20))
    torch.testing.assert_close(gone, torch.full((28, 28), -0.4), rtol=1e-4, atol=1e-4)


def test_a_quarter_turn_brings_the_right_edge_to_the_bottom() -> None:
    turned = changed(Augment(rotation=90.0), [1.0, 0.5, 0.5, 0.5], images_with_a_dot(13, 25))
    row, column = divmod(int(turned.argmax()), 28)
    assert (row, column) == (25, 14)  # (13, 25) is 11.5 right of the middle and 0.5 above it


def test_growing_moves_a_dot_away_from_the_middle_and_shrinking_towards_it() -> None:
    far = changed(Augment(scale=0.5), [0.5, 0.5, 0.5, 1.0], images_with_a_dot(13, 20))
    near = changed(Augment(scale=0.5), [0.5, 0.5, 0.5, 0.0], images_with_a_dot(13, 20))
    assert int(far.argmax()) % 28 in (22, 23, 24)  # 6.5 right of the middle becomes 9.75
    assert int(near.max(dim=0).values.argmax()) in (16, 17)  # and 3.25


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(0, 180), st.floats(0, 14), st.floats(0, 0.9))
def test_augmented_pixels_stay_between_black_and_the_brightest(
    seed: int, rotation: float, shift: float, scale: float
) -> None:
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 3, 784, generator=draws) * 3 - 0.4
    augmentation = Augmentation([Augment(rotation, shift, scale)], 28, -0.4, torch.device("cpu"))
    result = augmentation(images, torch.rand(1, 3, 4, generator=draws))
    assert result.shape == images.shape
    assert result.min() >= -0.4 - 1e-5
    assert result.max() <= images.max() + 1e-5


def test_augmentation_changes_what_is_trained_on_and_never_what_is_measured() -> None:
    plain, augmented = variant_of("relu", lr=1e-30), variant_of("relu", lr=1e-30, augment=Augment(shift=5.0))
    rows = [train([Run(v, 0)]).outcomes[Run(v, 0).run_id].epochs for v in (plain, augmented)]
    assert rows[0][1]["train_loss"] == rows[1][1]["train_loss"]
    assert rows[0][1]["dead_ratio"] == rows[1][1]["dead_ratio"]
    assert rows[0][1]["batch_loss"] != rows[1][1]["batch_loss"]


def test_the_validation_images_are_the_last_ones_and_take_no_part_in_training_or_the_probe() -> None:
    variant = variant_of("relu", validation=40, train_limit=120)
    dataset = tiny_dataset()
    arrays = Arrays.of(dataset, variant, torch.device("cpu"))
    whole = Arrays.of(dataset, variant_of("relu"), torch.device("cpu"))
    assert torch.equal(arrays.train_images, whole.train_images[:80])
    assert torch.equal(arrays.validation_images, whole.train_images[80:120])
    assert torch.equal(arrays.validation_labels, whole.train_labels[80:120])
    rows = train([Run(variant, 0)]).outcomes[Run(variant, 0).run_id].epochs
    without = variant_of("relu", train_limit=80)
    same = train([Run(without, 0)]).outcomes[Run(without, 0).run_id].epochs
    for row, other in zip(rows, same, strict=True):
        assert row["train_loss"] == other["train_loss"]
        assert row["dead_ratio"] == other["dead_ratio"]
        assert (row["validation_accuracy"] or 0) * 40 == pytest.approx(round((row["validation_accuracy"] or 0) * 40))
    assert "validation_accuracy" not in same[0]


def test_training_with_noise_follows_the_twin_that_is_given_the_same_numbers_for_a_whole_epoch() -> None:
    variant = variant_of("rrelu", dropout=0.2, batch_size=50, optimizer=Choice.of("optimizer", "sgd"), lr=0.05)
    stack = LaneStack([Run(variant, 0)], Arrays.of(tiny_dataset(), variant, torch.device("cpu")))
    twin = twin_of(variant, stack.network.weights(0))
    optimizer = twin_optimizer(variant, twin)
    for index in torch.arange(150).split(50):
        stack.step(index.unsqueeze(0))
        give(twin, {key: numbers[0] for key, numbers in stack.noise.buffers(50).items()})
        optimizer.zero_grad()
        F.cross_entropy(twin(stack.arrays.train_images[index]), stack.arrays.train_labels[index]).backward()
        optimizer.step()
    expected = twin_of(variant, stack.network.weights(0))
    for ours, theirs in zip(expected.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains_an_epoch_on_the_digits_without_a_warning(activation: str, digits: Dataset) -> None:
    run = Run(Variant(dataset="digits", activation=activation, epochs=1, hidden=(64,), train_limit=512), 0)
    recorder = Recorder()
    train_lanes([run], digits, device=torch.device("cpu"), events=recorder)
    outcome = recorder.outcomes[run.run_id]
    assert outcome.status == "done"
    assert outcome.epochs[1]["train_loss"] < outcome.epochs[0]["train_loss"]  # type: ignore[operator]


@pytest.mark.parametrize("init", INITIALIZERS)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_every_init_trains_an_epoch_on_the_digits(init: str, network: str, digits: Dataset) -> None:
    settings_of: dict[str, Any] = {"network": network, "hidden": (16,), "train_limit": 128, "test_limit": 50}
    run = Run(Variant(dataset="digits", init=init, epochs=1, **settings_of), 0)
    recorder = Recorder()
    train_lanes([run], digits, device=torch.device("cpu"), events=recorder)
    assert recorder.outcomes[run.run_id].status == "done"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(CONFIGS, st.sampled_from(["mlp", "cnn"]))
def test_every_combination_of_options_trains_or_is_refused_with_a_reason(values: dict[str, Any], network: str) -> None:
    small = {"dataset": "digits", "network": network, "train_limit": 70, "test_limit": 20, "epochs": 1, "device": "cpu"}
    small |= {"batch_size": 32, "hidden": [9, 6] if values.get("hidden") else [], "validation": 10, "probe": "train"}
    try:
        variant = from_mapping({**values, **small}).variant
    except ConfigError:
        return
    recorder = Recorder()
    run = Run(variant, 0)
    train_lanes([run], load("digits", None), device=torch.device("cpu"), events=recorder)
    outcome = recorder.outcomes[run.run_id]
    assert outcome.status in ("done", "diverged"), outcome.error
