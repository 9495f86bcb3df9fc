#!/usr/bin/env python3
"""Kill a sweep repeatedly (SIGKILL) and show that it ends with the same tables as an undisturbed one.

    .venv/bin/python scripts/kill_sweep.py [--kills 20] [--seeds 10] [--epochs 6] [--draw 0] [--out results/kill_sweep]

The sweep has ten activations at two learning rates on the digits: 200 runs with the default 10 seeds. It is
trained once undisturbed, and once with every process but the last killed at a random moment during training.
Checkpoints are written every half second instead of every minute, so that kills hit their writing and runs continue
from them. After each kill, every finished run must be intact, and no run that was finished before may have been
trained again. At the end, configs, epochs, neurons, weights, runs.csv and the output of `compare` must be the same,
except for times. Prints a short report (also to OUT/report.txt if given) and exits with 1 if anything differs. Takes
about five minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from actbench.store import Store
from actbench.store.csv import Row, parse_table

ACTIVATIONS = "relu,leaky_relu,prelu,elu,selu,gelu,silu,mish,tanh,sigmoid"
RESUMED = "continues after epoch"
"""What `sweep` prints for each run that it resumes."""
TIMES = ("wall_s", "images_per_s", "train_s", "evaluate_s")
START = """
import sys
from actbench import cli, engine
assert engine.train._CHECKPOINT_EVERY_S > 1
engine.train._CHECKPOINT_EVERY_S = 0.5
sys.exit(cli.run(sys.argv[1:]))
"""


class Sweep:
    """The sweep in one results folder: starts it, may kill it, and reads its results."""

    def __init__(self, root: Path, config: Path) -> None:
        self.store, self.log = Store(root), root.with_suffix(".log")
        grid = ["-g", f"activation={ACTIVATIONS}", "-g", "lr=1e-3,1e-2"]
        self._command = [sys.executable, "-c", START, "sweep", "-c", str(config), *grid, "--results", str(root)]
        self.resumed = 0

    def run(self, life_s: float | None = None) -> float:
        """Start the sweep; kill it `life_s` after its first epoch, or let it end. Return its training seconds."""
        with subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            while first and " epoch " not in first:
                self.resumed += RESUMED in first
                first = process.stderr.readline()
            began = time.monotonic()
            if life_s is not None:
                # Keep reading the pipe, because a full pipe would block the training.
                os.set_blocking(process.stderr.fileno(), False)
                while time.monotonic() < began + life_s and process.poll() is None:
                    self.resumed += (os_read(process.stderr.fileno())).count(RESUMED)
                    time.sleep(0.01)
                os.killpg(process.pid, signal.SIGKILL)
            else:
                for line in process.stderr:
                    self.resumed += RESUMED in line
            code = process.wait()
            if code not in (0, -signal.SIGKILL):
                raise SystemExit(f"the sweep ended with exit code {code}; its last line: {first}")
            if life_s is not None and code == 0:
                raise SystemExit("the sweep ended before the last kill; use more --seeds or --epochs, or fewer --kills")
            return time.monotonic() - began

    def finished(self) -> dict[str, bytes]:
        """Return the result.json of every finished run, after checking that all its files are intact."""
        runs, problems = self.store.load_all()
        problems += [problem for run in runs for problem in run.verify()]
        if problems:
            raise SystemExit(f"damaged: {'; '.join(map(str, problems))}")
        return {run.run_id: (run.folder / "result.json").read_bytes() for run in runs}

    def compared(self) -> list[Row]:
        """Return the rows that `actbench compare` prints."""
        command = [sys.executable, "-m", "actbench", "compare", str(self.store.root), "--format", "csv"]
        command += ["--by", "activation,lr", "--metric", "test_accuracy,test_loss,dead_ratio"]
        return parse_table(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def os_read(descriptor: int) -> str:
    try:
        return os.read(descriptor, 1 << 16).decode()
    except BlockingIOError:
        return ""


def timeless(rows: list[Row]) -> list[Row]:
    """Return the rows without times and without statistics of times (wall_s_mean)."""
    return [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]


def differences(one: Sweep, other: Sweep) -> Iterator[str]:
    """Yield everything except times in which the results of two sweeps differ."""
    runs, others = ({run.run_id: run for run in sweep.store.load_all()[0]} for sweep in (one, other))
    for run_id in sorted(runs.keys() ^ others.keys()):
        yield f"{run_id}: is in only one of them"
    for run_id in sorted(runs.keys() & others.keys()):
        a, b = runs[run_id], others[run_id]
        for name in sorted((a.files.keys() | b.files.keys()) - {"epochs.csv"}):
            if a.files.get(name) != b.files.get(
                name
            ):  # size and SHA-256; `finished` has checked them against the files
                yield f"{run_id}: {name}"
        if timeless(a.epochs()) != timeless(b.epochs()):
            yield f"{run_id}: epochs.csv"
        if a.layers != b.layers or a.status != b.status:
            yield f"{run_id}: result.json"
    tables = [parse_table((sweep.store.root / "runs.csv").read_text()) for sweep in (one, other)]
    if timeless(tables[0]) != timeless(tables[1]):
        yield "runs.csv"
    if timeless(one.compared()) != timeless(other.compared()):
        yield "compare"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills")
    parser.add_argument("--seeds", type=int, default=10, help="seeds per variant (there are 20 variants)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs per run")
    parser.add_argument("--draw", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--out", type=Path, help="folder for the report")
    given = parser.parse_args()
    draw = random.Random(given.draw)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "sweep.yaml"
        config.write_text(f"dataset: digits\nepochs: {given.epochs}\nseeds: {given.seeds}\n")
        whole, killed = Sweep(folder / "whole", config), Sweep(folder / "killed", config)
        took_s = whole.run()
        lives, seen, again = [], {}, set()
        for _ in range(given.kills):
            lives.append(killed.run(draw.uniform(0, took_s / given.kills)))
            now = killed.finished()
            again |= {run_id for run_id, result in seen.items() if now.get(run_id) != result}
            seen = now
        before_last = len(seen)
        killed.run()
        again |= {run_id for run_id, result in seen.items() if killed.finished().get(run_id) != result}
        found = [*differences(whole, killed), *(f"{run_id}: was trained again" for run_id in sorted(again))]
        report = [
            f"undisturbed: {len(whole.finished())} runs, trained in {took_s:.0f} s",
            f"killed (SIGKILL) {len(lives)} times, after {min(lives):.2f} to {max(lives):.2f} s of training; "
            f"then {before_last} runs were finished, and the last start trained the rest",
            f"resumed from a checkpoint: {killed.resumed} times; finished runs trained again: {len(again)}",
            "compared: configs, epochs, neurons, weights (SHA-256) of every run, runs.csv and compare, except times",
            *(f"DIFFERENT: {what}" for what in found),
            f"{len(found)} differences" if found else "no difference: PASSED",
        ]
    print("\n".join(report))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "report.txt").write_text("\n".join(report) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
