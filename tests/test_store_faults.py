"""The results folder under fire: many processes at once, death at every step, full and read-only disks."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import record, rows_of, run_id, store_run

from actbench.errors import StoreError
from actbench.store import Store, files

WORKER = Path(__file__).with_name("store_worker.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(WORKER.parents[1])}
NEW, OLD = 0.99, 0.98


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of store_worker.py; all of them are killed when the test ends."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, str(WORKER), *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def check_whole(root: Path) -> None:
    """Whatever is there is whole, and runs.csv, if there, is a whole table of runs."""
    runs, problems = Store(root).load_all()
    assert problems == []
    assert [run.verify() for run in runs] == [[] for _ in runs]
    if (root / "runs.csv").exists():
        text = (root / "runs.csv").read_text()
        assert text.endswith("\n")
        assert len({line.count(",") for line in text.splitlines()}) == 1
        assert max(Counter(rows_of(root)).values(), default=1) == 1


def check_healed(root: Path, *, claims: tuple[str, ...] = ()) -> None:
    """After a new start: a row for each run, no leftovers."""
    check_whole(root)
    assert rows_of(root) == [run.run_id for run in Store(root).load_all()[0]]
    assert {path.name for path in (root / ".running").iterdir()} <= {"index.lock", *claims}


def test_32_processes_train_each_run_once(tmp_path: Path, start: Start) -> None:
    root = tmp_path / "results"
    seeds = list(range(8))
    processes = []
    for number in range(32):  # each has one run of its own and eight that all others want, too
        order = seeds[number % 8 :] + seeds[: number % 8]
        processes.append(start("train", root, *order, 100 + number))
    assert [process.wait() for process in processes] == [0] * 32
    expected = [*seeds, *range(100, 132)]
    assert sorted(map(int, (root / "trained.log").read_text().split())) == expected
    assert rows_of(root) == [run_id(seed) for seed in expected]
    check_healed(root)


def test_a_run_is_running_only_while_its_process_lives(tmp_path: Path, start: Start) -> None:
    store = Store(tmp_path / "results")
    store.prepare()
    process = start("hold", store.root)
    assert said(process) == "held"
    assert store.status(run_id()) == "running"
    with store.claim(run_id()) as claim:
        assert claim is None
    store.prepare()
    assert store.status(run_id()) == "running"
    kill(process)
    assert store.status(run_id()) == "interrupted"
    with store.claim(run_id()) as claim:
        assert claim is not None


def test_kill_9_at_any_moment_leaves_complete_files(tmp_path: Path, start: Start) -> None:
    draw = random.Random(0)
    root = tmp_path / "results"
    for _ in range(20):
        process = start("forever", root)
        assert said(process) == "ready"
        time.sleep(draw.uniform(0.0, 0.05))
        kill(process)
        check_whole(root)
    process = start("forever", root)
    assert [said(process), said(process)] == ["ready", "round"]
    kill(process)
    Store(root).prepare()
    check_healed(root, claims=(run_id(3), run_id(2)))
    assert [run.seed for run in Store(root).load_all()[0]] == [0, 1, 2, 3]


def test_a_reader_finds_only_complete_runs_while_others_write(tmp_path: Path, start: Start) -> None:
    root = tmp_path / "results"
    process = start("forever", root)
    assert [said(process), said(process)] == ["ready", "round"]
    for _ in range(500):
        runs, problems = Store(root).load_all()
        assert problems == []
        assert {run.run_id for run in runs} >= {run_id(2)}  # the one that is not replaced all the time
        assert all(run.row["test_accuracy"] == record(run.seed).metrics["test_accuracy"] for run in runs)
    assert process.poll() is None


@pytest.mark.parametrize("scenario", ["new", "failed", "force"])
def test_kill_9_at_every_step_leaves_the_old_run_or_the_new_one(tmp_path: Path, start: Start, scenario: str) -> None:
    process = start(scenario, tmp_path)
    accuracies = []
    while (line := said(process)).startswith("/"):
        root = Path(line)
        if root.exists():
            check_whole(root)
        Store(root).prepare()
        check_healed(root, claims=(run_id(),))
        found = {run.metrics["test_accuracy"] for run in Store(root).load_all()[0]}
        assert found <= ({NEW} if scenario == "new" else {OLD, NEW})
        assert found or scenario == "new"
        accuracies.append(NEW in found)
        with Store(root).claim(run_id(), force=True) as claim:
            assert claim is not None
            assert claim.finish(record())
        check_healed(root)
        shutil.rmtree(root)
    assert line == "ended 0"
    assert accuracies == sorted(accuracies)  # the old one up to some step, the new one from there on
    assert set(accuracies) == {False, True}
    assert len(accuracies) > 40


class FaultyOs:
    """`os`, but the calls that write fail from the n-th on: only that one, or all that follow."""

    COUNTED = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink")

    def __init__(self, fail_at: int | None, *, lasting: bool = False) -> None:
        self.calls, self.fail_at, self.lasting = 0, fail_at, lasting

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        return self._counted(function) if name in self.COUNTED else function

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            reads = function is os.open and not arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            self.calls += not reads
            over = self.fail_at is not None and self.calls >= self.fail_at
            if over and not reads and (self.lasting or self.calls == self.fail_at):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call


def attempt(root: Path, scenario: str, faulty: FaultyOs, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train the run on the faulty system; returns `stored`, or the error that a person would see."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", faulty)
        try:
            Store(root).prepare()
            with Store(root).claim(run_id(), force=scenario == "force") as claim:
                assert claim is not None
                claim.save_checkpoint(b"half way")
                assert claim.finish(record(metrics={"test_accuracy": NEW}))
        except StoreError as error:
            return str(error)
    return "stored"


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("scenario", ["new", "failed", "force", "damaged"])
def test_a_disk_that_fills_up_at_any_call_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, lasting: bool
) -> None:
    def set_up(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        store_run(root, 1)
        if scenario != "new":
            folder = store_run(root, status="failed" if scenario == "failed" else "done")
            if scenario == "damaged":
                (folder / "result.json").write_text("{")
        return root

    healthy = FaultyOs(None)
    assert attempt(set_up("healthy"), scenario, healthy, monkeypatch) == "stored"
    assert healthy.calls > 25
    for number in range(1, healthy.calls + 1):
        root = set_up(str(number))
        outcome = attempt(root, scenario, FaultyOs(number, lasting=lasting), monkeypatch)
        assert outcome == "stored" or "No space left on device" in outcome
        Store(root).prepare()
        runs, problems = Store(root).load_all()
        assert [run.verify() for run in runs] == [[] for _ in runs]
        found = {run.seed: run.metrics["test_accuracy"] for run in runs}
        assert found[1] == record(1).metrics["test_accuracy"]
        if outcome == "stored":
            assert found[0] == NEW
        elif scenario in ("failed", "force"):
            assert found[0] in (OLD, NEW)
        elif scenario == "damaged":
            kept = [*root.glob(".damaged/*/result.json"), *(problem.path for problem in problems)]
            assert len(kept) == 1
        with Store(root).claim(run_id(), force=True) as claim:
            assert claim is not None
            assert claim.finish(record())
        check_healed(root)


def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.prepare()
    with store.claim(run_id()) as claim:
        assert claim is not None
        claim.save_checkpoint(b"half way")
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", FaultyOs(4, lasting=True))
            with pytest.raises(StoreError, match=rf"cannot write .*{run_id()}.*: No space left on device \(free some"):
                claim.finish(record())
        assert sorted(path.name for path in claim.folder.iterdir()) == ["checkpoint", "lock"]
        assert claim.load_checkpoint() == b"half way"
        assert claim.finish(record())


@contextlib.contextmanager
def as_nobody() -> Iterator[Path]:
    """Without the rights of root, for whom nothing is read-only; gives a folder that nobody may only read."""
    folder = Path(tempfile.mkdtemp())
    store_run(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_read_only_results_can_be_read_and_refuse_training_up_front() -> None:
    with as_nobody() as root:
        store = Store(root)
        with pytest.raises(StoreError, match=r"cannot write .*: Permission denied \(choose a writable folder"):
            store.prepare()
        with (
            pytest.raises(StoreError, match=r"cannot claim .*: Permission denied \(choose a writable folder"),
            store.claim(run_id(1)),
        ):
            pass
        with pytest.raises(StoreError, match=r"cannot create .*: Permission denied"):
            Store(root / run_id() / "results").prepare()
        assert store.status(run_id()) == "done"
        assert len(store.rows()[0]) == 1
        assert store.load(run_id()).verify() == []
