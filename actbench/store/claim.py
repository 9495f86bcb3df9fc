"""A run while it trains: claimed, checkpointed, finished.

The claim of a run is the folder `.running/<run_id>/`. It holds `lock`, locked as long as the process lives, and
`checkpoint`. A finished run is written there and then renamed into place.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.errors import StoreError
from actbench.store import files, index
from actbench.store.csv import Cell, Row, format_table
from actbench.store.run import (
    CONFIG,
    EPOCHS,
    FORMAT_VERSION,
    LAYERS,
    MODEL,
    NEURONS,
    PREDICTED,
    PREDICTIONS,
    RESULT,
    SCALARS,
    Outcome,
    StoredProblem,
    StoredRun,
    find_whole,
    sealed,
    sha256,
)

if TYPE_CHECKING:
    import numpy as np

DAMAGED = ".damaged"
LOCK = "lock"
CHECKPOINT = "checkpoint"

_MAGIC = b"actbench checkpoint 1\n"
_MOST_OPEN_FILES = 8192  # a limit that every system accepts
_OTHER_OPEN_FILES = 64  # data, libraries, results being written

try:
    import resource
except ImportError:  # this system has no such limits
    resource = None  # type: ignore[assignment]


def most_claims() -> int:
    """Return how many claims this process can hold, after raising its limit on open files as far as it may.

    Each claim keeps its lock open.
    """
    if resource is None:
        return _MOST_OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft == resource.RLIM_INFINITY:
        soft = most
    elif soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return max(1, soft - _OTHER_OPEN_FILES)


def lock_run(root: Path, run_id: str) -> files.Lock | None:
    """Lock the claim of a run, creating it if needed; None if a live process holds it. Raises StoreError."""
    folder = root / index.RUNNING / run_id
    with files.explained("claim", folder):
        for _ in range(100):
            for path in (folder.parent, folder, folder / LOCK):
                files.refuse_link(path)
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the last holder may be removing the folder right now
                return files.try_lock(folder / LOCK)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def is_result(stored: StoredRun | StoredProblem | None) -> bool:
    """Whether a run has ended for good (done or diverged); a failed run is tried again."""
    return isinstance(stored, StoredRun) and stored.status != "failed"


@dataclass(frozen=True)
class RunRecord:
    """An ended run, ready to be stored.

    `flat` holds the config columns of runs.csv, `metrics` the final metrics (fractions and counts) by column, `layers`
    the raw final metrics of each layer. `epochs`, `layer_rows` (one per epoch and layer) and `neurons` are the rows of
    epochs.csv, layers.csv and neurons.csv. `predictions` (N, 2) holds the label and the predicted label of each test
    image. `provenance` names versions, device, threads and data, never environment variables. result.json stores nan
    and inf as null.
    """

    run_id: str
    config_yaml: str
    flat: Mapping[str, Any]
    seed: int
    status: Outcome
    metrics: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Any]] = ()
    epochs: Sequence[Row] = ()
    layer_rows: Sequence[Row] = ()
    neurons: Sequence[Row] = ()
    weights: Mapping[str, np.ndarray] | None = None
    predictions: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def files(self) -> dict[str, bytes]:
        """Return the content of each file in the run folder, by name."""
        texts = {
            CONFIG: self.config_yaml,
            EPOCHS: format_table(self.epochs),
            LAYERS: format_table(self.layer_rows),
            NEURONS: format_table(self.neurons),
        }
        contents = {name: text.encode(errors="backslashreplace") for name, text in texts.items()}
        if self.weights is not None:
            contents[MODEL] = _weights_to_bytes(self.weights)
        if self.predictions is not None:
            contents[PREDICTIONS] = _predictions_to_bytes(self.predictions)
        result = {
            "format_version": FORMAT_VERSION,
            "run_id": self.run_id,
            "status": self.status,
            "seed": self.seed,
            "config": _scalars(self.flat),
            "metrics": _scalars(self.metrics),
            "layers": self.layers,
            "timing": self.timing,
            "provenance": self.provenance,
            "error": self.error,
            "files": {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in contents.items()},
        }
        contents[RESULT] = sealed(files.dump_json(result).removesuffix("\n}").encode())
        return contents


class Claim:
    """A run that this process is training, made by `Store.claim`; `folder` is its `.running/<run_id>/`."""

    MOVED_ASIDE = ".old.*"

    def __init__(
        self, root: Path, run_id: str, lock: files.Lock, note: Callable[[str], None], *, force: bool = False
    ) -> None:
        self.root, self.run_id, self.note, self.force = root, run_id, note, force
        self.folder = root / index.RUNNING / run_id
        self._lock = lock
        self._target = root / run_id

    def save_checkpoint(self, data: bytes, name: str = CHECKPOINT) -> None:
        """Write or replace the checkpoint `name` in one step, with its SHA-256. Raises StoreError."""
        if not self._still_ours():
            return
        digest = hashlib.sha256(data).hexdigest().encode()
        try:
            files.write_bytes(self.folder / name, b"".join((_MAGIC, digest, b"\n", data)))
        except StoreError:
            if self._still_ours():
                raise

    def load_checkpoint(self, name: str = CHECKPOINT) -> bytes | None:
        """Return the checkpoint, or None if there is none; a damaged one is noted and discarded."""
        path = self.folder / name
        try:
            digest, _, data = files.read_bytes(path).removeprefix(_MAGIC).partition(b"\n")
            if digest == hashlib.sha256(data).hexdigest().encode():
                return data
            reason = "its SHA-256 differs"
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = str(error)
        self.note(f"{path}: the checkpoint is damaged ({reason}); the run starts from the beginning")
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def finish(self, record: RunRecord) -> bool:
        """Store the ended run, failed ones included, add it to runs.csv and give up the claim.

        A failed run keeps its checkpoint. Returns False, changing nothing, if another process has stored the run in the
        meantime, or if a failure would replace a run that is done. Raises StoreError if the run cannot be written; what
        was stored before is kept, and so is the checkpoint.
        """
        if record.run_id != self.run_id:
            raise ValueError(f"the record of {record.run_id} cannot finish the claim of {self.run_id}")
        placed = self.put(record.files(), failed=record.status == "failed")
        if placed is None:
            return False
        try:
            index.update(self.root)
        except StoreError as error:
            self.note(f"{error}; {self.run_id} is stored, and the next start will update runs.csv")
        else:
            if record.status != "failed" or not (self.folder / CHECKPOINT).exists():
                self.clear()
        self._lock.release()
        return placed

    def put(self, contents: Mapping[str, bytes], *, failed: bool) -> bool | None:
        """Store the files of the ended run; runs.csv is not updated, and the claim stands.

        Returns False, changing nothing, if a run that has ended is there already, and None if the claim is lost because
        another process has stored the run. Raises StoreError like `finish`.
        """
        if not self._still_ours():
            return None
        new = self.folder / files.temporary_name("new")
        try:
            files.write_folder(new, contents)
            return self._place(new, failed=failed)
        except StoreError:
            if self._still_ours():
                raise
            return None
        finally:
            files.remove_folder(new)  # it is still there only if it was not placed

    def _place(self, new: Path, *, failed: bool) -> bool:
        files.refuse_link(self._target)
        stored = find_whole(self.root, self.run_id)
        if stored is None:
            if files.place_folder(new, self._target):
                return True
            stored = find_whole(self.root, self.run_id)
        if isinstance(stored, StoredRun):
            if is_result(stored) and (failed or not self.force):
                return False
            files.swap_folder(new, self._target, self.folder / files.temporary_name("old"))
            return True
        if stored is None or stored.kind == "unreadable":
            raise StoreError(f"cannot write {stored or self._target}; it stays untouched")
        aside = self.root / DAMAGED / f"{self.run_id}.{secrets.token_hex(4)}"
        files.refuse_link(aside.parent)
        with files.explained("create", aside.parent):
            aside.parent.mkdir(exist_ok=True)
        files.swap_folder(new, self._target, aside)
        self.note(f"{stored}; the run was trained again, and the old folder is now {aside}")
        return True

    def _still_ours(self) -> bool:
        """Whether the claim still stands; False if another process has stored the run (locks did not work)."""
        if self._lock.in_place:
            return True
        if is_result(find_whole(self.root, self.run_id)):
            return False
        raise StoreError(f"{self.folder} was deleted or replaced during training; train the run again")

    def restore(self, *, keep_checkpoint: bool = True) -> None:
        """Put back what a killed process moved aside, and remove what it left half-written. Raises StoreError."""
        for old in self.folder.glob(self.MOVED_ASIDE):
            files.place_folder(old, self._target)
        with files.explained("clean up", self.folder):
            for path in self.folder.iterdir():
                if path.name.startswith(".") or not (keep_checkpoint or path.name == LOCK):
                    _remove(path)

    def clear(self) -> None:
        """Remove the claim's folder, the lock last; anything that cannot be removed is left to the next start."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.name != LOCK:
                    _remove(path)
            (self.folder / LOCK).unlink()
            self.folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_folder(path)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _scalars(values: Mapping[str, Any]) -> dict[str, Cell]:
    """Return plain scalars; a list (such as the hidden widths) becomes its JSON text."""
    simple = {key: files.plain(value) for key, value in values.items()}
    return {k: v if type(v) in SCALARS else files.dump_json(v, indent=None) for k, v in simple.items()}


def _predictions_to_bytes(predictions: np.ndarray) -> bytes:
    lines = [PREDICTED, *(f"{label},{predicted}" for label, predicted in predictions.tolist()), ""]
    return gzip.compress("\n".join(lines).encode(), mtime=0)  # without a time, equal predictions give equal bytes


def _weights_to_bytes(weights: Mapping[str, np.ndarray]) -> bytes:
    import numpy as np  # slow, and comparing does not need it
    import safetensors.numpy

    dense = {name: np.asarray(array, order="C") for name, array in weights.items()}
    return bytes(safetensors.numpy.save(dense))
