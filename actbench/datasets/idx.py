"""The stored files of a dataset: where each one is, and reading it with every possible check.

There are two formats. IDX (http://yann.lecun.com/exdb/mnist) has two zero bytes, one byte for the type, one for the
number of axes, each axis as a big-endian 32-bit integer, then the values. The other is scikit-learn's CSV of digits.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actbench.errors import DataError

MAX_BYTES = 64 * 2**20
"""No published file of these datasets is larger, compressed or not."""
_CLASSES = 10

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

_TYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"), 9: np.dtype("i1"), 11: np.dtype(">i2"), 12: np.dtype(">i4"), 13: np.dtype(">f4"),
    14: np.dtype(">f8"),
}  # fmt: skip


@dataclass(frozen=True)
class IdxFile:
    """One published file: its name without `.gz`, what it must hold, and its hashes.

    `shape` is (N, 28, 28) for images, (N,) for labels and (N, 8) for QMNIST's labels. `md5` is that of the published
    `.gz`, as torchvision has it; `sha256` is that of the uncompressed content, empty if unknown.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    sha256: str = ""

    @property
    def archive(self) -> str:
        """The name under which it is published."""
        return f"{self.name}.gz"

    def stored(self, raw: Path) -> list[Path]:
        """Return the file's forms in folder `raw`, preferred first. Raises DataError if the folder cannot be read.

        Forms that can be checked against a hash go first; of those, the uncompressed one, which is faster to read.
        """
        names = (self.name, self.archive) if self.sha256 else (self.archive, self.name)
        try:
            return [raw / name for name in names if (raw / name).is_file()]
        except OSError as error:
            raise DataError(f"{raw}: cannot be read: {error.strerror}") from error


def check(path: Path, file: IdxFile, owners: Mapping[str, str]) -> NDArray[Any]:
    """Return the content of the IDX file at `path` after making sure that it is `file`.

    That is images, uint8 (N, 28, 28), or labels, int64 (N,), in a writable array with its own memory. `owners` has the
    names of other datasets by the hashes of their files. Raises ValueError that says what is wrong.
    """
    packed = read_bytes(path, MAX_BYTES)
    if path.suffix == ".gz" and not file.sha256 and (found := md5(packed)) != file.md5:
        raise ValueError(f"{_difference(found, owners)}; MD5 {found}, expected {file.md5}")
    content = unpacked(path, packed, MAX_BYTES)
    found = hashlib.sha256(content).hexdigest()
    try:
        if found in owners and found != file.sha256:
            raise ValueError(_difference(found, owners))
        values = parse(content, file.shape)
        if file.sha256 and found != file.sha256:
            raise ValueError("has different content")
    except ValueError as error:
        if file.sha256 in {"", found}:
            raise
        raise ValueError(f"{error}; SHA-256 {found}, expected {file.sha256}") from error
    return values.astype(np.uint8) if values.ndim == 3 else _labels(values)


def _difference(found: str, owners: Mapping[str, str]) -> str:
    """Return what is wrong with content that has the hash `found`."""
    return f"belongs to another dataset ({owners[found]})" if found in owners else "has different content"


def parse(content: bytes, expected: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Return the read-only array in the content of an IDX file, which must have the `expected` shape if given.

    Raises ValueError that says what is wrong.
    """
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    if content[:2] != b"\0\0" or content[2] not in _TYPES or not 1 <= axes <= 4 or len(content) < start:
        raise ValueError(f"is not an IDX file (starts with {content[:4].hex() or 'nothing'})")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    if expected not in (None, shape):
        raise ValueError(f"holds {_sizes(shape)} values, expected {_sizes(expected)}")
    kind = _TYPES[content[2]]
    if len(content) != (due := start + math.prod(shape) * kind.itemsize):
        raise ValueError(f"is {len(content)} bytes long, but its header says {due}")
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each image: the values, or the first column of QMNIST's table."""
    labels = (values if values.ndim == 1 else values[:, 0]).astype(np.int64)
    if labels.min() < 0 or labels.max() >= _CLASSES:
        raise ValueError(f"has labels from {labels.min()} to {labels.max()}, but only 0 to 9 are allowed")
    return labels


def read_bytes(path: Path, most: int) -> bytes:
    """Return the stored bytes of a file. Raises ValueError if it cannot be read or has more than `most` bytes."""
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    return _limited(content, most)


def unpacked(path: Path, content: bytes, most: int) -> bytes:
    """Return `content`, decompressed if `path` ends in `.gz`, up to `most` bytes. Raises ValueError."""
    return gunzip(content, most) if path.suffix == ".gz" else content


def gunzip(content: bytes, most: int) -> bytes:
    """Decompress gzip data. Raises ValueError if it is damaged or has more than `most` bytes.

    One call per gzip member lets other threads run meanwhile; the `gzip` module makes thousands of small calls.
    """
    result = b""
    while content and len(result) <= most:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)  # the 16 means gzip's header and checksum
        try:
            result += member.decompress(content, most + 1 - len(result))
        except zlib.error as error:
            raise ValueError(f"is a damaged gzip file ({error})") from error
        if not member.eof and len(result) <= most:
            raise ValueError("is a damaged gzip file (it ends too early)")
        content = member.unused_data.lstrip(b"\0")  # gzip allows zeros between members and at the end
    return _limited(result, most)


def _limited(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise ValueError(f"is larger than {most} bytes")
    return content


def md5(content: bytes) -> str:
    """Return the MD5 of `content` in hex: enough to detect a wrong file, not a forged one."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def packaged_digits() -> Path:
    """Return the file that `sklearn.datasets.load_digits` reads. Raises DataError if it is not installed.

    Finding it takes 5 ms, importing sklearn 1.1 s (measured).
    """
    spec = importlib.util.find_spec("sklearn")
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        if (path := Path(place) / "datasets" / "data" / "digits.csv.gz").is_file():
            return path
    raise DataError("the digits come with scikit-learn, which is not fully installed: pip install scikit-learn")


def read_digits(path: Path) -> Arrays:
    """Return the digits: training images and labels, then test images and labels, each in the file's order.

    Every fifth image of each class is a test image, so both splits have the same class shares without any randomness.
    """
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)  # (1797, 65): 8x8 values 0-16, then the class
    if table.shape != (1_797, 65):
        raise DataError(f"{path}: holds {_sizes(table.shape)} values, expected 1797 x 65; reinstall scikit-learn")
    images, labels = enlarged(table[:, :64].reshape(-1, 8, 8)), table[:, 64]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.argsort(labels, kind="stable")[::5]] = True
    return images[~is_test], labels[~is_test], images[is_test], labels[is_test]


def enlarged(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Scale 8x8 images of 0-16 to 28x28 images of 0-255, bilinearly between pixel centres.

    Agrees with torch.nn.functional.interpolate(mode="bilinear", align_corners=False). The centre of output pixel i
    lies at input position (4i - 5) / 14. So every weight is a multiple of 1/14, and integer arithmetic gives the same
    result on every machine.
    """
    position = np.clip(4 * np.arange(28) - 5, 0, 7 * 14)  # in 14ths of an input pixel
    left, share = np.divmod(position, 14)
    weights = np.zeros((28, 8), dtype=np.int64)
    weights[np.arange(28), left] = 14 - share
    weights[np.arange(28), np.minimum(left + 1, 7)] += share
    summed = weights @ images @ weights.T  # (N, 28, 28), at most `full`
    full = 14 * 14 * 16
    return ((2 * 255 * summed + full) // (2 * full)).astype(np.uint8)  # rounded, halves up
