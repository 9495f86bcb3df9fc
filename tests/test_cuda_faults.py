"""Faults of the CUDA path that a review found without a GPU. Each test detects one of them, on a stand-in."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import Gpu, gpu
from test_engine import Hurting, Recorder, tiny_dataset, train, variant_of

from actbench import sweeps
from actbench.config import Run
from actbench.engine import cuda
from actbench.engine import train as training
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack

__all__ = ["gpu"]


def stack_of(*variants: Any, device: str = "cpu") -> LaneStack:
    arrays = Arrays.of(tiny_dataset(), variants[0], torch.device(device))
    return LaneStack([Run(variant, seed) for seed, variant in enumerate(variants)], arrays)


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (120, int(sys.argv.pop(1))))
"""
TRAIN = """
from actbench.cli import main
main()
"""
MOST = """
from actbench.store.claim import most_claims
print(most_claims(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def with_few_files(code: str, hard: int, *arguments: str) -> str:
    command = [sys.executable, "-c", FEW_FILES + code, str(hard), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_1_the_limit_on_open_files_is_raised_as_far_as_it_may_be() -> None:
    assert with_few_files(MOST, 120).split() == ["56", "120"]
    assert with_few_files(MOST, 4096).split() == ["4032", "4096"]


def test_1_more_runs_than_files_may_be_open_are_claimed_in_groups_and_trained(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\ntrain_limit: 20\ntest_limit: 10\nbatch_size: 10\nepochs: 1\nhidden: [2]\n")
    results = tmp_path / "results"
    asked = f"train -c {config} --results {results} --seeds 130 --lanes 130 --threads 1 --quiet"
    with_few_files(TRAIN, 120, *asked.split())
    assert len(list(results.glob("*-s*/result.json"))) == 130


def test_2_a_checkpoint_sets_the_whole_state_of_the_optimizer_on_the_device() -> None:
    before = stack_of(variant_of("relu"), variant_of("relu"))
    before.train_epoch(1)
    meta = stack_of(variant_of("relu"), variant_of("relu"), device="meta")
    meta.load_state(0, before.state(0))
    devices = {str(value.device) for state in meta.optimizer.state.values() for value in state.values()}
    assert devices == {"meta"}


def test_3_one_chunk_of_images_is_evaluated_at_a_time_whatever_the_threads(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actbench.engine import measure

    threads: list[int] = []
    original = measure.side_by_side

    def counted(function: Any, items: Any, threads_: int = 1, **given: int) -> Any:
        if isinstance(items, range):
            threads.append(given.get("threads", threads_))
        return original(function, items, given.get("threads", threads_))

    monkeypatch.setattr(measure, "side_by_side", counted)
    train([Run(variant_of(), seed) for seed in range(3)], threads=16)
    assert set(threads) == {1}


def test_4_a_stack_and_its_captured_steps_are_freed_without_a_garbage_collection(gpu: Gpu) -> None:
    stack = stack_of(variant_of("relu", batch_norm="before"), variant_of("relu", batch_norm="before"))
    stack.train_epoch(1)
    assert [graph.replays for graph in gpu.graphs] == [4, 1]  # four batches of 32 and one of 22
    parts = [weakref.ref(part) for part in (stack, stack.network, stack.network.theta, *gpu.graphs)]
    gc.collect()
    gc.disable()
    try:
        gpu.graphs.clear()
        del stack
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


def test_4_two_batch_sizes_share_the_memory_of_one_captured_step(gpu: Gpu) -> None:
    stack = stack_of(variant_of(), variant_of())
    stack.train_epoch(1)
    assert gpu.pools == [None, gpu.graphs[0].pool()]


def test_4_halves_start_after_the_memory_of_the_whole_stack_is_free(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[LaneStack]] = []
    emptied: list[int] = []
    trained = LaneStack.train_epoch

    def hungry(self: LaneStack, epoch: int) -> torch.Tensor:
        assert [one() for one in alive if one() is not self] == [None] * (len(alive) - (self in [o() for o in alive]))
        if self not in [one() for one in alive]:
            alive.append(weakref.ref(self))
            emptied.append(gpu.emptied)
        if len(self.runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return trained(self, epoch)

    monkeypatch.setattr(LaneStack, "train_epoch", hungry)
    runs = [Run(variant_of(), seed) for seed in range(4)]
    outcomes = train(runs).outcomes
    assert [outcomes[run.run_id].status for run in runs] == ["done"] * 4
    assert emptied == [0, 1, 2]
    assert gpu.emptied == 4  # and once more after the group


class Notes(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def test_6_a_lack_of_memory_halves_a_stack_and_a_note_says_so(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = LaneStack.train_epoch

    def hungry(self: LaneStack, epoch: int) -> torch.Tensor:
        if len(self.runs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return trained(self, epoch)

    monkeypatch.setattr(LaneStack, "train_epoch", hungry)
    recorder = Notes()
    train([Run(variant_of(), seed) for seed in range(5)], recorder)
    assert [record.status for record in recorder.outcomes.values()] == ["done"] * 5
    (note,) = recorder.notes
    assert "5 lanes" in note
    assert "CUDA out of memory" in note
    assert "3 and 2 lanes" in note


def test_6_any_other_exception_fails_every_run_once_with_its_text(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def broken(self: LaneStack, epoch: int) -> torch.Tensor:
        tries.append(len(self.runs))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(LaneStack, "train_epoch", broken)
    runs = [Run(variant_of(), seed) for seed in range(4)]
    outcomes = train(runs).outcomes
    assert tries == [4]
    assert [outcomes[run.run_id].status for run in runs] == ["failed"] * 4
    assert all("an illegal memory access" in (record.error or "") for record in outcomes.values())


def test_6_a_watcher_that_raises_fails_the_run_that_it_watched_and_no_other(gpu: Gpu) -> None:
    runs = [Run(variant_of(), seed) for seed in range(3)]
    outcomes = train(runs, Hurting()).outcomes
    assert [outcomes[run.run_id].status for run in runs] == ["done", "failed", "done"]


def test_6_a_lack_of_memory_that_a_failed_capture_hides_is_recognised() -> None:
    hidden = RuntimeError("operation failed due to a previous error during capture")
    hidden.__context__ = torch.OutOfMemoryError("CUDA out of memory.")
    assert cuda.is_out_of_memory(hidden)
    assert not cuda.is_out_of_memory(RuntimeError("illegal memory access"))


def test_8_checkpoints_take_at_most_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    trained, saved = LaneStack.train_epoch, []

    class Slow(Recorder):
        def on_checkpoint(self, run: Run, data: bytes) -> None:
            saved.append(clock[0])
            clock[0] += 25.0

    def one_minute(self: LaneStack, epoch: int) -> torch.Tensor:
        clock[0] += 61.0
        return trained(self, epoch)

    monkeypatch.setattr(LaneStack, "train_epoch", one_minute)
    train([Run(variant_of(epochs=30), 0)], Slow())
    assert len(saved) > 2
    assert 25.0 * len(saved) <= 0.05 * clock[0] + 25.0
    assert min(later - earlier for earlier, later in itertools.pairwise(saved)) >= 500.0


def test_11_the_lanes_of_groups_are_balanced() -> None:
    runs = [Run(variant_of(), seed) for seed in range(1000)]
    assert [len(group) for group in sweeps.lane_groups(runs, 934, "cuda")] == [500, 500]
    assert [len(group) for group in sweeps.lane_groups(runs, 400, "cuda")] == [334, 334, 332]
