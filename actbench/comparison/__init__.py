"""Rows of runs -> one row a variant, with intervals, differences and verdicts (layer 4).

Imports its own modules (`groups`, `quantities`, `contrasts`, `table`, `arrangement`, `tuning`, `remarks`, `checks`,
`pivots`), `expressions` and `errors`. Reads no files, prints nothing.

What is honest about a table of few seeds stands in its footnotes: what n cannot show, runs that diverged,
settings that vary unasked, runs from different machines. A diverged run counts in n but has no value; a row
with one is ranked after all rows without, is never the best, and is never called better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from actbench.comparison import footnotes
from actbench.comparison.arrangement import choose_baseline, sorter
from actbench.comparison.checks import failing, unproven
from actbench.comparison.groups import Grouping, columns_of, group_runs, order, select
from actbench.comparison.pivots import Pivot, pivot
from actbench.comparison.quantities import Curve, Quantity, Row, number, quantities, quantity
from actbench.comparison.results import Comparison, ComparisonRow, Result
from actbench.comparison.table import Table, cached
from actbench.comparison.tuning import tuned
from actbench.errors import UsageError
from actbench.text import value_text

__all__ = [
    "Comparison", "ComparisonRow", "Pivot", "Result", "choose_baseline", "compare", "failing", "pivot", "unproven",
]  # fmt: skip

EXTRAS = ("dead_ratio", "wall_s")
"""Shown beside the metrics asked for, with a mean and an interval but no comparison."""


def compare(
    rows: Sequence[Row],
    *,
    by: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = ("test_accuracy",),
    filter: str | None = None,  # noqa: A002 - named like its flag
    sort: str | None = None,
    epoch: int | None = None,
    curve: Curve | None = None,
    equivalence: float | None = None,
    tune: str | None = None,
    only_changed: bool = False,
    top: int | None = None,
    alpha: float = 0.05,
) -> Comparison:
    """Compare the runs in `rows`, one mapping a run with the columns of runs.csv.

    by: the columns that make a row, by default all settings. baseline: a label, a name or a key's value; by
    default relu, else the first by its settings (the best one would be chosen by the data, and every other row
    would look worse than it is beside it). metrics: see `quantities`. filter: an expression over the columns.
    sort: any column of the table, see `arrangement.sorter`; by default the first metric, best first. epoch:
    compare after this epoch. curve: gives a run's epochs. equivalence: the margin of the first metric, in its
    stored unit, within which rows are called equivalent. tune: a setting at whose best value each row is taken.
    top: rows to keep a dataset, beside the baseline; Holm's adjustment counts all of them.

    Raises `UsageError` where something asked for cannot be had, and says what to do instead.
    """
    if equivalence is not None and not 0 < equivalence < math.inf:
        raise UsageError(f"--equivalence must be a number > 0, got {equivalence:g}")
    kept, texts = select(rows, filter), list[str]()
    if tune is not None:
        kept, texts = tuned(kept, by, tune)
    grouping, columns = group_runs(kept, by), columns_of(kept)
    asked = quantities(metrics, columns, epoch)
    extras = _extras(kept, columns, epoch, asked)
    table = Table(grouping, asked, extras, cached(curve), alpha, equivalence, texts)
    table.refuse_empty(epoch)
    resort = sorter(sort, table, columns, epoch) if sort else None
    chosen = choose_baseline(table.in_order(), baseline)
    ranked = table.best_first(grouping.groups)
    found: list[ComparisonRow] = []
    for dataset in sorted({group.dataset for group in ranked}, key=order):
        groups = [group for group in ranked if group.dataset == dataset]
        within = table.rows(groups, chosen)
        within = resort(within, groups) if resort else within
        found += within if top is None else [r for i, r in enumerate(within) if i < top or r.is_baseline]
    if len(found) < len(ranked):
        texts.append(f"{len(found)} of {len(ranked)} rows are value_text; p is adjusted for all of them.")
    texts += footnotes.on_epoch(asked, epoch)
    contrasted = [result.contrast for row in found for result in row.results.values() if result.contrast]
    texts += footnotes.on_method(contrasted, len(asked))
    texts += footnotes.on_margin(asked[0], equivalence)
    texts += footnotes.on_power(contrasted, alpha)
    texts += footnotes.on_settings(grouping, by_variant=by is None, besides=[tune] if tune else ())
    texts += footnotes.on_runs(grouping)
    named = _name_columns(grouping, by_variant=by is None, only_changed=only_changed)
    return Comparison(tuple(found), asked, extras, named, tuple(texts), chosen, alpha)


def _extras(
    rows: Sequence[Row], columns: Sequence[str], epoch: int | None, asked: Sequence[Quantity]
) -> tuple[Quantity, ...]:
    """Return the extras that were measured; after an epoch, what is known of the whole run only is not one."""
    names = [name for name in EXTRAS if name not in {one.name for one in asked}]
    if epoch is not None:
        names = [name for name in names if name != "wall_s"]
    measured = [name for name in names if any(number(row.get(name)) is not None for row in rows)]
    return tuple(quantity(name, columns, epoch) for name in measured)


def _name_columns(grouping: Grouping, *, by_variant: bool, only_changed: bool) -> tuple[str, ...]:
    """Return the columns that name a row: the label of a variant and what varies, or the keys asked for."""
    groups = grouping.groups
    several = {key for key in grouping.by if len({group.keys[key] for group in groups}) > 1}
    dataset = ["dataset"] if len({group.dataset for group in groups}) > 1 else []
    if by_variant:
        telling = [key for key in grouping.by if key in several and key != "name"]
        return (*dataset, "label", *(k for k in telling if any(value_text(g.keys[k]) != g.label for g in groups)))
    keys = [key for key in grouping.by if key in several or not only_changed]
    return (*dataset, *keys) if keys or dataset else ("label",)
