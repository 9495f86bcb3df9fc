"""What you see while runs train: a live board on a terminal, plain progress elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from actbench.cli.board import Board
from actbench.cli.console import Streams, is_ascii_only
from actbench.config import Run
from actbench.events import PlainProgress
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.text import readable

_REDRAWS_PER_S = 4


class LiveDisplay(PlainProgress, AbstractContextManager["LiveDisplay"]):
    """A live board on a terminal, with notes above it. It vanishes at the end, when the results follow."""

    def __init__(self, console: Console, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        super().__init__(say)
        self._console, self._board = console, Board(runs)
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=_REDRAWS_PER_S, transient=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        self._downloads = Progress(*columns, console=console, transient=True)
        self._files: dict[str, TaskID] = {}

    def _draw(self) -> Group:
        size = self._console.size
        return Group(*self._board.lines(size.width, size.height, ascii_only=is_ascii_only(self._console)))

    def __exit__(self, *_: object) -> None:
        """Remove the board."""
        self._downloads.stop()
        self._live.stop()

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Start the run's line."""
        self._downloads.stop()
        super().on_start(run, epochs_done)
        self._board.start(run, epochs_done)
        self._live.start()

    def on_epoch(self, run: Run, row: Row) -> None:
        """Extend the run's curves; the board is redrawn by its own clock."""
        self._board.epoch(run, row)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Mark the run; print above the board what went wrong."""
        super().on_end(run, record)
        self._board.end(run, record.status)

    def on_download(self, file: str, done: int, total: int | None) -> None:
        """Show one progress bar per file."""
        self._downloads.start()
        if file not in self._files:
            self._files[file] = self._downloads.add_task(readable(file), total=total)
        self._downloads.update(self._files[file], completed=done, total=total)


def watcher(
    to: Streams, runs: Sequence[Run], *, quiet: bool, plain: Callable[..., PlainProgress] = PlainProgress
) -> AbstractContextManager[PlainProgress]:
    """Choose the live display if stderr is a capable terminal, else plain progress; `quiet` shows only failures."""
    if to.err.is_terminal and not to.err.is_dumb_terminal and not quiet:
        return LiveDisplay(to.err, runs, to.note)
    return nullcontext(plain(to.note, quiet=quiet))
