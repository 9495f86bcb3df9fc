"""Training on a Ray cluster, a task for each lane group; this process, the driver, stores (layer 4).

Imports `ray_cluster`, `ray_task` and the keeper. The driver claims the runs, hands data and checkpoints to the
tasks, and alone writes results and checkpoints: no folder has to be shared. A task that is lost with its worker or
node begins again elsewhere, from the last checkpoints.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from actbench.config import Run
from actbench.sweeps.keeper import Keeper
from actbench.sweeps.plan import Train, Work
from actbench.sweeps.ray_cluster import Cluster, Node, Size, connected, reason

_POLL_S = 0.1
_LOOK_S = 5.0
_RETRIES = 3
_QUEUED = 2  # tasks beyond those that find room: they begin the moment that others end


@contextmanager
def executor(work: Work) -> Iterator[Train]:
    """Connect to the cluster and give the function that trains runs there. Raises UsageError."""
    with connected(work.options.ray_address) as cluster:
        cluster.check_versions(work.watcher)
        yield _Driver(cluster, work).train


@dataclass
class _Flight:
    """A lane group on its way: `lost` counts the tasks that broke without a new checkpoint of it in between."""

    runs: list[Run]
    size: Size
    lost: int = 0
    begun: bool = False


class _Driver:
    """Keeps tasks in flight and passes what they tell to the keeper."""

    def __init__(self, cluster: Cluster, work: Work) -> None:
        from actbench.sweeps import ray_task

        ray = cluster.ray
        self._ray, self._cluster, self._work = ray, cluster, work
        self._task = ray.remote(num_returns="streaming", max_retries=0)(ray_task.train_stream)
        here = cluster.on(ray.get_runtime_context().get_node_id())
        self._flag = ray.remote(num_cpus=0)(ray_task.Flag).options(scheduling_strategy=here).remote()
        self._data: dict[str, Any] = {}
        self._flying: dict[Any, _Flight] = {}
        self._waiting: deque[_Flight] = deque()
        self._nodes: list[Node] = []
        self._looked_at = -_LOOK_S

    def train(self, runs: Sequence[Run]) -> list[Run]:
        """Train the runs; return those that others hold."""
        report = self._work.report
        held: list[Run] = []
        groups = deque(self._cluster.groups(runs, self._work.options))
        self._announce(groups)
        with ExitStack() as claims:
            keeper = Keeper(self._work, claims)
            by_id = {run.run_id: run for run in runs}
            while groups or self._waiting or self._flying:
                if self._work.should_stop() and not report.stopped:
                    report.stopped = True
                    self._wind_up()
                    groups.clear()
                self._look()
                while self._waiting and self._room(self._waiting[0].size):
                    self._launch(self._waiting.popleft(), keeper)
                while groups and self._room(groups[0][0]):
                    size, group = groups.popleft()
                    ours, others = keeper.claim(group)
                    held += others
                    if ours:
                        self._launch(_Flight(ours, size), keeper)
                self._listen(keeper, by_id)
        report.stopped = report.stopped or self._work.should_stop()
        return held

    def _announce(self, groups: Sequence[tuple[Size, list[Run]]]) -> None:
        sizes = dict.fromkeys(size for size, _ in groups)
        tasks = ", ".join(f"{self._cluster.slots(size)} at a time with {size}" for size in sizes)
        self._work.watcher.on_note(f"training on Ray ({self._cluster}); tasks: {tasks}")

    def _look(self) -> None:
        """See which nodes there are, now and then: they come and go."""
        if self._work.report.stopped or time.monotonic() - self._looked_at < _LOOK_S:
            return
        before, self._nodes, self._looked_at = self._nodes, self._cluster.nodes(), time.monotonic()
        if before and not self._nodes:
            self._work.watcher.on_note("the Ray cluster has no nodes left: waiting for one; Ctrl-C stops")

    def _room(self, size: Size) -> bool:
        """Whether another task of this size may be launched."""
        flying = sum(flight.size == size for flight in self._flying.values())
        return flying < sum(node.slots(size) for node in self._nodes) + _QUEUED

    def _launch(self, flight: _Flight, keeper: Keeper) -> None:
        dataset = flight.runs[0].variant.dataset
        if dataset not in self._data:
            self._data[dataset] = self._ray.put(self._work.datasets[dataset])
        flight.begun = False
        stream = self._task.options(**flight.size.resources).remote(
            flight.runs,
            self._data[dataset],
            flight.size.device,
            flight.size.threads,
            keeper.checkpoints(flight.runs),
            self._flag,
            self._work.options.tf32,
        )
        self._flying[stream] = flight

    def _listen(self, keeper: Keeper, by_id: dict[str, Run]) -> None:
        """Take one batch of events from each task that has one."""
        streams = list(self._flying)
        ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=_POLL_S) if streams else ([], [])
        for stream in ready:
            flight = self._flying[stream]
            try:
                events = self._ray.get(next(stream))
            except StopIteration:
                self._lost(stream, keeper, "its task has ended early")
            except self._ray.exceptions.RayError as error:
                self._lost(stream, keeper, reason(error))
            else:
                flight.begun = True
                for name, arguments in events:
                    if name == "on_checkpoint":
                        flight.lost = 0
                    if name != "on_note":
                        arguments = (by_id[arguments[0]], *arguments[1:])
                    getattr(keeper, name)(*arguments)

    def _lost(self, stream: Any, keeper: Keeper, why: str) -> None:
        """See to the runs that a task has left open: again elsewhere, one by one the second time, then failed."""
        flight = self._flying.pop(stream)
        flight.runs = [run for run in flight.runs if keeper.is_open(run)]
        if not flight.runs or self._work.report.stopped:
            return
        flight.lost += 1
        if flight.lost > _RETRIES:
            from actbench.sweeps.training import lost_record

            for run in flight.runs:
                keeper.on_end(run, lost_record(run, f"lost {flight.lost} times in training; the last time: {why}"))
            return
        count = f"{len(flight.runs)} runs" if len(flight.runs) > 1 else flight.runs[0].run_id
        keeper.on_note(f"{count} lost in training ({why}): again, from the last checkpoint")
        parts = [flight.runs] if flight.lost == 1 else [[run] for run in flight.runs]  # one may be what breaks all
        self._waiting.extend(_Flight(part, flight.size, flight.lost) for part in parts)

    def _wind_up(self) -> None:
        """Tell those in training to stop after the epoch; take back what has not begun."""
        self._flag.hoist.remote()
        self._waiting.clear()
        for stream in [stream for stream, flight in self._flying.items() if not flight.begun]:
            self._ray.cancel(stream, force=True)
            del self._flying[stream]
