"""Miniature datasets in MNIST's layout, and the registry entries that know their hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actbench import datasets
from actbench.datasets import DATASETS, DatasetEntry
from actbench.datasets.idx import IdxFile, md5
from actbench.registry import Registry

TRAIN, TEST = 20, 10

REAL_FOLDER = Path(os.environ.get("ACTBENCH_DATA_DIR") or "no folder was named")
needs_mnist = [
    pytest.mark.mnist,
    pytest.mark.skipif(not (REAL_FOLDER / "MNIST" / "raw").is_dir(), reason="needs ACTBENCH_DATA_DIR"),
]


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """The IDX form of an array of bytes or integers."""
    kind, stored = (8, array) if array.dtype == np.uint8 else (12, array.astype(">i4"))
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + stored.tobytes()


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def miniature(name: str = "mnist") -> dict[str, bytes]:
    """The four uncompressed files of a small dataset under the names and in the formats of dataset `name`."""
    grey = np.arange(TRAIN * 28 * 28).reshape(TRAIN, 28, 28) % 251
    images, labels = grey.astype(np.uint8), (np.arange(TRAIN) % 10).astype(np.uint8)
    arrays: list[np.ndarray[Any, Any]] = [images, labels, images[:TEST, ::-1], labels[:TEST]]
    if name == "qmnist":  # 60,000 test images where MNIST has 10,000, and eight columns of labels
        table = np.arange(8, dtype=np.int32) * 1000 + labels[:, None]
        arrays = [images, table, images[:, ::-1], table]
    files = DATASETS[name].files
    return {file.name: idx_bytes(array) for file, array in zip(files, arrays, strict=True)}


def entry_of(contents: dict[str, bytes], name: str = "mnist", *, hashed: bool = True) -> DatasetEntry:
    """The entry of dataset `name` as it would be if `contents` were what is published."""
    files = []
    for file_name, content in contents.items():
        axes = content[3]
        shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
        sha256 = hashlib.sha256(content).hexdigest() if hashed else ""
        files.append(IdxFile(file_name, shape, md5(zipped(content)), sha256))
    pixels = np.frombuffer(next(iter(contents.values())), np.uint8, offset=16)
    mean = float(pixels.mean() / 255)
    return dataclasses.replace(DATASETS[name], train=TRAIN, test=TEST, mean=mean, files=tuple(files))


def publish(patch: pytest.MonkeyPatch, name: str = "mnist", *, hashed: bool = True) -> dict[str, bytes]:
    """Make the miniature what dataset `name` is, and return its files."""
    contents = miniature(name)
    replace(patch, entry_of(contents, name, hashed=hashed))
    return contents


def replace(patch: pytest.MonkeyPatch, entry: DatasetEntry) -> None:
    """Put `entry` into the registry in place of the dataset with its name."""
    entries = [entry if other.name == entry.name else other for other in datasets.DATASETS.values()]
    patch.setattr(datasets, "DATASETS", Registry("dataset", entries))


def raw_folder(folder: Path, name: str = "mnist") -> Path:
    return folder / DATASETS[name].torchvision_class / "raw"


def put(folder: Path, contents: dict[str, bytes], name: str = "mnist", *, gz: bool = True) -> Path:
    """Write the files into `folder`, compressed or not, and return the folder they are in."""
    raw = raw_folder(folder, name)
    raw.mkdir(parents=True)
    for file, content in contents.items():
        (raw / (file + ".gz" * gz)).write_bytes(zipped(content) if gz else content)
    return raw


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the rights of root, which could read and write everything, where they are held."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def folder_for_nobody() -> Iterator[Path]:
    """A new folder that everyone may read and enter: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)
