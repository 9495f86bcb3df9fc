"""Standard streams that are closed, full or no longer read: no traceback, and the right exit code."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actbench import cli

ROOT = Path(__file__).parents[1]
CONFIG = "name: tiny\ndataset: digits\nepochs: 3\nhidden: [8]\ntrain_limit: 200\nseeds: 2\n"
COMMANDS = {
    "--help": 0,
    "--version": 0,
    "list activations": 0,
    "list runs": 0,
    "validate tiny.yaml": 0,
    "validate missing.yaml": 2,
    "schema": 0,
    "compare results": 0,
    "compare nowhere": 2,
    "compare results --fail-if 'n > 1'": 1,
    "pivot activation lr results --format csv": 0,
    "show tiny-s0": 0,
    "report results -o page.html": 0,
    "plot activations -a relu -o relu.svg": 0,
    "data info digits": 0,
    "data verify digits": 0,
    "claims 1 --dry-run": 0,
    "doctor": 0,
    "cost relu --rounds 2 --elements 4x8": 0,
    "reproduce tiny-s0": 0,
    "train -c tiny.yaml": 0,
    "train -c tiny.yaml --print-config": 0,
    "train -c tiny.yaml --force": 0,
    "sweep -c tiny.yaml -g lr=0.1 --force": 0,
    "trian": 2,
}
"""Every kind of command, and its exit code when all is well. Nothing is trained in advance but tiny.yaml."""


SITUATIONS = [">file 2>file", ">closed 2>file", ">closed 2>closed", ">full 2>file", ">full 2>full", ">unread 2>unread"]

EACH = """
import json, os, sys
from actbench import cli
import torch, actbench.engine, actbench.report.gather, actbench.figures  # once, not in every child


def lead(number, name, where):
    if where == "closed":
        os.close(number)
        setattr(sys, name, None)  # as Python does when it starts with a closed stream
        return
    file = os.open({"full": "/dev/full"}.get(where, f"{name}.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if where == "unread":
        reader, file = os.pipe()
        os.close(reader)
    os.dup2(file, number)
    os.close(file)


found = []
commands, situations = json.load(sys.stdin)
for command in commands:
    for situation in situations:
        pid = os.fork()
        if pid == 0:
            out, err = (part[part.index(">") + 1:] for part in situation.split())
            lead(1, "stdout", out)
            lead(2, "stderr", err)
            sys.argv[1:] = command
            try:
                cli.main()
            except SystemExit as end:
                os._exit(end.code)
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found.append((code, *(open(f"{name}.txt").read() if f">{where}" in situation.split()[k] else ""
                              for k, (name, where) in enumerate((("stdout", "file"), ("stderr", "file"))))))
print(json.dumps(found))
"""
"""Runs every command in every situation, each in a process of its own that need not import everything again."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and the results of its runs."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "tiny.yaml").write_text(CONFIG)
    assert cli.run(["train", "-c", str(folder / "tiny.yaml"), "--results", str(folder / "results"), "-q"]) == 0
    return folder


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[tuple[str, str], tuple[int, str, str]]:
    """The exit code, stdout and stderr of every command in every situation."""
    told = json.dumps([[shlex.split(command) for command in COMMANDS], SITUATIONS])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EACH],
        input=told, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip
    keys = [(command, situation) for command in COMMANDS for situation in SITUATIONS]
    return dict(zip(keys, map(tuple, json.loads(done.stdout)), strict=True))


Ended = dict[tuple[str, str], tuple[int, str, str]]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_stream_that_nobody_reads_changes_no_exit_code_and_causes_no_traceback(command: str, ended: Ended) -> None:
    for situation in SITUATIONS:
        code, out, err = ended[command, situation]
        if not situation.startswith(">full"):
            assert (situation, code) == (situation, COMMANDS[command]), err
        for bad in ("Traceback", "Exception ignored", "this is a bug"):
            assert bad not in out + err


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_results_that_cannot_be_written_are_an_error(command: str, ended: Ended) -> None:
    printed = bool(ended[command, ">file 2>file"][1])
    code, _, err = ended[command, ">full 2>file"]
    assert code == (COMMANDS[command] or int(printed))
    assert ("error: the results could not be written to stdout: No space left on device" in err) == printed
    assert ended[command, ">full 2>full"][0] == code


def shell(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $A is the program."""
    environment = {**os.environ, "A": f"{sys.executable} -W error -m actbench", "PYTHONPATH": str(ROOT)}
    command = ["bash", "-o", "pipefail", "-c", text]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("redirected", "code"),
    [(">&-", 0), ("<&- >&- 2>&-", 0), ("> /dev/full", 1), ("> /dev/full 2>&1", 1), ("| head -1", 0)],
)
def test_a_shell_gets_the_same_exit_codes(redirected: str, code: int, folder: Path) -> None:
    done = shell(folder, f"$A list activations {redirected}")
    assert (done.returncode, "Traceback" in done.stderr, "Exception" in done.stderr) == (code, False, False)


def test_training_goes_on_when_nobody_reads_its_progress(folder: Path) -> None:
    done = shell(folder, "$A train -c tiny.yaml --results unread --set epochs=50 2>&1 | head -1")
    assert done.returncode == 0
    assert "2 runs: 2 to train" in done.stdout
    assert len(list((folder / "unread").glob("*/result.json"))) == 2


def test_no_file_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    assert shell(folder, "$A train -c tiny.yaml --results closed <&- >&- 2>&-").returncode == 0
    assert shell(folder, "$A train -c tiny.yaml --results open").returncode == 0
    for open_ in (folder / "open").glob("*/epochs.csv"):
        closed = (folder / "closed" / open_.parent.name / "epochs.csv").read_text()
        assert closed.splitlines()[0] == open_.read_text().splitlines()[0]
    assert not shell(folder, "$A compare closed").stderr


LONG = ["--set", "epochs=100000", "--set", "hidden=[64]"]


def checkpoints(results: Path) -> list[Path]:
    return [path for path in results.glob(".running/*/*") if path.stat().st_size > 0]


def test_a_terminal_that_closes_leaves_a_checkpoint(folder: Path) -> None:
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "actbench", "train", "-c", "tiny.yaml", "--results", "hung-up", *LONG]
    process = subprocess.Popen(
        ["setsid", "--ctty", *program], cwd=folder, env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"/100000" not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert checkpoints(folder / "hung-up")
    again = ["train", "-c", str(folder / "tiny.yaml"), "--results", str(folder / "hung-up"), *LONG, "--dry-run"]
    assert cli.run(again) == 0


def test_nohup_keeps_training_when_the_terminal_closes(folder: Path) -> None:
    command = [sys.executable, "-m", "actbench", "train", "-c", "tiny.yaml", "--results", "nohup", *LONG]
    process = subprocess.Popen(
        ["nohup", *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/" in line:
            break
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    for line in process.stderr:
        if "epoch 3/" in line or "stopping" in line:
            break
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
