"""Whether a lane alone shares its products between threads, found out while it trains (layer 3; the model's type only).

Sharing is a third faster on an idle machine, and several times slower while another process keeps a processor busy,
which may begin and end at any time. The bits are the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actbench.model import LaneNetwork


class Pace:
    """Lets a network share its products between its threads for as long as that is faster than to go without.

    Steps are timed in windows. After one without sharing, sharing is tried. Where a shared window takes longer than
    the last one without, the next goes without: 20 steps, and twice as many each time that sharing fails at once,
    up to 400. Once in 1,000 steps a window goes without all the same, so that its time is that of the machine as it is.
    """

    _WINDOW, _LONGEST, _PERIOD = 20, 400, 1000

    def __init__(self, network: LaneNetwork) -> None:
        self._network, self._threads = network, network.threads
        self._alone_s = 0.0  # a step without sharing
        self._shared_for = 0  # steps
        self._wait = self._WINDOW
        self._open(threads=1, steps=self._WINDOW)

    def step(self) -> None:
        """Note that a step begins."""
        if self._threads > 1:
            if self._left == 0:
                self._judge((time.perf_counter() - self._since) / self._steps)
            self._left -= 1

    def end(self) -> None:
        """Give the network its threads back."""
        self._network.threads = self._threads

    def _judge(self, step_s: float) -> None:
        """Choose the next window by the time of a step in the last."""
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
