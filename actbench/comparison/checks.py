"""What `--fail-if` asks of a comparison (layer 3; imports `results`, `expressions`)."""

from __future__ import annotations

from typing import Any

from actbench import expressions
from actbench.comparison.results import Comparison, ComparisonRow


def failing(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows whose significant differences to the baseline meet the expression `condition`.

    In it, a metric's name stands for the difference of its means, in its stored unit: `test_accuracy < -0.005`
    is half a point worse; a name with more than letters and digits stands in square brackets, as in
    `[epochs_to:test_accuracy>=0.97] > 1`. A difference that is not significant after Holm is unknown and meets
    nothing. The columns n, diverged, failed and those that name the row stand for themselves. Raises
    `UsageError`.
    """
    expression = _about_rows(comparison, condition)
    return tuple(row for row in comparison.rows if expression.holds(_facts(row, only_significant=True)))


def unproven(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows that `failing` passes only for lack of evidence.

    They would meet `condition` if their differences were significant, or have no difference to judge by.
    """
    expression = _about_rows(comparison, condition)
    proven = failing(comparison, condition)
    return tuple(
        row
        for row in comparison.rows
        if not row.is_baseline
        and row not in proven
        and expression.decide(_facts(row, only_significant=False)) is not False
    )


def _about_rows(comparison: Comparison, condition: str) -> expressions.Condition:
    names = [one.name for one in comparison.quantities]
    keys = dict.fromkeys(key for row in comparison.rows for key in row.keys)
    return expressions.condition(condition, [*names, "label", "dataset", "n", "diverged", "failed", *keys])


def _facts(row: ComparisonRow, *, only_significant: bool) -> dict[str, Any]:
    facts = {**row.keys, "label": row.label, "dataset": row.dataset}
    facts |= {"n": row.n, "diverged": row.diverged, "failed": row.failed}
    for name, result in row.results.items():
        usable = result.contrast is not None and (result.contrast.significant or not only_significant)
        facts[name] = result.contrast.found.difference if usable and result.contrast else None
    return facts
