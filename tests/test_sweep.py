"""Planning, claiming and storing: what happens when several processes or seeds meet in one results folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actbench import sweeps
from actbench.config import Run, Variant
from actbench.events import Events, last_line
from actbench.store import RunRecord, Store
from actbench.store.csv import parse_table


def tiny(**given: object) -> Variant:
    given = {"name": "tiny", "dataset": "digits", "hidden": [8], "epochs": 1, "train_limit": 100, **given}
    return Variant(**given)  # type: ignore[arg-type]


class Watcher(Events):
    """Keeps the events."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.ended: list[tuple[str, str, str]] = []
        self.notes: list[str] = []

    def on_start(self, run: Run, epochs_done: int) -> None:
        self.started.append((run.run_id, epochs_done))

    def on_end(self, run: Run, record: RunRecord) -> None:
        self.ended.append((run.run_id, record.status, last_line(record.error)))

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        raise AssertionError("the digits need no download")


def test_a_run_that_is_asked_for_twice_is_trained_once(tmp_path: Path) -> None:
    store, watcher = Store(tmp_path / "results"), Watcher()
    plan = sweeps.make_plan([Run(tiny(), 0), Run(tiny(), 0), Run(tiny(), 1)], store)
    report = sweeps.run(plan, store, sweeps.Options(), watcher)
    assert len(plan.runs) == 2
    assert sorted(report.trained.values()) == ["done", "done"]
    assert len(watcher.started) == len(watcher.ended) == 2


def test_planning_reads_only(tmp_path: Path) -> None:
    plan = sweeps.make_plan([Run(tiny(), 0)], Store(tmp_path / "nowhere"))
    assert len(plan.open) == 1
    assert not (tmp_path / "nowhere").exists()


def test_cpu_groups_share_their_images_and_keep_the_order_that_was_asked_for() -> None:
    runs = [
        Run(variant, seed) for variant in (tiny(), tiny(train_limit=90), tiny(activation="tanh")) for seed in range(3)
    ]
    groups = list(sweeps.lane_groups(runs, 4, "cpu"))
    assert [len(group) for group in groups] == [4, 2, 3]
    for group in groups:
        assert len({run.variant.train_limit for run in group}) == 1
    assert [run for group in groups for run in group if run.variant.train_limit == 100] == runs[:3] + runs[6:]


def test_groups_on_cpu_have_16_lanes_or_one_a_thread_or_what_the_memory_holds_or_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from actbench import compute, engine
    from actbench.sweeps.run import local_groups

    runs = [Run(tiny(device="cpu"), seed) for seed in range(40)]

    def sizes(**options: int) -> list[int]:
        return [len(group) for _, group in local_groups(runs, sweeps.Options(**options))]  # type: ignore[arg-type]

    assert sizes(threads=2) == [16, 16, 8]
    monkeypatch.setattr(compute, "usable_threads", lambda: 24)
    assert sizes(threads=24) == sizes() == [24, 16]  # no thread is idle
    monkeypatch.setattr(engine, "lanes_that_fit", lambda *_: 7)
    assert sizes(threads=2) == [7] * 5 + [5]
    assert sizes(threads=2, lanes=30) == [30, 10]


def test_cuda_groups_share_all_shapes_and_sort_lanes_that_are_alike_together() -> None:
    variants = [tiny(activation=name) for name in ("relu", "tanh", "relu")] + [
        tiny(hidden=[9]),
        tiny(activation="prelu"),
    ]
    runs = [Run(variant, seed) for seed in range(2) for variant in variants]
    groups = list(sweeps.lane_groups(runs, 100, "cuda"))
    shapes = [{(run.variant.hidden, run.variant.activation[0].name == "prelu") for run in group} for group in groups]
    assert all(len(shape) == 1 for shape in shapes)
    names = [run.variant.activation[0].name for run in groups[0]]
    assert names == sorted(names)


def test_on_cuda_runs_at_different_epochs_are_stacked_apart_and_on_cpu_every_run_is_alone() -> None:
    import torch

    from actbench.engine.train import stacks_of

    runs = [Run(tiny(), seed) for seed in range(4)]
    epochs_done = {run.run_id: epochs for run, epochs in zip(runs, (0, 3, 2, 3), strict=True)}
    stacks = {
        device: [[run.seed for run in stack] for stack in stacks_of(runs, epochs_done, torch.device(device))]
        for device in ("cuda", "cpu")
    }
    assert stacks == {"cuda": [[0], [2], [1, 3]], "cpu": [[0], [1], [2], [3]]}


def test_fail_fast_stops_after_the_first_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actbench.engine.measure import Measurer

    def failing(self: Measurer, *given: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Measurer, "measure", failing)
    store, watcher = Store(tmp_path / "results"), Watcher()
    plan = sweeps.make_plan([Run(tiny(), seed) for seed in range(40)], store)
    report = sweeps.run(plan, store, sweeps.Options(fail_fast=True, threads=1), watcher)
    assert len(report.failed) < 40
    assert report.stopped
    assert watcher.ended[0][1:] == ("failed", "RuntimeError: no")


@pytest.mark.parametrize("data", [b"not a checkpoint", None])
def test_a_checkpoint_that_does_not_fit_is_told_and_the_run_starts_from_the_beginning(
    data: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actbench.engine import checkpoint

    store, run, watcher = Store(tmp_path / "results"), Run(tiny(epochs=3), 0), Watcher()
    asked = iter(range(100))
    if data is None:  # one that another version has made
        monkeypatch.setattr(checkpoint, "_MAKER", "actbench 0.0.0 with torch 1.0")
    sweeps.run(sweeps.make_plan([run], store), store, sweeps.Options(), watcher, stop=lambda: next(asked) >= 3)
    monkeypatch.undo()
    with store.claim(run.run_id) as claim:
        assert claim is not None
        assert claim.load_checkpoint() is not None
        if data is not None:
            claim.save_checkpoint(data)
    report = sweeps.run(sweeps.make_plan([run], store), store, sweeps.Options(), watcher)
    assert report.trained == {run.run_id: "done"}
    assert any("starts from the beginning" in note for note in watcher.notes)
    assert watcher.started[-1] == (run.run_id, 0)


def test_six_processes_that_start_the_same_command_at_once_train_each_run_once(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\ndataset: digits\nhidden: [8]\nepochs: 3\ntrain_limit: 100\nseeds: 4\n")
    command = [sys.executable, "-m", "actbench", "train", "-c", str(config), "--results", str(tmp_path / "results")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, outputs
    trained = [line for _, err in outputs for line in err.splitlines() if "epoch 3/3" in line]
    assert len(trained) == 4
    rows = parse_table((tmp_path / "results" / "runs.csv").read_text())
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]
    assert all("tiny" in out for out, _ in outputs)
