"""What a run folder holds: it reads back as it was, and no byte of it changes unnoticed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import record, run_id, store_run
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.errors import StoreError
from actbench.store import RunRecord
from actbench.store.csv import parse_table
from actbench.store.run import COLUMNS, StoredProblem, StoredRun, read_run

FILES = (
    "config.yaml",
    "epochs.csv",
    "layers.csv",
    "neurons.csv",
    "result.json",
    "model.safetensors",
    "predictions.csv.gz",
)
WEIGHTS = {"hidden.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "scale": np.array(2.0, np.float32)}
PREDICTIONS = np.array([[7, 7], [2, 3], [1, 1]])


def read(folder: Path) -> StoredRun:
    run = read_run(folder)
    assert isinstance(run, StoredRun), run
    return run


def reason(folder: Path) -> str:
    problem = read_run(folder)
    assert isinstance(problem, StoredProblem), problem
    assert str(problem) == f"{folder}: {problem.reason}"
    return problem.reason


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change result.json as someone would who knows how its checksum is made."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    del result["checksum"]
    change(result)
    head = json.dumps(result, indent=1).removesuffix("\n}").encode()
    path.write_bytes(head + f',\n "checksum": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode())


def test_a_run_reads_back_as_it_was_stored(tmp_path: Path) -> None:
    given = record(3, weights=WEIGHTS)
    folder = store_run(tmp_path, 3, weights=WEIGHTS, predictions=PREDICTIONS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    run = read(folder)
    assert (run.run_id, run.status, run.seed, run.error) == (given.run_id, "done", 3, None)
    assert (run.config, run.metrics, run.timing) == (given.flat, given.metrics, given.timing)
    assert (run.layers, run.provenance) == (given.layers, given.provenance)
    assert run.config_yaml() == given.config_yaml
    assert run.epochs() == [
        {"epoch": 1, "test_loss": 0.5, "note": None},
        {"epoch": 2, "test_loss": math.inf, "note": "=1+1"},
    ]
    assert run.neurons() == given.neurons
    assert run.layer_rows() == given.layer_rows
    weights = run.weights()
    assert set(weights) == set(WEIGHTS)
    assert all(np.array_equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert weights["scale"].shape == ()
    assert np.array_equal(run.predictions(), PREDICTIONS)
    assert run.verify() == []


def test_weights_are_stored_by_value_not_by_memory_order(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    stored = read(store_run(tmp_path, weights={"turned": array.T, "part": array[:, 1:3]})).weights()
    assert np.array_equal(stored["turned"], array.T)
    assert np.array_equal(stored["part"], array[:, 1:3])


def test_result_json_is_strict_and_says_its_format(tmp_path: Path) -> None:
    folder = store_run(tmp_path, status="diverged", metrics={"test_loss": math.nan, "train_loss": np.float32(0.5)})
    text = (folder / "result.json").read_text()
    result = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    assert result["format_version"] == 2
    assert result["metrics"] == {"test_loss": None, "train_loss": 0.5}
    assert result["files"]["config.yaml"]["bytes"] == len("name: relu\n")
    assert read(folder).status == "diverged"


def test_a_row_has_the_columns_of_runs_csv_first(tmp_path: Path) -> None:
    flat = {"name": "x", "device": "auto", "hidden": [512, 10], "zeta": 1, "alpha": "a"}
    folder = store_run(tmp_path, flat=flat, metrics={"test_accuracy": 0.5, "extra": np.int64(3)})
    row = read(folder).row
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    assert tuple(row)[len(COLUMNS) :] == ("alpha", "extra", "zeta")
    assert (row["run_id"], row["seed"], row["status"], row["device"]) == (run_id(), 0, "done", "cpu")
    assert (row["hidden"], row["wall_s"], row["test_accuracy"], row["extra"]) == ("[512, 10]", 1.5, 0.5, 3)
    assert row["dead_ratio"] is None


def test_a_failed_run_has_its_traceback_and_no_weights(tmp_path: Path) -> None:
    run = read(store_run(tmp_path, status="failed", error="Traceback ...\nValueError: x", epochs=[]))
    assert run.error == "Traceback ...\nValueError: x"
    assert run.epochs() == []
    with pytest.raises(StoreError, match=r"has no model.safetensors \(status: failed\)"):
        run.weights()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_noticed(tmp_path: Path, name: str) -> None:
    folder = store_run(tmp_path, weights=WEIGHTS, predictions=PREDICTIONS)
    path = folder / name
    whole, draw = path.read_bytes(), random.Random(0)
    positions = {0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(60))}
    if name == "result.json":
        positions = set(range(len(whole)))
    run = read(folder)
    for position in sorted(positions):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        problems = run.verify()
        assert len(problems) == 1, position
        assert name in problems[0].reason or problems[0].kind == "newer"
    path.write_bytes(whole)
    assert run.verify() == []


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_empty_or_missing_file_is_noticed(tmp_path: Path, name: str) -> None:
    folder = store_run(tmp_path, weights=WEIGHTS, predictions=PREDICTIONS)
    run, path = read(folder), folder / name
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert len(run.verify()) == 1
    path.unlink()
    (problem,) = run.verify()
    assert "missing" in problem.reason or "has no result.json" in problem.reason


def test_reading_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    folder = store_run(tmp_path, weights=WEIGHTS, predictions=PREDICTIONS)
    run = read(folder)
    readers = (run.config_yaml, run.epochs, run.layer_rows, run.neurons, None, run.weights, run.predictions)
    for name, get in zip(FILES, readers, strict=True):
        if get is not None:
            (folder / name).write_bytes((folder / name).read_bytes().swapcase())
            with pytest.raises(StoreError, match=f"{name} has changed since it was written"):
                get()
            (folder / name).write_bytes(b"")
            with pytest.raises(StoreError, match=f"{name} is damaged: it has 0 bytes, but [0-9]+ were written"):
                get()


def test_a_pickle_in_place_of_the_weights_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    folder = store_run(tmp_path, weights=WEIGHTS)
    data = pickle.dumps(Trap())
    (folder / "model.safetensors").write_bytes(data)
    about = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    reseal(folder, lambda result: result["files"].update({"model.safetensors": about}))
    with pytest.raises(StoreError, match=r"model.safetensors is damaged"):
        read(folder).weights()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"label,predicted\n1,1\n",
        gzip.compress(b"label,predicted\n1,1\n")[:-9],
        gzip.compress(b"label,predicted\n"),
        gzip.compress(b"predicted,label\n1,1\n"),
        gzip.compress(b"label,predicted\n1,1\n1\n"),
        gzip.compress(b"label,predicted\n1,nan\n"),
        gzip.compress(b"label,predicted\n" + b"1,1\n" * 2**25),
    ],
    ids=["not compressed", "cut", "empty", "other columns", "a cell is missing", "no number", "too large"],
)
def test_predictions_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    folder = store_run(tmp_path, predictions=PREDICTIONS)
    (folder / "predictions.csv.gz").write_bytes(data)
    about = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    reseal(folder, lambda result: result["files"].update({"predictions.csv.gz": about}))
    with pytest.raises(StoreError, match=r"predictions.csv.gz is damaged"):
        read(folder).predictions()


def test_predictions_of_ten_thousand_images_take_about_ten_kilobytes(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 10_000)
    guesses = np.where(np.arange(10_000) % 50, labels, (labels + 1) % 10)
    folder = store_run(tmp_path, predictions=np.stack([labels, guesses], axis=1))
    assert (folder / "predictions.csv.gz").stat().st_size < 12_000


def test_a_run_in_the_format_before_predictions_is_still_read(tmp_path: Path) -> None:
    folder = store_run(tmp_path)
    reseal(folder, lambda result: result.update(format_version=1))
    run = read(folder)
    assert run.verify() == []
    with pytest.raises(StoreError, match=r"has no predictions.csv.gz"):
        run.predictions()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"{", "is truncated, or not JSON"),
        (b"\x89PNG\r\n", "is truncated, or not JSON"),
        (b"[" * 100_000, "is truncated, or not JSON"),
        (b"[1, 2]", "was not written by actbench"),
        (b'{"accuracy": 1.0}', "was not written by actbench"),
        (b'{"format_version": true}', "was not written by actbench"),
        (b'{"format_version": 1}', "has changed since it was written"),
        (
            b'{"format_version": 3}',
            "was written by a newer actbench (format 3; this one reads 2): upgrade actbench to use this run",
        ),
        (
            b'{"format_version": 3, "provenance": {"actbench_version": "9.1\\u001b"}}',
            "was written by a newer actbench, 9.1\\x1b (format 3; this one reads 2): upgrade actbench to use this run",
        ),
    ],
)
def test_a_file_that_is_not_a_result_is_reported_with_the_reason(tmp_path: Path, data: bytes, told: str) -> None:
    folder = tmp_path / run_id()
    folder.mkdir()
    (folder / "result.json").write_bytes(data)
    assert told in reason(folder)


def test_anything_else_in_place_of_a_result_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / run_id()
    folder.write_text("a file")
    assert reason(folder) == "is not a folder"
    folder.unlink()
    folder.mkdir()
    assert reason(folder) == "has no result.json"
    os.mkfifo(folder / "result.json")
    assert reason(folder) == "result.json is not a file"


def test_a_run_folder_that_was_edited_or_copied_is_reported(tmp_path: Path) -> None:
    folder = store_run(tmp_path)
    path = folder / "result.json"
    text = path.read_text()
    path.write_text(text.replace('"test_accuracy": 0.98', '"test_accuracy": 0.99'))
    assert "has changed since it was written (its checksum differs)" in reason(folder)
    path.write_text(text.replace("\n", "\r\n"), newline="")
    assert "has changed since it was written" in reason(folder)
    path.write_text(text)
    copied = shutil.copytree(folder, tmp_path / run_id(1))
    assert f"belongs to run {run_id()!r}: the folder was renamed or copied" in reason(copied)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda result: result.pop("metrics"), "has no valid metrics"),
        (lambda result: result.update(seed=True), "has no valid seed"),
        (lambda result: result.update(layers={}), "has no valid layers"),
        (lambda result: result.update(status="great"), "has an unknown status 'great'"),
        (lambda result: result["metrics"].update(a=[1]), "has no valid metrics"),
        (lambda result: result["config"].update(a={}), "has no valid config"),
        (lambda result: result["files"].update({"../../x": {}}), "has no valid files"),
        (lambda result: result["files"].update({"epochs.csv": 3}), "has no valid files"),
        (lambda result: result["files"]["epochs.csv"].update(bytes="3"), "has no valid files"),
        (lambda result: result.update(format_version=7), "was written by a newer actbench"),
    ],
)
def test_a_result_with_the_right_checksum_but_wrong_fields_is_reported(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    folder = store_run(tmp_path)
    reseal(folder, change)
    assert told in reason(folder)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.binary(max_size=80) | st.text().map(str.encode))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / run_id(7)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    (folder / "result.json").write_bytes(data)
    assert isinstance(read_run(folder), StoredProblem)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.text(), st.text(min_size=1))
def test_hostile_texts_survive_the_files_of_a_run(text: str, name: str) -> None:
    files = record(flat={"name": text}, epochs=[{name: text, "n": 1}], error=text).files()
    assert parse_table(files["epochs.csv"].decode()) == [{name: text, "n": 1}]
    result = json.loads(files["result.json"])
    assert (result["config"]["name"], result["error"]) == (text, text)
    assert files["result.json"].isascii()


def test_a_lone_surrogate_from_a_command_line_breaks_nothing() -> None:
    files = record(config_yaml="name: \udcff", flat={"name": "\udcff"}, epochs=[{"name": "\udcff"}]).files()
    assert files["config.yaml"] == b"name: \\udcff"
    assert json.loads(files["result.json"])["config"]["name"] == "\udcff"


def test_a_record_needs_few_fields() -> None:
    files = RunRecord(run_id(), "", {}, 0, "failed").files()
    assert sorted(files) == ["config.yaml", "epochs.csv", "layers.csv", "neurons.csv", "result.json"]
