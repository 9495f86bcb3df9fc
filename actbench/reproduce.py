"""Trains a stored run again, in a temporary folder, and says whether it came out the same.

Identical means to the bit: the status, every weight, and every number of every epoch, layer and neuron, except times.
Otherwise the metrics after each epoch and at the end decide: they are within the tolerance, or the run is different.
"""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from actbench import config, sweeps
from actbench.comparison.quantities import number
from actbench.config import Place, Run
from actbench.errors import ConfigError, StoreError, UsageError
from actbench.events import Events, last_line
from actbench.metrics import METRICS
from actbench.store import Store, StoredRun
from actbench.store.csv import Row
from actbench.store.run import CONFIG, LAYERS, MODEL, NEURONS, TIMES
from actbench.text import value_text

ACCURACY_TOLERANCE, TOLERANCE = 0.02, 0.05
"""How far an accuracy and any other metric may be off; `size_of` measures it.

Training is chaotic: once a sum is rounded differently, two runs drift apart. Eight runs with the default recipe (relu,
gelu, tanh, relu with BatchNorm; two seeds each), trained again with another instruction set, differed after any epoch
by at most 0.0084 in an accuracy and 0.035 in anything else. With a learning rate that is far too high (relu at 0.03),
they differed by 0.09 and 0.34: such a run comes out the same only on the same kind of processor.
"""

Rows = Sequence[Row]
Verdict = Literal["identical", "within tolerance", "different"]

_WHY = {
    "data_fingerprint": "these are not the same images",
    "actbench_version": "another actbench may compute something differently",
    "torch_version": "another torch may round differently",
    "python_version": "not known to change a number",
    "platform": "another system or C library may round differently",
    "device": "CPU and CUDA sum in different orders",
    "device_name": "another processor may round differently",
    "threads": "must not change a CPU run",
    "cpus": "must not change a CPU run",
    "cpu_capability": "another instruction set rounds differently",
}
"""The provenance that may explain a difference, and why."""


@dataclass(frozen=True)
class Difference:
    """Where one metric differs most: its two values, their distance (`size`, or inf if one is missing)."""

    metric: str
    stored: float | None
    again: float | None
    where: str
    size: float
    allowed: float

    @property
    def within(self) -> bool:
        """Whether the values are no further apart than they may be."""
        return self.size <= self.allowed


@dataclass(frozen=True)
class Cause:
    """Something in which the two trainings differed, and what it may change."""

    what: str
    stored: Any
    again: Any
    why: str


@dataclass(frozen=True)
class Reproduction:
    """The result of training a run again.

    differences: one for each metric that differs, in the order of the columns of epochs.csv. parts: whether weights,
    epochs, layers, neurons and final metrics are each the same to the bit. largest_weight: the largest difference
    between two weights, None without weights. not_compared: columns that only one of the two runs has.
    """

    run_id: str
    verdict: Verdict
    status: tuple[str, str]
    parts: Mapping[str, bool]
    differences: tuple[Difference, ...]
    largest_weight: float | None
    causes: tuple[Cause, ...]
    not_compared: tuple[str, ...] = ()
    error: str | None = None


def run_of(stored: StoredRun, device: str | None = None) -> Run:
    """Return the run that trains `stored` again, on `device` if given.

    Raises StoreError if the run is damaged or this actbench cannot train it, UsageError if it failed.
    """
    if problems := stored.verify():
        reasons = "; ".join(problem.reason for problem in problems)
        again = "repeat the command that trained it, with --force"
        if not any(problem.reason.startswith(CONFIG) for problem in problems):
            again = train_command(stored.folder, "--force")
        raise StoreError(f"{stored.folder}: cannot compare with this run: {reasons}; to train it again: {again}")
    if stored.status == "failed":
        raise UsageError(f"{stored.run_id} failed, so there is nothing to compare; train it again first")
    try:
        document = config.parse(stored.config_yaml(), str(stored.folder / CONFIG))
        if device is not None:
            document.put(("device",), device, Place(f"--device {device}"))
        run = Run(config.check(document).variant, stored.seed)
    except ConfigError as error:
        raise StoreError(f"{stored.run_id} cannot be trained by this actbench:\n{error}") from None
    return replace(run, former=stored.run_id == run.former_id)


def train_command(folder: Path, *options: str) -> str:
    """Return the command that trains the run in `folder` again, as its config says."""
    return shlex.join(["actbench", "train", "-c", str(folder / CONFIG), "--results", str(folder.parent), *options])


def reproduce(
    stored: StoredRun,
    run: Run,
    options: sweeps.Options,
    events: Events,
    *,
    tolerance: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Reproduction | None:
    """Train `run` (from `run_of`) in a temporary folder and compare; return None if `stop` ended the training.

    tolerance: for all metrics, by default `ACCURACY_TOLERANCE` and `TOLERANCE`. Raises what `sweeps.run` raises.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UsageError(f"--tolerance must be a number >= 0, got {tolerance:g}")
    with tempfile.TemporaryDirectory(prefix="actbench-reproduce-") as scratch:
        store = Store(scratch)
        report = sweeps.run(sweeps.make_plan([run], store), store, options, events, stop)
        if run.run_id not in report.trained and run.run_id not in report.failed:
            return None
        return compared(stored, store.load(run.run_id), tolerance)


def compared(stored: StoredRun, again: StoredRun, tolerance: float | None = None) -> Reproduction:
    """Compare two stored runs of one config and seed, `again` being the later one."""
    at_end = min(
        len(stored.layers), len(again.layers)
    )  # older runs lack the output layer, and the layers of each epoch
    layers: tuple[Rows, Rows] = (stored.layers[:at_end], again.layers[:at_end])
    if LAYERS in stored.files and LAYERS in again.files:
        layers = stored.layer_rows(), again.layer_rows()
    tables: dict[str, tuple[Rows, Rows]] = {
        "epochs": (stored.epochs(), again.epochs()),
        "neurons": (stored.neurons(), again.neurons()),
        "layers": layers,
        "final metrics": ([stored.metrics], [again.metrics]),
    }
    parts = {"weights": stored.files.get(MODEL) == again.files.get(MODEL)}  # a diverged run has none
    parts |= {name: _same_rows(*both) for name, both in tables.items()}
    epochs, epochs_again = tables["epochs"]
    by_epoch = {row["epoch"]: row for row in epochs_again}
    measured = [(f"epoch {row['epoch']}", row, by_epoch[row["epoch"]]) for row in epochs if row["epoch"] in by_epoch]
    measured.append(("the end", stored.metrics, again.metrics))
    units = max(len(stored.neurons()), 1) if NEURONS in stored.files else 1
    differences = tuple(_differences(measured, units, tolerance))
    lonely = {name for a, b in tables.values() if a and b for name in set(a[0]) ^ set(b[0])}
    same_status = stored.status == again.status
    identical = same_status and all(parts.values())
    within = same_status and len(epochs) == len(epochs_again) and all(one.within for one in differences)
    return Reproduction(
        run_id=stored.run_id,
        verdict="identical" if identical else "within tolerance" if within else "different",
        status=(stored.status, again.status),
        parts=parts,
        differences=differences,
        largest_weight=_largest_weight(stored, again),
        causes=tuple(_causes(stored, again)),
        not_compared=tuple(sorted(lonely - TIMES)),
        error=again.error,
    )


def size_of(metric: str, stored: float, again: float, units: int) -> float:
    """Return how far two values are apart, in the unit of the tolerance.

    Absolute for values up to 1 (fractions such as accuracies, small losses), and relative to the larger value above
    that. Counts of neurons are taken as fractions of all `units`.
    """
    if metric in METRICS and METRICS[metric].kind == "count" and metric != "epochs_run":
        return abs(stored - again) / units
    return abs(stored - again) / max(1.0, abs(stored), abs(again))


def _differences(measured: Sequence[tuple[str, Row, Row]], units: int, tolerance: float | None) -> Iterable[Difference]:
    """Yield where each metric differs most, for the metrics that both runs have and that differ anywhere."""
    for name in dict.fromkeys(name for _, stored, again in measured for name in stored if name in again):
        if name in TIMES or name == "epoch":
            continue
        allowed = tolerance if tolerance is not None else ACCURACY_TOLERANCE if "accuracy" in name else TOLERANCE
        found = []
        for where, stored, again in measured:
            if name in stored and name in again and not _same(stored[name], again[name]):
                a, b = number(stored[name]), number(again[name])
                size = size_of(name, a, b, units) if a is not None and b is not None else math.inf
                found.append(Difference(name, a, b, where, size, allowed))
        if found:
            yield max(found, key=lambda one: one.size)


def _same_rows(stored: Rows, again: Rows) -> bool:
    """Whether all rows are the same to the bit in the columns that both have, except times."""
    if len(stored) != len(again):
        return False
    return all(
        _same(row[name], other[name])
        for row, other in zip(stored, again, strict=True)
        for name in row
        if name in other and name not in TIMES
    )


def _largest_weight(stored: StoredRun, again: StoredRun) -> float | None:
    if MODEL not in stored.files or MODEL not in again.files:
        return None
    mine, other = stored.weights(), again.weights()
    shared = [name for name in mine if name in other and mine[name].shape == other[name].shape]
    return max((float(abs(mine[name] - other[name]).max()) for name in shared if mine[name].size), default=None)


def _causes(stored: StoredRun, again: StoredRun) -> Iterable[Cause]:
    """Yield in what the two trainings differed. What one of them did not record is no difference."""
    if stored.run_id != again.run_id:
        why = "this actbench reads the config differently: a default or a meaning has changed"
        yield Cause("run_id", stored.run_id, again.run_id, why)
    for key, why in _WHY.items():
        a, b = stored.provenance.get(key), again.provenance.get(key)
        if a is not None and b is not None and a != b:
            yield Cause(key, a, b, why)


def explain(found: Reproduction) -> str:
    """Say in one sentence what may have caused the difference."""
    if found.error is not None:
        return f"it failed this time: {last_line(found.error)}"
    if found.causes:
        return "; ".join(f"{c.what} {value_text(c.stored)} -> {value_text(c.again)} ({c.why})" for c in found.causes)
    return (
        "no recorded difference; a processor with other instructions may round differently, "
        "and CUDA may sum in another order"
    )


def _same(a: Any, b: Any) -> bool:
    """Whether two cells are the same to the bit, nan included."""
    return type(a) is type(b) and repr(a) == repr(b)
