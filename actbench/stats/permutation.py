"""Exact permutation tests: sign flips for pairs, rank sums for runs that share no seeds.

All p-values are two-sided. `smallest_p` and `smallest_p_unpaired` say how small p can get: no data can decide at a
lower level. Sampled p-values carry a +1 (Phipson & Smyth 2010).
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT_PAIRS = 20
"""Up to this many pairs, all 2^n sign patterns are counted; above, `SIGN_DRAWS` patterns are drawn."""
SIGN_DRAWS = 19_999
EXACT_RUNS = 2 * EXACT_PAIRS
"""Up to this many unpaired runs on both sides together, every division is counted; above, scipy's test is used."""

Floats = NDArray[np.float64]


def sign_flip(differences: ArrayLike) -> float:
    """Return the p of the sign-flip test: the share of sign patterns s with |sum(s d)| >= |sum(d)|.

    Under the null hypothesis, the sign of each difference is a coin toss. Up to `EXACT_PAIRS` differences, all 2^n
    patterns are counted; above, `SIGN_DRAWS` patterns from a fixed seed, with p = (hits + 1) / (draws + 1). Sums that
    differ only by rounding count as equal. If all differences are 0, p = 1. Raises ValueError for n = 0.
    """
    given = np.asarray(differences, dtype=np.float64).ravel()
    d = np.sort(np.abs(given))  # the patterns of d and of |d| are the same ones
    if not d.size:
        raise ValueError("sign_flip needs at least one difference")
    observed = abs(math.fsum(given)) - 1e-9 * float(d.sum())
    if d.size <= EXACT_PAIRS:
        return _count_patterns(d, observed) / (1 << d.size)
    hits = int(np.count_nonzero(np.abs(_drawn_sums(d)) >= observed))
    return (hits + 1) / (SIGN_DRAWS + 1)


def _count_patterns(d: Floats, threshold: float) -> int:
    """Count the sign patterns with |sum| >= threshold, among all 2^n.

    Each sum is a sum over one half of `d` plus a sum over the other. With the sums of one half sorted, a binary search
    counts all partners at once: 2^(n/2) searches instead of 2^n sums.
    """
    if threshold <= 0:
        return 1 << d.size
    cut = d.size // 2
    left, right = _signs(cut) @ d[:cut], np.sort(_signs(d.size - cut) @ d[cut:])
    above = right.size - np.searchsorted(right, threshold - left, side="left")
    return 2 * int(above.sum())  # flipping every sign maps sums above to sums below


@lru_cache(maxsize=EXACT_PAIRS // 2 + 1)
def _signs(n: int) -> Floats:
    """Return all sign patterns of length n, (2^n, n)."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits)


def _drawn_sums(d: Floats) -> Floats:
    """Return sum(s d) for `SIGN_DRAWS` random sign patterns s, the same ones in every call.

    A pattern is stored as bits, 1 for minus. A table holds the sums that each byte can stand for, so eight pairs take
    one look-up.
    """
    padded = np.zeros(-(-d.size // 8) * 8)
    padded[: d.size] = d
    sums = np.full(SIGN_DRAWS, d.sum())
    for byte, eight in zip(_drawn_bytes(d.size), padded.reshape(-1, 8), strict=True):
        sums -= (2 * _BYTES @ eight)[byte]
    return sums


_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)


@lru_cache(maxsize=2)
def _drawn_bytes(n: int) -> NDArray[np.uint8]:
    """Return `SIGN_DRAWS` random patterns of n bits, eight in a byte: (n / 8, SIGN_DRAWS)."""
    generator = np.random.default_rng(n)
    starts = range(0, SIGN_DRAWS, 1000)  # in blocks, which bounds the memory
    sizes = [min(1000, SIGN_DRAWS - start) for start in starts]
    blocks = [np.packbits(generator.integers(0, 2, size=(size, n), dtype=np.int8), axis=1) for size in sizes]
    return np.ascontiguousarray(np.concatenate(blocks).T)


def mann_whitney(a: ArrayLike, b: ArrayLike) -> float:
    """Return the p of the Mann-Whitney test of `a` (n,) against `b` (m,), n, m >= 1.

    Up to `EXACT_RUNS` runs, the ranks of all runs (ties share their mean rank) are divided in every possible way. p is
    twice the smaller of two shares: of rank sums at most, and at least, as large as that of `a`. This is exact even
    with ties, where the normal approximation can call 3 against 3 runs significant, which no exact test can. Above, p
    is that of scipy.stats.mannwhitneyu; without ties both agree. Raises ValueError if a side is empty.
    """
    x, y = (np.asarray(side, dtype=np.float64).ravel() for side in (a, b))
    if not x.size or not y.size:
        raise ValueError("mann_whitney needs at least one value on each side")
    _, place, count = np.unique(np.concatenate([x, y]), return_inverse=True, return_counts=True)
    if count.size == 1:
        return 1.0
    if place.size <= EXACT_RUNS:
        ranks = (2 * np.cumsum(count) - count + 1)[place]  # twice the mean rank of each value: whole numbers
        ways = _ways_to_sum(ranks, x.size)
        own = int(ranks[: x.size].sum())
        tail = min(ways[: own + 1].sum(), ways[own:].sum())
        return min(1.0, 2 * float(tail / ways.sum()))
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(x, y, alternative="two-sided").pvalue)


def _ways_to_sum(ranks: NDArray[np.int64], chosen: int) -> Floats:
    """Return, at index s, in how many ways `chosen` of the whole numbers `ranks` have the sum s."""
    ways = np.zeros((chosen + 1, int(ranks.sum()) + 1))  # (already chosen, sum); exact, as all are below 2^53
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    return np.asarray(ways[chosen])


def smallest_p(pairs: int) -> float:
    """Return 2 / 2^n, the smallest p that n pairs can give: 0.25 for 3, 0.0625 for 5, 0.03125 for 6."""
    return 2.0 ** (1 - pairs)


def smallest_p_unpaired(n: int, m: int) -> float:
    """Return 2 / C(n + m, n), the smallest p of the Mann-Whitney test: 0.1 for 3 and 3, 0.0286 for 4 and 4."""
    return min(1.0, 2 / math.comb(n + m, n))


def seeds_needed(comparisons: int = 1, alpha: float = 0.05, *, paired: bool = True) -> int:
    """Return the smallest n for which `comparisons` times the smallest p of n pairs (n runs per side) is below alpha.

    At alpha 0.05, one comparison needs 6 pairs or 4 runs per side; three comparisons need 7 or 5.
    """
    least = smallest_p if paired else lambda n: smallest_p_unpaired(n, n)
    return next(n for n in itertools.count(2) if comparisons * least(n) < alpha)
