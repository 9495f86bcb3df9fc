"""What you see while runs train: a live board on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from rich.cells import set_cell_size
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from actbench.cli.console import Streams
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
    """Draw a curve over `epochs` in at most `width` signs, one of `blocks` each, from scale[0] to scale[1].

    values[i] is that of epoch i + 1; None leaves a gap. Where there are more epochs than signs, a sign is the
    mean of several. What lies beyond the scale is drawn at its end.
    """
    signs = min(width, epochs)
    low, high = scale
    drawn = []
    for k in range(math.ceil(len(values) * signs / epochs)):
        part = [v for v in values[k * epochs // signs : max((k + 1) * epochs // signs, k + 1)] if v is not None]
        if not part:
            drawn.append(" ")
            continue
        share = (mean(part) - low) / (high - low) if high > low else 0.5
        drawn.append(blocks[min(int(min(max(share, 0.0), 1.0) * len(blocks)), len(blocks) - 1)])
    return "".join(drawn)


def mean(values: Sequence[float]) -> float:
    """Return the mean of numbers, of which there is at least one."""
    return math.fsum(values) / len(values)


@dataclass
class Lane:
    """What one run has shown so far; the curves begin with epoch 1, of which `before` were trained earlier."""

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


@dataclass(frozen=True)
class Entry:
    """One line of the board: a run, or all runs of a variant with the means of their curves."""

    name: str
    progress: str
    state: State
    changed: int
    epochs: int
    accuracy: Values
    dead: Values


class Board:
    """The state of all runs that are to be trained; any thread may tell it something, any may look."""

    def __init__(self, runs: Sequence[Run], clock: Callable[[], float] = time.monotonic) -> None:
        self._lanes = {run.run_id: Lane(run) for run in runs}
        self._clock, self._lock = clock, threading.Lock()
        self._began: float | None = None
        self._changes = 0
        self._all_images = sum(run.variant.epochs * train_images(run) for run in runs)

    def start(self, run: Run, epochs_done: int) -> None:
        """`run` begins, or goes on after `epochs_done` epochs; perhaps not for the first time."""
        with self._lock:
            self._began = self._began if self._began is not None else self._clock()
            lane = self._touch(run)
            lane.state, lane.before = "training", epochs_done
            lane.accuracy, lane.dead = [None] * epochs_done, [None] * epochs_done

    def epoch(self, run: Run, row: Row) -> None:
        """An epoch of `run` has been measured; the untrained network is no part of a curve."""
        if row["epoch"]:
            with self._lock:
                lane = self._touch(run)
                lane.accuracy.append(_finite(row["test_accuracy"]))
                lane.dead.append(_finite(row["dead_ratio"]))

    def end(self, run: Run, state: str) -> None:
        """`run` has ended."""
        with self._lock:
            self._touch(run).state = state if state in ("done", "diverged") else "failed"  # type: ignore[assignment]

    def _touch(self, run: Run) -> Lane:
        lane = self._lanes.setdefault(run.run_id, Lane(run))
        self._changes += 1
        lane.changed = self._changes
        return lane

    def lines(self, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
        """Lay the board out in at most `height` lines of at most `width` cells."""
        with self._lock:
            room = max(height - 3, 1)  # the summary and the headings; a line stays free below
            lanes = list(self._lanes.values())
            by_run = len(lanes) <= room
            entries = [_of_lane(lane) for lane in lanes] if by_run else _of_variants(lanes)
            hidden: list[Entry] = []
            if len(entries) > room:
                ranked = sorted(entries, key=lambda entry: (_URGENCY[entry.state], -entry.changed))
                shown = {id(entry) for entry in ranked[: room - 1]}
                hidden = ranked[room - 1 :]
                entries = [entry for entry in entries if id(entry) in shown]
            layout = _Layout(entries, width, BLOCKS if not ascii_only else ASCII_BLOCKS)
            found = [self._summary(lanes, width, ascii_only), layout.heading("run" if by_run else "variant")]
            found += [layout.line(entry) for entry in entries]
            if hidden:
                found.append(Text(set_cell_size(_count(hidden), width).rstrip(), style="dim"))
            return found[: max(height, 1)]

    def _summary(self, lanes: Sequence[Lane], width: int, ascii_only: bool) -> Text:
        """How far all runs are together, and how long the rest will take at the pace so far."""
        ended = [lane for lane in lanes if lane.state not in ("waiting", "training")]
        counts = {state: sum(lane.state == state for lane in ended) for state in ("diverged", "failed")}
        images = sum(  # what a run that ended early has left out is not left to do
            train_images(lane.run) * (lane.run.variant.epochs if lane in ended else lane.epoch) for lane in lanes
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
    """How wide everything is: curves go first where a terminal is narrow."""

    def __init__(self, entries: Sequence[Entry], width: int, blocks: str) -> None:
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
        """Name the columns, and say which range a curve spans."""
        text = set_cell_size(what, self._name) + "  " + f"{'epoch' if what == 'run' else 'runs':<{_EPOCH - 2}}"
        titles = ("accuracy" if self._accuracy else "acc", "dead")
        for title, curve, scale in zip(titles, (self._accuracy, self._dead), self._scales, strict=True):
            room = self._numbers(curve) - 2
            span = f"{title} {100 * scale[0]:.3g}-{100 * scale[1]:.3g} %"
            told = span if curve and scale[1] > scale[0] and len(span) <= room else f"{title} %"
            text += f"  {told:>{room}}"
        return Text(text[: self._width], style="dim", no_wrap=True)

    def line(self, entry: Entry) -> Text:
        """Lay one entry out."""
        found = Text(set_cell_size(entry.name, self._name) + "  ", no_wrap=True)
        found.append(f"{entry.progress:<{_EPOCH - 2}}", style=_STYLES[entry.state])
        curves = ((entry.accuracy, self._accuracy, "cyan"), (entry.dead, self._dead, "magenta"))
        for (values, curve, style), scale in zip(curves, self._scales, strict=True):
            drawn = spark(values, entry.epochs, curve, scale, self._blocks) if curve else ""
            last = values[-1] if values else None
            number = "" if last is None else f"{100 * last:.2f}"
            found.append(f"  {drawn:<{curve}}" + (" " if curve else ""), style=style)
            found.append(f"{number:>{_NUMBER}}")
        found.truncate(self._width)
        return found


def _of_lane(lane: Lane) -> Entry:
    progress = f"{lane.epoch}/{lane.run.variant.epochs}" if lane.state in ("training", "done") else lane.state
    return Entry(
        run_label(lane.run, _LONGEST_NAME - 4), progress, lane.state, lane.changed, lane.run.variant.epochs,
        tuple(lane.accuracy), tuple(lane.dead),
    )  # fmt: skip


def _of_variants(lanes: Sequence[Lane]) -> list[Entry]:
    """Sum the lanes of each variant up; its state is that of the lane that most needs a look."""
    variants: dict[object, list[Lane]] = {}
    for lane in lanes:
        variants.setdefault(lane.run.variant, []).append(lane)
    found = []
    for members in variants.values():
        first = members[0].run
        ended = sum(lane.state not in ("waiting", "training") for lane in members)
        states = [lane.state for lane in members]
        state: State = "training" if 0 < ended < len(members) else min(states, key=_URGENCY.__getitem__)
        found.append(
            Entry(
                short_name(first, _LONGEST_NAME), f"{ended}/{len(members)}", state,
                max(lane.changed for lane in members), first.variant.epochs,
                _means([lane.accuracy for lane in members]), _means([lane.dead for lane in members]),
            )
        )  # fmt: skip
    return found


def _means(curves: Sequence[Values]) -> tuple[float | None, ...]:
    """Return the mean of the curves at each epoch, of those that have come so far."""
    longest = max((len(curve) for curve in curves), default=0)
    at = ([c[k] for c in curves if k < len(c)] for k in range(longest))
    present = ([value for value in values if value is not None] for values in at)
    return tuple(mean(values) if values else None for values in present)


def _scale(curves: Iterable[Values], *, from_zero: bool = False) -> tuple[float, float]:
    """Return the range that curves share; one hopeless curve must not flatten all others, so the lowest go."""
    values = sorted(value for curve in curves for value in curve if value is not None)
    if not values:
        return 0.0, 0.0
    return 0.0 if from_zero else values[len(values) // 10], values[-1]


def _count(hidden: Sequence[Entry]) -> str:
    states = {state: sum(entry.state == state for entry in hidden) for state in _URGENCY}
    told = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    return f"and {len(hidden)} more: {told}"


def _clock_time(seconds: float) -> str:
    """Write 3,725 s as 1:02:05."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


_REDRAWN_PER_S = 4


class PlainWatcher(PlainProgress, AbstractContextManager["PlainWatcher"]):
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

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Say what went wrong above the board, and mark the run."""
        super().on_end(run, record)
        self._board.end(run, record.status)

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
