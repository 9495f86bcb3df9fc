"""The results folder from outside: claimed, stored, loaded, and never harmed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_runs import record, rows_of, run_id, store_run

from actbench.errors import StoreError
from actbench.store import RunRecord, Store, StoredProblem, files, index
from actbench.store.csv import parse_table

HEAVY = ("torch", "torchvision", "sklearn", "ray", "scipy", "numpy", "safetensors", "pydantic", "filelock")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    notes: list[str] = []
    made = Store(tmp_path / "results", notes.append)
    made.notes = notes  # type: ignore[attr-defined]
    made.prepare()
    return made


def notes_of(store: Store) -> list[str]:
    return store.notes  # type: ignore[attr-defined, no-any-return]


def accuracy_of(store: Store, seed: int = 0) -> object:
    (row,) = (row for row in parse_table((store.root / "runs.csv").read_text()) if row["seed"] == seed)
    stored = store.load(run_id(seed)).metrics["test_accuracy"]
    assert row["test_accuracy"] == stored
    return stored


def better() -> RunRecord:
    return record(metrics={"test_accuracy": 0.99})


def train(store: Store) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        claim.finish(record())


def heavy_modules(code: str) -> list[str]:
    """Which heavy modules a fresh Python has imported after running `code`."""
    code += f"\nimport json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    here = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    imported: list[str] = json.loads(done.stdout)
    return imported


def test_reading_the_results_imports_nothing_heavy(store: Store) -> None:
    store_run(store.root)
    code = f"from actbench.store import Store\nrun = Store({str(store.root)!r}).load_all()[0][0]\n"
    code += "run.row, run.epochs(), run.neurons(), run.verify()"
    assert heavy_modules(code) == []
    assert heavy_modules(f"{code}\nimport numpy") == ["numpy"]


def test_a_run_goes_from_unknown_to_running_to_done(store: Store) -> None:
    assert store.status(run_id()) is None
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.folder == store.root / ".running" / run_id()
        assert store.status(run_id()) == "running"
        assert claim.finish(record())
        assert store.status(run_id()) == "done"
    assert store.status(run_id()) == "done"
    assert rows_of(store.root) == [run_id()]
    assert [path.name for path in (store.root / ".running").iterdir()] == ["index.lock"]


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_a_finished_run_is_not_claimed_again(store: Store, status: str) -> None:
    folder = store_run(store.root, status=status)
    before = folder.stat().st_ino
    with store.claim(run_id()) as claim:
        assert claim is None
    assert store.status(run_id()) == status
    assert folder.stat().st_ino == before
    assert not (store.root / ".running" / run_id()).exists()


def test_a_run_has_one_claim_at_a_time(store: Store) -> None:
    with store.claim(run_id()) as first, store.claim(run_id()) as second, store.claim(run_id(1)) as other:
        assert first is not None
        assert second is None
        assert other is not None
    with store.claim(run_id()) as again:
        assert again is not None


def test_a_run_left_without_a_result_is_interrupted_and_keeps_its_checkpoint(store: Store) -> None:
    with contextlib.suppress(KeyboardInterrupt), store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.load_checkpoint() is None
        claim.save_checkpoint(b"epoch 1")
        claim.save_checkpoint(b"epoch 2\n\x00")
        raise KeyboardInterrupt
    assert store.status(run_id()) == "interrupted"
    store.prepare()
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.load_checkpoint() == b"epoch 2\n\x00"
        assert claim.finish(record())
    assert notes_of(store) == []
    assert not claim.folder.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:5] + b"x" + data[6:], lambda _: b""])
def test_a_damaged_checkpoint_is_noted_and_discarded(store: Store, damage: object) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        claim.save_checkpoint(b"epoch 1")
        path = claim.folder / "checkpoint"
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        assert claim.load_checkpoint() is None
        assert not path.exists()
        assert claim.load_checkpoint() is None
    (note,) = notes_of(store)
    assert f"{path}: the checkpoint is damaged" in note


def test_a_failed_run_is_stored_keeps_its_checkpoint_and_is_tried_again(store: Store) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        claim.save_checkpoint(b"epoch 1")
        assert claim.finish(record(status="failed", error="Traceback: boom", metrics={}))
    assert store.status(run_id()) == "failed"
    assert store.load(run_id()).error == "Traceback: boom"
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.load_checkpoint() == b"epoch 1"
        assert store.status(run_id()) == "running"
        assert claim.finish(record())
    assert store.status(run_id()) == "done"
    assert accuracy_of(store) == 0.98
    assert rows_of(store.root) == [run_id()]


def test_force_trains_again_and_keeps_the_old_result_until_then(store: Store) -> None:
    store_run(store.root)
    with store.claim(run_id(), force=True) as claim:
        assert claim is not None
        claim.save_checkpoint(b"epoch 1")
        assert accuracy_of(store) == 0.98
    with store.claim(run_id(), force=True) as claim:
        assert claim is not None
        assert claim.load_checkpoint() is None
        assert claim.finish(better())
    assert accuracy_of(store) == 0.99
    assert sorted(path.name for path in store.root.iterdir()) == [".running", run_id(), "runs.csv"]
    assert [path.name for path in (store.root / ".running").iterdir()] == ["index.lock"]


def test_a_failure_never_replaces_a_run_that_is_done(store: Store) -> None:
    store_run(store.root)
    with store.claim(run_id(), force=True) as claim:
        assert claim is not None
        assert not claim.finish(record(status="failed", error="boom"))
    assert store.status(run_id()) == "done"
    assert not claim.folder.exists()


def test_a_record_finishes_only_its_own_claim(store: Store) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        with pytest.raises(ValueError, match="cannot finish the claim"):
            claim.finish(record(1))


def test_without_working_locks_the_first_result_wins_quietly(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda _descriptor, _operation: None)
    with store.claim(run_id()) as first, store.claim(run_id()) as second, store.claim(run_id()) as third:
        assert first is not None
        assert second is not None
        assert third is not None
        write_folder = files.write_folder

        def while_first_finishes(folder: Path, contents: dict[str, bytes]) -> None:
            monkeypatch.setattr(files, "write_folder", write_folder)
            write_folder(folder, contents)
            assert first.finish(record())

        monkeypatch.setattr(files, "write_folder", while_first_finishes)
        assert not second.finish(better())
        third.save_checkpoint(b"of no use any more")
        assert not third.finish(better())
    assert accuracy_of(store) == 0.98
    assert rows_of(store.root) == [run_id()]
    assert notes_of(store) == []


def test_a_result_stored_by_another_machine_meanwhile_stays(store: Store) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        (store.root / run_id()).mkdir()
        for name, data in record().files().items():
            (store.root / run_id() / name).write_bytes(data)
        assert not claim.finish(better())
    assert accuracy_of(store) == 0.98
    assert not claim.folder.exists()


def test_a_claim_deleted_under_a_running_process_fails_that_run_only(store: Store) -> None:
    with store.claim(run_id()) as claim, store.claim(run_id(1)) as other:
        assert claim is not None
        assert other is not None
        shutil.rmtree(claim.folder)
        for act in (lambda: claim.save_checkpoint(b"x"), lambda: claim.finish(record())):
            with pytest.raises(StoreError, match="was deleted or replaced during training"):
                act()
        with store.claim(run_id()) as thief:
            assert thief is not None
            with pytest.raises(StoreError, match="was deleted or replaced"):
                claim.finish(record())
        assert other.finish(record(1))
    assert rows_of(store.root) == [run_id(1)]


def test_a_run_folder_deleted_by_hand_leaves_the_table_and_can_be_trained_again(store: Store) -> None:
    store_run(store.root)
    store_run(store.root, 1)
    shutil.rmtree(store.root / run_id())
    assert [row["run_id"] for row in store.rows()[0]] == [run_id(1)]
    store.prepare()
    assert rows_of(store.root) == [run_id(1)]
    store_run(store.root)
    assert rows_of(store.root) == [run_id(), run_id(1)]


def test_a_damaged_run_is_trained_again_and_the_old_folder_kept(store: Store) -> None:
    folder = store_run(store.root)
    (folder / "result.json").write_text("my notes")
    assert store.status(run_id()) == "damaged"
    with pytest.raises(StoreError, match=r"result.json is truncated, or not JSON"):
        store.load(run_id())
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.finish(record())
    assert store.status(run_id()) == "done"
    (kept,) = (store.root / ".damaged").iterdir()
    assert (kept / "result.json").read_text() == "my notes"
    (note,) = notes_of(store)
    assert str(kept) in note
    assert store.load_all()[1] == []


@pytest.mark.parametrize("name", ["model.safetensors", "epochs.csv", "config.yaml"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_run_with_a_file_that_is_cut_or_gone_is_open_and_still_compared(store: Store, name: str, damage: str) -> None:
    weights = {"w": np.ones(3, dtype=np.float32)}
    folder = store_run(store.root, weights=weights)
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    assert store.status(run_id()) == "damaged"
    assert store.result(run_id()) is None
    assert len(store.rows()[0]) == 1
    store.prepare()
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.finish(record(weights=weights))
    assert store.load(run_id()).verify() == []
    (kept,) = (store.root / ".damaged").iterdir()
    assert kept.name.startswith(run_id())


def test_a_run_of_a_newer_actbench_is_left_alone_unless_forced(store: Store) -> None:
    folder = store_run(store.root)
    (folder / "result.json").write_text('{"format_version": 3}')
    assert store.status(run_id()) == "newer"
    with pytest.raises(StoreError, match=r"newer actbench .*upgrade actbench .*--force"), store.claim(run_id()):
        pass
    with store.claim(run_id(), force=True) as claim:
        assert claim is not None
        assert claim.finish(record())
    assert store.status(run_id()) == "done"
    assert len(list((store.root / ".damaged").iterdir())) == 1


def test_a_run_that_cannot_be_read_right_now_does_not_count_as_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_run(store.root)
    monkeypatch.setattr("actbench.store.run.RESULT", "x" * 300)
    with pytest.raises(StoreError, match="File name too long; it stays untouched"), store.claim(run_id()):
        pass
    assert "cannot be read: File name too long" in store.rows()[1][0].reason


@pytest.mark.parametrize("place", ["run", "claim", "lock", "running"])
def test_nothing_is_written_through_a_symbolic_link(store: Store, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    running = store.root / ".running"
    if place == "running":
        shutil.rmtree(running)
    elif place == "lock":
        (running / run_id()).mkdir()
    link = {
        "run": store.root / run_id(),
        "claim": running / run_id(),
        "lock": running / run_id() / "lock",
        "running": running,
    }[place]
    link.symlink_to(outside)
    with pytest.raises(StoreError, match=f"{link} is a symbolic link"):
        train(store)
    assert list(outside.iterdir()) == []


def test_a_link_created_during_training_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with store.claim(run_id()) as claim:
        assert claim is not None
        (store.root / run_id()).symlink_to(tmp_path / "outside")
        with pytest.raises(StoreError, match="is a symbolic link"):
            claim.finish(record())
        (store.root / run_id()).unlink()
        assert claim.finish(record())
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("link", [".running/" + run_id(), ".running/" + run_id() + "/lock"])
def test_a_bad_claim_of_a_finished_run_does_not_stop_the_next_start(store: Store, link: str) -> None:
    store_run(store.root)
    path = store.root / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(store.root / "nowhere")
    store.prepare()
    assert "is a symbolic link" in notes_of(store)[0]
    assert path.is_symlink()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc", "a/b", "relu", "Relu-s0-0123456789", "relu-s0-0123456789\n", "r\x00-s0-0123456789"],
)
def test_anything_but_a_run_id_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="is not a run id"):
        store.load(name)
    with pytest.raises(StoreError, match="is not a run id"):
        store.status(name)
    with pytest.raises(StoreError, match="is not a run id"), store.claim(name):
        pass


def test_an_unknown_run_suggests_the_nearest(store: Store) -> None:
    store_run(store.root)
    with pytest.raises(StoreError, match=f"no ended run 'rely-s0-0000000000'; did you mean '{run_id()}'"):
        store.load("rely-s0-0000000000")


def test_complete_runs_load_beside_things_that_are_not_runs(store: Store) -> None:
    for seed in (10, 2, 0):
        store_run(store.root, seed)
    root = store.root
    for ignored in ("benchmarks", "reference", ".git", ".hidden-s0-0123456789", "my-s0-notes"):
        (root / ignored).mkdir()
    (root / "README.md").write_text("about")
    (root / run_id(4)).mkdir()
    (root / run_id(5)).write_text("a file")
    shutil.copytree(root / run_id(0), root / run_id(6))
    shutil.copytree(root / run_id(0), root / "best run")
    (root / "Relu-s1-0123456789").mkdir()
    runs, problems = store.load_all()
    assert [run.seed for run in runs] == [0, 2, 10]
    assert [(problem.path.name, problem.reason.split(";")[0]) for problem in problems] == [
        (run_id(4), "has no result.json"),
        (run_id(5), "is not a folder"),
        (run_id(6), f"result.json belongs to run {run_id(0)!r}: the folder was renamed or copied"),
        ("Relu-s1-0123456789", "is not named like a run"),
        ("best run", "is not named like a run"),
    ]
    assert store.rows() == ([run.row for run in runs], problems)
    (root / "runs.csv").unlink()
    store.catch_up()
    assert rows_of(root) == [run_id(0), run_id(2), run_id(10)]


def test_a_missing_folder_is_not_an_empty_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "resluts")
    for act in (store.load_all, store.rows, lambda: index.update(store.root)):
        with pytest.raises(StoreError, match="resluts"):
            act()
    assert store.status(run_id()) is None
    assert not store.root.exists()
    (tmp_path / "empty").mkdir()
    assert Store(tmp_path / "empty").rows() == ([], [])


def test_a_folder_that_cannot_hold_results_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="file is a file, not a folder; choose a folder with --results"):
        Store(tmp_path / "file").prepare()
    with pytest.raises(StoreError, match=r"cannot create .*file/results/.running: Not a directory"):
        Store(tmp_path / "file" / "results").prepare()
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(StoreError, match="this disk has 3 MiB free, but 16 MiB are needed; free some space"):
        Store(tmp_path / "results").prepare()
    Store(tmp_path / "results").prepare(need_bytes=2**20)


def test_the_results_folder_itself_may_be_a_link_to_a_larger_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    Store(tmp_path / "results").prepare()
    store_run(tmp_path / "results")
    assert (tmp_path / "disk" / run_id() / "result.json").is_file()


def test_the_next_start_cleans_up_after_a_crash(store: Store) -> None:
    store_run(store.root)
    swapped = store.root / ".running" / run_id()
    swapped.mkdir()
    (store.root / run_id()).rename(swapped / ".old.0123.tmp")
    finished = store_run(store.root, 1)
    (store.root / ".running" / finished.name / ".new.0123.tmp").mkdir(parents=True)
    (store.root / "runs.csv").unlink()
    store.prepare()
    assert store.status(run_id()) == "done"
    assert rows_of(store.root) == [run_id(), run_id(1)]
    assert [path.name for path in (store.root / ".running").iterdir()] == ["index.lock"]


def test_the_next_start_leaves_live_claims_alone(store: Store) -> None:
    with store.claim(run_id()) as claim:
        assert claim is not None
        claim.save_checkpoint(b"x")
        left = claim.folder / ".old.0123.tmp"
        left.mkdir()
        Store(store.root).prepare()
        assert left.exists()
        assert claim.load_checkpoint() == b"x"


def test_a_new_claim_removes_what_a_dead_process_left(store: Store) -> None:
    folder = store.root / ".running" / run_id()
    (folder / ".new.0123.tmp").mkdir(parents=True)
    (folder / ".new.0123.tmp" / "config.yaml").write_text("name: x")
    (folder / ".checkpoint.4567.tmp").write_text("half")
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_run_is_stored_even_if_its_row_cannot_be_written(store: Store) -> None:
    (store.root / "runs.csv").mkdir()
    with store.claim(run_id()) as claim:
        assert claim is not None
        assert claim.finish(record())
    assert store.status(run_id()) == "done"
    (note,) = notes_of(store)
    assert f"runs.csv: Is a directory; {run_id()} is stored" in note
    (store.root / "runs.csv").rmdir()
    store.prepare()
    assert rows_of(store.root) == [run_id()]
    assert [path.name for path in (store.root / ".running").iterdir()] == ["index.lock"]


def test_environment_variables_are_never_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-very-secret-token")
    folder = store_run(store.root)
    assert all(b"a-very-secret-token" not in path.read_bytes() for path in folder.iterdir())
    assert os.environ["HF_TOKEN"] == "a-very-secret-token"


def test_a_problem_is_one_line(tmp_path: Path) -> None:
    assert str(StoredProblem(tmp_path / "x", "is odd")) == f"{tmp_path}/x: is odd"
