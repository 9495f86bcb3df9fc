"""scripts/kill_sweep.py detects differences. The kills themselves are only run by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from fake_runs import store_run

METRICS = {"test_accuracy": 0.9, "test_loss": 0.1, "dead_ratio": 0.25, "epochs_run": 2}
SCRIPT = Path(__file__).parents[1] / "scripts" / "kill_sweep.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("kill_sweep", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sweeps(script: Any, tmp_path: Path, **changes: Any) -> list[Any]:
    """Make two sweeps of three runs each; the last run of the second one is changed."""
    made = [script.Sweep(tmp_path / name, tmp_path / "no.yaml") for name in ("whole", "killed")]
    for sweep in made:
        for seed in range(3):
            last = sweep is made[1] and seed == 2
            fields = {"metrics": METRICS, **(changes if last else {})}
            store_run(sweep.store.root, seed, **fields)
    return made


def test_times_are_not_differences(script: Any, tmp_path: Path) -> None:
    made = sweeps(script, tmp_path, timing={"wall_s": 9.0, "images_per_s": 1.0})
    assert list(script.differences(*made)) == []
    assert len(made[0].finished()) == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"neurons": [{"layer": 1, "unit": 0, "dead": False}]}, ["neurons.csv"]),
        ({"epochs": [{"epoch": 1, "test_loss": 0.4}]}, ["epochs.csv"]),
        ({"metrics": {**METRICS, "test_accuracy": 0.5}}, ["runs.csv", "compare"]),
    ],
)
def test_anything_else_is_a_difference(script: Any, tmp_path: Path, changes: dict[str, Any], what: list[str]) -> None:
    found = list(script.differences(*sweeps(script, tmp_path, **changes)))
    assert [text.rpartition(" ")[2] for text in found] == what
