"""results rm, merge and verify: what they change, what they leave alone, and that they say so."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_runs import record, rows_of, run_id, store_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actbench import cli
from actbench.errors import StoreError
from actbench.store import Store, files
from actbench.store.maintain import merge, remove


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with four runs of two variants."""
    for seed in range(2):
        store_run(tmp_path / "results", seed)
        store_run(tmp_path / "results", seed, "tanh")
    return tmp_path / "results"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of `actbench results ...`, stdout, and stderr in one line."""
    code = cli.run(["results", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def left(root: Path) -> list[str]:
    """The runs in a folder, after a check that runs.csv has a row for each and that no claim is left."""
    found = [one.run_id for one in Store(root).load_all()[0]]
    assert rows_of(root) == found
    assert {path.name for path in (root / ".running").iterdir()} <= {"index.lock"}
    return found


# --- rm ------------------------------------------------------------------------------------------------------


def test_runs_are_removed_by_id_or_its_beginning(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "rm", "relu-s0", run_id(1, "tanh"), "--yes", "--results", results) == (0, "", "removed 2 runs")
    assert left(results) == [run_id(1), run_id(0, "tanh")]


def test_runs_are_removed_by_what_they_are(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_run(results, 5, "gelu", status="failed", error="odd")
    with Store(results).claim(run_id(5, "gelu")) as claim:
        assert claim is not None
        claim.save_checkpoint(b"half way")
    assert run(capsys, "rm", "--filter", "status == 'failed'", "-y", "--results", results)[0] == 0
    assert run(capsys, "rm", "--filter", "name == 'tanh' and seed > 0", "-y", "--results", results)[0] == 0
    assert left(results) == [run_id(0), run_id(1), run_id(0, "tanh")]


def test_a_dry_run_removes_nothing_and_lists_the_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "rm", "--filter", "name == 'tanh'", "--dry-run", "--results", results)
    assert (code, out.split(), err) == (0, [run_id(0, "tanh"), run_id(1, "tanh")], f"2 runs in {results}")
    assert len(left(results)) == 4


@pytest.mark.parametrize(("answer", "code", "stay"), [("y\n", 0, 3), ("n\n", 1, 4), ("\n", 1, 4)])
def test_it_asks_on_a_terminal(
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    stay: int,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert cli.run(["results", "rm", "relu-s0", "--results", str(results)]) == code
    assert len(left(results)) == stay


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["relu-s0"], "nothing was removed: this is no terminal to ask on; add --yes"),
        ([], "name the runs to remove, or select them with --filter"),
        (["relu", "-y"], "2 runs begin with 'relu'"),
        (["gelu", "-y"], "holds no run 'gelu'"),
        (["--filter", "name == 'gelu'", "-y"], "leaves none of the 4 runs"),
        (["--filter", "nme == 'gelu'", "-y"], "did you mean 'name'?"),
    ],
)
def test_nothing_is_removed_unless_it_is_clear_what(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, _, err = run(capsys, "rm", *arguments, "--results", results)
    assert (code, said in err) == (2, True), err
    assert len(left(results)) == 4


def test_a_run_of_another_results_folder_is_not_removed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = store_run(tmp_path / "other")
    code, _, err = run(capsys, "rm", other, "-y", "--results", results)
    assert (code, "give its results folder with --results" in err) == (2, True)
    assert other.exists()


def test_runs_in_training_damaged_runs_links_and_foreign_folders_are_left_alone(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / run_id(1) / "result.json").write_text("my notes")
    outside = store_run(tmp_path / "outside", 7)
    (results / run_id(7)).symlink_to(outside)
    (results / "my-notes").mkdir()
    with Store(results).claim(run_id(0), force=True) as claim:
        assert claim is not None
        claim.save_checkpoint(b"half way")
        code, out, err = run(capsys, "rm", "--filter", "seed >= 0", "-y", "--results", results)
        assert claim.load_checkpoint() == b"half way"
    assert (code, out.splitlines()) == (
        1,
        [
            f"not removed: {results / run_id(0)}: is being trained",
            f"not removed: {results / run_id(7)}: is a symbolic link, which actbench neither follows nor deletes",
        ],
    )
    assert err.startswith(f"skipped {results / run_id(1)}: result.json is truncated")
    assert err.endswith("removed 2 runs error: 2 folders not removed")
    assert outside.exists()
    assert (results / "my-notes").is_dir()
    changes = remove(Store(results), [run_id(1), run_id(99)])
    assert [one.reason for one in changes.kept] == [
        "result.json is truncated, or not JSON; what is not an intact run is never deleted, so do it yourself",
        "is gone already",
    ]
    assert (results / run_id(1) / "result.json").read_text() == "my notes"


def test_a_run_that_was_half_removed_when_the_process_died_is_gone_and_can_be_trained(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *_args, **_options: die(results))
        with pytest.raises(KeyboardInterrupt):
            remove(Store(results), [run_id(0)])
    Store(results).prepare()
    assert rows_of(results) == [run_id(1), run_id(0, "tanh"), run_id(1, "tanh")]
    store_run(results, 0)
    assert len(left(results)) == 4


# --- merge ---------------------------------------------------------------------------------------------------


def test_runs_of_other_folders_are_copied_whole(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gelu", "silu"):
        for seed in range(2):
            store_run(tmp_path / name, seed, name)
    others = [tmp_path / "gelu", tmp_path / "silu"]
    before = {path: path.read_bytes() for other in others for path in other.rglob("*") if path.is_file()}
    assert run(capsys, "merge", *others, "--results", results)[0] == 0
    assert len(left(results)) == 8
    assert before == {path: path.read_bytes() for other in others for path in other.rglob("*") if path.is_file()}
    for path, data in before.items():
        if path.parent.name.startswith(("gelu-s", "silu-s")):
            assert (results / path.parent.name / path.name).read_bytes() == data
    code, _, err = run(capsys, "merge", *others, "--results", results)
    assert (code, "0 runs merged" in err, "2 already there" in err) == (0, True, True)


def test_into_a_new_folder_too(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "merge", results, "--results", tmp_path / "new" / "folder")[0] == 0
    assert left(tmp_path / "new" / "folder") == left(results)


def test_runs_of_one_id_with_other_results_are_named_and_stay_apart(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = {**record().metrics, "train_s": 99.0, "wall_s": 99.0}
    store_run(tmp_path / "other", 0, timing={"wall_s": 99.0}, metrics=slower)
    different = store_run(tmp_path / "other", 1, metrics={"test_accuracy": 0.5})
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    code, out, err = run(capsys, "merge", tmp_path / "other", "--results", results)
    assert (code, out.rstrip()) == (
        1,
        f"not merged: {different}: differs from the run of the same id in {results}; each stays in its folder",
    )
    assert "0 runs merged" in err
    assert "1 already there" in err
    assert before == {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert different.exists()


def test_a_failed_or_damaged_run_makes_room_for_one_that_ended_and_not_the_other_way_round(
    results: Path, tmp_path: Path
) -> None:
    store_run(results, 5, status="failed", error="odd", metrics={})
    (results / run_id(0) / "epochs.csv").unlink()
    other = tmp_path / "other"
    for seed in (0, 5):
        store_run(other, seed)
    store_run(other, 1, status="failed", error="odd", metrics={})
    changes = merge(Store(results), Store(other))
    assert changes.done == [run_id(0), run_id(5)]
    assert [one.path for one in changes.kept] == [other / run_id(1)]
    assert Store(results).status(run_id(1)) == Store(results).status(run_id(5)) == "done"
    assert Store(results).load(run_id(0)).verify() == []
    assert len(list((results / ".damaged").iterdir())) == 1
    assert len(left(results)) == 5
    assert "failed" not in (results / "runs.csv").read_text()


def test_damaged_newer_and_running_runs_and_links_are_not_merged(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    folders = [store_run(other, seed) for seed in range(10, 16)]
    (folders[0] / "epochs.csv").write_bytes((folders[0] / "epochs.csv").read_bytes()[:-1] + b"?")
    (folders[1] / "result.json").write_text("{")
    (folders[2] / "result.json").write_text('{"format_version": 9}')
    shutil.move(folders[3], tmp_path / run_id(13))
    folders[3].symlink_to(tmp_path / run_id(13))
    with Store(other).claim(run_id(14), force=True), Store(results).claim(run_id(15)):
        code, out, _ = run(capsys, "merge", other, "--results", results)
    reasons = {line.partition(": ")[2].partition(": ")[0]: line.rpartition(": ")[2] for line in out.splitlines()}
    assert code == 1
    assert len(reasons) == 6
    assert "its SHA-256 differs" in reasons[str(folders[0])]
    assert "truncated" in reasons[str(folders[1])]
    assert "upgrade actbench" in reasons[str(folders[2])]
    assert "symbolic link" in reasons[str(folders[3])]
    assert reasons[str(folders[4])] == "is being trained"
    assert reasons[str(folders[5])] == f"is being trained in {results}"
    assert len(Store(results).rows()[0]) == 4


def test_a_folder_is_not_merged_with_itself_or_with_nothing(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(results)
    for same in (results, tmp_path / "link"):
        code, _, err = run(capsys, "merge", same, "--results", results)
        assert (code, "is the results folder itself" in err) == (2, True)
    code, _, err = run(capsys, "merge", tmp_path / "nothing", "--results", results)
    assert (code, "nothing is not a folder" in err) == (1, True)
    assert len(left(results)) == 4


def test_a_full_disk_leaves_complete_runs(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, calls = tmp_path / "new", 0
    write = files.write_folder

    def full(folder: Path, contents: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoreError("cannot write: No space left on device")
        write(folder, contents)

    monkeypatch.setattr(files, "write_folder", full)
    changes = merge(Store(new), Store(results))
    assert [one.reason for one in changes.kept] == ["cannot write: No space left on device"]
    assert rows_of(new) == changes.done
    assert [one.verify() for one in Store(new).load_all()[0]] == [[], [], []]


@settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["rm", "merge"]), st.sets(st.integers(0, 3), max_size=3)), max_size=4))
def test_whatever_is_removed_and_merged_every_run_is_whole_and_has_one_row(
    tmp_path: Path, steps: list[tuple[str, set[int]]]
) -> None:
    base = tmp_path / "base"
    if not base.exists():
        for seed in range(4):
            store_run(base, seed)
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    root, expected = tmp_path / "work", set[int]()
    Store(root).prepare()
    for step, seeds in steps:
        if step == "rm":
            remove(Store(root), map(run_id, seeds))
            expected -= seeds
        else:
            part = tmp_path / "part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for seed in seeds:
                shutil.copytree(base / run_id(seed), part / run_id(seed))
            merge(Store(root), Store(part))
            expected |= seeds
        assert (left(root) if expected else []) == sorted(map(run_id, expected))
    assert [one.verify() for one in Store(root).load_all()[0]] == [[]] * len(expected)


# --- verify --------------------------------------------------------------------------------------------------


def test_intact_runs_are_counted(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", results) == (0, "4 runs intact\n", "")
    assert run(capsys, "verify", "--results", results)[:2] == (0, "4 runs intact\n")
    assert run(capsys, "verify", results / run_id(0))[:2] == (0, "1 run intact\n")


@pytest.mark.parametrize("name", ["config.yaml", "epochs.csv", "layers.csv", "neurons.csv", "result.json"])
def test_any_changed_byte_is_found_and_its_run_named(
    results: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / run_id(1) / name
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        code, out, err = run(capsys, "verify", results)
        assert (code, err) == (1, "error: 1 folder damaged or unknown")
        assert f"damaged or unknown: {path.parent}: " in out
        assert out.startswith("3 runs intact")


def test_missing_files_renamed_folders_and_newer_runs_are_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / run_id(0) / "epochs.csv").unlink()
    (results / run_id(1)).rename(results / run_id(9))
    newer = json.dumps({"format_version": 3, "provenance": {"actbench_version": "\x1b[31m9.0"}})
    (results / run_id(0, "tanh") / "result.json").write_text(newer)
    code, out, err = run(capsys, "verify", results)
    assert (code, err, out.count("damaged or unknown: ")) == (1, "error: 3 folders damaged or unknown", 3)
    for reason in ("epochs.csv is missing", "renamed or copied", "newer actbench, \\x1b[31m9.0"):
        assert reason in out


def test_a_record_and_its_copy_are_the_same_to_the_byte(tmp_path: Path) -> None:
    store_run(tmp_path / "results")
    assert Store(tmp_path / "results").load(run_id()).contents() == record().files()
