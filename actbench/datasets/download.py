"""Downloading the files of a dataset from mirrors that may be slow, wrong or gone, and putting them in their place.

torchvision's dataset classes know the addresses, but its own `download=True` is not used: it asks every address twice,
has no time-out or size limit, gives up at the first mirror that stalls, and draws its own progress bar.

A file never exists half-written under its name: it is fetched into a temporary folder beside its place, checked, then
renamed. The lock only avoids fetching twice; correctness does not depend on it.
"""

from __future__ import annotations

import errno
import importlib
import itertools
import math
import os
import shutil
import sys
import tempfile
import time
import types
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench.datasets import transfer
from actbench.datasets.idx import IdxFile
from actbench.datasets.stored import DatasetEntry, Repair
from actbench.datasets.transfer import Limit, MirrorError
from actbench.errors import DataError
from actbench.text import duration, plural

Progress = Callable[[str, int, int | None], None]
Note = Callable[[str], None]

TIMEOUT_S = 20.0
LIMIT_S = 3600.0
"""The longest time that downloading a dataset may take, and waiting for another process that downloads it."""
_LEFTOVER_S = 24 * 3600  # a temporary folder this old belongs to a process that was killed
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # from shared folders without flock


def ignore(*_: object) -> None:
    """Take a progress report or a note and do nothing."""


@dataclass(frozen=True)
class Job:
    """Making the files of a dataset right in the folder `raw`.

    `mirror` is the address of a folder that serves the files; it is tried first. `other` names the dataset to whose
    folder `raw` leads through a link, if it does: nothing is changed there.
    """

    entry: DatasetEntry
    raw: Path
    mirror: str | None = None
    progress: Progress = ignore
    note: Note = ignore
    other: str = ""

    def run(self, find: Callable[[], list[Repair]], *, offline: bool = False) -> None:
        """Do what `find` says is needed; if several processes try at once, one does it and the others wait.

        Raises DataError if no mirror delivers a file, the folder cannot be written or the time limit is over.
        """
        needed = find()
        if not needed:
            return
        if self.other:
            raise DataError(
                f"{self._state(needed)}\n{self.raw} is a link to the folder of {self.other} ({self.raw.resolve()}), "
                "which stays as it is; remove the link or name another folder with --data-dir"
            )
        if offline and any(repair.download for repair in needed):
            raise DataError(f"{self._state(needed)}\n--offline forbids downloads\n{self._ways_out(needed)}")
        limit = Limit(LIMIT_S)
        folder = self.raw.parent.parent
        try:
            if blocked := next((path for path in (folder, self.raw.parent, self.raw) if _is_no_folder(path)), None):
                raise NotADirectoryError(errno.ENOTDIR, f"{blocked} is not a folder")
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked(folder, limit):
                if needed := find():
                    for place in (folder, self.raw.parent, self.raw):
                        _remove_leftovers(place)
                    self._repair(needed, find, limit)
        except OSError as error:
            raise DataError(
                f"{self._state(needed)}\n{folder}: cannot be written ({error.strerror or error}); name another folder "
                f"with --data-dir or ACTBENCH_DATA_DIR\n{self._ways_out(needed)}"
            ) from error

    def _state(self, needed: Sequence[Repair]) -> str:
        """Return what is wrong with the stored files."""
        faults = [f"{path.name} {fault}" for repair in needed for path, fault in repair.faults.items()]
        absent = [repair.file.archive for repair in needed if not repair.faults]
        if len(absent) == len(self.entry.files):
            return f"{self.entry.name} is not in {self.raw}"
        faults += [f"{name} is missing" for name in absent]
        return "\n  - ".join([f"{self.entry.name} in {self.raw} is damaged or incomplete:", *faults])

    def _ways_out(self, needed: Sequence[Repair]) -> str:
        """Return what you can do without a network or a working mirror, one way per line."""
        bad = ", ".join(path.name for repair in needed for path in repair.faults)
        first = f"move {bad} away, then " if bad else ""
        archives = ", ".join(repair.file.archive for repair in needed if repair.download)
        return (
            "What you can do:\n"
            "  - name a mirror that serves these files: --mirror URL or ACTBENCH_MIRROR=URL\n"
            f"  - {first}copy {archives} into {self.raw}\n"
            "  - use `dataset: digits`, which needs no download"
        )

    def _repair(self, needed: Sequence[Repair], find: Callable[[], list[Repair]], limit: Limit) -> None:
        """Download what is needed; only then set aside what is wrong and put the new files in place."""
        place = next(path for path in (self.raw, *self.raw.parents) if path.is_dir())  # on the same file system
        temporary = Path(tempfile.mkdtemp(prefix=f".download-{os.getpid()}-", dir=place))
        try:
            served_by = None
            downloads = [repair.file for repair in needed if repair.download]
            for file in downloads:
                served_by = self._from_any(self._mirrors(served_by), file, temporary / file.archive, limit, needed)
            self.raw.mkdir(parents=True, exist_ok=True)
            still = needed if not downloads else find()  # where there are no locks, others may have been faster
            for path, fault in (item for repair in still for item in repair.faults.items()):
                self.note(f"{path} {fault}; it is now called {_set_aside(path).name}")
            for file in downloads:
                (temporary / file.archive).replace(self.raw / file.archive)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _mirrors(self, served_by: str | None) -> Iterator[str]:
        """Yield each mirror once: the one that served the last file, the user's own, then torchvision's.

        torchvision is imported only when its mirrors are needed: that takes seconds and can fail.
        """
        first = [*([served_by] if served_by else []), *own_mirrors(self.mirror)]
        yield from dict.fromkeys(first)
        yield from (mirror for mirror in known_mirrors(self.entry.torchvision_class) if mirror not in first)

    def _from_any(
        self, mirrors: Iterable[str], file: IdxFile, target: Path, limit: Limit, needed: Sequence[Repair]
    ) -> str:
        """Fetch `file` from the first mirror that delivers it, and return that mirror."""
        timeout, tried = time_out(), []
        for mirror in mirrors:
            self.note(f"downloading {mirror}{file.archive}")
            try:
                with target.open("wb") as out:
                    found = transfer.receive(
                        mirror + file.archive, out, timeout, limit, lambda *bytes_: self.progress(file.archive, *bytes_)
                    )
                if found != file.md5:
                    raise MirrorError(f"sent the wrong file (MD5 {found}, expected {file.md5})")
            except MirrorError as error:
                tried.append(f"  - {mirror}: {error}")
                self.note(f"{mirror}{file.archive}: {error}")
            else:
                return mirror
            if not limit.left():
                break
        raise DataError(
            f"{self._state(needed)}\n{file.archive} could not be downloaded\nTried:\n"
            + "\n".join(tried)
            + f"\n{self._ways_out(needed)}"
        )

    @contextmanager
    def _locked(self, folder: Path, limit: Limit) -> Iterator[None]:
        """Hold the lock of this dataset, or go on without one if the file system has no locks."""
        import filelock

        path = folder / f".{self.entry.name}.lock"
        lock = filelock.FileLock(path)
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self.note(f"another process is downloading {self.entry.name}; waiting for it, at most {limit.text}")
                lock.acquire(timeout=limit.left())
        except filelock.Timeout as error:
            raise DataError(
                f"waited {limit.text} for another process that holds {path}: {self._others_state(folder)}\n"
                f"If it hangs, end it; then run the command again, or name another folder with --data-dir"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
        try:
            yield
        finally:
            lock.release()

    def _others_state(self, folder: Path) -> str:
        """Return how far the process that holds the lock has come, from its temporary folder."""
        found = [path for place in (folder, self.raw.parent, self.raw) for path in place.glob(".download-*")]
        with suppress(OSError, ValueError):
            newest = max(found, key=lambda path: path.stat().st_mtime)
            stats = [path.stat() for path in newest.iterdir()]
            quiet = time.time() - max(stat.st_mtime for stat in stats)
            return (
                f"process {newest.name.split('-')[1]} has downloaded {sum(stat.st_size for stat in stats)} bytes in "
                f"{plural(len(stats), 'file')}, the last of them {duration(quiet)} ago"
            )
        return "it has not downloaded anything yet"


def _is_no_folder(path: Path) -> bool:
    """Return whether something other than a folder, or a link to nothing, lies at `path`."""
    return os.path.lexists(path) and not path.is_dir()


def _set_aside(path: Path) -> Path:
    """Rename what lies at `path` to the first free name such as `path.bad-1`, and return that."""
    free = next(new for n in itertools.count(1) if not os.path.lexists(new := path.with_name(f"{path.name}.bad-{n}")))
    return path.rename(free)


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed long ago."""
    for leftover in folder.glob(".download-*"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime < time.time() - _LEFTOVER_S:
                shutil.rmtree(leftover, ignore_errors=True)


def time_out() -> float:
    """Return after how many seconds without a byte a mirror is abandoned: ACTBENCH_TIMEOUT, else 20."""
    given = os.environ.get("ACTBENCH_TIMEOUT") or str(TIMEOUT_S)
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise DataError(f"ACTBENCH_TIMEOUT must be a number of seconds > 0, got {given!r}")
    return seconds


def own_mirrors(mirror: str | None) -> list[str]:
    """Return a list of the mirror named by the argument or by ACTBENCH_MIRROR, empty if there is none."""
    address = mirror or os.environ.get("ACTBENCH_MIRROR")
    if not address:
        return []
    try:
        parts = urllib.parse.urlsplit(address)
        usable = (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and address.isprintable()
        )
    except ValueError:  # brackets without an IPv6 address inside, or a port that is no number up to 65535
        usable = False
    if not usable:
        raise DataError(f"a mirror must be an address such as https://host/folder/, got {address!r}")
    return [address.rstrip("/") + "/"]


def known_mirrors(torchvision_class: str) -> list[str]:
    """Return the addresses that torchvision's class downloads from, each ending in a slash."""
    cls = getattr(torchvision_datasets(), torchvision_class)
    if isinstance(cls.resources, dict):  # QMNIST: whole addresses, by split
        return list(dict.fromkeys(url.rpartition("/")[0] + "/" for url, _ in cls.resources["train"]))
    return list(cls.mirrors)


def torchvision_datasets() -> Any:
    """Return the module `torchvision.datasets`, even if torchvision's compiled operators do not load.

    PyPI's torchvision cannot load its operators beside a torch from another index, and fails when it describes them
    to torch. Datasets need no operators, so a second attempt puts an empty module in place of the descriptions.
    Raises DataError if that fails, too.
    """
    before = set(sys.modules)
    for replaced in ([], ["torchvision._meta_registrations"]):
        sys.modules.update((name, types.ModuleType(name)) for name in replaced)
        try:
            return importlib.import_module("torchvision.datasets")
        except (ImportError, OSError, RuntimeError) as error:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == "torchvision":
                    del sys.modules[name]
            failure = error
        if not isinstance(failure, RuntimeError):
            break
    raise DataError(
        f"torchvision, which knows where to download datasets, cannot be imported ({failure}): it does not fit the "
        "installed torch. Install the two together: pip install --force-reinstall torch torchvision"
    ) from failure
