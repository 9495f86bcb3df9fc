"""What you see while runs train: a live board on a terminal, plain progress elsewhere.

`Board` lays out what runs have reported for a terminal of any size: one line per run if all fit, else one line per
variant, with learning curves that share one scale.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from rich.cells import set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from actbench.cli.console import Streams, is_ascii_only
from actbench.comparison.quantities import number
from actbench.config import Run
from actbench.events import PlainProgress, run_label, short_name, train_images
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.text import readable

Values = Sequence[float | None]
State = Literal["waiting", "training", "done", "diverged", "failed"]

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_STYLES: dict[State, str] = {"waiting": "dim", "training": "", "done": "green", "diverged": "yellow", "failed": "red"}
_URGENCY: dict[State, int] = {"training": 0, "failed": 1, "diverged": 2, "done": 3, "waiting": 4}
_EPOCH, _NUMBER, _LONGEST_NAME = 9, 6, 30


def spark(values: Values, epochs: int, width: int, scale: tuple[float, float], blocks: str = BLOCKS) -> str:
    """Draw a learning curve over `epochs` in at most `width` characters, each one of `blocks`.

    values[i] belongs to epoch i + 1; None leaves a gap. If there are more epochs than characters, a character shows the
    mean of several. `scale` gives the values of the lowest and the highest block; values outside are clipped.
    """
    characters = min(width, epochs)
    low, high = scale
    drawn = []
    for k in range(math.ceil(len(values) * characters / epochs)):
        first, last = k * epochs // characters, max((k + 1) * epochs // characters, k + 1)
        part = [value for value in values[first:last] if value is not None]
        if not part:
            drawn.append(" ")
            continue
        share = (fmean(part) - low) / (high - low) if high > low else 0.5
        drawn.append(blocks[min(int(min(max(share, 0.0), 1.0) * len(blocks)), len(blocks) - 1)])
    return "".join(drawn)


@dataclass
class Lane:
    """What one run has reported so far. The curves start at epoch 1; the first `before` epochs were trained earlier."""

    run: Run
    state: State = "waiting"
    changed: int = 0
    before: int = 0
    accuracy: list[float | None] = field(default_factory=list)
    dead: list[float | None] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last epoch that was trained."""
        return len(self.accuracy)

    @property
    def has_ended(self) -> bool:
        """Whether the run is done, diverged or failed."""
        return self.state not in ("waiting", "training")


@dataclass(frozen=True)
class BoardLine:
    """One line of the board: a run, or all runs of a variant with their mean curves."""

    name: str
    progress: str
    state: State
    changed: int
    epochs: int
    accuracy: Values
    dead: Values


class Board:
    """The state of all runs in a plan. Safe to use from any thread."""

    def __init__(self, runs: Sequence[Run], clock: Callable[[], float] = time.monotonic) -> None:
        self._lanes = {run.run_id: Lane(run) for run in runs}
        self._clock, self._lock = clock, threading.Lock()
        self._began: float | None = None
        self._changes = 0
        self._all_images = sum(run.variant.epochs * train_images(run) for run in runs)

    def start(self, run: Run, epochs_done: int) -> None:
        """Note that `run` starts, or continues after `epochs_done` epochs; it may start more than once."""
        with self._lock:
            self._began = self._began if self._began is not None else self._clock()
            lane = self._touch(run)
            lane.state, lane.before = "training", epochs_done
            lane.accuracy, lane.dead = [None] * epochs_done, [None] * epochs_done

    def epoch(self, run: Run, row: Row) -> None:
        """Note an epoch of `run`. Epoch 0, the untrained network, is not part of the curves."""
        if row["epoch"]:
            with self._lock:
                lane = self._touch(run)
                lane.accuracy.append(number(row["test_accuracy"]))
                lane.dead.append(number(row["dead_ratio"]))

    def end(self, run: Run, state: str) -> None:
        """Note that `run` has ended."""
        with self._lock:
            self._touch(run).state = state if state in ("done", "diverged") else "failed"  # type: ignore[assignment]

    def _touch(self, run: Run) -> Lane:
        lane = self._lanes.setdefault(run.run_id, Lane(run))
        self._changes += 1
        lane.changed = self._changes
        return lane

    def lines(self, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
        """Lay out the board in at most `height` lines of at most `width` cells."""
        with self._lock:
            room = max(height - 3, 1)  # without the summary, the headings and an empty line below
            lanes = list(self._lanes.values())
            by_run = len(lanes) <= room
            groups: dict[object, list[Lane]] = {}
            for lane in lanes:
                groups.setdefault(id(lane) if by_run else lane.run.variant, []).append(lane)
            entries = [_summed_up(group, by_run=by_run) for group in groups.values()]
            ranked = sorted(entries, key=lambda entry: (_URGENCY[entry.state], -entry.changed))
            hidden = ranked[room - 1 :] if len(ranked) > room else []
            shown = {id(entry) for entry in ranked} - {id(entry) for entry in hidden}
            entries = [entry for entry in entries if id(entry) in shown]
            layout = _Layout(entries, width, ASCII_BLOCKS if ascii_only else BLOCKS)
            found = [self._summary(lanes, width, ascii_only), layout.heading("run" if by_run else "variant")]
            found += [layout.line(entry) for entry in entries]
            if hidden:
                states = {state: sum(entry.state == state for entry in hidden) for state in _URGENCY}
                counts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
                found.append(Text(set_cell_size(f"and {len(hidden)} more: {counts}", width).rstrip(), style="dim"))
            return found[: max(height, 1)]

    def _summary(self, lanes: Sequence[Lane], width: int, ascii_only: bool) -> Text:
        """Say how far all runs are together, and how long the rest will take at the pace so far."""
        ended = [lane for lane in lanes if lane.has_ended]
        counts = {state: sum(lane.state == state for lane in ended) for state in ("diverged", "failed")}
        images = sum(  # a run that ended early leaves nothing to do
            train_images(lane.run) * (lane.run.variant.epochs if lane.has_ended else lane.epoch) for lane in lanes
        )
        share = images / self._all_images if self._all_images else 1.0
        new = sum(train_images(lane.run) * (lane.epoch - lane.before) for lane in lanes)
        parts = [f"{len(ended)} of {len(lanes)} runs ended", *(f"{n} {state}" for state, n in counts.items() if n)]
        if self._began is not None and new > 0:
            spent = self._clock() - self._began
            parts.append(f"{_clock_time(spent * (self._all_images - images) / new)} left")
        text = ", ".join(parts)
        bar = max(0, min(30, width - len(text) - 8))
        full = round(bar * share)
        signs = ("#", "-") if ascii_only else ("━", "╌")
        found = Text(signs[0] * full, style="cyan", no_wrap=True)
        found.append(signs[1] * (bar - full), style="dim")
        found.append(f" {share:4.0%}  {text}" if bar else text, style="not dim default")
        found.truncate(width)
        return found


class _Layout:
    """The widths of all columns. On a narrow terminal the curves go first."""

    def __init__(self, entries: Sequence[BoardLine], width: int, blocks: str) -> None:
        self._blocks = blocks
        self._accuracy, self._dead = (14, 10) if width >= 72 else (10, 0) if width >= 52 else (0, 0)
        widest = max([len(entry.name) for entry in entries] + [8])
        rest = _EPOCH + self._numbers(self._accuracy) + self._numbers(self._dead)
        self._name = max(min(widest, _LONGEST_NAME, width - rest), 4)
        self._scales = (_scale(e.accuracy for e in entries), _scale((e.dead for e in entries), from_zero=True))
        self._width = width

    @staticmethod
    def _numbers(curve: int) -> int:
        return 2 + (curve + 1 if curve else 0) + _NUMBER

    def heading(self, what: str) -> Text:
        """Name the columns and the range of the curves."""
        text = set_cell_size(what, self._name) + "  " + f"{'epoch' if what == 'run' else 'runs':<{_EPOCH - 2}}"
        titles = ("accuracy" if self._accuracy else "acc", "dead")
        for title, curve, scale in zip(titles, (self._accuracy, self._dead), self._scales, strict=True):
            room = self._numbers(curve) - 2
            span = f"{title} {100 * scale[0]:.3g}-{100 * scale[1]:.3g} %"
            title_text = span if curve and scale[1] > scale[0] and len(span) <= room else f"{title} %"
            text += f"  {title_text:>{room}}"
        return Text(text[: self._width], style="dim", no_wrap=True)

    def line(self, line: BoardLine) -> Text:
        """Lay out one line."""
        found = Text(set_cell_size(line.name, self._name) + "  ", no_wrap=True)
        found.append(f"{line.progress:<{_EPOCH - 2}}", style=_STYLES[line.state])
        curves = ((line.accuracy, self._accuracy, "cyan"), (line.dead, self._dead, "magenta"))
        for (values, curve, style), scale in zip(curves, self._scales, strict=True):
            drawn = spark(values, line.epochs, curve, scale, self._blocks) if curve else ""
            last = values[-1] if values else None
            value = "" if last is None else f"{100 * last:.2f}"
            found.append(f"  {drawn:<{curve}}" + (" " if curve else ""), style=style)
            found.append(f"{value:>{_NUMBER}}")
        found.truncate(self._width)
        return found


class LiveDisplay(PlainProgress, AbstractContextManager["LiveDisplay"]):
    """A live board on a terminal, with notes above it. It vanishes at the end, when the results follow."""

    def __init__(self, console: Console, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        super().__init__(say)
        self._console, self._board = console, Board(runs)
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True)
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


def _summed_up(lanes: Sequence[Lane], *, by_run: bool) -> BoardLine:
    """Return the line of one run, or of a variant, whose state is the one that most needs attention."""
    first, ended = lanes[0], sum(lane.has_ended for lane in lanes)
    if by_run:
        name, state = run_label(first.run, _LONGEST_NAME - 4), first.state
        progress = f"{first.epoch}/{first.run.variant.epochs}" if state in ("training", "done") else state
    else:
        name, progress = short_name(first.run, _LONGEST_NAME), f"{ended}/{len(lanes)}"
        state = "training" if 0 < ended < len(lanes) else min((lane.state for lane in lanes), key=_URGENCY.__getitem__)
    changed = max(lane.changed for lane in lanes)
    together, last = _in_step(lanes)
    accuracy, dead = (_means([curve[:last] for curve in curves]) for curves in zip(*together, strict=True))
    return BoardLine(name, progress, state, changed, first.run.variant.epochs, accuracy, dead)


def _in_step(lanes: Sequence[Lane]) -> tuple[list[tuple[Values, Values]], int]:
    """Return the curves of the lanes that a mean curve covers, and its last epoch.

    These are the finished runs, or before the first of them, all runs in training up to the epoch that each has
    reached. A mean over one set of runs does not jump because a run joins or leaves it.
    """
    alive = [lane for lane in lanes if lane.epoch and lane.state not in ("diverged", "failed")] or lanes
    finished = [lane.epoch for lane in alive if lane.state == "done"]
    last = max(finished) if finished else min(lane.epoch for lane in alive)
    return [(lane.accuracy, lane.dead) for lane in alive if lane.epoch >= last], last


def _means(curves: Sequence[Values]) -> tuple[float | None, ...]:
    """Return the mean of curves of equal length; an epoch at which one of them has no value has none."""
    at = ([value for value in values if value is not None] for values in zip(*curves, strict=True))
    return tuple(fmean(values) if len(values) == len(curves) else None for values in at)


def _scale(curves: Iterable[Values], *, from_zero: bool = False) -> tuple[float, float]:
    """Return the scale that all curves share. It ignores the lowest tenth: one hopeless run would flatten the rest."""
    values = sorted(value for curve in curves for value in curve if value is not None)
    if not values:
        return 0.0, 0.0
    return 0.0 if from_zero else values[len(values) // 10], values[-1]


def _clock_time(seconds: float) -> str:
    """Write 3,725 s as 1:02:05."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
