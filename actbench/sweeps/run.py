"""The spine: `run` trains the open runs of a plan and stores each one as it ends.

The command line, the Python interface, claims and `reproduce` all call it. An executor decides where lane groups
train: in this process (below) or on a Ray cluster (`sweeps.ray`). `Interrupts` turns Ctrl-C into its `stop`.
"""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

from actbench import datasets
from actbench.config import Run
from actbench.events import Events
from actbench.store import MIN_FREE_BYTES, Store
from actbench.store.claim import most_claims
from actbench.sweeps.plan import Options, Plan, Report, RunRecorder, cpu_lanes, lane_groups

if TYPE_CHECKING:
    import torch

_POLL_S = 0.2
_STOPPING = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def run(plan: Plan, store: Store, options: Options, events: Events, stop: Callable[[], bool] = lambda: False) -> Report:
    """Train the open runs of a plan and store each one as it ends.

    If no run is open, this only brings runs.csv up to date. Runs that another process is training are waited for, and
    taken over if that process dies. `stop` is asked after every epoch; unfinished runs then keep a checkpoint.
    Raises DataError, DeviceError, StoreError or UsageError before training if the problem can be known then.
    """
    recorder = RunRecorder(plan, store, options, events, stop)
    report = recorder.report
    if not plan.open:
        store.catch_up()
        return report
    here = nullcontext(functools.partial(train_here, recorder=recorder))
    with _on_ray(recorder) if options.executor == "ray" else here as train:
        store.prepare(MIN_FREE_BYTES + sum(4 * run.variant.parameter_count for run in plan.open))  # float32 weights
        folder = datasets.data_folder(options.data_dir)
        load = functools.partial(datasets.load, folder=folder, offline=options.offline, mirror=options.mirror)
        for dataset in dict.fromkeys(run.variant.dataset for run in plan.open):
            recorder.datasets[dataset] = load(dataset, progress=events.on_download, note=events.on_note)
        waiting = plan.open
        while waiting and not report.stopped:
            held = train(waiting)
            report.elsewhere += [run.run_id for run in held if store.result(run.run_id) is not None]
            waiting = [run for run in held if run.run_id not in report.elsewhere]
            if waiting and not report.stopped:
                time.sleep(_POLL_S)
                recorder.should_stop()
    return report


def _on_ray(recorder: RunRecorder) -> AbstractContextManager[Callable[[Sequence[Run]], list[Run]]]:
    from actbench.sweeps import ray

    return ray.executor(recorder)


def train_here(runs: Sequence[Run], recorder: RunRecorder) -> list[Run]:
    """Train the runs in this process, one lane group after the other; return those that other processes hold."""
    from actbench import engine  # imports torch, which loading the data has done by now, while it was reading

    options = recorder.options
    engine.configure(tf32=options.tf32)
    threads = threads_of(options)
    if not (recorder.report.trained or recorder.report.failed):
        threads_of(options, recorder.on_note)
        if any(run.variant.device == "auto" for run in runs):
            recorder.on_note(f"training on {engine.pick_device('auto')} (device: auto)")
    held: list[Run] = []
    for device, group in local_groups(runs, options):
        if recorder.should_stop():
            break
        with recorder.claims:
            ours, others = recorder.claim(group)
            held += others
            if ours:
                engine.train_lanes(
                    ours,
                    recorder.datasets[ours[0].variant.dataset],
                    device=device,
                    threads=threads,
                    checkpoints=recorder.checkpoints(ours),
                    events=recorder,
                    stop=recorder.should_stop,
                )
    recorder.should_stop()
    return held


def threads_of(options: Options, note: Callable[[str], object] = lambda _: None) -> int:
    """Return how many threads train in this process; if they are fewer than asked for, say so through `note`."""
    from actbench import compute

    return compute.allowed_threads(options.threads, note)


def local_groups(runs: Sequence[Run], options: Options) -> Iterator[tuple[torch.device, list[Run]]]:
    """Yield the lane groups in the order in which they train here, device by device. Raises DeviceError."""
    from actbench import engine

    threads = threads_of(options)
    devices = {name: engine.pick_device(name) for name in sorted({run.variant.device for run in runs})}
    for name, device in devices.items():
        members = [run for run in runs if run.variant.device == name]
        lanes = engine.lanes_that_fit(device, members, threads)
        if device.type == "cpu":
            lanes = min(lanes, cpu_lanes(threads))
        for group in lane_groups(members, min(options.lanes or lanes, most_claims()), device.type):
            yield device, group


class Interrupts(AbstractContextManager["Interrupts"]):
    """Lets Ctrl-C, SIGTERM and SIGHUP end training after an epoch, with a checkpoint. It is itself the `stop` of `run`.

    The first signal is announced through `say`, and the second one ends the process at once. A signal that the process
    ignores, such as SIGHUP under nohup, stays ignored. Without `say`, training is part of someone else's program: only
    Ctrl-C is handled, and a second one goes to the program's own handler. Only the main thread can handle signals;
    elsewhere this does nothing.
    """

    def __init__(
        self,
        say: Callable[[str], object] | None = None,
        message: str = "stopping after this epoch and keeping a checkpoint; press Ctrl-C again to stop at once",
    ) -> None:
        self.signal = 0
        self._say, self._message = say, message
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """The exit code of a process that stopped because of the signal, 0 without one."""
        return 128 + self.signal if self.signal else 0

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING if self._say else (signal.SIGINT,):
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                    self._before[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        for one, handler in self._before.items():
            signal.signal(one, signal.SIG_DFL if self._say else handler)
        if self._say:
            self._say(self._message)
