"""Recorded steps of a lane alone: the same bits as its calls of torch one by one, and never needed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_engine import assert_same, tiny_dataset, train, variant_of
from torch import Tensor

from actbench.activations import ACTIVATIONS
from actbench.config import Choice, Run, Variant
from actbench.engine import recordings as recorded
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack

needs_recordings = pytest.mark.skipif(
    sys.version_info >= (3, 14) or not hasattr(torch.jit, "trace"), reason="this torch records nothing on this Python"
)
WITHOUT_PARAMETERS = [
    name
    for name, entry in ACTIVATIONS.items()
    if entry.ratio(entry.defaults) == (1, 1) and not entry.noise and not entry.learned(entry.defaults)
]


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """Begin without any recording, and keep none."""
    made: dict[Any, Any] = {}
    monkeypatch.setattr(recorded, "_recordings", made)
    return made


def stack_of(variant: Variant, seed: int = 0) -> LaneStack:
    arrays = Arrays.of(tiny_dataset(), variant, torch.device("cpu"))
    return LaneStack([Run(variant, seed)], arrays)


def after_two_epochs(stack: LaneStack) -> list[Tensor]:
    losses = [stack.train_epoch(epoch).clone() for epoch in (1, 2)]
    return [*losses, *stack.state(0).values()]


def call_by_call(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    with monkeypatch.context() as patched:
        patched.setattr(recorded, "_recordings", {})
        patched.setattr(recorded, "_record", lambda network, example: None)
        return after_two_epochs(stack_of(variant))


def assert_same_bits(one: list[Tensor], other: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@needs_recordings
@pytest.mark.parametrize("hidden", [(12,), (12, 7)])
@pytest.mark.parametrize("activation", WITHOUT_PARAMETERS)
def test_a_recorded_lane_trains_to_the_bits_of_its_calls_one_by_one(
    activation: str, hidden: tuple[int, ...], recordings: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = variant_of(activation, hidden=hidden, lr=0.01)
    recorded = after_two_epochs(stack_of(variant))
    assert all(recordings.values())
    assert len(recordings) == 1
    assert_same_bits(recorded, call_by_call(variant, monkeypatch))


@needs_recordings
def test_a_chain_of_activations_and_a_schedule_are_recorded_too(
    recordings: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = (Choice.of("activation", "tanh"), Choice.of("activation", "leaky_relu", negative_slope=0.2))
    variant = replace(variant_of(schedule=Choice.of("schedule", "cosine")), activation=chain)
    recorded = after_two_epochs(stack_of(variant))
    assert all(recordings.values())
    assert_same_bits(recorded, call_by_call(variant, monkeypatch))


@needs_recordings
def test_lanes_that_differ_in_numbers_alone_share_a_recording(recordings: dict[Any, Any]) -> None:
    stacks = [stack_of(variant_of(lr=lr), seed) for lr in (0.01, 0.1) for seed in (0, 1)]
    assert len(recordings) == 1
    stack_of(variant_of("leaky_relu"))
    stack_of(replace(variant_of("leaky_relu"), activation=(leaky(0.3),)))
    assert len(recordings) == 3
    first, *others = [after_two_epochs(stack)[-1] for stack in stacks]
    assert not any(torch.equal(first, other) for other in others)


def leaky(slope: float) -> Choice:
    return Choice.of("activation", "leaky_relu", negative_slope=slope)


@needs_recordings
def test_a_recording_is_taken_in_training_on_one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, taken = stack_of(variant_of()), []
    (recording,) = recorded._recordings.values()
    assert stack._alone is not None

    def counted(*tensors: Tensor) -> Tensor:
        taken.append(len(tensors[2]))
        result: Tensor = recording(*tensors)
        return result

    monkeypatch.setattr(stack._alone, "_recording", counted)
    stack.step(torch.arange(32).unsqueeze(0))  # outside an epoch
    assert taken == []
    stack.train_epoch(1)
    assert taken == [32] * 4  # 150 images: the last batch has 22
    with stack._alone.replaying():
        stack.network.threads = 2
        stack.step(torch.arange(32).unsqueeze(0))
        assert len(taken) == 4
        stack.network.threads = 1
        stack.step(torch.arange(32).unsqueeze(0))
        assert len(taken) == 5


def forgetful(function: Any, example: tuple[Tensor, ...], **_: object) -> Any:
    """A recording from which torch has left out what it took for useless: the gradients."""
    return lambda *tensors: function(*tensors[:4], *(tensor.clone() for tensor in tensors[4:]))


def refused(*_: object, **__: object) -> None:
    raise RuntimeError("this cannot be recorded")


@pytest.mark.parametrize("trace", [forgetful, refused, None])
def test_what_cannot_be_recorded_is_trained_call_by_call(
    trace: Any, recordings: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = variant_of("gelu")
    expected = call_by_call(variant, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(torch.jit, "trace", trace) if trace is not None else patched.delattr(torch.jit, "trace")
        stack = stack_of(variant)
    assert list(recordings.values()) == [None]
    assert_same_bits(after_two_epochs(stack), expected)


def test_python_3_14_records_nothing(recordings: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded.sys, "version_info", (3, 14))
    stack_of(variant_of())
    assert list(recordings.values()) == [None]


@needs_recordings
def test_many_threads_may_ask_for_recordings_at_once(recordings: dict[Any, Any]) -> None:
    variants = [variant_of(name) for name in WITHOUT_PARAMETERS[:6]] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(stack_of, variants))
    assert len(recordings) == 6
    assert all(recordings.values())


def test_a_data_set_smaller_than_a_batch_needs_no_recording(recordings: dict[Any, Any]) -> None:
    run = Run(variant_of(batch_size=200), 0)
    outcome = train([run]).outcomes[run.run_id]
    assert recordings == {}
    assert_same(outcome, train([run], threads=2).outcomes[run.run_id])
