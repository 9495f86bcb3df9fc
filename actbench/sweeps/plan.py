"""What is asked for, what of it is done, how runs are packed into lane groups, and how they ended (layer 4).

Imports the store and the configs; the model's structure only to pack lanes for CUDA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import actbench
from actbench.config import Run
from actbench.datasets import CLASSES, INPUTS
from actbench.store import Store, StoredRun

if TYPE_CHECKING:
    from actbench.datasets import Dataset
    from actbench.engine.measure import Row

Train: TypeAlias = Callable[[Sequence[Run]], list[Run]]
"""What an executor does: train runs to their end; return those that it could not claim."""

_CPU_LANES = 16


class Watcher(Protocol):
    """What training tells while it works; `error` is the last line of a failed run's traceback."""

    def on_start(self, run: Run, epochs_done: int) -> None:
        """`run` is claimed and begins, or goes on after `epochs_done` epochs; again when a machine was lost."""

    def on_epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been trained and measured (epoch 0: the untrained network)."""

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """`run` has ended and is stored."""

    def on_note(self, text: str) -> None:
        """Something a person may want to know."""

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """A file of a dataset is coming in."""


@dataclass(frozen=True)
class Options:
    """Where and how to train; nothing here changes what a run is."""

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


@dataclass(frozen=True)
class Plan:
    """The runs that were asked for, each once, and which of them have ended already.

    `others` counts the ended ones by what trained them, such as "torch 2.11.0", where that is not what would
    train them now.
    """

    runs: list[Run]
    ended: dict[str, Literal["done", "diverged"]]
    others: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> list[Run]:
        """The runs that are to be trained."""
        return [run for run in self.runs if run.run_id not in self.ended]


@dataclass
class Report:
    """How the runs of a plan ended."""

    trained: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    stopped: bool = False


@dataclass
class Work:
    """What one call of `execute` has at hand; `datasets` holds those of the runs."""

    store: Store
    options: Options
    watcher: Watcher
    stop: Callable[[], bool]
    report: Report = field(default_factory=Report)
    datasets: dict[str, Dataset] = field(default_factory=dict)

    def should_stop(self) -> bool:
        """Whether training is to end early: told to, or a run has failed and that is enough."""
        return self.stop() or (self.options.fail_fast and bool(self.report.failed))


def plan(runs: Iterable[Run], store: Store, *, force: bool = False) -> Plan:
    """Look up which runs have ended (done or diverged); failed and interrupted ones are open. Reads only."""
    found = Plan(list({run.run_id: run for run in runs}.values()), {})
    here = {"actbench": actbench.__version__, "torch": torch_version()}
    for run in found.runs if not force else []:
        stored = store.result(run.run_id)
        if stored is not None:
            found.ended[run.run_id] = "done" if stored.status == "done" else "diverged"
            found.others.update(_others(stored, here))
    return found


def torch_version() -> str:
    """Return the version of torch without an import of it, which a plan of ended runs never needs."""
    return metadata.version("torch")


def _others(stored: StoredRun, here: dict[str, str]) -> Iterator[str]:
    for package, version in here.items():
        before = stored.provenance.get(f"{package}_version")
        if isinstance(before, str) and before != version:
            yield f"{package} {before}"


def cpu_lanes(threads: int) -> int:
    """Return how many lanes a group on CPU has where the memory holds them: 16, or one a thread.

    More train no faster (results/benchmarks/tried.md), and the first would end later.
    """
    return max(_CPU_LANES, threads)


def lane_groups(runs: Sequence[Run], lanes: int, device: str) -> Iterator[list[Run]]:
    """Pack runs that can train together into groups of at most `lanes`, in the order they were given.

    A group shares its images; on CUDA also the shapes of its networks, with neighbours alike in activation
    and optimizer settings, so that a stretch of lanes is one call.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        v = run.variant
        key: tuple[Any, ...] = (v.dataset, v.train_limit, v.test_limit, v.validation)
        if device == "cuda":
            from actbench.model import Structure

            key += (
                v.batch_size,
                v.epochs,
                v.optimizer.name,
                v.probe,
                v.augment is None,
                Structure.of(v, INPUTS, CLASSES),
            )
        groups.setdefault(key, []).append(run)
    for members in groups.values():
        if device == "cuda":
            members.sort(key=lambda run: (repr(run.variant.activation), repr(run.variant.plain())))
        for start in range(0, len(members), lanes):
            yield members[start : start + lanes]
