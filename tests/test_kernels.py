"""The compiled kernels against plain torch, and the same bits from any number of shares."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from actbench.engine import kernels
from actbench.neurons import HealthMeter

BLACK = np.float32(-0.4242)
# Float32 sums of up to 784 terms, added up in another order: relative to the largest element.
ROUNDING = 1e-5


class Problem(NamedTuple):
    """Images (N, D) dense and lit, one hidden layer of H units and C classes, and a batch of them."""

    dense: torch.Tensor
    lit: kernels.Lit
    w: np.ndarray
    b: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    index: np.ndarray
    labels: np.ndarray


def problem(images: int = 40, inputs: int = 90, units: int = 128, classes: int = 5, batch: int = 13) -> Problem:
    draws = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return (draws.standard_normal(shape) * 0.1).astype(np.float32)

    values = np.where(draws.random((images, inputs)) < 0.2, draws.random((images, inputs)) + 0.1, 0).astype(np.float32)
    values[5] = 0  # an image without a lit pixel
    values[:, 7] = 0  # a pixel that no image lights
    starts = np.concatenate([[0], (values != 0).sum(axis=1)]).cumsum(dtype=np.int64)
    lit = kernels.Lit(starts, np.nonzero(values)[1].astype(np.int32), values[values != 0])
    index = np.concatenate([[5], draws.permutation(images)[: batch - 1]])
    layers = normal(inputs, units), normal(units), normal(units, classes), normal(classes)
    return Problem(torch.from_numpy(values + BLACK), lit, *layers, index, draws.integers(0, classes, images))


def turned_for(one: Problem) -> kernels.Lit:
    room = len(one.index) * one.dense.shape[1]
    starts = np.zeros(one.dense.shape[1] + 2, np.int64)
    return kernels.Lit(starts, np.empty(room, np.int32), np.empty(room, np.float32))


def step(one: Problem, shares: int) -> tuple[float, list[np.ndarray]]:
    """Return the sum of the losses and all gradients of a ReLU network, computed by so many shares on threads."""
    inputs, units = one.w.shape
    n, classes, batch = units // shares, one.w2.shape[1], len(one.index)
    dw, hidden_db = np.empty((inputs, shares, n), np.float32), np.empty((shares, n), np.float32)
    output = kernels.Output(one.w2, one.b2, np.empty_like(one.w2), np.empty_like(one.b2), hidden_db)
    parts = np.empty((max(1, units // kernels.BLOCK), batch, classes), np.float32)
    arrived = np.zeros(1, np.int64)

    def share_of(share: int) -> float:
        z = torch.empty(batch, n)
        w, b = one.w.reshape(inputs, shares, n), one.b.reshape(shares, n)
        kernels.forward(one.index, one.lit, BLACK, w, b, share, z.numpy())
        a = torch.relu(z)
        scratch = kernels.Scratch(
            np.empty((classes, n), np.float32),
            np.empty((classes, n), np.float32),
            np.empty((batch, 1, n), np.float32),
            np.empty(n, np.float32),
            np.empty((batch, classes), np.float32),
        )
        images = one.index, one.lit, one.labels[one.index], BLACK
        values = a.numpy(), torch.sign(a).numpy()
        where = share, arrived, shares
        return kernels.gradients(*images, *values, *where, output, dw, parts, turned_for(one), scratch)

    with ThreadPoolExecutor(shares) as pool:
        losses = list(pool.map(share_of, range(shares)))
    assert losses == [losses[0]] * shares
    return losses[0], [dw.reshape(inputs, units), hidden_db.reshape(units), output.dw, output.db]


@pytest.mark.parametrize("units", [12, 100, 128])
def test_a_step_on_lit_pixels_has_the_loss_and_the_gradients_of_the_dense_network(units: int) -> None:
    one = problem(units=units)
    w, b, w2, b2 = (torch.from_numpy(x.copy()).requires_grad_() for x in (one.w, one.b, one.w2, one.b2))
    logits = torch.relu(one.dense[one.index] @ w + b) @ w2 + b2
    loss = F.cross_entropy(logits, torch.from_numpy(one.labels[one.index]))
    loss.backward()  # type: ignore[no-untyped-call]
    total, gradients = step(one, 1)
    assert total / len(one.index) == pytest.approx(loss.item(), rel=ROUNDING)
    for parameter, gradient in zip((w, b, w2, b2), gradients, strict=True):
        assert parameter.grad is not None
        error = np.abs(parameter.grad.numpy() - gradient).max()
        assert error <= ROUNDING * np.abs(gradient).max()


@pytest.mark.parametrize("shares", [2, 4])
def test_the_bits_of_a_step_do_not_depend_on_how_many_threads_share_it(shares: int) -> None:
    one = problem(units=4 * kernels.BLOCK)
    loss, gradients = step(one, 1)
    shared_loss, shared_gradients = step(one, shares)
    assert shared_loss == loss
    for gradient, shared in zip(gradients, shared_gradients, strict=True):
        assert np.array_equal(gradient, shared)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 20), st.floats(0, 1))
def test_sorting_a_batch_by_pixel_keeps_every_lit_pixel_and_the_order_of_the_images(
    seed: int, images: int, inputs: int, share: float
) -> None:
    draws = np.random.default_rng(seed)
    values = np.where(draws.random((images, inputs)) < share, draws.random((images, inputs)) + 1, 0).astype(np.float32)
    starts = np.concatenate([[0], (values != 0).sum(axis=1)]).cumsum(dtype=np.int64)
    lit = kernels.Lit(starts, np.nonzero(values)[1].astype(np.int32), values[values != 0])
    index = draws.integers(0, images, 5)
    turned = kernels.Lit(
        np.zeros(inputs + 2, np.int64), np.empty(5 * inputs, np.int32), np.empty(5 * inputs, np.float32)
    )
    kernels.by_pixel(index, lit, turned)
    batch = values[index]
    for p in range(inputs):
        row = slice(turned.starts[p], turned.starts[p + 1])
        assert turned.pixels[row].tolist() == np.nonzero(batch[:, p])[0].tolist()
        assert turned.values[row].tolist() == batch[batch[:, p] != 0, p].tolist()


@pytest.mark.parametrize(("name", "decay"), [("Adam", 0.0), ("Adam", 0.01), ("AdamW", 0.01)])
def test_compiled_adam_steps_as_torchs_own(name: str, decay: float) -> None:
    draws = torch.Generator().manual_seed(1)
    start, lr, betas, eps = torch.randn(200, generator=draws), 0.01, (0.9, 0.999), 1e-8
    parameter = start.clone().requires_grad_()
    optimizer: Any = getattr(torch.optim, name)([parameter], lr=lr, betas=betas, eps=eps, weight_decay=decay)
    w, mean, square = start.numpy().copy(), np.zeros(200, np.float32), np.zeros(200, np.float32)
    decoupled = name == "AdamW"
    for t in range(1, 6):
        gradient = torch.randn(200, generator=draws)
        parameter.grad = gradient
        optimizer.step()
        given = kernels.AdamSettings(
            beta1=betas[0],
            beta2=betas[1],
            eps=eps,
            decay=0.0 if decoupled else decay,
            kept=1 - lr * decay if decoupled else 1.0,
            step_size=lr / (1 - betas[0] ** t),
            correction=(1 - betas[1] ** t) ** -0.5,
        )
        kernels.adam(w, gradient.numpy(), mean, square, np.array([[0, 70], [70, 200]]), given)
    # Each of the five steps, at most lr long, is rounded a few times.
    np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-6, atol=1e-6)


def test_a_chunk_of_the_probe_is_summarised_as_torch_does() -> None:
    draws = torch.Generator().manual_seed(2)
    z = torch.randn(1, 60, 20, generator=draws) - 1
    z[..., 3] = -1.0  # a dead unit
    a, slope = torch.relu(z), torch.sign(torch.relu(z))
    expected = HealthMeter(torch.ones(1, 1)).read(z, a, slope)
    outputs, slopes = np.empty((6, 20), np.float32), np.empty((3, 20), np.float32)
    saturated = np.full(20, np.nextafter(np.float32(0.01), np.float32(-1)))
    kernels.health(a[0].numpy(), slope[0].numpy(), saturated, outputs, slopes)
    exact = [expected.low, expected.high, expected.low_slope, expected.high_slope, expected.unsaturated]
    for want, got in zip(exact, [*outputs[:2], *slopes], strict=True):
        assert want[0].tolist() == got.tolist()
    np.testing.assert_allclose(outputs[2:], expected.sums[:, 0].numpy(), rtol=ROUNDING, atol=ROUNDING)
