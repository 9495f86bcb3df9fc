"""What runs on the nodes of a Ray cluster: a lane group, told to the driver as a stream of events (layer 4).

Imports `training` (and torch) and Ray. It reads and writes no files: data and checkpoints come as arguments.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

import ray
import torch

import actbench
from actbench import engine
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.engine.measure import Row
from actbench.store import RunRecord
from actbench.sweeps.training import train_group

Event = tuple[str, tuple[Any, ...]]
"""A method of `training.Listener` and its arguments, a run as its id."""

_BATCH_S = 0.1
_ASK_S = 0.5


def versions() -> tuple[str, str]:
    """Return this node's versions of actbench and torch."""
    return actbench.__version__, torch.__version__


class Flag:
    """An actor beside the driver: whether training is to stop after the epoch."""

    def __init__(self) -> None:
        self._raised = False

    def hoist(self) -> None:
        """Tell everybody to stop."""
        self._raised = True

    def is_up(self) -> bool:
        """Whether to stop."""
        return self._raised


def train_stream(
    runs: Sequence[Run],
    dataset: Dataset,
    device: str,
    threads: int,
    checkpoints: Mapping[str, bytes],
    flag: Any,
    tf32: bool,
) -> Iterator[list[Event]]:
    """Train a lane group and yield what happens, a tenth of a second's events at a time."""
    engine.configure(tf32=tf32)
    outbox, stop, over = _Outbox(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(2, "actbench") as pool:
        try:
            pool.submit(_follow, flag, stop, over)
            training = pool.submit(
                train_group,
                runs,
                dataset,
                device=engine.pick_device(device),
                threads=threads,
                checkpoints=checkpoints,
                listener=outbox,
                stop=stop.is_set,
            )
            yield from outbox.batches(training)
            training.result()
        finally:  # also when the driver has given this task up
            stop.set()
            over.set()


def _follow(flag: Any, stop: threading.Event, over: threading.Event) -> None:
    """Look at the driver's flag now and then. A thread of its own: waiting in a task's first would free its CPUs."""
    while not over.wait(_ASK_S):
        try:
            up = ray.get(flag.is_up.remote())
        except ray.exceptions.RayError:  # nobody is left to hear the end
            up = True
        if up:
            stop.set()


class _Outbox:
    """A listener that keeps what it is told until it is sent."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()

    def batches(self, training: Future[None]) -> Iterator[list[Event]]:
        """Give the events in batches until training is over and all are given."""
        over = False
        while not over:
            over = wait([training], timeout=_BATCH_S).done != set()
            batch = [self._events.get() for _ in range(self._events.qsize())]
            if batch:
                yield batch

    def on_start(self, run: Run, epochs_done: int) -> None:
        self._events.put(("on_start", (run.run_id, epochs_done)))

    def on_note(self, text: str) -> None:
        self._events.put(("on_note", (text,)))

    def on_epoch(self, run: Run, row: Row) -> None:
        self._events.put(("on_epoch", (run.run_id, row)))

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        self._events.put(("on_checkpoint", (run.run_id, data)))

    def on_end(self, run: Run, record: RunRecord) -> None:
        self._events.put(("on_end", (run.run_id, record)))
