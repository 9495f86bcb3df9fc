"""Downloading the files of a dataset from mirrors that may be slow, wrong or gone (layer 1).

Imports `errors` and `datafiles`; torchvision, which knows the addresses, only when something is missing.

torchvision's own `download=True` is not used: it asks every address twice, has no time-out, gives up at the
first mirror that stalls, knows no limit on size and draws its own progress bar. Its dataset classes are
asked for what they know (`mirrors`, `resources`), and the bytes are fetched here.

Nothing half-written is ever seen under a file's name: a file is fetched into a folder of its own beside the
others, checked, and renamed. The lock spares the work of fetching twice; correctness does not rest on it.
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
_SLOWEST = 1_000  # bytes a second: a mirror that sends less, over longer than the time-out, is given up
_CHUNK = 64 * 1024
_LEFTOVER_S = 24 * 3600  # a temporary folder this old belongs to a process that was killed
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # what shared folders without flock answer


class _MirrorError(Exception):
    """Why one mirror did not give one file; the next one is tried."""


@dataclass(frozen=True)
class Job:
    """What is to be had and where it goes: `files` of `dataset`, into the folder `raw`.

    `mirror` is an address of a folder that serves the files; it is asked first.
    """

    dataset: str
    torchvision_class: str
    files: tuple[IdxFile, ...]
    raw: Path
    mirror: str | None = None
    progress: Progress | None = None
    note: Note | None = None

    def run(self) -> None:
        """Download the files that are missing; of several processes one does and the others wait for it.

        Raises DataError when no mirror gives a file, or the folder cannot be written to.
        """
        folder = self.raw.parent.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f".{self.dataset}.lock", self._say):
                missing = [file for file in self.files if file.locate(self.raw) is None]
                if missing:
                    _remove_leftovers(folder)
                    self._download(missing, folder)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written to ({error.strerror or error}); name another folder with "
                f"--data-dir or ACTBENCH_DATA_DIR\n{self.ways_out(self.files)}"
            ) from error

    def ways_out(self, files: Sequence[IdxFile]) -> str:
        """Return what a person can do who has no network or no working mirror, one way a line."""
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
        """Yield each mirror once: the one that served the last file, the person's own, torchvision's.

        torchvision is imported, which takes seconds and can fail, only when it comes to that.
        """
        first = [*([served_by] if served_by else []), *own_mirrors(self.mirror)]
        yield from dict.fromkeys(first)
        yield from (mirror for mirror in known_mirrors(self.torchvision_class) if mirror not in first)

    def _from_any(self, mirrors: Iterable[str], file: IdxFile, target: Path) -> str:
        """Fetch `file` from the first mirror that gives it and return that mirror."""
        timeout, tried = time_out(), []
        for mirror in mirrors:
            self._say(f"downloading {mirror}{file.archive}")
            try:
                self._fetch(mirror + file.archive, file, target, timeout)
            except _MirrorError as error:
                tried.append(f"  - {mirror}: {error}")
                self._say(f"{mirror}{file.archive}: {error}")
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
                if self.progress:
                    self.progress(file.archive, done, total)
        if total is not None and done < total:
            raise _MirrorError(f"broke off after {done} of {total} bytes")
        if digest.hexdigest() != file.md5:
            raise _MirrorError(f"sent a wrong file (MD5 {digest.hexdigest()}, expected {file.md5})")

    def _say(self, text: str) -> None:
        if self.note:
            self.note(text)


def _chunks(url: str, timeout: float) -> Iterator[tuple[bytes, int | None]]:
    """Yield what `url` sends, piece by piece, with the total that the server announced.

    No piece may take longer than `timeout` seconds. Everything a server or the network can do wrong is a
    _MirrorError; what goes wrong with the pieces afterwards is not this function's to judge.
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
    """Turn what talking to a server can raise into a _MirrorError with a short reason."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        meaning = http.client.responses.get(error.code, "")  # not the server's words: they can hold anything
        raise _MirrorError(f"HTTP {error.code} {meaning}".rstrip()) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise _MirrorError(f"no answer for {timeout:g} s") from error
        raise _MirrorError(getattr(cause, "strerror", None) or f"{type(cause).__name__}: {cause}") from error


@contextmanager
def _locked(path: Path, say: Note) -> Iterator[None]:
    """Hold the lock at `path`; where the file system knows no locks, go on without."""
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
    """Return after how many seconds without a byte a mirror is given up: ACTBENCH_TIMEOUT, else 20."""
    given = os.environ.get("ACTBENCH_TIMEOUT") or str(TIMEOUT_S)
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise DataError(f"ACTBENCH_TIMEOUT must be a number of seconds > 0, got {given!r}")
    return seconds


def own_mirrors(mirror: str | None) -> list[str]:
    """Return the mirror that the person named, by argument or ACTBENCH_MIRROR, as a list of one or none."""
    address = mirror or os.environ.get("ACTBENCH_MIRROR")
    if not address:
        return []
    try:
        parts = urllib.parse.urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:  # brackets that hold no IPv6 address
        usable = False
    if not usable:
        raise DataError(f"a mirror must be an address such as https://host/folder/, got {address!r}")
    return [address.rstrip("/") + "/"]


def known_mirrors(torchvision_class: str) -> list[str]:
    """Return the folders that torchvision's class downloads from, each ending in a slash."""
    cls = getattr(torchvision_datasets(), torchvision_class)
    if isinstance(cls.resources, dict):  # QMNIST: whole addresses, by split
        return list(dict.fromkeys(url.rpartition("/")[0] + "/" for url, _ in cls.resources["train"]))
    return list(cls.mirrors)


def torchvision_datasets() -> Any:
    """Return the module `torchvision.datasets`, also where torchvision's compiled operators do not load.

    PyPI's torchvision beside a torch from another index cannot load its operators, and then fails while it
    describes them to torch. The dataset classes need none of them, so torchvision is imported once more with
    an empty module in place of these descriptions.
    """
    before = set(sys.modules)
    try:
        return importlib.import_module("torchvision.datasets")
    except (ImportError, OSError) as error:
        _forget_torchvision(before)
        raise _mismatch(error) from error
    except RuntimeError:
        _forget_torchvision(before)
    described = "torchvision._meta_registrations"
    sys.modules[described] = types.ModuleType(described)
    try:
        return importlib.import_module("torchvision.datasets")
    except (ImportError, OSError, RuntimeError) as error:
        _forget_torchvision(before)
        raise _mismatch(error) from error


def _forget_torchvision(before: set[str]) -> None:
    """Remove from sys.modules what an import of torchvision that failed has left there."""
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchvision":
            del sys.modules[name]


def _mismatch(error: Exception) -> DataError:
    return DataError(
        f"torchvision, which knows where datasets are, cannot be imported ({error}): it does not fit the "
        "installed torch. Install the two together: pip install --force-reinstall torch torchvision"
    )
