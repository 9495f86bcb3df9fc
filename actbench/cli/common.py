"""What all commands share: consoles, options, reading results, and how errors become exit codes (layer 5)."""

from __future__ import annotations

import glob
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from actbench.errors import StoreError, UsageError
from actbench.store import Store
from actbench.store.records import RESULT, StoredProblem, StoredRun, read_run
from actbench.tables import Column, Row, terminal_table

ConfigOption = Annotated[
    list[Path], typer.Option("--config", "-c", help="A config file; give it several times for several variants.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of every file, such as lr=0.01."),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", metavar="N|A,B,...", help="How many seeds (0 to N-1), or which.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Train this one seed.")]
ResultsOption = Annotated[
    Path, typer.Option("--results", metavar="DIR", envvar="ACTBENCH_RESULTS", help="Where results are kept.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="ACTBENCH_DATA_DIR",
        help="Where datasets are; a folder with MNIST/raw is used as it is. Default: the platform's cache.",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Open no connection.")]
MirrorOption = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", envvar="ACTBENCH_MIRROR", help="Ask this address for datasets first."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N", help="Where to train, over what files say.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="How many runs to train at the same moment on CPU; results do not depend on it.",
    ),
]
LanesOption = Annotated[
    int | None, typer.Option("--lanes", metavar="N", min=1, help="How many runs train side by side.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Put JSON, and only JSON, on stdout.")]


@dataclass(frozen=True)
class Streams:
    """Where things are printed: results on `out`, everything else on `err`."""

    out: Console
    err: Console

    @property
    def ascii_only(self) -> bool:
        """Whether stdout cannot show signs such as a plus-minus."""
        return not (self.out.encoding or "").lower().startswith("utf")

    def note(self, text: str) -> None:
        """Say something beside the results."""
        self.err.print(Text(text), soft_wrap=True, highlight=False)

    def table(
        self, columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = (), *, wide: bool = False
    ) -> None:
        """Put a table on stdout, as wide as the terminal allows, with its footnotes below."""
        self.out.print(terminal_table(columns, rows, width=self.out.width, ascii_only=self.ascii_only, wide=wide))
        for number, note in enumerate(notes, 1):
            self.out.print(Text(f"[{number}] {note}"), highlight=False)

    def result(self, text: str) -> None:
        """Put a result on stdout as it is: no colours, no wrapping."""
        self.out.print(Text(text), soft_wrap=True, highlight=False)


def with_fields_of(flags: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `f(flags, ...)` an option for each field of the dataclass, so that commands share them.

    Typer reads a command's options from its signature: this one has those of the fields, then the command's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = list(inspect.signature(flags, eval_str=True).parameters.values())
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def called(**given: Any) -> None:
            fields = {parameter.name: given.pop(parameter.name) for parameter in shared}
            command(flags(**fields), **given)

        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*shared, *own)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def count(n: int, what: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def streams() -> Streams:
    """Open both consoles on the process's current standard streams."""
    return Streams(Console(file=sys.stdout, highlight=False), Console(file=sys.stderr, highlight=False))


def read_results(paths: Sequence[str], fallback: Path) -> tuple[list[StoredRun], list[StoredProblem]]:
    """Read the runs in results folders, run folders and globs; `fallback` when no path is given.

    Raises UsageError for a path that is not there, StoreError for a folder that cannot be read.
    """
    runs: dict[Path, StoredRun] = {}
    problems: list[StoredProblem] = []
    for path in _expanded(paths) if paths else [fallback]:
        if (path / RESULT).exists():
            found: Iterable[StoredRun | StoredProblem] = [read_run(path)]
        elif path.is_dir():
            stored, strange = Store(path).load_all()
            found = [*stored, *strange]
        elif paths:
            raise UsageError(f"{path}: is neither a results folder nor a run's folder")
        else:
            raise StoreError(f"{path}: there are no results yet; train something, or name a folder with --results")
        for one in found:
            if isinstance(one, StoredRun):
                runs[one.folder.resolve()] = one
            else:
                problems.append(one)
    return list(runs.values()), problems


def _expanded(paths: Sequence[str]) -> list[Path]:
    """Expand globs that the shell has left alone."""
    found: list[Path] = []
    for path in paths:
        is_pattern = any(sign in path for sign in "*?[") and not Path(path).exists()
        matches = sorted(glob.glob(path)) if is_pattern else []  # noqa: PTH207 - Path.glob takes no absolute one
        found += [Path(match) for match in matches] or [Path(path)]
    return found


def say_problems(to: Streams, problems: Sequence[StoredProblem], shown: int = 5) -> None:
    """Name what was skipped, the first few one by one."""
    for problem in problems[:shown]:
        to.note(f"skipped {problem}")
    if len(problems) > shown:
        to.note(f"skipped {len(problems) - shown} more")


def plain_json(value: Any) -> str:
    """Strict JSON text: nan and inf become null."""
    from actbench.store import atomic

    return atomic.dump_json(value)
