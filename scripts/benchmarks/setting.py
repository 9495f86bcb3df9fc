"""What all parts of the benchmark share: the setting, the recipe and its variants, and programs to time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench import compute
from actbench.config import Variant

SCRIPTS = Path(__file__).parents[1]
ROOT = SCRIPTS.parent
RELU = ROOT / "configs" / "relu.yaml"

SET_BY_ACTBENCH = {"MKL_CBWR", "GOMP_SPINCOUNT"}
"""Variables that importing actbench sets for its own process; other programs run without them."""

Measured = dict[str, float]
"""The result of one round of a part: values by name; a name ends with its unit (`_s`, `_bytes`)."""
Part = Generator[Measured, None, None]
"""A part of the benchmark. Each `next` runs one round; closing it ends the programs that it started."""


@dataclass(frozen=True)
class Setting:
    """The data folder, and whether this is a trial with few images and runs, whose numbers mean nothing."""

    folder: Path
    trial: bool = False

    @property
    def images(self) -> int:
        """Training images per epoch."""
        return 1000 if self.trial else 60_000

    @property
    def threads(self) -> int:
        """The threads that every program may use: one per usable processor."""
        return compute.usable_threads()

    def variant(self, **changes: Any) -> Variant:
        """Return the recipe with these changes."""
        limits = {"train_limit": 1000, "test_limit": 1000} if self.trial else {}
        return Variant(**{**limits, **changes})

    def actbench(self, command: str, results: str, *arguments: str) -> list[str]:
        """Return `command` and its arguments for actbench on configs/relu.yaml."""
        limits = ["-s", "train_limit=1000", "-s", "test_limit=1000"] if self.trial else []
        common = ["--results", results, "--data-dir", str(self.folder), "--device", "cpu", "--quiet", *limits]
        return [command, "-c", str(RELU), *common, *arguments]


def plain_environment() -> dict[str, str]:
    """Return the environment of a shell, without what actbench added, in which this checkout can be imported."""
    kept = {name: value for name, value in os.environ.items() if name not in SET_BY_ACTBENCH}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SCRIPTS)])}


def run(code: str, *arguments: str, expect: int = 0, **environment: str) -> str:
    """Run Python code in its own process, as if from a shell; return its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**plain_environment(), **environment},
        check=False,
    )
    if done.returncode != expect:
        raise RuntimeError(f"exit code {done.returncode} instead of {expect}: {code}")
    return done.stdout


COMMAND_LINE = "import sys; from actbench import cli; sys.exit(cli.run(sys.argv[1:]))"


class Program:
    """A program that runs and times one round for every line on its standard input, and prints the numbers."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain_environment(),
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args} ended unexpectedly")
        return answer

    def round(self) -> list[float]:
        """Run one round; return its numbers."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        return [float(number) for number in self._answer().split()]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def program(path: Path, *arguments: str) -> Iterator[Program]:
    """Start a program, and end it on exit."""
    started = Program(path, *arguments)
    try:
        yield started
    finally:
        started.close()


@contextmanager
def results_folder() -> Iterator[str]:
    """Provide a temporary results folder for one command."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
