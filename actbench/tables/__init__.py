"""Rows in every format: terminal, Markdown, LaTeX, CSV, JSON, each escaped for where it goes (layer 4).

`columns` says what is shown and how it fits a terminal, `formats` writes the other formats, `layout` and `crosstab`
turn comparisons and pivots into columns and rows. Prints nothing and writes no files. All formats come from the
same rows.
"""

from __future__ import annotations

from actbench.tables.columns import ROOMY, Column, Row, blocks, fitting, terminal_table
from actbench.tables.crosstab import pivot_table, write_pivot
from actbench.tables.formats import FORMAT_VERSION, FORMATS, Format, csv, json, latex, markdown, markdown_text
from actbench.tables.layout import REPEATED, comparison_table, show_fraction, write_comparison

__all__ = [
    "FORMATS", "FORMAT_VERSION", "REPEATED", "ROOMY", "Column", "Format", "Row", "blocks", "comparison_table", "csv",
    "fitting", "json", "latex", "markdown", "markdown_text", "pivot_table", "show_fraction", "terminal_table",
    "write_comparison", "write_pivot",
]  # fmt: skip
