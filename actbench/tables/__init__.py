"""Tables: the same rows for a terminal and in every output format, each escaped for where it goes.

Prints nothing and writes no files. To add an output format, add an entry to `formats.FORMATS`.
"""

from __future__ import annotations

from actbench.tables.columns import ROOMY, Column, blocks, fitting, terminal_table
from actbench.tables.formats import FORMAT_VERSION, FORMATS, Format, csv, json, latex, markdown, markdown_text
from actbench.tables.tabulate import (
    REPEATED,
    SHOW,
    comparison_table,
    pivot_table,
    show_fraction,
    write_comparison,
    write_pivot,
)

__all__ = [
    "FORMATS", "FORMAT_VERSION", "REPEATED", "ROOMY", "SHOW", "Column", "Format", "blocks", "comparison_table", "csv",
    "fitting", "json", "latex", "markdown", "markdown_text", "pivot_table", "show_fraction", "terminal_table",
    "write_comparison", "write_pivot",
]  # fmt: skip
