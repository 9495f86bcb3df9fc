#!/usr/bin/env python3
"""Measure this machine's best rates for the floor of scripts/benchmark.py: a large matrix product, and copying.

For every line on standard input, it prints three numbers: float32 operations per second of the product of two square
matrices (2 n^3 operations, the better of two sizes); bytes per second of a copy (read plus written) between arrays that
do not fit the caches; and the same between arrays that together are as large as the state of one network's Adam. It
uses all threads and torch's own settings, and takes the best of several calls, because a floor needs the best rate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

SIZES = (2048, 4096)
COPIED = (2**26, 2 * 407_050)  # floats: 256 MiB to 256 MiB; parameters and gradients to both moments


def best(action: Callable[[], object], calls: int) -> float:
    """Return the seconds of the fastest call."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def product_rate(n: int) -> float:
    """Return operations per second of the product of two (n, n) matrices."""
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.zeros(n, n)
    return 2 * n**3 / best(lambda: torch.mm(a, b, out=out), 4)


def copy_rate(floats: int) -> float:
    """Return bytes per second, read plus written, of copying an array of so many floats."""
    source, target = torch.randn(floats), torch.zeros(floats)
    return 8 * floats / best(lambda: target.copy_(source), max(4, 2**28 // floats))


def main() -> None:
    """Measure once per line of standard input."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(max(map(product_rate, SIZES)), *map(copy_rate, COPIED), flush=True)


if __name__ == "__main__":
    main()
