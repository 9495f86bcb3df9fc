"""Divides work among threads without changing a bit of the result.

A product may be split: `actbench/__init__.py` asks MKL for its strictly reproducible mode, which sums an element in
the same order however the work is shared. Elementwise work is never split, because vector and scalar code round
differently where a share does not end on a whole vector. The optimizer's work is the exception: the flat parameter
buffers are padded for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from actbench.text import plural

T = TypeVar("T")
U = TypeVar("U")

PADDING = 64 * 12
"""A flat parameter buffer is padded to a multiple of this many floats: split over 2, 3, 4, 6 or 12 threads, every share
consists of whole vectors."""


def usable_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed_threads(asked: int | None, note: Callable[[str], object] = lambda _: None) -> int:
    """Return how many threads to use: as many as `asked`, or all, but at most one per processor that may be used.

    Fewer than asked for are pointed out through `note`.
    """
    most = usable_threads()
    if asked is not None and asked > most:
        note(f"--threads {asked}: this process may use {plural(most, 'processor')}; using {plural(most, 'thread')}")
    return min(asked or most, most)


def whole_shares(threads: int) -> int:
    """Return the largest number of threads, at most `threads`, that splits a flat buffer into whole vectors."""
    return max(n for n in (1, 2, 3, 4, 6, 12) if n <= threads)


def configure_thread() -> None:
    """Configure the calling thread: one thread for its products until `spread` says otherwise, and no denormals.

    The optimizer's moments of a dead unit fade below 1e-38, where arithmetic is a hundred times slower: a few dead
    units would double the time of a step. Such numbers are treated as 0.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def training_thread() -> Iterator[None]:
    """Configure the calling thread for training, and restore it afterwards: other code may need denormals."""
    threads, flushed = torch.get_num_threads(), not bool(torch.tensor(1e-40) * 1)
    configure_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


class spread:  # noqa: N801 - used like a function: `with spread(2): ...`
    """Let the calling thread's products use this many threads inside the `with` block, and one after it."""

    __slots__ = ("_threads",)

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        if self._threads > 1:
            torch.set_num_threads(self._threads)

    def __exit__(self, *_: object) -> None:
        if self._threads > 1:
            torch.set_num_threads(1)


def side_by_side(function: Callable[[T], U], items: Iterable[T], threads: int) -> Iterator[U]:
    """Yield `function(item)` in the order of `items`, computed on `threads` threads, one item at a time on each."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, "share", initializer=configure_thread) as pool:
        yield from pool.map(function, items)


class Sharing(Protocol):
    """A network that shares its products among `threads`."""

    threads: int


class Pace:
    """Lets a network share its products among its threads as long as that is faster than not sharing.

    Sharing is a third faster on an idle machine, but several times slower while another process keeps a processor busy,
    and such a process may start or end at any time. The bits of the result are the same either way.

    Steps are timed in windows. After a window without sharing, sharing is tried. If a shared window takes longer per
    step than the last unshared one, the next window is unshared: 20 steps, doubled up to 400 each time that sharing
    fails at once. Every 1,000 steps one window is unshared anyway, to keep its time up to date.
    """

    _WINDOW, _LONGEST, _PERIOD = 20, 400, 1000

    def __init__(self, network: Sharing) -> None:
        self._network, self._threads = network, network.threads
        self._alone_s = 0.0  # seconds per step without sharing
        self._shared_for = 0  # steps
        self._wait = self._WINDOW
        self._open(threads=1, steps=self._WINDOW)

    def step(self) -> None:
        """Record that a step begins."""
        if self._threads > 1:
            if self._left == 0:
                self._judge((time.perf_counter() - self._since) / self._steps)
            self._left -= 1

    def end(self) -> None:
        """Give the network its threads back."""
        self._network.threads = self._threads

    def _judge(self, step_s: float) -> None:
        """Choose the next window from the last one's seconds per step."""
        if self._network.threads == 1:
            self._alone_s, self._shared_for = step_s, 0
            self._open(self._threads, self._WINDOW)
        elif step_s > self._alone_s:
            self._wait = self._WINDOW if self._shared_for else min(2 * self._wait, self._LONGEST)
            self._open(1, self._wait)
        elif self._shared_for >= self._PERIOD:
            self._open(1, self._WINDOW)
        else:
            self._shared_for += self._WINDOW
            self._open(self._threads, self._WINDOW)

    def _open(self, threads: int, steps: int) -> None:
        self._network.threads = threads
        self._steps = self._left = steps
        self._since = time.perf_counter()
