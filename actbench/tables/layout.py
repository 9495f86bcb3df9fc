"""A comparison as columns and rows (layer 4; imports `columns`, `formats`, `comparison`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from actbench.comparison import Comparison, ComparisonRow
from actbench.comparison.contrasts import Contrast, Estimate
from actbench.comparison.quantities import Quantity
from actbench.metrics import Kind
from actbench.stats import Interval
from actbench.tables.columns import ROOMY, Column
from actbench.tables.formats import FORMATS
from actbench.text import p_value

REPEATED = 5
"""How needed a column is that only repeats what a label says: it goes first."""


def show_fraction(value: float) -> str:
    """0.9793 -> 97.93: percent with two decimals; the column's title has the sign."""
    return f"{100 * value:.2f}"


SHOW: dict[Kind, Callable[[float], str]] = {
    "fraction": show_fraction,
    "seconds": lambda value: f"{value:.1f}",
    "count": lambda value: f"{value:.1f}".removesuffix(".0"),
    "number": lambda value: f"{value:.4g}",
    "rate": lambda value: f"{value:,.0f}",
}
"""How a number of each kind is shown."""


def _with_interval(mean: float, interval: Interval | None, kind: Kind, *, signed: bool = False) -> str:
    """A mean and ±half its interval, or the interval's ends where clipping has made it lopsided."""
    show = _to_digits(interval.half) if kind == "number" and interval is not None else SHOW[kind]
    text = ("+" if signed and mean >= 0 else "") + show(mean)
    if interval is None:
        return text
    if abs((interval.high - mean) - (mean - interval.low)) > 1e-9 + 0.01 * abs(interval.high - interval.low):
        return f"{text} [{show(interval.low)}, {show(interval.high)}]"
    return f"{text} ±{show(interval.half)}"


def _to_digits(half: float) -> Callable[[float], str]:
    """Show as many decimals as two digits of the uncertainty need: 0.1172 ±0.0092."""
    if not 1e-6 < half < 1e6:
        return SHOW["number"]
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return lambda value: f"{value:.{decimals}f}"


def comparison_table(comparison: Comparison, *, raw: bool = False) -> tuple[list[Column], list[dict[str, Any]]]:
    """Turn a comparison into columns and rows: as a person reads them, or with every `raw` number apart."""
    columns = [Column(key, "variant" if key == "label" else key) for key in comparison.columns]
    if "label" in comparison.columns:
        columns = [_less_needed(column) for column in columns]
    if raw:
        columns += [Column(key, key) for key in ("n", "diverged", "failed", "is_baseline")]
        columns += [Column(key, key) for one in comparison.quantities for key in _raw_keys(one.name, contrast=True)]
        columns += [Column(key, key) for one in comparison.extras for key in _raw_keys(one.name, contrast=False)]
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
    """The columns of a difference; those of a metric beside the first may go, its verdict last."""
    first = one is comparison.quantities[0]
    title = f"vs {comparison.baseline}" if first else "difference"
    return [
        Column(f"{one.name}:difference", title, right=True, needed=0 if first else 2),
        Column(f"{one.name}:effect", "effect", right=True, needed=ROOMY + 1),
        Column(f"{one.name}:superiority", "P(A>B)", right=True, needed=ROOMY),
        Column(f"{one.name}:p", "p", right=True, needed=3),
        Column(f"{one.name}:verdict", "verdict", needed=0 if first else 1),
    ]


def _less_needed(column: Column) -> Column:
    """Dataset and label stay; the settings beside a label only repeat what it says, and may go."""
    if column.key in ("dataset", "label"):
        return column
    return Column(column.key, column.title, column.show, column.right, needed=REPEATED)


def _names(row: ComparisonRow) -> dict[str, Any]:
    return {**row.keys, "label": row.label, "dataset": row.dataset}


def _shown_row(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    marks = f" [{','.join(map(str, row.notes))}]" if row.notes else ""
    count = f"{row.n}" + (f" ({row.diverged} diverged)" if row.diverged else "")
    found: dict[str, Any] = {**_names(row), "n": count}
    for one in (*comparison.quantities, *comparison.extras):
        result = row.results[one.name]
        found[one.name] = shown_estimate(result.estimate, one.kind, diverged=row.diverged)
        found[f"{one.name}:rank"] = result.rank
        if result.contrast is not None:
            found |= dict(_shown_contrast(one, result.contrast, marks))
        elif row.is_baseline:
            found[f"{one.name}:verdict"] = "baseline" + marks
        elif marks:
            found[f"{one.name}:verdict"] = marks.strip()
    return found


def shown_estimate(found: Estimate, kind: Kind, *, diverged: int) -> str:
    """A mean with its interval, or why there is none."""
    if found.mean is None:
        return "diverged" if diverged else "-"
    return _with_interval(found.mean, found.interval, kind)


def _shown_contrast(one: Quantity, contrast: Contrast, marks: str) -> Iterator[tuple[str, str]]:
    found, name = contrast.found, one.name
    yield f"{name}:difference", _with_interval(found.difference, found.interval, one.kind, signed=True)
    if found.effect is not None:
        yield f"{name}:effect", f"{found.effect:+.2f}"
    yield f"{name}:superiority", f"{contrast.superiority:.2f}"
    yield f"{name}:p", p_value(contrast.adjusted_p)
    yield f"{name}:verdict", contrast.verdict + marks


def _raw_keys(name: str, *, contrast: bool) -> list[str]:
    parts = ["mean", "sd", "low", "high", "values"]
    if contrast:
        parts += ["difference", "difference_low", "difference_high", "p", "adjusted_p", "pairs", "method"]
        parts += ["effect", "effect_name", "superiority", "equivalence_p", "verdict", "rank"]
    return [f"{name}_{part}" for part in parts]


def _raw_row(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    found: dict[str, Any] = {**_names(row), "n": row.n, "diverged": row.diverged, "failed": row.failed}
    found["is_baseline"] = row.is_baseline
    for one in (*comparison.quantities, *comparison.extras):
        result = row.results[one.name]
        estimate, contrast = result.estimate, result.contrast
        values: dict[str, Any] = {"mean": estimate.mean, "sd": estimate.sd, "values": estimate.n}
        values["rank"] = result.rank or None
        if estimate.interval is not None:
            values |= {"low": estimate.interval.low, "high": estimate.interval.high}
        if contrast is not None:
            difference = contrast.found
            values |= {
                "difference": difference.difference,
                "p": difference.p,
                "adjusted_p": contrast.adjusted_p,
                "pairs": difference.n,
                "method": difference.method,
                "effect": difference.effect,
                "effect_name": difference.effect_name,
                "superiority": contrast.superiority,
                "equivalence_p": contrast.equivalence_p,
                "verdict": contrast.verdict,
            }
            if difference.interval is not None:
                values |= {"difference_low": difference.interval.low, "difference_high": difference.interval.high}
        found |= {f"{one.name}_{part}": value for part, value in values.items()}
    return found


def write_comparison(comparison: Comparison, name: str) -> str:
    """Write a comparison in one of `FORMATS`. Raises `UnknownNameError` for another format."""
    form = FORMATS[name]
    columns, rows = comparison_table(comparison, raw=name in ("csv", "json"))
    columns = [column for column in columns if column.needed < ROOMY]
    return form.write(columns, rows, comparison.footnotes)
