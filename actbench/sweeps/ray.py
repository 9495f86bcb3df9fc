"""The executor on a Ray cluster: one task per lane group, and this process, the driver, stores the results.

The driver claims the runs, sends data and checkpoints to the tasks, and alone writes results and checkpoints, so the
nodes need no shared folder. A task that is lost with its worker or node starts again elsewhere, from the last
checkpoints. Only this module imports Ray, when it connects. It starts nothing on a cluster but worker processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import actbench
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.errors import DeviceError, UsageError
from actbench.events import Events
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.sweeps.plan import Options, cpu_lanes, lane_groups
from actbench.sweeps.recorder import RunRecorder, failed_record
from actbench.text import plural

_THREADS = 4  # per task: the threads of one process share an interpreter, and many would wait for each other
_CUDA_LANES = 128  # per task: its GPU's memory is unknown here; if it is too small, the engine halves the lanes
_QUEUED = 2  # tasks beyond those that fit: they start the moment that others end
_RETRIES = 3
_POLL_S, _LOOK_S, _CHECK_S, _CONNECT_S = 0.1, 5.0, 120.0, 10.0
_BATCH_S, _ASK_S = 0.1, 0.5


# --- the cluster ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskSize:
    """What one task takes of a node: a GPU or none, and CPUs, each with one thread."""

    device: str
    threads: int

    @property
    def resources(self) -> dict[str, int]:
        """The size in Ray's terms."""
        return {"num_cpus": self.threads, "num_gpus": int(self.device == "cuda")}

    def __str__(self) -> str:
        return f"{plural(self.threads, 'thread')} on {self.device}"


@dataclass(frozen=True)
class Node:
    """A living node: its id, its address, and what tasks may take of it."""

    node_id: str
    address: str
    cpus: int
    gpus: int

    def slots(self, size: TaskSize) -> int:
        """Return how many tasks of this size it trains at the same time."""
        slots = self.cpus // size.threads
        return min(slots, self.gpus) if size.device == "cuda" else slots


class Cluster:
    """A cluster that this process, its driver, is connected to."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    def __str__(self) -> str:
        nodes = self.nodes()
        cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
        return f"nodes: {len(nodes)}, CPUs: {cpus}, GPUs: {gpus}"

    def nodes(self) -> list[Node]:
        """Return the living nodes that have CPUs."""
        living = [(node, node["Resources"]) for node in self.ray.nodes() if node["Alive"]]
        return [
            Node(node["NodeID"], node["NodeManagerAddress"], int(has["CPU"]), int(has.get("GPU", 0)))
            for node, has in living
            if has.get("CPU", 0) >= 1
        ]

    def slots(self, size: TaskSize) -> int:
        """Return how many tasks of this size the cluster can train at the same time just now."""
        return sum(node.slots(size) for node in self.nodes())

    def groups(self, runs: Sequence[Run], options: Options) -> Iterator[tuple[TaskSize, list[Run]]]:
        """Yield the lane groups with the size of their tasks: as many as fit at once, or more of up to 16 lanes.

        Raises DeviceError if no node has room for a task.
        """
        sizes = {name: self._size(name, options) for name in sorted({run.variant.device for run in runs})}
        for name, size in sizes.items():
            members = [run for run in runs if run.variant.device == name]
            most = cpu_lanes(size.threads) if size.device == "cpu" else _CUDA_LANES
            lanes = options.lanes or min(most, -(-len(members) // self.slots(size)))
            for group in lane_groups(members, lanes, size.device):
                yield size, group

    def _size(self, device: str, options: Options) -> TaskSize:
        nodes = self.nodes()
        if device.startswith("cuda:"):
            raise DeviceError(f"device {device}: Ray chooses the GPU of a task; use cuda with --executor ray")
        on_cuda = device == "cuda" or (device == "auto" and any(node.gpus for node in nodes))
        nodes = [node for node in nodes if node.gpus or not on_cuda]
        if not nodes:
            missing = "GPU" if on_cuda else "CPU"
            raise DeviceError(f"device {device}: no node of the Ray cluster has a {missing}; see: ray status")
        threads = options.threads or (1 if on_cuda else min(_THREADS, *(node.cpus for node in nodes)))
        size = TaskSize("cuda" if on_cuda else "cpu", threads)
        if not any(node.slots(size) for node in nodes):
            most = max(node.cpus for node in nodes)
            raise DeviceError(f"--threads {threads}: no node of the Ray cluster has more than {most} CPUs")
        return size

    def check_versions(self, events: Events) -> None:
        """Raise UsageError if a node lacks this actbench; note if nodes have different versions of torch."""
        ask = self.ray.remote(num_cpus=0, max_retries=0)(node_versions)
        asked = [(node, ask.options(scheduling_strategy=on_node(node.node_id)).remote()) for node in self.nodes()]
        torches = {node_versions()[1]}
        for node, answer in asked:
            try:
                version, torch = self.ray.get(answer, timeout=_CHECK_S)
            except self.ray.exceptions.RayError as error:
                raise UsageError(
                    f"the Ray node {node.address} cannot run actbench: {reason(error)}; "
                    f"install actbench {actbench.__version__} on every node"
                ) from None
            if version != actbench.__version__:
                raise UsageError(
                    f"the Ray node {node.address} has actbench {version}, this is {actbench.__version__}; "
                    "install the same version everywhere"
                )
            torches.add(torch)
        if len(torches) > 1:
            events.on_note(f"nodes have different versions of torch: {', '.join(sorted(torches))}")


def on_node(node_id: str) -> Any:
    """Return what makes Ray run something on that node and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def reason(error: BaseException) -> str:
    """Return the most telling line of one of Ray's long errors: the last one of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if hasattr(error, "cause") and lines:
        return lines[-1][:300]
    return ": ".join([type(error).__name__, *lines[:1]])[:300]


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
    if address not in (None, "auto", "local"):  # Ray itself would try for minutes
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UsageError(
                f"no Ray cluster answers at {address!r} ({error}); "
                "give HOST:PORT of the head node, such as 10.0.0.1:6379"
            ) from None
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(
            f"cannot connect to a Ray cluster (address: {address or 'none'}): {reason(error)}; "
            "if the cluster asks for a token, set RAY_AUTH_MODE=token here, too"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray would end the process at once; we keep checkpoints first


# --- the driver ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def executor(recorder: RunRecorder) -> Iterator[Callable[[Sequence[Run]], list[Run]]]:
    """Connect to the cluster and give the function that trains runs there. Raises UsageError."""
    with connected(recorder.options.ray_address) as cluster:
        cluster.check_versions(recorder)
        yield _Driver(cluster, recorder).train


@dataclass
class _Flight:
    """A lane group in training. `lost` counts its tasks that broke since its last checkpoint."""

    runs: list[Run]
    size: TaskSize
    lost: int = 0
    begun: bool = False


class _Driver:
    """Keeps tasks in flight and passes their events to the recorder."""

    def __init__(self, cluster: Cluster, recorder: RunRecorder) -> None:
        self._ray, self._cluster, self._recorder = cluster.ray, cluster, recorder
        self._task = self._ray.remote(num_returns="streaming", max_retries=0)(train_stream)
        here = on_node(self._ray.get_runtime_context().get_node_id())
        self._stop_flag = self._ray.remote(num_cpus=0)(StopFlag).options(scheduling_strategy=here).remote()
        self._data: dict[str, Any] = {}
        self._flying: dict[Any, _Flight] = {}
        self._waiting: deque[_Flight] = deque()
        self._nodes: list[Node] = []
        self._looked_at = -_LOOK_S

    def train(self, runs: Sequence[Run]) -> list[Run]:
        """Train the runs; return those that other processes hold."""
        recorder, by_id = self._recorder, {run.run_id: run for run in runs}
        held: list[Run] = []
        groups = deque(self._cluster.groups(runs, recorder.options))
        sizes = dict.fromkeys(size for size, _ in groups)
        tasks = ", ".join(f"{self._cluster.slots(size)} at a time with {size}" for size in sizes)
        recorder.on_note(f"training on Ray ({self._cluster}); tasks: {tasks}")
        with recorder.claims():
            while groups or self._waiting or self._flying:
                if not recorder.report.stopped and recorder.should_stop():
                    self._wind_up()
                    groups.clear()
                self._look()
                while self._waiting and self._has_room(self._waiting[0].size):
                    self._launch(self._waiting.popleft())
                while groups and self._has_room(groups[0][0]):
                    size, group = groups.popleft()
                    ours, others = recorder.claim(group)
                    held += others
                    if ours:
                        self._launch(_Flight(ours, size))
                self._listen(by_id)
        recorder.should_stop()
        return held

    def _look(self) -> None:
        """Look now and then which nodes there are: they come and go."""
        if self._recorder.report.stopped or time.monotonic() - self._looked_at < _LOOK_S:
            return
        before, self._nodes, self._looked_at = self._nodes, self._cluster.nodes(), time.monotonic()
        if before and not self._nodes:
            self._recorder.on_note("the Ray cluster has no nodes left; waiting for one (press Ctrl-C to stop)")

    def _has_room(self, size: TaskSize) -> bool:
        flying = sum(flight.size == size for flight in self._flying.values())
        return flying < sum(node.slots(size) for node in self._nodes) + _QUEUED

    def _launch(self, flight: _Flight) -> None:
        dataset = flight.runs[0].variant.dataset
        if dataset not in self._data:
            self._data[dataset] = self._ray.put(self._recorder.datasets[dataset])
        flight.begun = False
        stream = self._task.options(**flight.size.resources).remote(
            flight.runs,
            self._data[dataset],
            flight.size,
            self._recorder.checkpoints(flight.runs),
            self._stop_flag,
            self._recorder.options.tf32,
        )
        self._flying[stream] = flight

    def _listen(self, by_id: Mapping[str, Run]) -> None:
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
                self._lost(stream, reason(error))
            else:
                flight.begun = True
                for event, run_id, details in batch:
                    if event == "on_checkpoint":
                        flight.lost = 0
                    getattr(self._recorder, event)(*([by_id[run_id]] if run_id else []), *details)

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
        self._waiting.extend(_Flight(part, flight.size, flight.lost) for part in parts)

    def _wind_up(self) -> None:
        """Tell the tasks in training to stop after the epoch; take back those that have not begun."""
        self._stop_flag.set.remote()
        self._waiting.clear()
        for stream in [stream for stream, flight in self._flying.items() if not flight.begun]:
            self._ray.cancel(stream, force=True)
            del self._flying[stream]


# --- on the nodes: no files are read or written --------------------------------------------------------------


def node_versions() -> tuple[str, str]:
    """Return this node's versions of actbench and torch."""
    import torch

    return actbench.__version__, torch.__version__


class StopFlag:
    """An actor beside the driver that says whether to stop after the epoch."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Tell all tasks to stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._is_set


def train_stream(
    runs: Sequence[Run], dataset: Dataset, size: TaskSize, checkpoints: Mapping[str, bytes], stop_flag: Any, tf32: bool
) -> Iterator[list[tuple[str, str | None, tuple[Any, ...]]]]:
    """Train a lane group and yield its events in batches: a method of `Events`, a run id, the other arguments."""
    from actbench import engine

    engine.configure(tf32=tf32)
    outbox, stop, over = _Outbox(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(2, "actbench") as pool:
        try:
            pool.submit(_follow, stop_flag, stop, over)
            training = pool.submit(
                engine.train_lanes,
                runs,
                dataset,
                device=engine.pick_device(size.device),
                threads=size.threads,
                checkpoints=checkpoints,
                events=outbox,
                stop=stop.is_set,
            )
            ended = False
            while not ended:
                ended = wait([training], timeout=_BATCH_S).done != set()
                if batch := [outbox.events.get() for _ in range(outbox.events.qsize())]:
                    yield batch
            training.result()
        finally:  # also when the driver has given this task up
            stop.set()
            over.set()


def _follow(stop_flag: Any, stop: threading.Event, over: threading.Event) -> None:
    """Ask for the driver's flag now and then, in a thread of its own: waiting in a task's main one frees its CPUs."""
    import ray

    while not over.wait(_ASK_S):
        try:
            is_set = ray.get(stop_flag.is_set.remote())
        except ray.exceptions.RayError:  # the driver is gone, so nobody can hear the end
            is_set = True
        if is_set:
            stop.set()


class _Outbox(Events):
    """Keeps events until they are sent."""

    def __init__(self) -> None:
        self.events: SimpleQueue[tuple[str, str | None, tuple[Any, ...]]] = SimpleQueue()

    def on_note(self, text: str) -> None:
        self.events.put(("on_note", None, (text,)))

    def on_start(self, run: Run, epochs_done: int) -> None:
        self.events.put(("on_start", run.run_id, (epochs_done,)))

    def on_epoch(self, run: Run, row: Row) -> None:
        self.events.put(("on_epoch", run.run_id, (row,)))

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        self.events.put(("on_checkpoint", run.run_id, (data,)))

    def on_end(self, run: Run, record: RunRecord) -> None:
        self.events.put(("on_end", run.run_id, (record,)))
