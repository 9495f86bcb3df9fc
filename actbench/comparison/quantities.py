"""Quantities: what `--metric` can name, read from a run or from its epochs.

    NAME                     a metric, or any column of numbers, after the last epoch (or after `--epoch k`)
    auc:NAME                 its mean over the epochs: the area under its curve, divided by the length of the curve
    epochs_to:NAME>=X        the first epoch after which it is >= X (or <= X)
    seconds_to:NAME>=X       the training time until then: the sum of `train_s`, without evaluation

A diverged run has no value of any quantity: its last numbers say where it broke, not how well it did.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS, UNITS, Better, Kind, Metric
from actbench.store.csv import Row

Curve: TypeAlias = Callable[[Row], Sequence[Row]]
"""Gives the epochs of a run in order, one row per epoch; each row has at least `epoch`."""

LARGEST = 1e100

_FORMS = "NAME, auc:NAME, epochs_to:NAME>=X, seconds_to:NAME>=X"
_THRESHOLD = re.compile(r"\s*([^<>=\s]+)\s*(>=|<=)\s*(\S+)\s*")
_PARTS = {"accuracy_gap": ("train_accuracy", "test_accuracy")}  # stored as two parts


@dataclass(frozen=True)
class Quantity:
    """One number per run. `name` is the quantity as a person gave it.

    read(run, curve): the number, or None if the run has none. threshold: whether a missing value means that the run
    never reached the threshold.
    """

    name: str
    title: str
    kind: Kind
    better: Better
    read: Callable[[Row, Curve], float | None]
    threshold: bool = False

    @property
    def heading(self) -> str:
        """The title with its unit, for the head of a column: `test accuracy %`."""
        return f"{self.title} {UNITS[self.kind]}".rstrip()


def read_once(curve: Curve | None) -> Curve:
    """Return a curve that reads each run's epochs once, and raises `UsageError` if there are none to read."""
    known: dict[int, Sequence[Row]] = {}

    def read(row: Row) -> Sequence[Row]:
        if curve is None:
            raise UsageError("the epochs of these runs are not known; compare results folders instead")
        if id(row) not in known:
            known[id(row)] = curve(row)
        return known[id(row)]

    return read


def number(value: object) -> float | None:
    """Return a finite number as a float, and None for anything else: text, truth values, nan, inf.

    A number beyond `LARGEST` is None too: no run measures one, and its square would overflow.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        return None
    return float(value)


def quantity(spec: str, columns: Collection[str], epoch: int | None = None) -> Quantity:
    """Return the quantity that `spec` names: a form of a metric or of one of the runs' `columns`.

    With `epoch`, a plain metric is read after that epoch instead of after the last one. Raises `UnknownNameError` for a
    name that is neither a metric nor a column, `UsageError` for an unknown form.
    """
    form, colon, rest = spec.partition(":")
    if not colon:
        metric = _metric(spec, columns)
        if epoch is None:
            return Quantity(spec, metric.title, metric.kind, metric.better, lambda row, _: _value(row, spec))
        return Quantity(spec, metric.title, metric.kind, metric.better, _at_epoch(spec, epoch))
    if form == "auc":
        metric = _metric(rest, columns)
        title = f"mean {metric.title} over epochs"
        return Quantity(spec, title, metric.kind, metric.better, _area(rest))
    if form not in {"epochs_to", "seconds_to"}:
        raise UsageError(f"unknown metric {spec!r}; the forms are {_FORMS}. See: actbench list metrics")
    return _time_to(spec, form, rest, columns)


def quantities(specs: Sequence[str], columns: Collection[str], epoch: int | None = None) -> tuple[Quantity, ...]:
    """Return the quantities that `--metric` names, each once. Raises `UsageError` as `quantity` does, and for none."""
    if not specs:
        raise UsageError("--metric names no metric; see: actbench list metrics")
    return tuple(quantity(spec, columns, epoch) for spec in dict.fromkeys(specs))


def _metric(name: str, columns: Collection[str]) -> Metric:
    if name in METRICS:
        return METRICS[name]
    if name in columns:
        return Metric(name, name, "number", "neither", "a column of runs.csv")
    raise UnknownNameError("metric", name, [*METRICS, *columns])


def _value(row: Row, name: str) -> float | None:
    value = number(row.get(name))
    if value is None and name in _PARTS:
        whole, part = (number(row.get(column)) for column in _PARTS[name])
        return whole - part if whole is not None and part is not None else None
    return value


def _at_epoch(name: str, epoch: int) -> Callable[[Row, Curve], float | None]:
    def read(row: Row, curve: Curve) -> float | None:
        return next((_value(line, name) for line in curve(row) if line.get("epoch") == epoch), None)

    return read


def _area(name: str) -> Callable[[Row, Curve], float | None]:
    """Sum trapezoids over the epochs with a value; divide by the number of epochs from the first to the last."""

    def read(row: Row, curve: Curve) -> float | None:
        points = [(float(line["epoch"]), value) for line in curve(row) if (value := _value(line, name)) is not None]
        if len(points) < 2:
            return points[0][1] if points else None
        area = math.fsum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
        return area / (points[-1][0] - points[0][0])

    return read


def _time_to(spec: str, form: str, condition: str, columns: Collection[str]) -> Quantity:
    match = _THRESHOLD.fullmatch(condition)
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise UsageError(f"cannot read {spec!r}; write it as {form}:test_accuracy>=0.97")
    metric, sign, seconds = _metric(match[1], columns), match[2], form == "seconds_to"

    def read(row: Row, curve: Curve) -> float | None:
        elapsed = 0.0
        for line in curve(row):
            elapsed += number(line.get("train_s")) or 0.0
            value = _value(line, metric.name)
            if value is not None and (value >= bound if sign == ">=" else value <= bound):
                return elapsed if seconds else number(line.get("epoch"))
        return None

    shown = f"{bound * 100:g}%" if metric.kind == "fraction" else f"{bound:g}"
    title = f"{'time' if seconds else 'epochs'} to {metric.title} {sign} {shown}"
    return Quantity(spec, title, "seconds" if seconds else "count", "lower", read, threshold=True)
