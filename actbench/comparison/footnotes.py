"""Footnotes: what a reader must know before believing a table. Each `on_...` function returns sentences, often none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from actbench.comparison.contrasts import Contrast, Estimate
from actbench.comparison.groups import Group, Grouping, is_diverged, order, setting, varying
from actbench.comparison.quantities import Quantity, number
from actbench.config import SETTINGS
from actbench.metrics import UNITS
from actbench.stats import permutation
from actbench.store.run import ENVIRONMENT
from actbench.text import comma_list, number_text, plural, value_text


def on_row(one: Quantity, found: Estimate, contrast: Contrast | None, group: Group, alpha: float) -> Iterator[str]:
    """Say what is special about one quantity in one row."""
    if group.diverged:
        yield "Diverged runs count in n but have no value; a row with diverged runs is never the best."
    if one.threshold and found.missing > group.diverged:
        yield f"Some runs never reached the threshold: {one.title} is the mean over those that did."
    elif found.missing > group.diverged:
        yield f"Some runs have no value of {one.title}; they only count in n."
    if contrast is None:
        return
    if contrast.found.method == "unpaired":
        yield "Not paired by seed: Welch's interval and the Mann-Whitney test."
        if contrast.adjusted_p < alpha and not contrast.found.one_way:
            yield "Ranks and means point in opposite directions: no verdict."
    if contrast.unmatched:
        yield "Seeds without a partner in the baseline are left out of the difference."
    if contrast.lost:
        yield "Pairs in which one run has no value are left out of the difference."
    if contrast.withheld:
        yield "No favourable verdict when runs are missing: the survivors may just be lucky."


def on_epoch(asked: Sequence[Quantity], epoch: int | None) -> list[str]:
    """Say that values are not those after the last epoch."""
    if epoch is None:
        return []
    whole = [one.name for one in asked if ":" in one.name]
    which = f"All values except {comma_list(whole)}" if whole else "All values"
    return [f"{which} are taken after epoch {epoch}, not after the last epoch."]


def on_lengths(asked: Sequence[Quantity], grouping: Grouping) -> list[str]:
    """Say that runs of different lengths are averaged over different epochs."""
    areas = [one.name for one in asked if one.name.startswith("auc:")]
    rows = [row for group in grouping.groups for row in group.runs if not is_diverged(row)]
    lengths = sorted(
        {length for row in rows if (length := number(row.get("epochs_run", row.get("epochs")))) is not None}
    )
    if not areas or len(lengths) < 2:
        return []
    span = f"{lengths[0]:g} to {lengths[-1]:g}"
    return [f"{comma_list(areas)}: the mean over each run's own epochs; the runs have {span} epochs."]


def on_method(contrasts: Sequence[Contrast], quantities: int) -> list[str]:
    """Say what p is adjusted for, and when it was estimated from random sign patterns."""
    families = sorted({one.comparisons for one in contrasts if one.comparisons > 1})
    texts = []
    if families:
        each = ", separately for each metric" if quantities > 1 else ""
        counts = " or ".join(map(str, families))
        texts.append(f"p is adjusted by Holm over the {counts} rows compared{each}; intervals are not adjusted.")
    if any(one.found.method == "paired" and one.found.n > permutation.EXACT_PAIRS for one in contrasts):
        texts.append(
            f"Above {permutation.EXACT_PAIRS} pairs, p is estimated from {permutation.SIGN_DRAWS:,} random sign "
            f"patterns and is never below {number_text(1 / (permutation.SIGN_DRAWS + 1), '.5f')}."
        )
    return texts


def on_margin(one: Quantity, margin: float | None) -> list[str]:
    """Say what equivalent means."""
    if margin is None:
        return []
    percent = one.kind == "fraction"
    size = f"{100 * margin:g} percentage points" if percent else f"{margin:g} {UNITS[one.kind]}".rstrip()
    return [f"equivalent: {one.title} differs by less than {size} (two one-sided t tests, Holm)."]


def on_power(contrasts: Sequence[Contrast], alpha: float) -> list[str]:
    """Say what so few seeds cannot show: the smallest p they can give, and how many seeds a verdict needs."""
    fewest: dict[tuple[bool, int], Contrast] = {}
    for one in contrasts:
        if one.verdict.startswith("needs"):
            kind = one.found.method == "unpaired", one.comparisons
            fewest[kind] = max(fewest.get(kind, one), one, key=lambda known: known.found.smallest_p)
    texts = []
    for (unpaired, k), one in sorted(fewest.items()):
        runs = f"{plural(one.found.n, 'run')} per side" if unpaired else plural(one.found.n, "seed")
        least = one.found.smallest_p
        adjusted = f", {number_text(min(1.0, k * least), '.3g')} after Holm over {k} rows" if k > 1 else ""
        needed = permutation.seeds_needed(k, alpha, paired=not unpaired)
        texts.append(
            f"{runs} cannot give a p below {number_text(least, '.3g')}{adjusted}; "
            f"a verdict at {alpha:g} needs >= {needed} seeds."
        )
    return texts


def on_settings(grouping: Grouping, *, by_variant: bool, besides: Collection[str] = ()) -> list[str]:
    """Say which settings vary within rows, and where rows differ in more than what was asked for.

    Settings in `besides` are known to vary. Rows on different datasets are not compared, so they may differ.
    """
    texts = []
    if grouping.mixed:
        values = "; ".join(f"{key}: {comma_list([*map(value_text, found)])}" for key, found in grouping.mixed.items())
        texts.append(
            f"Rows average over settings that vary within them ({values}); see --by and --filter. "
            "n counts runs; intervals are over seeds."
        )
        if _differently_mixed(grouping):
            texts.append(
                "Rows average over different values of these settings: compare the differences, not the means."
            )
    named = by_variant or "name" in grouping.by  # a name stands for all the settings of its variant
    known = {"name", "dataset", *grouping.mixed, *besides, *(() if by_variant else grouping.by)}
    datasets = {group.dataset for group in grouping.groups}
    differing: dict[str, None] = {}
    for dataset in sorted(datasets, key=order):
        runs = [group.runs[0] for group in grouping.groups if group.runs and group.dataset == dataset]
        differing |= dict.fromkeys(key for key in varying(runs, SETTINGS) if key not in known)
    if named and len(differing) > 1:
        texts.append(f"Rows differ in {comma_list([*differing])}: any of these may cause a difference.")
    elif differing and not named:
        texts.append(f"Rows also differ in {comma_list([*differing])}, which may cause a difference.")
    if len(datasets) > 1:
        texts.append(f"{len(datasets)} datasets: rows are compared within each dataset and never averaged over them.")
    return texts


def _differently_mixed(grouping: Grouping) -> bool:
    """Whether rows on one dataset average over different settings; diverged runs do not count."""
    mixtures: dict[Any, set[frozenset[Any]]] = {}
    for group in grouping.groups:
        ended = [row for row in group.runs if not is_diverged(row)]
        found = frozenset(tuple(setting(row, key) for key in grouping.mixed) for row in ended)
        mixtures.setdefault(group.dataset, set()).add(found)
    return any(len(found) > 1 for found in mixtures.values())


def on_runs(grouping: Grouping) -> list[str]:
    """Say which runs are left out, and whether the runs come from different machines or versions."""
    texts = []
    if failed := sum(len(group.failed) for group in grouping.groups):
        texts.append(f"Not compared and not in n: {plural(failed, 'failed run')}.")
    if grouping.copies:
        texts.append(f"Counted once although stored more than once: {plural(grouping.copies, 'run')}.")
    if grouping.again:
        texts.append(
            f"Stored again with different results or times: {plural(grouping.again, 'run')}. "
            "The value of a seed is the mean of its runs."
        )
    if grouping.merged:
        texts.append(
            f"Same label, settings and seed as another row, but other results, and no run_id: "
            f"{plural(grouping.merged, 'row')}. If they are of different settings, add a column that tells them apart. "
            "The value of a seed is the mean of its rows."
        )
    runs = [row for group in grouping.groups for row in group.runs]
    for key, values in varying(runs, ENVIRONMENT).items():
        texts.append(f"The runs differ in {key}: {comma_list([*map(value_text, values)])}.")
    return texts
