"""The footnotes that hold for a whole comparison: what to know before believing it (layer 3).

Imports `groups`, `contrasts`, `quantities`, `stats`. Each function returns sentences, none where there is
nothing to say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from actbench import stats
from actbench.comparison.contrasts import Contrast
from actbench.comparison.groups import CONFIG_KEYS, ENVIRONMENT, Grouping, is_diverged, order, setting, varying
from actbench.comparison.quantities import Quantity, Row
from actbench.metrics import UNITS
from actbench.text import comma_list, value_text

__all__ = ["ENVIRONMENT", "on_epoch", "on_margin", "on_method", "on_power", "on_runs", "on_settings"]


def on_epoch(asked: Sequence[Quantity], epoch: int | None) -> list[str]:
    """Say that values are not those of the last epoch."""
    if epoch is None:
        return []
    whole = [one.name for one in asked if ":" in one.name]
    but = f" but those of {comma_list(whole)}" if whole else ""
    return [f"All values{but} are those after epoch {epoch}, not after the last one."]


def on_method(contrasts: Sequence[Contrast], quantities: int) -> list[str]:
    """Say what p is adjusted for, and where it was not counted but drawn."""
    families = sorted({one.comparisons for one in contrasts if one.comparisons > 1})
    texts = []
    if families:
        each = ", each metric by itself" if quantities > 1 else ""
        texts.append(
            f"p is adjusted by Holm over the {' or '.join(map(str, families))} rows compared{each}; intervals are not."
        )
    if any(one.found.method == "paired" and one.found.n > stats.EXACT_PAIRS for one in contrasts):
        texts.append(
            f"Above {stats.EXACT_PAIRS} pairs, p is drawn from {stats.SIGN_DRAWS:,} sign patterns: "
            f"never below {1 / (stats.SIGN_DRAWS + 1):.2g}."
        )
    return texts


def on_margin(one: Quantity, margin: float | None) -> list[str]:
    """Say what equivalent means."""
    if margin is None:
        return []
    shown_margin = (
        f"{100 * margin:g} percentage points" if one.kind == "fraction" else f"{margin:g} {UNITS[one.kind]}".rstrip()
    )
    return [f"equivalent: {one.title} differs by less than {shown_margin} (two one-sided t tests, Holm)."]


def on_power(contrasts: Sequence[Contrast], alpha: float) -> list[str]:
    """Say what so few seeds cannot show: the least p they can give, and how many a verdict needs."""
    fewest: dict[tuple[bool, int], Contrast] = {}
    for one in contrasts:
        if one.verdict.startswith("needs"):
            known = fewest.setdefault((one.found.method != "paired", one.comparisons), one)
            if one.found.smallest_p > known.found.smallest_p:
                fewest[one.found.method != "paired", one.comparisons] = one
    texts = []
    for (unpaired, k), one in sorted(fewest.items()):
        n, least = one.found.n, one.found.smallest_p
        what = ("run" if unpaired else "seed") + ("" if n == 1 else "s") + (" a side" if unpaired else "")
        adjusted = f", {min(1.0, k * least):.3g} after Holm over {k} rows" if k > 1 else ""
        needed = stats.seeds_needed(k, alpha, paired=not unpaired)
        texts.append(
            f"{n} {what} cannot give a p below {least:.3g}{adjusted}; a verdict at {alpha:g} needs >= {needed} seeds."
        )
    return texts


def on_settings(grouping: Grouping, *, by_variant: bool, besides: Collection[str] = ()) -> list[str]:
    """Say which settings vary within rows unasked, and where rows differ in more than what was asked for.

    Settings in `besides` are known to vary. Rows on different datasets are not compared, so they may differ.
    """
    texts = []
    if grouping.mixed:
        values = "; ".join(
            f"{key}: {comma_list([value_text(v) for v in found])}" for key, found in grouping.mixed.items()
        )
        texts.append(
            f"Rows average over settings that vary within them ({values}); see --by and --filter. "
            "n counts runs, intervals count seeds."
        )
        if _differently_mixed(grouping):
            texts.append(
                "Not all rows have values at the same of these settings: compare the differences, not the means."
            )
    named = by_variant or "name" in grouping.by  # a name stands for all the settings of its variant
    known = {"name", "dataset", *grouping.mixed, *besides, *(() if by_variant else grouping.by)}
    datasets = {group.dataset for group in grouping.groups}
    differing: dict[str, None] = {}
    for dataset in sorted(datasets, key=order):
        runs = [group.runs[0] for group in grouping.groups if group.runs and group.dataset == dataset]
        differing |= dict.fromkeys(key for key in varying(runs, CONFIG_KEYS) if key not in known)
    if named and len(differing) > 1:
        texts.append(
            f"Rows differ in {comma_list([*differing])}: a difference may come from any of them, or from several."
        )
    elif differing and not named:
        texts.append(f"Rows differ in {comma_list([*differing])} too, unasked: a difference may come from that.")
    if len(datasets) > 1:
        texts.append(f"{len(datasets)} datasets: rows are compared within each, and nothing is averaged over them.")
    return texts


def _differently_mixed(grouping: Grouping) -> bool:
    """Whether rows on one dataset average over different settings, runs that diverged left out."""
    mixtures: dict[Any, set[frozenset[Any]]] = {}
    for group in grouping.groups:
        ended = [row for row in group.runs if not is_diverged(row)]
        found = frozenset(tuple(setting(row, key) for key in grouping.mixed) for row in ended)
        mixtures.setdefault(group.dataset, set()).add(found)
    return any(len(found) > 1 for found in mixtures.values())


def on_runs(grouping: Grouping) -> list[str]:
    """Say which runs are left out, and whether they come from different machines."""
    texts = []
    if failed := sum(len(group.failed) for group in grouping.groups):
        texts.append(f"{failed} failed {_runs(failed)} counted as failed, but not in n and not compared.")
    if grouping.copies:
        texts.append(f"{grouping.copies} {_runs(grouping.copies)} there more than once; counted once.")
    if grouping.again:
        texts.append(
            f"{grouping.again} {_runs(grouping.again)} there again with other results or times; "
            "a seed's value is the mean of its runs."
        )
    runs: list[Row] = [row for group in grouping.groups for row in group.runs]
    for key, values in varying(runs, ENVIRONMENT).items():
        texts.append(f"The runs differ in {key}: {comma_list([value_text(value) for value in values])}.")
    return texts


def _runs(count: int) -> str:
    return "run is" if count == 1 else "runs are"
