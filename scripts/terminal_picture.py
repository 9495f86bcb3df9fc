#!/usr/bin/env python3
"""Draw an SVG of `actbench compare RESULTS --by name --baseline relu` on a terminal of 100 columns.

Usage: .venv/bin/python scripts/terminal_picture.py OUT.svg RESULTS
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from actbench import comparison, tables
from actbench.store import Store


def main() -> None:
    """Print the table to a recording console and export it."""
    picture, results = Path(sys.argv[1]), sys.argv[2]
    runs, _ = Store(Path(results)).load_all()
    found = comparison.compare([run.row for run in runs], by=("name",), baseline="relu")
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ actbench compare --by name --baseline relu\n", style="bold"))
    columns, rows = tables.comparison_table(found)
    console.print(tables.terminal_table(columns, rows, width=console.width))
    for number, note in enumerate(found.footnotes, 1):
        console.print(Text(f"[{number}] {note}"))
    # Drop the fonts that rich loads from another server; the viewer's own fonts are fine.
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="actbench"), flags=re.DOTALL)
    picture.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
