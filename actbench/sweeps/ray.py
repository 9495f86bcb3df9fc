"""The executor on a Ray cluster: one task per lane group, and this process, the driver, stores the results.

The driver claims the runs, sends data and checkpoints to the tasks, and alone writes results and checkpoints, so the
nodes need no shared folder. A task that is lost with its worker or node starts again elsewhere, from the last
checkpoints. Only this module imports Ray, when it connects. It starts nothing on a cluster but worker processes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import actbench
from actbench.config import Run
from actbench.datasets import Dataset, OwnData
from actbench.errors import UsageError
from actbench.events import Events
from actbench.store.claim import most_claims
from actbench.sweeps.plan import Node, RunRecorder, TaskSize, failed_record, task_groups

_QUEUED = 2  # tasks beyond those that fit: they start the moment that others end
_RETRIES = 3
_POLL_S, _BATCH_S, _LOOK_S, _CHECK_S, _CONNECT_S = 0.1, 0.1, 5.0, 120.0, 10.0


class Cluster:
    """A cluster that this process, its driver, is connected to through the package `ray`."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    def __str__(self) -> str:
        nodes = self.nodes()
        return f"nodes: {len(nodes)}, CPUs: {sum(n.cpus for n in nodes)}, GPUs: {sum(n.gpus for n in nodes)}"

    def nodes(self) -> list[Node]:
        """Return the living nodes that have CPUs."""
        alive = [(n["NodeID"], n["NodeManagerAddress"], n["Resources"]) for n in self.ray.nodes() if n["Alive"]]
        found = [Node(node_id, at, int(has.get("CPU", 0)), int(has.get("GPU", 0))) for node_id, at, has in alive]
        return [node for node in found if node.cpus]

    def check_versions(self, events: Events) -> None:
        """Raise UsageError if a node lacks this actbench; note if nodes have different versions of torch."""
        here, *torches = _versions()
        ask = self.ray.remote(num_cpus=0, max_retries=0)(_versions)
        for node, answer in [(node, self.call_on(node.node_id, ask)) for node in self.nodes()]:
            try:
                version, torch = self.ray.get(answer, timeout=_CHECK_S)
                problem = f"has actbench {version}" if version != here else ""
                torches.append(torch)
            except self.ray.exceptions.RayError as error:
                problem = f"cannot run actbench: {_reason(error)}"
            if problem:
                raise UsageError(f"the Ray node {node.address} {problem}; install actbench {here} on every node")
        if len(set(torches)) > 1:
            events.on_note(f"nodes have different versions of torch: {', '.join(sorted(set(torches)))}")

    def call_on(self, node_id: str, remote: Any) -> Any:
        """Call a remote function, or make an actor, on that node and no other."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote()


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Connect to the cluster at `address`, else to the one that Ray finds here, else start one on this machine.

    Raises UsageError if Ray is not installed or no cluster answers.
    """
    # Before Ray is imported: no usage reports, and tasks without a GPU leave the GPU's variables alone.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"the Ray address {address}: Ray's client cannot stream results; run actbench on a machine of the "
            "cluster (ray start --address=HOST:6379 --num-cpus=0 adds this one to it) and use HOST:6379"
        )
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray ({error}); install it with: pip install 'actbench[ray]'") from None
    with contextlib.ExitStack() as stack:
        # Ray prints the last words of dying nodes on stdout, which belongs to results.
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            _connect(ray, address)
        yield Cluster(ray)


def _connect(ray: Any, address: str | None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (None, "auto", "local"):  # Ray itself would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, OverflowError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address or 'any address'} ({_reason(error)}); give HOST:PORT of the head "
            "node, such as 10.0.0.1:6379; if the cluster asks for a token, set RAY_AUTH_MODE=token here, too"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray would end the process at once; we keep checkpoints first


def _reason(error: BaseException) -> str:
    """Return the most telling line of one of Ray's long errors: the last one of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    is_traceback = hasattr(error, "cause") and lines
    return (lines[-1] if is_traceback else ": ".join([type(error).__name__, *lines[:1]]))[:300]


@contextlib.contextmanager
def executor(recorder: RunRecorder) -> Iterator[Callable[[Sequence[Run]], list[Run]]]:
    """Connect to the cluster and give the function that trains runs there. Raises UsageError."""
    with connected(recorder.options.ray_address) as cluster:
        cluster.check_versions(recorder)
        yield _Driver(cluster, recorder).train


@dataclass(eq=False)
class _Flight:
    """A lane group on its way through the cluster. `lost` counts its tasks that broke since its last checkpoint."""

    runs: list[Run]
    size: TaskSize
    lost: int = 0
    is_claimed: bool = False
    has_begun: bool = False


class _Driver:
    """Keeps tasks in flight and passes their events to the recorder."""

    def __init__(self, cluster: Cluster, recorder: RunRecorder) -> None:
        self._ray, self._cluster, self._recorder = cluster.ray, cluster, recorder
        self._task = self._ray.remote(num_returns="streaming", max_retries=0)(train_stream)
        here = self._ray.get_runtime_context().get_node_id()
        self._stop_flag = cluster.call_on(here, self._ray.remote(num_cpus=0)(threading.Event))
        self._data: dict[str | OwnData, Any] = {}
        self._waiting: list[_Flight] = []
        self._flying: dict[Any, _Flight] = {}
        self._nodes: list[Node] = []
        self._looked_at = -_LOOK_S

    def train(self, runs: Sequence[Run]) -> list[Run]:
        """Train the runs; return those that other processes hold."""
        recorder, held = self._recorder, []
        self._waiting = [
            _Flight(group, size) for size, group in task_groups(runs, recorder.options, self._cluster.nodes())
        ]
        sizes = dict.fromkeys(flight.size for flight in self._waiting)
        tasks = ", ".join(f"{size.slots(self._cluster.nodes())} at a time with {size}" for size in sizes)
        recorder.on_note(f"training on Ray ({self._cluster}); tasks: {tasks}")
        with recorder.claims:
            while self._waiting or self._flying:
                if not recorder.report.stopped and recorder.should_stop():
                    self._wind_up()
                self._look()
                while flight := next((one for one in self._waiting if self._has_room(one)), None):
                    self._waiting.remove(flight)
                    if not flight.is_claimed:
                        flight.runs, others = recorder.claim(flight.runs)
                        held += others
                    if flight.runs:
                        self._launch(flight)
                self._listen()
        recorder.should_stop()
        return held

    def _look(self) -> None:
        """Look up the nodes from time to time: they come and go."""
        if self._recorder.report.stopped or time.monotonic() - self._looked_at < _LOOK_S:
            return
        before, self._nodes, self._looked_at = self._nodes, self._cluster.nodes(), time.monotonic()
        if before and not self._nodes:
            self._recorder.on_note("the Ray cluster has no nodes left; waiting for one (press Ctrl-C to stop)")

    def _has_room(self, flight: _Flight) -> bool:
        flying = list(self._flying.values())
        if flying and not flight.is_claimed and sum(len(one.runs) for one in [*flying, flight]) > most_claims():
            return False
        return sum(one.size == flight.size for one in flying) < flight.size.slots(self._nodes) + _QUEUED

    def _launch(self, flight: _Flight) -> None:
        recorder, dataset = self._recorder, flight.runs[0].variant.dataset
        if dataset not in self._data:
            self._data[dataset] = self._ray.put(recorder.datasets[dataset])
        given = (self._data[dataset], flight.size, recorder.checkpoints(flight.runs), recorder.options.tf32)
        resources = {"num_cpus": flight.size.threads, "num_gpus": int(flight.size.device == "cuda")}
        stream = self._task.options(**resources).remote(flight.runs, *given, self._stop_flag)
        flight.is_claimed, flight.has_begun = True, False
        self._flying[stream] = flight

    def _listen(self) -> None:
        """Take one batch of events from each task that has one."""
        streams = list(self._flying)
        ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=_POLL_S) if streams else ([], [])
        for stream in ready:
            flight = self._flying[stream]
            try:
                batch = self._ray.get(next(stream))
            except StopIteration:
                self._lost(stream, "its task ended early")
            except self._ray.exceptions.RayError as error:
                self._lost(stream, _reason(error))
            else:
                flight.has_begun = True
                for event, details in batch:
                    if event == "on_checkpoint":
                        flight.lost = 0
                    getattr(self._recorder, event)(*details)

    def _lost(self, stream: Any, why: str) -> None:
        """Train the open runs of a lost task again: together, then one by one; after three retries they fail."""
        recorder, flight = self._recorder, self._flying.pop(stream)
        flight.runs = [run for run in flight.runs if recorder.is_open(run)]
        if not flight.runs or recorder.report.stopped:
            return
        flight.lost += 1
        if flight.lost > _RETRIES:
            for run in flight.runs:
                recorder.on_end(run, failed_record(run, f"lost {flight.lost} times in training; the last time: {why}"))
            return
        what = f"{len(flight.runs)} runs were" if len(flight.runs) > 1 else f"{flight.runs[0].run_id} was"
        recorder.on_note(f"{what} lost in training ({why}); training continues from the last checkpoint")
        parts = [flight.runs] if flight.lost == 1 else [[run] for run in flight.runs]  # one may be what breaks all
        self._waiting[:0] = [_Flight(part, flight.size, flight.lost, is_claimed=True) for part in parts]

    def _wind_up(self) -> None:
        """Tell the tasks in training to stop after the epoch; take back those that have not begun."""
        self._stop_flag.set.remote()
        self._waiting.clear()
        for stream in [stream for stream, flight in self._flying.items() if not flight.has_begun]:
            self._ray.cancel(stream, force=True)
            del self._flying[stream]


# What follows runs on the nodes. It reads and writes no files.


def _versions() -> tuple[str, str]:
    import torch

    return actbench.__version__, torch.__version__


class _Outbox(Events):
    """Keeps events, each a method of `Events` and its arguments, until they are sent."""

    def __init__(self) -> None:
        self.events: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()

    def on_event(self, event: str, *details: Any) -> None:
        self.events.put((event, details))


def train_stream(
    runs: Sequence[Run], dataset: Dataset, size: TaskSize, checkpoints: Mapping[str, bytes], tf32: bool, stop_flag: Any
) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Train a lane group and yield its events in batches."""
    import ray

    from actbench import engine

    @functools.lru_cache(1)
    def is_told_to_stop(half_second: int) -> bool:  # so it asks the driver at most twice a second
        try:
            return bool(ray.get(stop_flag.is_set.remote()))
        except ray.exceptions.RayError:  # the driver is gone, so nobody can hear the end
            return True

    outbox, given_up = _Outbox(), threading.Event()
    how: dict[str, Any] = {"device": engine.pick_device(size.device), "threads": size.threads, "events": outbox}
    how |= {"stop": lambda: given_up.is_set() or is_told_to_stop(int(2 * time.monotonic()))}
    engine.configure(tf32=tf32)
    with ThreadPoolExecutor(1, "actbench") as pool:  # not in the main thread: while that waits, Ray lends its CPUs out
        training, ended = pool.submit(engine.train_lanes, runs, dataset, checkpoints=checkpoints, **how), False
        try:
            while not ended:
                ended = wait([training], timeout=_BATCH_S).done != set()
                if batch := [outbox.events.get() for _ in range(outbox.events.qsize())]:
                    yield batch
            training.result()
        finally:  # also if the driver has given this task up
            given_up.set()
