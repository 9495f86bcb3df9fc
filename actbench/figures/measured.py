"""One metric over the epochs, read for every group of an arrangement (layer 4; imports `comparison`, `arrangement`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from actbench.comparison.contrasts import estimate, sample
from actbench.comparison.groups import Group, columns_of, is_diverged, shown
from actbench.comparison.quantities import Curve, Quantity, Row, quantity
from actbench.errors import UsageError
from actbench.figures.arrangement import Arrangement
from actbench.figures.look import capital, metric_title
from actbench.metrics import Kind

_UNTRAINED = ("accuracy", "loss")  # of these, what stands before training would squeeze the rest of the axis


@dataclass(frozen=True)
class Measured:
    """Means and the runs' own values by group (`id`), how they are called, and the epochs that are drawn.

    alone: all lines are of the one series "", as each has a panel of its own.
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
        """Whether no mean is over more than one seed: then a thin line would repeat it."""
        return all(row["n"] <= 1 for rows in self.means.values() for row in rows) and not self._broken()

    def _broken(self) -> bool:
        return any(row["broke"] for rows in self.threads.values() for row in rows)

    def mean_rows(self, name: str, group: Group) -> list[dict[str, Any]]:
        """Return epoch, mean, low, high and n of a group, from `first` on, under the series `name`."""
        rows = self.means[id(group)]
        return [{**row, **self._named(name), "line": id(group)} for row in rows if row["epoch"] >= self.first]

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

        Diverged runs have no say as long as there are others, and wide intervals of few seeds at most double the span.
        Raises `UsageError` for values <= 0 where `log`.
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
        low = max(min([low, *(row["low"] for row in ends)]), low - span / 2)
        high = min(max([high, *(row["high"] for row in ends)]), high + span / 2)
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
    read = {epoch: quantity(metric, columns, epoch) for epoch in every}
    mixed = tuple(found.grouping.mixed)
    means, threads = dict[int, list[dict[str, Any]]](), dict[int, list[dict[str, Any]]]()
    for group in found.groups:
        values, estimates = [], []
        for epoch, one in read.items():
            line_of = partial(_line, epochs, epoch)
            result = estimate(sample(group, one, line_of, mixed), one, 0.95)
            if result.mean is not None:
                low, high = result.interval or (None, None)
                estimates.append({"epoch": epoch, "mean": result.mean, "low": low, "high": high, "n": result.n})
            for i, row in enumerate(group.runs):
                if (value := one.read(row, line_of)) is not None:
                    ended = is_diverged(row)
                    values.append({"epoch": epoch, "value": value, "run": f"{id(group)} {i}", "diverged": ended})
        ends = {row["run"]: row["epoch"] for row in values}  # the last one of each run stays
        threads[id(group)] = [{**row, "broke": row["diverged"] and ends[row["run"]] == row["epoch"]} for row in values]
        means[id(group)] = estimates
    drawn = sorted({row["epoch"] for rows in threads.values() for row in rows})
    if not drawn:
        raise UsageError(f"no epoch of these runs has a value of {shown(metric)}; see: actbench list metrics")
    first = drawn[1] if metric.endswith(_UNTRAINED) and drawn[0] == 0 and len(drawn) > 1 else drawn[0]
    one = quantity(metric, columns)
    return Measured(
        one, title or capital(metric_title(one)), found.alone, found.groups, first, drawn[-1], means, threads
    )


def _line(epochs: Mapping[int, Mapping[int, Row]], epoch: int, row: Row) -> Sequence[Row]:
    """Return the one line of a run's curve that an epoch asks for."""
    return [epochs[id(row)][epoch]] if epoch in epochs[id(row)] else []
