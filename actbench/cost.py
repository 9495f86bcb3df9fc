"""The cost of an activation function: time per element, and its share of a training step.

It times what the engine does on CPU, in the same way: on one thread, with denormals flushed, on z (1, B, H) of
standard normal numbers that fit the caches.

    forward   a = f(z), including the random numbers of a slope that is random during training
    backward  g <- g f'(z) in place, with the exact slope; autograd's backward if that is not enough (learned
              parameters, or an output of another width), in which case the forward pass records for it
    step      a whole training step (forward, backward, Adam) of a 784-H-10 network with f at batch size B

Other programs disturb every measurement, so the activations take turns within each round, and the order reverses from
round to round: anything that slows the machine down slows all of them. The value of a round is the median of a few
calls; the interval shows how much the rounds differ.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

import torch

from actbench import compute, engine, stats
from actbench.activations import ACTIVATIONS
from actbench.config import Choice, Run, Variant
from actbench.datasets import Dataset, Split
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.errors import UsageError
from actbench.model import generator

CALLS, STEPS = 20, 5
"""The value of a round is the median of this many calls or training steps."""

_MOST = 2**20


class Elements(NamedTuple):
    """The size of the input to an activation function in a training step: batch size x hidden width."""

    batch: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Elements:
        """Parse `64x512`. Raises UsageError for anything else, and for more than 2^20 elements."""
        if match := re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.lower(), re.ASCII):
            found = cls(int(match[1]), int(match[2]))
            if min(found) >= 1 and max(found) <= 16_384 and found.batch * found.width <= _MOST:
                return found
        raise UsageError(
            f"--elements must be BATCHxWIDTH such as 64x512, each from 1 to 16384, product at most {_MOST:,}; "
            f"got {text[:60]!r}"
        )

    def __str__(self) -> str:
        """Return the text that `parse` accepts."""
        return f"{self.batch}x{self.width}"


RECIPE = Elements(64, 512)


@dataclass(frozen=True)
class Cost:
    """The cost of one activation in nanoseconds per element of z: means over rounds with their 95% t intervals.

    step_share: forward and backward divided by a whole training step, 0-1. by_slope: backward is not autograd's.
    """

    activation: str
    forward_ns: float
    forward_low: float
    forward_high: float
    backward_ns: float
    backward_low: float
    backward_high: float
    step_share: float
    by_slope: bool

    @property
    def row(self) -> dict[str, Any]:
        """The numbers for CSV and JSON."""
        return {key: value for key, value in asdict(self).items() if key != "by_slope"}


def measure(
    activations: Sequence[str | Choice],
    elements: Elements = RECIPE,
    *,
    threads: int = 1,
    rounds: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Cost]:
    """Time the activations in `rounds` (>= 2) interleaved rounds, after one warm-up round.

    activations: names, which stand for default parameters, or choices. threads: these share the matrix products of a
    training step, as in training; an activation always uses one.
    clock: returns seconds. Raises UnknownNameError for an unknown activation.
    """
    engine.configure()
    with compute.training_thread():
        timed = [_TimedActivation(one, elements, threads) for one in activations]
        for number in range(rounds + 1):
            for one in timed if number % 2 else reversed(timed):
                one.time_round(clock, keep=number > 0)
    return [one.cost() for one in timed]


class _TimedActivation:
    """One activation, and the times measured so far."""

    def __init__(self, activation: str | Choice, elements: Elements, threads: int) -> None:
        chosen = Choice.of("activation", activation) if isinstance(activation, str) else activation
        self.name, self._entry = chosen.label, ACTIVATIONS[chosen.name]
        self._seconds: list[tuple[float, float, float]] = []
        self._draws = generator(0, "cost")
        variant = Variant(activation=(chosen,), hidden=(elements.width,))
        self._stack = LaneStack([Run(variant, 0)], _random_images(elements.batch, variant, self._draws))
        self._stack.network.threads = threads
        self._batch = torch.arange(elements.batch).unsqueeze(0)  # (1, B)
        structure = self._stack.network.structure
        (layer,) = structure.layers
        self._by_slope = layer.pre == layer.post and not structure.learned
        self._z = torch.randn(1, elements.batch, layer.pre, generator=self._draws).requires_grad_(not self._by_slope)
        self._gradient = torch.randn(1, elements.batch, layer.post, generator=self._draws)
        params = chosen.params
        self._learned = {
            parameter: torch.full((1, *shape), float(params[parameter]), requires_grad=True)
            for parameter, (_, shape) in zip(self._entry.learned(params), structure.learned, strict=True)
        }
        self._noise = torch.zeros_like(self._z) if self._entry.noise else None
        self._params = {**params, **self._learned, **({} if self._noise is None else {"noise": self._noise})}

    def time_round(self, clock: Callable[[], float], *, keep: bool) -> None:
        """Time one round and `keep` its medians, or drop them."""
        forward, backward, step = [], [], []
        z, params = self._z, self._params
        with torch.set_grad_enabled(not self._by_slope):
            for _ in range(CALLS):
                g, start = self._gradient.clone(), clock()
                if self._noise is not None:
                    self._noise.uniform_(generator=self._draws)
                out, middle = self._entry.function(z, **params), clock()
                if self._by_slope:
                    g.mul_(self._entry.slope(z, **params))
                else:
                    torch.autograd.grad(out, [z, *self._learned.values()], g)
                forward.append(middle - start)
                backward.append(clock() - middle)
        for _ in range(STEPS):
            start = clock()
            self._stack.step(self._batch)
            step.append(clock() - start)
        if keep:
            self._seconds.append((median(forward), median(backward), median(step)))

    def cost(self) -> Cost:
        """Return the summary over all rounds."""
        forward, backward, step = zip(*self._seconds, strict=True)
        return Cost(
            self.name,
            *self._per_element(forward),
            *self._per_element(backward),
            step_share=(fmean(forward) + fmean(backward)) / fmean(step),
            by_slope=self._by_slope,
        )

    def _per_element(self, seconds: Sequence[float]) -> tuple[float, float, float]:
        """Return the mean and the ends of its interval in nanoseconds per element; no time is negative."""
        ns = [1e9 * value / self._z.numel() for value in seconds]
        interval = stats.t_interval(ns)
        assert interval is not None  # there are at least two rounds
        return fmean(ns), max(0.0, interval.low), interval.high


def _random_images(count: int, variant: Variant, draws: torch.Generator) -> Arrays:
    pixels = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=draws)
    split = Split(pixels, torch.randint(10, (count,), generator=draws))
    return Arrays.of(Dataset("random", split, split, 0.1307, 0.3081, ""), variant, torch.device("cpu"))
