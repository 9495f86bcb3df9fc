"""Where commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from actbench.store.run import StoredProblem
from actbench.tables import Column, Row, terminal_table


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


def streams() -> Streams:
    """Open both consoles on the process's current standard streams."""
    return Streams(Console(file=sys.stdout, highlight=False), Console(file=sys.stderr, highlight=False))


def say_problems(to: Streams, problems: Sequence[StoredProblem], shown: int = 5) -> None:
    """Name what was skipped, the first few one by one."""
    for problem in problems[:shown]:
        to.note(f"skipped {problem}")
    if len(problems) > shown:
        to.note(f"skipped {len(problems) - shown} more")


def plain_json(value: Any) -> str:
    """Strict JSON text: nan and inf become null."""
    from actbench.store import files

    return files.dump_json(value)
