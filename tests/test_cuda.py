"""The CUDA path: captured steps against eager ones and the CPU's. These tests skip where there is no CUDA device."""

from __future__ import annotations

import pytest
import torch
from test_engine import Recorder, tiny_dataset, train, variant_of
from test_options import EVERYTHING

from actbench import engine
from actbench.config import Choice, Run, Variant
from actbench.datasets import load
from actbench.engine import lanes_that_fit, pick_device, train_lanes
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack

pytestmark = pytest.mark.cuda

# float32 sums in another order: 2^-24 relative a term, some hundred terms a sum, a few steps of training.
RTOL, ATOL = 1e-3, 1e-5

VARIANTS = [
    variant_of("relu", batch_size=25),
    variant_of("tanh", batch_size=25, lr=0.01),
    variant_of("prelu", batch_size=25),
    variant_of("relu", batch_size=25, batch_norm="before"),
    variant_of("relu", batch_size=25, network="cnn"),
    variant_of("relu", batch_size=25, schedule=Choice.of("schedule", "cosine")),
    variant_of("relu", batch_size=25, optimizer=Choice.of("optimizer", "momentum")),
    variant_of("relu", batch_size=25, optimizer=Choice.of("optimizer", "adagrad")),
]


def stack_on(device: str, variants: list[Variant]) -> LaneStack:
    arrays = Arrays.of(tiny_dataset(), variants[0], torch.device(device))
    return LaneStack([Run(variant, seed) for seed, variant in enumerate(variants)], arrays)


@pytest.fixture(autouse=True)
def _exact_products() -> None:
    engine.configure()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_epoch_on_cuda_is_that_of_the_cpu_to_rounding(variant: Variant) -> None:
    here, there = stack_on("cpu", [variant]), stack_on("cuda", [variant])
    for epoch in (1, 2):
        torch.testing.assert_close(there.train_epoch(epoch).cpu(), here.train_epoch(epoch), rtol=RTOL, atol=ATOL)
    torch.testing.assert_close(there.network.theta.cpu(), here.network.theta, rtol=RTOL, atol=10 * ATOL)


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_a_captured_step_does_what_the_eager_one_does(settings: dict[str, object]) -> None:
    variants = [variant_of("rrelu", batch_size=25, **settings), variant_of("rrelu", batch_size=25, lr=0.01, **settings)]
    captured, eager = stack_on("cuda", variants), stack_on("cuda", variants)
    index = torch.arange(25, device="cuda").expand(2, -1)
    for _ in range(4):
        captured.step(index)  # a capture that fails warns, and a warning fails the test
        eager.noise.draw(25)
        eager.eager_step(index)
    torch.testing.assert_close(captured.network.theta, eager.network.theta, rtol=RTOL, atol=ATOL)


def test_capturing_changes_neither_weights_nor_statistics_nor_the_optimizer() -> None:
    variant = variant_of("relu", batch_size=25, batch_norm="before")
    first, second = stack_on("cuda", [variant]), stack_on("cuda", [variant])
    index = torch.arange(25, device="cuda").unsqueeze(0)
    first.step(index)
    second.step(index)
    second.step(index)
    steps = [stack.state(0)["optimizer.step"].item() for stack in (first, second)]
    assert steps == [1, 2]


def test_runs_on_cuda_end_with_the_accuracy_of_the_cpu() -> None:
    digits = load("digits", None)
    runs = [Run(Variant(dataset="digits", epochs=5, hidden=(128,)), seed) for seed in range(6)]
    means = []
    for device in ("cpu", "cuda"):
        recorder = Recorder()
        train_lanes(runs, digits, device=torch.device(device), events=recorder)
        accuracies = [recorder.outcomes[run.run_id].metrics["test_accuracy"] for run in runs]
        means.append(sum(float(a or 0) for a in accuracies) / len(runs))
    assert means[0] == pytest.approx(means[1], abs=0.01)  # six seeds' means: about 0.3 points of noise


def test_a_run_on_cuda_goes_on_from_its_checkpoint() -> None:
    runs = [Run(variant_of("relu", epochs=4, **{**EVERYTHING, "network": "mlp"}), seed) for seed in range(3)]
    whole = train(runs, device=torch.device("cuda"))
    asked = iter(range(100))
    cut = train(runs, device=torch.device("cuda"), stop=lambda: next(asked) >= 2)
    resumed = train(runs, device=torch.device("cuda"), checkpoints=cut.checkpoints)
    for run in runs:
        a, b = (recorder.outcomes[run.run_id].metrics["test_loss"] for recorder in (whole, resumed))
        assert a == pytest.approx(b, rel=0.05)


def test_lanes_are_as_many_as_the_memory_holds() -> None:
    runs = [Run(Variant(), 0)]
    assert 1 <= lanes_that_fit(pick_device("cuda"), runs) <= 1024
