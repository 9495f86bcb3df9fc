"""Files and folders that are always complete, locks that die with their holder, and strict JSON."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.errors import StoreError
from actbench.store import files

quick = settings(derandomize=True, deadline=None, max_examples=60)


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_short_writes_add_up_to_the_complete_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1000]))
    data = bytes(range(256)) * 50
    files.write_bytes(tmp_path / "model", data)
    assert (tmp_path / "model").read_bytes() == data


def test_a_file_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*none/x: No such file or directory \(was it deleted"):
        files.write_bytes(tmp_path / "none" / "x", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*folder: Is a directory"):
        files.write_bytes(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_says_what_to_do_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.csv"
    files.write_bytes(path, b"old")

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"runs.csv: No space left on device .*free some space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"keep me")
    (tmp_path / "runs.csv").symlink_to(precious)
    files.write_bytes(tmp_path / "runs.csv", b"new")
    assert precious.read_bytes() == b"keep me"
    assert not (tmp_path / "runs.csv").is_symlink()


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match=r"cannot write .*run: Input/output error"):
        files.write_folder(tmp_path / "run", {"a": b"1", "b": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_the_first_folder_in_place_wins(tmp_path: Path) -> None:
    first, second, target = tmp_path / "first", tmp_path / "second", tmp_path / "target"
    files.write_folder(first, {"a": b"1"})
    files.write_folder(second, {"a": b"2"})
    assert files.place_folder(first, target)
    assert not files.place_folder(second, target)
    assert (target / "a").read_bytes() == b"1"
    assert (second / "a").read_bytes() == b"2"


def test_a_folder_is_not_placed_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").symlink_to(tmp_path / "elsewhere")
    files.write_folder(tmp_path / "new", {"a": b"1"})
    with pytest.raises(StoreError, match="target"):
        files.place_folder(tmp_path / "new", tmp_path / "target")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_swap_that_fails_is_undone(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "target", {"a": b"old"})
    with pytest.raises(StoreError, match=r"cannot replace .*target"):
        files.swap_folder(tmp_path / "missing", tmp_path / "target", tmp_path / "aside")
    assert (tmp_path / "target" / "a").read_bytes() == b"old"
    assert not (tmp_path / "aside").exists()


def test_a_system_that_cannot_flush_folders_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    files.write_bytes(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="is not a file"):
            files.read_bytes(path)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="is larger than 10 bytes"):
        files.read_bytes(tmp_path / "large", limit=10)
    assert files.read_bytes(tmp_path / "large", limit=11) == bytes(11)


def test_a_lock_is_held_once_and_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    lock = files.try_lock(path)
    assert lock is not None
    assert lock.in_place
    assert files.is_locked(path)
    assert files.try_lock(path) is None
    assert files.wait_for_lock(path, 0.02) is None
    lock.release()
    lock.release()
    assert not files.is_locked(path)
    again = files.wait_for_lock(path, 0.02)
    assert again is not None
    again.release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from actbench.store import files\n"
    code += "lock = files.try_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    command, here = [sys.executable, "-c", code, str(tmp_path / "lock")], Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert files.is_locked(tmp_path / "lock")
        assert files.try_lock(tmp_path / "lock") is None
        process.kill()
        process.wait()
    assert not files.is_locked(tmp_path / "lock")


def test_asking_whether_a_lock_is_held_does_not_block_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `is_locked` looks, it holds a shared lock for a moment; here the moment lasts until we sleep."""
    path = tmp_path / "lock"
    looking = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _seconds: os.close(looking))
    lock = files.try_lock(path)
    assert lock is not None
    lock.release()


def test_a_lock_file_deleted_just_before_locking_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "lock", fcntl.flock
    deletions = iter([path.unlink])

    def deleted_just_before(descriptor: int, operation: int) -> None:
        for delete in deletions:
            delete()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", deleted_just_before)
    lock = files.try_lock(path)
    assert lock is not None
    assert lock.in_place
    assert files.try_lock(path) is None
    lock.release()


def test_a_lock_whose_file_was_deleted_is_not_in_place(tmp_path: Path) -> None:
    lock = files.try_lock(tmp_path / "lock")
    assert lock is not None
    (tmp_path / "lock").unlink()
    assert not lock.in_place
    (tmp_path / "lock").touch()
    assert not lock.in_place
    lock.release()


def test_a_file_system_without_locks_grants_every_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            lock = files.try_lock(tmp_path / "lock")
            assert lock is not None
            stack.callback(lock.release)
        assert not files.is_locked(tmp_path / "lock")


def test_a_symbolic_link_cannot_be_a_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        files.try_lock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@quick
@given(json_values)
def test_whatever_is_stored_as_json_reads_back_strictly(value: Any) -> None:
    text = files.dump_json(value)
    assert text.isascii()
    assert files.load_json(text.encode()) == files.plain(value)


def test_json_has_no_nan_and_stores_numpy_values_as_numbers() -> None:
    stored = files.plain({"a": [math.nan, -math.inf, np.float32(0.5), np.int64(3), np.array([1.0, math.nan])]})
    assert stored == {"a": [None, None, 0.5, 3, [1.0, None]]}
    assert json.loads(files.dump_json(np.bool_(True))) is True
    with pytest.raises(TypeError, match="object cannot be stored as JSON"):
        files.dump_json({"a": object()})


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[Infinity]", b"\xff\xfe", b"[" * 200_000, b'{"a": 1} x'])
def test_anything_but_strict_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        files.load_json(data)
