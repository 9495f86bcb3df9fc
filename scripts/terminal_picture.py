#!/usr/bin/env python3
"""Draw what `actbench compare RESULTS --by name --baseline relu` prints on a terminal of 100 columns, as an SVG.

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
    """Print to a console that keeps a record."""
    picture, results = Path(sys.argv[1]), sys.argv[2]
    runs, _ = Store(Path(results)).load_all()
    found = comparison.compare([run.row for run in runs], by=("name",), baseline="relu")
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ actbench compare --by name --baseline relu\n", style="bold"))
    columns, rows = tables.comparison_table(found)
    console.print(tables.terminal_table(columns, rows, width=console.width))
    for number, note in enumerate(found.footnotes, 1):
        console.print(Text(f"[{number}] {note}"))
    # Without the fonts that rich would have a page load from elsewhere: the viewer's own will do.
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="actbench"), flags=re.DOTALL)
    picture.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
