"""A training step as a captured CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from actbench.config import Run


class EagerStack(Protocol):
    """What a graph needs of a `LaneStack`, which itself makes graphs."""

    runs: Sequence[Run]
    device: torch.device
    loss_sum: Tensor

    def state(self, lane: int) -> dict[str, Tensor]:
        """Return the tensors that a step of this lane changes, by name."""

    def eager_step(self, index: Tensor) -> None:
        """Train one step on the images `index` (L, B), operation by operation."""


class GraphedStep:
    """One training step of a stack for one batch size, captured in a CUDA graph and replayed.

    A replay launches the whole step with one call, without Python or host synchronisation in between. Capturing needs
    a few warm-up steps on a side stream; the stack's state is restored after them. If capturing fails, the step runs
    eagerly, and a warning says why.
    """

    def __init__(self, stack: EagerStack, size: int) -> None:
        self._stack = stack
        self._index = torch.zeros(len(stack.runs), size, dtype=torch.int64, device=stack.device)
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        before = [{name: tensor.clone() for name, tensor in stack.state(k).items()} for k in range(len(stack.runs))]
        loss_sum = stack.loss_sum.clone()
        try:
            self._capture()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            warnings.warn(f"CUDA graph capture failed, training eagerly: {error}", RuntimeWarning, stacklevel=2)
            self._graph = None
        for lane, kept in enumerate(before):
            for name, tensor in stack.state(lane).items():
                # Moments and step counts that the warm-up created start from zero.
                tensor.copy_(kept[name]) if name in kept else tensor.zero_()
        stack.loss_sum.copy_(loss_sum)

    def _capture(self) -> None:
        assert self._graph is not None
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that a capturable optimizer steps uncaptured
            for _ in range(3):
                self._stack.eager_step(self._index)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            self._stack.eager_step(self._index)

    def __call__(self, index: Tensor) -> None:
        """Train one step on the images `index` (L, B)."""
        if self._graph is None:
            self._stack.eager_step(index)
        else:
            self._index.copy_(index)
            self._graph.replay()
