#!/usr/bin/env python3
"""Time actbench's engine against the plain PyTorch program, in one run, interleaved (medians and ratios).

    .venv/bin/python scripts/benchmark.py [--rounds 3] [--data-dir DIR] [--full] [--out results/benchmarks]

The plain program is scripts/plain_program.py, in a process of its own. `--full` also trains it for all 10 epochs
beside a whole `actbench train --seeds 1`, both from the shell; without it single epochs are timed. The rows are
printed and written to OUT as JSON and Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import actbench
from actbench import compute, datasets, engine
from actbench.config import Run, Variant
from actbench.config.fields import Choice
from actbench.engine import measure as measure_module
from actbench.engine.measure import Measurer
from actbench.engine.stack import Arrays, LaneStack

SET_BY_ACTBENCH = {"MKL_CBWR", "GOMP_SPINCOUNT"}
"""What importing actbench sets for its own process; the reference runs without."""


class Reference:
    """The plain program in a process of its own, with torch's own settings rather than actbench's."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("plain_program.py")), str(folder)]
        environment = {name: value for name, value in os.environ.items() if name not in SET_BY_ACTBENCH}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def epoch(self) -> float:
        """Train one epoch there and return its seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("epoch\n")
        self._process.stdin.flush()
        return float(self._answer().split()[0])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Stamps:
    """A listener that notes when each epoch of a run was measured."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_epoch(self, run: Run, row: measure_module.Row) -> None:
        """Note the time."""
        self.at.append(time.perf_counter())

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """Keep none."""

    def on_end(self, run: Run, outcome: engine.Outcome) -> None:
        """Nothing is stored."""


def lanes_epoch(runs: list[Run], dataset: datasets.Dataset) -> float:
    """Seconds that an epoch of all runs takes in train_lanes: the mean of epochs 1 and 2, start and end left out."""
    stamps, n = Stamps(), len(runs)
    threads = compute.usable_threads()
    engine.train_lanes(runs, dataset, device=torch.device("cpu"), listener=stamps, threads=threads)
    return (stamps.at[3 * n - 1] - stamps.at[n - 1]) / 2


class Lanes:
    """One run's epoch, its training and its measuring timed apart."""

    def __init__(self, runs: list[Run], arrays: Arrays) -> None:
        self.measurers = [Measurer(LaneStack([run], arrays)) for run in runs]
        for measurer in self.measurers:
            measurer.stack.network.threads = compute.usable_threads()
            measurer.measure(None, 0.0)
        self.train_s = self.measure_s = 0.0

    def epoch(self) -> None:
        """Train and measure one epoch of every lane."""
        self.train_s = self.measure_s = 0.0
        for measurer in self.measurers:
            started = time.perf_counter()
            losses = measurer.stack.train_epoch()
            middle = time.perf_counter()
            measurer.measure(losses, 0.0)
            self.train_s += middle - started
            self.measure_s += time.perf_counter() - middle


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def variant(activation: str = "relu", **settings: Any) -> Variant:
    return Variant(activation=(Choice.of("activation", activation),), name=activation, **settings)


def whole_run(folder: Path) -> float:
    """One `actbench train -c configs/relu.yaml --seeds 1`, from the shell to the last byte written."""
    config = Path(__file__).parents[1] / "configs" / "relu.yaml"
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "actbench", "train", "-c", str(config), "--seeds", "1", "--quiet"]
        command += ["--results", results, "--data-dir", str(folder)]
        return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def measure(folder: Path, rounds: int, full: bool) -> dict[str, Any]:
    """Time everything `rounds` times, interleaved; return the medians by name, in seconds."""
    engine.configure()
    dataset = datasets.load("mnist", folder)
    arrays = Arrays.of(dataset, variant(), torch.device("cpu"))
    plain, parts = Reference(folder), Lanes([Run(variant(), 0)], arrays)
    times: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)
        print(f"  {name}: {seconds:.3f} s", file=sys.stderr, flush=True)

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        note("plain program, one epoch", plain.epoch())
        note("actbench, one network, one epoch", lanes_epoch([Run(variant(epochs=2), 0)], dataset))
        with compute.training_thread():
            parts.epoch()
        note("of it, training", parts.train_s)
        note("of it, measuring", parts.measure_s)
        for n in (5, 16):
            seconds = lanes_epoch([Run(variant(epochs=2), seed) for seed in range(n)], dataset)
            note(f"actbench, {n} networks, one epoch each, per network", seconds / n)
    if full:
        for _ in range(2):
            note("actbench train --seeds 1, 10 epochs, from the shell", whole_run(folder))
            fresh = time.perf_counter()
            reference = Reference(folder)
            for _ in range(10):
                reference.epoch()
            reference.close()
            note("plain program, 10 epochs", time.perf_counter() - fresh)
    plain.close()
    return {name: {"median_s": statistics.median(found), "all_s": found} for name, found in times.items()}


def ratios(times: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Rows (what, reference seconds, actbench seconds, how many times faster)."""

    def row(what: str, reference: str, ours: str) -> tuple[str, float, float, float]:
        a, b = times[reference]["median_s"], times[ours]["median_s"]
        return what, a, b, a / b

    plain = "plain program, one epoch"
    rows = [
        row("one network, one epoch, tested and probed", plain, "actbench, one network, one epoch"),
        row("5 networks, one epoch, per network", plain, "actbench, 5 networks, one epoch each, per network"),
        row("16 networks, one epoch, per network", plain, "actbench, 16 networks, one epoch each, per network"),
    ]
    if "plain program, 10 epochs" in times:
        ours = "actbench train --seeds 1, 10 epochs, from the shell"
        rows.append(row("whole `actbench train --seeds 1`, 10 epochs", "plain program, 10 epochs", ours))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--full", action="store_true", help="also 10 epochs of both, from the shell")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    times = measure(datasets.data_folder(options.data_dir), options.rounds, options.full)
    rows = ratios(times)
    lines = [
        f"Medians of {options.rounds} interleaved rounds; {compute.usable_threads()} CPUs, "
        f"torch {torch.__version__}, actbench {actbench.__version__}, {platform.machine()}.",
        "",
        "| what | plain program | actbench | times faster |",
        "|---|---:|---:|---:|",
        *(f"| {what} | {a:.2f} s | {b:.2f} s | {ratio:.1f} |" for what, a, b, ratio in rows),
    ]
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cpu.md").write_text("\n".join(lines) + "\n")
    (options.out / "cpu.json").write_text(json.dumps({"times": times, "ratios": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
