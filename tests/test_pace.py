"""Pace: sharing a lane's products for as long as it pays, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest

from actbench import compute

Cost = Callable[[int, int], float]
"""(step, threads) -> seconds."""


def threads_of_each_step(monkeypatch: pytest.MonkeyPatch, cost: Cost, steps: int, threads: int = 2) -> list[int]:
    clock, network, used = SimpleNamespace(now=100.0), SimpleNamespace(threads=threads), []
    monkeypatch.setattr(compute.time, "perf_counter", lambda: clock.now)
    its: Any = compute.Pace(network)  # type: ignore[arg-type]
    for step in range(steps):
        its.step()
        used.append(network.threads)
        clock.now += cost(step, network.threads)
    its.end()
    assert network.threads == threads
    return used


def stretches(used: list[int]) -> list[tuple[int, int]]:
    return [(threads, len(list(steps))) for threads, steps in groupby(used)]


def test_on_an_idle_machine_all_but_a_fiftieth_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    used = threads_of_each_step(monkeypatch, lambda _, threads: 1.3 / threads, 3000)
    assert stretches(used) == [(1, 20), (2, 1020), (1, 20), (2, 1020), (1, 20), (2, 900)]


def test_beside_a_busy_process_sharing_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    used = threads_of_each_step(monkeypatch, lambda _, threads: 1.0 if threads == 1 else 3.0, 2000)
    waits = [length for threads, length in stretches(used) if threads == 1]
    assert waits[:7] == [20, 40, 80, 160, 320, 400, 400]
    assert {length for threads, length in stretches(used) if threads == 2} == {20}


def test_a_short_disturbance_costs_a_window_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(step: int, threads: int) -> float:
        return 5.0 if threads == 2 and step == 130 else 1.3 / threads

    used = threads_of_each_step(monkeypatch, cost, 940)
    assert used.count(1) == 20
    slow = threads_of_each_step(monkeypatch, lambda s, t: 9.0 if t == 2 and 121 <= s < 140 else 1.3 / t, 940)
    assert stretches(slow) == [(1, 20), (2, 120), (1, 20), (2, 780)]


def test_sharing_comes_back_when_the_other_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    used = threads_of_each_step(monkeypatch, lambda s, t: 1.0 if t == 1 else (3.0 if s < 600 else 0.7), 2000)
    assert used[:600].count(2) < 120
    assert used[1100:].count(1) <= 20


def test_a_single_thread_is_never_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(threads_of_each_step(monkeypatch, lambda *_: 1.0, 100, threads=1)) == {1}
