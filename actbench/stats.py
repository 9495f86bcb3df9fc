"""Intervals, paired tests, Holm, verdicts: arrays in, numbers out (layer 3; imports numpy, scipy when used).

Arrays are one-dimensional, one value a run. Runs of two variants that share a seed saw the same images in the
same order and started from the same standard draw, so the default is to compare them pair by pair.

P-values are two-sided. `confidence` is the coverage of an interval, `alpha` the error rate of a verdict.
Nothing here draws from a global random generator: equal inputs give equal numbers, in any order of the pairs.

Sources: Bouthillier et al. 2021 (P(A>B), paired seeds), Fisher 1935 (sign flips), Holm 1979, Schuirmann 1987
(TOST), Phipson & Smyth 2010 (why sampled permutation p-values carry a +1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actbench.metrics import Better

Floats: TypeAlias = NDArray[np.float64]

EXACT_PAIRS = 20
"""Up to this many pairs all 2^n sign patterns are counted; above, `SIGN_DRAWS` of them are drawn."""
SIGN_DRAWS = 19_999

# Differences of stored fractions carry rounding errors of about 1e-16; below this share of the size of the
# numbers they came from, a difference is a tie and a spread is none.
_ROUNDING = 1e-12


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width: the number after the ±."""
        return (self.high - self.low) / 2

    def clipped(self, low: float = 0.0, high: float = 1.0) -> Interval:
        """Return the part within [low, high]: a share cannot be negative."""
        return Interval(min(max(self.low, low), high), max(min(self.high, high), low))


@dataclass(frozen=True)
class Difference:
    """How `a` differs from `b`.

    n: pairs, or runs of the smaller side where unpaired. difference: mean a - mean b. interval: t or Welch,
    None for n < 2. p: exact sign-flip or Mann-Whitney. smallest_p: the least p that this many runs can give.
    effect: None where the spread is 0. superiority: P(A>B), ties count half.
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


def mean(values: ArrayLike) -> float | None:
    """Return the mean, or None of nothing."""
    x = _floats(values)
    return float(x.mean()) if x.size else None


def sd(values: ArrayLike) -> float | None:
    """Return the sample standard deviation (n - 1 below the line), or None for fewer than two values."""
    x = _floats(values)
    return _spread(x, _size(x)) if x.size > 1 else None


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Return `mean ± t(n-1) sd / sqrt(n)`, or None for fewer than two values: one run has no interval.

    For ratios (accuracy, dead units) this is an interval over seeds, not over images or units, because the
    seed is what varies; clip it to [0, 1].
    """
    x = _floats(values)
    if x.size < 2:
        return None
    return _around(float(x.mean()), _spread(x, _size(x)) / math.sqrt(x.size), x.size - 1, confidence)


def paired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Compare `a` with `b` pair by pair, both (n,), n >= 1.

    The interval is the t interval of the mean of a - b, p the sign-flip test, and the effect Cohen's
    d_z = mean(a - b) / sd(a - b). Raises ValueError when the shapes differ or nothing is given.
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
        p=sign_flip(d),
        smallest_p=smallest_p(d.size),
        effect=centre / spread if spread else None,
        effect_name="d_z",
        superiority=float((d > 0).mean() + (d == 0).mean() / 2),
    )


def unpaired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Compare `a` (n,) with `b` (m,), whose runs share no seeds; n, m >= 1.

    The interval is Welch's, p is Mann-Whitney's (exact without ties up to 8 runs a side, else the normal
    approximation, scipy.stats.mannwhitneyu), and the effect Hedges' g: the difference over the pooled sd,
    times 1 - 3 / (4 (n + m) - 9). Raises ValueError when a side is empty.
    """
    x, y = _floats(a), _floats(b)
    if not x.size or not y.size:
        raise ValueError("unpaired needs at least one value on each side")
    size, runs = max(_size(x), _size(y)), x.size + y.size
    centre = float(x.mean() - y.mean())
    error, df = _welch(x, y, size)
    g = None
    if x.size > 1 and y.size > 1:
        pooled = math.sqrt(((x.size - 1) * _spread(x, size) ** 2 + (y.size - 1) * _spread(y, size) ** 2) / (runs - 2))
        g = centre / pooled * (1 - 3 / (4 * runs - 9)) if pooled else None
    above, equal = x[:, None] > y, x[:, None] == y  # (n, m)
    return Difference(
        method="unpaired",
        n=min(x.size, y.size),
        difference=centre,
        interval=_around(centre, error, df, confidence) if min(x.size, y.size) > 1 else None,
        p=_mann_whitney(x, y),
        smallest_p=min(1.0, 2 / math.comb(runs, x.size)),
        effect=g,
        effect_name="g",
        superiority=float(above.mean() + equal.mean() / 2),
    )


def sign_flip(differences: ArrayLike) -> float:
    """Return the p of the sign-flip test: the share of sign patterns s with |sum(s d)| >= |sum(d)|.

    Under the null hypothesis the sign of each difference is a coin toss. All 2^n patterns count up to
    `EXACT_PAIRS`; above, `SIGN_DRAWS` patterns from a fixed seed, and p = (hits + 1) / (draws + 1). Sums
    that differ by rounding only count as equal. All differences zero: p = 1. Raises ValueError for n = 0.
    """
    d = np.sort(np.abs(_floats(differences)))  # the patterns of d and of |d| are the same ones
    if not d.size:
        raise ValueError("sign_flip needs at least one difference")
    observed = abs(float(_floats(differences).sum())) - 1e-9 * float(d.sum())
    if d.size <= EXACT_PAIRS:
        return _count_patterns(d, observed) / (1 << d.size)
    blocks = np.array_split(_drawn_signs(d.size), 1 + d.size // 1000)  # bounds the memory of the product
    hits = sum(int(np.count_nonzero(np.abs(block @ d) >= observed)) for block in blocks)
    return (hits + 1) / (SIGN_DRAWS + 1)


def _count_patterns(d: Floats, threshold: float) -> int:
    """Count the sign patterns with |sum| >= threshold, among all 2^n.

    Each sum is a sum over one half of `d` plus one over the other, so with one half sorted a binary search
    counts all partners at once: 2^(n/2) searches instead of 2^n sums.
    """
    if threshold <= 0:
        return 1 << d.size
    cut = d.size // 2
    left, right = _signs(cut) @ d[:cut], np.sort(_signs(d.size - cut) @ d[cut:])
    above = right.size - np.searchsorted(right, threshold - left, side="left")
    return 2 * int(above.sum())  # turning every sign round maps sums above to sums below


@lru_cache(maxsize=EXACT_PAIRS // 2 + 1)
def _signs(n: int) -> Floats:
    """Return all sign patterns of length n, (2^n, n)."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits)


@lru_cache(maxsize=2)
def _drawn_signs(n: int) -> NDArray[np.int8]:
    """Return `SIGN_DRAWS` random sign patterns of length n, the same ones at every call."""
    generator = np.random.default_rng(n)
    return 1 - 2 * generator.integers(0, 2, size=(SIGN_DRAWS, n), dtype=np.int8)


def smallest_p(pairs: int) -> float:
    """Return 2 / 2^n, the least two-sided p that n pairs can give: 0.25 at 3, 0.0625 at 5, 0.03125 at 6."""
    return 2.0 ** (1 - pairs)


def seeds_needed(comparisons: int = 1, alpha: float = 0.05) -> int:
    """Return the least n with `comparisons * 2 / 2^n < alpha`: 6 for one comparison at 0.05, 7 for three."""
    return math.floor(1 + math.log2(comparisons / alpha)) + 1


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values in the order given: max over j <= i of (k - j + 1) p_(j), at most 1."""
    p = _floats(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def tost_paired(a: ArrayLike, b: ArrayLike, margin: float) -> float | None:
    """Return the p of "|mean(a - b)| >= margin" by two one-sided t tests, or None below two pairs."""
    d, size = _differences(a, b)
    if d.size < 2:
        return None
    return _tost(float(d.mean()), _spread(d, size) / math.sqrt(d.size), d.size - 1, margin)


def tost_welch(a: ArrayLike, b: ArrayLike, margin: float) -> float | None:
    """Return the p of "|mean a - mean b| >= margin" by one-sided Welch tests, or None below two a side."""
    x, y = _floats(a), _floats(b)
    if min(x.size, y.size) < 2:
        return None
    error, df = _welch(x, y, max(_size(x), _size(y)))
    return _tost(float(x.mean() - y.mean()), error, df, margin)


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
    """Return what may be said about a difference.

    `needs >= N seeds` where so few runs cannot reach p < alpha, whatever they show: N is 6 below 6 pairs,
    and above that what Holm's adjustment for `comparisons` asks for; `equivalent` where `equivalence_p` <
    alpha; `better` or `worse` (`higher` or `lower` where neither is better) where `adjusted_p` < alpha; else
    `~`, no difference shown.
    """
    if found.smallest_p >= alpha:
        return f"needs >= {seeds_needed(1, alpha)} seeds"
    if equivalence_p is not None and equivalence_p < alpha:
        return "equivalent"
    if smallest_adjusted_p is not None and smallest_adjusted_p >= alpha:
        return f"needs >= {seeds_needed(comparisons, alpha)} seeds"
    if adjusted_p >= alpha or found.difference == 0:
        return "~"
    if better == "neither":
        return "higher" if found.difference > 0 else "lower"
    return "better" if (found.difference > 0) == (better == "higher") else "worse"


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


def _size(x: Floats) -> float:
    return float(np.abs(x).max(initial=0.0))


def _differences(a: ArrayLike, b: ArrayLike) -> tuple[Floats, float]:
    """Return a - b with rounding errors set to zero, and the size of the numbers it came from."""
    x, y = _floats(a), _floats(b)
    if x.shape != y.shape or not x.size:
        raise ValueError(f"pairs need as many values on both sides, and at least one: {x.size} and {y.size}")
    size = max(_size(x), _size(y))
    d = x - y
    d[np.abs(d) <= _ROUNDING * size] = 0.0
    return d, size


def _spread(x: Floats, size: float) -> float:
    """Return the standard deviation of x, 0 where only rounding errors of numbers of that size remain."""
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


def _mann_whitney(x: Floats, y: Floats) -> float:
    if np.all(np.concatenate([x, y]) == x[0]):
        return 1.0  # scipy divides by a spread of zero here
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(x, y, alternative="two-sided").pvalue)
