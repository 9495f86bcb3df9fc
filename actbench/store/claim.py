"""A run while it is trained: claimed, checkpointed, finished (layer 2).

Imports `records`, `index`, `atomic` and `errors`. The claim of a run is the folder `.running/<run_id>/`
with `lock`, held while its process lives, and `checkpoint`. What is complete is renamed out of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from actbench.errors import StoreError
from actbench.store import files, index
from actbench.store.run import RunRecord, StoredProblem, StoredRun, find_run

DAMAGED = ".damaged"
LOCK = "lock"

_MAGIC = b"actbench checkpoint 1\n"


def lock_run(root: Path, run_id: str) -> files.Lock | None:
    """Lock the claim of a run, made when missing; None when a live process holds it. Raises StoreError."""
    folder = root / index.RUNNING / run_id
    with files.explained("claim", folder):
        for _ in range(100):
            for path in (folder.parent, folder, folder / LOCK):
                files.refuse_link(path)
            folder.mkdir(parents=True, exist_ok=True)
            # The last holder may be removing the folder at this very moment.
            with contextlib.suppress(FileNotFoundError):
                return files.try_lock(folder / LOCK)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


class Claim:
    """A run that this process trains; made by `Store.claim`. `folder` is its `.running/<run_id>/`."""

    MOVED_ASIDE = ".old.*"

    def __init__(
        self, root: Path, run_id: str, lock: files.Lock, note: Callable[[str], None], *, force: bool = False
    ) -> None:
        self.root, self.run_id, self.note, self.force = root, run_id, note, force
        self.folder = root / index.RUNNING / run_id
        self._lock = lock
        self._target = root / run_id

    def save_checkpoint(self, data: bytes, name: str = "checkpoint") -> None:
        """Write or replace the checkpoint `name` in one step, with its SHA-256. Raises StoreError."""
        if not self._still_ours():
            return
        digest = hashlib.sha256(data).hexdigest().encode()
        try:
            files.write_bytes(self.folder / name, b"".join((_MAGIC, digest, b"\n", data)))
        except StoreError:
            if self._still_ours():
                raise

    def load_checkpoint(self, name: str = "checkpoint") -> bytes | None:
        """Return the checkpoint, or None when there is none; a damaged one is noted and discarded."""
        path = self.folder / name
        try:
            head, _, data = files.read_bytes(path).removeprefix(_MAGIC).partition(b"\n")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            head, data = b"", b""
            reason = str(error)
        else:
            if head == hashlib.sha256(data).hexdigest().encode():
                return data
            reason = "its SHA-256 differs"
        self.note(f"{path}: the checkpoint is damaged ({reason}): the run starts from the beginning")
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def finish(self, record: RunRecord) -> bool:
        """Store the ended run (also a failed one), add it to runs.csv, and give the claim back.

        Returns False when another process has stored the run meanwhile, or when a failure would replace a
        run that is done: what is stored then stays as it is. Raises StoreError when the run cannot be
        written: what was stored before is kept, and so is the checkpoint.
        """
        if record.run_id != self.run_id:
            raise ValueError(f"the record of {record.run_id} cannot finish the claim of {self.run_id}")
        contents = record.files()
        if not self._still_ours():
            return False
        try:
            placed = self._write(contents, failed=record.status == "failed")
        except StoreError:
            if self._still_ours():
                raise
            return False
        try:
            index.update(self.root)
        except StoreError as error:
            self.note(f"{error}; {self.run_id} is stored, runs.csv is put right by the next start")
        else:
            self.clear()
        self._lock.release()
        return placed

    def _write(self, contents: dict[str, bytes], *, failed: bool) -> bool:
        new = self.folder / files.temporary_name("new")
        files.write_folder(new, contents)
        try:
            return self._place(new, failed=failed)
        finally:
            files.remove_folder(new)  # only there when it was not placed

    def _place(self, new: Path, *, failed: bool) -> bool:
        files.refuse_link(self._target)
        stored = find_run(self.root, self.run_id)
        if stored is None:
            if files.place_folder(new, self._target):
                return True
            stored = find_run(self.root, self.run_id)
        if isinstance(stored, StoredRun):
            if is_result(stored) and (failed or not self.force):
                return False
            files.swap_folder(new, self._target, self.folder / files.temporary_name("old"))
            return True
        if stored is None or stored.kind == "unreadable":
            raise StoreError(f"cannot write {stored or self._target}; it is left as it is")
        aside = self.root / DAMAGED / f"{self.run_id}.{secrets.token_hex(4)}"
        files.refuse_link(aside.parent)
        with files.explained("create", aside.parent):
            aside.parent.mkdir(exist_ok=True)
        files.swap_folder(new, self._target, aside)
        self.note(f"{stored}; the run was trained again, the old folder is now {aside}")
        return True

    def _still_ours(self) -> bool:
        """Whether the claim stands; False when another process has stored the run (locks did not work)."""
        if self._lock.in_place:
            return True
        if is_result(find_run(self.root, self.run_id)):
            return False
        raise StoreError(f"{self.folder} was deleted or replaced while the run was trained; train it again")

    def restore(self, *, keep_checkpoint: bool = True) -> None:
        """Undo what a killed process has left half-done: put back what it had moved aside, remove the rest.

        Raises StoreError.
        """
        for old in self.folder.glob(self.MOVED_ASIDE):
            files.place_folder(old, self._target)
        with files.explained("clean up", self.folder):
            for path in self.folder.iterdir():
                if path.name.startswith(".") or not (keep_checkpoint or path.name == LOCK):
                    _remove(path)

    def clear(self) -> None:
        """Remove the claim's folder, the lock last; what cannot be removed is left to the next start."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.name != LOCK:
                    _remove(path)
            (self.folder / LOCK).unlink()
            self.folder.rmdir()


def is_result(stored: StoredRun | StoredProblem | None) -> bool:
    """Whether a run has ended for good: a failed one is tried again."""
    return isinstance(stored, StoredRun) and stored.status != "failed"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_folder(path)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
