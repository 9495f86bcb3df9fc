"""train_lanes() trains runs side by side and measures them after every epoch; a resumed run ends bit-identical.

Only this package touches devices and torch's global settings. It writes no files: it reports what happens to `Events`.

On CPU every lane is a stack of its own. The lanes take turns of one epoch on the available threads; threads that no
lane needs share the products of the other lanes, without changing their bits (see `compute`). One network's state fits
into the caches, and nothing computed for a lane depends on the lanes beside it or on the number of threads: a run's
bits are a function of its config and seed alone. On CUDA all lanes of a group form one stack.
"""

from __future__ import annotations

import ctypes
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from actbench.compute import configure_thread, free_memory, spread, training_thread
from actbench.config import Run
from actbench.datasets import INPUTS, Dataset
from actbench.engine import checkpoint
from actbench.engine.lanes import Arrays, LaneStack
from actbench.engine.measure import SAMPLE, Measurer, diverged
from actbench.engine.provenance import WithProvenance
from actbench.errors import DeviceError
from actbench.events import Events, record_of

_CHECKPOINT_EVERY_S = 60.0
_MOST_LANES = 1024


class _Turn:
    """The runs of one stack, which take their turns together, and the stack once it exists."""

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
                checkpoint.restore_lane(stack, measurer, lane, checkpoints[run.run_id])
        return measurer

    def take(self, arrays: Arrays, checkpoints: Mapping[str, bytes], events: Events, threads: int) -> bool:
        """Train and measure one epoch (first: measure the untrained network); return whether any lane continues."""
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
            self._report(lane, measurer, events)
        if self._open and time.monotonic() - self._last_checkpoint > _CHECKPOINT_EVERY_S:
            self.checkpoint(events)
        return bool(self._open)

    def _report(self, lane: int, measurer: Measurer, events: Events) -> None:
        run, rows = self.runs[lane], measurer.rows[lane]
        events.on_epoch(run, rows[-1])
        is_diverged = diverged(rows[-1])
        if not is_diverged and measurer.epoch < run.variant.epochs:
            return
        ended: dict[str, Any] = {
            "status": "diverged" if is_diverged else "done",
            "epochs": rows,
            "metrics": measurer.final_metrics(lane),
            "layer_rows": measurer.layer_rows[lane],
        }
        if not is_diverged:  # else they are all nan
            weights = measurer.stack.network.weights(lane)
            ended["weights"] = {name: tensor.numpy() for name, tensor in weights.items()}
            ended |= {"layers": measurer.layers(lane), "neurons": measurer.neurons(lane)}
        events.on_end(run, record_of(run, **ended))
        self._open.discard(lane)

    def checkpoint(self, events: Events) -> None:
        """Report a checkpoint of every unfinished lane."""
        self._last_checkpoint = time.monotonic()
        if self.measurer is not None and self.measurer.epoch >= 0:
            for lane in sorted(self._open):
                events.on_checkpoint(self.runs[lane], checkpoint.save_lane(self.measurer.stack, self.measurer, lane))


class _Queue:
    """The turns that are waiting, shared by the threads that take them."""

    def __init__(
        self,
        turns: Sequence[_Turn],
        arrays: Arrays,
        checkpoints: Mapping[str, bytes],
        events: Events,
        stop: Callable[[], bool],
        threads: int,
    ) -> None:
        self.waiting = deque(turns)
        self._open, self._threads = len(turns), threads
        self._arrays, self._checkpoints, self._events, self._stop = arrays, checkpoints, events, stop
        self._on_cpu = arrays.train_images.device.type == "cpu"
        self._broken = False

    def work(self) -> None:
        """Take one turn after another until none is waiting or training must stop."""
        while not self._broken and not self._stop():
            try:
                turn = self.waiting.popleft()
            except IndexError:
                return  # other threads continue with the turns that they are taking
            try:
                self._take(turn)
            except BaseException:
                self._broken = True
                raise

    def _take(self, turn: _Turn) -> None:
        share = max(1, self._threads // self._open)  # no other turn needs these threads
        try:
            goes_on = turn.take(self._arrays, self._checkpoints, self._events, share)
        except Exception:
            if len(turn.runs) == 1:
                self._open -= 1
                rows = turn.measurer.rows[0] if turn.measurer is not None else []
                error = traceback.format_exc()
                self._events.on_end(turn.runs[0], record_of(turn.runs[0], status="failed", epochs=rows, error=error))
            else:
                half = len(turn.runs) // 2
                self._open += 1
                self.waiting.extendleft([_Turn(turn.runs[half:]), _Turn(turn.runs[:half])])
        else:
            if goes_on:
                # CPU lanes take turns; a CUDA stack keeps the device's memory to itself until it ends.
                self.waiting.append(turn) if self._on_cpu else self.waiting.appendleft(turn)
            else:
                self._open -= 1


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
    usable: dict[str, bytes] = {}
    epochs_done = {run.run_id: 0 for run in runs}
    for run in runs:
        try:
            if (data := (checkpoints or {}).get(run.run_id)) is not None:
                epochs_done[run.run_id], usable[run.run_id] = checkpoint.epochs_done(data), data
        except ValueError as error:
            events.on_note(f"{run.run_id} starts from the beginning: its checkpoint does not fit, {error}")
        events.on_start(run, epochs_done[run.run_id])
    turns = [_Turn(stack) for stack in stacks_of(runs, epochs_done, device.type)]
    workers = min(threads, len(turns)) if device.type == "cpu" else 1
    # Before any work is shared: OpenMP's threads flush denormals only if the thread that creates them does.
    with training_thread():
        with spread(threads if workers == 1 else 1):  # threads created here would only slow down several workers
            arrays = Arrays.of(dataset, runs[0].variant, device)
        queue = _Queue(turns, arrays, usable, events, stop, threads)
        if workers == 1:
            queue.work()
        else:
            with ThreadPoolExecutor(workers, "lane", initializer=configure_thread) as pool:
                for future in [pool.submit(queue.work) for _ in range(workers)]:
                    future.result()
        for turn in queue.waiting:
            turn.checkpoint(events)


def stacks_of(runs: Sequence[Run], epochs_done: Mapping[str, int], device: str) -> list[list[Run]]:
    """Divide a lane group into stacks: on CPU each run alone, on CUDA the runs that are at the same epoch."""
    if device == "cpu":
        return [[run] for run in runs]
    at = sorted(set(epochs_done.values()))
    return [[run for run in runs if epochs_done[run.run_id] == epoch] for epoch in at]


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names; `auto` chooses CUDA if it is available.

    Raises DeviceError if CUDA is requested but not available.
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
        used = max(used, 4 * 8 * (variant.batch_size + SAMPLE) * (widths + INPUTS))
    lanes = 0.75 * free / (kept + used) if device.type == "cuda" else (0.75 * free - threads * used) / kept
    return max(1, min(_MOST_LANES, int(lanes)))


def configure(*, tf32: bool = False) -> None:
    """Set the switches of this process once, before training: exact float32 products on CUDA or not, and allocation.

    With `tf32`, CUDA's tensor cores round their factors to 10 bits of mantissa: faster, but no longer float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keep glibc from returning every 1.6 MB gradient to the system and paging it in again in each step."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc, so there is nothing to set
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, 1 << 30)
