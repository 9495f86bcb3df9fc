"""From runs to stored results: skip what is done, claim the rest, train it in lane groups, store it (layer 4).

Imports the store and the configs; the engine (and with it torch) only when there is something to train.
Prints nothing: a `Watcher` is told what happens.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import actbench
from actbench import config, datasets
from actbench.config import Run
from actbench.errors import StoreError
from actbench.store import Claim, RunRecord, Status, Store

if TYPE_CHECKING:
    import torch

    from actbench.datasets import Dataset
    from actbench.engine import Outcome
    from actbench.engine.measure import Row

CPU_LANES = 16
_POLL_S = 0.2


class Watcher(Protocol):
    """What training tells while it works; `error` is the last line of a failed run's traceback."""

    def on_start(self, run: Run, epochs_done: int) -> None:
        """`run` is claimed and begins, or goes on after `epochs_done` epochs."""

    def on_epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been trained and measured (epoch 0: the untrained network)."""

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """`run` has ended and is stored."""

    def on_note(self, text: str) -> None:
        """Something a person may want to know."""

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """A file of a dataset is coming in."""


@dataclass(frozen=True)
class Options:
    """Where and how to train; nothing here changes what a run is."""

    threads: int | None = None
    lanes: int | None = None
    data_dir: Path | None = None
    offline: bool = False
    mirror: str | None = None
    force: bool = False
    fail_fast: bool = False


@dataclass(frozen=True)
class Plan:
    """The runs that were asked for, each once, and which of them have ended already."""

    runs: list[Run]
    ended: dict[str, Status]

    @property
    def open(self) -> list[Run]:
        """The runs that are to be trained."""
        return [run for run in self.runs if run.run_id not in self.ended]


@dataclass
class Report:
    """How the runs of a plan ended."""

    trained: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    stopped: bool = False


def plan(runs: Iterable[Run], store: Store, *, force: bool = False) -> Plan:
    """Look up which runs have ended (done or diverged); failed and interrupted ones are open. Reads only."""
    unique = list({run.run_id: run for run in runs}.values())
    ended: dict[str, Status] = {}
    for run in unique if not force else []:
        status = store.status(run.run_id)
        if status in ("done", "diverged"):
            ended[run.run_id] = status
    return Plan(unique, ended)


def execute(
    todo: Plan, store: Store, options: Options, watcher: Watcher, stop: Callable[[], bool] = lambda: False
) -> Report:
    """Train the open runs of a plan and store each as it ends.

    Runs that another process trains meanwhile are waited for, and taken over should it die. `stop` is asked
    after every epoch; unfinished runs then keep a checkpoint. Raises DataError, DeviceError or StoreError
    before anything is trained when it can be known then.
    """
    report = Report()
    if not todo.open:
        return report
    store.prepare()
    loaded = {name: _load(name, options, watcher) for name in sorted({run.variant.dataset for run in todo.open})}
    waiting = todo.open
    while waiting and not report.stopped:
        held = _pass(waiting, store, options, watcher, stop, report, loaded)
        waiting = _still_open(held, store, report)
        if waiting and not report.stopped:
            time.sleep(_POLL_S)
            report.stopped = stop()
    return report


def _pass(
    runs: list[Run],
    store: Store,
    options: Options,
    watcher: Watcher,
    stop: Callable[[], bool],
    report: Report,
    loaded: dict[str, Dataset],
) -> list[Run]:
    """Go through the runs once, device by device and group by group; return those that others hold."""
    from actbench import engine  # imports torch, which takes longer than finding out that all is done

    engine.configure()
    devices = {name: engine.pick_device(name) for name in sorted({run.variant.device for run in runs})}
    held: list[Run] = []
    for name, device in devices.items():
        members = [run for run in runs if run.variant.device == name]
        if name == "auto" and not report.trained and not report.failed:
            watcher.on_note(f"training on {device} (device: auto)")
        lanes = options.lanes or (CPU_LANES if device.type == "cpu" else engine.lanes_that_fit(device, members))
        for group in lane_groups(members, lanes, device.type):
            report.stopped = report.stopped or stop() or (options.fail_fast and bool(report.failed))
            if report.stopped:
                return held
            with contextlib.ExitStack() as claims:
                keeper = _Keeper(loaded[group[0].variant.dataset], device, options, watcher, report)
                held += keeper.claim(group, store, claims)
                keeper.train(stop)
    return held


def lane_groups(runs: Sequence[Run], lanes: int, device: str) -> Iterator[list[Run]]:
    """Pack runs that can train together into groups of at most `lanes`, in the order they were given.

    A group shares its images; on CUDA also the shapes of its networks, with neighbours alike in activation
    and optimizer settings, so that a stretch of lanes is one call.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        v = run.variant
        key: tuple[Any, ...] = (v.dataset, v.train_limit, v.test_limit, v.validation)
        if device == "cuda":
            from actbench.model import Structure

            key += (v.batch_size, v.epochs, v.optimizer.name, v.probe, v.augment is None, Structure.of(v, 784, 10))
        groups.setdefault(key, []).append(run)
    for members in groups.values():
        if device == "cuda":
            members.sort(key=lambda run: (repr(run.variant.activation), repr(run.variant.plain())))
        for start in range(0, len(members), lanes):
            yield members[start : start + lanes]


def _load(name: str, options: Options, watcher: Watcher) -> Dataset:
    folder = datasets.data_folder(options.data_dir)
    return datasets.load(
        name,
        folder,
        offline=options.offline,
        mirror=options.mirror,
        progress=watcher.on_download,
        note=watcher.on_note,
    )


def _still_open(held: list[Run], store: Store, report: Report) -> list[Run]:
    """Of the runs that could not be claimed, those that have not ended in another process meanwhile."""
    still = []
    for run in held:
        if store.status(run.run_id) in ("done", "diverged"):
            report.elsewhere.append(run.run_id)
        else:
            still.append(run)
    return still


class _Keeper:
    """Holds the claims of one lane group and stores what the engine tells about its runs."""

    def __init__(
        self, dataset: Dataset, device: torch.device, options: Options, watcher: Watcher, report: Report
    ) -> None:
        from actbench import compute

        self._dataset, self._device, self._options = dataset, device, options
        self._watcher, self._report = watcher, report
        self._claims: dict[str, Claim] = {}
        self._runs: list[Run] = []
        self._checkpoints: dict[str, bytes] = {}
        self._threads = options.threads or compute.usable_threads()
        self._started = datetime.now(UTC)

    def claim(self, runs: Sequence[Run], store: Store, claims: contextlib.ExitStack) -> list[Run]:
        """Claim the runs that are free; return those that another process holds or has just finished."""
        held = []
        for run in runs:
            try:
                claim = claims.enter_context(store.claim(run.run_id, force=self._options.force))
            except StoreError as error:
                self._failed(run, str(error))
                continue
            if claim is None:
                held.append(run)
                continue
            self._claims[run.run_id] = claim
            self._runs.append(run)
            checkpoint = claim.load_checkpoint()
            if checkpoint is not None:
                self._checkpoints[run.run_id] = checkpoint
        return held

    def train(self, stop: Callable[[], bool]) -> None:
        """Train what was claimed."""
        if not self._runs:
            return
        from actbench import engine
        from actbench.engine import checkpoint

        for run in self._runs:
            data, done = self._checkpoints.get(run.run_id), 0
            try:
                done = checkpoint.epochs_done(data) if data is not None else 0
            except ValueError as error:
                self._watcher.on_note(f"{run.run_id} starts from the beginning: its checkpoint does not fit, {error}")
                del self._checkpoints[run.run_id]
            self._watcher.on_start(run, done)

        def should_stop() -> bool:
            return stop() or (self._options.fail_fast and bool(self._report.failed))

        engine.train_lanes(
            self._runs,
            self._dataset,
            device=self._device,
            threads=self._threads,
            listener=self,
            checkpoints=self._checkpoints,
            stop=should_stop,
        )
        self._report.stopped = self._report.stopped or should_stop()

    def on_epoch(self, run: Run, row: Row) -> None:
        """Pass on an epoch."""
        self._watcher.on_epoch(run, row)

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """Keep a checkpoint; a run goes on without one when it cannot be written."""
        try:
            self._claims[run.run_id].save_checkpoint(data)
        except StoreError as error:
            self._watcher.on_note(f"{run.run_id} goes on without a checkpoint: {error}")

    def on_end(self, run: Run, outcome: Outcome) -> None:
        """Store an ended run; one whose results cannot be written has failed."""
        try:
            self._claims[run.run_id].finish(self._record(run, outcome))
        except StoreError as error:
            self._failed(run, str(error))
            return
        if outcome.status == "failed":
            self._failed(run, (outcome.error or "").strip().splitlines()[-1])
        else:
            self._report.trained[run.run_id] = outcome.status
            self._watcher.on_end(run, outcome.status, None)

    def _failed(self, run: Run, error: str) -> None:
        self._report.failed[run.run_id] = error
        self._watcher.on_end(run, "failed", error)

    def _record(self, run: Run, outcome: Outcome) -> RunRecord:
        weights = outcome.weights
        return RunRecord(
            run_id=run.run_id,
            config_yaml=config.to_yaml(run.variant, [run.seed]),
            flat=run.variant.flat(),
            seed=run.seed,
            status=outcome.status,
            metrics=outcome.metrics,
            layers=outcome.layers,
            epochs=outcome.rows,
            layer_rows=outcome.layer_rows,
            neurons=outcome.neurons,
            weights={name: tensor.numpy() for name, tensor in weights.items()} if weights is not None else None,
            provenance=self._provenance(),
            timing={name: outcome.metrics.get(name) for name in ("wall_s", "images_per_s")},
            error=outcome.error,
        )

    def _provenance(self) -> dict[str, Any]:
        """What may explain a difference between two runs of one config; never the environment's variables."""
        import torch

        on_cuda = self._device.type == "cuda"
        return {
            "actbench_version": actbench.__version__,
            "torch_version": torch.__version__,
            "python_version": platform.python_version(),
            "platform": platform.platform(),
            "device": str(self._device),
            "device_name": torch.cuda.get_device_name(self._device) if on_cuda else platform.machine(),
            "threads": self._threads,
            "cpus": os.cpu_count(),
            "data_fingerprint": self._dataset.fingerprint,
            "started_at": self._started.isoformat(timespec="seconds"),
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
