"""Your own data: an npz file or a folder of IDX files, checked, and identified by its content.

    dataset: {npz: my_data.npz}     x_train, y_train, x_test and y_test, as numpy.savez writes them
    dataset: {idx: folder}          the four files of MNIST's relatives, compressed or not

Images are any numbers in any shape, flattened; labels are integers from 0. Nothing is unpickled, and no array is read
before its header has been checked.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from actbench.datasets import idx
from actbench.datasets.idx import Arrays
from actbench.errors import DataError

Kind = Literal["npz", "idx"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_NUMBERS = 2**30
"""The most numbers in one array: 4 GiB as float32."""
MAX_CLASSES = 1000
_NAMES = ("x_train", "y_train", "x_test", "y_test")
_IDX_NAME = re.compile(r"(?:.*[-_.])?(train|t10k|test)-(images|labels)[-.]idx\d-[a-z]+(\.gz)?")
_UNREADABLE = (OSError, EOFError, MemoryError, NotImplementedError, RuntimeError, ValueError, zlib.error)
"""What reading a damaged, encrypted or hostile archive raises."""


@dataclass(frozen=True)
class OwnData:
    """Where your own data is and what it holds. Two are equal if their content is, wherever it is.

    train, test: how many images. inputs: numbers per image. classes: one more than the largest label. side: width and
    height of the images if they are square, else None.
    """

    kind: Kind = field(compare=False)
    path: str = field(compare=False)
    sha256: str
    train: int = field(compare=False)
    test: int = field(compare=False)
    inputs: int = field(compare=False)
    classes: int = field(compare=False)
    side: int | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """How tables show it: `my_data@3fa9c1d2`, with the first digits of the hash."""
        return f"{Path(self.path).stem if self.kind == 'npz' else Path(self.path).name}@{self.sha256[:8]}"

    @property
    def plain(self) -> dict[str, Any]:
        """How YAML writes it."""
        facts = {key: value for key, value in asdict(self).items() if value is not None}
        return {facts.pop("kind"): facts.pop("path"), **facts}


class Own(NamedTuple):
    """Your own data in memory: images (N, D), uint8 or float32; labels int64 (N,)."""

    data: OwnData
    arrays: Arrays


def read(kind: Kind, path: str) -> Own:
    """Read and check the data at `path`. Raises DataError that says what is wrong, and where."""
    place = Path(path)
    files = [place] if kind == "npz" else _idx_files(place)
    try:
        if not all(file.is_file() for file in files):
            raise DataError(f"{path}: {'is not a file' if place.exists() else 'there is no such file'}")
        stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _read(kind, path, stamps)


@functools.lru_cache(maxsize=1)  # reading a config reads the data, and training needs it again
def _read(kind: Kind, path: str, stamps: tuple[tuple[Path, int, int], ...]) -> Own:
    found = dict(zip(_NAMES, _npz_arrays(path) if kind == "npz" else _idx_arrays(stamps), strict=True))
    try:
        images = {name: _images(name, found[name]) for name in ("x_train", "x_test")}
        labels = {name: _labels(name, found[name], len(images["x" + name[1:]])) for name in ("y_train", "y_test")}
        x_train, x_test = images.values()
        if x_train.shape[1] != x_test.shape[1]:
            raise ValueError(f"x_test has {x_test.shape[1]} numbers per image, but x_train has {x_train.shape[1]}")
        if x_train.min() == x_train.max():
            raise ValueError(f"x_train holds only the number {x_train.flat[0]:g}, so there is nothing to learn from it")
        classes = 1 + int(max(values.max() for values in labels.values()))
        if classes > MAX_CLASSES or classes < 2:
            raise ValueError(f"the largest label is {classes - 1}; it must be from 1 to {MAX_CLASSES - 1}")
    except (ValueError, MemoryError) as error:
        raise DataError(f"{path}: {error or 'does not fit into memory'}") from error
    if x_train.dtype != x_test.dtype:
        x_train, x_test = x_train.astype(np.float32), x_test.astype(np.float32)
    arrays = x_train, labels["y_train"], x_test, labels["y_test"]
    side = _side(found["x_train"].shape[1:])
    return Own(OwnData(kind, path, _hash(arrays), len(x_train), len(x_test), x_train.shape[1], classes, side), arrays)


def read_again(data: OwnData) -> Arrays:
    """Return the arrays of `data`. Raises DataError if they are gone or have changed."""
    found = read(data.kind, data.path)
    differing = [key for key, value in data.plain.items() if found.data.plain.get(key) != value]
    if differing:
        raise DataError(
            f"{data.path}: is not the data that the config names: {differing[0]} is "
            f"{getattr(found.data, differing[0])}, expected {getattr(data, differing[0])}; to use it as it is now, "
            f"write only `dataset: {{{data.kind}: {data.path}}}`"
        )
    return found.arrays


def statistics(images: NDArray[Any]) -> tuple[float, float, float]:
    """Return the mean and standard deviation of all numbers of `images`, and the number that is most frequent.

    The most frequent one is sought among the first million.
    """
    flat, chunk = images.reshape(-1), 2**20
    mean = float(flat.mean(dtype=np.float64))
    parts = (np.subtract(flat[k : k + chunk], mean, dtype=np.float64) for k in range(0, flat.size, chunk))
    squares = sum(float(np.square(part).sum()) for part in parts)
    numbers, counts = np.unique(flat[:chunk], return_counts=True)
    return mean, math.sqrt(squares / flat.size), float(numbers[counts.argmax()])


def _hash(arrays: Arrays) -> str:
    """Return the SHA-256 of the types, shapes and contents of all arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data.cast("B"))
    return digest.hexdigest()


def _side(shape: tuple[int, ...]) -> int | None:
    """Return the width and height of images of this shape if they are square: (s, s), (s * s,) or one channel of it."""
    axes = [n for n in shape if n != 1]
    if len(axes) == 1 and math.isqrt(axes[0]) ** 2 == axes[0]:
        return math.isqrt(axes[0])
    return axes[0] if len(axes) == 2 and axes[0] == axes[1] else None


def _images(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the images as uint8 or float32 (N, D). Raises ValueError."""
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape})")
    flat = array.reshape(len(array), -1)
    if flat.dtype in (np.bool_, np.uint8):
        return np.ascontiguousarray(flat, np.uint8)
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(flat, np.float32)
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        value = flat[first][~np.isfinite(numbers[first])][0]
        raise ValueError(f"{name}[{first}] contains {value}; every number must be finite and fit into float32")
    return numbers


def _labels(name: str, array: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the labels as int64 (N,), one for each of `count` images. Raises ValueError."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must hold one label per image, got shape {array.shape}")
    if len(array) != count:
        raise ValueError(f"{name} has {len(array)} labels, but x{name[1:]} has {count} images")
    wrong = ~((array >= 0) & (array < MAX_CLASSES) & (array == np.floor(array)))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"{name}[{first}] is {array[first]}; labels are integers from 0 to {MAX_CLASSES - 1}")
    return array.astype(np.int64)


def _npz_arrays(path: str) -> Iterator[NDArray[Any]]:
    """Yield the four arrays of an npz file. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            if missing := [name for name in _NAMES if f"{name}.npy" not in sizes]:
                there = ", ".join(name.removesuffix(".npy") for name in sizes) or "nothing"
                raise ValueError(f"has no {', '.join(missing)}; it holds {there[:200]}")
            for name in _NAMES:
                with archive.open(f"{name}.npy") as stream:
                    _check_header(name, stream, sizes[f"{name}.npy"])
                with archive.open(f"{name}.npy") as stream:
                    yield np.lib.format.read_array(stream, allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is not an npz file, or is damaged ({error})") from error
    except _UNREADABLE as error:
        raise DataError(f"{path}: {_reason(error)}") from error


def _check_header(name: str, stream: IO[bytes], size: int) -> None:
    """Raise ValueError unless the header of an npy file declares numbers that are there, and not too many."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never loaded; save it as an array of numbers")
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got {dtype}")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > MAX_NUMBERS:
        raise ValueError(f"{name} declares {count:,} numbers; at most {MAX_NUMBERS:,} are allowed")
    if stream.tell() + count * dtype.itemsize != size:
        raise ValueError(f"{name} is {size} bytes long, but its header says {stream.tell() + count * dtype.itemsize}")


def _idx_files(folder: Path) -> list[Path]:
    """Return the four files in `folder`: training images and labels, then test images and labels. Raises DataError."""
    found: dict[tuple[bool, str], list[Path]] = {}
    try:
        for path in sorted(folder.iterdir()):
            if match := _IDX_NAME.fullmatch(path.name):
                same = found.setdefault((match[1] == "train", match[2]), [])
                if path.with_suffix("") not in same:  # of x and x.gz, the first is faster to read
                    same.append(path)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    for train in (True, False):
        for part in ("images", "labels"):
            candidates = [path.name for path in found.get((train, part), ())]
            if len(candidates) != 1:
                example = f"{'train' if train else 't10k'}-{part}-idx{3 if part == 'images' else 1}-ubyte"
                what = f"needs one file such as {example} or {example}.gz"
                raise DataError(f"{folder}: {what}, found {', '.join(candidates) or 'none'}")
    return [found[train, part][0] for train in (True, False) for part in ("images", "labels")]


def _idx_arrays(stamps: tuple[tuple[Path, int, int], ...]) -> Iterator[NDArray[Any]]:
    """Yield the arrays of the four files. Raises DataError."""
    for path, *_ in stamps:
        try:
            content = idx.unpacked(path, idx.read_bytes(path, MAX_NUMBERS), MAX_NUMBERS)
            yield idx.parse(content).copy()  # torch wants memory that it may write to
        except _UNREADABLE as error:
            raise DataError(f"{path}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
