"""train_lanes() trains a lane group: its stacks take turns of one epoch until every run has ended.

On CPU every lane is a stack of its own. The stacks take turns on the available threads; threads that no stack needs
share the products of the others, without changing their bits (see `compute`). One network's state fits into the
caches, and nothing computed for a lane depends on the lanes beside it or on the number of threads: a run's bits are a
function of its config and seed alone. On CUDA the lanes of a group form one stack. A resumed run ends bit-identical.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from actbench import compute
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.engine import checkpoint
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.engine.machine import WithProvenance
from actbench.engine.measure import Measurer, diverged
from actbench.events import Events, record_of

_CHECKPOINT_EVERY_S = 60.0


def train_lanes(
    runs: Sequence[Run],
    dataset: Dataset,
    *,
    device: torch.device,
    events: Events,
    threads: int = 1,
    checkpoints: Mapping[str, bytes] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train the runs of one lane group, which share a dataset and its limits (on CUDA: all shapes), to their end.

    `threads` lanes train at the same time on CPU; fewer lanes share the threads. `checkpoints`, by run id, say where
    interrupted runs continue; one that does not fit is reported, and its run starts from the beginning. An exception
    in a stack of several lanes (out of memory, say) splits it in two that start over; in a lane alone, it ends that
    run as failed. `stop` is asked after every epoch: if it says yes, each unfinished lane reports a checkpoint and
    the function returns. Events come from one thread at a time, not always the caller's. If an event's method raises,
    the run that it was about fails.
    """
    events = WithProvenance(events, dataset, device, threads)
    usable, epochs_done = dict(checkpoints or {}), dict.fromkeys((run.run_id for run in runs), 0)
    for run in runs:
        try:
            if run.run_id in usable:
                epochs_done[run.run_id] = checkpoint.epochs_done(usable[run.run_id])
        except ValueError as error:
            events.on_note(f"{run.run_id} starts from the beginning: its checkpoint does not fit, {error}")
            del usable[run.run_id]
        events.on_start(run, epochs_done[run.run_id])
    groups = stacks_of(runs, epochs_done, device.type)
    workers = min(threads, len(groups)) if device.type == "cpu" else 1
    # Before any work is shared: OpenMP's threads flush denormals only if the thread that creates them does.
    with compute.training_thread():
        with compute.spread(threads if workers == 1 else 1):  # threads created here would slow down several workers
            arrays = Arrays.of(dataset, runs[0].variant, device)
        queue = _Queue([_TrainingStack(group, arrays, usable, events) for group in groups], stop, threads)
        if workers == 1:
            queue.work()
        else:
            with ThreadPoolExecutor(workers, "lane", initializer=compute.configure_thread) as pool:
                for future in [pool.submit(queue.work) for _ in range(workers)]:
                    future.result()
        for stack in queue.waiting:
            stack.checkpoint()


def stacks_of(runs: Sequence[Run], epochs_done: Mapping[str, int], device: str) -> list[list[Run]]:
    """Divide a lane group into stacks: on CPU each run alone, on CUDA the runs that are at the same epoch."""
    if device == "cpu":
        return [[run] for run in runs]
    at = sorted(set(epochs_done.values()))
    return [[run for run in runs if epochs_done[run.run_id] == epoch] for epoch in at]


class _Queue:
    """The stacks that are waiting for a turn, shared by the threads that let them take it."""

    def __init__(self, stacks: Sequence[_TrainingStack], stop: Callable[[], bool], threads: int) -> None:
        self.waiting = deque(stacks)
        self._open, self._stop, self._threads = len(stacks), stop, threads
        self._broken = False

    def work(self) -> None:
        """Let one stack after another take a turn, until none is waiting or training must stop."""
        while not self._broken and not self._stop():
            try:
                stack = self.waiting.popleft()
            except IndexError:
                return  # other threads continue with the stacks that they hold
            try:
                self._train(stack)
            except BaseException:
                self._broken = True
                raise

    def _train(self, stack: _TrainingStack) -> None:
        try:
            goes_on = stack.take_turn(max(1, self._threads // self._open))  # no other stack needs these threads
        except Exception:
            if len(stack.runs) == 1:
                self._open -= 1
                stack.end(0, status="failed", error=traceback.format_exc())
            else:
                self._open += 1
                self.waiting.extendleft(reversed(stack.halves()))
        else:
            if not goes_on:
                self._open -= 1
            elif stack.device.type == "cpu":
                self.waiting.append(stack)
            else:  # a CUDA stack keeps the device's memory to itself until it ends
                self.waiting.appendleft(stack)


class _TrainingStack:
    """A stack of runs that train together, one epoch in each turn, and report what happens to `events`."""

    def __init__(self, runs: Sequence[Run], arrays: Arrays, checkpoints: Mapping[str, bytes], events: Events) -> None:
        self.runs, self.device = list(runs), arrays.train_images.device
        self._arrays, self._checkpoints, self._events = arrays, checkpoints, events
        self._measurer: Measurer | None = None
        self._open = set(range(len(self.runs)))
        self._last_checkpoint = time.monotonic()

    def take_turn(self, threads: int) -> bool:
        """Train and measure one epoch (first: measure the untrained network); return whether any lane continues."""
        measurer = self._measurer = self._measurer or self._begin()
        measurer.stack.network.threads = threads
        if measurer.epoch < 0:
            measurer.measure(None, 0.0)
        elif measurer.epoch < self.runs[0].variant.epochs:
            started = time.perf_counter()
            losses = measurer.stack.train_epoch(measurer.epoch + 1)
            measurer.measure(losses, time.perf_counter() - started)
        for lane in sorted(self._open):
            self._report(lane, measurer)
        if self._open and time.monotonic() - self._last_checkpoint > _CHECKPOINT_EVERY_S:
            self.checkpoint()
        return bool(self._open)

    def _begin(self) -> Measurer:
        measurer = Measurer(LaneStack(self.runs, self._arrays))
        for lane, run in enumerate(self.runs):
            if run.run_id in self._checkpoints:
                checkpoint.restore_lane(measurer, lane, self._checkpoints[run.run_id])
        return measurer

    def _report(self, lane: int, measurer: Measurer) -> None:
        run, rows = self.runs[lane], measurer.rows[lane]
        self._events.on_epoch(run, rows[-1])
        status = "diverged" if diverged(rows[-1]) else "done"
        if status == "done" and measurer.epoch < run.variant.epochs:
            return
        results: dict[str, Any] = {"metrics": measurer.final_metrics(lane), "layer_rows": measurer.layer_rows[lane]}
        if status == "done":  # after a divergence, weights are nan
            weights = {name: tensor.numpy() for name, tensor in measurer.stack.network.weights(lane).items()}
            results |= {"layers": measurer.layers(lane), "neurons": measurer.neurons(lane), "weights": weights}
        self.end(lane, status=status, **results)

    def end(self, lane: int, **ended: Any) -> None:
        """Report that a lane has ended, with its rows so far and the fields of its record in `ended`."""
        run, rows = self.runs[lane], self._measurer.rows[lane] if self._measurer is not None else []
        self._events.on_end(run, record_of(run, epochs=rows, **ended))
        self._open.discard(lane)

    def checkpoint(self) -> None:
        """Report a checkpoint of every unfinished lane."""
        self._last_checkpoint = time.monotonic()
        if self._measurer is not None and self._measurer.epoch >= 0:
            for lane in sorted(self._open):
                self._events.on_checkpoint(self.runs[lane], checkpoint.save_lane(self._measurer, lane))

    def halves(self) -> list[_TrainingStack]:
        """Return two stacks of half the runs each, which start over."""
        half = len(self.runs) // 2
        parts = (self.runs[:half], self.runs[half:])
        return [_TrainingStack(part, self._arrays, self._checkpoints, self._events) for part in parts]
