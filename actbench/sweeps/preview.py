"""What a sweep will take, before it starts: its lane groups and an estimate of the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from actbench.config import Run
from actbench.store import Store, files
from actbench.store.csv import Row
from actbench.sweeps.plan import Options, task_groups
from actbench.sweeps.run import local_groups, threads_of
from actbench.text import plural

# What a thread of a current server takes, within a factor of three, for shapes that have not been trained here yet.
# Fitted to linear models, to 1 to 20 layers of 128 units, and to 1 and 2 layers of 512.
_STEP_S = 5e-4  # a training step of any size, and its share of the evaluation
_LAYER_STEP_S = 4e-4  # the same for each hidden layer
_PARAMETER_IMAGES_PER_S = 2.1e10  # forward, backward, optimizer, and evaluation of all images
_CNN_IMAGES_PER_S = 1400.0
_SHAPE_KEYS = [
    "dataset", "network", "hidden", "batch_norm", "batch_size", "optimizer", "train_limit", "test_limit", "validation",
    "augment",
]  # fmt: skip
ROUGH_RATE = "a rough rate of 30,000 images per second and thread for a 784-512-10 network"


class TrainingPlace(NamedTuple):
    """Where lane groups train: `at_once` lanes at the same time, each as fast as one alone."""

    name: str
    device: str
    at_once: int


class Preview(NamedTuple):
    """The lane groups of a plan, each with its place, and the estimated `seconds`, None if there is no estimate.

    The estimate of `timed` runs comes from stored runs of the same shape, that of the others from ROUGH_RATE.
    """

    groups: list[tuple[TrainingPlace, list[Run]]]
    seconds: float | None
    timed: int
    runs: int


def preview(runs: Sequence[Run], store: Store, options: Options) -> Preview:
    """Find out how `runs` would be trained and about how long that would take. Trains and writes nothing.

    Raises DeviceError, and UsageError if no Ray cluster answers.
    """
    groups = list(_ray_groups(runs, options) if options.executor == "ray" else _local_groups(runs, options))
    known = _seconds_per_epoch(store)
    total, timed = 0.0, 0
    for place, group in groups:
        for run in group:
            stored = known.get(_shape(run.variant.flat(), place.device))
            if stored is None and place.device != "cpu":
                return Preview(groups, None, 0, len(runs))  # the rate of a GPU is anybody's guess
            timed += stored is not None
            seconds = stored * run.variant.epochs if stored is not None else rough_seconds(run)
            total += seconds / place.at_once
    return Preview(groups, total, timed, len(runs))


def _local_groups(runs: Sequence[Run], options: Options) -> Iterator[tuple[TrainingPlace, list[Run]]]:
    threads = threads_of(options)
    for device, group in local_groups(runs, options):
        if device.type == "cpu":
            place = TrainingPlace(f"{plural(threads, 'thread')} on cpu", "cpu", min(threads, len(group)))
        else:  # a stored time is the lane's share of its stack's time
            place = TrainingPlace(str(device), device.type, 1)
        yield place, group


def _ray_groups(runs: Sequence[Run], options: Options) -> Iterator[tuple[TrainingPlace, list[Run]]]:
    from actbench.sweeps import ray

    with ray.connected(options.ray_address) as cluster:
        for size, group in task_groups(runs, options, cluster.nodes()):
            each = min(size.threads, len(group)) if size.device == "cpu" else 1
            name = f"Ray ({cluster}), each with {size}"
            yield TrainingPlace(name, size.device, each * size.slots(cluster.nodes())), group


def _shape(row: Row, device: str) -> tuple[Any, ...]:
    """Return what mainly decides how long an epoch takes: cells of runs.csv, and cpu or cuda."""
    return (*(row.get(key) for key in _SHAPE_KEYS), device.partition(":")[0])


def _seconds_per_epoch(store: Store) -> dict[tuple[Any, ...], float]:
    """Return the median time of an epoch by shape, from the stored runs."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in store.rows()[0] if files.is_folder(store.root) else []:
        wall_s, epochs = row["wall_s"], row["epochs_run"]
        if row["status"] == "done" and isinstance(wall_s, int | float) and isinstance(epochs, int) and epochs > 0:
            found.setdefault(_shape(row, str(row["device"])), []).append(wall_s / epochs)
    return {shape: median(times) for shape, times in found.items()}


def rough_seconds(run: Run) -> float:
    """Return roughly how long a run takes on one CPU thread. Machines differ by more than its error."""
    v = run.variant
    images = min(v.train_limit or v.data.train, v.data.train)
    if v.network == "cnn":
        return v.epochs * images / _CNN_IMAGES_PER_S
    steps = -(-images // v.batch_size)
    seconds = steps * (_STEP_S + _LAYER_STEP_S * len(v.hidden)) + images * v.parameter_count / _PARAMETER_IMAGES_PER_S
    return v.epochs * seconds * (1.5 if v.batch_norm else 1.0) * (1.3 if v.augment else 1.0)
