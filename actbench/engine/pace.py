"""Decides during training whether a single lane shares its products among threads.

Sharing is a third faster on an idle machine, but several times slower while another process keeps a processor busy,
and such a process may start or end at any time. The bits of the result are the same either way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actbench.model import LaneNetwork


class Pace:
    """Lets a network share its products among its threads as long as that is faster than not sharing.

    Steps are timed in windows. After a window without sharing, sharing is tried. If a shared window takes longer per
    step than the last unshared one, the next window is unshared: 20 steps, doubled up to 400 each time that sharing
    fails at once. Every 1,000 steps one window is unshared anyway, to keep its time up to date.
    """

    _WINDOW, _LONGEST, _PERIOD = 20, 400, 1000

    def __init__(self, network: LaneNetwork) -> None:
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
