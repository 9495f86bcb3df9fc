"""Rows of runs -> one setting down, one across, a metric in the cells (layer 4).

Imports the comparison's own modules. A cell is a row of the comparison by both settings, without a baseline: its
mean, its interval, its n, and its rank among all cells of the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.groups import columns_of, group_runs, order, select
from actbench.comparison.quantities import Curve, Quantity, Row, quantities
from actbench.comparison.results import ComparisonRow
from actbench.comparison.table import Table, cached
from actbench.comparison.tuning import tuned
from actbench.errors import UsageError
from actbench.text import comma_list, value_text

Key = tuple[Any, ...]


@dataclass(frozen=True)
class PivotLine:
    """One line: the quantity in it, the dataset, the values of the settings down, and the cells by those across."""

    quantity: Quantity
    dataset: Any
    keys: Mapping[str, Any]
    cells: Mapping[Key, ComparisonRow]


@dataclass(frozen=True)
class Pivot:
    """The lines, metric by metric and dataset by dataset, settings in order.

    down, across: the settings. columns: the values of those across, in order. datasets: whether there are several
    and none of the settings is the dataset. cell_n: the n of every cell, None where they differ.
    """

    lines: tuple[PivotLine, ...]
    quantities: tuple[Quantity, ...]
    down: tuple[str, ...]
    across: tuple[str, ...]
    columns: tuple[Key, ...]
    datasets: bool
    cell_n: int | None
    footnotes: tuple[str, ...]


def pivot(
    rows: Sequence[Row],
    *,
    down: Sequence[str],
    across: Sequence[str],
    metrics: Sequence[str] = ("test_accuracy",),
    filter: str | None = None,  # noqa: A002 - named like its flag
    epoch: int | None = None,
    curve: Curve | None = None,
    tune: str | None = None,
    alpha: float = 0.05,
) -> Pivot:
    """Lay `metrics` out by the settings `down` (rows) and `across` (columns); the rest is as in `compare`.

    Raises `UsageError` where something asked for cannot be had.
    """
    down, across = (list(dict.fromkeys(keys)) for keys in (down, across))
    if not down or not across:
        raise UsageError("a pivot needs a key for its rows and a key for its columns, such as: activation lr")
    if both := [key for key in down if key in across]:
        raise UsageError(f"{comma_list(both)} cannot be in the rows and in the columns")
    kept, texts = select(rows, filter), list[str]()
    if tune is not None:
        kept, texts = tuned(kept, [*down, *across], tune)
    grouping, columns = group_runs(kept, [*down, *across]), columns_of(kept)
    asked = quantities(metrics, columns, epoch)
    table = Table(grouping, asked, (), cached(curve), alpha, None, texts)
    table.refuse_empty(epoch)
    cells: list[ComparisonRow] = []
    for dataset in sorted({group.dataset for group in grouping.groups}, key=order):
        cells += table.rows([group for group in grouping.groups if group.dataset == dataset], None)
    counts = {cell.n for cell in cells}
    same_n = counts.pop() if len(counts) == 1 else None
    each = f"n = {same_n} each" if same_n is not None else "n in brackets"
    what = asked[0].heading if len(asked) == 1 else "the metrics"
    texts.insert(0, f"Cells: {what}, mean and {100 * (1 - alpha):g}% interval, {each}.")
    texts += footnotes.on_epoch(asked, epoch)
    texts += footnotes.on_settings(grouping, by_variant=False, besides=[tune] if tune else ())
    texts += footnotes.on_runs(grouping)
    several = len({cell.dataset for cell in cells}) > 1 and "dataset" not in (*down, *across)
    return Pivot(
        lines=tuple(_lines(cells, asked, down, across)),
        quantities=asked,
        down=tuple(down),
        across=tuple(across),
        columns=tuple(sorted({_key(cell, across) for cell in cells}, key=_in_order)),
        datasets=several,
        cell_n=same_n,
        footnotes=tuple(texts),
    )


def _lines(
    cells: Sequence[ComparisonRow], asked: Sequence[Quantity], down: Sequence[str], across: Sequence[str]
) -> list[PivotLine]:
    apart = "dataset" not in across  # with the datasets across, a line holds cells of all of them
    found: dict[Key, dict[Key, ComparisonRow]] = {}
    for cell in cells:
        line = (cell.dataset if apart else None, *_key(cell, down))
        found.setdefault(line, {})[_key(cell, across)] = cell
    lines = sorted(found, key=_in_order)
    return [
        PivotLine(one, line[0], dict(zip(down, line[1:], strict=True)), found[line]) for one in asked for line in lines
    ]


def _key(cell: ComparisonRow, keys: Sequence[str]) -> Key:
    return tuple(cell.dataset if key == "dataset" else cell.keys[key] for key in keys)


def _in_order(key: Key) -> tuple[tuple[int, Any], ...]:
    return tuple(order(value) for value in key)


def name_of(keys: Sequence[str], values: Key) -> str:
    """Return how a column is called: `lr=0.01`, `lr=0.01 init=he_normal`."""
    return " ".join(f"{key}={value_text(value)}" for key, value in zip(keys, values, strict=True))
