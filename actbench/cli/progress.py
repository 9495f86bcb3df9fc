"""What a person sees while runs train: a live board on a terminal, one plain line an epoch elsewhere (layer 5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from actbench.cli.board import Board
from actbench.cli.common import Streams
from actbench.config import Run
from actbench.text import readable
from actbench.watchers import Lines

if TYPE_CHECKING:
    from actbench.engine.measure import Row

_REDRAWN_PER_S = 4


class PlainWatcher(Lines, AbstractContextManager["PlainWatcher"]):
    """Tells everything in plain lines on stderr; `quiet` leaves only failures."""

    def __init__(self, to: Streams, runs: Sequence[Run], *, quiet: bool) -> None:
        super().__init__(to.note, quiet=quiet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clean up."""


class LiveWatcher(PlainWatcher):
    """A live board on a terminal, which vanishes at the end: what follows is the result."""

    def __init__(self, to: Streams, runs: Sequence[Run], *, quiet: bool) -> None:
        super().__init__(to, runs, quiet=quiet)
        self._console = to.err
        self._ascii = not (to.err.encoding or "").lower().startswith("utf")
        self._board = Board(runs)
        self._live = Live(get_renderable=self._draw, console=to.err, refresh_per_second=_REDRAWN_PER_S, transient=True)
        self._downloads = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            console=to.err,
            transient=True,
        )
        self._files: dict[str, TaskID] = {}

    def _draw(self) -> Group:
        size = self._console.size
        return Group(*self._board.lines(size.width, size.height, ascii_only=self._ascii))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the board away."""
        self._downloads.stop()
        self._live.stop()

    def on_start(self, run: Run, epochs_done: int) -> None:
        """The run's line begins to move."""
        self._downloads.stop()
        super().on_start(run, epochs_done)
        self._board.start(run, epochs_done)
        self._live.start()

    def on_epoch(self, run: Run, row: Row) -> None:
        """Let the run's curves grow; the board is drawn again by its own clock."""
        self._board.epoch(run, row)

    def on_end(self, run: Run, status: str, error: str | None) -> None:
        """Say what went wrong above the board, and mark the run."""
        super().on_end(run, status, error)
        self._board.end(run, status)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Show a bar a file."""
        self._downloads.start()
        if file not in self._files:
            self._files[file] = self._downloads.add_task(readable(file), total=total)
        self._downloads.update(self._files[file], completed=done, total=total)


def watcher(to: Streams, runs: Sequence[Run], *, quiet: bool) -> PlainWatcher:
    """Choose the live board where stderr is a terminal that can draw it, plain lines elsewhere."""
    live = to.err.is_terminal and not to.err.is_dumb_terminal and not quiet
    return (LiveWatcher if live else PlainWatcher)(to, runs, quiet=quiet)
