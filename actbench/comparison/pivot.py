"""Pivot tables: the values of one setting down, those of another across, a metric in the cells.

A cell is the row of the comparison by both settings, without a baseline: its mean, interval, n, and its rank among all
cells of the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.groups import order
from actbench.comparison.quantities import Curve, Quantity
from actbench.comparison.rows import ComparisonRow, RowMaker
from actbench.errors import UsageError
from actbench.store.csv import Row
from actbench.text import comma_list

Key = tuple[Any, ...]


@dataclass(frozen=True)
class PivotLine:
    """One line: its quantity, its dataset, the values of the settings down, and the cells by those across."""

    quantity: Quantity
    dataset: Any
    keys: Mapping[str, Any]
    cells: Mapping[Key, ComparisonRow]


@dataclass(frozen=True)
class Pivot:
    """The lines, metric by metric and dataset by dataset, in the order of the settings.

    down, across: the settings. columns: the values of the settings across, in order. datasets: whether lines must name
    their dataset (there are several, and no setting is the dataset). cell_n: the n of every cell; None if it varies.
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
    """Lay out `metrics` by the settings `down` and `across`; the other parameters are those of `compare`.

    Raises `UsageError` that says what is not available, and what to do instead.
    """
    down, across = (list(dict.fromkeys(keys)) for keys in (down, across))
    if not down or not across:
        raise UsageError("a pivot needs a key for its rows and a key for its columns, such as: activation lr")
    if both := [key for key in down if key in across]:
        raise UsageError(f"{comma_list(both)} cannot be in both rows and columns")
    maker = RowMaker(rows, [*down, *across], metrics, filter=filter, epoch=epoch, curve=curve, tune=tune, alpha=alpha)
    cells = [cell for groups in maker.datasets() for cell in maker.rows(groups, None)]
    asked, texts = maker.asked, maker.footnotes
    counts = {cell.n for cell in cells}
    same_n = counts.pop() if len(counts) == 1 else None
    each = f"n = {same_n} each" if same_n is not None else "n in brackets"
    what = asked[0].heading if len(asked) == 1 else "the metrics"
    texts.insert(0, f"Cells: {what}, mean and {100 * (1 - alpha):g}% interval, {each}.")
    texts += footnotes.on_epoch(asked, epoch)
    texts += footnotes.on_lengths(asked, maker.grouping)
    texts += footnotes.on_settings(maker.grouping, by_variant=False, besides=[tune] if tune else ())
    texts += footnotes.on_runs(maker.grouping)
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
    apart = "dataset" not in across  # otherwise a line holds cells of all datasets
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
