"""A run folder: its files, and how they are read back with every byte checked. `claim` writes them.

result.json lists the other files with their SHA-256 and ends with its own. Nothing that is read is ever executed:
the files are JSON, CSV (one of them compressed), YAML text and safetensors, never a pickle.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from actbench.errors import StoreError
from actbench.store import files
from actbench.store.csv import Row, parse_table
from actbench.text import readable

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 2
"""2 since runs store their predictions; runs in format 1 have none."""
RESULT, CONFIG, EPOCHS, LAYERS, NEURONS, MODEL, PREDICTIONS = (
    "result.json", "config.yaml", "epochs.csv", "layers.csv", "neurons.csv", "model.safetensors", "predictions.csv.gz",
)  # fmt: skip
RUN_ID = re.compile(r"([a-z0-9_-]{1,40})-s([0-9]{1,20})-([0-9a-f]{10})")
Outcome = Literal["done", "diverged", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

# The first columns of runs.csv; the other config keys and metrics follow in alphabetical order.
COLUMNS = (
    "run_id", "name", "dataset", "network", "activation", "init", "batch_norm", "lr", "optimizer", "epochs",
    "batch_size", "hidden", "seed", "device", "status", "test_accuracy", "test_loss", "train_accuracy",
    "train_loss", "dead_ratio", "near_dead_ratio", "silent_ratio", "saturated_ratio", "sparsity", "deaths",
    "revivals", "epochs_run", "wall_s", "images_per_s",
)  # fmt: skip
ENVIRONMENT = ("device", "threads", "torch_version", "actbench_version")
"""Columns that say where a run was trained; "device" is the one that `auto` chose."""

LABELS = frozenset((
    "run_id", "name", "variant", "dataset", "network", "activation", "init", "optimizer", "hidden", "schedule", "tags",
    "status", "device", "torch_version", "actbench_version",
))  # fmt: skip
"""Columns whose cells are text in every table, even `none`, `1` or `true`."""

TIMES = frozenset({"train_s", "evaluate_s", "wall_s", "images_per_s"})
"""Columns that come from a clock and are never the same twice."""

_RESULT_LIMIT = _PREDICTIONS_LIMIT = 64 * 2**20
PREDICTED = "label,predicted"
_TIMES = ("wall_s", "images_per_s")
_SHAPE: dict[str, type | tuple[type, ...]] = {
    "run_id": str, "status": str, "seed": int, "config": dict, "metrics": dict, "layers": list,
    "timing": dict, "provenance": dict, "error": (str, type(None)), "files": dict,
}  # fmt: skip
SCALARS = {type(None), bool, int, float, str}


@dataclass(frozen=True)
class StoredProblem:
    """Something in the results folder that is not a complete run, and why; it is counted and skipped.

    `unreadable` means that the system did not let us read it. It may be intact, so it is never replaced.
    """

    path: Path
    reason: str
    kind: Literal["damaged", "newer", "unreadable"] = "damaged"

    def __str__(self) -> str:
        """Format as `results/relu-s0-0123456789: reason`."""
        return f"{self.path}: {self.reason}"

    def refusal(self) -> StoreError:
        """Return the error for a command that needs this run, with the way out."""
        repair = "; to repair it, repeat the command that trained it" if self.kind == "damaged" else ""
        return StoreError(f"{self}{repair}")


@dataclass(frozen=True)
class StoredRun:
    """A stored run: the checked fields of its result.json, and methods that read and check its other files.

    `config` and `metrics` are plain values by column of runs.csv, `layers` has one dict per layer, `error` is the
    traceback of a failed run, and `files` gives the size and SHA-256 of each other file. Every method that reads a
    file raises StoreError if it is missing, damaged or changed.
    """

    folder: Path
    run_id: str
    status: Outcome
    seed: int
    config: Row
    metrics: Row
    layers: list[dict[str, Any]]
    timing: dict[str, Any]
    provenance: dict[str, Any]
    error: str | None
    files: dict[str, dict[str, Any]]

    @cached_property
    def row(self) -> Row:
        """The run's row of runs.csv: all COLUMNS (None if missing), then the others in alphabetical order."""
        found = {**{key: self.timing.get(key) for key in _TIMES}, **self.metrics, **self.config}
        found |= {"run_id": self.run_id, "seed": self.seed, "status": self.status}
        for key in ENVIRONMENT:
            if isinstance(value := self.provenance.get(key), str | int):
                found[key] = value
        return {key: found.get(key) for key in (*COLUMNS, *sorted(found.keys() - set(COLUMNS)))}

    def named(self, name: str) -> StoredRun:
        """Return the same run with another name in its row; its files keep theirs."""
        return replace(self, config={**self.config, "name": name}) if self.config.get("name") != name else self

    def config_yaml(self) -> str:
        """Return the resolved config as YAML text."""
        return self._read(CONFIG).decode()

    def epochs(self) -> list[Row]:
        """Return one row per epoch."""
        return self._table(EPOCHS)

    def layer_rows(self) -> list[Row]:
        """Return one row per epoch and layer."""
        return self._table(LAYERS)

    def neurons(self) -> list[Row]:
        """Return one row per hidden unit."""
        return self._table(NEURONS)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the trained weights by name. Also raises StoreError if none were stored."""
        data = self._read(MODEL)
        import safetensors.numpy  # slow, and comparing does not need it

        try:
            return dict(safetensors.numpy.load(data))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise StoreError(f"{self.folder}: {MODEL} is damaged: {error}") from None

    def predictions(self) -> np.ndarray:
        """Return the label and the predicted label of each test image after the last epoch, int64 (N, 2).

        Also raises StoreError if none were stored: the run diverged, or an older actbench trained it.
        """
        data = self._read(PREDICTIONS)
        import numpy as np  # slow, and comparing does not need it

        from actbench.datasets.idx import gunzip

        try:
            header, _, lines = gunzip(data, _PREDICTIONS_LIMIT).decode().partition("\n")
            if header != PREDICTED or not lines:
                raise ValueError("it is not a table of predictions")
            return np.loadtxt(io.StringIO(lines), dtype=np.int64, delimiter=",", ndmin=2)
        except ValueError as error:
            raise StoreError(f"{self.folder}: {PREDICTIONS} is damaged: {error}") from None

    def contents(self) -> dict[str, bytes]:
        """Return all files by name, with every checksum verified. Raises StoreError."""
        try:
            result = files.read_bytes(self.folder / RESULT, _RESULT_LIMIT)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.folder}: {RESULT} cannot be read: {error}") from None
        if result != sealed(result[:-_SEAL_LENGTH]):
            raise StoreError(f"{self.folder}: {RESULT} has changed since it was written (its checksum differs)")
        return {**{name: self._read(name) for name in self.files}, RESULT: result}

    def wrong_sizes(self) -> Iterator[str]:
        """Say which files are missing or do not have their size, without reading them."""
        for name, about in self.files.items():
            try:
                size = (self.folder / name).lstat().st_size
            except (FileNotFoundError, NotADirectoryError):
                yield f"{name} is missing"
            except OSError:  # it may be intact: reading it will tell
                continue
            else:
                if size != about["bytes"]:
                    yield f"{name} is damaged: it has {size} bytes, but {about['bytes']} were written"

    def verify(self) -> list[StoredProblem]:
        """Read all files of the run again and return what is wrong with them: [] if nothing has changed."""
        again = read_run(self.folder)
        if isinstance(again, StoredProblem):
            return [again]
        problems = []
        for name in again.files:
            try:
                again._read(name)
            except StoreError as error:
                problems.append(StoredProblem(self.folder, str(error).removeprefix(f"{self.folder}: ")))
        return problems

    def _table(self, name: str) -> list[Row]:
        try:
            return parse_table(self._read(name).decode())
        except ValueError as error:
            raise StoreError(f"{self.folder}: {name} is damaged: {error}") from None

    def _read(self, name: str) -> bytes:
        stored = self.files.get(name)
        if stored is None:
            raise StoreError(f"{self.folder}: has no {name} (status: {self.status})")
        try:
            data = files.read_bytes(self.folder / name)
        except FileNotFoundError:
            raise StoreError(f"{self.folder}: {name} is missing") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.folder}: {name} cannot be read: {error}") from None
        if len(data) != (due := stored["bytes"]):
            raise StoreError(f"{self.folder}: {name} is damaged: it has {len(data)} bytes, but {due} were written")
        if sha256(data) != stored["sha256"]:
            raise StoreError(f"{self.folder}: {name} has changed since it was written (its SHA-256 differs)")
        return data


def read_run(folder: Path) -> StoredRun | StoredProblem:
    """Read the run in `folder`, checking the checksum and the structure of its result.json."""
    try:
        data = files.read_bytes(f"{folder}/{RESULT}", _RESULT_LIMIT)
    except FileNotFoundError:
        return StoredProblem(folder, f"has no {RESULT}")
    except NotADirectoryError:
        return StoredProblem(folder, "is not a folder")
    except OSError as error:
        return StoredProblem(folder, f"{RESULT} cannot be read: {error.strerror}", "unreadable")
    except ValueError as error:
        return StoredProblem(folder, f"{RESULT} {error}")
    whole = data == sealed(data[:-_SEAL_LENGTH])
    try:
        result = files.load_json(data)
    except ValueError:
        return StoredProblem(folder, f"{RESULT} is {'truncated, or not JSON' if data else 'empty'}")
    version = result.get("format_version") if isinstance(result, dict) else None
    if type(version) is not int or version < 1:
        return StoredProblem(folder, f"{RESULT} was not written by actbench (it has no format_version)")
    if version > FORMAT_VERSION:
        return StoredProblem(folder, _newer(result), "newer")
    if not whole:
        return StoredProblem(folder, f"{RESULT} has changed since it was written (its checksum differs)")
    if wrong := _shape_problem(result, folder.name):
        return StoredProblem(folder, f"{RESULT} {wrong}")
    return StoredRun(folder, **{key: result[key] for key in _SHAPE})


def find_run(root: Path, run_id: str) -> StoredRun | StoredProblem | None:
    """Read a run by its id; None if it has no folder in `root`.

    Raises StoreError if `run_id` is not an id, and if `root` cannot be read.
    """
    if not RUN_ID.fullmatch(run_id):
        raise StoreError(f"{run_id!r} is not a run id; one looks like relu-s0-0123456789")
    folder = root / run_id
    with files.explained("read", folder):
        try:
            folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
    return read_run(folder)


def find_whole(root: Path, run_id: str) -> StoredRun | StoredProblem | None:
    """Read a run like `find_run`; one whose other files are missing or have other sizes is damaged."""
    found = find_run(root, run_id)
    if isinstance(found, StoredRun) and (wrong := [*found.wrong_sizes()]):
        return StoredProblem(found.folder, "; ".join(wrong))
    return found


def _newer(result: dict[str, Any]) -> str:
    """Say who wrote a run in a newer format, and what to do."""
    provenance = result.get("provenance")
    version = provenance.get("actbench_version") if isinstance(provenance, dict) else None
    named = f", {readable(version[:40])}" if isinstance(version, str) and version else ""
    formats = f"format {result['format_version']}; this one reads {FORMAT_VERSION}"
    return f"was written by a newer actbench{named} ({formats}): upgrade actbench to use this run"


def _shape_problem(result: dict[str, Any], name: str) -> str | None:
    for key, kind in _SHAPE.items():
        if not isinstance(result.get(key), kind) or isinstance(result[key], bool):
            return f"has no valid {key}"
    if result["run_id"] != name or not RUN_ID.fullmatch(name):
        return f"belongs to run {result['run_id']!r}: the folder was renamed or copied"
    if result["status"] not in OUTCOMES:
        return f"has an unknown status {result['status']!r}"
    for key in ("config", "metrics"):
        if not all(type(value) in SCALARS for value in result[key].values()):
            return f"has no valid {key}"
    for file, about in result["files"].items():
        known = file in (CONFIG, EPOCHS, LAYERS, NEURONS, MODEL, PREDICTIONS) and isinstance(about, dict)
        if not known or not isinstance(about.get("sha256"), str) or type(about.get("bytes")) is not int:
            return "has no valid files"
    return None


def sealed(head: bytes) -> bytes:
    """Complete `head`, a JSON object without its closing brace, with its checksum as the last field."""
    return head + f',\n "checksum": "{sha256(head)}"\n}}\n'.encode()


def sha256(data: bytes) -> str:
    """Return the checksum of a file as result.json holds it."""
    return hashlib.sha256(data).hexdigest()


_SEAL_LENGTH = len(sealed(b""))
