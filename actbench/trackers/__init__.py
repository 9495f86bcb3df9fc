"""Trackers: TensorBoard and MLflow receive the events of training, and can never fail a run.

To add a tracker, add an entry to TRACKERS. A tracker's package is imported only if the tracker is asked for. Each
tracker works in its own thread, so a slow or unreachable server never delays training. A tracker's first error is
reported once; after that the tracker receives nothing.
"""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actbench.config import RECIPE, Run
from actbench.config.choices import short
from actbench.errors import UsageError
from actbench.events import Events
from actbench.registry import Parameter, Registry
from actbench.store import RunRecord
from actbench.store.csv import Row

PATIENCE_S = 30.0
"""How long a tracker may take over one event, once training is over, before it is left behind."""


class Tracker(Events):
    """Receives events, always from the same thread. An exception ends the tracker, and nothing else.

    The records of ended runs come without weights.
    """

    def close(self) -> None:
        """No more events will come; runs that have not ended were interrupted."""


@dataclass(frozen=True)
class TrackerKind:
    """A kind of tracker: the package it needs, what may follow `=`, and how to open one for a results folder."""

    name: str
    package: str
    takes: str
    open: Callable[[str | None, Path], Tracker]
    parameters: tuple[Parameter, ...] = ()


def _tensorboard(target: str | None, results: Path) -> Tracker:
    from actbench.trackers.tensorboard import TensorBoard

    return TensorBoard(target, results)


def _mlflow(target: str | None, results: Path) -> Tracker:
    from actbench.trackers.mlflow import MLflow

    return MLflow(target, results)


TRACKERS: Registry[TrackerKind] = Registry(
    "tracker",
    [
        TrackerKind("tensorboard", "tensorboard", "DIR", _tensorboard),
        TrackerKind("mlflow", "mlflow", "URI", _mlflow),
    ],
)


class Tracking(Events, AbstractContextManager["Tracking"]):
    """Passes every event on to trackers, each given as `KIND` or `KIND=WHERE`.

    Raises UnknownNameError or UsageError at once if a kind is unknown or its package is missing. Later errors go to
    `note`. Leaving the context waits until the trackers have received everything.
    """

    def __init__(
        self, wanted: Sequence[str], results: Path, note: Callable[[str], None], patience_s: float = PATIENCE_S
    ) -> None:
        self._workers = [_Worker(text, results, note, patience_s) for text in dict.fromkeys(wanted)]
        for worker in self._workers:  # only now that all are known to exist
            worker.thread.start()

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Pass on that a run has ended, without its weights: a slow tracker must not fill the memory."""
        super().on_end(run, replace(record, weights=None))

    def __exit__(self, *_error: object) -> None:
        self.on_event("close")
        for worker in self._workers:
            worker.finish()

    def on_event(self, event: str, *details: Any) -> None:
        """Queue an event for every tracker."""
        for worker in self._workers:
            worker.put((event, details))


class _Worker:
    """The thread of one tracker, given as `KIND` or `KIND=WHERE`: passes events on in order until its first error."""

    def __init__(self, text: str, results: Path, note: Callable[[str], None], patience_s: float) -> None:
        name, equals, target = text.partition("=")
        self._kind = kind = TRACKERS[name.strip()]
        if equals and not target.strip():
            raise UsageError(f"--track {kind.name}=: give the {kind.takes} after the =, or leave out the =")
        if not is_there(kind.package):
            how = f"pip install 'actbench[{kind.name}]'"
            raise UsageError(f"--track {kind.name} needs the package {kind.package}; install it with: {how}")
        self._target, self._results = target.strip() or None, results
        self._note, self._patience_s = note, patience_s
        self._queue: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._passed_on = 0
        self._broken = False
        self.thread = threading.Thread(target=self._work, name=f"tracker-{kind.name}", daemon=True)

    def put(self, event: tuple[str, tuple[Any, ...]]) -> None:
        if not self._broken:
            self._queue.put(event)

    def finish(self) -> None:
        """Wait for the thread as long as it makes progress."""
        self._queue.put(None)
        before = -1
        while self.thread.is_alive() and before != self._passed_on:
            before = self._passed_on
            self.thread.join(self._patience_s)
        if self.thread.is_alive() and not self._broken:
            self._give_up(f"did not answer for {self._patience_s:g} s: the events still to be logged are lost")

    def _work(self) -> None:
        try:
            tracker = self._kind.open(self._target, self._results)
            while (event := self._queue.get()) is not None and not self._broken:
                getattr(tracker, event[0])(*event[1])
                self._passed_on += 1
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            self._give_up(f"stopped: {type(error).__name__}: {reason}"[:500])

    def _give_up(self, why: str) -> None:
        self._broken = True
        self._note(f"--track {self._kind.name} {why}. The runs continue without it")


def is_there(package: str) -> bool:
    """Whether a package is installed; this does not import it."""
    return importlib.util.find_spec(package) is not None


def settings(run: Run) -> dict[str, str | float]:
    """Return a run's config and seed: numbers for keys that take only numbers, else text as tables show it."""
    found: dict[str, str | float] = {}
    for key, value in run.variant.flat().items():
        are_numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in (value, RECIPE.get(key))]
        found[key] = value if all(are_numbers) else short(value)  # type: ignore[assignment]
    return {**found, "seed": run.seed}


def numbers(row: Row) -> dict[str, float]:
    """Return the numbers of an epoch, without the epoch itself."""
    return {key: float(value) for key, value in row.items() if key != "epoch" and isinstance(value, int | float)}
