"""A Ray cluster as the sweep sees it: connecting quietly, what its nodes have, what a task takes (layer 4).

Imports Ray when it connects. Nothing is started on a cluster but worker processes, and nothing is left there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import actbench
from actbench.config import Run
from actbench.errors import DeviceError, UsageError
from actbench.sweeps.plan import Options, Watcher, cpu_lanes, lane_groups

_THREADS = 4  # of a task: the threads of one process share an interpreter, many would wait for each other
_CUDA_LANES = 128  # of a task: its GPU's memory is not known here; where it is too small, the engine halves them
_CHECK_S, _KNOCK_S = 120.0, 10.0


@dataclass(frozen=True)
class Size:
    """What one task takes of a node: a GPU or not, and CPUs, each with a thread."""

    device: str
    threads: int

    @property
    def resources(self) -> dict[str, int]:
        """The same in Ray's words."""
        return {"num_cpus": self.threads, "num_gpus": int(self.device == "cuda")}

    def __str__(self) -> str:
        """Format as `2 threads on cpu`."""
        return f"{self.threads} {'thread' if self.threads == 1 else 'threads'} on {self.device}"


@dataclass(frozen=True)
class Node:
    """A living node: its id, address and what tasks may take of it."""

    node_id: str
    address: str
    cpus: int
    gpus: int

    def slots(self, size: Size) -> int:
        """Return how many tasks of this size it trains at the same time."""
        slots = self.cpus // size.threads
        return min(slots, self.gpus) if size.device == "cuda" else slots


class Cluster:
    """A cluster that this process, its driver, is connected to."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    def __str__(self) -> str:
        """Format as `nodes: 2, CPUs: 16, GPUs: 0`: those that can train."""
        nodes = self.nodes()
        return (
            f"nodes: {len(nodes)}, CPUs: {sum(node.cpus for node in nodes)}, GPUs: {sum(node.gpus for node in nodes)}"
        )

    def nodes(self) -> list[Node]:
        """Return the living nodes that have CPUs."""
        living = [(node, node["Resources"]) for node in self.ray.nodes() if node["Alive"]]
        found = (
            Node(node["NodeID"], node["NodeManagerAddress"], int(has.get("CPU", 0)), int(has.get("GPU", 0)))
            for node, has in living
        )
        return [node for node in found if node.cpus]

    def slots(self, size: Size) -> int:
        """Return how many tasks of this size the cluster trains at the same time, just now."""
        return sum(node.slots(size) for node in self.nodes())

    def groups(self, runs: Sequence[Run], options: Options) -> Iterator[tuple[Size, list[Run]]]:
        """Give lane groups with the size of their tasks: as many as find room, or more of up to 16 lanes.

        Raises DeviceError where no node has room for a task.
        """
        sizes = {name: self._size(name, options) for name in sorted({run.variant.device for run in runs})}
        for name, size in sizes.items():
            members = [run for run in runs if run.variant.device == name]
            most = cpu_lanes(size.threads) if size.device == "cpu" else _CUDA_LANES
            lanes = options.lanes or min(most, -(-len(members) // self.slots(size)))
            for group in lane_groups(members, lanes, size.device):
                yield size, group

    def _size(self, device: str, options: Options) -> Size:
        nodes = self.nodes()
        if device.startswith("cuda:"):
            raise DeviceError(f"device {device}: Ray chooses the GPU of a task; use cuda with --executor ray")
        on_cuda = device == "cuda" or (device == "auto" and any(node.gpus for node in nodes))
        nodes = [node for node in nodes if node.gpus or not on_cuda]
        if not nodes:
            missing = "GPU" if on_cuda else "CPU"
            raise DeviceError(f"device {device}: no node of the Ray cluster has a {missing}; see: ray status")
        threads = options.threads or (1 if on_cuda else min(_THREADS, *(node.cpus for node in nodes)))
        size = Size("cuda" if on_cuda else "cpu", threads)
        if not any(node.slots(size) for node in nodes):
            most = max(node.cpus for node in nodes)
            raise DeviceError(f"--threads {threads}: no node of the Ray cluster has more than {most} CPUs")
        return size

    def check_versions(self, watcher: Watcher) -> None:
        """Raise UsageError where a node lacks this actbench; note where nodes have another torch."""
        from actbench.sweeps import ray_task

        ask = self.ray.remote(num_cpus=0, max_retries=0)(ray_task.versions)
        asked = [(node, ask.options(scheduling_strategy=self.on(node.node_id)).remote()) for node in self.nodes()]
        torches = {ray_task.versions()[1]}
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
            watcher.on_note(f"nodes have different versions of torch: {', '.join(sorted(torches))}")

    def on(self, node_id: str) -> Any:
        """Return what makes Ray run something on that node and no other."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id, soft=False)


def reason(error: BaseException) -> str:
    """Return the line of one of Ray's many-lined errors that says most: the last one of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if hasattr(error, "cause") and lines:
        return lines[-1][:300]
    return ": ".join([type(error).__name__, *lines[:1]])[:300]


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Connect to the cluster at `address`, else to the one that Ray finds here, else start one on this machine.

    Raises UsageError where Ray is not installed or no cluster answers.
    """
    # Before Ray is imported: no reports of usage, and tasks without a GPU leave its variables alone.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"the Ray address {address}: Ray's client cannot stream results; run actbench on a machine of the "
            "cluster (ray start --address=HOST:6379 --num-cpus=0 makes this one part of it) and use HOST:6379"
        )
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray ({error}): pip install 'actbench[ray]'") from None
    with contextlib.ExitStack() as stack:
        # Ray prints the last words of dying nodes on stdout, which belongs to results.
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            _init(ray, address)
        yield Cluster(ray)


def _init(ray: Any, address: str | None) -> None:
    if address not in (None, "auto", "local"):
        _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(
            f"no Ray cluster can be had (address: {address or 'none'}): {reason(error)}; "
            "a cluster that asks for a token needs RAY_AUTH_MODE=token here, too"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray ends the process at once; we keep checkpoints first


def _knock(address: str) -> None:
    """Raise UsageError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({error}); give HOST:PORT of the head node, such as 10.0.0.1:6379"
        ) from None
