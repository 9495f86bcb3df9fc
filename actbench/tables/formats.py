"""The output formats: rows as Markdown, LaTeX, CSV and JSON, each escaped for where it goes. Add one to `FORMATS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actbench.registry import Parameter, Registry
from actbench.store import files
from actbench.store.csv import Cell, Row, format_table
from actbench.tables.columns import Column
from actbench.text import readable, with_hyphens

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Format:
    """A format: how it writes columns, rows and footnotes, and whether it takes raw values or texts for people."""

    name: str
    write: Callable[[Sequence[Column], Sequence[Row], Sequence[str]], str]
    raw: bool = False
    parameters: tuple[Parameter, ...] = field(default=(), repr=False)


def markdown(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write a table in GitHub's Markdown; nothing in a cell is markup."""
    lines = [[markdown_text(column.heading) for column in columns]]
    lines.append(["---:" if column.right else "---" for column in columns])
    lines += [[markdown_text(column.text(row)) for column in columns] for row in rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    shown = [_LIST_ITEM.sub(r"\1\\", markdown_text(readable(note))) for note in notes]
    return text + "".join(f"\n\n{i}. {note}" for i, note in enumerate(shown, 1))


_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{sign: "\\" + sign for sign in r"\`*_{}[]#!|~$"}})
_LINKS = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_LIST_ITEM = re.compile(r"^(\d*)(?=[-+.)])")


def markdown_text(text: str) -> str:
    """Escape a text for a cell: GitHub's Markdown, with its formulas and links, shows it literally."""
    return _LINKS.sub(r"\\\g<0>", text.translate(_MARKDOWN))


def latex(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write a booktabs table. A cell whose rank is best is bold; one that is tied with the best has a star."""
    lines = [
        r"\begin{tabular}{" + "".join("r" if column.right else "l" for column in columns) + "}",
        r"\toprule",
        " & ".join(_latex(column.heading) for column in columns) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        texts = []
        for column in columns:
            text = _latex(column.text(row))
            rank = row.get(f"{column.key}:rank")
            texts.append(rf"\textbf{{{text}}}" if rank == "best" else text + r"$^{*}$" if rank == "tied" else text)
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if any(row.get(f"{column.key}:rank") for row in rows for column in columns):
        lines.append("% bold: the best mean; *: not shown to differ from it")
    lines += [rf"% {i}. {_latex(readable(note))}" for i, note in enumerate(notes, 1)]
    return "\n".join(lines)


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "\N{MINUS SIGN}": "$-$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", '"': r"\texttt{\symbol{34}}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the start of a line they would be arguments of the \\ above
})  # fmt: skip
_LIGATURES = re.compile(r"-(?=-)|,(?=,)")


def _latex(text: str) -> str:
    """Escape a text: nothing in it is a command, and every sign is printed as it is, in any font encoding."""
    return _LIGATURES.sub(r"\g<0>{}", text.translate(_LATEX))


def csv(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write raw values as CSV, without footnotes. Text that a spreadsheet could run as a formula is guarded."""
    keys = [column.key for column in columns]
    plain = [{key: files.plain(row.get(key)) for key in keys} for row in rows]
    return format_table([{k: _cell(v) for k, v in row.items()} for row in plain], keys).removesuffix("\n")


def _cell(value: Any) -> Cell:
    return (
        value if value is None or isinstance(value, bool | int | float | str) else files.dump_json(value, indent=None)
    )


def json(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write raw values as strict JSON with a format version."""
    plain = [{column.key: row.get(column.key) for column in columns} for row in rows]
    return files.dump_json({"format_version": FORMAT_VERSION, "rows": plain, "footnotes": [*map(with_hyphens, notes)]})


FORMATS: Registry[Format] = Registry(
    "format",
    [Format("md", markdown), Format("latex", latex), Format("csv", csv, raw=True), Format("json", json, raw=True)],
)
"""The formats other than the terminal's `table`."""
