"""The footnotes that hold for a whole comparison: what to know before believing it (layer 3).

Imports `groups`, `contrasts`, `quantities`, `stats`. Each function returns sentences, none where there is
nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from actbench import stats
from actbench.comparison.contrasts import Contrast
from actbench.comparison.groups import Grouping, listed, shown, varying
from actbench.comparison.quantities import Row

ENVIRONMENT = ("device", "threads", "torch_version", "actbench_version")
"""Columns that should be the same for all runs compared."""


def on_power(contrasts: Sequence[Contrast], alpha: float) -> list[str]:
    """Say what so few seeds cannot show: the least p they can give, and how many a verdict needs."""
    fewest: dict[int, Contrast] = {}
    for contrast in contrasts:
        if contrast.verdict.startswith("needs"):
            known = fewest.setdefault(contrast.comparisons, contrast)
            if contrast.found.smallest_p > known.found.smallest_p:
                fewest[contrast.comparisons] = contrast
    texts = []
    for k, contrast in sorted(fewest.items()):
        n, least = contrast.found.n, contrast.found.smallest_p
        adjusted = f", {min(1.0, k * least):.3g} after Holm over {k} rows" if k > 1 else ""
        texts.append(
            f"{n} {'seed' if n == 1 else 'seeds'} cannot give a p below {least:.3g}{adjusted}; "
            f"a verdict at {alpha:g} needs >= {stats.seeds_needed(k, alpha)} seeds."
        )
    return texts


def on_settings(grouping: Grouping, *, by_variant: bool) -> list[str]:
    """Say which settings vary within rows unasked, and where rows differ in more than one setting."""
    texts = []
    if grouping.mixed:
        values = "; ".join(f"{key}: {listed([shown(v) for v in found])}" for key, found in grouping.mixed.items())
        texts.append(f"Rows average over settings that vary within them ({values}); see --by and --filter.")
    if by_variant:
        runs = [group.runs[0] for group in grouping.groups if group.runs]
        differing = [key for key in varying(runs, grouping.by) if key != "name"]
        if len(differing) > 1:
            texts.append(
                f"Rows differ in {listed(differing)}: a difference may come from any of them, or from several."
            )
    return texts


def on_runs(grouping: Grouping) -> list[str]:
    """Say which runs are left out, and whether they come from different machines."""
    texts = []
    if failed := sum(len(group.failed) for group in grouping.groups):
        texts.append(f"{failed} failed {_runs(failed)} counted as failed, but not in n and not compared.")
    if grouping.duplicates:
        texts.append(f"{grouping.duplicates} {_runs(grouping.duplicates)} there more than once; counted once.")
    runs: list[Row] = [row for group in grouping.groups for row in group.runs]
    for key, values in varying(runs, ENVIRONMENT).items():
        texts.append(f"The runs differ in {key}: {listed([shown(value) for value in values])}.")
    return texts


def _runs(count: int) -> str:
    return "run is" if count == 1 else "runs are"
