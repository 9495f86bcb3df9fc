"""SCHEDULES: how the learning rate changes during training. To add a schedule, add one entry here.

A schedule gives a factor on the config's `lr` for each optimizer step, so lanes with different schedules can train
side by side. Notation: s is the step, from 0; n the steps per epoch; e = s // n the epoch, from 0; T the steps in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from actbench.registry import Parameter, Params, Registry


@dataclass(frozen=True)
class Schedule:
    """One schedule: `factor(s, n, T, **params)` is its factor on the learning rate."""

    name: str
    formula: str
    source: str
    factor: Callable[..., float]
    parameters: tuple[Parameter, ...] = ()


def multiplier(name: str, params: Params, step: int, per_epoch: int, epochs: int) -> float:
    """Return the factor on `lr` that schedule `name` gives at optimizer step `step`, counted from 0.

    `params` are complete (see `SCHEDULES.complete`), and `per_epoch` is the number of steps per epoch. After the last
    step the factor stays the same. Raises UnknownNameError for an unknown name.
    """
    total = per_epoch * epochs
    return SCHEDULES[name].factor(min(step, total), per_epoch, total, **params)


def _half_cosine(start: float, end: float, share: float) -> float:
    """Go from `start` (share 0) to `end` (share 1) along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(s: int, n: int, total: int, pct_start: float, div_factor: float, final_div_factor: float) -> float:
    top, last = pct_start * total - 1, total - 1
    first, final = 1 / div_factor, 1 / (div_factor * final_div_factor)
    if s < top:
        return _half_cosine(first, 1.0, s / top)
    return _half_cosine(1.0, final, min(1.0, (s - top) / (last - top)))


def _warmup(s: int, n: int, total: int, warmup_epochs: float, then: str) -> float:
    rising = warmup_epochs * n
    if s + 1 < rising:
        return (s + 1) / rising
    if then == "constant" or rising >= total:
        return 1.0
    return _half_cosine(1.0, 0.0, max(0.0, s - rising) / (total - rising))


def _ratio(name: str, default: float, doc: str) -> Parameter:
    return Parameter(name, default, doc, low=0, high=1, low_open=True)


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    [
        Schedule("constant", "1", "the recipe", lambda s, n, total: 1.0),
        Schedule(
            "step", "gamma^floor(e / step_size)", "torch.optim.lr_scheduler.StepLR",
            lambda s, n, total, step_size, gamma: float(gamma ** (s // n // step_size)),
            (
                Parameter("step_size", 5, "epochs between cuts", low=1, high=100_000),
                _ratio("gamma", 0.1, "factor at each cut"),
            ),
        ),
        Schedule(
            "exponential", "gamma^e", "torch.optim.lr_scheduler.ExponentialLR",
            lambda s, n, total, gamma: float(gamma ** (s // n)),
            (_ratio("gamma", 0.9, "factor per epoch"),),
        ),
        Schedule(
            "cosine", "r + (1 - r)(1 + cos(pi s / T)) / 2, r = min_lr_ratio",
            "Loshchilov & Hutter 2017, no restarts",
            lambda s, n, total, min_lr_ratio: _half_cosine(1.0, min_lr_ratio, s / total),
            (Parameter("min_lr_ratio", 0.0, "the factor at the end", low=0, high=1),),
        ),
        Schedule(
            "one_cycle", "half a cosine from 1 / div_factor to 1, one to 1 / (div_factor final_div_factor)",
            "torch.optim.lr_scheduler.OneCycleLR; Smith & Topin 2018", _one_cycle,
            (
                Parameter("pct_start", 0.3, "share of the steps with a rising rate", low=0, high=1, high_open=True),
                Parameter("div_factor", 25.0, "peak factor over the first", low=1, high=1e9),
                Parameter("final_div_factor", 1e4, "first factor over the last", low=1, high=1e9),
            ),
        ),
        Schedule(
            "warmup", "min(1, (s + 1) / (n warmup_epochs)), then constant or half a cosine down to 0",
            "Goyal et al. 2017, gradual warm-up", _warmup,
            (
                Parameter("warmup_epochs", 1.0, "epochs until the full rate", low=0, high=100_000, low_open=True),
                Parameter("then", "constant", "what follows the warm-up", choices=("constant", "cosine")),
            ),
        ),
    ],
)  # fmt: skip
