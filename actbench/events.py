"""What training reports while it works: the one set of events between the engine and whoever watches.

`train_lanes` reports to the run recorder, which stores the results and passes the events on to the watchers: the live
display, plain progress, trackers. Nothing here prints; a line of text is handed to whoever shows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from actbench import config
from actbench.config import Run
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.text import readable

_DOWNLOAD_EVERY_S = 2.0


class Events:
    """The events of training. A subclass overrides those that it handles; `on_event` receives all others."""

    def on_event(self, event: str, *details: Any) -> None:
        """An event, by the name of its method, that the subclass does not handle on its own; ignored by default."""

    def on_note(self, text: str) -> None:
        """Something a person may want to know."""
        self.on_event("on_note", text)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a dataset's file have arrived."""
        self.on_event("on_download", file, done, total)

    def on_start(self, run: Run, epochs_done: int) -> None:
        """`run` starts, or continues after `epochs_done` epochs. Reported again if its machine was lost."""
        self.on_event("on_start", run, epochs_done)

    def on_epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been trained and measured: its row of epochs.csv. Epoch 0 is the untrained network."""
        self.on_event("on_epoch", run, row)

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """`data` is the checkpoint from which `run` can continue where it is now."""
        self.on_event("on_checkpoint", run, data)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """`run` has ended as `record` says: done, diverged or failed."""
        self.on_event("on_end", run, record)


class Broadcast(Events):
    """Passes every event to several watchers in turn, one event at a time, whichever thread it comes from."""

    def __init__(self, watchers: Sequence[Events]) -> None:
        self._watchers = tuple(watchers)
        self._lock = threading.RLock()

    def on_event(self, event: str, *details: Any) -> None:
        """Pass it on."""
        with self._lock:
            for watcher in self._watchers:
                getattr(watcher, event)(*details)


class PlainProgress(Events):
    """Reports progress as plain lines, each handed to `say`. `quiet` leaves only failures."""

    def __init__(self, say: Callable[[str], object], *, quiet: bool = False) -> None:
        self._always, self._quiet = say, quiet
        self._downloaded: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Say a line, unless told to be quiet."""
        if not self._quiet:
            self._always(text)

    def on_note(self, text: str) -> None:
        """Say a note."""
        self.say(text)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Say every two seconds how far a download is."""
        now = time.monotonic()
        if done == total or now - self._downloaded.get(file, 0.0) > _DOWNLOAD_EVERY_S:
            self._downloaded[file] = now
            of = f" of {total / 1e6:.1f}" if total else ""
            self.say(f"downloading {file}: {done / 1e6:.1f}{of} MB")

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Say that a run continues from a checkpoint."""
        if epochs_done > 0:
            self.say(f"{run_label(run)}: continues after epoch {epochs_done}")

    def on_epoch(self, run: Run, row: Row) -> None:
        """Say the numbers of an epoch; the untrained network gets no line."""
        if row["epoch"]:
            self.say(f"{run_label(run)}  epoch {row['epoch']}/{run.variant.epochs}  {epoch_line(run, row)}")

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Say that a run has failed or diverged."""
        if record.status == "failed":
            self._always(f"{run_label(run)}: failed: {last_line(record.error)}")
        elif record.status != "done":
            self.say(f"{run_label(run)}: {record.status}")


def record_of(run: Run, **ended: Any) -> RunRecord:
    """Return the record of an ended run: its id, config and seed, and the fields in `ended`."""
    yaml, flat = config.to_yaml(run.variant, [run.seed]), run.variant.flat()
    return RunRecord(run_id=run.run_id, config_yaml=yaml, flat=flat, seed=run.seed, **ended)


def last_line(error: str | None) -> str:
    """Return the last line of a traceback, which says what went wrong; empty without one."""
    return ((error or "").strip().splitlines() or [""])[-1]


def train_images(run: Run) -> int:
    """Return how many images one epoch of the run trains on."""
    count = run.variant.data.train
    return min(count, run.variant.train_limit or count) - run.variant.validation


def epoch_line(run: Run, row: Row) -> str:
    """Return the main numbers of an epoch on one line."""
    parts = []
    if row["train_loss"] is not None:
        parts.append(f"loss {row['train_loss']:.4f}")
    if row["test_accuracy"] is not None:
        parts.append(f"test {row['test_accuracy']:.2%}")
    if row["dead_ratio"] is not None:
        parts.append(f"dead {row['dead_ratio']:.1%}")
    if row["train_s"]:
        parts.append(f"{train_images(run) / row['train_s']:,.0f} images/s")
    return "  ".join(parts)


def run_label(run: Run, most: int = 40) -> str:
    """Return a run's name and seed, safe to print. The name takes at most `most` characters."""
    return f"{short_name(run, most)} s{run.seed}"


def short_name(run: Run, most: int = 40) -> str:
    """Return a run's name, safe to print, in at most `most` characters."""
    name = readable(run.variant.name)
    return name if len(name) <= most else name[: most - 1] + "~"
