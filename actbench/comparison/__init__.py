"""Compare runs: rows of runs.csv in, rows of a table out, with intervals, differences, verdicts and footnotes.

Reads no files and prints nothing. `compare` gives one row per variant, `pivot` a grid of two settings.
"""

from __future__ import annotations

from actbench.comparison.checks import failing, undecided
from actbench.comparison.compare import (
    EXTRAS,
    TOP,
    Comparison,
    choose_baseline,
    compare,
)
from actbench.comparison.pivot import Pivot, pivot
from actbench.comparison.rows import EPOCH, ComparisonRow, Result

__all__ = [
    "EPOCH", "EXTRAS", "TOP", "Comparison", "ComparisonRow", "Pivot", "Result", "choose_baseline", "compare", "failing",
    "pivot", "undecided",
]  # fmt: skip
