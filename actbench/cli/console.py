"""Where commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from actbench.store import files
from actbench.store.csv import Row
from actbench.store.run import StoredProblem
from actbench.tables import FORMATS, Column, terminal_table
from actbench.text import ascii_text, readable, readable_lines

_SKIPPED_SHOWN = 5
_UNLIMITED = 100_000  # columns


@dataclass(frozen=True)
class Streams:
    """The two consoles: `out` for results, `err` for everything else."""

    out: Console
    err: Console

    @property
    def ascii_only(self) -> bool:
        """Whether stdout cannot show characters such as a plus-minus sign."""
        return is_ascii_only(self.out)

    def note(self, text: str) -> None:
        """Print a note, one line, on stderr."""
        self.err.print(Text(readable(text)), soft_wrap=True, highlight=False)

    def error(self, text: str) -> None:
        """Print an error, of one or more lines, on stderr."""
        self.err.print(Text(f"error: {readable_lines(text)}"), soft_wrap=True, highlight=False)

    def result(self, text: str) -> None:
        """Print one line on stdout: no colours, no wrapping."""
        self.out.print(Text(readable(text)), soft_wrap=True, highlight=False)

    def json(self, content: Any) -> None:
        """Print strict JSON on stdout: nan and inf become null."""
        self.document(files.dump_json(content))

    def document(self, text: str) -> None:
        """Print lines that are already in their form, such as Markdown, YAML or JSON.

        A file keeps the control characters of a name, so that it reads back; a terminal must not obey them.
        """
        shown = readable_lines(text) if self.out.is_terminal else text
        self.out.print(Text(shown), soft_wrap=True, highlight=False)

    def table(
        self, columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = (), *, wide: bool = False
    ) -> None:
        """Print a table on stdout, as wide as the terminal allows, with its footnotes below."""
        self.out.print(terminal_table(columns, rows, width=self.out.width, ascii_only=self.ascii_only, wide=wide))
        for number, note in enumerate(notes, 1):
            text = readable(f"[{number}] {note}")
            self.out.print(Text(ascii_text(text) if self.ascii_only else text), highlight=False)

    def rows(self, output: str, columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
        """Print a table in the format `output`."""
        if output == "table":
            self.table(columns, rows, notes)
        else:
            self.document(FORMATS[output].write(columns, rows, notes))

    def skipped(self, problems: Sequence[StoredProblem]) -> None:
        """Name the stored runs that were skipped: the first few, then how many more."""
        for problem in problems[:_SKIPPED_SHOWN]:
            self.note(f"skipped {problem}")
        if len(problems) > _SKIPPED_SHOWN:
            self.note(f"skipped {len(problems) - _SKIPPED_SHOWN} more")


class Output(io.FileIO):
    """A standard stream on which no write can fail. `error` is the first error; what follows it is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data`, or lose it."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return len(data)


def open_streams() -> Output:
    """Replace the standard streams of this process with ones on which no write can fail; return that of stdout.

    A stream that was closed leads nowhere: otherwise, the next file to be opened would take its number and its text.
    A terminal that lacks a character shows another.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    out, err = Output(1), Output(2)
    for name, raw in (("stdout", out), ("stderr", err)):
        encoding = getattr(getattr(sys, name), "encoding", "utf-8")
        lines = raw is err or raw.isatty()
        text = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="replace", line_buffering=lines)
        setattr(sys, name, text)
    return out


def is_ascii_only(console: Console) -> bool:
    """Return whether a console cannot show characters such as a plus-minus sign."""
    return not (console.encoding or "").lower().startswith("utf")


def streams(*, wide: bool = False) -> Streams:
    """Open both consoles on the current standard streams of the process.

    A result is as wide as the terminal, or as COLUMNS says; in a file or pipe, or with `wide`, as wide as it needs.
    """
    out = Console(file=sys.stdout, highlight=False)
    if wide or not (out.is_terminal or os.environ.get("COLUMNS", "").isdigit()):
        out.width = _UNLIMITED
    return Streams(out, Console(file=sys.stderr, highlight=False))
