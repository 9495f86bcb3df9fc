"""Measures a stack of lanes after an epoch: losses, accuracies and neuron health.

One pass over the training images and one over the test images give everything; the images that the config names as the
probe also feed the health meters.
"""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.compute import side_by_side, usable_threads
from actbench.config import Variant
from actbench.engine.lanes import LaneStack
from actbench.neurons import Chunk, DeathLedger, HealthMeter, LayerHealth, SampleHealth, summarize
from actbench.store.csv import Row

_BATCH = 500  # images per evaluation call; fixed, because the last bit of a result depends on it
SAMPLE = 1000
"""Training images on which gradients, effective rank and centred dormancy are measured: enough for means."""


class Measurer:
    """Measures one stack, and keeps from epoch to epoch the rows so far and which units are dead."""

    def __init__(self, stack: LaneStack) -> None:
        self.stack = stack
        self.rows: list[list[Row]] = [[] for _ in stack.runs]
        self.layer_rows: list[list[Row]] = [[] for _ in stack.runs]
        self.ledger: DeathLedger | None = None
        self.health: list[LayerHealth] = []
        self.sample = SampleHealth([], [], [])
        self._predicted = torch.empty_like(stack.arrays.test_labels, dtype=torch.int16).repeat(len(stack.runs), 1)

    @property
    def epoch(self) -> int:
        """The last epoch measured; -1 before the untrained network is measured."""
        return len(self.rows[0]) - 1

    @torch.no_grad()
    def measure(self, batch_losses: Tensor | None, train_s: float) -> None:
        """Append the next epoch's row to every lane; `batch_losses` (L,) and `train_s` come from training that epoch.

        If a lane's loss is not finite, its row contains only losses and times: the other numbers would mean nothing.
        """
        started = time.perf_counter()
        stack, arrays, epoch = self.stack, self.stack.arrays, self.epoch + 1
        meters = [HealthMeter(stack.network.sup_slope(k)) for k in range(len(stack.network.structure.layers))]
        train_probe, test_probe = _probe_sizes(stack.shared, len(arrays.train_labels))
        train = self._evaluate(arrays.train_images, arrays.train_labels, meters, train_probe)
        test = self._evaluate(arrays.test_images, arrays.test_labels, meters, test_probe, self._predicted)
        validation = None
        if len(arrays.validation_labels) > 0:
            validation = self._evaluate(arrays.validation_images, arrays.validation_labels, [], 0)
        self.health = [meter.result() for meter in meters]
        self.sample = self._read_sample()
        deaths, revivals = self._count_deaths(epoch)
        losses = batch_losses.tolist() if batch_losses is not None else [None] * len(stack.runs)
        evaluate_s = time.perf_counter() - started
        for lane, rows in enumerate(self.rows):
            overall, _ = summarize(self.health, self.sample, lane)
            row: dict[str, Any] = {"epoch": epoch, "batch_loss": losses[lane]}
            for split, results in {"train": train, "test": test, "validation": validation}.items():
                if results is not None:
                    row |= {f"{split}_loss": results[0][lane], f"{split}_accuracy": results[1][lane]}
            row |= {**overall, "deaths": deaths[lane], "revivals": revivals[lane]}
            row |= {"train_s": train_s / len(self.rows), "evaluate_s": evaluate_s / len(self.rows)}
            kept = {"epoch", "batch_loss", "train_loss", "train_s", "evaluate_s"} if diverged(row) else set(row)
            rows.append({name: value if name in kept else None for name, value in row.items()})
            if not diverged(row):
                self.layer_rows[lane] += [{"epoch": epoch, "layer": k, **x} for k, x in enumerate(self.layers(lane))]

    def _evaluate(
        self, images: Tensor, labels: Tensor, meters: list[HealthMeter], probe: int, predicted: Tensor | None = None
    ) -> tuple[list[float], list[float]]:
        """Return each lane's mean loss and accuracy; feed `probe` images to the meters and fill `predicted` (L, N)."""
        network, L, n = self.stack.network, len(self.rows), len(labels)

        def evaluate(start: int) -> tuple[Tensor, Tensor, dict[int, Chunk]]:
            """Sum up one chunk of images, with the same bits on any thread."""
            seen = probe - start  # how many images of this chunk belong to the probe
            chunks: dict[int, Chunk] = {}

            def observe(k: int, z: Tensor, a: Tensor) -> None:
                rows = seen * network.structure.layers[k].positions
                chunks[k] = meters[k].read(z[:, :rows], a[:, :rows], network.slope(k, z[:, :rows]))

            x = images[start : start + _BATCH].expand(L, -1, -1)  # (L, B, D)
            target = labels[start : start + _BATCH].expand(L, -1)  # (L, B)
            logits = network.forward(x, observe if seen > 0 else None)
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            chosen = logits.argmax(dim=2)
            if predicted is not None:
                predicted[:, start : start + _BATCH] = chosen
            correct = (chosen == target).sum(dim=1)
            return losses.view(L, -1).sum(dim=1).double(), correct, chunks

        loss_sum = torch.zeros(L, dtype=torch.float64, device=images.device)
        correct_sum = torch.zeros(L, dtype=torch.int64, device=images.device)
        with network.undivided() as threads:
            for loss, correct, chunks in side_by_side(evaluate, range(0, n, _BATCH), threads):
                loss_sum += loss
                correct_sum += correct
                for k, chunk in chunks.items():
                    meters[k].add(chunk)
        return (loss_sum / n).tolist(), (correct_sum.double() / n).tolist()

    def _read_sample(self) -> SampleHealth:
        """Measure what needs only the first training images; this overwrites the gradient buffer."""
        network, L = self.stack.network, len(self.rows)
        x = self.stack.arrays.train_images[:SAMPLE].expand(L, -1, -1)
        labels = self.stack.arrays.train_labels[:SAMPLE].expand(L, -1)
        outputs: list[Tensor] = []
        with network.undivided() as threads:
            network.forward(x, lambda k, z, a: outputs.append(a))
            network.backpropagate(x, labels, moves=False)
            if x.device.type == "cuda":  # the processors have nothing else to do
                threads = usable_threads()
            each = functools.partial(side_by_side, threads=min(threads, L))
            return SampleHealth.of(outputs, network.weight_gradients(), each)

    def _count_deaths(self, epoch: int) -> tuple[list[int | None], list[int | None]]:
        L = len(self.rows)
        if not self.health:  # no hidden units: there is nothing to count, which is not the same as 0
            return [None] * L, [None] * L
        dead = torch.cat([layer.dead for layer in self.health], dim=1)  # (L, units)
        if self.ledger is None:
            self.ledger = DeathLedger.begin(dead)
            return [0] * L, [0] * L
        deaths, revivals = self.ledger.update(dead, epoch)
        return deaths.tolist(), revivals.tolist()

    def final_metrics(self, lane: int) -> Row:
        """Return a run's numbers for runs.csv: the last epoch's, the deaths in all epochs, and the time."""
        rows = self.rows[lane]
        last, trained = rows[-1], rows[1:]
        wall_s = sum(float(row["train_s"] or 0) + float(row["evaluate_s"] or 0) for row in rows)
        images = len(self.stack.arrays.train_labels) * len(trained)
        metrics = {name: value for name, value in last.items() if name not in {"epoch", "train_s", "evaluate_s"}}
        counted = last["dead_ratio"] is not None
        return {
            **metrics,
            "deaths": sum(int(row["deaths"] or 0) for row in trained) if counted else None,
            "revivals": sum(int(row["revivals"] or 0) for row in trained) if counted else None,
            "born_dead_ratio": rows[0]["dead_ratio"],
            "epochs_run": len(trained),
            "wall_s": wall_s,
            "images_per_s": images / wall_s,
            "parameters": self.stack.network.structure.parameter_count,
            "widths": self.stack.network.structure.widths,
        }

    def predictions(self, lane: int) -> np.ndarray:
        """Return the label and the predicted label of each test image after the last epoch, (N, 2)."""
        return torch.stack([self.stack.arrays.test_labels, self._predicted[lane]], dim=1).cpu().numpy()

    def layers(self, lane: int) -> list[Row]:
        """Return each layer's numbers after the last epoch; the output layer comes last."""
        names = [*(layer.name for layer in self.stack.network.structure.layers), "output"]
        by_layer = summarize(self.health, self.sample, lane)[1]
        return [{"name": name, **numbers} for name, numbers in zip(names, by_layer, strict=True)]

    def neurons(self, lane: int) -> list[Row]:
        """Return one row per hidden unit, as in neurons.csv; `died_in` is 0 for a unit born dead."""
        rows: list[Row] = []
        for k, health in enumerate(self.health):
            assert self.ledger is not None
            columns = health.per_unit(lane) | self.sample.per_unit(k, lane, health.dead.shape[1])
            for unit in range(health.dead.shape[1]):
                died_in = int(self.ledger.died_in[lane, len(rows)])
                row: Row = {"layer": k, "unit": unit, **{name: values[unit] for name, values in columns.items()}}
                rows.append({**row, "died_in": died_in if died_in >= 0 else None})
        return rows


def diverged(row: Row) -> bool:
    """Whether this epoch's batch loss or training loss is not finite."""
    return any(loss is not None and not math.isfinite(loss) for loss in (row["batch_loss"], row["train_loss"]))


def _probe_sizes(variant: Variant, n_train: int) -> tuple[int, int]:
    """Return how many training images and how many test images the probe uses."""
    if variant.probe == "test":
        return 0, n_train + 10**9
    return (n_train, 0) if variant.probe == "train" else (int(variant.probe), 0)
