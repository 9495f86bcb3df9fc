"""Tuning: compare each group at its own best value of a setting, such as the learning rate.

Validation images, split off the training set, decide which value is best. The test set never does: its accuracy would
no longer be that on unseen images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from actbench.comparison.groups import Group, columns_of, group_runs, is_diverged, order
from actbench.comparison.quantities import number
from actbench.config import SETTINGS
from actbench.errors import UnknownNameError, UsageError
from actbench.store.csv import Row
from actbench.text import comma_list, value_text

MEASURE = "validation_accuracy"

_Fixed = tuple[Any, ...]  # the dataset and the values of all keys except the tuned one
_Tried = dict[_Fixed, list[Group]]  # one group per value of the tuned key


def tuned(rows: Sequence[Row], by: Sequence[str] | None, key: str) -> tuple[list[Row], list[str]]:
    """Keep only the runs at each group's best value of `key`; return them, and footnotes about the choice.

    The best value has the highest mean validation_accuracy after the last epoch. Values at which a run diverged rank
    below those at which none did; values without an ended run were not tried. Raises `UsageError` without validation
    data, and if groups on a dataset tried different numbers of values: more tries find better values.
    """
    columns = columns_of(rows)
    if key not in columns:
        raise UnknownNameError("column", key, columns)
    if by is not None and key in by:
        raise UsageError(f"--tune {key} keeps each row's best {key}, so {key} cannot name rows or columns as well")
    others = [k for k in (by if by is not None else SETTINGS) if k in columns and (by or k != "name") and k != key]
    tried: _Tried = {}
    for group in group_runs(rows, [*others, key]).groups:
        if group.runs:
            fixed = (group.dataset, *(value for k, value in group.keys.items() if k != key))
            tried.setdefault(fixed, []).append(group)
    names = _names(list(tried), ["dataset", *(k for k in others if k != "dataset")])
    _check_budgets(tried, names, key)
    best = {fixed: min(groups, key=lambda one: _standing(one, key)) for fixed, groups in tried.items()}
    kept = [row for group in best.values() for row in (*group.runs, *group.failed)]
    return kept, list(_remarks(tried, best, names, key))


def _names(tried: Sequence[_Fixed], keys: Sequence[str]) -> dict[_Fixed, str]:
    """Name each by what tells it apart from the others: `relu`, `relu init=he_normal`."""
    telling = [i for i in range(len(keys)) if len({fixed[i] for fixed in tried}) > 1]
    telling = telling or [i for i, key in enumerate(keys) if key == "activation"]
    plain = {"activation", "name", "dataset"}
    return {
        fixed: " ".join(
            value_text(fixed[i]) if keys[i] in plain else f"{keys[i]}={value_text(fixed[i])}" for i in telling
        )
        or "all runs"
        for fixed in tried
    }


def _standing(group: Group, key: str) -> tuple[bool, float, tuple[int, Any]]:
    """Return a sort key, best first: no diverged runs, then validation accuracy, then the smaller value."""
    scores = [number(row.get(MEASURE)) for row in group.runs if not is_diverged(row)]
    found = [score for score in scores if score is not None]
    if len(found) < len(scores):
        raise UsageError(
            f"--tune {key} chooses by {MEASURE}, which {len(scores) - len(found)} runs of "
            f"{group.label!r} lack; train with `validation: 5000`, so that the test set stays unseen"
        )
    lost = group.diverged > 0 or not found
    return lost, -math.fsum(found) / len(found) if found else math.inf, order(group.keys[key])


def _check_budgets(tried: _Tried, names: dict[_Fixed, str], key: str) -> None:
    """Raise `UsageError` if groups on one dataset tried different numbers of values, or every group only one."""
    for dataset in sorted({fixed[0] for fixed in tried}, key=order):
        counts = sorted((-len(tried[fixed]), names[fixed]) for fixed in tried if fixed[0] == dataset)
        if counts[0][0] != counts[-1][0]:
            extremes = counts if len(counts) < 6 else [*counts[:2], *counts[-2:]]
            raise UsageError(
                f"--tune {key} needs the same number of values of {key} for every row, got "
                f"{', '.join(f'{name}: {-n}' for n, name in extremes)}; train the missing ones or use --filter"
            )
    if all(len(groups) == 1 for groups in tried.values()):
        raise UsageError(f"--tune {key}: every row has only one value of {key}; group by other keys with --by")


def _remarks(tried: _Tried, best: dict[_Fixed, Group], names: dict[_Fixed, str], key: str) -> Iterable[str]:
    """Say what was chosen, and what may be wrong with the choice."""
    values = {fixed: sorted((group.keys[key] for group in groups), key=order) for fixed, groups in tried.items()}
    chosen = {fixed: group.keys[key] for fixed, group in best.items()}
    told = comma_list(sorted(f"{names[fixed]} {value_text(value)}" for fixed, value in chosen.items()))
    of = " or ".join(map(str, sorted({len(tries) for tries in values.values()})))
    yield f"Each row uses its best of {of} values of {key} by validation accuracy after the last epoch: {told}."
    edge = sorted(
        names[fixed] for fixed, tries in values.items() if len(tries) > 1 and chosen[fixed] in tries[:: len(tries) - 1]
    )
    if edge:
        yield f"The best {key} is the smallest or largest one tried for {comma_list(edge)}: try values beyond it."
    if len({tuple(tries) for tries in values.values()}) > 1:
        yield f"Rows tried equally many values of {key}, but not the same ones."
    runs = sorted({len(group.runs) for groups in tried.values() for group in groups})
    if len(runs) > 1:
        yield f"Values of {key} were tried with {runs[0]} to {runs[-1]} runs each; fewer runs leave more to luck."
