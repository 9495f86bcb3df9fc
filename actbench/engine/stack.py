"""A stack of lanes: networks, optimizer and order of images of L runs, trained by the same calls (layer 3).

Imports the model and the optimizers, `config` for the types and torch. It trains and gives out its state;
measuring (`measure`) and keeping (`checkpoint`) are other modules' work.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actbench.compute import spread, whole_shares
from actbench.config import Run, Variant
from actbench.datasets import Dataset, Split
from actbench.model import LaneNetwork, generator
from actbench.optimizers import OPTIMIZERS, bare_step

CLASSES = 10


@dataclass(frozen=True)
class Arrays:
    """A dataset on the device: images float32 (N, D), normalised; labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, variant: Variant, device: torch.device) -> Arrays:
        """Normalise as torchvision's ToTensor and Normalize do, (x / 255 - mean) / std, up to the limits."""

        def images(split: Split, limit: int | None) -> Tensor:
            pixels = split.images[:limit].flatten(1).to(device, torch.float32)  # (N, 28, 28) -> (N, D)
            return pixels.div_(255).sub_(dataset.mean).div_(dataset.std)

        return cls(
            images(dataset.train, variant.train_limit),
            dataset.train.labels[: variant.train_limit].to(device),
            images(dataset.test, variant.test_limit),
            dataset.test.labels[: variant.test_limit].to(device),
        )


class LaneStack:
    """Lanes of one structure that are trained by the same calls; on CPU a stack has one lane.

    Args:
        runs: one a lane. They share dataset, limits, batch size, epochs and the kind of optimizer; lanes with
            the same activation or the same optimizer settings should be neighbours.
        arrays: the images, on the device that is to train.
    """

    def __init__(self, runs: Sequence[Run], arrays: Arrays) -> None:
        self.runs, self.arrays = list(runs), arrays
        self.device = arrays.train_images.device
        variants = [run.variant for run in runs]
        self.shared: Variant = variants[0]
        seeds = [run.seed for run in runs]
        self.network = LaneNetwork(variants, seeds, arrays.train_images.shape[1], CLASSES, self.device)
        self.optimizer = self._build_optimizer(variants)
        self._optimizer_step = bare_step(self.optimizer)
        self.orders = [generator(seed, "order") for seed in seeds]
        self._loss_sum = torch.zeros(len(runs), dtype=torch.float64, device=self.device)
        self._graphs: dict[int, GraphedStep] = {}

    def _build_optimizer(self, variants: Sequence[Variant]) -> torch.optim.Optimizer:
        """One parameter group for every stretch of lanes with equal settings, over rows of the plane."""
        entry = OPTIMIZERS[self.shared.optimizer.name]
        settings = [entry.settings(v.optimizer.params, v.lr, v.weight_decay) for v in variants]
        groups: list[dict[str, Any]] = []
        start = 0
        for lane in range(1, len(variants) + 1):
            if lane == len(variants) or settings[lane] != settings[start]:
                rows = self.network.theta[start:lane].detach().requires_grad_()  # shares the plane's storage
                rows.grad = self.network.grad[start:lane]
                groups.append({"params": [rows], **settings[start]})
                start = lane
        return entry.build(groups, device=self.device.type)

    def train_epoch(self) -> Tensor:
        """Go once through the training images, each lane in its own order; return mean losses (L,), float64.

        The loss is that of each batch before its step, averaged over images.
        """
        n, size = len(self.arrays.train_labels), self.shared.batch_size
        order = torch.stack([torch.randperm(n, generator=draws) for draws in self.orders]).to(self.device)  # (L, N)
        self._loss_sum.zero_()
        pace = Pace(self.network)
        for start in range(0, n, size):
            pace.step()
            self.step(order[:, start : start + size])
        pace.end()
        return self._loss_sum / n

    def step(self, index: Tensor) -> None:
        """Train one step on the images `index` (L, B), on CUDA as a captured graph where that works."""
        if self.device.type != "cuda":
            self.eager_step(index)
            return
        size = index.shape[1]
        if size not in self._graphs:
            self._graphs[size] = GraphedStep(self, size)
        self._graphs[size](index)

    def eager_step(self, index: Tensor) -> None:
        """Do what `step` does, call by call; add the batch's losses to the epoch's sum."""
        images, labels = self.arrays.train_images, self.arrays.train_labels
        if len(index) == 1:
            x, target = images.index_select(0, index[0]).unsqueeze(0), labels.index_select(0, index[0]).unsqueeze(0)
        else:
            x, target = images[index], labels[index]  # (L, B, D), (L, B)
        losses = self.network.backpropagate(x, target)
        with spread(whole_shares(self.network.threads)), torch.no_grad():
            self._optimizer_step()
        self._loss_sum.add_(losses, alpha=index.shape[1])

    def state(self, lane: int) -> dict[str, Tensor]:
        """Return every tensor that training changes, for one lane, as views: writing to them sets the state."""
        state = {"theta": self.network.theta[lane]}
        state |= {name: statistic[lane] for name, statistic in self.network.statistics.items()}
        start = 0
        for group in self.optimizer.param_groups:
            (rows,) = group["params"]
            if start <= lane < start + len(rows):
                for name, value in self.optimizer.state[rows].items():
                    if isinstance(value, Tensor):  # moments (l, P), or the stretch's one step count ()
                        state[f"optimizer.{name}"] = value[lane - start] if value.dim() == 2 else value
            start += len(rows)
        return state

    def load_state(self, lane: int, tensors: dict[str, Tensor]) -> None:
        """Set what `state` gave. Raises ValueError where the names differ from this lane's."""
        for group in self.optimizer.param_groups:  # torch makes these at the first step
            (rows,) = group["params"]
            for name in (n.removeprefix("optimizer.") for n in tensors if n.startswith("optimizer.")):
                if name not in self.optimizer.state[rows]:
                    fresh = tensors["optimizer.step"].clone() if name == "step" else torch.zeros_like(rows)
                    self.optimizer.state[rows][name] = fresh.detach()
        state = self.state(lane)
        if set(state) != set(tensors):
            raise ValueError(f"a checkpoint with {sorted(tensors)} does not fit a run with {sorted(state)}")
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


class Pace:
    """Finds out, while an epoch runs, whether its products are faster shared between threads or not.

    Shared is faster on an idle machine, and several times slower where another process keeps a processor busy.
    Every so often a few steps are timed either way. The bits are the same.
    """

    _TRIAL, _PERIOD = 20, 400

    def __init__(self, network: LaneNetwork) -> None:
        self._network, self._threads = network, network.threads
        self._steps, self._since, self._shared_s = 0, 0.0, 0.0

    def step(self) -> None:
        """Note that a step begins."""
        if self._threads == 1:
            return
        position, now = self._steps % self._PERIOD, time.perf_counter()
        if position == 0:
            self._network.threads = self._threads
        elif position == self._TRIAL:
            self._shared_s = now - self._since
            self._network.threads = 1
        elif position == 2 * self._TRIAL and self._shared_s < now - self._since:
            self._network.threads = self._threads
        if position % self._TRIAL == 0:
            self._since = now
        self._steps += 1

    def end(self) -> None:
        """Give the network its threads back."""
        self._network.threads = self._threads


class GraphedStep:
    """One training step of a stack for one batch size, captured in a CUDA graph and replayed.

    A replay launches the whole step with one call: no Python and no host synchronisation in between.
    Capturing needs a few warm-up steps on a side stream, and the stack's state is put back after them. Where
    capturing fails, the step runs eagerly and one warning says why.
    """

    def __init__(self, stack: LaneStack, size: int) -> None:
        self._stack = stack
        self._index = torch.zeros(len(stack.runs), size, dtype=torch.int64, device=stack.device)
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        before = [{name: tensor.clone() for name, tensor in stack.state(k).items()} for k in range(len(stack.runs))]
        loss_sum = stack._loss_sum.clone()
        try:
            self._capture()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            warnings.warn(f"CUDA graph capture failed, training eagerly: {error}", RuntimeWarning, stacklevel=2)
            self._graph = None
        for lane, kept in enumerate(before):
            for name, tensor in stack.state(lane).items():
                # What the warm-up created, moments and step counts, starts from zero.
                tensor.copy_(kept[name]) if name in kept else tensor.zero_()
        stack._loss_sum.copy_(loss_sum)

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
