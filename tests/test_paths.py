"""Paths that cannot be read or are empty: the real cause is reported, whatever the command."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from fake_runs import run_id, store_run
from idx_files import as_nobody, folder_for_nobody

from actbench import api, cli
from actbench.errors import ActbenchError, UsageError
from actbench.store import Store, files

READING = [
    ["compare"], ["pivot", "activation", "lr"], ["show", "relu"], ["reproduce", "relu"], ["report", "-o", "page.html"],
    ["plot", "curves", "-o", "x.svg"], ["sweep", "-c", "relu.yaml", "--dry-run"], ["train", "-c", "relu.yaml"],
]  # fmt: skip
CONFIG = "dataset: digits\nepochs: 1\nseeds: 1\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and what was said on stderr, in one line."""
    code = cli.run(arguments)
    return code, " ".join(capsys.readouterr().err.split())


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config file of a run on the digits in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relu.yaml").write_text(CONFIG)


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
@pytest.mark.parametrize("closed", [".", ".."])
def test_a_folder_that_may_not_be_entered_is_named(
    command: list[str], closed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_for_nobody() as folder:
        monkeypatch.chdir(folder)
        Path("relu.yaml").write_text(CONFIG)
        assert cli.run(["validate", "relu.yaml"]) == 0  # imports what nobody may not read, where Python is root's own
        results = folder / "parent" / "results"
        results.parent.mkdir()
        store_run(results)
        shut = (results / closed).resolve()
        shut.chmod(0)
        try:
            with as_nobody():
                code, said = run(capsys, *command, "--results", str(results))
        finally:
            shut.chmod(0o755)
    assert code == 1
    assert f"cannot read {results}" in said
    assert f"Permission denied (you may not enter {shut}; change its permissions, or choose another folder" in said


def test_a_run_folder_that_may_not_be_read_is_named_and_the_others_are_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with folder_for_nobody() as folder:
        for seed in range(3):
            store_run(folder / "results", seed)
        shut = folder / "results" / run_id(1)
        shut.chmod(0)
        try:
            with as_nobody():
                runs, problems = Store(folder / "results").load_all()
                assert [run.seed for run in runs] == [0, 2]
                assert [str(one) for one in problems] == [f"{shut}: result.json cannot be read: Permission denied"]
                code, said = run(capsys, "show", str(shut))
                assert (code, f"you may not enter {shut}" in said) == (1, True)
        finally:
            shut.chmod(0o755)


def test_a_folder_that_may_be_listed_but_not_entered_hides_no_run() -> None:
    with folder_for_nobody() as folder:
        store_run(folder / "results")
        (folder / "results").chmod(0o444)
        try:
            with as_nobody():
                _, problems = Store(folder / "results").load_all()
        finally:
            (folder / "results").chmod(0o755)
    assert [one.kind for one in problems] == ["unreadable"]


@pytest.mark.parametrize("command", READING[:5], ids=lambda command: command[0])
@pytest.mark.parametrize("kind", ["loop", "too long"])
def test_a_path_that_leads_nowhere_has_its_cause(
    command: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    path, cause = (loop, errno.ELOOP) if kind == "loop" else (tmp_path / ("x" * 300), errno.ENAMETOOLONG)
    code, said = run(capsys, *command, "--results", str(path))
    assert (code, os.strerror(cause) in said) == (1, True)
    if command[0] != "show" and command[0] != "reproduce":
        code, said = run(capsys, *command, str(path))
        assert (code, os.strerror(cause) in said) == (1, True)


@pytest.mark.usefixtures("config")
def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "results"):
        code, said = run(capsys, "train", "-c", "relu.yaml", "--results", str(path))
        assert (code, "is a file, not a folder" in said or "Not a directory" in said) == (1, True)
    code, said = run(capsys, "compare", str(tmp_path / "file" / "results"))
    assert (code, "there is no such file or folder" in said) == (2, True)


def test_other_failures_of_the_disk_are_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(ActbenchError, match=r"cannot read .*: Input/output error"):
        files.is_folder(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "-c", ""],
        ["train", "-c", "relu.yaml", "--results", ""],
        ["train", "-c", "relu.yaml", "--data-dir", ""],
        ["compare", ""],
        ["compare", "--results", ""],
        ["show", ""],
        ["reproduce", ""],
        ["report", "-o", ""],
        ["plot", "curves", "-o", ""],
        ["plot", "curves", "", "-o", "x.svg"],
        ["validate", ""],
        ["data", "info", "--data-dir", ""],
        ["claims", "--claims", ""],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("config")
def test_an_empty_path_is_refused_and_does_not_mean_the_current_folder(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, said = run(capsys, *arguments)
    assert (code, "is empty; " in said) == (2, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_path_is_refused_by_the_python_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="results is empty"):
        api.train({"dataset": "digits"}, results="")
    with pytest.raises(UsageError, match="data_dir is empty"):
        api.train({"dataset": "digits"}, data_dir="")
    with pytest.raises(UsageError, match="a path is empty"):
        api.compare("")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_environment_variable_counts_as_unset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store_run(tmp_path / "results")
    monkeypatch.setenv("ACTBENCH_RESULTS", "")
    monkeypatch.setenv("ACTBENCH_DATA_DIR", "")
    assert cli.run(["compare"]) == 0
    assert "relu" in capsys.readouterr().out
    assert len(api.compare()) == 1
    assert cli.run(["data", "info", "digits"]) == 0
