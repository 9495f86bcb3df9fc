"""Tabulate comparisons and pivots: turn them into columns and rows, and write these in one of the formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from actbench.comparison import Comparison, ComparisonRow, Pivot, Result
from actbench.comparison.contrasts import Contrast, Estimate
from actbench.comparison.pivot import PivotLine
from actbench.comparison.quantities import Quantity
from actbench.metrics import Kind
from actbench.stats import Interval
from actbench.tables.columns import ROOMY, Column
from actbench.tables.formats import FORMATS
from actbench.text import number_text, p_value, value_text

REPEATED = 5
"""`needed` of a column that only repeats part of a label: the first to go."""


def show_fraction(value: float) -> str:
    """Return a fraction in percent with two decimals, 97.93 for 0.9793; the heading has the sign."""
    return number_text(100 * value, ".2f")


SHOW: dict[Kind, Callable[[float], str]] = {
    "fraction": show_fraction,
    "seconds": lambda value: number_text(value, ".1f"),
    "count": lambda value: number_text(value, ".1f").removesuffix(".0"),
    "number": lambda value: number_text(value, ".4g"),
    "rate": lambda value: number_text(value, ",.0f"),
}
"""How a metric of each kind is shown without its unit, which is in the heading."""


def _with_interval(mean: float, interval: Interval | None, kind: Kind, *, signed: bool = False) -> str:
    """Return `mean ±half`, or the ends of the interval if clipping has made it lopsided."""
    show = _to_digits(interval.half) if kind == "number" and interval is not None else SHOW[kind]
    text = ("+" if signed and mean >= 0 else "") + show(mean)
    if interval is None:
        return text
    if abs((interval.high - mean) - (mean - interval.low)) > 1e-9 + 0.01 * abs(interval.high - interval.low):
        return f"{text} [{show(interval.low)}, {show(interval.high)}]"
    return f"{text} ±{show(interval.half)}"


def _to_digits(half: float) -> Callable[[float], str]:
    """Show the uncertainty with two digits, and the mean with as many decimals: 0.1172 ±0.0092."""
    if not 1e-6 < half < 1e6:
        return SHOW["number"]
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return lambda value: number_text(value, f".{decimals}f")


def comparison_table(comparison: Comparison, *, raw: bool = False) -> tuple[list[Column], list[dict[str, Any]]]:
    """Return a comparison as columns and rows, for people; or `raw`, with each number in its own column."""
    repeated = [key for key in comparison.columns if "label" in comparison.columns and key not in ("dataset", "label")]
    columns = [
        Column(key, "variant" if key == "label" else key, needed=REPEATED if key in repeated else 0)
        for key in comparison.columns
    ]
    if raw:
        columns += [Column(key, key) for key in ("n", "diverged", "failed", "is_baseline")]
        keys = [
            f"{one.name}_{part}"
            for one in comparison.quantities
            for part in (*_ESTIMATE_PARTS, *_CONTRAST_PARTS, "rank")
        ]
        keys += [f"{one.name}_{part}" for one in comparison.extras for part in _ESTIMATE_PARTS]
        columns += [Column(key, key) for key in keys]
        return columns, [_raw_row(comparison, row) for row in comparison.rows]
    alone = all(row.is_baseline for row in comparison.rows)
    columns.append(Column("n", "n", right=True))
    for one in comparison.quantities:
        columns.append(Column(one.name, one.heading, right=True))
        if not alone:
            columns += _contrast_columns(comparison, one)
    for one in comparison.extras:
        columns.append(Column(one.name, one.heading, right=True, needed=4 if one.name == "wall_s" else 1))
    return columns, [_shown_row(comparison, row) for row in comparison.rows]


def _contrast_columns(comparison: Comparison, one: Quantity) -> list[Column]:
    """Return the columns of a difference. Those of later metrics may go, their verdict last."""
    first = one is comparison.quantities[0]
    title = f"vs {comparison.baseline}" if first else "difference"
    return [
        Column(f"{one.name}:difference", title, right=True, needed=0 if first else 2),
        Column(f"{one.name}:effect", "effect", right=True, needed=ROOMY + 1),
        Column(f"{one.name}:superiority", "P(A>B)", right=True, needed=ROOMY),
        Column(f"{one.name}:p", "p", right=True, needed=3),
        Column(f"{one.name}:verdict", "verdict", needed=0 if first else 1),
    ]


def _names(row: ComparisonRow) -> dict[str, Any]:
    return {**row.keys, "label": row.label, "dataset": row.dataset}


def _shown_row(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    marks = f" [{','.join(map(str, row.notes))}]" if row.notes else ""
    count = f"{row.n}" + (f" ({row.diverged} diverged)" if row.diverged else "")
    found: dict[str, Any] = {**_names(row), "n": count}
    for one in (*comparison.quantities, *comparison.extras):
        result = row.results[one.name]
        found[one.name] = _shown_estimate(result.estimate, one.kind, diverged=row.diverged)
        found[f"{one.name}:rank"] = result.rank
        if result.contrast is not None:
            found |= dict(_shown_contrast(one, result.contrast, marks))
        elif row.is_baseline:
            found[f"{one.name}:verdict"] = "baseline" + marks
        elif marks:
            found[f"{one.name}:verdict"] = marks.strip()
    return found


def _shown_estimate(found: Estimate, kind: Kind, *, diverged: int) -> str:
    """Return a mean with its interval, or say why there is none."""
    if found.mean is None:
        return "diverged" if diverged else "-"
    return _with_interval(found.mean, found.interval, kind)


def _shown_contrast(one: Quantity, contrast: Contrast, marks: str) -> Iterator[tuple[str, str]]:
    found, name = contrast.found, one.name
    yield f"{name}:difference", _with_interval(found.difference, found.interval, one.kind, signed=True)
    if found.effect is not None:
        yield f"{name}:effect", number_text(found.effect, "+.2f")
    yield f"{name}:superiority", f"{contrast.superiority:.2f}"
    yield f"{name}:p", p_value(contrast.adjusted_p)
    yield f"{name}:verdict", contrast.verdict + marks


_ESTIMATE_PARTS = ("mean", "sd", "low", "high", "values")
_CONTRAST_PARTS: dict[str, Callable[[Contrast], Any]] = {
    "difference": lambda one: one.found.difference,
    "difference_low": lambda one: one.found.interval and one.found.interval.low,
    "difference_high": lambda one: one.found.interval and one.found.interval.high,
    "p": lambda one: one.found.p,
    "adjusted_p": lambda one: one.adjusted_p,
    "pairs": lambda one: one.found.n,
    "method": lambda one: one.found.method,
    "effect": lambda one: one.found.effect,
    "effect_name": lambda one: one.found.effect_name,
    "superiority": lambda one: one.superiority,
    "equivalence_p": lambda one: one.equivalence_p,
    "verdict": lambda one: one.verdict,
}


def _raw_row(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    found: dict[str, Any] = {**_names(row), "n": row.n, "diverged": row.diverged, "failed": row.failed}
    found["is_baseline"] = row.is_baseline
    for one in (*comparison.quantities, *comparison.extras):
        result = row.results[one.name]
        values = _raw_estimate(result)
        if (contrast := result.contrast) is not None:
            values |= {part: read(contrast) for part, read in _CONTRAST_PARTS.items()}
        found |= {f"{one.name}_{part}": value for part, value in values.items()}
    return found


def _raw_estimate(result: Result) -> dict[str, Any]:
    found = result.estimate
    low, high = found.interval or (None, None)
    return {
        "mean": found.mean,
        "sd": found.sd,
        "low": low,
        "high": high,
        "values": found.n,
        "rank": result.rank or None,
    }


def write_comparison(comparison: Comparison, name: str) -> str:
    """Write a comparison in one of `FORMATS`. Raises `UnknownNameError` for another format."""
    form = FORMATS[name]
    columns, rows = comparison_table(comparison, raw=form.raw)
    columns = [column for column in columns if column.needed < ROOMY]
    return form.write(columns, rows, comparison.footnotes)


def pivot_table(pivot: Pivot, *, raw: bool = False) -> tuple[list[Column], list[dict[str, Any]], int]:
    """Return a pivot as columns and rows, and how many columns name a row: for people, or `raw`.

    Raw, each number of a cell has its own column.
    """
    naming = [Column("metric", "metric")] if raw or len(pivot.quantities) > 1 else []
    naming += [Column("dataset", "dataset")] if pivot.datasets else []
    naming += [Column(key, key) for key in pivot.down]
    settings = [zip(pivot.across, values, strict=True) for values in pivot.columns]
    names = [" ".join(f"{key}={value_text(value)}" for key, value in pairs) for pairs in settings]
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
                row |= _raw_cell(name, line, cell) if raw else _shown_cell(name, line, cell, pivot)
        rows.append(row)
    return [*naming, *columns], rows, len(naming)


def _shown_cell(name: str, line: PivotLine, cell: ComparisonRow, pivot: Pivot) -> dict[str, Any]:
    result = cell.results[line.quantity.name]
    text = _shown_estimate(result.estimate, line.quantity.kind, diverged=cell.diverged)
    counts = [str(cell.n)] if pivot.cell_n is None else []
    counts += [f"{cell.diverged} diverged"] if cell.diverged and result.estimate.mean is not None else []
    return {name: text + (f" ({', '.join(counts)})" if counts else ""), f"{name}:rank": result.rank}


def _raw_cell(name: str, line: PivotLine, cell: ComparisonRow) -> dict[str, Any]:
    values = _raw_estimate(cell.results[line.quantity.name]) | {"n": cell.n, "diverged": cell.diverged}
    return {f"{name}_{part}": value for part, value in values.items()}


def write_pivot(pivot: Pivot, name: str) -> str:
    """Write a pivot in one of `FORMATS`. Raises `UnknownNameError` for another format."""
    form = FORMATS[name]
    columns, rows, _ = pivot_table(pivot, raw=form.raw)
    return form.write(columns, rows, pivot.footnotes)
