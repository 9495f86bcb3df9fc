"""The gradients of a lane alone on CPU, recorded so that they are one call of torch (layer 3; imports torch, `model`).

Two lanes on two threads wait for Python's lock whenever both come out of a call of torch; nobody needs the lock during
a recorded step. A recording has the very calls that were recorded, in their order, nothing fused: the same bits.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from actbench.model.alone import LaneAlone

Gradients = Callable[..., Tensor]
"""Takes images (N, D), labels (N,), index (B,), the sum of losses (1,) and the network's tensors; gives the sum."""

_READ_ONLY = 3  # of these, the first so many

_recordings: dict[Hashable, Gradients | None] = {}
_lock = threading.Lock()  # over `_recordings`, and over the filters of warnings, which are the whole process's


class LoneStep:
    """A lane's training step but for the optimizer's part: gather a batch, write its gradients, add up its losses.

    Args:
        network: the lane's, on CPU; its tensors are read and written.
        images, labels: (N, D) and (N,), what batches are gathered from.
        loss_sum: (1,), to which a batch adds the sum of its losses.
        size: images of a whole batch; only whole batches are recorded.
        kind: equal for networks that differ in the numbers in their tensors alone. These share a recording, which
            stays in memory (about half a megabyte).
    """

    def __init__(
        self, network: LaneAlone, images: Tensor, labels: Tensor, loss_sum: Tensor, size: int, kind: Hashable
    ) -> None:
        self._network, self._size = network, size
        self._images, self._labels, self._loss_sum = images, labels, loss_sum
        self._tensors = network.tensors()
        self._recording = self._record(kind) if size <= len(labels) else None
        self._replayed: Gradients | None = None

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Take whole batches from the recording, in this thread. Said once an epoch: a step would notice the cost."""
        with _as_recorded():
            self._replayed = self._recording
            try:
                yield
            finally:
                self._replayed = None

    def __call__(self, index: Tensor, threads: int) -> None:
        """Take the images `index` (B,); several threads share the products, which no recording can let them."""
        if self._replayed is not None and threads == 1 and len(index) == self._size:
            self._replayed(self._images, self._labels, index, self._loss_sum, *self._tensors)
        else:
            _call_by_call(self._network, threads, len(index), self._images, self._labels, index, self._loss_sum)

    def _record(self, kind: Hashable) -> Gradients | None:
        key = (kind, self._size)
        with _lock:
            if key not in _recordings:
                index = torch.arange(self._size)
                example = (self._images, self._labels, index, self._loss_sum, *self._tensors)
                _recordings[key] = _record(self._network, example)
            return _recordings[key]


def _call_by_call(
    network: LaneAlone, threads: int, size: int, images: Tensor, labels: Tensor, index: Tensor, loss_sum: Tensor
) -> Tensor:
    """What a step is, and what is recorded. `size` is the index' length, which a recording would take for a tensor."""
    batch = images.index_select(0, index), labels.index_select(0, index)
    return loss_sum.add_(network.backpropagate(*batch, threads), alpha=size)


def _record(network: LaneAlone, example: tuple[Tensor, ...]) -> Gradients | None:
    """Record a network's gradients of a batch, or return None where that cannot be had, or not to the same bits.

    torch calls recordings deprecated and does not support them on Python 3.14. What they are made of, the calls one by
    one, is always there instead.
    """
    if sys.version_info >= (3, 14) or not hasattr(torch.jit, "trace"):
        return None
    size, without_numbers = len(example[2]), network.on([torch.empty(0, 0) for _ in network.tensors()])

    def gradients(images: Tensor, labels: Tensor, index: Tensor, loss_sum: Tensor, *tensors: Tensor) -> Tensor:
        return _call_by_call(without_numbers.on(tensors), 1, size, images, labels, index, loss_sum)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.trace.* is deprecated")
        try:
            recording: Gradients = torch.jit.trace(gradients, _copied(example), check_trace=False)  # type: ignore[no-untyped-call]
        except RuntimeError:  # a call that this torch cannot record
            return None
    return recording if _agree(gradients, recording, example) else None


def _agree(one: Gradients, other: Gradients, example: tuple[Tensor, ...]) -> bool:
    """Whether both leave the same bits in all they write to: torch leaves calls out that it takes for useless."""
    left, right = _copied(example), _copied(example)
    with _as_recorded():
        one(*left)
        other(*right)
    pairs = zip(left[_READ_ONLY:], right[_READ_ONLY:], strict=True)
    return all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)


def _copied(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same images, labels and index, and copies of everything else."""
    return (*example[:_READ_ONLY], *(tensor.clone() for tensor in example[_READ_ONLY:]))


def _as_recorded() -> AbstractContextManager[None]:
    """Let this thread's recordings run call by call as they were recorded, neither fused nor taken apart."""
    context: AbstractContextManager[None] = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    return context
