"""What an activation function costs: time per element, and its share of a training step (layer 4).

Imports the engine's stack, the registry, `config`, `compute`, `stats` and torch. Times what the engine does on CPU,
as it does it: on one thread, denormals flushed, on z (1, B, H) of standard normal numbers that fit the caches.

    forward   a = f(z), with drawing the random numbers of a slope that is random in training
    backward  g <- g f'(z) in place, with the exact slope; autograd's backward of f where that does not suffice
              (learned parameters, or a width that changes), whose forward then records, too
    step      a whole training step, forward, backward and Adam, of a network 784-H-10 with f at batch size B

Other programs disturb every measurement. So the activations take turns in each round, in an order that turns round
from one to the next: what slows a machine down slows all of them. A round's value is the median of a few calls, and
the interval says how much the rounds differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from actbench import compute, engine, stats
from actbench.activations import ACTIVATIONS
from actbench.config import Run, Variant
from actbench.datasets import Dataset, Split
from actbench.engine.lanes import CLASSES, Arrays, LaneStack
from actbench.errors import UsageError
from actbench.model import generator

BASELINE = "relu"
CALLS, STEPS = 20, 5
"""How many calls of a function, and how many training steps, a round takes the median of."""

_MOST = 2**20


class Elements(NamedTuple):
    """The elements that an activation function gets in a training step: batch size x hidden width."""

    batch: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Elements:
        """Read `64x512`. Raises UsageError for anything else, and for more than 2^20 elements."""
        sides = text.lower().split("x")
        if len(sides) == 2 and all(side.isascii() and side.isdigit() for side in sides):
            found = cls(int(sides[0][:9]), int(sides[1][:9]))
            if min(found) >= 1 and max(found) <= 16_384 and found.batch * found.width <= _MOST:
                return found
        raise UsageError(
            f"--elements must be BATCHxWIDTH such as 64x512, each from 1 to 16384, at most {_MOST:,} together, "
            f"got {text[:60]!r}"
        )

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.batch}x{self.width}"


RECIPE = Elements(64, 512)


@dataclass(frozen=True)
class Cost:
    """What one activation costs, in nanoseconds per element of z, each a mean over rounds with its 95% t interval.

    step_share: time of forward and backward over that of the whole training step, 0-1. by_slope: whether backward
    is the product with the exact slope (else autograd's).
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
        """The numbers, as CSV and JSON have them."""
        return {key: value for key, value in asdict(self).items() if key != "by_slope"}


def measure(
    names: Sequence[str],
    elements: Elements = RECIPE,
    *,
    threads: int = 1,
    rounds: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Cost]:
    """Time each activation of `names` in `rounds` (>= 2) interleaved rounds, after one that warms up.

    `threads` share the products of a training step, as in training; an activation always takes one. `clock` gives
    seconds. Raises `UnknownNameError` for a name that the registry does not know.
    """
    engine.configure()
    with compute.training_thread():
        subjects = [_Subject(name, elements, threads) for name in names]
        for number in range(rounds + 1):
            for subject in subjects if number % 2 else reversed(subjects):
                subject.take(clock, keep=number > 0)
    return [subject.cost() for subject in subjects]


class _Subject:
    """One activation with its default parameters, ready to be timed."""

    def __init__(self, name: str, elements: Elements, threads: int) -> None:
        self.name, self._entry = name, ACTIVATIONS[name]
        self._seconds: list[tuple[float, float, float]] = []
        self._draws = generator(0, "cost")
        variant = Variant.model_validate({"activation": name, "hidden": [elements.width]})
        self._stack = LaneStack([Run(variant, 0)], _random_images(elements.batch, variant, self._draws))
        self._stack.network.threads = threads
        self._batch = torch.arange(elements.batch).unsqueeze(0)  # (1, B)
        structure = self._stack.network.structure
        (layer,) = structure.layers
        self._by_slope = layer.pre == layer.post and not structure.learned
        self._z = torch.randn(1, elements.batch, layer.pre, generator=self._draws).requires_grad_(not self._by_slope)
        self._gradient = torch.randn(1, elements.batch, layer.post, generator=self._draws)
        defaults = self._entry.defaults
        self._learned = {
            parameter: torch.full((1, *shape), float(defaults[parameter]), requires_grad=True)
            for parameter, (_, shape) in zip(self._entry.learned(defaults), structure.learned, strict=True)
        }
        self._noise = {"noise": torch.zeros_like(self._z)} if self._entry.noise else {}
        self._params = {**defaults, **self._learned, **self._noise}

    def take(self, clock: Callable[[], float], *, keep: bool) -> None:
        """Time one round; `keep` its medians."""
        forward, backward, step = [], [], []
        with torch.set_grad_enabled(not self._by_slope):
            for _ in range(CALLS):
                g = self._gradient.clone()
                start = clock()
                out = self._forward()
                middle = clock()
                self._backward(out, g)
                end = clock()
                forward.append(middle - start)
                backward.append(end - middle)
        for _ in range(STEPS):
            start = clock()
            self._stack.step(self._batch)
            step.append(clock() - start)
        if keep:
            self._seconds.append((median(forward), median(backward), median(step)))

    def _forward(self) -> Tensor:
        for noise in self._noise.values():
            noise.uniform_(generator=self._draws)
        return self._entry.function(self._z, **self._params)

    def _backward(self, out: Tensor, g: Tensor) -> None:
        if self._by_slope:
            g.mul_(self._entry.slope(self._z, **self._params))
        else:
            torch.autograd.grad(out, [self._z, *self._learned.values()], g)

    def cost(self) -> Cost:
        """Sum the rounds up."""
        forward, backward, step = zip(*self._seconds, strict=True)
        return Cost(
            self.name,
            *self._per_element(forward),
            *self._per_element(backward),
            step_share=(fmean(forward) + fmean(backward)) / fmean(step),
            by_slope=self._by_slope,
        )

    def _per_element(self, seconds: Sequence[float]) -> tuple[float, float, float]:
        """Mean and interval in nanoseconds per element; no time is negative."""
        ns = [1e9 * value / self._z.numel() for value in seconds]
        interval = stats.t_interval(ns)
        assert interval is not None  # there are two rounds or more
        return fmean(ns), max(0.0, interval.low), interval.high


def _random_images(count: int, variant: Variant, draws: torch.Generator) -> Arrays:
    pixels = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=draws)
    split = Split(pixels, torch.randint(CLASSES, (count,), generator=draws))
    return Arrays.of(Dataset("random", split, split, 0.1307, 0.3081, ""), variant, torch.device("cpu"))
