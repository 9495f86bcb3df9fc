"""Watchers of a sweep that need no terminal: plain lines, and several watchers as one (layer 4).

Imports `config`, `datasets`, and `sweep` for its types. Prints nothing: a line is handed to whoever shows it.
What a watcher is told, and when, is said in `sweeps.Watcher`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from actbench.config import Run
from actbench.datasets import DATASETS
from actbench.text import readable

if TYPE_CHECKING:
    from actbench.engine.measure import Row
    from actbench.sweeps import Watcher

_DOWNLOAD_EVERY_S = 2.0


class Lines:
    """Tells everything in plain lines, each handed to `say`; `quiet` leaves only failures."""

    def __init__(self, say: Callable[[str], object], *, quiet: bool = False) -> None:
        self._always, self._quiet = say, quiet
        self._downloaded: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Say a line, unless told to be quiet."""
        if not self._quiet:
            self._always(text)

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Say that a run goes on from a checkpoint."""
        if epochs_done > 0:
            self.say(f"{label(run)}: goes on after epoch {epochs_done}")

    def on_epoch(self, run: Run, row: Row) -> None:
        """One line an epoch; the untrained network has none."""
        if row["epoch"]:
            self.say(f"{label(run)}  epoch {row['epoch']}/{run.variant.epochs}  {describe(run, row)}")

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Say how a run ended, where that is not as planned."""
        if status == "failed":
            self._always(f"{label(run)}: failed: {readable(error or '')}")
        elif status != "done":
            self.say(f"{label(run)}: {status}")

    def on_note(self, text: str) -> None:
        """Pass a note on."""
        self.say(readable(text))

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Say now and then how far a download is."""
        now = time.monotonic()
        if done == total or now - self._downloaded.get(file, 0.0) > _DOWNLOAD_EVERY_S:
            self._downloaded[file] = now
            of = f" of {total / 1e6:.1f}" if total else ""
            self.say(f"downloading {readable(file)}: {done / 1e6:.1f}{of} MB")


class Several:
    """Tells several watchers the same, in their order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.on_start(run, epochs_done)

    def on_epoch(self, run: Run, row: Row) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.on_epoch(run, row)

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.on_end(run, status, error)

    def on_note(self, text: str) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.on_note(text)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.on_download(file, done, total)


def images_of(run: Run) -> int:
    """How many images an epoch of the run trains on."""
    count = DATASETS[run.variant.dataset].train
    return min(count, run.variant.train_limit or count) - run.variant.validation


def describe(run: Run, row: Row) -> str:
    """One epoch of one run in a line."""
    parts = []
    if row["train_loss"] is not None:
        parts.append(f"loss {row['train_loss']:.4f}")
    if row["test_accuracy"] is not None:
        parts.append(f"test {row['test_accuracy']:.2%}")
    if row["dead_ratio"] is not None:
        parts.append(f"dead {row['dead_ratio']:.1%}")
    if row["train_s"]:
        parts.append(f"{images_of(run) / row['train_s']:,.0f} images/s")
    return "  ".join(parts)


def label(run: Run, most: int = 40) -> str:
    """A run's name and seed, safe to print; the name takes at most `most` characters."""
    return f"{short_name(run, most)} s{run.seed}"


def short_name(run: Run, most: int = 40) -> str:
    """A run's name, safe to print, in at most `most` characters."""
    name = readable(run.variant.name)
    return name if len(name) <= most else name[: most - 1] + "~"
