"""Divides work among threads without changing a bit of the result.

A product may be split: `actbench/__init__.py` asks MKL for its strictly reproducible mode, which sums an element in
the same order however the work is shared. Elementwise work is never split, because vector and scalar code round
differently where a share does not end on a whole vector. The optimizer's work is the exception: the flat parameter
buffers are padded for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

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


def free_memory() -> int | None:
    """Return how many more bytes of memory the machine and its container allow this process, or None if unknown."""
    known: list[int] = []
    with suppress(OSError, KeyError, ValueError):  # only Linux has these files
        known.append(1024 * _numbers("/proc/meminfo")["MemAvailable:"])
    with suppress(OSError, KeyError, ValueError):  # "max" if the container has no limit
        limit, taken = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current"))
        cached = _numbers("/sys/fs/cgroup/memory.stat")["inactive_file"]  # the kernel frees it on demand
        known.append(max(0, limit - taken + cached))
    return min(known, default=None)


def _numbers(path: str) -> dict[str, int]:
    """Read a kernel file that has a name and a number on each line."""
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {name: int(number) for name, number, *_ in lines}


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
