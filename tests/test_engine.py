"""train_lanes: bits that depend on config and seed alone, resuming, diverging, failing and stopping."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench import engine
from actbench.config import Choice, Run, Variant
from actbench.datasets import Dataset, Split
from actbench.engine import machine, pick_device, train_lanes
from actbench.engine.lanes import LaneStack
from actbench.errors import DeviceError
from actbench.events import Events
from actbench.store import RunRecord
from actbench.store.csv import Row

TIMES = {"train_s", "evaluate_s", "wall_s", "images_per_s"}


def tiny_dataset(n: int = 150) -> Dataset:
    draws = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, 28, 28), generator=draws, dtype=torch.uint8)
    labels = torch.randint(0, 10, (n,), generator=draws)
    return Dataset("mnist", Split(images, labels), Split(images[:40], labels[:40]), 0.1307, 0.3081, "tiny")


class Recorder(Events):
    """Keeps the events of train_lanes."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.checkpoints: dict[str, bytes] = {}
        self.outcomes: dict[str, RunRecord] = {}

    def on_epoch(self, run: Run, row: Row) -> None:
        self.epochs.append((run.run_id, int(row["epoch"] or 0)))

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        self.checkpoints[run.run_id] = data

    def on_end(self, run: Run, record: RunRecord) -> None:
        assert run.run_id not in self.outcomes
        self.outcomes[run.run_id] = record


class Hurting(Recorder):
    """Raises an exception about one run: the first epoch of seed 1."""

    def on_epoch(self, run: Run, row: Row) -> None:
        super().on_epoch(run, row)
        if run.seed == 1 and row["epoch"] == 1:
            raise RuntimeError("the disk said no")


def variant_of(activation: str = "relu", **given: Any) -> Variant:
    given = {"hidden": (12,), "epochs": 2, "batch_size": 32, **given}
    return Variant(activation=(Choice.of("activation", activation),), name=activation, **given)


def train(runs: list[Run], recorder: Recorder | None = None, **options: Any) -> Recorder:
    recorder = recorder or Recorder()
    train_lanes(runs, tiny_dataset(), **{"device": torch.device("cpu"), **options}, events=recorder)
    return recorder


def untimed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same(a: RunRecord, b: RunRecord) -> None:
    """Equal to the last bit, but for the clock."""
    assert a.status == b.status
    assert untimed(a.epochs) == untimed(b.epochs)
    assert untimed([a.metrics]) == untimed([b.metrics])
    assert a.neurons == b.neurons
    assert a.weights is not None
    assert b.weights is not None
    assert a.weights.keys() == b.weights.keys()
    for name, array in a.weights.items():
        assert np.array_equal(array, b.weights[name]), name


POOL = [
    Run(variant_of(), 0),
    Run(variant_of(), 1),
    Run(variant_of("tanh", lr=0.01), 0),
    Run(variant_of("prelu"), 2),
    Run(variant_of("silu", batch_norm="before"), 1),
    Run(variant_of("sigmoid", init=Choice.of("init", "xavier_uniform")), 0),
]
ALONE: dict[str, RunRecord] = {}


def alone(run: Run) -> RunRecord:
    if run.run_id not in ALONE:
        ALONE[run.run_id] = train([run]).outcomes[run.run_id]
    return ALONE[run.run_id]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.permutations(POOL), st.integers(2, 6), st.integers(1, 4))
def test_a_run_is_the_same_to_the_bit_whatever_trains_beside_it_in_what_order_on_how_many_threads(
    runs: list[Run], n: int, threads: int
) -> None:
    outcomes = train(runs[:n], threads=threads).outcomes
    for run in runs[:n]:
        assert_same(outcomes[run.run_id], alone(run))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL promises the same bits for any threads")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("batch_norm", [False, "before"])
def test_a_run_alone_is_the_same_to_the_bit_however_many_threads_share_its_products(
    threads: int, batch_norm: bool | str
) -> None:
    run = Run(variant_of("gelu", hidden=(300, 257), batch_size=25, batch_norm=batch_norm), 0)
    assert_same(train([run], threads=threads).outcomes[run.run_id], train([run]).outcomes[run.run_id])


def test_training_leaves_the_threads_and_the_denormals_of_its_caller_alone() -> None:
    before = torch.get_num_threads()
    train([POOL[0]])
    assert torch.get_num_threads() == before
    assert (torch.tensor(1e-40) * 1).item() != 0


DENORMALS = """
import torch
from test_engine import Recorder, tiny_dataset, variant_of
from actbench import compute, engine
from actbench.config import Run
torch.set_num_threads(2)
runs = [Run(variant_of(hidden=(512,)), 0)]
engine.train_lanes(runs, tiny_dataset(), device=torch.device("cpu"), events=Recorder(), threads=2)
tiny = torch.full((1 << 20,), 1e-40)
with compute.training_thread():
    torch.set_num_threads(2)
    product = tiny * 1
print(int(torch.count_nonzero(product)), int(torch.count_nonzero(tiny)))
"""


def test_every_thread_that_shares_a_lanes_work_flushes_denormals() -> None:
    # In a process of its own: OpenMP's threads are made once, and keep what the thread that makes them has set.
    done = subprocess.run(
        [sys.executable, "-c", DENORMALS], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    flushed, left = map(int, done.stdout.split())
    assert flushed == 0
    assert left > 0


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd", "adagrad", "rmsprop"])
def test_a_resumed_run_ends_bit_identical_to_one_never_interrupted(optimizer: str, stop_after: int) -> None:
    variant = variant_of("prelu", optimizer=Choice.of("optimizer", optimizer), batch_norm="after", epochs=4)
    runs = [Run(variant, 0), Run(variant, 1)]
    whole = train(runs)
    asked = iter(range(100))
    cut = train(runs, stop=lambda: next(asked) >= stop_after)
    resumed = train(runs, checkpoints=cut.checkpoints)
    for run in runs:
        if run.run_id not in cut.outcomes:
            assert_same(resumed.outcomes[run.run_id], whole.outcomes[run.run_id])


def test_stopping_hands_out_a_checkpoint_of_every_run_that_had_begun() -> None:
    asked = iter(range(100))
    recorder = train([Run(variant_of(), seed) for seed in range(3)], stop=lambda: next(asked) >= 2)
    assert recorder.outcomes == {}
    assert len(recorder.checkpoints) == 2


def test_runs_with_the_same_seed_see_the_same_images_in_the_same_order() -> None:
    # With no learning, the loss of the first batches is that of the initial network on the images seen.
    runs = [Run(variant_of("relu", lr=1e-30), 3), Run(variant_of("relu", lr=1e-31), 3)]
    first, second = (train([run]).outcomes[run.run_id] for run in runs)
    assert first.epochs[1]["batch_loss"] == second.epochs[1]["batch_loss"]


def test_losses_are_true_means_over_the_images() -> None:
    run = Run(variant_of("relu", lr=1e-30, epochs=1), 0)
    rows = train([run]).outcomes[run.run_id].epochs
    # 150 images in batches of 32 leave one of 22: a mean of batch means would differ from the mean over images.
    assert rows[1]["batch_loss"] == pytest.approx(rows[0]["train_loss"], rel=1e-6)


def test_a_diverged_run_is_marked_with_its_epoch_and_the_others_go_on_untouched() -> None:
    wild = Run(variant_of("identity", optimizer=Choice.of("optimizer", "sgd"), lr=1e6, epochs=3), 0)
    calm = Run(variant_of("relu", epochs=3), 0)
    outcomes = train([wild, calm]).outcomes
    diverged = outcomes[wild.run_id]
    assert diverged.status == "diverged"
    assert diverged.metrics["epochs_run"] < 3
    assert diverged.metrics["test_accuracy"] is None
    assert diverged.metrics["dead_ratio"] is None
    assert not math.isfinite(diverged.epochs[-1]["batch_loss"] or 0)
    assert_same(outcomes[calm.run_id], train([calm]).outcomes[calm.run_id])


def test_an_exception_in_one_run_fails_that_run_with_its_traceback_and_the_others_finish() -> None:
    runs = [Run(variant_of(), seed) for seed in range(3)]
    outcomes = train(runs, Hurting()).outcomes
    assert [outcomes[run.run_id].status for run in runs] == ["done", "failed", "done"]
    assert "the disk said no" in (outcomes[runs[1].run_id].error or "")


def test_each_run_takes_its_turn_an_epoch_at_a_time() -> None:
    runs = [Run(variant_of(), seed) for seed in range(2)]
    first, second = (run.run_id for run in runs)
    assert train(runs).epochs == [(r, e) for e in range(3) for r in (first, second)]


def test_limits_take_the_first_images() -> None:
    run = Run(variant_of(train_limit=64, test_limit=7, epochs=1), 0)
    neurons_at_start = train([run]).outcomes[run.run_id].epochs[0]
    accuracy = neurons_at_start["test_accuracy"]
    assert accuracy is not None
    assert (accuracy * 7) == pytest.approx(round(accuracy * 7))


def test_a_run_has_the_label_and_the_prediction_of_each_test_image() -> None:
    runs = [Run(variant_of(test_limit=70, epochs=1), seed) for seed in range(2)]
    for outcome in train(runs).outcomes.values():
        assert outcome.predictions is not None
        labels, predicted = outcome.predictions.T
        assert labels.tolist() == tiny_dataset().test.labels[:70].tolist()
        assert (labels == predicted).mean() == pytest.approx(outcome.metrics["test_accuracy"])
    wild = Run(variant_of("identity", optimizer=Choice.of("optimizer", "sgd"), lr=1e6), 0)
    assert train([wild]).outcomes[wild.run_id].predictions is None


def test_every_hidden_unit_has_a_row_with_its_layer_and_number() -> None:
    run = Run(variant_of(hidden=(5, 3), epochs=1), 0)
    outcome = train([run]).outcomes[run.run_id]
    assert [(row["layer"], row["unit"]) for row in outcome.neurons] == [(0, u) for u in range(5)] + [
        (1, u) for u in range(3)
    ]
    assert len(outcome.layers) == 3  # the output layer's gradient is the last
    flagged = sum(bool(row["dead"]) for row in outcome.neurons) / 8
    assert outcome.metrics["dead_ratio"] == pytest.approx(flagged)


def test_a_network_without_hidden_units_has_no_dead_ratio_rather_than_zero() -> None:
    run = Run(variant_of(hidden=(), epochs=1), 0)
    metrics = train([run]).outcomes[run.run_id].metrics
    assert metrics["dead_ratio"] is None
    assert metrics["deaths"] is None
    assert metrics["test_accuracy"] is not None


def test_asking_for_cuda_where_there_is_none_is_an_error_and_auto_takes_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


def test_a_stack_that_does_not_fit_the_memory_is_halved_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [Run(variant_of(), seed) for seed in range(5)]
    trained, sizes = LaneStack.train_epoch, []

    def hungry(self: LaneStack, epoch: int) -> torch.Tensor:
        sizes.append(len(self.runs))
        if len(self.runs) > 2:
            raise torch.OutOfMemoryError("device out of memory")
        return trained(self, epoch)

    monkeypatch.setattr(LaneStack, "train_epoch", hungry)
    monkeypatch.setattr(engine.train, "stacks_of", lambda runs, *_: [runs])  # as on CUDA: one stack
    recorder = train(runs)
    assert {outcome.status for outcome in recorder.outcomes.values()} == {"done"}
    assert len(recorder.outcomes) == 5
    assert 5 in sizes
    assert 2 in sizes


def test_products_on_cuda_are_exact_unless_tf32_is_asked_for() -> None:
    engine.configure(tf32=True)
    assert torch.backends.cuda.matmul.allow_tf32
    engine.configure()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_lanes_on_cpu_are_as_many_as_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, mib = torch.device("cpu"), 1 << 20
    small, wide = Run(Variant(), 0), Run(variant_of(hidden=(4096, 4096), batch_size=64), 0)

    def fitting(free: int | None, runs: list[Run], threads: int = 1) -> int:
        monkeypatch.setattr(machine, "free_memory", lambda: free)
        return engine.lanes_that_fit(cpu, runs, threads)

    assert fitting(None, [wide]) == 1024
    assert fitting(1000 * 1024 * mib, [small]) == 1024
    assert fitting(0, [small]) == 1  # a single lane is always tried
    # 20 million parameters, 4 floats each: 305 MiB a lane; three quarters of 4 GiB, less 1,064 images of work a thread.
    assert fitting(4096 * mib, [wide]) == 8
    assert fitting(4096 * mib, [small, wide], threads=4) < 8
    assert fitting(4096 * mib, [small]) > 300


def test_the_free_memory_is_known_where_the_system_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}
    monkeypatch.setattr(Path, "read_text", lambda path, *_, **__: files[str(path)] if str(path) in files else raise_())

    def raise_() -> str:
        raise FileNotFoundError

    assert machine.free_memory() == 8000 * 1024
    cgroup = "/sys/fs/cgroup/memory."
    files |= {f"{cgroup}max": "max\n", f"{cgroup}current": "1000\n", f"{cgroup}stat": "anon 5\ninactive_file 0\n"}
    assert machine.free_memory() == 8000 * 1024
    files[f"{cgroup}max"] = "5000\n"
    assert machine.free_memory() == 4000
    files[f"{cgroup}stat"] = "anon 5\ninactive_file 300\n"  # what files left in the cache is free again at once
    assert machine.free_memory() == 4300
    files.clear()
    assert machine.free_memory() is None
