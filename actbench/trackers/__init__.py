"""Trackers: TensorBoard and MLflow are told what a sweep's watchers are told, and can never fail a run (layer 4).

Imports `registry`, the store, `config`; a tracker's own package only where it was asked for. Adding a tracker is
adding an entry to TRACKERS. Each tracker works in a thread of its own, so that a server that is slow or gone never
holds training up; the first error is told once, and from then on that tracker is told nothing.
"""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from actbench.config import RECIPE, Run
from actbench.config.choices import short
from actbench.errors import UsageError
from actbench.registry import Parameter, Registry
from actbench.store import Store, StoredRun
from actbench.text import readable

if TYPE_CHECKING:
    from actbench.engine.measure import Row

PATIENCE_S = 30.0
"""How long a tracker may take over one thing, once everything else is done, before it is left behind."""


class Tracker(Protocol):
    """What a tracker is told, always by the same thread; whatever it raises ends it, and nothing else."""

    def start(self, run: Run, epochs_done: int) -> None:
        """`run` begins, or goes on after `epochs_done` epochs; again where a machine was lost."""

    def epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been measured (epoch 0: the untrained network)."""

    def end(self, run: Run, status: str, stored: StoredRun | None) -> None:
        """`run` has ended; `stored` is None where nothing could be stored."""

    def close(self) -> None:
        """No more will come; runs that have not ended were interrupted."""


@dataclass(frozen=True)
class Kind:
    """A kind of tracker: the package it needs, what may follow `=`, and how one is made for a results folder."""

    name: str
    package: str
    takes: str
    open: Callable[[str | None, Path], Tracker]
    parameters: tuple[Parameter, ...] = ()


def _tensorboard(target: str | None, results: Path) -> Tracker:
    from actbench.trackers.tensorboard import TensorBoard

    return TensorBoard(Path(target) if target else results / "tensorboard")


def _mlflow(target: str | None, results: Path) -> Tracker:
    from actbench.trackers.mlflow import MLflow

    return MLflow(target, results / "mlflow")


TRACKERS: Registry[Kind] = Registry(
    "tracker",
    [Kind("tensorboard", "tensorboard", "DIR", _tensorboard), Kind("mlflow", "mlflow", "URI", _mlflow)],
)


class Tracking(AbstractContextManager["Tracking"]):
    """A watcher that passes everything on to trackers, each given as `KIND` or `KIND=WHERE`.

    Raises UnknownNameError and UsageError at once for a kind that is unknown or whose package is missing; whatever
    goes wrong later is told to `note`. Leaving the context waits until the trackers have been told all.
    """

    def __init__(
        self, wanted: Sequence[str], results: Path, note: Callable[[str], None], patience_s: float = PATIENCE_S
    ) -> None:
        self._store = Store(results)
        made = [_Worker(*_parsed(text), results, note, patience_s) for text in dict.fromkeys(wanted)]
        self._workers = made  # started only when all are known to be there
        for worker in made:
            worker.start()

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Pass it on."""
        self._tell(lambda tracker: tracker.start(run, epochs_done))

    def on_epoch(self, run: Run, row: Row) -> None:
        """Pass it on."""
        self._tell(lambda tracker: tracker.epoch(run, row))

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Pass it on, with the run as it was stored."""
        self._tell(lambda tracker: tracker.end(run, status, self._stored(run)))

    def on_note(self, text: str) -> None:
        """Notes are for people."""

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Downloads are no part of a run."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all has been told."""
        for worker in self._workers:
            worker.put(lambda tracker: tracker.close())
        for worker in self._workers:
            worker.finish()

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for worker in self._workers:
            worker.put(what)

    def _stored(self, run: Run) -> StoredRun | None:
        return (
            self._store.load(run.run_id) if self._store.status(run.run_id) in ("done", "diverged", "failed") else None
        )


class _Worker:
    """The thread of one tracker: makes it, tells it what is put in, and stops at its first error."""

    def __init__(
        self, kind: Kind, target: str | None, results: Path, note: Callable[[str], None], patience_s: float
    ) -> None:
        self._kind, self._target, self._results, self._note = kind, target, results, note
        self._patience_s = patience_s
        self._queue: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._told = 0
        self._broken = False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{kind.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, what: Callable[[Tracker], None]) -> None:
        if not self._broken:
            self._queue.put(what)

    def finish(self) -> None:
        """Wait for the thread as long as it gets on."""
        self._queue.put(None)
        before = -1
        while self._thread.is_alive() and before != self._told:
            before = self._told
            self._thread.join(self._patience_s)
        if self._thread.is_alive() and not self._broken:
            self._broken = True
            self._say(f"did not answer for {self._patience_s:g} s: the rest of what it was to be told is lost")

    def _work(self) -> None:
        try:
            tracker = self._kind.open(self._target, self._results)
            while (what := self._queue.get()) is not None and not self._broken:
                what(tracker)
                self._told += 1
        except Exception as error:
            self._broken = True
            reason = (str(error).strip().splitlines() or [""])[0]
            self._say(f"stopped: {type(error).__name__}: {reason}"[:500])

    def _say(self, text: str) -> None:
        self._note(readable(f"--track {self._kind.name} {text}. The runs go on without it"))


def _parsed(text: str) -> tuple[Kind, str | None]:
    """Return the kind and the target of `KIND` or `KIND=WHERE`; raises UnknownNameError and UsageError."""
    name, equals, target = text.partition("=")
    kind = TRACKERS[name.strip()]
    if equals and not target.strip():
        raise UsageError(f"--track {kind.name}=: needs the {kind.takes} after the =, or leave the = out")
    if not is_there(kind.package):
        how = f"pip install 'actbench[{kind.name}]'"
        raise UsageError(f"--track {kind.name} needs the package {kind.package}; install it with: {how}")
    return kind, target.strip() or None


def is_there(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    return importlib.util.find_spec(package) is not None


def settings(run: Run) -> dict[str, str | float]:
    """Return a run's config and seed: numbers where a key only takes numbers, else text as tables show it."""
    found: dict[str, str | float] = {}
    for key, value in run.variant.flat().items():
        default = RECIPE.get(key)
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        is_plain = isinstance(value, int | float) and not isinstance(value, bool)
        found[key] = value if is_number and is_plain else short(value)  # type: ignore[assignment]
    return {**found, "seed": run.seed}


def numbers(row: Row | dict[str, Any]) -> dict[str, float]:
    """Return what is a number in a row of epochs.csv, but the epoch itself."""
    return {key: float(value) for key, value in row.items() if key != "epoch" and isinstance(value, int | float)}
