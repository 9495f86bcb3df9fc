"""How many threads compute what, without a change of bits (layer 3; imports torch).

A product may be split over threads: `actbench/__init__.py` asks MKL for its strictly reproducible mode, in which an
element is summed in the same order however the work is shared. Elementwise work is never split: its vector
and scalar code round differently where a share does not end on a whole vector. The optimizer's is, over
planes that are padded for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")

PLANE_SHARE = 64 * 12
"""Floats to which a plane is padded: split over 2, 3, 4, 6 or 12 threads, every share is whole vectors."""


def usable_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return how many bytes of memory this process may still take from the machine and its container; None: unknown."""
    known: list[int] = []
    with suppress(OSError, KeyError, ValueError):  # Linux alone tells
        known.append(1024 * _numbers("/proc/meminfo")["MemAvailable:"])
    with suppress(OSError, KeyError, ValueError):  # "max" where a container has no limit
        limit, taken = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current"))
        cached = _numbers("/sys/fs/cgroup/memory.stat")["inactive_file"]  # the kernel gives it back when it is asked
        known.append(max(0, limit - taken + cached))
    return min(known, default=None)


def _numbers(path: str) -> dict[str, int]:
    """What a file of the kernel says, a name and a number a line."""
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {name: int(number) for name, number, *_ in lines}


def whole_shares(threads: int) -> int:
    """Return the largest number of threads, at most `threads`, over which a plane splits into whole vectors."""
    return max(n for n in (1, 2, 3, 4, 6, 12) if n <= threads)


def configure_thread() -> None:
    """Set what belongs to the calling thread: one thread for its products until `spread`, and no denormals.

    The optimizer's moments of a dead unit fade into numbers below 1e-38, on which a processor is a hundred
    times slower: a few dead units would double the time of a step. They are taken for 0 instead.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def training_thread() -> Iterator[None]:
    """Configure the calling thread for training, and leave it as it was: other code may want its denormals."""
    threads, flushed = torch.get_num_threads(), not bool(torch.tensor(1e-40) * 1)
    configure_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


class spread:  # noqa: N801 - used like a function: `with spread(2): ...`
    """Let the calling thread's next products use so many threads, then one again."""

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
    """Yield `function(item)` in the order of `items`, computed by so many threads, one item a thread."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, "share", initializer=configure_thread) as pool:
        yield from pool.map(function, items)
