"""CSV that reads back exactly as it was written and that no spreadsheet executes: cells, lines and tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Cell = None | bool | int | float | str
Row: TypeAlias = Mapping[str, Any]
"""One row of a table: its cells by column name. Any stands for Cell: the column decides the type of its cells."""

_WORDS: dict[str, Cell] = {
    "": None, "true": True, "false": False,
    "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"),
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
# What spreadsheets and pandas write in addition, in any case: `True`, `NA`, `1E-3`, `.5`, `1.`
_LOOSE_WORDS: dict[str, Cell] = {**_WORDS, **dict.fromkeys(("nan", "na", "n/a", "null", "none"))}
_LOOSE_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 400  # characters; anything longer is text
# What a spreadsheet takes for a formula, even after spaces or in full-width letters, and our own apostrophe.
_GUARDED = re.compile(r"[\t\r\n']|\s*[=+\-@＝＋－＠]")
_QUOTED = re.compile(r'[,"\r\n]')


def format_cell(value: Cell) -> str:
    """Return the text of a cell; `parse_cell` turns it back into the same value.

    None is empty, booleans are `true` and `false`, and numbers are written exactly. Text that a spreadsheet could
    execute, or that would read back as something else or without its outer spaces, gets a leading apostrophe.
    """
    if (item := getattr(value, "item", None)) is not None:  # a scalar of numpy or torch
        return format_cell(item())
    if isinstance(value, str):
        guarded = _GUARDED.match(value) or value != value.strip() or not isinstance(parse_cell(value), str)
        return f"'{value}" if guarded else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(int(value) if isinstance(value, int) else float(value))


def parse_cell(text: str, *, loose: bool = False) -> Cell:
    """Return the value that `format_cell` wrote as `text`; with `loose`, accept what other programs write, too."""
    if loose and not text.startswith("'"):
        text = text.strip()
    if text.startswith("'"):
        return text[1:]
    if len(text) <= _LONGEST_NUMBER and (_LOOSE_NUMBER if loose else _NUMBER).fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    words = _LOOSE_WORDS if loose else _WORDS
    return words.get(text.casefold() if loose else text, text)


def parse_label(text: str) -> str | None:
    """Return the text of a cell that names something, whatever it looks like; None if it is empty."""
    return text[1:] if text.startswith("'") else text.strip() or None


def format_line(cells: Iterable[Cell]) -> str:
    """Return one line of CSV without its line end."""
    texts = map(format_cell, cells)
    return (
        ",".join(f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.search(text) else text for text in texts) or '""'
    )


def format_table(rows: Sequence[Row], columns: Iterable[str] | None = None) -> str:
    """Return the rows as CSV with a header; without `columns`, all that occur, in order of first use."""
    names = tuple(columns or dict.fromkeys(key for row in rows for key in row))
    if not names:
        return ""
    lines = [format_line(names), *(format_line(row.get(name) for name in names) for row in rows)]
    return "\n".join(lines) + "\n"


def parse_table(text: str) -> list[Row]:
    """Return the rows of a table that `format_table` wrote. Raises ValueError when it is not complete."""
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if not lines:
        return []
    names = [str(parse_cell(name)) for name in lines[0]]
    if any(len(line) != len(names) for line in lines):
        raise ValueError("has rows of different lengths")
    return [dict(zip(names, map(parse_cell, line), strict=True)) for line in lines[1:]]
