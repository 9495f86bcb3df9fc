"""Downloading the files of a dataset from mirrors that may be slow, wrong or gone.

torchvision's dataset classes know the addresses, but its own `download=True` is not used: it asks every address twice,
has no time-out or size limit, gives up at the first mirror that stalls, and draws its own progress bar.

A file never exists half-written under its name: it is fetched into a temporary folder beside its place, checked, then
renamed. The lock only avoids fetching twice; correctness does not depend on it.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import importlib
import math
import os
import shutil
import sys
import tempfile
import time
import types
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench.datasets.idx import MAX_BYTES, IdxFile
from actbench.errors import DataError

Progress = Callable[[str, int, int | None], None]
Note = Callable[[str], None]

TIMEOUT_S = 20.0
_SLOWEST = 1_000  # bytes per second; a mirror that stays slower for longer than the time-out is abandoned
_CHUNK = 64 * 1024
_LEFTOVER_S = 24 * 3600  # a temporary folder this old belongs to a process that was killed
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # from shared folders without flock


def ignore(*_: object) -> None:
    """Take a progress report or a note and do nothing."""


class _MirrorError(Exception):
    """Why one mirror did not deliver a file; the next mirror is tried."""


@dataclass(frozen=True)
class Job:
    """What to fetch and where to: `files` of `dataset`, into the folder `raw`.

    `mirror` is the address of a folder that serves the files; it is tried first.
    """

    dataset: str
    torchvision_class: str
    files: tuple[IdxFile, ...]
    raw: Path
    mirror: str | None = None
    progress: Progress = ignore
    note: Note = ignore

    def run(self) -> None:
        """Download the missing files; if several processes try at once, one does it and the others wait.

        Raises DataError if no mirror delivers a file or the folder cannot be written.
        """
        folder = self.raw.parent.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f".{self.dataset}.lock", self.note):
                missing = [file for file in self.files if file.locate(self.raw) is None]
                if missing:
                    _remove_leftovers(folder)
                    self._download(missing, folder)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({error.strerror or error}); name another folder with "
                f"--data-dir or ACTBENCH_DATA_DIR\n{self.ways_out(self.files)}"
            ) from error

    def ways_out(self, files: Sequence[IdxFile]) -> str:
        """Return what you can do without a network or a working mirror, one way per line."""
        return (
            "What you can do:\n"
            "  - name a mirror that serves these files: --mirror URL or ACTBENCH_MIRROR=URL\n"
            f"  - copy {', '.join(file.archive for file in files)} into {self.raw}\n"
            "  - use `dataset: digits`, which needs no download"
        )

    def _download(self, missing: Sequence[IdxFile], folder: Path) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=f".download-{os.getpid()}-", dir=folder))
        try:
            served_by = None
            for file in missing:
                served_by = self._from_any(self._mirrors(served_by), file, temporary / file.archive)
            self.raw.mkdir(parents=True, exist_ok=True)
            for file in missing:
                (temporary / file.archive).replace(self.raw / file.archive)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _mirrors(self, served_by: str | None) -> Iterator[str]:
        """Yield each mirror once: the one that served the last file, the user's own, then torchvision's.

        torchvision is imported only when its mirrors are needed: that takes seconds and can fail.
        """
        first = [*([served_by] if served_by else []), *own_mirrors(self.mirror)]
        yield from dict.fromkeys(first)
        yield from (mirror for mirror in known_mirrors(self.torchvision_class) if mirror not in first)

    def _from_any(self, mirrors: Iterable[str], file: IdxFile, target: Path) -> str:
        """Fetch `file` from the first mirror that delivers it, and return that mirror."""
        timeout, tried = time_out(), []
        for mirror in mirrors:
            self.note(f"downloading {mirror}{file.archive}")
            try:
                self._fetch(mirror + file.archive, file, target, timeout)
            except _MirrorError as error:
                tried.append(f"  - {mirror}: {error}")
                self.note(f"{mirror}{file.archive}: {error}")
            else:
                return mirror
        raise DataError(
            f"{self.dataset}: {file.archive} could not be downloaded\nTried:\n"
            + "\n".join(tried)
            + f"\n{self.ways_out(self.files)}"
        )

    def _fetch(self, url: str, file: IdxFile, target: Path, timeout: float) -> None:
        """Fetch `url` into `target` and check its MD5, or raise _MirrorError."""
        digest, done, start = hashlib.md5(usedforsecurity=False), 0, time.monotonic()
        with target.open("wb") as out:
            for chunk, total in _chunks(url, timeout):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > MAX_BYTES:
                    raise _MirrorError(f"sent more than {MAX_BYTES} bytes")
                if done < _SLOWEST * (time.monotonic() - start - timeout):
                    raise _MirrorError(f"sent only {done} bytes in {time.monotonic() - start:.0f} s")
                self.progress(file.archive, done, total)
        if total is not None and done < total:
            raise _MirrorError(f"broke off after {done} of {total} bytes")
        if digest.hexdigest() != file.md5:
            raise _MirrorError(f"sent the wrong file (MD5 {digest.hexdigest()}, expected {file.md5})")


def _chunks(url: str, timeout: float) -> Iterator[tuple[bytes, int | None]]:
    """Yield what `url` sends, chunk by chunk, with the total size that the server announced.

    No chunk may take longer than `timeout` seconds. Anything the server or the network does wrong is a _MirrorError.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "actbench"})
    with _network(timeout):
        response = urllib.request.urlopen(request, timeout=timeout)
    with response:
        total = response.length
        with _network(timeout):
            chunk = response.read(2)
        if chunk != b"\x1f\x8b":
            page = response.headers.get_content_type() == "text/html" or chunk.startswith(b"<")
            raise _MirrorError("sent a web page instead of the file" if page else "sent no gzip file")
        while chunk:
            yield chunk, total
            with _network(timeout):
                chunk = response.read1(_CHUNK)


@contextmanager
def _network(timeout: float) -> Iterator[None]:
    """Turn the errors of talking to a server into a _MirrorError with a short reason."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        meaning = http.client.responses.get(error.code, "")  # not the server's own words, which can be anything
        raise _MirrorError(f"HTTP {error.code} {meaning}".rstrip()) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise _MirrorError(f"no answer for {timeout:g} s") from error
        raise _MirrorError(getattr(cause, "strerror", None) or f"{type(cause).__name__}: {cause}") from error


@contextmanager
def _locked(path: Path, say: Note) -> Iterator[None]:
    """Hold the lock at `path`, or go on without one if the file system has no locks."""
    import filelock

    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say("another process is downloading; waiting for it")
            lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    try:
        yield
    finally:
        lock.release()


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
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:  # brackets without an IPv6 address inside
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
