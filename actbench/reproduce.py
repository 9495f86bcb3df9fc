"""Training a stored run again and saying whether it came out the same (layer 4, above the sweep).

Imports `config`, the store, `sweep`, `comparison`; torch when it trains. Nothing is written into the results: the run
is trained in a temporary folder that is gone afterwards. Prints nothing.

Identical means: to the bit, in the status, every weight, every number of every epoch, layer and neuron, except
times. Where that fails, the numbers of the epochs and the final metrics decide: within the tolerance, or different.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actbench import config, sweeps
from actbench.comparison.quantities import number
from actbench.config import Place, Run
from actbench.errors import ConfigError, StoreError, UsageError
from actbench.events import Events
from actbench.metrics import METRICS
from actbench.store import Store, StoredRun
from actbench.store.run import CONFIG, LAYERS, MODEL, NEURONS
from actbench.text import value_text

TIMES = frozenset({"train_s", "evaluate_s", "wall_s", "images_per_s"})
"""What is measured with a clock, and never the same twice."""
ACCURACY_TOLERANCE, TOLERANCE = 0.02, 0.05
"""How far an accuracy, and any other metric, may be off: see `size_of`.

Training is chaotic: once a sum is rounded differently, two runs drift apart. Eight runs of the recipe (relu, gelu,
tanh, relu with BatchNorm, two seeds each) that were trained again with another instruction set differed, after any
epoch, by at most 0.0084 in an accuracy and 0.035 in anything else. Where the learning rate is far too high (relu at
0.03), it was 0.09 and 0.34: such a run only comes out the same on the same kind of processor.
"""

Rows = Sequence[Mapping[str, Any]]
Verdict = Literal["identical", "within tolerance", "different"]

_WHY = {
    "actbench_version": "another actbench may compute something differently",
    "torch_version": "another torch may round differently",
    "python_version": "not known to change a number",
    "platform": "another system or C library may round differently",
    "device": "CPU and CUDA sum in different orders",
    "device_name": "another processor may round differently",
    "cpu_capability": "another instruction set rounds differently",
    "threads": "must not change a CPU run",
    "cpus": "must not change a CPU run",
    "data_fingerprint": "these are not the same images",
}
"""What of a run's provenance may explain that it came out differently."""


@dataclass(frozen=True)
class Difference:
    """Where one metric differs most: its two values there, how far they are apart, and how far they may be.

    `size` is infinite where only one of the two has a value.
    """

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
    """Something that the two trainings did not share, and what it may do."""

    what: str
    stored: Any
    again: Any
    why: str


@dataclass(frozen=True)
class Reproduction:
    """What came of training a run again.

    differences: one for each metric that differs, in the order of the epochs' columns. parts: for weights,
    epochs, layers, neurons and final metrics, whether they are the same to the bit. largest_weight: the
    largest difference of two weights, None where there are none to compare. not_compared: columns that only
    one of the two has.
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
    """Return what has to be trained to get `stored` again, on `device` in place of what its config says.

    Raises StoreError for a run that is damaged or that this actbench cannot train, UsageError for one that failed.
    """
    if problems := stored.verify():
        told = "; ".join(problem.reason for problem in problems)
        raise StoreError(f"{stored.folder}: cannot be compared with: {told}. The same train command makes it anew")
    if stored.status == "failed":
        raise UsageError(f"{stored.run_id} failed, so there is nothing to compare with; train it again first")
    try:
        document = config.parse(stored.config_yaml(), str(stored.folder / CONFIG))
        if device is not None:
            document.put(("device",), device, Place(f"--device {device}"))
        return Run(config.check(document).variant, stored.seed)
    except ConfigError as error:
        raise StoreError(f"{stored.run_id} cannot be trained by this actbench:\n{error}") from None


def reproduce(
    stored: StoredRun,
    run: Run,
    options: sweeps.Options,
    events: Events,
    *,
    tolerance: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Reproduction | None:
    """Train `run`, see `run_of`, in a temporary folder and compare; None when `stop` has ended it before.

    tolerance: for all metrics, by default `ACCURACY_TOLERANCE` and `TOLERANCE`. Raises what training raises.
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
    """Compare two stored runs of one config and seed; `again` is the later one, `tolerance` as in `reproduce`."""
    units = max(len(stored.neurons()), 1) if NEURONS in stored.files else 1
    tables: dict[str, tuple[Rows, Rows]] = {
        "epochs": (stored.epochs(), again.epochs()),
        "neurons": (stored.neurons(), again.neurons()),
        "layers": _layers(stored, again),
        "final metrics": ([stored.metrics], [again.metrics]),
    }
    parts = {"weights": _same_weights(stored, again)}
    parts |= {name: _same_rows(*both) for name, both in tables.items()}
    measured = [*_along("epoch", *tables["epochs"]), ("the end", stored.metrics, again.metrics)]
    differences = tuple(_differences(measured, units, tolerance))
    same_status = stored.status == again.status
    identical = same_status and all(parts.values())
    within = same_status and len(tables["epochs"][0]) == len(tables["epochs"][1]) and all(d.within for d in differences)
    return Reproduction(
        run_id=stored.run_id,
        verdict="identical" if identical else "within tolerance" if within else "different",
        status=(stored.status, again.status),
        parts=parts,
        differences=differences,
        largest_weight=_largest_weight(stored, again),
        causes=tuple(_causes(stored, again)),
        not_compared=tuple(sorted({name for both in tables.values() for name in _lonely(*both)})),
        error=again.error,
    )


def size_of(metric: str, stored: float, again: float, units: int) -> float:
    """Return how far two values are apart, in the unit of the tolerance.

    Absolute for what is at most 1 (shares such as accuracies, small losses), relative to the larger one beyond;
    counts of neurons as shares of all `units`.
    """
    if metric in METRICS and METRICS[metric].kind == "count" and metric != "epochs_run":
        return abs(stored - again) / units
    return abs(stored - again) / max(1.0, abs(stored), abs(again))


def _differences(
    measured: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], units: int, tolerance: float | None
) -> Iterable[Difference]:
    """Yield, for each metric that both have and that differs anywhere, where it differs most."""
    columns = dict.fromkeys(name for _, stored, again in measured for name in stored if name in again)
    for name in columns:
        if name in TIMES or name == "epoch":
            continue
        allowed = tolerance if tolerance is not None else ACCURACY_TOLERANCE if "accuracy" in name else TOLERANCE
        worst: Difference | None = None
        for where, stored, again in measured:
            if name not in stored or name not in again or _same(stored[name], again[name]):
                continue
            a, b = number(stored[name]), number(again[name])
            size = size_of(name, a, b, units) if a is not None and b is not None else math.inf
            if worst is None or size > worst.size:
                worst = Difference(name, a, b, where, size, allowed)
        if worst is not None:
            yield worst


def _along(key: str, stored: Rows, again: Rows) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Pair the rows of one `key`; rows that only one of the two has are left out."""
    by_key = {row.get(key): row for row in again}
    return [(f"{key} {row[key]}", row, by_key[row[key]]) for row in stored if row.get(key) in by_key]


def _same_rows(stored: Rows, again: Rows) -> bool:
    """Whether all rows are the same to the bit, in the columns that both have, times aside."""
    if len(stored) != len(again):
        return False
    return all(
        _same(row[name], other[name])
        for row, other in zip(stored, again, strict=True)
        for name in row
        if name in other and name not in TIMES
    )


def _lonely(stored: Rows, again: Rows) -> set[str]:
    """Return the columns that only one of two tables has."""
    if not stored or not again:
        return set()
    return (set(stored[0]) ^ set(again[0])) - TIMES


def _layers(stored: StoredRun, again: StoredRun) -> tuple[Rows, Rows]:
    """Return what is known of each layer: after each epoch where both have that, else at the end."""
    if LAYERS in stored.files and LAYERS in again.files:
        return stored.layer_rows(), again.layer_rows()
    both = min(len(stored.layers), len(again.layers))  # older runs lack the output layer
    return stored.layers[:both], again.layers[:both]


def _same_weights(stored: StoredRun, again: StoredRun) -> bool:
    """Whether the files of the weights are the same, byte by byte; a diverged run has none."""
    return stored.files.get(MODEL) == again.files.get(MODEL)


def _largest_weight(stored: StoredRun, again: StoredRun) -> float | None:
    if MODEL not in stored.files or MODEL not in again.files:
        return None
    mine, other = stored.weights(), again.weights()
    shared = [name for name in mine if name in other and mine[name].shape == other[name].shape]
    return max((float(abs(mine[name] - other[name]).max()) for name in shared if mine[name].size), default=None)


def _causes(stored: StoredRun, again: StoredRun) -> Iterable[Cause]:
    """Yield what the two trainings did not share; a key that one of them did not record is no difference."""
    if stored.run_id != again.run_id:
        why = "this actbench reads the config differently: a default or a meaning has changed"
        yield Cause("run_id", stored.run_id, again.run_id, why)
    for key in ("data_fingerprint", *(key for key in stored.provenance if key != "data_fingerprint")):
        a, b = stored.provenance.get(key), again.provenance.get(key)
        if key in _WHY and a is not None and b is not None and a != b:
            yield Cause(key, a, b, _WHY[key])


def explain(found: Reproduction) -> str:
    """Say in a sentence what may be behind a difference."""
    if found.error is not None:
        return "it failed this time: " + (found.error.strip().splitlines() or [""])[-1]
    if found.causes:
        return "; ".join(f"{c.what} {value_text(c.stored)} -> {value_text(c.again)} ({c.why})" for c in found.causes)
    return (
        "nothing that was recorded differs; a processor with other instructions may round differently, "
        "and on CUDA sums may come in another order"
    )


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a table are the same to the bit, nan included."""
    return type(a) is type(b) and repr(a) == repr(b)
