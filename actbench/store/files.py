"""Files and folders that are always complete, locks that die with their holder, and strict JSON.

Everything is written to a temporary name, flushed to disk and renamed into place: a reader, or the next start after a
crash, finds either the old content or the new. All results are written through the `os` calls in this module, so
that a test can make any one of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench.errors import StoreError

try:
    import fcntl
except ImportError:  # no flock on this system: still correct, see `try_lock`
    fcntl = None  # type: ignore[assignment]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@contextlib.contextmanager
def explained(action: str, path: Path, option: str = "--results") -> Iterator[None]:
    """Turn an OSError into a StoreError: what failed on which path, why, what to do, and the `option` to do it with."""
    try:
        yield
    except OSError as error:
        advice = _advice(error, action, path, option)
        reason = f"{error.strerror or error}{f' ({advice})' if advice else ''}"
        raise StoreError(f"cannot {action} {path}: {reason}") from error


def _advice(error: OSError, action: str, path: Path, option: str) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and run the same command again; finished runs are kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        closed = _closed_folder(path)
        if closed or action == "read":
            enter = f"you may not enter {closed}; " if closed else ""
            return f"{enter}change its permissions, or choose another folder with {option}"
        return f"choose a writable folder with {option}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit on open files, for example with: ulimit -n 4096"
    return "was it deleted or moved?" if error.errno == errno.ENOENT else None


def _closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to `path` that this user may not enter."""
    way = [*reversed(path.absolute().parents), path.absolute()]
    ids = os.access in os.supports_effective_ids
    return next((one for one in way if one.is_dir() and not os.access(one, os.X_OK, effective_ids=ids)), None)


def exists(path: Path | str) -> bool:
    """Whether `path` leads to something. Raises StoreError, with the reason, if that cannot be known."""
    return _mode(path) is not None


def is_folder(path: Path | str) -> bool:
    """Whether `path` leads to a folder. Raises StoreError, with the reason, if that cannot be known."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(path: Path | str) -> int | None:
    with explained("read", Path(path)), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return Path(path).stat().st_mode
    return None


def write_bytes(path: Path, data: bytes, *, beside: Path | None = None) -> None:
    """Write or replace a file in one step: a crash leaves the old content or the new. Raises StoreError.

    The temporary file goes into the folder `beside`, by default that of `path`; it must be on the same file system.
    """
    temporary = (beside or path.parent) / temporary_name(path.name)
    with explained("write", path):
        try:
            _write_files({temporary: data})
            os.replace(temporary, path)  # noqa: PTH105 - every call that writes is one of `os`
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Create `folder` with these files and flush everything; on failure nothing is left. Raises StoreError."""
    with explained("write", folder):
        try:
            os.mkdir(folder)  # noqa: PTH102
            _write_files({folder / name: data for name, data in files.items()})
            sync_folder(folder)
        except BaseException:
            remove_folder(folder)
            raise


def place_folder(new: Path, target: Path) -> bool:
    """Rename the folder `new` to `target`; return False if a non-empty folder is in the way. Raises StoreError."""
    with explained("write", target):
        try:
            os.rename(new, target)  # noqa: PTH104
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        sync_folder(target.parent)
    return True


def swap_folder(new: Path, target: Path, old: Path) -> None:
    """Move `target` to `old` and `new` to `target`; undo the first if the second fails. Raises StoreError.

    A process killed between the two leaves both folders complete, and `old` has to be moved back.
    """
    with explained("replace", target):
        os.rename(target, old)  # noqa: PTH104
        try:
            os.rename(new, target)  # noqa: PTH104
        except BaseException:
            os.rename(old, target)  # noqa: PTH104
            raise
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of `folder`, if the system supports it. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove as much of `folder` as possible; leftovers do no harm."""
    shutil.rmtree(folder, ignore_errors=True)


def refuse_link(path: Path) -> None:
    """Raise StoreError if `path` is a symbolic link: its target is not ours to write."""
    if path.is_symlink():
        raise StoreError(f"{path} is a symbolic link, and actbench does not write through links; remove it")


def temporary_name(name: str) -> str:
    """Return a name for a temporary file that no other process will use."""
    return f".{name}.{secrets.token_hex(6)}.tmp"


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """Read a regular file of at most `limit` bytes, without ever blocking on a pipe or device.

    Raises OSError, or ValueError if the file is too large or not a regular one.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("is not a file")
        if limit is not None and about.st_size > limit:
            raise ValueError(f"is larger than {limit} bytes")
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _write_files(files: Mapping[Path, bytes]) -> None:
    with contextlib.ExitStack() as stack:
        descriptors = []
        for path, data in files.items():
            descriptors.append(os.open(path, _NEW_FILE, 0o666))
            stack.callback(os.close, descriptors[-1])
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptors[-1], rest) :]
        for descriptor in descriptors:  # after all writes, so that the disk flushes them together
            os.fsync(descriptor)


@dataclass
class Lock:
    """A lock on the file `path`, held until `release` or until the process ends in any way."""

    path: Path
    descriptor: int | None

    @property
    def in_place(self) -> bool:
        """Whether the locked file is still the one at `path`, neither deleted nor replaced."""
        return self.descriptor is not None and _is_at(self.descriptor, self.path)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock; calling it again does nothing."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def try_lock(path: Path) -> Lock | None:
    """Lock the file `path`, creating it if needed; return None if a live process holds the lock. Raises OSError.

    On a file system without locks you always get the lock: locks only avoid duplicate work, and what is stored is
    correct without them.
    """
    deadline = time.monotonic() + 5.0
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            locked = _flock(descriptor, exclusive=True)
            if locked and _is_at(descriptor, path):  # else its last holder deleted it before we locked it
                lock, descriptor = Lock(path, descriptor), -1
                return lock
            if not locked and not _flock(descriptor, exclusive=False):
                return None
        finally:
            if descriptor != -1:
                os.close(descriptor)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.001 + 0.01 * secrets.randbelow(100) / 100)  # only an `is_locked` is looking


def wait_for_lock(path: Path, timeout_s: float) -> Lock | None:
    """Lock the file `path`, or return None if it is still held after `timeout_s` seconds. Raises OSError."""
    deadline = time.monotonic() + timeout_s
    while (lock := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return lock


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock on `path`; writes nothing and does not disturb `try_lock`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    except OSError:
        return False
    try:
        return not _flock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, *, exclusive: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def plain(value: object) -> Any:
    """Return `value` in JSON's types: nan and inf become None; numpy scalars and arrays become numbers and lists."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON: {value!r}")


def dump_json(value: object, *, indent: int | None = 1) -> str:
    """Return strict ASCII JSON: nan and inf become null, and no character can control a terminal."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def load_json(data: bytes) -> Any:
    """Parse strict JSON. Raises ValueError for anything else."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
