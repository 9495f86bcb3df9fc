"""The machine that trains: its free memory and settings, and what a record says about it."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

import actbench
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.engine.measure import SAMPLE
from actbench.events import Broadcast, Events
from actbench.store import RunRecord

_MOST_LANES = 1024


def lanes_that_fit(device: torch.device, runs: Sequence[Run], threads: int = 1) -> int:
    """Return how many lanes of the widest run fit into the free memory of the device (at least 1, at most 1,024).

    A lane keeps its parameters, gradients and two moments. A lane that is computing (on CPU, at most `threads` at the
    same time) also needs the layers' values for one batch and for the largest chunk that is measured. A quarter of the
    memory stays free for the images and the allocator. If a CPU's free memory is unknown, all lanes fit.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if free is None:
        return _MOST_LANES
    kept, used = 0, 0
    for variant in dict.fromkeys(run.variant for run in runs):
        structure = variant.structure()
        widths = sum((layer.pre + layer.post) * layer.positions for layer in structure.layers)
        kept = max(kept, 4 * 4 * structure.parameter_count)
        used = max(used, 4 * 8 * (variant.batch_size + SAMPLE) * (widths + structure.inputs))
    lanes = 0.75 * free / (kept + used) if device.type == "cuda" else (0.75 * free - threads * used) / kept
    return max(1, min(_MOST_LANES, int(lanes)))


def free_memory() -> int | None:
    """Return how many more bytes of memory the machine and its container allow this process, or None if unknown."""
    known: list[int] = []
    with suppress(OSError, KeyError, ValueError):  # only Linux has these files
        known.append(1024 * _numbers("/proc/meminfo")["MemAvailable:"])
    with suppress(OSError, KeyError, ValueError):  # "max" if the container has no limit
        limit, taken = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current"))
        cached = _numbers("/sys/fs/cgroup/memory.stat")["inactive_file"]  # the kernel frees it on demand
        known.append(max(0, limit - taken + cached))
    return min(known, default=None)


def _numbers(path: str) -> dict[str, int]:
    """Read a kernel file that has a name and a number on each line."""
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {name: int(number) for name, number, *_ in lines}


def configure(*, tf32: bool = False) -> None:
    """Set the switches of this process once, before training: exact float32 products on CUDA or not, and allocation.

    With `tf32`, CUDA's tensor cores round their factors to 10 bits of mantissa: faster, but no longer float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    with suppress(OSError, AttributeError):  # without glibc, there is nothing to set
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        m_trim_threshold, m_mmap_threshold = -1, -3
        # Else glibc returns every 1.6 MB gradient to the system and pages it in again in each step.
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, 1 << 30)


class WithProvenance(Broadcast):
    """Passes all events on, from one thread at a time, and completes the records of ended runs.

    It adds what may explain a difference between two runs of the same config: versions, device, threads, data, time.
    """

    def __init__(self, events: Events, dataset: Dataset, device: torch.device, threads: int) -> None:
        super().__init__([events])
        self._dataset, self._device, self._threads = dataset, device, threads
        self._started = datetime.now(UTC)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Complete the record and pass it on."""
        on_cuda = self._device.type == "cuda"
        provenance = {  # never the environment's variables: they may hold secrets
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
            "data_mean": self._dataset.mean,
            "data_std": self._dataset.std,
            "started_at": self._started.isoformat(timespec="seconds"),
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        timing = {name: record.metrics.get(name) for name in ("wall_s", "images_per_s")}
        super().on_end(run, replace(record, provenance=provenance, timing=timing))
