"""Your own data: npz files and folders of IDX files that are right, wrong or hostile, and runs on them."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_files import idx_bytes, zipped

import actbench
from actbench import datasets
from actbench.config import Run, Variant
from actbench.datasets import OwnData, own
from actbench.errors import ConfigError, DataError
from actbench.store import Store
from configs import loaded, problems_of

DRAWS = np.random.default_rng(0)
IMAGES, LABELS = DRAWS.integers(0, 256, (30, 6, 6), np.uint8), np.arange(30) % 3


def arrays(**changed: Any) -> dict[str, Any]:
    """A small dataset of 20 training and 10 test images, with some arrays changed, or left out if None."""
    sound = {"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[20:], "y_test": LABELS[20:]}
    return {name: array for name, array in {**sound, **changed}.items() if array is not None}


def saved(path: Path, **changed: Any) -> Path:
    np.savez(path, **arrays(**changed))
    return path


def data_at(path: Path) -> OwnData:
    return own.read("npz", str(path)).data


def reason(path: Path, kind: own.Kind = "npz") -> str:
    """What is wrong with the data, without the path that the message begins with."""
    with pytest.raises(DataError) as failed:
        own.read(kind, str(path))
    return str(failed.value).removeprefix(f"{path}: ")


def test_an_npz_file_is_loaded_with_its_own_number_of_inputs_and_classes(tmp_path: Path) -> None:
    variant = Variant(dataset={"npz": str(saved(tmp_path / "my.npz"))}, batch_size=20)
    assert (variant.data.train, variant.data.test, variant.data.inputs, variant.data.classes) == (20, 10, 36, 3)
    assert variant.structure().inputs == 36
    assert variant.parameter_count == 512 * 37 + 3 * 513
    found = datasets.load(variant.dataset)
    assert found.train.images.tolist() == IMAGES[:20].reshape(20, 36).tolist()
    assert found.test.labels.tolist() == LABELS[20:].tolist()
    assert found.mean == pytest.approx(IMAGES[:20].mean())
    assert found.std == pytest.approx(IMAGES[:20].std())


def test_floats_and_features_of_any_shape_are_data(tmp_path: Path) -> None:
    x = DRAWS.normal(5, 3, (20, 2, 3, 2))
    data = data_at(saved(tmp_path / "f.npz", x_train=x, x_test=x[:10].astype(np.float16), y_train=LABELS[:20, None]))
    assert (data.inputs, data.side) == (12, None)
    images = datasets.load(data).train.images
    assert images.dtype == torch.float32
    assert images.tolist() == x.reshape(20, 12).astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("shape", "side"),
    [((9, 9), 9), ((1, 9, 9), 9), ((9, 9, 1), 9), ((81,), 9), ((3, 27), None), ((80,), None), ((3, 9, 9), None)],
)
def test_images_are_square_if_their_shape_says_so_or_allows_it(
    tmp_path: Path, shape: tuple[int, ...], side: int | None
) -> None:
    x = DRAWS.integers(0, 9, (30, *shape))
    assert data_at(saved(tmp_path / "s.npz", x_train=x[:20], x_test=x[20:])).side == side


def test_the_same_data_is_the_same_run_wherever_and_however_it_is_stored(tmp_path: Path) -> None:
    there = tmp_path / "elsewhere" / "renamed.npz"
    there.parent.mkdir()
    np.savez_compressed(there, **arrays(x_train=IMAGES[:20].reshape(20, 36), y_train=LABELS[:20].astype(np.uint8)))
    for name, content in idx_files().items():
        (there.parent / name).write_bytes(content)
    values: list[Any] = [{"npz": str(saved(tmp_path / "my.npz"))}, {"npz": str(there)}, {"idx": str(there.parent)}]
    runs = [Run(Variant(dataset=value, batch_size=8), 0) for value in values]
    assert len({run.run_id for run in runs}) == 1
    assert len({run.variant for run in runs}) == 3  # their names tell where each one is


@given(which=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]), place=st.integers(0, 9))
@settings(max_examples=20, derandomize=True, deadline=None)
def test_data_that_differs_anywhere_is_another_run(
    tmp_path_factory: pytest.TempPathFactory, which: str, place: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    changed = arrays()[which].copy()
    changed[place] = (changed[place] + 1) % 3
    different = data_at(saved(folder / "b.npz", **{which: changed}))
    assert data_at(saved(folder / "a.npz")) != different


# What is refused


class Bomb:
    """An object whose unpickling would be seen."""

    def __reduce__(self) -> Any:
        return os.makedirs, ("unpickled",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_test": None, "y_test": None}, "has no x_test, y_test; it holds x_train, y_train"),
        ({"y_train": LABELS[:19]}, "y_train has 19 labels, but x_train has 20 images"),
        ({"y_train": np.where(LABELS[:20] == 2, -1, 0)}, "y_train[2] is -1; labels are integers from 0 to 999"),
        ({"y_test": LABELS[20:] + 10.5}, "y_test[0] is 12.5; labels are integers from 0 to 999"),
        ({"y_test": LABELS[20:] * np.nan}, "y_test[0] is nan; labels are integers from 0 to 999"),
        ({"y_test": LABELS[20:] + 1000}, "y_test[0] is 1002; labels are integers from 0 to 999"),
        ({"y_train": np.eye(3)[LABELS[:20]]}, "y_train must hold one label per image, got shape (20, 3)"),
        ({"y_train": np.zeros(20), "y_test": np.zeros(10)}, "the largest label is 0; it must be from 1 to 999"),
        ({"x_test": IMAGES[20:, :5]}, "x_test has 30 numbers per image, but x_train has 36"),
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0]}, "x_train is empty (shape (0, 6, 6))"),
        ({"x_test": np.float64(3)}, "x_test is empty (shape ())"),
        ({"x_train": np.ones((20, 36))}, "x_train holds only the number 1, so there is nothing to learn from it"),
        (
            {"x_test": np.where(IMAGES[20:] == IMAGES[21, 0, 0], np.nan, 1.0)},
            "x_test[1] contains nan; every number must be finite and fit into float32",
        ),
        (
            {"x_train": np.full((20, 36), 1e300)},
            "x_train[0] contains 1e+300; every number must be finite and fit into float32",
        ),
        ({"x_train": IMAGES[:20] * 1j}, "x_train must hold numbers, got complex128"),
        ({"y_train": LABELS[:20].astype(str)}, "y_train must hold numbers, got <U21"),
        (
            {"x_train": np.array([Bomb()] * 20, dtype=object)},
            "x_train holds Python objects, which are never loaded; save it as an array of numbers",
        ),
    ],
)
def test_arrays_that_are_no_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason(saved(tmp_path / "my.npz", **changed)) == message
    assert not Path("unpickled").exists()


def test_a_header_alone_reserves_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (7_500_000_000,)})
    path = saved(tmp_path / "my.npz", x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    assert reason(path) == "x_train declares 7,500,000,000 numbers; at most 1,073,741,824 are allowed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an npz file, or is damaged (File is not a zip file)"),
        (pickle.dumps(Bomb()), "is not an npz file, or is damaged (File is not a zip file)"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "my.npz").write_bytes(content)
    assert reason(tmp_path / "my.npz") == message


@given(data=st.data())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_a_damaged_npz_file_is_an_error_or_the_same_data(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = tmp_path_factory.getbasetemp() / "whole.npz"
    content = bytearray(saved(whole).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = whole.with_name("damaged.npz")
    damaged.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    try:
        found = data_at(damaged)
    except DataError:
        return
    assert found == data_at(whole)


def test_what_is_not_a_file_is_said(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.npz") == "there is no such file"
    assert reason(tmp_path) == "is not a file"
    os.mkfifo(tmp_path / "pipe.npz")
    assert reason(tmp_path / "pipe.npz") == "is not a file"


# Folders of IDX files


def idx_files(prefix: str = "", test: str = "t10k") -> dict[str, bytes]:
    """The four files of the small dataset."""
    found = {}
    for split, images, labels in (("train", IMAGES[:20], LABELS[:20]), (test, IMAGES[20:], LABELS[20:])):
        found[f"{prefix}{split}-images-idx3-ubyte"] = idx_bytes(images)
        found[f"{prefix}{split}-labels-idx1-ubyte"] = idx_bytes(labels.astype(np.uint8))
    return found


@pytest.mark.parametrize(("prefix", "test"), [("", "t10k"), ("emnist-letters-", "test")])
@pytest.mark.parametrize("gz", [True, False])
def test_a_folder_of_idx_files_is_loaded(tmp_path: Path, prefix: str, test: str, gz: bool) -> None:
    for name, content in idx_files(prefix, test).items():
        (tmp_path / (name + ".gz" * gz)).write_bytes(zipped(content) if gz else content)
    variant = Variant(dataset={"idx": str(tmp_path)}, batch_size=20)
    assert (variant.data.train, variant.data.classes, variant.data.side) == (20, 3, 6)
    assert datasets.load(variant.dataset).test.images.tolist() == IMAGES[20:].reshape(10, 36).tolist()


def test_an_idx_folder_that_is_incomplete_or_ambiguous_is_refused(tmp_path: Path) -> None:
    for name, content in idx_files("emnist-letters-", "test").items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "emnist-letters-test-images-idx3-ubyte").rename(tmp_path / "other")
    example = "needs one file such as t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"
    assert reason(tmp_path, "idx") == f"{example}, found none"
    for split in ("digits", "letters"):
        shutil.copy(tmp_path / "other", tmp_path / f"emnist-{split}-test-images-idx3-ubyte")
    found = "emnist-digits-test-images-idx3-ubyte, emnist-letters-test-images-idx3-ubyte"
    assert reason(tmp_path, "idx") == f"{example}, found {found}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x03" + b"\xff" * 12, "is 16 bytes long, but its header says "),
        (b"\0\0\x08\x03", "is not an IDX file (starts with 00000803)"),
        (b"<html>", "is not an IDX file (starts with 3c68746d)"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    for name, sound in idx_files().items():
        (tmp_path / name).write_bytes(content if name == "train-images-idx3-ubyte" else sound)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'train-images-idx3-ubyte'}: {message}")):
        own.read("idx", str(tmp_path))


# In a config


def problem_of(value: Any, **more: Any) -> str:
    """What is wrong with a config that names `value` as its dataset."""
    return "\n".join(line.removeprefix("config: ") for line in problems_of(dataset=value, **more))


def test_a_config_names_data_in_one_way(tmp_path: Path) -> None:
    path = str(saved(tmp_path / "my.npz"))
    both = "dataset: must be the name of a dataset, {npz: FILE} or {idx: FOLDER}"
    for value in ({}, {"npz": path, "idx": path}, {"sha256": "0" * 64}):
        assert problem_of(value) == both
    assert problem_of({"npz": 3}) == 'dataset.npz: must be text, got 3; quote it: "3"'
    assert problem_of({"csv": path}).startswith("dataset.csv: unknown parameter 'csv' of dataset; it has npz, idx, ")
    assert problem_of({"npz": str(tmp_path / "no.npz")}) == f"dataset.npz: {tmp_path / 'no.npz'}: there is no such file"


def test_the_place_of_bad_data_is_that_of_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"x.yaml:2:16: dataset.npz: {tmp_path}: is not a file")):
        loaded(f"name: mine\ndataset: {{npz: {tmp_path}}}\n")


def test_bounds_are_those_of_the_data(tmp_path: Path) -> None:
    path = saved(tmp_path / "my.npz")
    label = data_at(path).label
    assert label == f"my@{data_at(path).sha256[:8]}"
    assert f"train_limit: must be at most 20 (all of {label}), got 21" in problem_of({"npz": str(path)}, train_limit=21)
    assert "batch_size: must be at most 20" in problem_of({"npz": str(path)}, batch_size=64)


def test_images_that_are_not_square_have_no_cnn_and_no_augmentation(tmp_path: Path) -> None:
    path = saved(tmp_path / "my.npz", x_train=IMAGES[:20, :5], x_test=IMAGES[20:, :5])
    found = problem_of({"npz": str(path)}, batch_size=8, network="cnn", augment={"shift": 1})
    label = data_at(path).label
    assert f"network: cnn needs square images of at least 4 x 4; {label} has 30 numbers per image" in found
    assert f"augment: needs square images; {label} has 30 numbers per image" in found
    small = saved(tmp_path / "small.npz", x_train=IMAGES[:20, :3, :3], x_test=IMAGES[20:, :3, :3])
    assert "has 3 x 3 images" in problem_of({"npz": str(small)}, batch_size=8, network="cnn")


# Runs


CONFIG: dict[str, Any] = {"hidden": [8], "epochs": 1, "batch_size": 10}


@pytest.mark.parametrize("more", [{}, {"network": "cnn", "augment": {"shift": 1}}], ids=["mlp", "cnn"])
def test_a_stored_config_trains_again_if_its_data_is_there_and_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("my.npz"))
    (run,) = actbench.train({**CONFIG, **more, "dataset": {"npz": "my.npz"}}, seeds=[0], results="r", quiet=True)
    digest = data_at(Path("my.npz")).sha256
    assert run.provenance["data_fingerprint"] == digest
    assert run.provenance["data_mean"] == pytest.approx(IMAGES[:20].mean())
    assert run.provenance["data_std"] == pytest.approx(IMAGES[:20].std())
    assert run.row["dataset"] == f"my@{digest[:8]}"
    stored = (run.folder / "config.yaml").absolute()
    monkeypatch.chdir("/")
    (again,) = actbench.train(stored, results=tmp_path / "again", quiet=True)
    assert (again.run_id, again.metrics["test_loss"]) == (run.run_id, run.metrics["test_loss"])
    saved(tmp_path / "my.npz", x_test=IMAGES[:10])
    with pytest.raises(DataError, match="is not the data that the config names: sha256 is "):
        actbench.train(stored, results=tmp_path / "third", quiet=True)
    (tmp_path / "my.npz").unlink()
    (skipped,) = actbench.train(stored, results=tmp_path / "again", quiet=True)  # it has ended: no data is needed
    assert skipped.run_id == run.run_id
    with pytest.raises(DataError, match="there is no such file"):
        actbench.train(stored, results=tmp_path / "third", quiet=True)
    assert Store(tmp_path / "third").load_all() == ([], [])


def test_a_thousand_classes_and_one_input_are_trained(tmp_path: Path) -> None:
    x, y = np.arange(1000.0), np.arange(1000)
    path = saved(tmp_path / "wide.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    (run,) = actbench.train({**CONFIG, "dataset": {"npz": str(path)}}, seeds=[0], results=tmp_path / "r", quiet=True)
    assert run.weights()["output.weight"].shape == (1000, 8)
    assert run.weights()["hidden.0.weight"].shape == (8, 1)
