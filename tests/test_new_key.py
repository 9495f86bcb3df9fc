"""A config key is defined in one place: one more field of `Variant` is all that a new key needs.

The tests add a key to a copy of the package and look for it everywhere a key should appear.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import actbench

PACKAGE = Path(actbench.__file__).parent
NEW_KEY = '    flavour: str = _key(one_of("flavour", ("plain", "spicy")), "plain", "how the network tastes")\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of actbench that has the key `flavour`, and with runs that differ in it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "actbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "configs", folder / "configs")
    variant = folder / "actbench" / "config" / "variant.py"
    text = variant.read_text()
    end = text.index("    def __post_init__")
    variant.write_text(text[:end] + NEW_KEY + text[end:])
    (folder / "x.yaml").write_text(
        "dataset: digits\nepochs: 1\nhidden: [8]\ntrain_limit: 128\nseeds: 2\ndevice: cpu\n"
        "sweep: {grid: {flavour: [plain, spicy]}}\n"
    )
    run(folder, "sweep", "-c", "x.yaml", "--quiet", "--threads", "1")
    return folder


def run(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "actbench", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "300", **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_key_is_a_column_of_runs_csv(place: Path) -> None:
    with (place / "results" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["flavour"] for row in rows) == ["plain", "plain", "spicy", "spicy"]
    assert {row["name"] for row in rows} == {"relu flavour=plain", "relu flavour=spicy"}


def test_a_new_key_can_be_compared_by(place: Path) -> None:
    found = json.loads(run(place, "compare", "--by", "flavour", "--format", "json"))
    assert "spicy" in json.dumps(found)
    assert "flavour" in json.dumps(found)


def test_a_new_key_is_in_the_report(place: Path) -> None:
    run(place, "report", "-o", "report.html")
    assert "flavour" in (place / "report.html").read_text()


def test_a_new_key_is_in_the_schema(place: Path) -> None:
    schema = json.loads(run(place, "schema"))
    assert schema["properties"]["flavour"] == {
        "enum": ["plain", "spicy"], "description": "how the network tastes", "default": "plain",
    }  # fmt: skip
    assert "flavour" in json.loads(run(place, "schema", "--claims"))["$defs"]["variant"]["properties"]


def test_a_new_key_and_its_values_are_completed(place: Path) -> None:
    code = "from actbench.cli import completion; print(completion.setting('flav'), completion.key('fl'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "'flavour=" in done.stdout
    assert "('flavour', 'how the network tastes')" in done.stdout


def test_a_new_key_is_shown_and_checked_like_every_other(place: Path) -> None:
    (place / "y.yaml").write_text("flavour: sweet\n")
    done = subprocess.run(
        [sys.executable, "-m", "actbench", "validate", "y.yaml"], cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "y.yaml:1:10: flavour: unknown flavour 'sweet'. Known: plain, spicy" in done.stderr + done.stdout
