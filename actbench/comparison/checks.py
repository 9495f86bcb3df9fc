"""Checks: conditions on the rows of a comparison, such as that of `--fail-if`.

    test_accuracy < 0.97             the mean of a row
    diff(test_accuracy) < -0.005     its difference from the baseline

Both are in the stored unit: fractions are 0-1. A difference that is not significant after adjustment is unknown, and an
unknown condition is not met. The columns n, diverged, failed and those that name a row stand for themselves.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from actbench import conditions
from actbench.comparison.compare import Comparison
from actbench.comparison.quantities import Quantity
from actbench.comparison.rows import ComparisonRow
from actbench.errors import UsageError

DIFFERENCE = "diff"
_LARGE = 0.5  # a difference in accuracy beyond this is more likely a mean in the wrong place
_SIGNED = ("accuracy_gap", "mean_activation")  # the metrics that can be negative
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def failing(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows that meet `condition`.

    Raises `UsageError` for a mistake in it, and for a bound that no mean or difference can be expected to reach.
    """
    asked = _about_rows(comparison, condition)
    return tuple(row for row in comparison.rows if asked.holds(_facts(row, only_significant=True)))


def undecided(comparison: Comparison, condition: str) -> tuple[ComparisonRow, ...]:
    """Return the rows that do not meet `condition` only for lack of evidence.

    They would meet it if their differences were significant, or they have no value to judge by. The baseline has no
    difference from itself.
    """
    asked, met = _about_rows(comparison, condition), failing(comparison, condition)
    relative = any(name.startswith(f"{DIFFERENCE}(") for name in asked.names)
    others = [row for row in comparison.rows if row not in met and not (row.is_baseline and relative)]
    return tuple(row for row in others if asked.decide(_facts(row, only_significant=False)) is not False)


def _about_rows(comparison: Comparison, condition: str) -> conditions.Condition:
    means = [one.name for one in (*comparison.quantities, *comparison.extras)]
    keys = dict.fromkeys(key for row in comparison.rows for key in row.keys)
    names = [*means, "label", "dataset", "n", "diverged", "failed", *keys]
    asked = conditions.condition(condition, names, {DIFFERENCE: [one.name for one in comparison.quantities]})
    known = {one.name: one for one in (*comparison.quantities, *comparison.extras)}
    for name, sign, bound in _bounds(asked.tree):
        inner = name.removeprefix(f"{DIFFERENCE}(").removesuffix(")") if name not in known else name
        if inner in known and (why := _implausible(known[inner], sign, bound, relative=inner != name)):
            raise UsageError(f"{condition!r}: {why}")
    return asked


def _facts(row: ComparisonRow, *, only_significant: bool) -> dict[str, Any]:
    facts = {**row.keys, "label": row.label, "dataset": row.dataset}
    facts |= {"n": row.n, "diverged": row.diverged, "failed": row.failed}
    for name, result in row.results.items():
        contrast = result.contrast
        known = contrast is not None and (contrast.significant or not only_significant)
        facts[name] = result.estimate.mean
        facts[f"{DIFFERENCE}({name})"] = contrast.found.difference if contrast is not None and known else None
    return facts


def _bounds(tree: ast.expr) -> Iterator[tuple[str, str, float]]:
    """Give each comparison of a name with a number: the name, the sign with the name on its left, and the number."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=bound)]):
                sign = conditions.sign_of(op)
            case ast.Compare(left=ast.Constant(value=bound), ops=[op], comparators=[ast.Name(id=name)]):
                sign = _MIRRORED.get(conditions.sign_of(op), conditions.sign_of(op))
            case _:
                continue
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            yield name, sign, bound


def _implausible(one: Quantity, sign: str, bound: float, *, relative: bool) -> str | None:
    """Say why no row is expected to be near `bound`, and what was probably meant."""
    name = one.name if re.fullmatch(r"[\w.]+", one.name) else f"[{one.name}]"
    difference, metric = f"{DIFFERENCE}({name})", one.name.rpartition(":")[2]
    fraction, accuracy = one.kind == "fraction", metric.endswith("accuracy")
    if relative:
        if fraction and abs(bound) > 1:
            return (
                f"a difference of {name} is a fraction from -1 to 1; for {abs(bound):g} percentage points, write: "
                f"{difference} {sign} {bound / 100:g}"
            )
        if fraction and accuracy and abs(bound) > _LARGE:
            return (
                f"{difference} is a row's difference from the baseline, and {bound:g} is too far from 0 for one; for "
                f"the row's mean, write: {name} {sign} {bound:g}"
            )
        return None
    if bound < 0 and (one.kind != "number" or metric.endswith("loss")) and metric not in _SIGNED:
        return (
            f"{name} is a row's mean, which is never negative; for its difference from the baseline, write: "
            f"{difference} {sign} {bound:g}"
        )
    if fraction and bound > 1:
        return f"{name} is a fraction from 0 to 1; for {bound:g}%, write: {name} {sign} {bound / 100:g}"
    return None
