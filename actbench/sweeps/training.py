"""Training one group of claimed runs, in this process or on another machine (layer 4).

Imports the engine (and torch), the configs and the store's records; writes nothing. What happens is told to a
`Listener`: the keeper itself, or what brings it to the keeper.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import torch

import actbench
from actbench import config, engine
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.engine import Outcome, checkpoint
from actbench.engine.measure import Row
from actbench.store import RunRecord


class Listener(Protocol):
    """What `train_group` tells while it works."""

    def on_start(self, run: Run, epochs_done: int) -> None:
        """`run` begins, or goes on after `epochs_done` epochs."""

    def on_note(self, text: str) -> None:
        """Something a person may want to know."""

    def on_epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been trained and measured."""

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """`data` brings `run` back to where it is now."""

    def on_end(self, run: Run, record: RunRecord) -> None:
        """`run` has ended; `record` is what is to be stored of it."""


def train_group(
    runs: Sequence[Run],
    dataset: Dataset,
    *,
    device: torch.device,
    threads: int,
    checkpoints: Mapping[str, bytes],
    listener: Listener,
    stop: Callable[[], bool],
) -> None:
    """Train the runs of one lane group, from their `checkpoints` (by run id) where there are any that fit.

    `stop` is asked after every epoch: each unfinished run then hands out a checkpoint.
    """
    usable: dict[str, bytes] = {}
    stand: dict[int, list[Run]] = {}  # the runs by how many epochs they have behind them
    for run in runs:
        data, done = checkpoints.get(run.run_id), 0
        try:
            if data is not None:
                done, usable[run.run_id] = checkpoint.epochs_done(data), data
        except ValueError as error:
            listener.on_note(f"{run.run_id} starts from the beginning: its checkpoint does not fit, {error}")
        stand.setdefault(done if device.type == "cuda" else 0, []).append(run)
        listener.on_start(run, done)
    recorder = _Recorder(listener, dataset, device, threads)
    for _, members in sorted(stand.items()):  # a stack on CUDA is at one epoch
        engine.train_lanes(
            members,
            dataset,
            device=device,
            threads=threads,
            listener=recorder,
            checkpoints={run.run_id: usable[run.run_id] for run in members if run.run_id in usable},
            stop=stop,
        )


class _Recorder:
    """Turns what the engine tells into what is stored, and passes it on."""

    def __init__(self, listener: Listener, dataset: Dataset, device: torch.device, threads: int) -> None:
        self._listener, self._dataset, self._device, self._threads = listener, dataset, device, threads
        self._started = datetime.now(UTC)

    def on_epoch(self, run: Run, row: Row) -> None:
        self._listener.on_epoch(run, row)

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        self._listener.on_checkpoint(run, data)

    def on_end(self, run: Run, outcome: Outcome) -> None:
        self._listener.on_end(run, self._record(run, outcome))

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
        on_cuda = self._device.type == "cuda"
        return {
            "actbench_version": actbench.__version__,
            "torch_version": torch.__version__,
            "python_version": platform.python_version(),
            "platform": platform.platform(),
            "device": str(self._device),
            "device_name": torch.cuda.get_device_name(self._device) if on_cuda else platform.machine(),
            **({"tf32": torch.backends.cuda.matmul.allow_tf32} if on_cuda else {}),
            "threads": self._threads,
            "cpus": os.cpu_count(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "data_fingerprint": self._dataset.fingerprint,
            "started_at": self._started.isoformat(timespec="seconds"),
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def lost_record(run: Run, error: str) -> RunRecord:
    """Return what is stored of a run that no machine could bring to its end."""
    return RunRecord(
        run_id=run.run_id,
        config_yaml=config.to_yaml(run.variant, [run.seed]),
        flat=run.variant.flat(),
        seed=run.seed,
        status="failed",
        provenance={"actbench_version": actbench.__version__, "torch_version": torch.__version__},
        error=error,
    )
