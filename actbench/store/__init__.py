"""The results folder: each run is claimed, trained once, and stored completely. Nothing else writes result files.

    results/runs.csv              derived from the run folders, see `index`
    results/<run_id>/             an ended run, see `run`; renamed into place when it is complete
    results/.running/<run_id>/    a run in training, see `claim`: `lock` and `checkpoint`
    results/.damaged/             run folders that could not be read, moved here when trained again

`read` reads whatever a person points at, and `maintain` removes and merges runs. Any other folder is ignored, so
`results/benchmarks/` may hold whatever you like. The exception is a folder that looks like a renamed run: if its name
ends in `-s<seed>-<10 hex digits>`, or it holds a result.json, it is reported.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from actbench.errors import StoreError, suggestion
from actbench.store import files, index
from actbench.store.claim import LOCK, Claim, RunRecord, is_result, lock_run
from actbench.store.csv import Row
from actbench.store.index import RUNNING
from actbench.store.run import RESULT, RUN_ID, StoredProblem, StoredRun, find_run, find_whole, read_run

__all__ = ["Claim", "RunRecord", "Status", "Store", "StoredProblem", "StoredRun"]

Status = Literal["done", "diverged", "failed", "damaged", "newer", "running", "interrupted"]

MIN_FREE_BYTES = 16 * 2**20
_LIKE_A_RUN = re.compile(r".*-s[0-9]+-[0-9a-f]{10}", re.DOTALL | re.IGNORECASE)


class Store:
    """The results folder `root`; `note` is called with one-line messages that a person may want to see."""

    def __init__(self, root: Path | str, note: Callable[[str], None] = lambda _: None) -> None:
        self.root = Path(root)
        self.note = note

    def prepare(self, need_bytes: int = MIN_FREE_BYTES) -> None:
        """Prepare the folder for training: create it, test that it is writable, clean up after a crash.

        Raises StoreError if it cannot be written or has fewer than `need_bytes` free.
        """
        running = self.root / RUNNING
        if files.exists(self.root) and not files.is_folder(self.root):
            raise StoreError(f"{self.root} is a file, not a folder; choose a folder with --results")
        with files.explained("create", running):
            self.root.mkdir(parents=True, exist_ok=True)
            files.refuse_link(running)
            running.mkdir(exist_ok=True)
            free = shutil.disk_usage(self.root).free
        if free < need_bytes:
            raise StoreError(
                f"{self.root}: this disk has {free / 2**20:.0f} MiB free, but {need_bytes / 2**20:.0f} MiB "
                "are needed; free some space, or choose a folder on another disk with --results"
            )
        with files.explained("write", running), tempfile.TemporaryFile(dir=running) as probe:
            probe.write(b"can this folder be written?\n")
            probe.flush()
            os.fsync(probe.fileno())
        self._heal()

    def status(self, run_id: str) -> Status | None:
        """Return how the run ended or whether a live process is training it; None for an unknown run.

        `damaged` and `newer` are run folders that this version cannot read; `load` gives the reason.
        """
        stored = find_whole(self.root, run_id)
        if isinstance(stored, StoredRun) and is_result(stored):
            return stored.status
        claim = self.root / RUNNING / run_id
        if files.is_folder(claim):
            if files.is_locked(claim / LOCK):
                return "running"
            if not isinstance(stored, StoredRun):  # a failed run may keep its checkpoint there
                return "interrupted"
        if isinstance(stored, StoredProblem):
            return "newer" if stored.kind == "newer" else "damaged"
        return stored.status if stored is not None else None

    def result(self, run_id: str) -> StoredRun | None:
        """Return the run if it has ended for good (done or diverged), else None: it is still to be trained."""
        stored = find_whole(self.root, run_id)
        return stored if isinstance(stored, StoredRun) and is_result(stored) else None

    def knows(self, run_id: str) -> bool:
        """Whether there is anything of the run: a folder, complete or not, or a claim with its checkpoint."""
        return any(os.path.lexists(where / run_id) for where in (self.root, self.root / RUNNING))

    @contextlib.contextmanager
    def claim(self, run_id: str, *, force: bool = False) -> Iterator[Claim | None]:
        """Claim a run for training; gives None if a live process holds it, or if it is done or diverged.

        Failed runs can be claimed, and damaged ones; missing files and wrong sizes are damage, too. `force` also claims
        runs that are done, diverged or from a newer actbench, and discards the checkpoint; the stored run stays until
        `finish` replaces it. Leaving without `finish` keeps the checkpoint: the run is interrupted. Raises StoreError
        if the folder cannot be written, for symbolic links, and for runs from a newer actbench.
        """
        lock = None if self._is_over(run_id, force) else lock_run(self.root, run_id)
        if lock is None:
            yield None
            return
        with lock:
            claim = Claim(self.root, run_id, lock, self.note, force=force)
            claim.restore(keep_checkpoint=not force)
            if self._is_over(run_id, force):
                claim.clear()  # another process finished the run just before we took the lock
                yield None
            else:
                yield claim

    def load(self, run_id: str) -> StoredRun:
        """Return the stored run. Raises StoreError if there is none or it is damaged."""
        stored = find_run(self.root, run_id)
        if stored is None:
            hint = suggestion(run_id, index.run_ids(self.root))
            raise StoreError(f"{self.root} holds no ended run {run_id!r}{hint}")
        if isinstance(stored, StoredProblem):
            raise stored.refusal()
        return stored

    def load_all(self) -> tuple[list[StoredRun], list[StoredProblem]]:
        """Return all stored runs, sorted by name and seed, and what was skipped.

        Every result.json is read and checked now, the other files on demand. Raises StoreError if the folder is
        missing or cannot be read.
        """
        collecting = gc.isenabled()
        gc.disable()  # it would walk thousands of runs again and again, which doubles the time
        try:
            found = list(self._read_all())
        finally:
            if collecting:
                gc.enable()
        runs = [run for run in found if isinstance(run, StoredRun)]
        return runs, [problem for problem in found if isinstance(problem, StoredProblem)]

    def rows(self) -> tuple[list[Row], list[StoredProblem]]:
        """Return the `row` of each run of `load_all`, keeping nothing else in memory, and what was skipped."""
        found = [one.row if isinstance(one, StoredRun) else one for one in self._read_all()]
        problems = [one for one in found if isinstance(one, StoredProblem)]
        return [one for one in found if not isinstance(one, StoredProblem)], problems

    def catch_up(self) -> None:
        """Update runs.csv if run folders have come or gone; if it cannot be written, a note says so."""
        try:
            with files.explained("read", self.root):
                current = index.is_current(self.root)
            if not current:
                index.update(self.root)
        except StoreError as error:
            self.note(str(error))

    def _read_all(self) -> Iterator[StoredRun | StoredProblem]:
        if not files.is_folder(self.root):
            raise StoreError(
                f"{self.root} is not a folder; train something first, or choose another folder with --results"
            )
        with files.explained("read", self.root):
            run_ids, strange = index.run_ids(self.root), self._strange_folders()
        yield from (found for run_id in run_ids if (found := _read_settled(self.root / run_id)) is not None)
        yield from strange

    def _is_over(self, run_id: str, force: bool) -> bool:
        stored = find_whole(self.root, run_id)
        files.refuse_link(self.root / run_id)
        if isinstance(stored, StoredProblem) and stored.kind == "newer" and not force:
            raise StoreError(f"{stored}, or replace it with --force")
        if isinstance(stored, StoredProblem) and stored.kind == "unreadable":
            raise StoreError(f"{stored}; it stays untouched")
        return is_result(stored) and not force

    def _heal(self) -> None:
        """Put back what a killed process moved aside, update runs.csv, and remove leftovers."""
        for claim in self._abandoned(lambda folder: any(folder.glob(Claim.MOVED_ASIDE))):
            claim.restore()
        index.update(self.root)
        for claim in self._abandoned(lambda folder: is_result(find_whole(self.root, folder.name))):
            claim.clear()

    def _abandoned(self, wanted: Callable[[Path], bool]) -> Iterator[Claim]:
        """Lock each wanted claim of a dead process in turn; the others stay free to be claimed."""
        for folder in sorted((self.root / RUNNING).iterdir()):
            if not RUN_ID.fullmatch(folder.name) or not wanted(folder):
                continue
            try:
                lock = lock_run(self.root, folder.name)
            except StoreError as error:  # one bad folder must not keep other runs from training
                self.note(str(error))
                continue
            if lock is not None:
                with lock:
                    yield Claim(self.root, folder.name, lock, self.note)

    def _strange_folders(self) -> list[StoredProblem]:
        others = (p for p in self.root.iterdir() if not p.name.startswith(".") and not RUN_ID.fullmatch(p.name))
        strange = (p for p in others if _LIKE_A_RUN.fullmatch(p.name) or os.path.lexists(p / RESULT))
        return [StoredProblem(path, "is not named like a run; was it renamed?") for path in sorted(strange)]


def _read_settled(folder: Path) -> StoredRun | StoredProblem | None:
    """Read a run that another process may be replacing or deleting right now; None if it is gone."""
    for _ in range(10):
        before = _inode(folder)
        found = read_run(folder)
        if isinstance(found, StoredRun) or found.kind == "unreadable":
            return found
        if before is not None and before == _inode(folder):
            return found
        time.sleep(0.001)
    return None


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None
