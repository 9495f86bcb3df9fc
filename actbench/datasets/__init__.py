"""DATASETS: what networks train on, and how to fetch, check and load it.

To add a dataset in MNIST's format, add one entry to DATASETS.

A folder that already holds the files is used as it is, compressed or not, and then neither torchvision nor a network
is needed. The layout is torchvision's, `<folder>/<class>/raw/<file>[.gz]`, so both can share a folder. Nothing here
prints: `progress` and `note` are called instead. Only `load` imports torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actbench.datasets import download, idx, own, stored
from actbench.datasets.download import Note, Progress
from actbench.datasets.idx import Arrays, IdxFile
from actbench.datasets.own import OwnData
from actbench.datasets.stored import DatasetEntry, FileCheck, data_folder
from actbench.errors import DataError
from actbench.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = [
    "DATASETS", "Dataset", "DatasetEntry", "FileCheck", "OwnData", "Split", "data_folder", "entry_of",
    "fetch", "fingerprint", "info", "load", "verify",
]  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Images, uint8 or float32 (N, ...), and their labels from 0, int64 (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory; `fingerprint` is the SHA-256 of its four arrays, in hex.

    The network sees (x / unit - mean) / std of every number x. `background` is the number in an image without anything
    on it, before scaling. inputs: numbers per image. side: width and height if images are square, else None.
    """

    name: str
    train: Split
    test: Split
    mean: float
    std: float
    fingerprint: str
    inputs: int = 28 * 28
    classes: int = 10
    side: int | None = 28
    unit: float = 255.0
    background: float = 0.0


def _mnist_files(*md5: str, sha256: Sequence[str] = ("", "", "", "")) -> tuple[IdxFile, ...]:
    """Return the four files of MNIST, given their hashes; its drop-in replacements use the same names and sizes."""
    shapes = {
        "train-images-idx3-ubyte": (60_000, 28, 28),
        "train-labels-idx1-ubyte": (60_000,),
        "t10k-images-idx3-ubyte": (10_000, 28, 28),
        "t10k-labels-idx1-ubyte": (10_000,),
    }
    return tuple(IdxFile(name, shapes[name], *known) for name, *known in zip(shapes, md5, sha256, strict=True))


DATASETS: Registry[DatasetEntry] = Registry(
    "dataset",
    [
        DatasetEntry(
            "mnist", "MNIST: handwritten digits", 60_000, 10_000, 0.1307, 0.3081,
            "CC BY-SA 3.0", "LeCun, Bottou, Bengio & Haffner 1998", "MNIST",
            _mnist_files(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
                sha256=(
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
        ),
        DatasetEntry(
            "fashion_mnist", "Fashion-MNIST: pictures of clothing", 60_000, 10_000, 0.2860, 0.3530,
            "MIT", "Xiao, Rasul & Vollgraf 2017", "FashionMNIST",
            _mnist_files(
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
                sha256=(
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
        ),
        DatasetEntry(
            "kmnist", "Kuzushiji-MNIST: cursive Japanese characters", 60_000, 10_000, 0.1918, 0.3483,
            "CC BY-SA 4.0", "Clanuwat et al. 2018", "KMNIST",
            _mnist_files(
                "bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134",
            ),
        ),
        # Its training images reconstruct MNIST's, so MNIST's mean and std keep the two comparable. Of its 60,000 test
        # images, the first 10,000 match MNIST's.
        DatasetEntry(
            "qmnist", "QMNIST: MNIST reconstructed from NIST's originals", 60_000, 10_000, 0.1307, 0.3081,
            "BSD-3-Clause", "Yadav & Bottou 2019", "QMNIST",
            (
                IdxFile("qmnist-train-images-idx3-ubyte", (60_000, 28, 28),
                        "ed72d4157d28c017586c42bc6afe6370"),
                IdxFile("qmnist-train-labels-idx2-int", (60_000, 8), "0058f8dd561b90ffdd0f734c6a30e5e4"),
                IdxFile("qmnist-test-images-idx3-ubyte", (60_000, 28, 28),
                        "1394631089c404de565df7b7aeaf9412"),
                IdxFile("qmnist-test-labels-idx2-int", (60_000, 8), "5b5b05890a5e13444e108efe57b788aa"),
            ),
        ),
        DatasetEntry(
            "digits", "Digits: 8x8 handwritten digits scaled to 28x28; comes with scikit-learn",
            1_437, 360, 0.3058, 0.3249,
            "CC BY 4.0", "Alpaydin & Kaynak 1998 (UCI); sklearn.datasets.load_digits",
        ),
    ],
)  # fmt: skip


def entry_of(dataset: str | OwnData) -> DatasetEntry | OwnData:
    """Return what is known of a dataset without reading it: train, test, inputs, classes and side, among others."""
    return dataset if isinstance(dataset, OwnData) else DATASETS[dataset]


def load(
    name: str | OwnData,
    folder: Path | None = None,
    *,
    offline: bool = False,
    mirror: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Dataset:
    """Return dataset `name` from `folder`, or your own data, checked; missing files are downloaded first.

    With `offline`, no connection is opened. `mirror` is tried before the addresses that torchvision knows.
    `progress(file, bytes_done, bytes_total or None)` and `note(text)` are called during downloads. Raises DataError
    if the data is unavailable or damaged, or your own data has changed, UnknownNameError for an unknown name.
    """
    if isinstance(name, OwnData):
        return _load_own(name)
    entry = DATASETS[name]
    folder = _folder(entry, folder)
    job = _job(entry, folder, mirror, progress, note)
    job.run(functools.partial(stored.missing, entry, job.raw), offline=offline)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(_read_with_fingerprint, entry, folder)  # takes as long as the import of torch below
        import torch  # noqa: F401
    arrays, digest = reading.result()
    train, test = _splits(arrays)
    return Dataset(name, train, test, entry.mean, entry.std, digest, entry.inputs, entry.classes, entry.side)


def _load_own(data: OwnData) -> Dataset:
    arrays = own.read_again(data)
    mean, std, background = own.statistics(arrays[0])
    train, test = _splits(arrays)
    found = data.inputs, data.classes, data.side
    return Dataset(data.label, train, test, mean, std, data.sha256, *found, unit=1.0, background=background)


def _splits(arrays: Arrays) -> tuple[Split, Split]:
    import torch

    images, labels, test_images, test_labels = map(torch.from_numpy, arrays)
    return Split(images, labels), Split(test_images, test_labels)


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    offline: bool = False,
    mirror: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Path:
    """Return the folder that holds the files of dataset `name`, all checked, after downloading what is not right.

    Damaged files and what lies in their place are renamed, never deleted; `note` says what was wrong and the new
    name. The arguments and errors are those of `load`.
    """
    entry = DATASETS[name]
    job = _job(entry, _folder(entry, folder), mirror, progress, note)
    job.run(functools.partial(stored.repairs, entry, job.raw, _owners(entry)), offline=offline)
    return job.raw


def verify(name: str, folder: Path | None = None) -> list[FileCheck]:
    """Return one `FileCheck` per stored or missing file of dataset `name`; nothing is downloaded or changed."""
    entry = DATASETS[name]
    if not entry.files:
        path = idx.packaged_digits()
        idx.read_digits(path)
        return [FileCheck(path.name, True, "comes with scikit-learn")]
    return stored.checks(entry, entry.raw(_folder(entry, folder)), _owners(entry))


def info(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return what is known about dataset `name`; nothing is downloaded.

    Keys: name, title, licence, source, train, test, mean, std, folder (str), complete (bool), files (a list of
    {name, bytes}); and, None unless complete, class_counts ({"train": [...], "test": [...]}, one count per class)
    and fingerprint. Raises DataError if the files are damaged.
    """
    entry = DATASETS[name]
    folder = _folder(entry, folder)
    raw = entry.raw(folder)
    found = [path for file in entry.files for path in file.stored(raw)[:1]] if entry.files else [idx.packaged_digits()]
    arrays = _read(entry, folder) if len(found) >= len(entry.files) else None
    keys = ("name", "title", "licence", "source", "train", "test", "mean", "std")
    return {
        **{key: getattr(entry, key) for key in keys},
        "folder": str(raw),
        "complete": arrays is not None,
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in found],
        "class_counts": arrays and {"train": _counts(entry, arrays[1]), "test": _counts(entry, arrays[3])},
        "fingerprint": arrays and fingerprint(arrays),
    }


def fingerprint(arrays: Sequence[NDArray[Any]]) -> str:
    """Return the SHA-256, in hex, of the training images and labels, then the test images and labels."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ravel(array.astype(array.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()


def _counts(entry: DatasetEntry, labels: NDArray[Any]) -> list[int]:
    return [int(n) for n in np.bincount(labels, minlength=entry.classes)]


def _folder(entry: DatasetEntry, folder: Path | None) -> Path:
    """Return the folder that was named, else the usual one; data that comes with a package needs none."""
    return folder or data_folder() if entry.files else idx.packaged_digits().parent


def _job(
    entry: DatasetEntry, folder: Path, mirror: str | None, progress: Progress | None, note: Note | None
) -> download.Job:
    raw = entry.raw(folder)
    home = Path(os.path.realpath(raw)).parts[-2:]  # unlike resolve(), it takes links in a circle
    classes = {other.torchvision_class: other.name for other in DATASETS.values() if other.name != entry.name}
    other = classes.get(home[0], "") if home[1:] == ("raw",) and entry.files else ""
    ignore = download.ignore
    return download.Job(entry, raw, mirror, progress or ignore, note or ignore, other)


def _owners(entry: DatasetEntry) -> dict[str, str]:
    """Return which other dataset content belongs to, by its hash."""
    others = [other for other in DATASETS.values() if other.name != entry.name]
    known = {hash_: other.name for other in others for file in other.files for hash_ in (file.md5, file.sha256)}
    return {hash_: name for hash_, name in known.items() if hash_}


def _read(entry: DatasetEntry, folder: Path) -> Arrays:
    """Return the training images and labels, then the test images and labels, all checked."""
    if not entry.files:
        return idx.read_digits(idx.packaged_digits())
    images, labels, test_images, test_labels = (_read_file(entry, file, folder) for file in entry.files)
    return images, labels, test_images[: entry.test], test_labels[: entry.test]


def _read_with_fingerprint(entry: DatasetEntry, folder: Path) -> tuple[Arrays, str]:
    arrays = _read(entry, folder)
    return arrays, fingerprint(arrays)


def _read_file(entry: DatasetEntry, file: IdxFile, folder: Path) -> NDArray[Any]:
    """Return the content of one file from the form that is preferred, checked."""
    path = next(iter(file.stored(entry.raw(folder))), entry.raw(folder) / file.archive)
    try:
        return stored.read(entry, file, path, _owners(entry))
    except ValueError as error:
        raise DataError(f"{path}: {error}\n{stored.way_to_fix(entry, folder)}") from error
