"""Made-up ended runs for the tests of the store; imports neither numpy nor torch, as processes are started with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actbench.store import RunRecord, Store


def run_id(seed: int = 0, name: str = "relu") -> str:
    return f"{name}-s{seed}-{seed:010x}"


def record(seed: int = 0, name: str = "relu", **changes: Any) -> RunRecord:
    """A run that is done, with two epochs and three neurons; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "run_id": run_id(seed, name),
        "config_yaml": f"name: {name}\n",
        "flat": {"name": name, "dataset": "mnist", "activation": "relu", "lr": 0.001, "hidden": "[512]"},
        "seed": seed,
        "status": "done",
        "metrics": {"test_accuracy": 0.98 + seed / 1e6, "dead_ratio": 0.25, "deaths": 3, "epochs_run": 2},
        "layers": [{"layer": 1, "dead_ratio": 0.25, "dead": 128}],
        "epochs": [{"epoch": 1, "test_loss": 0.5}, {"epoch": 2, "test_loss": float("inf"), "note": "=1+1"}],
        "layer_rows": [{"epoch": 2, "layer": layer, "dead_ratio": 0.25 * layer} for layer in range(2)],
        "neurons": [{"layer": 1, "unit": unit, "dead": unit == 0} for unit in range(3)],
        "provenance": {"torch": "2.13.0", "device": "cpu"},
        "timing": {"wall_s": 1.5, "images_per_s": 40000.0},
    }
    return RunRecord(**fields | changes)


def store_run(root: Path, seed: int = 0, name: str = "relu", **changes: Any) -> Path:
    """Store such a run in `root` and return its folder."""
    root.mkdir(exist_ok=True)
    made = record(seed, name, **changes)
    with Store(root).claim(made.run_id, force=True) as claim:
        assert claim is not None
        assert claim.finish(made)
    return root / made.run_id


def rows_of(root: Path) -> list[str]:
    """The run ids in runs.csv, in the order of the file; there may be no file when there are no runs."""
    path = root / "runs.csv"
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return [line.partition(",")[0] for line in lines]
