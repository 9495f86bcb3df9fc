#!/usr/bin/env python3
"""Time actbench's engine against the plain PyTorch program, in one run, interleaved (medians and ratios).

    .venv/bin/python scripts/benchmark.py [--rounds 3] [--data-dir DIR] [--full] [--out results/benchmarks]

The plain program is the one that tutorials print: torchvision's MNIST with ToTensor and Normalize, a
DataLoader with batch 64 and 2 workers, nn.Sequential, Adam, a test pass an epoch. `--full` trains it for all
10 epochs beside one whole `actbench train`; without it single epochs are timed. The rows are printed and
written to OUT as JSON and Markdown.
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
from torch import nn

import actbench
from actbench import datasets, download, engine
from actbench.config import Run, Variant
from actbench.fields import Choice
from actbench.measure import Measurer
from actbench.stack import Arrays, LaneStack


class PlainProgram:
    """The reference: one network, the way tutorials train it."""

    def __init__(self, folder: Path) -> None:
        download.torchvision_datasets()  # imports torchvision, also beside a torch that it was not built for
        from torchvision import datasets as vision
        from torchvision import transforms

        normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        root = self._unpacked(folder)
        train = vision.MNIST(root, train=True, transform=normalise)
        test = vision.MNIST(root, train=False, transform=normalise)
        self.train_loader = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True, num_workers=2)
        self.test_loader = torch.utils.data.DataLoader(test, batch_size=1000, num_workers=2)
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()

    def _unpacked(self, folder: Path) -> str:
        """Give torchvision the unpacked files it wants, in a folder of this process, when only .gz are there."""
        import gzip

        self._temporary = tempfile.TemporaryDirectory()
        raw = Path(self._temporary.name) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in (folder / "MNIST" / "raw").glob("*.gz"):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        for plain in (folder / "MNIST" / "raw").glob("*ubyte"):
            (raw / plain.name).write_bytes(plain.read_bytes())
        return self._temporary.name

    def epoch(self) -> float:
        """Train one epoch and test; return the test accuracy."""
        self.model.train()
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            self.loss(self.model(images), labels).backward()
            self.optimizer.step()
        self.model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in self.test_loader:
                correct += int((self.model(images).argmax(1) == labels).sum())
        return correct / 10_000


class Lanes:
    """actbench's own loop over given runs, an epoch of each with its measurements: what `train` does."""

    def __init__(self, runs: list[Run], arrays: Arrays) -> None:
        self.measurers = [Measurer(LaneStack([run], arrays)) for run in runs]
        for measurer in self.measurers:
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
    engine.configure(None)
    arrays = Arrays.of(datasets.load("mnist", folder), variant(), torch.device("cpu"))
    plain = PlainProgram(folder)
    one = Lanes([Run(variant(), 0)], arrays)
    five = Lanes([Run(variant(), seed) for seed in range(5)], arrays)
    times: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)
        print(f"  {name}: {seconds:.3f} s", file=sys.stderr, flush=True)

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        note("plain program, one epoch", timed(plain.epoch))
        note("actbench, one network, one epoch", timed(one.epoch))
        note("actbench, one network, training of it", one.train_s)
        note("actbench, one network, measuring of it", one.measure_s)
        note("actbench, five networks, one epoch each, per network", timed(five.epoch) / 5)
    if full:
        note("plain program, 10 epochs", timed(lambda: [PlainProgram.epoch(plain) for _ in range(10)]))
        note("actbench train --seeds 1, 10 epochs, from the shell", whole_run(folder))
    return {name: {"median_s": statistics.median(found), "all_s": found} for name, found in times.items()}


def ratios(times: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Rows (what, reference seconds, actbench seconds, how many times faster)."""

    def row(what: str, reference: str, ours: str) -> tuple[str, float, float, float]:
        a, b = times[reference]["median_s"], times[ours]["median_s"]
        return what, a, b, a / b

    plain = "plain program, one epoch"
    rows = [
        row("one network, one epoch, tested and probed", plain, "actbench, one network, one epoch"),
        row("five networks, one epoch, per network", plain, "actbench, five networks, one epoch each, per network"),
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
        f"Medians of {options.rounds} interleaved rounds; {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, "
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
