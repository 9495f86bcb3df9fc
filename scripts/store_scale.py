#!/usr/bin/env python3
"""Measure how the store scales with the number of finished runs: time to plan, to add a run, and to compare.

    .venv/bin/python scripts/store_scale.py [--runs 10000] [--seeds 10]

The runs are made up (RUNS / SEEDS variants). Their files are as large as real ones, except for the weights, which none
of these steps reads. Prints wall-clock and processor seconds; compare includes the start of the program.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from actbench.config import Run, Variant
from actbench.store import RunRecord, Store

RATIOS = ("dead_ratio", "near_dead_ratio", "silent_ratio", "saturated_ratio", "sparsity", "always_linear_ratio")


def made_up(run: Run, draw: random.Random) -> RunRecord:
    metrics = {"test_accuracy": draw.gauss(0.98, 0.002), "test_loss": 0.1, "deaths": 3, "revivals": 1, "epochs_run": 10}
    metrics |= {name: draw.random() for name in RATIOS}
    return RunRecord(
        run_id=run.run_id,
        config_yaml="name: made up\n",
        flat=run.variant.flat(),
        seed=run.seed,
        status="done",
        metrics=metrics,
        layers=[{"layer": 0, **{name: draw.random() for name in RATIOS}}],
        epochs=[{"epoch": epoch, **metrics} for epoch in range(11)],
        neurons=[{"layer": 0, "unit": unit, "firing_rate": draw.random()} for unit in range(512)],
        provenance={"device": "cpu", "threads": 2, "torch_version": "0", "actbench_version": "0"},
        timing={"wall_s": 10.0, "images_per_s": 60_000.0},
    )


def timed(what: str, step: Callable[[], object]) -> None:
    def processor() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    wall, cpu = time.perf_counter(), processor()
    step()
    print(f"{what:<34}{time.perf_counter() - wall:8.3f} s {processor() - cpu:8.3f} s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    draw = random.Random(0)
    asked = [
        Run(Variant(name=f"v{v}", lr=1e-3 * (1 + v)), seed)  # type: ignore[call-arg]
        for v in range(given.runs // given.seeds)
        for seed in range(given.seeds)
    ]
    more = [Run(Variant(name="one more"), seed) for seed in range(3)]  # type: ignore[call-arg]
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(Path(temporary))
        for run in asked:  # as if another machine had put them there without updating runs.csv
            folder = store.root / run.run_id
            folder.mkdir()
            for name, data in made_up(run, draw).files().items():
                (folder / name).write_bytes(data)
        timed(f"rebuild runs.csv of {len(asked)} runs", store.prepare)
        timed("look up which runs are done", lambda: [store.status(run.run_id) for run in asked])
        for run in more:
            with store.claim(run.run_id) as claim:
                assert claim is not None
                timed("add one run", lambda claim=claim, run=run: claim.finish(made_up(run, draw)))  # type: ignore[misc]
        assert len((store.root / "runs.csv").read_text().splitlines()) == 1 + len(asked) + len(more)
        command = [sys.executable, "-m", "actbench", "compare", temporary]
        timed(f"compare, {len(asked) // given.seeds + 1} rows", lambda: subprocess.check_output(command))
        timed("compare --by activation", lambda: subprocess.check_output([*command, "--by", "activation"]))


if __name__ == "__main__":
    main()
