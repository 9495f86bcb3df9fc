"""Training steps of a single lane on CPU recorded as one call.

On CPU, two lanes on two threads wait for Python's lock whenever both return from a call of torch; a recorded step does
not need the lock. A recording repeats the same calls in the same order with nothing fused, so it gives the same bits.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from actbench.engine.images import Arrays
from actbench.model.layers import LaneAlone

Gradients = Callable[..., Tensor]
"""Takes images (N, D), labels (N,), index (B,), the sum of losses (1,) and the network's tensors; returns the sum."""

_READ_ONLY = 3  # the first three arguments are only read

_recordings: dict[Hashable, Gradients | None] = {}
_lock = threading.Lock()  # guards `_recordings`, and the warning filters, which the whole process shares


class LoneStep:
    """A lane's training step without the optimizer: gathers a batch, writes its gradients, adds up its losses.

    Args:
        network: the lane's network, on CPU; its tensors are read and written.
        arrays: the dataset; batches are gathered from its training images.
        loss_sum: (1,); each batch adds the sum of its losses.
        size: images in a full batch; only full batches are recorded.
        kind: equal for networks that differ only in the numbers in their tensors. They share one recording, which
            stays in memory (about half a megabyte).
    """

    def __init__(self, network: LaneAlone, arrays: Arrays, loss_sum: Tensor, size: int, kind: Hashable) -> None:
        self._network, self._size = network, size
        self._images, self._labels, self._loss_sum = arrays.train_images, arrays.train_labels, loss_sum
        self._tensors = network.tensors()
        self._recording: Gradients | None = None
        self._replayed: Gradients | None = None
        if size <= len(self._labels):
            example = (self._images, self._labels, torch.arange(size), loss_sum, *self._tensors)
            with _lock:
                if (kind, size) not in _recordings:
                    _recordings[kind, size] = _record(network, example)
                self._recording = _recordings[kind, size]

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Replay full batches in this thread. Entered once per epoch: entering it in every step would cost time."""
        with _as_recorded():
            self._replayed = self._recording
            try:
                yield
            finally:
                self._replayed = None

    def __call__(self, index: Tensor, threads: int) -> None:
        """Process the images `index` (B,). With several threads nothing is replayed: a recording cannot share."""
        if self._replayed is not None and threads == 1 and len(index) == self._size:
            self._replayed(self._images, self._labels, index, self._loss_sum, *self._tensors)
        else:
            _call_by_call(self._network, threads, len(index), self._images, self._labels, index, self._loss_sum)


def _call_by_call(
    network: LaneAlone, threads: int, size: int, images: Tensor, labels: Tensor, index: Tensor, loss_sum: Tensor
) -> Tensor:
    """Compute a step; this is also what is recorded. `size` is len(index), which a recording would make a tensor."""
    batch = images.index_select(0, index), labels.index_select(0, index)
    return loss_sum.add_(network.backpropagate(*batch, threads), alpha=size)


def _record(network: LaneAlone, example: tuple[Tensor, ...]) -> Gradients | None:
    """Record how a network computes a batch's gradients; return None if that fails or does not give the same bits.

    torch has deprecated recordings and does not support them on Python 3.14. Making the calls one by one always works.
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
        except RuntimeError:  # this torch cannot record one of the calls
            return None
    return recording if _agree(gradients, recording, example) else None


def _agree(one: Gradients, other: Gradients, example: tuple[Tensor, ...]) -> bool:
    """Whether both write the same bits: a recording lacks the calls that torch considers useless."""
    left, right = _copied(example), _copied(example)
    with _as_recorded():
        one(*left)
        other(*right)
    pairs = zip(left[_READ_ONLY:], right[_READ_ONLY:], strict=True)
    return all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)


def _copied(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the same images, labels and index, and copies of everything else."""
    return (*example[:_READ_ONLY], *(tensor.clone() for tensor in example[_READ_ONLY:]))


def _as_recorded() -> AbstractContextManager[None]:
    """Let this thread's recordings run call by call as recorded, without fusing or rewriting them."""
    context: AbstractContextManager[None] = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    return context
