"""Ctrl-C and SIGTERM end training at an epoch (layer 5)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from actbench.cli.console import Streams


@contextmanager
def stopping(
    to: Streams, told: str = "stopping after this epoch and keeping a checkpoint; again: stop at once"
) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that training can end at an epoch; the second one ends it at once."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)
        to.note(told)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
