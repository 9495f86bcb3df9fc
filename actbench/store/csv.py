"""CSV cells that read back as they were, and that no spreadsheet runs (layer 0; standard library only)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Cell = None | bool | int | float | str
Row: TypeAlias = Mapping[str, Any]
"""One row of a table: its cells by column name. Any stands for Cell: the column decides the type of its cells."""

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Cell] = {
    "": None, "true": True, "false": False,
    "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"),
}  # fmt: skip
# What a spreadsheet takes for a formula, also behind blanks or in full-width letters; our own apostrophe.
_GUARDED = re.compile(r"[\t\r\n']|\s*[=+\-@＝＋－＠]")


def format_cell(value: Cell) -> str:
    """Return the text of a cell; `parse_cell` gives the same value back.

    None is empty, numbers stay numbers (`repr`, exact), truth values are `true` and `false`. A text that a
    spreadsheet could run, or that would read back as a number, gets an apostrophe in front.
    """
    if (item := getattr(value, "item", None)) is not None:  # a scalar of numpy or torch
        return format_cell(item())
    if isinstance(value, str):
        guarded = _GUARDED.match(value) or not isinstance(parse_cell(value), str)
        return f"'{value}" if guarded else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(int(value) if isinstance(value, int) else float(value))


def parse_cell(text: str) -> Cell:
    """Return the value that `format_cell` wrote as `text`."""
    if text.startswith("'"):
        return text[1:]
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None or len(text) > 400:
        return text
    return float(text) if number[1] or number[2] else int(text)


def format_line(cells: Iterable[Cell]) -> str:
    """Return one line of CSV without its line end; texts with commas, quotes or line ends are quoted."""
    texts = [format_cell(cell) for cell in cells]
    quoted = [f'"{text.replace(chr(34), chr(34) * 2)}"' if _special(text) else text for text in texts]
    return ",".join(quoted) or '""'


def format_table(rows: Sequence[Mapping[str, Cell]], columns: Iterable[str] | None = None) -> str:
    """Return a CSV text; the columns are those given, else all that occur, in the order of first use."""
    names = tuple(columns or dict.fromkeys(key for row in rows for key in row))
    if not names:
        return ""
    lines = [format_line(names), *(format_line(row.get(name) for name in names) for row in rows)]
    return "\n".join(lines) + "\n"


def parse_table(text: str) -> list[Row]:
    """Return the rows of a CSV text with typed cells. Raises ValueError when it is not whole."""
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


def _special(text: str) -> bool:
    return any(sign in text for sign in ',"\r\n')
