"""train_lanes(): runs side by side, measured after every epoch, resumable to the bit (layer 3).

Imports stack, measure, checkpoint and torch; typed variants, never YAML. With `stack`, the only module that
touches devices and torch's global settings. Writes no files: what happens is told to a `Listener`.

On CPU every lane is a stack of its own, and the lanes take turns on as many threads as there are, an epoch each;
threads that no lane needs share the products of the others, without a change of their bits (see `compute`).
One network's state fits the caches, and nothing that is computed for a lane can depend on what trains beside it or
on how many threads there are: that is how a run's bits are a function of its config and seed alone. On CUDA all
lanes of a group are one stack.
"""

from __future__ import annotations

import ctypes
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from actbench.compute import configure_thread, free_memory, spread, training_thread
from actbench.config import Run
from actbench.datasets import CLASSES, INPUTS, Dataset
from actbench.engine.checkpoint import restore_lane, save_lane
from actbench.engine.lanes import Arrays, LaneStack
from actbench.engine.measure import SAMPLE, Measurer, Row, diverged
from actbench.errors import DeviceError
from actbench.model import Structure

_CHECKPOINT_EVERY_S = 60.0
_MOST_LANES = 1024


@dataclass
class Outcome:
    """How one run ended: plain data, nothing derived. `layer_rows` has a row an epoch and layer, as layers.csv has it.

    `status`: "done", "diverged" (a loss became non-finite: `rows` ends with that epoch) or "failed" (`error`
    holds the traceback). `metrics` are those after the last epoch. A diverged or failed run has no `layers`,
    `neurons` and `weights`: they are nan, or lost.
    """

    status: Literal["done", "diverged", "failed"]
    rows: list[Row]
    metrics: Row = field(default_factory=dict)
    layers: list[Row] = field(default_factory=list)
    layer_rows: list[Row] = field(default_factory=list)
    neurons: list[Row] = field(default_factory=list)
    weights: dict[str, Tensor] | None = None
    error: str | None = None


class Listener(Protocol):
    """What `train_lanes` tells while it works. A method that raises fails the run that it was told about."""

    def on_epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been trained and measured (epoch 0: the untrained network)."""

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """`data` brings `run` back to where it is now."""

    def on_end(self, run: Run, outcome: Outcome) -> None:
        """`run` has ended."""


class _Turn:
    """The runs of one stack, which take their turn together, and the stack once it exists."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.measurer: Measurer | None = None
        self._open = set(range(len(self.runs)))
        self._last_checkpoint = time.monotonic()

    def begin(self, arrays: Arrays, checkpoints: Mapping[str, bytes]) -> Measurer:
        stack = LaneStack(self.runs, arrays)
        measurer = Measurer(stack)
        for lane, run in enumerate(self.runs):
            if run.run_id in checkpoints:
                restore_lane(stack, measurer, lane, checkpoints[run.run_id])
        return measurer

    def take(self, arrays: Arrays, checkpoints: Mapping[str, bytes], listener: Listener, threads: int) -> bool:
        """Train and measure one epoch (the first turn measures the untrained network); whether any lane goes on."""
        if self.measurer is None:
            self.measurer = self.begin(arrays, checkpoints)
        measurer = self.measurer
        measurer.stack.network.threads = threads
        if measurer.epoch < 0:
            measurer.measure(None, 0.0)
        elif measurer.epoch < self.runs[0].variant.epochs:
            started = time.perf_counter()
            losses = measurer.stack.train_epoch(measurer.epoch + 1)
            measurer.measure(losses, time.perf_counter() - started)
        for lane in sorted(self._open):
            self._report(lane, measurer, listener)
        if self._open and time.monotonic() - self._last_checkpoint > _CHECKPOINT_EVERY_S:
            self.checkpoint(listener)
        return bool(self._open)

    def _report(self, lane: int, measurer: Measurer, listener: Listener) -> None:
        run, rows = self.runs[lane], measurer.rows[lane]
        listener.on_epoch(run, rows[-1])
        if diverged(rows[-1]):
            by_layer = measurer.layer_rows[lane]
            listener.on_end(run, Outcome("diverged", rows, measurer.final_metrics(lane), layer_rows=by_layer))
        elif measurer.epoch == run.variant.epochs:
            weights = measurer.stack.network.weights(lane)
            parts = (measurer.layers(lane), measurer.layer_rows[lane], measurer.neurons(lane), weights)
            listener.on_end(run, Outcome("done", rows, measurer.final_metrics(lane), *parts))
        else:
            return
        self._open.discard(lane)

    def checkpoint(self, listener: Listener) -> None:
        """Hand out a checkpoint of every lane that goes on."""
        self._last_checkpoint = time.monotonic()
        if self.measurer is not None and self.measurer.epoch >= 0:
            for lane in sorted(self._open):
                listener.on_checkpoint(self.runs[lane], save_lane(self.measurer.stack, self.measurer, lane))


class _Rota:
    """The turns that wait, shared by the threads that take them."""

    def __init__(
        self,
        turns: Sequence[_Turn],
        arrays: Arrays,
        checkpoints: Mapping[str, bytes],
        listener: Listener,
        stop: Callable[[], bool],
        threads: int,
    ) -> None:
        self.waiting = deque(turns)
        self._open, self._threads = len(turns), threads
        self._arrays, self._checkpoints, self._stop = arrays, checkpoints, stop
        self._listener = _OneAtATime(listener)
        self._on_cpu = arrays.train_images.device.type == "cpu"
        self._broken = False

    def work(self) -> None:
        """Take one turn after the other until none waits, or training is to stop."""
        while not self._broken and not self._stop():
            try:
                turn = self.waiting.popleft()
            except IndexError:
                return  # the turns that others are taking now go on with them
            try:
                self._take(turn)
            except BaseException:
                self._broken = True
                raise

    def _take(self, turn: _Turn) -> None:
        share = max(1, self._threads // self._open)  # threads that no other turn needs
        try:
            goes_on = turn.take(self._arrays, self._checkpoints, self._listener, share)
        except Exception:
            if len(turn.runs) == 1:
                self._open -= 1
                rows = turn.measurer.rows[0] if turn.measurer is not None else []
                self._listener.on_end(turn.runs[0], Outcome("failed", rows, error=traceback.format_exc()))
            else:
                half = len(turn.runs) // 2
                self._open += 1
                self.waiting.extendleft([_Turn(turn.runs[half:]), _Turn(turn.runs[:half])])
        else:
            if goes_on:
                # CPU lanes take turns; a stack on CUDA has the device's memory to itself until it ends.
                self.waiting.append(turn) if self._on_cpu else self.waiting.appendleft(turn)
            else:
                self._open -= 1


class _OneAtATime:
    """A listener whose methods are never called by two threads at once."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._lock = listener, threading.Lock()

    def on_epoch(self, run: Run, row: Row) -> None:
        with self._lock:
            self._listener.on_epoch(run, row)

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        with self._lock:
            self._listener.on_checkpoint(run, data)

    def on_end(self, run: Run, outcome: Outcome) -> None:
        with self._lock:
            self._listener.on_end(run, outcome)


def train_lanes(
    runs: Sequence[Run],
    dataset: Dataset,
    *,
    device: torch.device,
    listener: Listener,
    threads: int = 1,
    checkpoints: Mapping[str, bytes] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train `runs`, which share dataset, limits, batch size, epochs and kind of optimizer, to their end.

    `threads` lanes are trained at the same time on CPU; fewer lanes share the threads. `checkpoints`, by run id,
    say where interrupted runs go on; on CUDA all of one call must stand at the same epoch. An exception in a
    stack of several lanes (out of memory, say) splits it in two that start over; in a lane alone it ends that
    run as failed. `stop` is asked after every epoch: when it says yes, each unfinished lane hands out a
    checkpoint and the function returns. The listener is called from one thread at a time, not always the
    caller's.
    """
    on_cpu = device.type == "cpu"
    turns = [_Turn([run]) for run in runs] if on_cpu else [_Turn(runs)]
    workers = min(threads, len(turns))
    # Before anything is shared: OpenMP's threads flush denormals when the thread that makes them does.
    with training_thread():
        with spread(threads if workers == 1 else 1):  # threads made here would only be in the way of several workers
            arrays = Arrays.of(dataset, runs[0].variant, device)
        rota = _Rota(turns, arrays, checkpoints or {}, listener, stop, threads)
        if workers == 1:
            rota.work()
        else:
            with ThreadPoolExecutor(workers, "lane", initializer=configure_thread) as pool:
                for future in [pool.submit(rota.work) for _ in range(workers)]:
                    future.result()
        for turn in rota.waiting:
            turn.checkpoint(listener)


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names; auto takes CUDA where it is.

    Raises DeviceError where CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"--device {name}: this torch ({torch.__version__}) sees no CUDA device; use cpu or auto")
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise DeviceError(f"--device {name}: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}")
    return device


def lanes_that_fit(device: torch.device, runs: Sequence[Run], threads: int = 1) -> int:
    """Return how many lanes of the widest run the free memory of the device holds (at least 1, at most 1,024).

    A lane holds its parameters, gradients and two moments. One that computes, on CPU no more than `threads` at the
    same time, also needs what one batch and the largest chunk that is measured leave in each layer. A quarter of the
    memory stays free for the images and the allocator. Where a CPU's free memory is not known, all fit.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if free is None:
        return _MOST_LANES
    kept, used = 0, 0
    for variant in dict.fromkeys(run.variant for run in runs):
        structure = Structure.of(variant, INPUTS, CLASSES)
        widths = sum((layer.pre + layer.post) * layer.positions for layer in structure.layers)
        kept = max(kept, 4 * 4 * structure.parameter_count)
        used = max(used, 4 * 8 * (variant.batch_size + SAMPLE) * (widths + INPUTS))
    lanes = 0.75 * free / (kept + used) if device.type == "cuda" else (0.75 * free - threads * used) / kept
    return max(1, min(_MOST_LANES, int(lanes)))


def configure(*, tf32: bool = False) -> None:
    """Set the process's switches once, before training: float32 products on CUDA exact or not, and allocation.

    With `tf32`, CUDA's tensor cores round what they multiply to 10 bits of mantissa: faster, and no longer float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Stop glibc from giving every 1.6 MB gradient back to the system and faulting it in again each step."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc: nothing to set
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, 1 << 30)
