"""Each group at its own best setting: the learning rate is no part of the question (layer 3).

Imports `groups`, `quantities` and `errors`. What is best is decided on images that were split off the training set;
the test set has no say, or its accuracy would no longer be one of unseen images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from actbench.comparison.groups import CONFIG_KEYS, Group, columns_of, group_runs, is_diverged, order
from actbench.comparison.quantities import Row, number
from actbench.errors import UnknownNameError, UsageError
from actbench.text import comma_list, value_text

MEASURE = "validation_accuracy"

_Same = tuple[Any, ...]  # the dataset and the values of all keys but the tuned one
_Tried = dict[_Same, list[Group]]  # a group a value


def tuned(rows: Sequence[Row], by: Sequence[str] | None, key: str) -> tuple[list[Row], list[str]]:
    """Keep, of each group, only the runs at its best value of `key`; return them and what to say about it.

    The best value is the one with the highest mean validation_accuracy after the last epoch; values at which a run
    diverged come after those at which none did, and values without an ended run were not tried. Raises
    `UsageError` without validation data, and where groups of a dataset tried different numbers of values: who
    tries more finds better ones.
    """
    columns = columns_of(rows)
    if key not in columns:
        raise UnknownNameError("column", key, columns)
    if by is not None and key in by:
        raise UsageError(f"--tune {key} takes each row at its best {key}, so {key} cannot name rows or columns as well")
    others = [k for k in (by if by is not None else CONFIG_KEYS) if k in columns and (by or k != "name") and k != key]
    tried: _Tried = {}
    for group in group_runs(rows, [*others, key]).groups:
        if group.runs:
            same = (group.dataset, *(value for k, value in group.keys.items() if k != key))
            tried.setdefault(same, []).append(group)
    names = _names(list(tried), ["dataset", *(k for k in others if k != "dataset")])
    _check_budgets(tried, names, key)
    best = {same: min(groups, key=lambda one: _standing(one, key)) for same, groups in tried.items()}
    kept = [row for group in best.values() for row in (*group.runs, *group.failed)]
    return kept, list(_remarks(tried, best, names, key))


def _names(tried: Sequence[_Same], keys: Sequence[str]) -> dict[_Same, str]:
    """Name each by what tells it from the others: `relu`, `relu init=he_normal`."""
    telling = [i for i in range(len(keys)) if len({same[i] for same in tried}) > 1]
    telling = telling or [i for i, key in enumerate(keys) if key == "activation"]
    plain = {"activation", "name", "dataset"}
    return {
        same: " ".join(value_text(same[i]) if keys[i] in plain else f"{keys[i]}={value_text(same[i])}" for i in telling)
        or "all runs"
        for same in tried
    }


def _standing(group: Group, key: str) -> tuple[bool, float, tuple[int, Any]]:
    """Sort the best value first: all runs ended well, then validation accuracy, then the smaller value."""
    scores = [number(row.get(MEASURE)) for row in group.runs if not is_diverged(row)]
    found = [score for score in scores if score is not None]
    if len(found) < len(scores):
        raise UsageError(
            f"--tune {key} chooses by {MEASURE}, which {len(scores) - len(found)} runs of "
            f"{group.label!r} lack; train with `validation: 5000`, so that the test set stays unseen"
        )
    lost = group.diverged > 0 or not found
    return lost, -math.fsum(found) / len(found) if found else math.inf, order(group.keys[key])


def _check_budgets(tried: _Tried, names: dict[_Same, str], key: str) -> None:
    """Raise `UsageError` where groups on one dataset tried different numbers of values, or all a single one."""
    for dataset in sorted({same[0] for same in tried}, key=order):
        counts = sorted((-len(tried[same]), names[same]) for same in tried if same[0] == dataset)
        if counts[0][0] != counts[-1][0]:
            told = counts if len(counts) < 6 else [*counts[:2], *counts[-2:]]  # the extremes tell the most
            raise UsageError(
                f"--tune {key} needs the same number of values of {key} for every row, got "
                f"{', '.join(f'{name}: {-n}' for n, name in told)}; train the missing ones or --filter"
            )
    if all(len(groups) == 1 for groups in tried.values()):
        raise UsageError(f"--tune {key}: every row has only one value of {key}; group by other keys with --by")


def _remarks(tried: _Tried, best: dict[_Same, Group], names: dict[_Same, str], key: str) -> Iterable[str]:
    """Say what was chosen, and what may be wrong with the choice."""
    values = {same: sorted((group.keys[key] for group in groups), key=order) for same, groups in tried.items()}
    chosen = {same: group.keys[key] for same, group in best.items()}
    told = comma_list(sorted(f"{names[same]} {value_text(value)}" for same, value in chosen.items()))
    of = " or ".join(map(str, sorted({len(tries) for tries in values.values()})))
    yield f"{key} is each row's best of {of} by validation accuracy after the last epoch: {told}."
    edge = sorted(
        names[same] for same, tries in values.items() if len(tries) > 1 and chosen[same] in tries[:: len(tries) - 1]
    )
    if edge:
        yield f"The best {key} lies at the edge of what was tried for {comma_list(edge)}: try values beyond."
    if len({tuple(tries) for tries in values.values()}) > 1:
        yield f"Rows tried as many values of {key}, but not the same ones."
    runs = sorted({len(group.runs) for groups in tried.values() for group in groups})
    if len(runs) > 1:
        yield f"Values of {key} were tried with {runs[0]} to {runs[-1]} runs each: the fewer, the more luck."
