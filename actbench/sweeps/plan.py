"""What a sweep is asked to do, the record of how its runs end, and the lane groups in which they train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import actbench
from actbench.config import Run
from actbench.datasets import Dataset, OwnData
from actbench.errors import DeviceError, StoreError
from actbench.events import Broadcast, Events, last_line, record_of
from actbench.registry import Parameter
from actbench.store import Claim, RunRecord, Store, StoredRun
from actbench.store.claim import most_claims
from actbench.text import comma_list, plural, quoted

THREADS = Parameter("threads", 1, "threads that train", low=1, high=100_000)
LANES = Parameter("lanes", 16, "most runs in a lane group", low=1, high=100_000)

_CPU_LANES = 16
_TASK_THREADS = 4  # the threads of one process share an interpreter, and many would wait for each other
_TASK_CUDA_LANES = 128  # the memory of a node's GPU is unknown here; if it is too small, the engine halves the lanes


@dataclass(frozen=True)
class Options:
    """Where and how to train. Nothing here changes the result of a run. Raises UsageError for absurd numbers."""

    threads: int | None = None
    lanes: int | None = None
    data_dir: Path | None = None
    offline: bool = False
    mirror: str | None = None
    force: bool = False
    fail_fast: bool = False
    executor: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        for limit, value in ((THREADS, self.threads), (LANES, self.lanes)):
            if value is not None:
                limit.require(value)


@dataclass(frozen=True)
class Plan:
    """The runs that were asked for, each once, and those of them that have already ended, by run id.

    `other_versions` counts the ended runs that another version of actbench or torch trained, by names such as
    "torch 2.11.0". `twins` and `stored_as` pair a name that was asked for with another name of the same run: an earlier
    one in the same plan, and the one under which the finished run is stored.
    """

    runs: list[Run]
    ended: dict[str, Literal["done", "diverged"]]
    other_versions: Counter[str] = field(default_factory=Counter)
    twins: dict[tuple[str, str], None] = field(default_factory=dict)
    stored_as: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def open(self) -> list[Run]:
        """The runs that still have to be trained."""
        return [run for run in self.runs if run.run_id not in self.ended]

    def name_notes(self) -> Iterator[str]:
        """Say which names mean the same run, and which finished runs are stored under another name."""
        if self.twins:
            same = comma_list([f"{quoted(name)} is the same as {quoted(first)}" for name, first in self.twins])
            yield f"{same}; each run is trained once"
        if self.stored_as:
            yield comma_list([f"{quoted(name)} is stored as {quoted(stored)}" for name, stored in self.stored_as])


@dataclass
class Report:
    """How the runs of a plan ended, by run id: trained with which status, failed with which error.

    `elsewhere` lists the runs that other processes finished in the meantime.
    """

    plan: Plan
    trained: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def ended(self) -> list[Run]:
        """The runs that are done or diverged, in the order of the plan."""
        ended = {*self.plan.ended, *self.trained, *self.elsewhere}
        return [run for run in self.plan.runs if run.run_id in ended]

    @property
    def unfinished(self) -> int:
        """How many runs neither ended nor failed, because training was stopped."""
        return len(self.plan.runs) - len(self.ended) - len(self.failed)

    def stored(self, store: Store) -> list[StoredRun]:
        """Read the ended runs back, in the order of the plan, under the names that were asked for."""
        return [store.load(run.run_id).named(run.variant.name) for run in self.ended]


def make_plan(runs: Iterable[Run], store: Store, *, force: bool = False) -> Plan:
    """Look up which runs have ended (done or diverged). Failed and interrupted ones are open. Only reads."""
    plan = Plan([], {})
    first: dict[str, Run] = {}
    for run in (in_store(run, store) for run in runs):
        twin = first.setdefault(run.run_id, run)
        if twin.variant.name != run.variant.name:
            plan.twins[run.variant.name, twin.variant.name] = None
    plan.runs.extend(first.values())
    here = {"actbench": actbench.__version__, "torch": torch_version()}
    for run in plan.runs if not force else []:
        stored = store.result(run.run_id)
        if stored is not None:
            plan.ended[run.run_id] = "done" if stored.status == "done" else "diverged"
            before = {package: stored.provenance.get(f"{package}_version") for package in here}
            others = [name for name, version in before.items() if isinstance(version, str) and version != here[name]]
            plan.other_versions.update(f"{name} {before[name]}" for name in others)
            if (name := str(stored.config.get("name"))) != run.variant.name:
                plan.stored_as[run.variant.name, name] = None
    return plan


def in_store(run: Run, store: Store) -> Run:
    """Return the run with the id under which `store` has it: the one of actbench 0.1 if there is only that."""
    former = replace(run, former=True)
    return former if store.knows(former.run_id) and not store.knows(run.run_id) else run


def torch_version() -> str:
    """Return torch's version without importing it: a plan whose runs have all ended never needs torch."""
    return metadata.version("torch")


class RunRecorder(Broadcast):
    """Claims the runs of one plan, stores how they end, and passes all events on; it alone writes results.

    Whatever trains, here or on another machine, reports to it. `datasets` holds those of the open runs.
    """

    def __init__(self, plan: Plan, store: Store, options: Options, events: Events, stop: Callable[[], bool]) -> None:
        super().__init__([events])
        self.store, self.options, self.report = store, options, Report(plan)
        self.datasets: dict[str | OwnData, Dataset] = {}
        self._stop = stop
        self.claims = ExitStack()  # a context that gives the claims made inside it back
        self._claims: dict[str, Claim] = {}

    def should_stop(self) -> bool:
        """Whether to stop training early: when told to, or after a failure if one is enough."""
        if self._stop() or (self.options.fail_fast and self.report.failed):
            self.report.stopped = True
        return self.report.stopped

    def claim(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """Claim the runs that are free; return them, and those that another process holds or has just finished."""
        ours, held = [], []
        for run in runs:
            try:
                claim = self.claims.enter_context(self.store.claim(run.run_id, force=self.options.force))
            except StoreError as error:
                self._report(run, failed_record(run, str(error)))
                continue
            if claim is None:
                held.append(run)
            else:
                self._claims[run.run_id] = claim
                ours.append(run)
        return ours, held

    def checkpoints(self, runs: Sequence[Run]) -> dict[str, bytes]:
        """Return the checkpoints of claimed runs that have one, by run id."""
        found = {run.run_id: self._claims[run.run_id].load_checkpoint() for run in runs}
        return {run_id: data for run_id, data in found.items() if data is not None}

    def is_open(self, run: Run) -> bool:
        """Whether a claimed run has not ended yet."""
        return run.run_id not in self.report.trained and run.run_id not in self.report.failed

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """Keep a checkpoint. If it cannot be written, the run continues without one."""
        try:
            self._claims[run.run_id].save_checkpoint(data)
        except StoreError as error:
            self.on_note(f"{run.run_id} continues without a checkpoint: {error}")

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Store an ended run. If its results cannot be written, the run has failed."""
        try:
            self._claims[run.run_id].finish(record)
        except StoreError as error:
            record = replace(record, status="failed", error=str(error))
        self._report(run, record)

    def _report(self, run: Run, record: RunRecord) -> None:
        if record.status == "failed":
            self.report.failed[run.run_id] = last_line(record.error)
        else:
            self.report.trained[run.run_id] = record.status
        super().on_end(run, record)


def failed_record(run: Run, error: str) -> RunRecord:
    """Return the record of a run that could not start, or that no machine could finish."""
    versions = {"actbench_version": actbench.__version__, "torch_version": torch_version()}
    return record_of(run, status="failed", error=error, provenance=versions)


def cpu_lanes(threads: int) -> int:
    """Return how many lanes a group on CPU has if they fit the memory: 16, or one per thread if that is more.

    More lanes train no faster (results/benchmarks/tried.md), and the first of them would end later.
    """
    return max(_CPU_LANES, threads)


def lane_groups(runs: Sequence[Run], lanes: int, device: str) -> Iterator[list[Run]]:
    """Pack runs that can train together into groups of at most `lanes`, in the order they were given.

    The runs of a group share their images. On CUDA they also share the shapes of their networks, and runs with the
    same activation and optimizer settings are neighbours, so that one call computes a stretch of lanes.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        v = run.variant
        key: tuple[Any, ...] = (v.dataset, v.train_limit, v.test_limit, v.validation)
        if device == "cuda":
            key += (v.batch_size, v.epochs, v.optimizer.name, v.probe, v.augment is None, v.structure())
        groups.setdefault(key, []).append(run)
    for members in groups.values():
        size = lanes
        if device == "cuda":  # groups of equal size, so that no small one takes as long as a full one
            members.sort(key=lambda run: (repr(run.variant.activation), repr(run.variant.plain())))
            size = -(-len(members) // -(-len(members) // lanes))
        for start in range(0, len(members), size):
            yield members[start : start + size]


class Node(NamedTuple):
    """A node of a cluster, and what tasks may take of it."""

    node_id: str
    address: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class TaskSize:
    """What a task, which trains one lane group on a node, takes: a GPU or none, and CPUs, each with one thread."""

    device: str
    threads: int

    def __str__(self) -> str:
        return f"{plural(self.threads, 'thread')} on {self.device}"

    def slots(self, nodes: Sequence[Node]) -> int:
        """Return how many tasks of this size the nodes can train at the same time."""
        return sum(min(n.cpus // self.threads, n.gpus if self.device == "cuda" else n.cpus) for n in nodes)


def task_groups(runs: Sequence[Run], options: Options, nodes: Sequence[Node]) -> Iterator[tuple[TaskSize, list[Run]]]:
    """Yield the lane groups with the size of their tasks: as many as fit the nodes at once, or more of up to 16 lanes.

    Raises DeviceError if no node has room for a task.
    """
    sizes = {name: _task_size(name, options, nodes) for name in sorted({run.variant.device for run in runs})}
    for name, size in sizes.items():
        members = [run for run in runs if run.variant.device == name]
        most = cpu_lanes(size.threads) if size.device == "cpu" else _TASK_CUDA_LANES
        lanes = options.lanes or min(most, -(-len(members) // size.slots(nodes)))
        for group in lane_groups(members, min(lanes, most_claims()), size.device):
            yield size, group


def _task_size(device: str, options: Options, nodes: Sequence[Node]) -> TaskSize:
    if device.startswith("cuda:"):
        raise DeviceError(f"device {device}: Ray chooses the GPU of a task; use cuda with --executor ray")
    on_cuda = device == "cuda" or (device == "auto" and any(node.gpus for node in nodes))
    usable = [node for node in nodes if node.gpus or not on_cuda]
    if not usable:
        missing = "GPU" if on_cuda else "CPU"
        raise DeviceError(f"device {device}: no node of the Ray cluster has a {missing}; see: ray status")
    threads = options.threads or (1 if on_cuda else min(_TASK_THREADS, *(node.cpus for node in usable)))
    size = TaskSize("cuda" if on_cuda else "cpu", threads)
    if not size.slots(usable):
        most = max(node.cpus for node in usable)
        raise DeviceError(f"--threads {threads}: no node of the Ray cluster has more than {most} CPUs")
    return size
