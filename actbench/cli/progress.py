"""What a person sees while runs train: a live table on a terminal, one plain line an epoch elsewhere (layer 5)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from actbench.cli.common import Streams
from actbench.config import Run
from actbench.config.textfile import readable
from actbench.datasets import DATASETS

if TYPE_CHECKING:
    from actbench.engine.measure import Row


def images_of(run: Run) -> int:
    """How many images an epoch of the run trains on."""
    count = DATASETS[run.variant.dataset].train
    return min(count, run.variant.train_limit or count)


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


class PlainWatcher(AbstractContextManager["PlainWatcher"]):
    """Tells everything in plain lines on stderr; `quiet` leaves only failures."""

    def __init__(self, to: Streams, runs: Sequence[Run], *, quiet: bool) -> None:
        self._to, self._quiet = to, quiet
        self._downloaded: dict[str, float] = {}

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._to.note(text)

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Say that a run goes on from a checkpoint."""
        if epochs_done > 0:
            self._say(f"{label(run)}: goes on after epoch {epochs_done}")

    def on_epoch(self, run: Run, row: Row) -> None:
        """One line an epoch; the untrained network has none."""
        if row["epoch"]:
            self._say(f"{label(run)}  epoch {row['epoch']}/{run.variant.epochs}  {describe(run, row)}")

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Say how a run ended, where that is not as planned."""
        if status == "failed":
            self._to.note(f"{label(run)}: failed: {readable(error or '')}")
        elif status != "done":
            self._say(f"{label(run)}: {status}")

    def on_note(self, text: str) -> None:
        """Pass a note on."""
        self._say(readable(text))

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Say now and then how far a download is."""
        now = time.monotonic()
        if done == total or now - self._downloaded.get(file, 0.0) > 2:
            self._downloaded[file] = now
            of = f" of {total / 1e6:.1f}" if total else ""
            self._say(f"downloading {readable(file)}: {done / 1e6:.1f}{of} MB")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clean up."""


class _Fields(ProgressColumn):
    """The numbers of the last epoch, in columns that keep their width."""

    def render(self, task: object) -> Text:
        return Text(getattr(task, "fields", {}).get("numbers", ""))


class LiveWatcher(PlainWatcher):
    """A live table on a terminal: one line a run in training, one for all of them."""

    def __init__(self, to: Streams, runs: Sequence[Run], *, quiet: bool) -> None:
        super().__init__(to, runs, quiet=quiet)
        self._live = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=32, no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            _Fields(table_column=Column(no_wrap=True, overflow="ellipsis")),
            TimeRemainingColumn(compact=True),
            console=to.err,
            transient=True,
        )
        self._downloads = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            console=to.err,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._files: dict[str, TaskID] = {}
        self._all = self._live.add_task(f"all {len(runs)} runs", total=sum(r.variant.epochs for r in runs), numbers="")

    def __enter__(self) -> LiveWatcher:
        """Start drawing when there is something to draw."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live table away: what follows is the result."""
        self._downloads.stop()
        self._live.stop()

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Add a line for the run."""
        self._downloads.stop()
        self._live.start()
        super().on_start(run, epochs_done)
        total = run.variant.epochs
        self._tasks[run.run_id] = self._live.add_task(label(run), total=total, completed=epochs_done, numbers="")
        self._live.advance(self._all, epochs_done)

    def on_epoch(self, run: Run, row: Row) -> None:
        """Move the run's bar and show its numbers."""
        task, epoch = self._tasks[run.run_id], row["epoch"] or 0
        self._live.update(task, completed=epoch, numbers=describe(run, row))
        if epoch:
            self._live.advance(self._all)

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Take the run's line away."""
        super().on_end(run, status, error)
        task = self._tasks.pop(run.run_id, None)
        if task is not None:
            left = run.variant.epochs - int(self._live.tasks[self._live.task_ids.index(task)].completed)
            self._live.advance(self._all, left)
            self._live.remove_task(task)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Show a bar a file."""
        self._downloads.start()
        if file not in self._files:
            self._files[file] = self._downloads.add_task(readable(file), total=total)
        self._downloads.update(self._files[file], completed=done, total=total)


def label(run: Run) -> str:
    """A run's name and seed, safe to print."""
    name = readable(run.variant.name)
    return f"{name if len(name) <= 40 else name[:39] + '~'} s{run.seed}"


def watcher(to: Streams, runs: Sequence[Run], *, quiet: bool) -> PlainWatcher:
    """Choose the live table where stderr is a terminal that can draw it, plain lines elsewhere."""
    live = to.err.is_terminal and not to.err.is_dumb_terminal and not quiet
    return (LiveWatcher if live else PlainWatcher)(to, runs, quiet=quiet)
