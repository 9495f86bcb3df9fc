"""Statistics: arrays in, numbers out.

Arrays are one-dimensional, with one value per run. Runs of two variants with the same seed saw the same images in the
same order and started from the same standard draw, so they are compared pair by pair by default.

P-values are two-sided. `confidence` is the coverage of an interval, `alpha` the error rate of a verdict. Nothing draws
from a global random generator: equal inputs give equal numbers, in any order of the pairs.
"""

from __future__ import annotations

from actbench.stats.differences import (
    Difference,
    Interval,
    holm,
    mean,
    paired,
    sd,
    significant,
    t_interval,
    tost_paired,
    tost_welch,
    unpaired,
    verdict,
)
from actbench.stats.permutation import (
    EXACT_PAIRS,
    SIGN_DRAWS,
    mann_whitney,
    seeds_needed,
    sign_flip,
    smallest_p,
    smallest_p_unpaired,
)

__all__ = [
    "EXACT_PAIRS", "SIGN_DRAWS", "Difference", "Interval", "holm", "mann_whitney", "mean", "paired", "sd",
    "seeds_needed", "sign_flip", "significant", "smallest_p", "smallest_p_unpaired", "t_interval", "tost_paired",
    "tost_welch", "unpaired", "verdict",
]  # fmt: skip
