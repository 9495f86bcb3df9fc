"""The parts of a network: products, convolutions, pooling, the loss; and a plain network of a single lane.

Parameters and gradients are views into the flat buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.activations.definition import Link, chain_function, chain_slope
from actbench.compute import spread

_SMALL = 1 << 16  # a product with fewer weights is not worth sharing among threads


class Linear:
    """x @ w + b for every lane, with its gradients written straight into the flat buffer.

    w (L, in, out), b (L, out) or None, and their gradients are views. A single lane uses the plain product: it is the
    fastest on CPU, and its bits depend on nothing else.
    """

    def __init__(self, w: Tensor, b: Tensor | None, w_grad: Tensor, b_grad: Tensor | None) -> None:
        self.w, self.b, self.w_grad, self.b_grad = w, b, w_grad, b_grad
        self.alone: LoneLinear | None = None
        if len(w) == 1:
            biases = (None, None) if b is None or b_grad is None else (b[0], b_grad[0])
            self.alone = LoneLinear(w[0], w_grad[0], *biases, worth_sharing=w.numel() > _SMALL)

    def forward(self, x: Tensor, threads: int) -> Tensor:
        """Multiply x (L, B, in), shared among `threads` if worthwhile -> (L, B, out)."""
        if self.alone is not None:
            return self.alone.forward(x[0], threads).unsqueeze(0)
        return x @ self.w if self.b is None else torch.baddbmm(self.b.unsqueeze(1), x, self.w)

    def backward(self, x: Tensor, g: Tensor, threads: int, *, to_input: bool) -> Tensor:
        """Write the gradients of w and b, given the output's gradient g; return x's (g itself unless `to_input`)."""
        if self.alone is not None:
            return self.alone.backward(x[0], g[0], threads, to_input=to_input).unsqueeze(0)
        if self.b_grad is not None:
            torch.sum(g, dim=1, out=self.b_grad)
        torch.bmm(x.transpose(1, 2), g, out=self.w_grad)
        return torch.bmm(g, self.w.transpose(1, 2)) if to_input else g


class LoneLinear:
    """`Linear` for a single lane: plain matrices w (in, out), b (out) or None, and their gradients."""

    def __init__(
        self, w: Tensor, w_grad: Tensor, b: Tensor | None, b_grad: Tensor | None, *, worth_sharing: bool
    ) -> None:
        self.w, self.w_grad, self.b, self.b_grad = w, w_grad, b, b_grad
        self._w_t = w.t()  # created once: on two threads, creating views took a tenth of a step
        self._worth_sharing = worth_sharing

    def tensors(self) -> list[Tensor]:
        """Return all tensors that it reads or writes, in the order that `on` expects."""
        return [t for t in (self.w, self.w_grad, self.b, self.b_grad) if t is not None]

    def on(self, tensors: Iterator[Tensor]) -> LoneLinear:
        """Return the same product with the next of `tensors` in place of its own."""
        w, w_grad = next(tensors), next(tensors)
        biases = (None, None) if self.b is None else (next(tensors), next(tensors))
        return LoneLinear(w, w_grad, *biases, worth_sharing=self._worth_sharing)

    def forward(self, x: Tensor, threads: int) -> Tensor:
        """Multiply x (B, in), shared among `threads` if worthwhile -> (B, out)."""
        with spread(threads if self._worth_sharing else 1):
            return x @ self.w if self.b is None else torch.addmm(self.b, x, self.w)

    def backward(self, x: Tensor, g: Tensor, threads: int, *, to_input: bool) -> Tensor:
        """Write the gradients of w and b, given the output's gradient g; return x's (g itself unless `to_input`)."""
        if self.b_grad is not None:
            torch.sum(g, dim=0, out=self.b_grad)
        with spread(threads if self._worth_sharing else 1):
            torch.mm(x.t(), g, out=self.w_grad)
            return g @ self._w_t if to_input else g


class Convolution:
    """3x3 convolution, padded with zeros, for every lane; reads and returns rows, one per position of an image.

    w (L, out, channels, 3, 3), b (L, out) or None, and their gradients are views into the flat buffers. The lanes are
    the groups of one convolution. Threads never share it, because its sums depend on how many there are.
    """

    def __init__(self, side: int, w: Tensor, b: Tensor | None, w_grad: Tensor, b_grad: Tensor | None) -> None:
        self.side, self.w, self.b, self.w_grad, self.b_grad = side, w, b, w_grad, b_grad

    def forward(self, x: Tensor, threads: int) -> Tensor:
        """Convolve x (L, B * side * side, channels) -> (L, B * side * side, out)."""
        bias = self.b.flatten() if self.b is not None else None
        out = F.conv2d(to_images(x, self.side), self.w.flatten(0, 1), bias, padding=1, groups=len(x))
        return to_rows(out, len(x))

    def backward(self, x: Tensor, g: Tensor, threads: int, *, to_input: bool) -> Tensor:
        """Write the gradients of w and b, given the output's gradient g; return x's (g itself unless `to_input`)."""
        if self.b_grad is not None:
            torch.sum(g, dim=1, out=self.b_grad)
        images, w, g_images = to_images(x, self.side), self.w.flatten(0, 1), to_images(g, self.side)
        # Autograd calls this too; torch.nn.grad's functions lose the order of the axes and take several times as long.
        to_images_grad, w_grad, _ = torch.ops.aten.convolution_backward(
            g_images, images, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(x), [to_input, True, False]
        )
        self.w_grad.copy_(w_grad.view_as(self.w))
        return to_rows(to_images_grad, len(x)) if to_input else g


def pool(a: Tensor, side: int) -> Tensor:
    """Take the maximum of each 2x2 positions: (L, B * side * side, C) -> (L, B * (side // 2)^2, C)."""
    return to_rows(F.max_pool2d(to_images(a, side), 2), len(a))


def to_images(rows: Tensor, side: int) -> Tensor:
    """(L, B * side * side, C) -> (B, L * C, side, side); for one lane a view, channels last."""
    L, _, C = rows.shape
    if L == 1:
        return rows.view(-1, side, side, C).permute(0, 3, 1, 2)
    return rows.reshape(L, -1, side, side, C).permute(1, 0, 4, 2, 3).flatten(1, 2)


def to_rows(images: Tensor, lanes: int) -> Tensor:
    """(B, L * C, h, w) -> (L, B * h * w, C), the inverse of `to_images`."""
    B, _, h, w = images.shape
    return images.view(B, lanes, -1, h, w).permute(1, 0, 3, 4, 2).reshape(lanes, B * h * w, -1)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each lane's mean cross-entropy (L,) and its gradient (softmax - target) / B by the logits (L, B, C).

    With s from `smoothing` (L, 1, 1), the target is 1 - s at the label plus s / C everywhere: torch's label_smoothing.
    For a single lane, logits (B, C) and labels (B,) give a mean ().
    """
    log_p = F.log_softmax(logits, dim=-1)
    at_label = labels.unsqueeze(-1)  # (L, B, 1)
    losses = -log_p.gather(-1, at_label)
    one = torch.full_like(losses, -1)
    if smoothing is not None:
        losses = (1 - smoothing) * losses - smoothing * log_p.mean(dim=-1, keepdim=True)
        one = one * (1 - smoothing)
    g = log_p.exp_()
    if smoothing is not None:
        g.sub_(smoothing / logits.shape[-1])
    g.scatter_add_(-1, at_label, one)
    return losses.mean(dim=(-2, -1)), g.div_(labels.shape[-1])


class FromBuffer(torch.autograd.Function):
    """A small parameter, used once in a forward pass; backward writes its gradient into the flat buffer."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, grad: Tensor) -> Tensor:
        """Return the parameter unchanged."""
        ctx.grad = grad
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None]:
        """Overwrite the gradient rather than adding to it, so that no step must zero it first."""
        ctx.grad.copy_(g)
        return None, None


@dataclass(frozen=True)
class LaneAlone:
    """A single lane with nothing but activations without learned parameters between products, as plain matrices.

    It shares the lane's flat buffers, and `backpropagate` does what `LaneNetwork.backpropagate` does. Every call of
    torch releases Python's lock and takes it again: with two lanes on two threads, a step waits there, whatever the
    call does. This class makes half as many calls as `LaneNetwork`, and everything it reads and writes is a plain
    tensor, so the calls can be recorded and become one.
    """

    hidden: Sequence[LoneLinear]
    chains: Sequence[Sequence[Link]]
    output: LoneLinear

    def tensors(self) -> list[Tensor]:
        """Return all parameters and gradients that a step reads or writes, in the order that `on` expects."""
        return [tensor for product in (*self.hidden, self.output) for tensor in product.tensors()]

    def on(self, tensors: Sequence[Tensor]) -> LaneAlone:
        """Return the same network with other tensors in place of its own."""
        rest = iter(tensors)
        *hidden, output = [product.on(rest) for product in (*self.hidden, self.output)]
        return LaneAlone(hidden, self.chains, output)

    def backpropagate(self, x: Tensor, labels: Tensor, threads: int) -> Tensor:
        """Write the gradients of the mean loss into the flat buffer; return the loss (). x (B, D), labels (B,)."""
        tape: list[tuple[LoneLinear, Sequence[Link], Tensor, Tensor]] = []
        for product, chain in zip(self.hidden, self.chains, strict=True):
            z = product.forward(x, threads)
            tape.append((product, chain, x, z))
            x = chain_function(z, chain)
        loss, g = cross_entropy(self.output.forward(x, threads), labels, None)
        g = self.output.backward(x, g, threads, to_input=bool(tape))
        while tape:
            product, chain, x, z = tape.pop()
            g = product.backward(x, g.mul_(chain_slope(z, chain)), threads, to_input=bool(tape))
        return loss
