"""Columns: what a table shows of its rows, and how the table fits a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from actbench.store.csv import Row
from actbench.text import ascii_text, readable, value_text

ROOMY = 6
"""`needed` of columns for wide terminals only: Markdown and LaTeX leave them out too."""

_GAP = 2
_ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)


@dataclass(frozen=True)
class Column:
    """One column: the key of its values in a row, its title, and how a value is shown.

    needed: 0 for a column that always stays. If a terminal is too narrow, the columns with the highest number go first.
    """

    key: str
    title: str
    show: Callable[[Any], str] = value_text
    right: bool = False
    needed: int = 0

    def text(self, row: Row) -> str:
        """Return the value of this column in `row` for people; an empty text if it is missing."""
        value = row.get(self.key)
        return "" if value is None else readable(self.show(value))

    @property
    def heading(self) -> str:
        """The title, made readable: like a cell, it may contain what a person typed."""
        return readable(self.title)


def fitting(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int, ascii_only: bool = False
) -> tuple[Column, ...]:
    """Leave out the least needed columns until the rest fits `width`, with headings wrapped at words."""
    kept = [c for c in columns if c.needed < ROOMY or any(c.text(row) for row in rows)]
    while (spare := max((column.needed for column in kept), default=0)) > 0:
        if sum(_narrowest(column, rows, ascii_only) + _GAP for column in kept) - _GAP <= width:
            break
        kept = [column for column in kept if column.needed != spare]
    return tuple(kept)


def blocks(
    columns: Sequence[Column], rows: Sequence[Row], naming: int, *, width: int, ascii_only: bool = False
) -> list[tuple[Column, ...]]:
    """Divide columns into tables that fit `width`, to print one below the other, each with the first `naming` ones."""
    widths = [_narrowest(column, rows, ascii_only) + _GAP for column in columns]
    room = width + _GAP - sum(widths[:naming])
    found: list[list[Column]] = []
    taken = room
    for column, needed in zip(columns[naming:], widths[naming:], strict=True):
        if taken + needed > room or not found:
            found.append(list(columns[:naming]))
            taken = 0
        found[-1].append(column)
        taken += needed
    return [tuple(block) for block in found]


def terminal_table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int, ascii_only: bool = False, wide: bool = False
) -> Table:
    """Lay out rows for a terminal that is `width` characters wide, without the columns that do not fit.

    With `wide`, every column stays and cells wrap instead.
    """
    kept = columns if wide else fitting(columns, rows, width=width, ascii_only=ascii_only)
    table = Table(
        box=_ASCII_HEAD if ascii_only else box.SIMPLE_HEAD, padding=(0, 0, 0, _GAP - 1), pad_edge=False, show_edge=False
    )
    for column, heading in zip(kept, _headings(kept, rows, width, ascii_only), strict=True):
        table.add_column(Text(heading), justify="right" if column.right else "left", overflow="fold", vertical="bottom")
    for row in rows:
        table.add_row(*(Text(_plain(column.text(row), ascii_only)) for column in kept))
    return table


def _headings(columns: Sequence[Column], rows: Sequence[Row], width: int, ascii_only: bool) -> list[str]:
    """Return the headings, wrapped until the table fits; those that save most are wrapped first."""
    found = [_plain(column.heading, ascii_only) for column in columns]
    cells = [_widest_cell(column, rows, ascii_only) for column in columns]
    narrow = [_narrowest(column, rows, ascii_only) for column in columns]
    full = [max(cell, cell_len(heading)) for cell, heading in zip(cells, found, strict=True)]
    excess = sum(full) + _GAP * (len(full) - 1) - width
    for i in sorted(range(len(full)), key=lambda i: narrow[i] - full[i]):
        if excess > 0 and full[i] > narrow[i]:
            found[i] = "\n".join(textwrap.wrap(found[i], narrow[i], break_long_words=False, break_on_hyphens=False))
            excess -= full[i] - narrow[i]
    return found


def _narrowest(column: Column, rows: Sequence[Row], ascii_only: bool) -> int:
    words = _plain(column.heading, ascii_only).split()
    return max([_widest_cell(column, rows, ascii_only), *map(cell_len, words)])


def _widest_cell(column: Column, rows: Sequence[Row], ascii_only: bool) -> int:
    return max((cell_len(_plain(column.text(row), ascii_only)) for row in rows), default=0)


def _plain(text: str, ascii_only: bool) -> str:
    return ascii_text(text) if ascii_only else text
