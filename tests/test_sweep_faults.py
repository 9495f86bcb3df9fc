"""Whole sweeps under fire: failing lanes, deleted folders, full and read-only disks, flipped bytes, hostile names."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_sweep import Watcher, tiny

from actbench import cli, sweeps
from actbench.config import Run
from actbench.engine.measure import Measurer
from actbench.store import RunRecord, Store
from configs import HOSTILE

RUNS = [Run(tiny(), seed) for seed in range(4)]
CONFIG = "name: tiny\ndataset: digits\nhidden: [8]\nepochs: 1\ntrain_limit: 100\nseeds: 4\n"


class Acting(Watcher):
    """A watcher that does something when a run has ended, or has trained an epoch."""

    def __init__(
        self, on_end: Callable[[Run], object] | None = None, on_epoch: Callable[[Run], object] | None = None
    ) -> None:
        super().__init__()
        self._end, self._epoch = on_end, on_epoch

    def on_epoch(self, run: Run, row: object) -> None:
        if self._epoch is not None:
            self._epoch(run)

    def on_end(self, run: Run, record: RunRecord) -> None:
        super().on_end(run, record)
        if self._end is not None:
            self._end(run)


def train(store: Store, watcher: Watcher | None = None, runs: list[Run] = RUNS, **options: Any) -> sweeps.Report:
    return sweeps.run(sweeps.make_plan(runs, store), store, sweeps.Options(threads=1, **options), watcher or Watcher())


def contents(root: Path) -> dict[str, bytes]:
    """What training has made, apart from times."""
    names = ("model.safetensors", "neurons.csv", "config.yaml")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in root.glob(f"*/{name}")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


# --- a run that fails ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("odd"), ZeroDivisionError()])
def test_a_lane_that_breaks_fails_alone_and_is_tried_again(
    store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Measurer.measure

    def breaking(self: Measurer, *given: Any) -> None:
        measure(self, *given)
        if self.stack.runs[0].seed == 1:
            raise error

    monkeypatch.setattr(Measurer, "measure", breaking)
    watcher = Watcher()
    report = train(store, watcher)
    assert list(report.failed) == [RUNS[1].run_id]
    assert watcher.ended[0][:2] == (RUNS[1].run_id, "failed")  # told at once: it broke before the others ended
    assert "Traceback" in str(store.load(RUNS[1].run_id).error)
    assert len(report.trained) == 3
    monkeypatch.undo()
    assert train(store).trained == {RUNS[1].run_id: "done"}
    assert store.status(RUNS[1].run_id) == "done"


def test_the_end_names_each_failure_with_the_command_that_retries_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "my results"

    def breaking(self: Measurer, *given: Any) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(Measurer, "measure", breaking)
    assert cli.run(["train", "-c", str(config), "--results", str(results), "--seeds", "2"]) == 1
    shown = capsys.readouterr().err
    assert "2 runs failed:" in shown
    folder = next(results.glob("*-s1-*"))
    command = f"actbench train -c '{folder}/config.yaml' --results '{results}'"
    assert f"{folder.name}: RuntimeError: odd; to retry: {command}" in shown
    monkeypatch.undo()
    assert cli.run(["train", "-c", f"{folder}/config.yaml", "--results", str(results), "-q"]) == 0
    assert Store(results).status(folder.name) == "done"
    assert len(Store(results).rows()[0]) == 2


def test_no_command_that_must_fail_is_named_for_a_run_of_a_newer_actbench(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    command = ["train", "-c", str(config), "--results", str(results), "--seeds", "1"]
    assert cli.run(command) == 0
    (folder,) = results.glob("*-s0-*")
    (folder / "result.json").write_text('{"format_version": 9, "provenance": {"actbench_version": "7.5.0"}}')
    capsys.readouterr()
    assert cli.run(command) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"  {folder.name}: ")]
    assert "written by a newer actbench, 7.5.0 (format 9; this one reads 2): upgrade actbench to use this run" in line
    assert "to retry" not in line
    for other in (["show", folder.name], ["reproduce", folder.name]):
        assert cli.run([*other, "--results", str(results)]) == 1
        said = capsys.readouterr().err
        assert "upgrade actbench" in said
        assert "to repair" not in said
    assert cli.run([*command, "--force"]) == 0  # the other way out that it names


def test_fail_fast_says_how_many_runs_are_left(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaking(self: Measurer, *given: Any) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(Measurer, "measure", breaking)
    assert cli.run(["sweep", "-c", str(config), "--results", str(tmp_path / "r"), "--fail-fast", "--threads", "1"]) == 1
    shown = capsys.readouterr().err
    assert "1 run failed:" in shown
    assert "stopped; kept 3 unfinished runs" in shown


# --- folders that vanish -------------------------------------------------------------------------------------


def test_a_claim_deleted_while_its_run_trains_fails_that_run_only(store: Store) -> None:
    lost = RUNS[2].run_id
    watcher = Acting(on_epoch=lambda run: run.run_id == lost and shutil.rmtree(store.root / ".running" / lost, True))
    report = train(store, watcher)
    assert list(report.failed) == [lost]
    assert "was deleted or replaced during training; train the run again" in report.failed[lost]
    assert len(report.trained) == 3
    assert train(store).trained == {lost: "done"}


def test_a_results_folder_deleted_while_runs_train_is_told_and_can_be_filled_again(store: Store) -> None:
    report = train(store, Acting(on_epoch=lambda run: shutil.rmtree(store.root, ignore_errors=True)))
    assert set(report.failed) == {run.run_id for run in RUNS}
    assert all("was deleted" in error for error in report.failed.values())
    assert len(train(store).trained) == 4


# --- disks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_is_finished_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    store, filler = Store(small_disk / "results"), small_disk / "filler"

    def fill(_run: Run) -> None:
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    report = train(store, Acting(on_end=fill))
    assert list(report.trained) == [RUNS[0].run_id]
    assert set(report.failed) == {run.run_id for run in RUNS[1:]}
    assert all("No space left on device (free some space" in error for error in report.failed.values())
    assert store.load(RUNS[0].run_id).verify() == []
    with pytest.raises(Exception, match=r"this disk has .* MiB free, but .* are needed; free some space"):
        train(store)  # now it is known beforehand
    filler.unlink()
    assert set(train(store).trained) == {run.run_id for run in RUNS[1:]}
    assert [run.verify() for run in store.load_all()[0]] == [[]] * 4


def test_a_limit_on_the_size_of_files_is_told_and_nothing_half_written_is_left(config: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs limits as Unix knows them")
    results = tmp_path / "results"
    command = [sys.executable, "-m", "actbench", "train", "-c", str(config), "--results", str(results)]
    done = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),  # weights are larger
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("File too large") >= 4
    assert "Traceback" not in done.stderr
    assert Store(results).load_all() == ([], [])
    assert cli.run(["train", "-c", str(config), "--results", str(results), "-q"]) == 0
    assert len(Store(results).rows()[0]) == 4


def test_a_read_only_results_folder_is_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(tempfile.mkdtemp())  # where a stranger may look: not below pytest's own
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "results").mkdir()
    root = os.geteuid() == 0  # for whom nothing is read-only
    (folder / "results").chmod(0o555)
    folder.chmod(0o755)
    if root:
        os.seteuid(65534)
    try:
        code = cli.run(["train", "-c", str(folder / "tiny.yaml"), "--results", str(folder / "results")])
    finally:
        if root:
            os.seteuid(0)
        (folder / "results").chmod(0o755)
        shutil.rmtree(folder)
    shown = capsys.readouterr().err
    assert code == 1
    assert "Permission denied (choose a writable folder with --results)" in shown
    assert "epoch 1/" not in shown


# --- stored files --------------------------------------------------------------------------------------------


def test_a_byte_flipped_in_any_stored_file_is_named_or_healed_and_nothing_else_suffers(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(store)
    whole, table = contents(store.root), (store.root / "runs.csv").read_bytes()
    files = [path for path in store.root.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 4 * 5
    for path in files:
        before = path.read_bytes()
        position = len(before) // 2
        path.write_bytes(before[:position] + bytes([before[position] ^ 1]) + before[position + 1 :])
        runs, problems = store.load_all()
        wrong = {problem.path for run in runs for problem in run.verify()} | {problem.path for problem in problems}
        assert wrong == ({path.parent} if path.parent != store.root else set())
        assert cli.run(["compare", str(store.root), "--format", "csv"]) == 0
        assert (path.parent.name in capsys.readouterr().err) == (path.name == "result.json")
        report = train(store)
        if path.name == "result.json":  # what is no whole run any more is trained again, to the same bits
            assert report.trained == {path.parent.name: "done"}
        else:
            assert report.trained == {}
            path.write_bytes(before)
        assert contents(store.root) == whole
        rows, _ = store.rows()
        assert len(rows) == 4
    (store.root / "runs.csv").unlink()
    store.catch_up()
    lines = [line.split(",") for line in (store.root / "runs.csv").read_text().splitlines()]
    assert [line[0] for line in lines] == [line.split(",")[0] for line in table.decode().splitlines()]


def test_other_versions_of_what_is_done_are_pointed_out_in_one_note(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "-c", str(config), "--results", str(tmp_path / "results")]
    assert cli.run([*command, "-q"]) == 0
    assert cli.run(command) == 0
    assert "other versions" not in capsys.readouterr().err
    before = sweeps.torch_version()
    monkeypatch.setattr(sys.modules["actbench.sweeps.plan"], "torch_version", lambda: "99.0")
    assert cli.run(command) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "other versions" in line]
    assert len(notes) == 1
    assert f"4 by torch {before}" in notes[0]
    assert "--force" in notes[0]


# --- names ---------------------------------------------------------------------------------------------------


def test_names_of_any_kind_get_folders_of_their_own_in_results_and_come_back_as_they_were(
    store: Store, tmp_path: Path
) -> None:
    names = [name for name in HOSTILE if name.strip()] + ["Relu", "relu", "RELU"]
    runs = [Run(tiny(name=name, hidden=[4]), seed) for seed, name in enumerate(names)]
    report = train(store, runs=runs)
    assert report.failed == {}
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    folders = [path.name for path in store.root.iterdir() if path.name not in ("runs.csv", ".running")]
    assert len({name.casefold() for name in folders}) == len(names)
    rows, problems = store.rows()
    assert problems == []
    assert {row["seed"]: row["name"] for row in rows} == dict(enumerate(names))
    again = sweeps.make_plan([Run(tiny(name=row["name"], hidden=[4]), row["seed"]) for row in rows], store)
    assert again.open == []
