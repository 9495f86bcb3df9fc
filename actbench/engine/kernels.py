"""Compiled kernels for one lane on CPU: the first layer on lit pixels alone, a step's gradients, Adam, neuron health.

Most pixels of an image are background. If x = black + value on the lit pixels and x = black elsewhere, then

    z         = b + black * (sum over all pixels of w) + sum over the lit pixels of value * w[pixel]
    dw[pixel] = black * (sum over images of g) + sum over the images that light the pixel of value * g

so a product costs as many multiplications as there are lit pixels. The kernels do not hold Python's lock and allocate
nothing inside their loops.

Notation: B images, D pixels, H units, C classes. The columns of a layer can be divided into S shares of n = H / S
columns, one per thread; a matrix (D, H) is then passed as (D, S, n). Every sum over images or pixels belongs to one
column and is added up in the same order in any share, and sums over columns are added up block by block: the bits of
a result do not depend on S.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actbench.engine.compiling import EXACT, compiled, meet

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

BLOCK = 64
"""Columns whose part of a logit is summed up at once; a share consists of whole blocks."""


class Lit(NamedTuple):
    """Images as their lit pixels: those of image i are `pixels[starts[i]:starts[i + 1]]`, with x - black in `values`.

    starts int64 (N + 1,), pixels int32 and values float32 (one number per lit pixel).
    """

    starts: Integers
    pixels: NDArray[np.int32]
    values: Floats


@compiled()
def _add_rows(
    total: Floats, rows: Floats, share: int, which: NDArray[np.int32], weights: Floats, start: int, end: int
) -> None:
    """Add to total the sum of weights[i] * rows[which[i], share] over start <= i < end, eight rows at a time."""
    i = start
    while i + 8 <= end:
        r0, r1, r2, r3 = (
            rows[which[i], share], rows[which[i + 1], share], rows[which[i + 2], share], rows[which[i + 3], share],
        )  # fmt: skip
        r4, r5, r6, r7 = (
            rows[which[i + 4], share], rows[which[i + 5], share], rows[which[i + 6], share], rows[which[i + 7], share],
        )  # fmt: skip
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        w4, w5, w6, w7 = weights[i + 4], weights[i + 5], weights[i + 6], weights[i + 7]
        for j in range(len(total)):
            total[j] += (
                w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j] + w4 * r4[j] + w5 * r5[j] + w6 * r6[j] + w7 * r7[j]
            )
        i += 8
    while i < end:
        row, weight = rows[which[i], share], weights[i]
        for j in range(len(total)):
            total[j] += weight * row[j]
        i += 1


@compiled()
def forward(index: Integers, lit: Lit, black: float, w: Floats, b: Floats, share: int, z: Floats) -> None:
    """Compute z = x w + b for the images `index` (B,) and the columns of a share: w (D, S, n), b (S, n), z (B, n)."""
    dark = np.zeros(z.shape[1], np.float32)  # the z of an image without a lit pixel
    for p in range(w.shape[0]):
        row = w[p, share]
        for j in range(len(dark)):
            dark[j] += row[j]
    for j in range(len(dark)):
        dark[j] = b[share, j] + black * dark[j]
    for k in range(len(index)):
        z[k] = dark
        _add_rows(z[k], w, share, lit.pixels, lit.values, lit.starts[index[k]], lit.starts[index[k] + 1])


@compiled()
def by_pixel(index: Integers, lit: Lit, turned: Lit) -> None:
    """Sort the lit pixels of a batch by pixel: `turned` has a row per pixel (D), and in it the images that light it.

    Its arrays must have room for D + 2 starts and for all lit pixels of the batch. The images keep their order.
    """
    ends = turned.starts
    ends[:] = 0
    for k in range(len(index)):
        for i in range(lit.starts[index[k]], lit.starts[index[k] + 1]):
            ends[lit.pixels[i] + 2] += 1
    for p in range(2, len(ends)):
        ends[p] += ends[p - 1]
    for k in range(len(index)):  # ends[p + 1] moves from the start of pixel p's row to its end
        for i in range(lit.starts[index[k]], lit.starts[index[k] + 1]):
            at = ends[lit.pixels[i] + 1]
            turned.pixels[at] = k
            turned.values[at] = lit.values[i]
            ends[lit.pixels[i] + 1] = at + 1


@compiled()
def backward(turned: Lit, g: Floats, total: Floats, black: float, share: int, dw: Floats) -> None:
    """Write the share's columns of dw (D, S, n), given z's gradient g (B, 1, n) and its sum over images (n,)."""
    for p in range(dw.shape[0]):
        row = dw[p, share]
        for j in range(len(row)):
            row[j] = black * total[j]
        _add_rows(row, g, 0, turned.pixels, turned.values, turned.starts[p], turned.starts[p + 1])


@compiled(EXACT | {"reassoc"})
def _dot(x: Floats, y: Floats) -> Any:
    """Return the sum of x * y. Vectors of equal length are summed up in the same order."""
    total = np.float32(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total


class Output(NamedTuple):
    """The output layer and what a step writes: w and dw (H, C), b and db (C,), and the hidden bias' gradient (S, n)."""

    w: Floats
    b: Floats
    dw: Floats
    db: Floats
    hidden_db: Floats


class Scratch(NamedTuple):
    """A share's own memory for a step of at most B images."""

    w: Floats
    """(C, n): the output weights of the share's columns."""
    dw: Floats
    """(C, n): their gradient."""
    g: Floats
    """(B, 1, n): the gradient of z."""
    total: Floats
    """(n,): its sum over the images."""
    at_logits: Floats
    """(B, C): the gradient of the logits."""


@compiled()
def logits(a: Floats, share: int, output: Output, scratch: Scratch, parts: Floats) -> None:
    """Write the share's parts of the logits (blocks, B, C), block by block of its columns; a is (B, n)."""
    classes, n = scratch.w.shape
    size = n if n % BLOCK else BLOCK
    for j in range(n):
        for c in range(classes):
            scratch.w[c, j] = output.w[share * n + j, c]
    for block in range(n // size):
        part = parts[share * (n // size) + block]
        for k in range(len(a)):
            for c in range(classes):
                columns = slice(block * size, (block + 1) * size)
                part[k, c] = _dot(a[k, columns], scratch.w[c, columns])
    if share == 0:  # here, because share 0 changes the bias while others may still be reading the logits
        for k in range(len(a)):
            for c in range(classes):
                parts[0, k, c] += output.b[c]


@compiled()
def cross_entropy(parts: Floats, labels: Integers, gradient: Floats) -> float:
    """Return the sum of the batch's losses, given the parts of its logits (blocks, B, C) and labels (B,).

    Writes the gradient of the mean loss by the logits, (softmax - target) / B, into `gradient` (B, C).
    """
    loss, batch, classes = 0.0, len(labels), parts.shape[2]
    for k in range(batch):
        row = gradient[k]
        row[:] = parts[0, k]
        for block in range(1, parts.shape[0]):
            for c in range(classes):
                row[c] += parts[block, k, c]
        highest = row.max()
        at_label = row[labels[k]] - highest
        total = np.float32(0)
        for c in range(classes):
            row[c] = np.exp(row[c] - highest)
            total += row[c]
        loss += np.log(total) - at_label
        for c in range(classes):
            row[c] = (row[c] / total - (c == labels[k])) / np.float32(batch)
    return loss


@compiled()
def output_gradients(a: Floats, slope: Floats, share: int, output: Output, scratch: Scratch) -> None:
    """Write the share's gradients of the output layer, of z (into `scratch`) and of the hidden bias; a is (B, n)."""
    classes, n = scratch.w.shape
    scratch.dw[:] = 0
    scratch.total[:] = 0
    for k in range(len(a)):
        g = scratch.g[k, 0]
        g[:] = 0
        for c in range(classes):
            d = scratch.at_logits[k, c]
            for j in range(n):
                g[j] += d * scratch.w[c, j]
                scratch.dw[c, j] += d * a[k, j]
        for j in range(n):
            g[j] *= slope[k, j]
            scratch.total[j] += g[j]
    for j in range(n):
        output.hidden_db[share, j] = scratch.total[j]
        for c in range(classes):
            output.dw[share * n + j, c] = scratch.dw[c, j]
    if share == 0:
        for c in range(classes):
            output.db[c] = scratch.at_logits[: len(a), c].sum()


@compiled()
def gradients(
    index: Integers,
    lit: Lit,
    labels: Integers,
    black: float,
    a: Floats,
    slope: Floats,
    share: int,
    arrived: Integers,
    expected: int,
    output: Output,
    dw: Floats,
    parts: Floats,
    turned: Lit,
    scratch: Scratch,
) -> float:
    """Write the share's gradients of a network with one hidden layer; return the sum of the batch's losses.

    a and slope (B, n) are the activation and its slope at the share's z. Between its parts of the logits and the rest,
    the share waits until `expected` shares have `arrived`: the only point at which shares need each other.
    """
    logits(a, share, output, scratch, parts)
    by_pixel(index, lit, turned)
    meet(arrived, expected)
    loss = cross_entropy(parts, labels, scratch.at_logits)
    output_gradients(a, slope, share, output, scratch)
    backward(turned, scratch.g, scratch.total, black, share, dw)
    return loss


class AdamSettings(NamedTuple):
    """What is constant in a step of Adam; the last two correct the moments' bias (Kingma & Ba 2015, section 2)."""

    beta1: float
    beta2: float
    eps: float
    decay: float
    """Added to the gradient, times the weight."""
    kept: float
    """The share of a weight that is left by decoupled weight decay (AdamW)."""
    step_size: float
    """lr / (1 - beta1^t)."""
    correction: float
    """1 / sqrt(1 - beta2^t)."""


@compiled()
def adam(
    weights: Floats, gradient: Floats, mean: Floats, square: Floats, spans: Integers, settings: AdamSettings
) -> None:
    """Take one step of Adam in the given spans (start, end) of a flat buffer (P,), in one pass over it."""
    one = np.float32(1)
    beta1, beta2, eps = np.float32(settings.beta1), np.float32(settings.beta2), np.float32(settings.eps)
    decay, kept = np.float32(settings.decay), np.float32(settings.kept)
    step_size, correction = np.float32(settings.step_size), np.float32(settings.correction)
    for span in range(len(spans)):
        place = slice(spans[span, 0], spans[span, 1])
        w, dw, m, v = weights[place], gradient[place], mean[place], square[place]
        for j in range(len(w)):
            g = dw[j] + decay * w[j]
            m[j] += (one - beta1) * (g - m[j])
            v[j] = beta2 * v[j] + (one - beta2) * g * g
            w[j] = kept * w[j] - step_size * m[j] / (np.sqrt(v[j]) * correction + eps)


@compiled()
def health(a: Floats, slope: Floats, saturated: Floats, outputs: Floats, slopes: Floats) -> None:
    """Summarise a chunk of the probe in one pass: a (B, H'), slope (B, H).

    `outputs` (6, H') receives the lowest and highest a, the sums of a, |a| and a^2, and the count of a != 0. `slopes`
    (3, H) receives the lowest and highest slope, and the count of |slope| > `saturated` (H,).
    """
    outputs[0], outputs[1], outputs[2:] = a[0], a[0], 0
    slopes[0], slopes[1], slopes[2] = slope[0], slope[0], 0
    one, zero = np.float32(1), np.float32(0)
    low, high, sums, sizes, squares, nonzero = outputs
    for k in range(len(a)):
        row = a[k]
        for j in range(len(row)):
            x = row[j]
            low[j] = x if x < low[j] else low[j]
            high[j] = x if x > high[j] else high[j]
            sums[j] += x
            sizes[j] += abs(x)
            squares[j] += x * x
            nonzero[j] += one if x != zero else zero
        row = slope[k]
        for j in range(len(row)):
            x = row[j]
            slopes[0, j] = x if x < slopes[0, j] else slopes[0, j]
            slopes[1, j] = x if x > slopes[1, j] else slopes[1, j]
            slopes[2, j] += one if abs(x) > saturated[j] else zero
