"""A dataset's files in a folder: where each one is, what is wrong with it, and what would repair it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actbench.datasets import idx
from actbench.datasets.idx import IdxFile
from actbench.errors import DataError
from actbench.registry import Parameter

Owners = Mapping[str, str]
"""The name of the other dataset to which content with a hash (MD5 or SHA-256) belongs."""
MISSING = "is missing"


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset: images of `inputs` numbers in `classes` classes, split into training and test images.

    `mean` and `std` are those of the training pixels scaled to 0-1; inputs are (x - mean) / std. `files` lists the
    training images and labels, then the test images and labels; it is empty if the data comes with a package.
    `torchvision_class` knows the download addresses and names the folder. The defaults are MNIST's.
    """

    name: str
    title: str
    train: int
    test: int
    mean: float
    std: float
    licence: str
    source: str
    torchvision_class: str = ""
    files: tuple[IdxFile, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    inputs: int = 28 * 28
    classes: int = 10
    side: int | None = 28

    @property
    def label(self) -> str:
        """How tables show it."""
        return self.name

    def raw(self, folder: Path) -> Path:
        """Return where the files are in `folder`, which may also be the class's own folder or its `raw`."""
        if not self.files:
            return folder
        if folder.parts[-2:] == (self.torchvision_class, "raw"):
            return folder
        inner = () if folder.name == self.torchvision_class else (self.torchvision_class,)
        return folder.joinpath(*inner, "raw")


class FileCheck(NamedTuple):
    """One file of a dataset: whether it is as published, and how that is known or why it is not."""

    file: str
    ok: bool
    detail: str


class Repair(NamedTuple):
    """What makes one file right: paths to set aside, each with its fault, and whether a download is needed."""

    file: IdxFile
    faults: Mapping[Path, str]
    download: bool


def data_folder(option: str | Path | None = None) -> Path:
    """Return the folder for datasets: `option`, else ACTBENCH_DATA_DIR, else the platform's cache folder.

    Raises DataError if that needs a home folder and there is none.
    """
    import platformdirs

    chosen = option or os.environ.get("ACTBENCH_DATA_DIR")
    try:
        folder = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("actbench") / "data"
    except RuntimeError:  # what expanduser raises
        folder = Path("~")
    if folder.parts[:1] == ("~",):
        raise DataError(
            "there is no home folder to keep datasets in; name a folder with --data-dir or ACTBENCH_DATA_DIR"
        )
    return folder


def way_to_fix(entry: DatasetEntry, folder: Path) -> str:
    """Return the sentence that names the command which downloads or repairs a dataset in this folder."""
    command = f"actbench data fetch {entry.name} --data-dir"
    raw = entry.raw(folder)
    for place in (raw, raw.parent.parent):  # for the files and for the lock
        if place.is_dir() and not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            return f"{place} cannot be written, so fix this in another folder: {command} FOLDER"
    return f"To fix this: {command} {shlex.quote(str(folder))}"


def read(entry: DatasetEntry, file: IdxFile, path: Path, owners: Owners) -> NDArray[Any]:
    """Return the content of `path` after making sure that it is `file` of this dataset.

    Raises ValueError that says what is wrong. The brightness of the training images tells datasets with the same file
    names and sizes apart if no hash of the content is known.
    """
    values = idx.check(path, file, owners)
    if file == entry.files[0] and not file.sha256:
        mean = int(values.sum(dtype=np.uint64)) / values.size / 255
        if abs(mean - entry.mean) > 0.01:
            raise ValueError(
                f"has images with mean {mean:.4f}, but those of {entry.name} have {entry.mean:.4f}, so it belongs to "
                "another dataset"
            )
    return values


def checks(entry: DatasetEntry, raw: Path, owners: Owners) -> list[FileCheck]:
    """Return one `FileCheck` per stored file, compressed or not, and one per file that is missing."""
    found = []
    for file, faults in _inspected(entry, raw, owners):
        found += [FileCheck(path.name, not fault, fault or _how(file, path)) for path, fault in faults.items()]
        if not faults:
            found.append(FileCheck(file.name, False, MISSING))
    return found


def repairs(entry: DatasetEntry, raw: Path, owners: Owners) -> list[Repair]:
    """Return what has to be done so that every stored file is as published, after reading them all."""
    needed = []
    for file, faults in _inspected(entry, raw, owners):
        bad = {path: fault for path, fault in faults.items() if fault}
        sound = [path for path in faults if path not in bad and (file.sha256 or path.name == file.archive or not bad)]
        if bad or not sound:
            needed.append(Repair(file, bad, download=not sound))
    return needed


def missing(entry: DatasetEntry, raw: Path) -> list[Repair]:
    """Return the downloads of the files that are not there; no file is read."""
    return [Repair(file, _obstacle(raw / file.archive), True) for file in entry.files if not file.stored(raw)]


def _inspected(entry: DatasetEntry, raw: Path, owners: Owners) -> Iterator[tuple[IdxFile, dict[Path, str]]]:
    """Yield each file with its stored forms, and what is wrong with each form ("" if nothing is)."""
    for file in entry.files:
        faults = {}
        for path in file.stored(raw):
            try:
                read(entry, file, path, owners)
                faults[path] = ""
            except ValueError as error:
                faults[path] = str(error)
        yield file, faults or _obstacle(raw / file.archive)


def _obstacle(path: Path) -> dict[Path, str]:
    """Return what lies at `path` instead of a file, if anything does."""
    if not os.path.lexists(path):
        return {}
    return {path: "is a folder, not a file" if path.is_dir() else "is a broken link or no regular file"}


def _how(file: IdxFile, path: Path) -> str:
    """Return how it is known that a stored file is right."""
    if file.sha256:
        return "SHA-256 of the content"
    if path.name == file.archive:
        return "MD5"
    return "sizes and labels only; no hash of the uncompressed file is known"
