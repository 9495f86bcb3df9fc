"""One metric over the epochs, read for every group of an arrangement (layer 4; imports `comparison`, `arrangement`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from actbench.comparison.contrasts import estimate, sample
from actbench.comparison.groups import Group, columns_of, is_diverged
from actbench.comparison.quantities import Curve, Quantity, Row, quantity
from actbench.errors import UsageError
from actbench.figures.panels import Arrangement
from actbench.figures.theme import capital, metric_title
from actbench.metrics import Kind
from actbench.text import value_text

_UNTRAINED = ("accuracy", "loss")  # of these, what stands before training would squeeze the rest of the axis


@dataclass(frozen=True)
class Measured:
    """Means and the runs' own values by group (`id`), how they are called, and the epochs that are drawn.

    means: rows of epoch, mean, low, high, n (low and high None for one seed). threads: rows of epoch, value, run,
    diverged, and broke for the last one of a diverged run. alone: all lines are of the one series "", as each has a
    panel of its own.
    """

    metric: Quantity
    title: str
    alone: bool
    groups: tuple[Group, ...]
    first: int
    last: int
    means: dict[int, list[dict[str, Any]]]
    threads: dict[int, list[dict[str, Any]]]

    @property
    def kind(self) -> Kind:
        """What sort of number it is."""
        return self.metric.kind

    @property
    def single(self) -> bool:
        """Whether no mean is over more than one seed: then it has no interval, and a thin line would repeat it."""
        return all(row["n"] <= 1 for rows in self.means.values() for row in rows)

    def last_of(self, groups: Sequence[Group]) -> int:
        """Return the last epoch that some run of `groups` has."""
        return max((row["epoch"] for group in groups for row in self.threads[id(group)]), default=self.last)

    @property
    def broken(self) -> bool:
        """Whether some run diverged."""
        return any(row["broke"] for rows in self.threads.values() for row in rows)

    def mean_rows(self, name: str, group: Group) -> list[dict[str, Any]]:
        """Return epoch, mean, low, high and n of a group, from `first` on, under the series `name`."""
        rows = self.means[id(group)]
        return [{**row, **self._named(name)} for row in rows if row["epoch"] >= self.first]

    def thread_rows(self, name: str, group: Group) -> list[dict[str, Any]]:
        """Return epoch and value of every run of a group; `broke` marks the last value of a diverged one."""
        rows = self.threads[id(group)]
        return [{**row, **self._named(name)} for row in rows if row["epoch"] >= self.first]

    def _named(self, name: str) -> dict[str, str]:
        return {"series": "" if self.alone else name, "variant": name}

    def final(self, group: Group) -> float:
        """Return the last mean of a group; -inf where it has none."""
        rows = self.means[id(group)]
        return float(rows[-1]["mean"]) if rows else -math.inf

    def domain(self, groups: Sequence[Group], *, log: bool = False) -> list[float]:
        """Return the span of an axis that holds every run of `groups`, and intervals as far as it can.

        Diverged runs have no say as long as there are others, and the wide intervals of few seeds lengthen it by at
        most a quarter at each end. Raises `UsageError` for values <= 0 where `log`.
        """
        threads = [row for group in groups for row in self.thread_rows("", group)]
        values = [row["value"] for row in threads if not row["diverged"]] or [row["value"] for row in threads] or [0, 1]
        least, low, high = min(values), min(values), max(values)
        if log and low <= 0:
            raise UsageError(f"--log: {self.metric.name} has values <= 0, which a logarithmic axis cannot show")
        if log:
            return [low / 1.1, high * 1.1]
        span = high - low or abs(high) or 1.0
        high = low + span if high == low == 0 else high
        ends = [row for group in groups for row in self.mean_rows("", group) if row["low"] is not None]
        low = max(min([low, *(row["low"] for row in ends)]), low - span / 4)
        high = min(max([high, *(row["high"] for row in ends)]), high + span / 4)
        pad = 0.04 * (high - low or span)
        low, high = low - pad, high + pad
        if self.kind == "fraction" and max(values) <= 1:
            high = min(high, 1.0)
        if least >= 0:  # what cannot be negative has no axis below 0, and a share of none stands on it
            low = 0.0 if self.kind == "count" or least <= 0.1 * span else max(low, 0.0)
        return [low, high]

    def notes(self) -> list[str]:
        """Say what is not drawn."""
        hidden = any(row["epoch"] < self.first for rows in self.threads.values() for row in rows)
        return ["The untrained network (epoch 0) is not drawn."] if hidden else []


def measure(found: Arrangement, curve: Curve, metric: str, title: str = "") -> Measured:
    """Read `metric` from the epochs of every run of the arrangement; `title` replaces the metric's own.

    Raises `UsageError` when none has it, `UnknownNameError` for a name that is neither metric nor column.
    """
    if ":" in metric:
        raise UsageError(f"{metric!r} is one number a run, so it has no curve; name a metric, such as test_accuracy")
    runs = [row for group in found.groups for row in group.runs]
    epochs = {
        id(row): {line["epoch"]: line for line in curve(row) if isinstance(line.get("epoch"), int)} for row in runs
    }
    columns = columns_of([*runs, *(line for lines in epochs.values() for line in lines.values())])
    every = sorted({epoch for lines in epochs.values() for epoch in lines})
    one, read = quantity(metric, columns), {epoch: quantity(metric, columns, epoch) for epoch in every}
    means, threads = dict[int, list[dict[str, Any]]](), dict[int, list[dict[str, Any]]]()
    for number, group in enumerate(found.groups):
        means[id(group)] = _means(number, group, epochs, read, tuple(found.grouping.mixed))
        threads[id(group)] = _threads(number, group, epochs, read)
    drawn = sorted({row["epoch"] for rows in threads.values() for row in rows})
    if not drawn:
        raise UsageError(f"no epoch of these runs has a value of {value_text(metric)}; see: actbench list metrics")
    first = drawn[1] if metric.endswith(_UNTRAINED) and drawn[0] == 0 and len(drawn) > 1 else drawn[0]
    called = title or capital(metric_title(one))
    return Measured(one, called, found.alone, found.groups, first, drawn[-1], means, threads)


Epochs = Mapping[int, Mapping[int, Row]]


def _means(
    line: int, group: Group, epochs: Epochs, read: Mapping[int, Quantity], mixed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the mean and the interval of a group after every epoch that has one."""
    rows = []
    for epoch, one in read.items():
        found = estimate(sample(group, one, partial(_line, epochs, epoch), mixed), one, 0.95)
        if found.mean is not None:
            low, high = map(_rounded, found.interval or (None, None))
            rows.append({"line": line, "epoch": epoch, "mean": _rounded(found.mean), "low": low, "high": high,
                         "n": found.n})  # fmt: skip
    return rows


def _threads(line: int, group: Group, epochs: Epochs, read: Mapping[int, Quantity]) -> list[dict[str, Any]]:
    """Return the values of each run of a group."""
    rows = []
    for i, run in enumerate(group.runs):
        values = [(epoch, one.read(run, partial(_line, epochs, epoch))) for epoch, one in read.items()]
        there = [(epoch, value) for epoch, value in values if value is not None]
        ended = is_diverged(run)
        for epoch, value in there:
            broke = ended and epoch == there[-1][0]
            rows.append({"run": f"{line}.{i}", "epoch": epoch, "value": _rounded(value), "diverged": ended,
                         "broke": broke})  # fmt: skip
    return rows


def _rounded(value: float | None) -> float | None:
    """Return a value with the digits that a picture can show: an interactive page holds thousands of them."""
    return None if value is None else float(f"{value:.6g}")


def _line(epochs: Mapping[int, Mapping[int, Row]], epoch: int, row: Row) -> Sequence[Row]:
    """Return the one line of a run's curve that an epoch asks for."""
    return [epochs[id(row)][epoch]] if epoch in epochs[id(row)] else []
