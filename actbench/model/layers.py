"""What computes with a plane's parameters and writes their gradients into it (layer 3; imports `compute`, torch)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from actbench.compute import spread

_SMALL = 1 << 16  # weights of a product that is not worth sharing between threads


class Linear:
    """x @ w + b for every lane, and its gradients written straight into the plane.

    w (L, in, out), b (L, out) or None, and their gradients are views. A lane alone takes the plain product: it is
    the fastest on CPU, and its bits depend on nothing else.
    """

    def __init__(self, w: Tensor, b: Tensor | None, w_grad: Tensor, b_grad: Tensor | None) -> None:
        self.w, self.b, self.w_grad, self.b_grad = w, b, w_grad, b_grad
        self.alone = len(w) == 1
        self._worth_sharing = w.numel() > _SMALL

    def forward(self, x: Tensor, threads: int) -> Tensor:
        """Multiply x (L, B, in), on so many threads where it is worth it -> (L, B, out)."""
        if not self.alone:
            return x @ self.w if self.b is None else torch.baddbmm(self.b.unsqueeze(1), x, self.w)
        with spread(threads if self._worth_sharing else 1):
            out = x[0] @ self.w[0] if self.b is None else torch.addmm(self.b[0], x[0], self.w[0])
        return out.unsqueeze(0)

    def backward(self, x: Tensor, g: Tensor, threads: int, *, to_input: bool) -> Tensor:
        """Write the gradients of w and b for the output's gradient g; return x's (g itself if not asked for)."""
        if self.b_grad is not None:
            torch.sum(g, dim=1, out=self.b_grad)
        if not self.alone:
            torch.bmm(x.transpose(1, 2), g, out=self.w_grad)
            return torch.bmm(g, self.w.transpose(1, 2)) if to_input else g
        with spread(threads if self._worth_sharing else 1):
            torch.mm(x[0].t(), g[0], out=self.w_grad[0])
            return (g[0] @ self.w[0].t()).unsqueeze(0) if to_input else g


class FromPlane(torch.autograd.Function):
    """A small parameter for one use in a forward pass; backward writes its gradient into the plane."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, grad: Tensor) -> Tensor:
        """Give the parameter as it is."""
        ctx.grad = grad
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None]:
        """Overwrite the gradient: no adding up, nothing to zero before a step."""
        ctx.grad.copy_(g)
        return None, None
