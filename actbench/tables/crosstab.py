"""A pivot as columns and rows (layer 4; imports `columns`, `formats`, `layout`, `comparison`)."""

from __future__ import annotations

from typing import Any

from actbench.comparison import ComparisonRow
from actbench.comparison.pivot import Pivot, PivotLine, name_of
from actbench.tables.columns import Column
from actbench.tables.formats import FORMATS
from actbench.tables.layout import shown_estimate


def pivot_table(pivot: Pivot, *, raw: bool = False) -> tuple[list[Column], list[dict[str, Any]], int]:
    """Turn a pivot into columns and rows, and say how many columns name a row.

    As a person reads them, or with every `raw` number of a cell in a column of its own.
    """
    naming = [Column("metric", "metric")] if raw or len(pivot.quantities) > 1 else []
    naming += [Column("dataset", "dataset")] if pivot.datasets else []
    naming += [Column(key, key) for key in pivot.down]
    names = [name_of(pivot.across, values) for values in pivot.columns]
    if raw:
        parts = ("mean", "sd", "low", "high", "values", "n", "diverged", "rank")
        columns = [Column(f"{name}_{part}", f"{name}_{part}") for name in names for part in parts]
    else:
        columns = [Column(name, name, right=True) for name in names]
    rows = []
    for line in pivot.lines:
        row: dict[str, Any] = {"metric": line.quantity.name if raw else line.quantity.heading, "dataset": line.dataset}
        row |= line.keys
        for name, values in zip(names, pivot.columns, strict=True):
            if (cell := line.cells.get(values)) is not None:
                row |= _raw_cell(name, line, cell) if raw else _cell(name, line, cell, pivot)
        rows.append(row)
    return [*naming, *columns], rows, len(naming)


def _cell(name: str, line: PivotLine, cell: ComparisonRow, pivot: Pivot) -> dict[str, Any]:
    result = cell.results[line.quantity.name]
    text = shown_estimate(result.estimate, line.quantity.kind, diverged=cell.diverged)
    told = [str(cell.n)] if pivot.cell_n is None else []
    told += [f"{cell.diverged} diverged"] if cell.diverged and result.estimate.mean is not None else []
    return {name: text + (f" ({', '.join(told)})" if told else ""), f"{name}:rank": result.rank}


def _raw_cell(name: str, line: PivotLine, cell: ComparisonRow) -> dict[str, Any]:
    result = cell.results[line.quantity.name]
    found = result.estimate
    values: dict[str, Any] = {"mean": found.mean, "sd": found.sd, "values": found.n}
    if found.interval is not None:
        values |= {"low": found.interval.low, "high": found.interval.high}
    values |= {"n": cell.n, "diverged": cell.diverged, "rank": result.rank or None}
    return {f"{name}_{part}": value for part, value in values.items()}


def write_pivot(pivot: Pivot, name: str) -> str:
    """Write a pivot in one of `FORMATS`. Raises `UnknownNameError` for another format."""
    form = FORMATS[name]
    columns, rows, _ = pivot_table(pivot, raw=name in ("csv", "json"))
    return form.write(columns, rows, pivot.footnotes)
