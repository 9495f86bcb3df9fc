"""The registry of datasets, and loading files that are right, damaged, from another dataset, or missing."""

from __future__ import annotations

import dataclasses
import gzip
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_files import (
    REAL_FOLDER,
    TEST,
    TRAIN,
    as_nobody,
    entry_of,
    folder_for_nobody,
    idx_bytes,
    miniature,
    needs_mnist,
    publish,
    put,
    raw_folder,
    replace,
    zipped,
)

from actbench import datasets
from actbench.datasets import DATASETS, idx
from actbench.errors import DataError, UnknownNameError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def expected_tensors(contents: dict[str, bytes]) -> list[torch.Tensor]:
    """What the four files of the miniature hold, read the short way."""
    images, labels, test_images, test_labels = (np.frombuffer(c, np.uint8) for c in contents.values())
    return [
        torch.tensor(images[16:].reshape(TRAIN, 28, 28)),
        torch.tensor(labels[8:].astype(np.int64)),
        torch.tensor(test_images[16:].reshape(TEST, 28, 28)),
        torch.tensor(test_labels[8:].astype(np.int64)),
    ]


def tensors_of(loaded: datasets.Dataset) -> list[torch.Tensor]:
    return [loaded.train.images, loaded.train.labels, loaded.test.images, loaded.test.labels]


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("gz", [True, False], ids=["gzipped", "uncompressed"])
@pytest.mark.parametrize("hashed", [True, False], ids=["with SHA-256", "without"])
def test_existing_files_load_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gz: bool, hashed: bool
) -> None:
    contents = publish(monkeypatch, hashed=hashed)
    put(tmp_path, contents, gz=gz)
    before = listing(tmp_path)
    loaded = datasets.load("mnist", tmp_path, offline=True)
    for got, expected in zip(tensors_of(loaded), expected_tensors(contents), strict=True):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    assert (loaded.name, loaded.mean, loaded.std) == ("mnist", datasets.DATASETS["mnist"].mean, 0.3081)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("inner", ["", "MNIST", "MNIST/raw"])
def test_the_folder_can_be_given_at_any_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    put(tmp_path, publish(monkeypatch))
    assert len(datasets.load("mnist", tmp_path / inner, offline=True).train.labels) == TRAIN


def test_a_read_only_folder_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_for_nobody() as folder:
        put(folder, publish(monkeypatch))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with as_nobody():
            assert len(datasets.load("mnist", folder).train.labels) == TRAIN


def test_an_unreadable_folder_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_for_nobody() as folder:
        raw = put(folder, publish(monkeypatch))
        (raw / f"{IMAGES}.gz").chmod(0)
        with as_nobody(), pytest.raises(DataError, match=rf"{IMAGES}.gz: cannot be read: Permission denied"):
            datasets.load("mnist", folder)
        raw.chmod(0)
        with as_nobody(), pytest.raises(DataError, match="cannot be read: Permission denied"):
            datasets.load("mnist", folder)


def test_qmnist_uses_one_of_its_eight_label_columns_and_its_first_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, publish(monkeypatch, "qmnist", hashed=False), "qmnist")
    loaded = datasets.load("qmnist", tmp_path, offline=True)
    assert loaded.train.labels.tolist() == [n % 10 for n in range(TRAIN)]
    assert loaded.test.labels.tolist() == [n % 10 for n in range(TEST)]
    assert torch.equal(loaded.test.images, loaded.train.images.flip(1)[:TEST])


def test_the_fingerprint_depends_on_every_array_but_not_on_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch)
    put(tmp_path / "gz", contents)
    put(tmp_path / "raw", contents, gz=False)
    first = datasets.load("mnist", tmp_path / "gz").fingerprint
    assert first == datasets.load("mnist", tmp_path / "raw").fingerprint
    seen = {first}
    for name in contents:
        changed = {**contents, name: contents[name][:-1] + b"\x05"}
        replace(monkeypatch, entry_of(changed))
        put(tmp_path / name, changed)
        seen.add(datasets.load("mnist", tmp_path / name).fingerprint)
    assert len(seen) == 1 + len(contents)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        (f"{IMAGES}.gz", lambda c: flipped(zipped(c), -20 + len(zipped(c))), "is a damaged gzip file"),
        (f"{IMAGES}.gz", lambda c: flipped(zipped(c), -6 + len(zipped(c))), "is a damaged gzip file"),
        (f"{IMAGES}.gz", lambda c: zipped(c)[:-100], "is a damaged gzip file"),
        (f"{IMAGES}.gz", lambda _: b"<html>log in</html>", "is a damaged gzip file"),
        (f"{IMAGES}.gz", lambda _: b"", "is not an IDX file (starts with nothing)"),
        (f"{IMAGES}.gz", lambda c: zipped(flipped(c, 99)), "has different content; SHA-256 "),
        (IMAGES, lambda c: flipped(c, 99), "has different content; SHA-256 "),
        (IMAGES, lambda c: c[:-1], "is 15695 bytes long, but its header says 15696; SHA-256 "),
        (IMAGES, lambda c: c + b"\0", "is 15697 bytes long, but its header says 15696; SHA-256 "),
        (IMAGES, lambda c: flipped(c, 2), "is not an IDX file (starts with 00001803); SHA-256 "),
        (IMAGES, lambda c: flipped(c, 3), "is not an IDX file (starts with 00000813); SHA-256 "),
        (IMAGES, lambda c: c[:6], "is not an IDX file (starts with 00000803); SHA-256 "),
        (
            LABELS,
            lambda _: idx_bytes(np.zeros(TRAIN - 1, np.uint8)),
            "holds 19 values, expected 20; SHA-256 ",
        ),
        (
            IMAGES,
            lambda _: idx_bytes(np.zeros((1000, 28, 28), np.uint8)),
            "holds 1000 x 28 x 28 values, expected 20 x 28 x 28; SHA-256 ",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_reported_with_the_fault_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Any, reason: str
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents, gz=name.endswith(".gz"))
    (raw / name).write_bytes(damage(contents[name.removesuffix(".gz")]))
    with pytest.raises(DataError) as failed:
        datasets.load("mnist", tmp_path)
    text = str(failed.value)
    assert text.startswith(f"{raw / name}: {reason}")
    assert text.endswith(f"To fix this: actbench data fetch mnist --data-dir {tmp_path}")
    [bad] = [check for check in datasets.verify("mnist", tmp_path) if not check.ok]
    assert bad.detail.startswith(reason)


def test_a_wrong_hash_is_shown_beside_the_expected_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = publish(monkeypatch)
    other = entry_of({**contents, IMAGES: flipped(contents[IMAGES], 99)}).files[0]
    put(tmp_path, {**contents, IMAGES: flipped(contents[IMAGES], 99)})
    expected = datasets.DATASETS["mnist"].files[0]
    with pytest.raises(DataError, match=f"SHA-256 {other.sha256}, expected {expected.sha256}"):
        datasets.load("mnist", tmp_path)
    replace(monkeypatch, entry_of(contents, hashed=False))
    with pytest.raises(DataError, match=f"MD5 {other.md5}, expected {expected.md5}"):
        datasets.load("mnist", tmp_path)


@given(
    gz=st.booleans(),
    which=st.integers(0, 3),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_a_changed_byte_never_yields_other_data(
    tmp_path_factory: pytest.TempPathFactory, gz: bool, which: int, place: float, flip: int
) -> None:
    contents = miniature()
    entry = entry_of(contents)
    file = entry.files[which]
    path = tmp_path_factory.getbasetemp() / (file.archive if gz else file.name)
    stored = zipped(contents[file.name]) if gz else contents[file.name]
    path.write_bytes(stored)
    right = idx.check(path, file, {})
    at = int(place * len(stored))
    path.write_bytes(stored[:at] + bytes([stored[at] ^ flip]) + stored[at + 1 :])
    try:
        got = idx.check(path, file, {})
    except ValueError:
        return
    assert gz  # a gzip header has bytes that do not matter, such as the time
    assert np.array_equal(got, right)


def test_labels_above_nine_are_an_error_even_without_a_known_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch, hashed=False)
    put(tmp_path, {**contents, LABELS: contents[LABELS][:-1] + b"\x0a"}, gz=False)
    with pytest.raises(DataError, match="has labels from 0 to 10, but only 0 to 9 are allowed"):
        datasets.load("mnist", tmp_path)


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = put(tmp_path, publish(monkeypatch))
    monkeypatch.setattr(idx, "MAX_BYTES", 1_000_000)
    (raw / f"{IMAGES}.gz").write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(DataError, match="is larger than 1000000 bytes"):
        datasets.load("mnist", tmp_path)


def test_another_dataset_in_the_same_format_is_refused_even_without_a_known_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch, "fashion_mnist", hashed=False)
    darker = np.frombuffer(contents[IMAGES], np.uint8, offset=16).reshape(TRAIN, 28, 28) // 2
    put(tmp_path, {**contents, IMAGES: idx_bytes(darker)}, "fashion_mnist", gz=False)
    with pytest.raises(DataError, match="belongs to another dataset") as failed:
        datasets.load("fashion_mnist", tmp_path)
    assert "actbench data fetch fashion_mnist" in str(failed.value)


def test_verify_names_missing_files_and_info_lists_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = put(tmp_path, publish(monkeypatch))
    (raw / f"{LABELS}.gz").unlink()
    checks = {check.file: check for check in datasets.verify("mnist", tmp_path)}
    assert checks[LABELS] == (LABELS, False, "is missing")
    assert checks[f"{IMAGES}.gz"] == (f"{IMAGES}.gz", True, "SHA-256 of the content")
    known = datasets.info("mnist", tmp_path)
    assert (known["complete"], len(known["files"]), known["fingerprint"]) == (False, 3, None)


@pytest.mark.parametrize(("gz", "detail"), [(True, "MD5"), (False, "sizes and labels only")])
def test_verify_says_how_well_a_file_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gz: bool, detail: str
) -> None:
    put(tmp_path, publish(monkeypatch, "kmnist", hashed=False), "kmnist", gz=gz)
    for check in datasets.verify("kmnist", tmp_path):
        assert check.ok
        assert check.detail.startswith(detail)


def test_info_says_where_the_files_are_and_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents, gz=False)
    known = datasets.info("mnist", tmp_path)
    assert known["folder"] == str(raw)
    assert known["files"] == [{"name": name, "bytes": len(content)} for name, content in contents.items()]
    assert known["class_counts"] == {"train": [2] * 10, "test": [1] * 10}
    assert known["fingerprint"] == datasets.load("mnist", tmp_path).fingerprint
    assert (known["train"], known["test"], known["licence"]) == (TRAIN, TEST, DATASETS["mnist"].licence)


def test_an_unknown_dataset_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'mnits'; did you mean 'mnist'"):
        datasets.load("mnits")


# The folder


def test_the_folder_is_the_option_else_the_variable_else_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTBENCH_DATA_DIR", str(tmp_path / "variable"))
    assert datasets.data_folder("option") == Path("option")
    assert datasets.data_folder() == tmp_path / "variable"
    monkeypatch.setenv("ACTBENCH_DATA_DIR", "")
    assert datasets.data_folder(None) == platformdirs.user_cache_path("actbench") / "data"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.data_folder("~/sets") == tmp_path / "sets"


@pytest.mark.parametrize("option", [None, "~/sets"])
def test_without_a_home_folder_the_error_says_to_name_one(monkeypatch: pytest.MonkeyPatch, option: str | None) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "ACTBENCH_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="there is no home folder"):
        datasets.data_folder(option)
    assert len(datasets.load("digits").test.labels) == 360  # which need no folder


# The registry and the digits


def test_every_entry_is_complete_and_its_files_fit_its_counts() -> None:
    assert list(DATASETS) == ["mnist", "fashion_mnist", "kmnist", "qmnist", "digits"]
    for entry in DATASETS.values():
        assert entry.title
        assert entry.licence
        assert entry.source
        assert 0 < entry.mean < entry.std < 1
        if entry.files:
            shapes = [file.shape for file in entry.files]
            assert shapes[0] == (entry.train, 28, 28)
            assert shapes[1][0] == entry.train
            assert shapes[2][0] == shapes[3][0] >= entry.test
            assert all(len(file.md5) == 32 for file in entry.files)


def test_the_digits_are_those_of_scikit_learn_in_two_splits_without_overlap() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    loaded = datasets.load("digits", Path("nowhere"), offline=True)
    larger = idx.enlarged(images.astype(np.int64).reshape(-1, 8, 8))
    of_all = sorted((image.tobytes(), int(label)) for image, label in zip(larger, labels, strict=True))
    splits = (loaded.train, loaded.test)
    assert [tuple(split.images.shape) for split in splits] == [(1437, 28, 28), (360, 28, 28)]
    loaded_pairs = sorted(
        (image.numpy().tobytes(), int(label))
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert loaded_pairs == of_all


def test_the_digits_are_always_the_same_and_spread_evenly() -> None:
    loaded = datasets.load("digits")
    assert loaded.fingerprint == "24c7395b3155ac990282fa65b06944e15c06162317024bb90773637ac936fd63"
    known = datasets.info("digits")
    assert known["fingerprint"] == loaded.fingerprint
    for train, test in zip(*known["class_counts"].values(), strict=True):
        assert abs(test - (train + test) / 5) <= 1
    assert datasets.verify("digits") == [("digits.csv.gz", True, "comes with scikit-learn")]


def test_mean_and_std_of_the_digits_are_those_of_their_training_images() -> None:
    loaded = datasets.load("digits")
    pixels = loaded.train.images.double() / 255
    assert loaded.mean == round(pixels.mean().item(), 4)
    assert loaded.std == round(pixels.std(unbiased=False).item(), 4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, derandomize=True, deadline=None)
def test_enlarging_agrees_with_torch_to_half_a_grey_level(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 17, (3, 8, 8))
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(images)[None].double() * 255 / 16,
        size=(28, 28),
        mode="bilinear",
        align_corners=False,
    )[0]
    got = torch.from_numpy(idx.enlarged(images)).double()
    assert (got - exact).abs().max() <= 0.5 + 1e-9


def test_a_scikit_learn_without_its_digits_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        datasets.load("digits")


def test_only_loading_imports_torch_and_nothing_imports_torchvision_or_sklearn(tmp_path: Path) -> None:
    put(tmp_path, miniature())
    program = f"""
import sys
from pathlib import Path
import pytest
from idx_files import publish
from actbench import datasets
def heavy():
    print(*sorted({{"torch", "torchvision", "sklearn", "requests", "scipy"}} & set(sys.modules)), sep=",")
publish(pytest.MonkeyPatch())
folder = Path({str(tmp_path)!r})
for name in ("mnist", "digits"):
    datasets.fetch(name, folder), datasets.verify(name, folder), datasets.info(name, folder)
heavy()
for name in ("mnist", "digits"):
    datasets.load(name, folder)
heavy()
"""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == ["", "torch"]  # the second shows that the first could fail


class TestRealMnist:
    pytestmark = needs_mnist

    def test_it_is_the_published_one_and_has_the_mean_and_std_of_the_recipe(self) -> None:
        loaded = datasets.load("mnist", REAL_FOLDER, offline=True)
        assert loaded.fingerprint == "1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b"
        assert loaded.train.images.shape == (60_000, 28, 28)
        assert loaded.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        pixels = loaded.train.images.float() / 255
        assert loaded.mean == round(pixels.mean().item(), 4)
        assert loaded.std == round(pixels.std(unbiased=False).item(), 4)

    def test_its_uncompressed_files_load_too(self, tmp_path: Path) -> None:
        raw = raw_folder(tmp_path)
        raw.mkdir(parents=True)
        for file in DATASETS["mnist"].files:
            packed = (raw_folder(REAL_FOLDER) / file.archive).read_bytes()
            (raw / file.name).write_bytes(gzip.decompress(packed))
        assert datasets.load("mnist", tmp_path).fingerprint == datasets.load("mnist", REAL_FOLDER).fingerprint

    def test_its_uncompressed_files_do_not_pass_for_kmnist(self, tmp_path: Path) -> None:
        raw = raw_folder(tmp_path, "kmnist")
        raw.mkdir(parents=True)
        for file in DATASETS["mnist"].files:
            packed = (raw_folder(REAL_FOLDER) / file.archive).read_bytes()
            (raw / file.name).write_bytes(gzip.decompress(packed))
        with pytest.raises(DataError, match="belongs to another dataset"):
            datasets.load("kmnist", tmp_path)


def test_an_entry_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DATASETS["mnist"].mean = 0.0  # type: ignore[misc]
