"""runs.csv: always complete, always what the run folders say, whoever wrote last."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import record, rows_of, run_id, store_run
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.errors import StoreError
from actbench.store import Store, files, index
from actbench.store.csv import parse_table
from actbench.store.run import COLUMNS


def place(root: Path, seed: int, name: str = "relu", **changes: object) -> None:
    """Put a run folder into `root` behind the back of runs.csv."""
    made = record(seed, name, **changes)
    (root / made.run_id).mkdir()
    for file, data in made.files().items():
        (root / made.run_id / file).write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".running").mkdir()
    return tmp_path


def text_of(root: Path) -> str:
    return (root / "runs.csv").read_bytes().decode()


def test_runs_are_listed_by_name_and_then_by_seed(root: Path) -> None:
    for name, seed in (("relu", 10), ("tanh", 0), ("relu", 2), ("gelu-2", 1)):
        (root / run_id(seed, name)).mkdir()
    for other in ("benchmarks", "relu-s1-123", "RELU-s1-0123456789", ".running/x-s1-0123456789"):
        (root / other).mkdir()
    assert index.run_ids(root) == [run_id(1, "gelu-2"), run_id(2), run_id(10), run_id(0, "tanh")]
    assert index.run_ids(root / "missing") == []


def test_folders_without_a_row_are_read_and_rows_without_a_folder_dropped(root: Path) -> None:
    for seed in range(3):
        place(root, seed)
    index.update(root)
    assert rows_of(root) == [run_id(0), run_id(1), run_id(2)]
    shutil.rmtree(root / run_id(1))
    place(root, 3)
    index.update(root)
    assert rows_of(root) == [run_id(0), run_id(2), run_id(3)]


def test_the_columns_come_in_the_agreed_order_and_grow_when_a_run_brings_more(root: Path) -> None:
    place(root, 0)
    index.update(root)
    assert text_of(root).splitlines()[0] == ",".join(COLUMNS)
    place(root, 1, metrics={"zeta": 1, "alpha": 0.5})
    index.update(root)
    rows = parse_table(text_of(root))
    assert tuple(rows[0]) == (*COLUMNS, "alpha", "zeta")
    assert [(row["test_accuracy"], row["alpha"], row["zeta"]) for row in rows] == [(0.98, None, None), (None, 0.5, 1)]
    place(root, 2)
    index.update(root)
    assert [row["alpha"] for row in parse_table(text_of(root))] == [None, 0.5, None]


def test_an_added_row_is_the_one_that_a_rebuild_writes(root: Path) -> None:
    for seed, name in enumerate(("plain", 'a,"b"', "two\nlines", "cr\rlf\r\n", "=1+1", "'x", "é ü", "5", "")):
        place(root, seed, flat={"name": name, "lr": 10.0**-seed})
        index.update(root)
    added = text_of(root)
    assert [row["name"] for row in parse_table(added)][2:6] == ["two\nlines", "cr\rlf\r\n", "=1+1", "'x"]
    assert len(list(csv.reader(io.StringIO(added, newline="")))) == 10
    (root / "runs.csv").unlink()
    index.update(root)
    assert text_of(root) == added
    assert [row["name"] for row in parse_table(added)] == [row["name"] for row in Store(root).rows()[0]]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet="a,\"\n\r;='", max_size=6), max_size=4), st.data())
def test_a_truncated_table_is_never_misread(names: list[str], data: st.DataObject) -> None:
    """What is left of runs.csv is used only as far as it is intact; the rest comes from the folders."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed, name in enumerate(names):
            place(root, seed, flat={"name": name})
        index.update(root)
        complete = text_of(root) if names else ",".join(COLUMNS) + "\n"
        for _ in range(3):
            (root / "runs.csv").write_bytes(complete.encode()[: data.draw(st.integers(0, len(complete)))])
            index.update(root)
            assert text_of(root) == complete


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: text.replace(",", ";"),
        lambda text: text.replace("test_accuracy", "accuracy", 1),
        lambda text: text + text.splitlines()[-1] + "\n",
        lambda text: text + '"open\n',
        lambda text: text.replace(",done,", ",done", 1),
        lambda text: "",
        lambda text: "\x00\x01",
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_a_damaged_table_is_rewritten_from_the_folders(root: Path, spoil: Callable[[str], str]) -> None:
    for seed in range(3):
        place(root, seed)
    index.update(root)
    right = text_of(root)
    (root / "runs.csv").write_text(spoil(right), newline="")
    index.update(root)
    assert text_of(root) == right
    (root / "runs.csv").write_bytes(b"\xff\xfe")
    index.update(root)
    assert text_of(root) == right


def test_damaged_runs_have_no_row_and_do_no_harm(root: Path) -> None:
    for seed in range(3):
        place(root, seed)
    (root / run_id(1) / "result.json").write_text("{")
    index.update(root)
    assert rows_of(root) == [run_id(0), run_id(2)]


def test_a_run_that_is_claimed_is_read_again(root: Path) -> None:
    place(root, 0)
    index.update(root)
    shutil.rmtree(root / run_id(0))
    place(root, 0, metrics={"test_accuracy": 0.5})
    (root / ".running" / run_id(0)).mkdir()
    index.update(root)
    assert parse_table(text_of(root))[0]["test_accuracy"] == 0.5


def test_an_unchanged_table_is_not_rewritten(root: Path) -> None:
    index.update(root)
    assert not (root / "runs.csv").exists()
    place(root, 0)
    index.update(root)
    before = (root / "runs.csv").stat()
    index.update(root)
    assert (root / "runs.csv").stat().st_ino == before.st_ino
    shutil.rmtree(root / run_id(0))
    index.update(root)
    assert text_of(root) == ",".join(COLUMNS) + "\n"


def test_without_a_lock_a_run_added_meanwhile_is_not_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer places a run and writes its row between our listing and our writing."""
    monkeypatch.setattr(fcntl, "flock", lambda _descriptor, _operation: None)
    place(root, 0)
    write = files.write_bytes
    others = iter([1, 2])

    def interrupted(path: Path, data: bytes, *, beside: Path | None = None) -> None:
        for seed in others:
            place(root, seed)
            index.update(root)
        write(path, data, beside=beside)

    monkeypatch.setattr(files, "write_bytes", interrupted)
    index.update(root)
    assert rows_of(root) == [run_id(0), run_id(1), run_id(2)]


def test_the_table_is_right_even_if_its_lock_is_unavailable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(root, 0)
    lock = files.try_lock(root / ".running" / "index.lock")
    assert lock is not None
    monkeypatch.setattr(index, "LOCK_TIMEOUT_S", 0.01)
    index.update(root)
    lock.release()
    assert rows_of(root) == [run_id(0)]
    (root / ".running" / "index.lock").unlink()
    (root / ".running" / "index.lock").symlink_to(root / "elsewhere")
    place(root, 1)
    index.update(root)
    assert rows_of(root) == [run_id(0), run_id(1)]
    assert not (root / "elsewhere").exists()


def test_temporary_files_of_killed_writers_are_removed(root: Path) -> None:
    left = root / ".running" / files.temporary_name("runs.csv")
    left.write_text("half a tab")
    place(root, 0)
    index.update(root)
    assert sorted(path.name for path in (root / ".running").iterdir()) == ["index.lock"]
    assert sorted(path.name for path in root.iterdir()) == sorted([".running", run_id(0), "runs.csv"])


def test_a_table_that_cannot_be_written_is_an_error(root: Path) -> None:
    place(root, 0)
    (root / "runs.csv").mkdir()
    with pytest.raises(StoreError, match=r"runs.csv: Is a directory"):
        index.update(root)
    with pytest.raises(StoreError, match=r"cannot write .*missing/runs.csv: No such file"):
        index.update(root / "missing")
    os.rename(root / ".running", root / "elsewhere")  # noqa: PTH104
    (root / ".running").symlink_to(root / "elsewhere")
    with pytest.raises(StoreError, match=r".running is a symbolic link"):
        index.update(root)


def test_five_hundred_runs_are_one_row_each(root: Path) -> None:
    for seed in range(500):
        place(root, seed)
    store_run(root, 500)
    assert rows_of(root) == [run_id(seed) for seed in range(501)]
    rows, problems = Store(root).rows()
    assert problems == []
    assert [row["seed"] for row in rows] == list(range(501))
