"""What may explain a difference between two runs of the same config: versions, device, threads, data, time."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

import actbench
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.events import Broadcast, Events
from actbench.store import RunRecord


class WithProvenance(Broadcast):
    """Passes all events on, from one thread at a time, and adds provenance and times to the records of ended runs."""

    def __init__(self, events: Events, dataset: Dataset, device: torch.device, threads: int) -> None:
        super().__init__([events])
        self._dataset, self._device, self._threads = dataset, device, threads
        self._started = datetime.now(UTC)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Complete the record and pass it on."""
        timing = {name: record.metrics.get(name) for name in ("wall_s", "images_per_s")}
        super().on_end(run, replace(record, provenance=self._provenance(), timing=timing))

    def _provenance(self) -> dict[str, Any]:
        on_cuda = self._device.type == "cuda"
        return {  # never the environment's variables: they may hold secrets
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
