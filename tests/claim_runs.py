"""Made-up finished runs of a claim's arms, for tests of what claims read from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actbench.claims import Claim, Flags, load_all
from actbench.config import Run
from actbench.store import RunRecord, Store

CLAIM = """
id: 1
claim: The first is better.
source: a test
base: {dataset: digits, epochs: 2}
arms:
  a: {activation: relu}
  b: {activation: tanh}
seeds: 13
readings:
  - says: more accurate
    parts:
      - {metric: test_accuracy, arm: a, against: b, expect: higher, margin: 0.01}
"""


def claim(folder: Path, text: str = CLAIM, name: str = "01_test.yaml", **flags: Any) -> Claim:
    """Write a claim file with this text and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return load_all([folder / name], Flags(**flags))[0]


def store_runs(store: Store, of: Claim, make: Callable[[str, int], Mapping[str, Any]]) -> None:
    """Store a run for each arm and seed; `make(arm, seed)` returns fields of its record."""
    store.root.mkdir(parents=True, exist_ok=True)
    for arm, variant in of.arms.items():
        for seed in of.seeds:
            run = Run(variant, seed)
            record = RunRecord(run.run_id, "x: 1\n", variant.flat(), seed, **{"status": "done", **make(arm, seed)})
            with store.claim(run.run_id, force=True) as held:
                assert held is not None
                assert held.finish(record)
