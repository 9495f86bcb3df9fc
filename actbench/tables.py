"""Rows in every format: terminal, Markdown, LaTeX, CSV, JSON, each escaped for where it goes (layer 4).

Imports `comparison` (for what to lay out), `cells`, `atomic` and rich. Prints nothing and writes no files.
One list of `Column` says what is shown; all formats come from the same rows. CSV and JSON keep raw values, the
others show them as a person reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from actbench.comparison import Comparison, ComparisonRow
from actbench.comparison.contrasts import Contrast, Estimate
from actbench.comparison.groups import shown
from actbench.comparison.quantities import Quantity
from actbench.config.textfile import readable
from actbench.metrics import Kind
from actbench.registry import Parameter, Registry
from actbench.stats import Interval
from actbench.store import atomic, cells

FORMAT_VERSION = 1
REPEATED = 5
"""How needed a column is that only repeats what a label says: it goes first."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column: the key of its values in a row, its title, how a value is shown, and how needed it is.

    `needed` is 0 for a column that always stays; of the others, those with the highest number go first when
    a terminal is too narrow.
    """

    key: str
    title: str
    show: Callable[[Any], str] = shown
    right: bool = False
    needed: int = 0

    def text(self, row: Row) -> str:
        """The value of this column in `row` as a person reads it; nothing for a missing one."""
        value = row.get(self.key)
        return "" if value is None else readable(self.show(value))

    @property
    def heading(self) -> str:
        """The title as it stands above the column; like a cell, it may hold what a person typed."""
        return readable(self.title)


@dataclass(frozen=True)
class Format:
    """A format that turns columns, rows and footnotes into text."""

    name: str
    write: Callable[[Sequence[Column], Sequence[Row], Sequence[str]], str]
    parameters: tuple[Parameter, ...] = field(default=(), repr=False)


def terminal_table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int, ascii_only: bool = False, wide: bool = False
) -> Table:
    """Lay rows out for a terminal of `width` columns, leaving out the least needed columns until they fit.

    With `wide` nothing is left out: cells wrap instead.
    """
    console = Console(width=10_000, color_system=None)
    while True:
        table = Table(box=box.ASCII_DOUBLE_HEAD if ascii_only else box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            heading = _ascii(column.heading) if ascii_only else column.heading
            table.add_column(Text(heading), justify="right" if column.right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_ascii(column.text(row)) if ascii_only else column.text(row)) for column in columns))
        fits = Measurement.get(console, console.options, table).maximum <= width
        spare = max((column.needed for column in columns), default=0)
        if fits or wide or spare == 0:
            return table
        columns = [column for column in columns if column.needed != spare]


def _ascii(text: str) -> str:
    """Write signs that a plain terminal lacks in other ones."""
    return text.replace("±", "+-").replace("–", "-").encode("ascii", "replace").decode()


def markdown(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write a table in GitHub's Markdown; nothing in a cell is markup."""
    lines = [[_markdown(column.heading) for column in columns]]
    lines.append(["---:" if column.right else "---" for column in columns])
    lines += [[_markdown(column.text(row)) for column in columns] for row in rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return text + "".join(f"\n\n{i}. {_markdown(readable(note))}" for i, note in enumerate(notes, 1))


def _markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + sign if sign in r"\`*_{}[]()#+!|~" and sign not in "()+" else sign for sign in text)


def latex(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write a booktabs table; a row's `rank` prints its first value bold (best) or starred (tied)."""
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
    lines += [rf"% {i}. {_latex(readable(note))}" for i, note in enumerate(notes, 1)]
    return "\n".join(lines)


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the start of a line they would be arguments of the \\ above
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def csv(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write raw values as CSV; text that a spreadsheet could run is guarded, footnotes are left out."""
    keys = [column.key for column in columns]
    plain = [{key: atomic.plain(row.get(key)) for key in keys} for row in rows]
    return cells.format_table([{k: _cell(v) for k, v in row.items()} for row in plain], keys).removesuffix("\n")


def _cell(value: Any) -> cells.Cell:
    return (
        value if value is None or isinstance(value, bool | int | float | str) else atomic.dump_json(value, indent=None)
    )


def json(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Write raw values as strict JSON with a format version."""
    plain = [{column.key: row.get(column.key) for column in columns} for row in rows]
    return atomic.dump_json({"format_version": FORMAT_VERSION, "rows": plain, "footnotes": list(notes)})


FORMATS: Registry[Format] = Registry(
    "format", [Format("md", markdown), Format("latex", latex), Format("csv", csv), Format("json", json)]
)
"""The formats beside the terminal's `table`."""


def show_fraction(value: float) -> str:
    """0.9793 -> 97.93: percent with two decimals; the column's title has the sign."""
    return f"{100 * value:.2f}"


_SHOW: dict[Kind, Callable[[float], str]] = {
    "fraction": show_fraction,
    "seconds": lambda value: f"{value:.1f}",
    "count": lambda value: f"{value:.1f}".removesuffix(".0"),
    "number": lambda value: f"{value:.4g}",
    "rate": lambda value: f"{value:,.0f}",
}


def _half_width(interval: Interval | None, mean: float, show: Callable[[float], str]) -> str:
    """The interval as ±half, or as its ends where clipping has made it lopsided."""
    if interval is None:
        return ""
    if abs((interval.high - mean) - (mean - interval.low)) > 1e-9 + 0.01 * abs(interval.high - interval.low):
        return f" [{show(interval.low)}, {show(interval.high)}]"
    return f" ±{show(interval.half)}"


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
    for i, one in enumerate(comparison.quantities):
        columns.append(Column(one.name, _heading(one), right=True))
        if not alone:
            columns += [
                Column(f"{one.name}:difference", f"vs {comparison.baseline}" if i == 0 else "difference", right=True),
                Column(f"{one.name}:p", "p", right=True, needed=3),
                Column(f"{one.name}:verdict", "verdict"),
            ]
    for one in comparison.extras:
        columns.append(Column(one.name, _heading(one), right=True, needed=4 if one.name == "wall_s" else 0))
    return columns, [_shown_row(comparison, row) for row in comparison.rows]


def _less_needed(column: Column) -> Column:
    """Dataset and label stay; the settings beside a label only repeat what it says, and may go."""
    if column.key in ("dataset", "label"):
        return column
    return Column(column.key, column.title, column.show, column.right, needed=REPEATED)


def _heading(one: Quantity) -> str:
    units = {"fraction": " %", "seconds": " s", "rate": " 1/s"}
    return one.title + units.get(one.kind, "")


def _names(row: ComparisonRow) -> dict[str, Any]:
    return {**row.keys, "label": row.label, "dataset": row.dataset}


def _shown_row(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    marks = f" [{','.join(map(str, row.notes))}]" if row.notes else ""
    count = f"{row.n}" + (f" ({row.diverged} diverged)" if row.diverged else "")
    found: dict[str, Any] = {**_names(row), "n": count}
    for one in (*comparison.quantities, *comparison.extras):
        result, show = row.results[one.name], _SHOW[one.kind]
        found[one.name] = _shown_estimate(result.estimate, show, diverged=row.diverged)
        found[f"{one.name}:rank"] = result.rank
        if result.contrast is not None:
            found |= dict(_shown_contrast(one.name, result.contrast, show, marks))
        elif row.is_baseline:
            found[f"{one.name}:verdict"] = "baseline" + marks
        elif marks:
            found[f"{one.name}:verdict"] = marks.strip()
    return found


def _shown_estimate(found: Estimate, show: Callable[[float], str], *, diverged: int) -> str:
    if found.mean is None:
        return "diverged" if diverged else "-"
    return show(found.mean) + _half_width(found.interval, found.mean, show)


def _shown_contrast(
    name: str, contrast: Contrast, show: Callable[[float], str], marks: str
) -> Iterator[tuple[str, str]]:
    found = contrast.found
    sign = "" if found.difference < 0 else "+"
    yield f"{name}:difference", sign + show(found.difference) + _half_width(found.interval, found.difference, show)
    yield f"{name}:p", f"{contrast.adjusted_p:.3f}" if contrast.adjusted_p >= 0.001 else "<0.001"
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
                "superiority": difference.superiority,
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
    return form.write(columns, rows, comparison.footnotes)
