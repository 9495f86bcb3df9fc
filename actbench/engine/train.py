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
from actbench.engine import checkpoint, cuda
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.engine.machine import WithProvenance
from actbench.engine.measure import Measurer, diverged
from actbench.events import Events, last_line, record_of

_CHECKPOINT_EVERY_S = 60.0
_CHECKPOINT_SHARE = 0.05  # of a stack's time, at most


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
    interrupted runs continue; one that does not fit is reported, and its run starts from the beginning. A stack of
    several lanes that runs out of device memory is split in two that start over, and a note says so; any other
    exception ends the stack's unfinished runs as failed. `stop` is asked after every epoch: if it says yes, each
    unfinished lane reports a checkpoint and the function returns. Events come from one thread at a time, not always
    the caller's. If an event's method raises, the run that it was about fails.
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
    groups = stacks_of(runs, epochs_done, device)
    # Before any work is shared: OpenMP's threads flush denormals only if the thread that creates them does.
    with cuda.training_on(device), compute.training_thread():
        _train_stacks(groups, dataset, device, usable, events, threads, stop)  # its memory is free when it returns


def _train_stacks(
    groups: Sequence[Sequence[Run]],
    dataset: Dataset,
    device: torch.device,
    checkpoints: Mapping[str, bytes],
    events: Events,
    threads: int,
    stop: Callable[[], bool],
) -> None:
    """Train each group of runs as one stack, `threads` of them at the same time unless a device trains them."""
    workers = 1 if cuda.stacks_lanes(device) else min(threads, len(groups))
    with compute.spread(threads if workers == 1 else 1):  # threads created here would slow down several workers
        arrays = Arrays.of(dataset, groups[0][0].variant, device)
    stacks = [_TrainingStack(group, arrays, checkpoints, events) for group in groups]
    # A device computes one chunk of images after the other: a chunk per thread would only fill its memory.
    queue = _Queue(stacks, stop, 1 if cuda.stacks_lanes(device) else threads)
    if workers == 1:
        queue.work()
    else:
        with ThreadPoolExecutor(workers, "lane", initializer=compute.configure_thread) as pool:
            for future in [pool.submit(queue.work) for _ in range(workers)]:
                future.result()
    for stack in queue.waiting:
        stack.checkpoint()


def stacks_of(runs: Sequence[Run], epochs_done: Mapping[str, int], device: torch.device) -> list[list[Run]]:
    """Divide a lane group into stacks: on CPU each run alone, on CUDA the runs that are at the same epoch."""
    if not cuda.stacks_lanes(device):
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
        successors: list[_TrainingStack] = []
        try:
            if stack.take_turn(max(1, self._threads // self._open)):  # no other stack needs these threads
                successors = [stack]
        except Exception as error:
            if len(stack.runs) > 1 and cuda.is_out_of_memory(error):
                successors = stack.halves(error)
            else:
                stack.fail(traceback.format_exc())
        self._open += len(successors) - 1
        if successors != [stack]:
            stack.release()
        if cuda.stacks_lanes(stack.device):  # a stack keeps the device's memory to itself until it ends
            self.waiting.extendleft(reversed(successors))
        else:
            self.waiting.extend(successors)


class _TrainingStack:
    """A stack of runs that train together, one epoch in each turn, and report what happens to `events`."""

    def __init__(self, runs: Sequence[Run], arrays: Arrays, checkpoints: Mapping[str, bytes], events: Events) -> None:
        self.runs, self.device = list(runs), arrays.train_images.device
        self._arrays, self._checkpoints, self._events = arrays, checkpoints, events
        self._measurer: Measurer | None = None
        self._open = set(range(len(self.runs)))
        self._next_checkpoint = time.monotonic() + _CHECKPOINT_EVERY_S

    def take_turn(self, threads: int) -> bool:
        """Train and measure one epoch (first: measure the untrained network); return whether any lane continues."""
        measurer = self._measurer = self._measurer or self._begin()
        measurer.stack.network.threads = threads
        if measurer.epoch < 0:
            measurer.measure(None, 0.0)
        elif measurer.epoch < self.runs[0].variant.epochs:
            started = time.perf_counter()
            losses = measurer.stack.train_epoch(measurer.epoch + 1)
            cuda.wait_for(self.device)
            measurer.measure(losses, time.perf_counter() - started)
        for lane in sorted(self._open):
            try:
                self._report(lane, measurer)
            except Exception:  # raised by whoever watches this run
                self.end(lane, status="failed", error=traceback.format_exc())
        if self._open and (started := time.monotonic()) > self._next_checkpoint:
            self.checkpoint()
            ended = time.monotonic()
            rest_s = (ended - started) * (1 / _CHECKPOINT_SHARE - 1)
            self._next_checkpoint = ended + max(_CHECKPOINT_EVERY_S, rest_s)
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
            results["predictions"] = measurer.predictions(lane)
        self.end(lane, status=status, **results)

    def end(self, lane: int, **ended: Any) -> None:
        """Report that a lane has ended, with its rows so far and the fields of its record in `ended`."""
        run, rows = self.runs[lane], self._measurer.rows[lane] if self._measurer is not None else []
        self._events.on_end(run, record_of(run, epochs=rows, **ended))
        self._open.discard(lane)

    def checkpoint(self) -> None:
        """Report a checkpoint of every unfinished lane."""
        if self._measurer is not None and self._measurer.epoch >= 0:
            for lane in sorted(self._open):
                self._events.on_checkpoint(self.runs[lane], checkpoint.save_lane(self._measurer, lane))

    def fail(self, error: str) -> None:
        """Report that all unfinished lanes have failed with the traceback `error`."""
        for lane in sorted(self._open):
            self.end(lane, status="failed", error=error)

    def halves(self, error: Exception) -> list[_TrainingStack]:
        """Return two stacks of half the runs each, which start over; a note says that `error` is the reason."""
        half = -(-len(self.runs) // 2)
        parts = (self.runs[:half], self.runs[half:])
        why = last_line(str(error).partition(". ")[0])
        self._events.on_note(
            f"{len(self.runs)} lanes do not fit into the memory of {self.device} ({why}); they start over as "
            f"{' and '.join(str(len(part)) for part in parts)} lanes, one part after the other"
        )
        return [_TrainingStack(part, self._arrays, self._checkpoints, self._events) for part in parts]

    def release(self) -> None:
        """Free the memory of a stack that has ended or was split."""
        self._measurer = None
        if cuda.stacks_lanes(self.device):
            cuda.free_memory()
