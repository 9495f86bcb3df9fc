"""What a comparison holds: rows, each with its quantities (layer 3; imports `contrasts`, `quantities`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from actbench.comparison.contrasts import Contrast, Estimate
from actbench.comparison.quantities import Quantity

Rank = Literal["best", "tied", ""]


@dataclass(frozen=True)
class Result:
    """One quantity in one row.

    contrast: the difference to the baseline; None in the baseline's row and where nothing can be compared.
    rank: "best" for the best mean of the dataset, "tied" where no difference from it is shown; rows in
    which a run has no value have no rank.
    """

    estimate: Estimate
    contrast: Contrast | None = None
    rank: Rank = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One group of runs. n counts done and diverged ones; notes are positions in the footnotes, from 1."""

    label: str
    dataset: Any
    keys: Mapping[str, Any]
    n: int
    diverged: int
    failed: int
    is_baseline: bool
    results: Mapping[str, Result]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The rows, dataset by dataset, best first unless sorted otherwise.

    quantities: those asked for, whose results have contrasts. extras: those that only have estimates.
    columns: the columns that name a row, among "dataset", "label" and the grouping keys.
    """

    rows: tuple[ComparisonRow, ...]
    quantities: tuple[Quantity, ...]
    extras: tuple[Quantity, ...]
    columns: tuple[str, ...]
    footnotes: tuple[str, ...]
    baseline: str
    alpha: float
