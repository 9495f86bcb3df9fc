"""Statistics, arrays in and numbers out: intervals, differences, equivalence, Holm's adjustment and verdicts.

Arrays are one-dimensional, with one value per run. Runs of two variants with the same seed saw the same images in the
same order and started from the same standard draw, so they are compared pair by pair by default.

P-values are two-sided. `confidence` is the coverage of an interval, `alpha` the error rate of a verdict. Nothing draws
from a global random generator: equal inputs give equal numbers, in any order of the pairs.

Sources: Bouthillier et al. 2021 (P(A>B), paired seeds), Fisher 1935 (sign flips), Holm 1979, Schuirmann 1987 (TOST).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from actbench.metrics import Better
from actbench.stats import permutation
from actbench.stats.permutation import Floats

# Differences of stored fractions carry rounding errors of about 1e-16. Relative to the size of the numbers, a smaller
# difference than this is a tie, and a smaller spread is 0.
_ROUNDING = 1e-12


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width: the number after the ±."""
        return (self.high - self.low) / 2

    def clipped(self, low: float = 0.0, high: float = 1.0) -> Interval:
        """Return the interval clipped to [low, high], because a share cannot be negative."""
        return Interval(min(max(self.low, low), high), max(min(self.high, high), low))


@dataclass(frozen=True)
class Difference:
    """How `a` differs from `b`.

    n: pairs, or runs on the smaller side if unpaired. difference: mean a - mean b. interval: t or Welch's, None for
    n < 2. p: of the sign-flip or the Mann-Whitney test. smallest_p: the smallest p that this many runs can give.
    effect: None if the spread is 0. superiority: P(A>B), the probability that a value of `a` is larger than its partner
    in `b` (unpaired: than any value of `b`); ties count half.
    """

    method: Literal["paired", "unpaired"]
    n: int
    difference: float
    interval: Interval | None
    p: float
    smallest_p: float
    effect: float | None
    effect_name: Literal["d_z", "g"]
    superiority: float

    @property
    def one_way(self) -> bool:
        """Whether the test and the means point the same way.

        Ranks ignore how far off a run is. Seven runs a little above and one far below give a lower mean but higher
        ranks; neither side may then be called better.
        """
        return self.method == "paired" or (self.superiority - 0.5) * self.difference > 0


def mean(values: ArrayLike) -> float | None:
    """Return the mean, or None without values."""
    x = _floats(values)
    return float(x.mean()) if x.size else None


def sd(values: ArrayLike) -> float | None:
    """Return the sample standard deviation (with n - 1), or None for fewer than two values."""
    x = _floats(values)
    return _spread(x, _size(x)) if x.size > 1 else None


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Return `mean ± t(n-1) sd / sqrt(n)`, or None for fewer than two values.

    For ratios (accuracy, dead units) the interval is over seeds, not over images or units, because the seed is what
    varies. Clip it to [0, 1].
    """
    x = _floats(values)
    if x.size < 2:
        return None
    return _around(float(x.mean()), _spread(x, _size(x)) / math.sqrt(x.size), x.size - 1, confidence)


def paired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Compare `a` with `b` pair by pair, both (n,), n >= 1.

    The interval is the t interval of the mean of a - b, p is that of the sign-flip test, and the effect is Cohen's
    d_z = mean(a - b) / sd(a - b). Raises ValueError if the shapes differ or there are no values.
    """
    d, size = _differences(a, b)
    centre = float(d.mean())
    spread = _spread(d, size) if d.size > 1 else 0.0
    interval = _around(centre, spread / math.sqrt(d.size), d.size - 1, confidence) if d.size > 1 else None
    return Difference(
        method="paired",
        n=d.size,
        difference=centre,
        interval=interval,
        p=permutation.sign_flip(d),
        smallest_p=permutation.smallest_p(d.size),
        effect=centre / spread if spread else None,
        effect_name="d_z",
        superiority=float((d > 0).mean() + (d == 0).mean() / 2),
    )


def unpaired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Compare `a` (n,) with `b` (m,), whose runs share no seeds; n, m >= 1.

    The interval is Welch's, p is that of `mann_whitney`, and the effect is Hedges' g: the difference over the pooled
    standard deviation, times 1 - 3 / (4 (n + m) - 9). Raises ValueError if a side is empty.
    """
    x, y = _floats(a), _floats(b)
    if not x.size or not y.size:
        raise ValueError("unpaired needs at least one value on each side")
    size, runs = max(_size(x), _size(y)), x.size + y.size
    x, y = np.split(_tied(np.concatenate([x, y]), _ROUNDING * size), [x.size])
    centre = float(x.mean() - y.mean())
    error, df = _welch(x, y, size)
    g = None
    if x.size > 1 and y.size > 1:
        pooled = math.sqrt(((x.size - 1) * _spread(x, size) ** 2 + (y.size - 1) * _spread(y, size) ** 2) / (runs - 2))
        g = centre / pooled * (1 - 3 / (4 * runs - 9)) if pooled else None
    in_order = np.sort(y)
    wins = np.searchsorted(in_order, x, "left") + np.searchsorted(in_order, x, "right")  # (n,), each counted twice
    return Difference(
        method="unpaired",
        n=min(x.size, y.size),
        difference=centre,
        interval=_around(centre, error, df, confidence) if min(x.size, y.size) > 1 else None,
        p=permutation.mann_whitney(x, y),
        smallest_p=permutation.smallest_p_unpaired(x.size, y.size),
        effect=g,
        effect_name="g",
        superiority=float(wins.mean() / (2 * y.size)),
    )


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values in the order given: max over j <= i of (k - j + 1) p_(j), at most 1."""
    p = _floats(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def tost_paired(a: ArrayLike, b: ArrayLike, margin: float) -> float | None:
    """Return the p of `|mean(a - b)| >= margin` by two one-sided t tests, or None for fewer than two pairs."""
    d, size = _differences(a, b)
    if d.size < 2:
        return None
    return _tost(float(d.mean()), _spread(d, size) / math.sqrt(d.size), d.size - 1, margin)


def tost_welch(a: ArrayLike, b: ArrayLike, margin: float) -> float | None:
    """Return the p of `|mean a - mean b| >= margin` by one-sided Welch tests, or None with fewer than two on a side."""
    x, y = _floats(a), _floats(b)
    if min(x.size, y.size) < 2:
        return None
    error, df = _welch(x, y, max(_size(x), _size(y)))
    return _tost(float(x.mean() - y.mean()), error, df, margin)


def significant(found: Difference, adjusted_p: float, alpha: float = 0.05) -> bool:
    """Return whether a difference is shown: p < alpha, two or more runs per side, mean and test in one direction."""
    return adjusted_p < alpha and found.interval is not None and found.difference != 0 and found.one_way


def verdict(
    found: Difference,
    adjusted_p: float,
    *,
    comparisons: int = 1,
    smallest_adjusted_p: float | None = None,
    better: Better = "higher",
    alpha: float = 0.05,
    equivalence_p: float | None = None,
) -> str:
    """Return the verdict on a difference, the first of these that applies.

    - `needs >= N seeds`: so few runs cannot reach p < alpha, whatever they show. N is 6 with fewer than 6 pairs (4 with
      fewer than 4 unpaired runs per side).
    - `equivalent`: `equivalence_p` < alpha.
    - `needs >= N seeds`: so few runs cannot reach p < alpha after Holm's adjustment for `comparisons`.
    - `better` or `worse` (`higher` or `lower` if neither direction is better): the difference is `significant`.
    - `~`: no difference shown.
    """
    paired = found.method == "paired"
    if found.smallest_p >= alpha or found.interval is None:
        return f"needs >= {permutation.seeds_needed(1, alpha, paired=paired)} seeds"
    if equivalence_p is not None and equivalence_p < alpha:
        return "equivalent"
    if smallest_adjusted_p is not None and smallest_adjusted_p >= alpha:
        return f"needs >= {permutation.seeds_needed(comparisons, alpha, paired=paired)} seeds"
    if not significant(found, adjusted_p, alpha):
        return "~"
    if better == "neither":
        return "higher" if found.difference > 0 else "lower"
    return "better" if (found.difference > 0) == (better == "higher") else "worse"


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


def _tied(x: Floats, tolerance: float) -> Floats:
    """Return x with values made equal that differ only by rounding: ranks would tell them apart."""
    values, place = np.unique(x, return_inverse=True)
    cluster = np.concatenate([[0], np.cumsum(np.diff(values) > tolerance)])
    first = np.concatenate([[True], np.diff(cluster) > 0])
    return np.asarray(values[first][cluster][place])


def _size(x: Floats) -> float:
    return float(np.abs(x).max(initial=0.0))


def _differences(a: ArrayLike, b: ArrayLike) -> tuple[Floats, float]:
    """Return a - b with rounding errors set to 0, and the size of the numbers."""
    x, y = _floats(a), _floats(b)
    if x.shape != y.shape or not x.size:
        raise ValueError(f"pairs need as many values on both sides, and at least one: {x.size} and {y.size}")
    size = max(_size(x), _size(y))
    d = x - y
    d[np.abs(d) <= _ROUNDING * size] = 0.0
    return d, size


def _spread(x: Floats, size: float) -> float:
    """Return the standard deviation of x, or 0 if it is no more than rounding errors of numbers of that size."""
    spread = float(x.std(ddof=1)) if x.size > 1 else 0.0
    return spread if spread > _ROUNDING * size else 0.0


def _around(centre: float, error: float, df: float, confidence: float) -> Interval:
    half = _t_quantile(df, (1 + confidence) / 2) * error if error else 0.0
    return Interval(centre - half, centre + half)


@lru_cache(maxsize=1024)
def _t_quantile(df: float, probability: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def _welch(x: Floats, y: Floats, size: float) -> tuple[float, float]:
    """Return the standard error of mean x - mean y and its degrees of freedom (Welch-Satterthwaite)."""
    u, v = _spread(x, size) ** 2 / x.size, _spread(y, size) ** 2 / y.size
    if u + v == 0:
        return 0.0, float(x.size + y.size - 2)
    below = (u**2 / (x.size - 1) if u else 0.0) + (v**2 / (y.size - 1) if v else 0.0)
    return math.sqrt(u + v), (u + v) ** 2 / below


def _tost(centre: float, error: float, df: float, margin: float) -> float:
    if not margin > 0:
        raise ValueError(f"the margin must be > 0, got {margin}")
    if error == 0:
        return 0.0 if abs(centre) < margin else 1.0
    from scipy.special import stdtr

    return float(stdtr(df, (abs(centre) - margin) / error))
