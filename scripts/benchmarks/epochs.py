"""The time of an epoch: actbench's lanes, the plain program, JAX, the floor, the neuron probe."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from statistics import fmean

import torch

from actbench import datasets, engine
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.events import Events
from actbench.store import RunRecord
from actbench.store.csv import Row
from benchmarks.setting import SCRIPTS, Measured, Part, Setting, program

LANES = (5, 16)


class Stamps(Events):
    """Keeps each epoch's row and the time it arrived."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.rows: list[Row] = []

    def on_epoch(self, run: Run, row: Row) -> None:
        """Keep the row and the time."""
        self.at.append(time.perf_counter())
        self.rows.append(row)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Store nothing."""
        if record.status == "failed":
            raise RuntimeError(record.error)


def train(runs: Sequence[Run], dataset: Dataset, threads: int) -> Stamps:
    """Train the runs side by side without storing anything."""
    stamps = Stamps()
    engine.train_lanes(runs, dataset, device=torch.device("cpu"), events=stamps, threads=threads)
    return stamps


def loaded(setting: Setting) -> Dataset:
    """Load MNIST and train a little, so that one-time work of the process is not timed."""
    dataset = datasets.load("mnist", setting.folder)
    train([Run(setting.variant(epochs=1, train_limit=1000, test_limit=1000), 0)], dataset, setting.threads)
    return dataset


def lanes_epoch(setting: Setting, dataset: Dataset, lanes: int) -> float:
    """Return the seconds per network and epoch of so many seeds, over epochs 1 and 2, without start and end."""
    variant = setting.variant(epochs=2)
    at = train([Run(variant, seed) for seed in range(lanes)], dataset, setting.threads).at
    return (at[3 * lanes - 1] - at[lanes - 1]) / 2 / lanes


def one(setting: Setting) -> Part:
    """Time one network, tested and probed; also its training and its measuring separately."""
    dataset = loaded(setting)
    while True:
        stamps = train([Run(setting.variant(epochs=2), 0)], dataset, setting.threads)
        trained = stamps.rows[1:]
        yield {
            "one_epoch_s": (stamps.at[2] - stamps.at[0]) / 2,
            "one_train_s": fmean(float(row["train_s"] or 0) for row in trained),
            "one_evaluate_s": fmean(float(row["evaluate_s"] or 0) for row in trained),
        }


def lanes(setting: Setting) -> Part:
    """Time 5 and 16 networks side by side, per network."""
    dataset = loaded(setting)
    while True:
        yield {f"lanes_{n}_epoch_s": lanes_epoch(setting, dataset, n) for n in LANES}


def plain(setting: Setting) -> Part:
    """Time the plain PyTorch program of the tutorials, also with a DataLoader with two worker processes."""
    arguments = (SCRIPTS / "plain_program.py", str(setting.folder), str(setting.images))
    with program(*arguments) as printed, program(*arguments, "2") as with_workers:
        while True:
            yield {"plain_epoch_s": printed.round()[0], "plain_workers_epoch_s": with_workers.round()[0]}


def jax(setting: Setting) -> Part:
    """Time JAX: a whole epoch as one compiled call, with a test pass and no probe. Empty if JAX is not installed."""
    if importlib.util.find_spec("jax") is None:
        while True:
            yield {}
    with program(SCRIPTS / "benchmarks" / "jax_program.py", str(setting.folder), str(setting.images)) as reference:
        while True:
            yield {"jax_epoch_s": reference.round()[0]}


def floor(setting: Setting) -> Part:
    """Measure the least time that an epoch of one network can take on this machine; see `floor_epoch_s`."""
    with program(SCRIPTS / "benchmarks" / "floor_program.py") as rates:
        while True:
            flops_per_s, bytes_per_s, cached_bytes_per_s = rates.round()
            yield {
                "product_flops_per_s": flops_per_s,
                "copy_bytes_per_s": bytes_per_s,
                "cached_copy_bytes_per_s": cached_bytes_per_s,
                "floor_epoch_s": floor_epoch_s(setting.images, flops_per_s, bytes_per_s),
                "cached_floor_epoch_s": floor_epoch_s(setting.images, flops_per_s, cached_bytes_per_s),
            }


def floor_epoch_s(images: int, flops_per_s: float, bytes_per_s: float) -> float:
    """Return the floor of one network's epoch at batch size B = 64, with all but its two largest parts free.

    Each step has two products with the first layer's weights, forward (B, 784) @ (784, 512) and the weights' gradient
    (784, B) @ (B, 512), of 2 B D H operations each, at the best rate of a large product. It also has Adam's pass at
    copy bandwidth: 7 floats of 4 bytes for each of 407,050 parameters, because Adam reads parameter, gradient and both
    moments and writes all but the gradient. Both rates use all threads.
    """
    steps = -(-images // 64)
    products = images * 2 * (2 * 784 * 512)
    return products / flops_per_s + steps * 7 * 4 * 407_050 / bytes_per_s


def probe(setting: Setting) -> Part:
    """Measure what observing every neuron adds to evaluating the same images, using only config settings.

    `probe: 1` observes one image but evaluates all; with `train_limit` set to one batch as well, little more than the
    test pass is left.
    """
    dataset = loaded(setting)
    variants = {
        "probed": setting.variant(epochs=2),
        "unprobed": setting.variant(epochs=2, probe=1),
        "test": setting.variant(epochs=2, probe=1, train_limit=64),
    }
    while True:
        found: Measured = {}
        for name, variant in variants.items():
            rows = train([Run(variant, 0)], dataset, setting.threads).rows[1:]
            found[f"evaluate_{name}_s"] = fmean(float(row["evaluate_s"] or 0) for row in rows)
            if name == "probed":
                train_s = fmean(float(row["train_s"] or 0) for row in rows)
        epoch_s = train_s + found["evaluate_probed_s"]
        found["probe_share"] = (found["evaluate_probed_s"] - found["evaluate_unprobed_s"]) / epoch_s
        yield found
