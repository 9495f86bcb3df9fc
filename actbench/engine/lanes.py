"""A stack of lanes: the networks, the optimizer and the image orders of L runs that the same calls train.

A stack trains and exposes its state. `measure` measures it, and `checkpoint` stores it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from actbench.compute import Pace, spread, whole_shares
from actbench.config import Augment, Run, Variant
from actbench.engine import cuda
from actbench.engine.images import Arrays, Augmentation
from actbench.engine.recordings import LoneStep
from actbench.model import LaneNetwork, generator, stretches
from actbench.model.draws import Noise
from actbench.optimizers import OPTIMIZERS, bare_step
from actbench.schedules import multiplier


class LaneStack:
    """Lanes of one structure that the same calls train; on CPU a stack has one lane.

    Args:
        runs: one per lane. They share dataset, limits, batch size, epochs, the kind of optimizer and whether images
            are augmented. Lanes with the same activation or the same optimizer settings should be neighbours.
        arrays: the images, on the device that trains.
    """

    def __init__(self, runs: Sequence[Run], arrays: Arrays) -> None:
        self.runs: Sequence[Run] = list(runs)
        self.arrays = arrays
        self.device = arrays.train_images.device
        variants = [run.variant for run in runs]
        self.shared: Variant = variants[0]
        seeds = [run.seed for run in runs]
        self.network = LaneNetwork(variants, seeds, arrays.train_images.shape[1], arrays.classes, self.device)
        self._rates: list[tuple[dict[str, Any], Variant]] = []
        self.optimizer = self._build_optimizer(variants)
        self._optimizer_step = bare_step(self.optimizer)
        self.orders = [generator(seed, "order") for seed in seeds]
        self.augmentation: Augmentation | None = None
        demands = self.network.demands
        if any(variant.augment for variant in variants):
            augments, side = [v.augment or Augment() for v in variants], math.isqrt(arrays.train_images.shape[1])
            self.augmentation = Augmentation(augments, side, arrays.black, self.device)
            demands = [*demands, self.augmentation.demand]
        self.noise = Noise(demands, seeds, self.device)
        self.loss_sum = torch.zeros(len(runs), dtype=torch.float64, device=self.device)
        self._alone: LoneStep | None = None  # the faster way to compute the gradients of a single lane on CPU
        if self.network.alone is not None and self.augmentation is None and self.device.type == "cpu":
            kind = self.shared.activation, self.network.structure
            self._alone = LoneStep(self.network.alone, arrays, self.loss_sum, self.shared.batch_size, kind)
        self._captured: dict[int, cuda.CapturedStep | None] = {}  # by batch size; None if it cannot be captured

    def _build_optimizer(self, variants: Sequence[Variant]) -> torch.optim.Optimizer:
        """Build one parameter group, over rows of the flat buffer, for each stretch of lanes with equal settings."""
        entry = OPTIMIZERS[self.shared.optimizer.name]
        settings = [(entry.settings(v.optimizer.params, v.lr, v.weight_decay), v.schedule) for v in variants]
        groups: list[dict[str, Any]] = []
        for lanes, (options, schedule) in stretches(settings):
            rows = self.network.theta[lanes]  # a leaf that shares the buffer's storage
            rows.grad = self.network.grad[lanes]
            groups.append({"params": [rows], **options})
            if schedule.name != "constant":
                if cuda.stacks_lanes(self.device):  # a captured step reads the rate from this tensor
                    groups[-1]["lr"] = torch.tensor(options["lr"], device=self.device)
                self._rates.append((groups[-1], variants[lanes.start]))
        return entry.build(groups, device=self.device.type)

    def train_epoch(self, epoch: int = 1) -> Tensor:
        """Train one epoch, each lane in its own order of images; return the mean losses (L,), float64.

        Each batch's loss is taken before its step; the mean is over images. `epoch` counts from 1.
        """
        n, size = len(self.arrays.train_labels), self.shared.batch_size
        order = torch.stack([torch.randperm(n, generator=draws) for draws in self.orders]).to(self.device)  # (L, N)
        self.loss_sum.zero_()
        pace, per_epoch = Pace(self.network), -(-n // size)
        with self._alone.replaying() if self._alone is not None else nullcontext():
            for k, index in enumerate(torch.split(order, size, dim=1)):
                pace.step()
                self._set_rates((epoch - 1) * per_epoch + k, per_epoch)
                self.step(index)
        pace.end()
        return self.loss_sum / n

    def _set_rates(self, step: int, per_epoch: int) -> None:
        """Set the learning rate of step `step`, counted from 0, for every stretch of lanes with a schedule."""
        for group, variant in self._rates:
            factor = multiplier(variant.schedule.name, variant.schedule.params, step, per_epoch, variant.epochs)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(variant.lr * factor)
            else:
                group["lr"] = variant.lr * factor

    def step(self, index: Tensor) -> None:
        """Train one step on the images `index` (L, B); on CUDA as a captured graph if possible."""
        if self._alone is not None:  # draws nothing; every microsecond counts here
            self._alone(index[0], self.network.threads)
            self._update()
            return
        size = index.shape[1]
        self.noise.draw(size)
        if cuda.stacks_lanes(self.device) and size not in self._captured:
            beside = next((step for step in self._captured.values() if step is not None), None)
            self._captured[size] = cuda.capture(self.eager_step, self._all_state, index, beside)
        (self._captured.get(size) or self.eager_step)(index)

    def eager_step(self, index: Tensor) -> None:
        """Train one step call by call, and add the batch's losses to the epoch's sum."""
        images, labels = self.arrays.train_images, self.arrays.train_labels
        if len(index) == 1:
            x, target = images.index_select(0, index[0]).unsqueeze(0), labels.index_select(0, index[0]).unsqueeze(0)
        else:
            x, target = images[index], labels[index]  # (L, B, D), (L, B)
        noise = self.noise.buffers(index.shape[1])
        if self.augmentation is not None:
            x = self.augmentation(x, noise["augment"])
        self.loss_sum.add_(self.network.backpropagate(x, target, noise), alpha=index.shape[1])
        self._update()

    def _update(self) -> None:
        """Take the optimizer's step on as many threads as split the flat buffer into whole vectors."""
        threads = self.network.threads
        if threads == 1:
            self._optimizer_step()
        else:
            with spread(whole_shares(threads)):
                self._optimizer_step()

    def state(self, lane: int) -> dict[str, Tensor]:
        """Return every tensor that training changes, for one lane, as views: writing to a view sets the state."""
        state = {"theta": self.network.theta[lane]}
        state |= {name: statistic[lane] for name, statistic in self.network.statistics.items()}
        start = 0
        for group in self.optimizer.param_groups:
            (rows,) = group["params"]
            if start <= lane < start + len(rows):
                for name, value in self.optimizer.state[rows].items():
                    if isinstance(value, Tensor):  # moments (l, P), or the step count () of the stretch
                        state[f"optimizer.{name}"] = value[lane - start] if value.dim() == 2 else value
            start += len(rows)
        return state

    def _all_state(self) -> dict[str, Tensor]:
        """Return every tensor that a step changes, for all lanes."""
        states = {f"{k}.{name}": tensor for k in range(len(self.runs)) for name, tensor in self.state(k).items()}
        return {**states, "loss_sum": self.loss_sum}

    def load_state(self, lane: int, tensors: dict[str, Tensor]) -> None:
        """Set the state that `state` returned. Raises ValueError if the names differ from this lane's."""
        for group in self.optimizer.param_groups:  # torch creates these in the first step
            (rows,) = group["params"]
            for name in (n.removeprefix("optimizer.") for n in tensors if n.startswith("optimizer.")):
                if name not in self.optimizer.state[rows]:
                    like = tensors["optimizer.step"] if name == "step" else rows
                    self.optimizer.state[rows][name] = torch.zeros_like(like, device=rows.device)
        state = self.state(lane)
        if set(state) != set(tensors):
            raise ValueError(f"a checkpoint with {sorted(tensors)} does not fit a run with {sorted(state)}")
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
