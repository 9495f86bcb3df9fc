"""METRICS: what is measured about a run. To add a metric, add one entry here.

An entry says how to read a number: what it means, its unit and which direction is better. `engine` and `neurons`
produce the numbers, and `tables` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actbench.registry import Parameter, Registry

Kind = Literal["fraction", "seconds", "count", "number", "rate"]
Better = Literal["higher", "lower", "neither"]

UNITS: dict[Kind, str] = {
    "fraction": "%", "seconds": "s", "count": "", "number": "", "rate": "1/s",
}  # fmt: skip
"""The unit in which each kind is shown; fractions are stored as 0-1."""


@dataclass(frozen=True)
class Metric:
    """One measured quantity: its column, its title, its kind of number, and which direction is better.

    `better` is "neither" if more is neither good nor bad in itself; a significant difference is then only called
    higher or lower.
    """

    name: str
    title: str
    kind: Kind
    better: Better
    doc: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def heading(self) -> str:
        """The title with its unit, as a column heading: `test accuracy %`."""
        return f"{self.title} {UNITS[self.kind]}".rstrip()


METRICS: Registry[Metric] = Registry(
    "metric",
    [
        Metric("test_accuracy", "test accuracy", "fraction", "higher",
               "share of test images classified correctly after the last epoch"),
        Metric("test_loss", "test loss", "number", "lower", "mean cross-entropy over the test images"),
        Metric("train_accuracy", "train accuracy", "fraction", "higher",
               "share of training images classified correctly"),
        Metric("train_loss", "train loss", "number", "lower", "mean cross-entropy over the training images"),
        Metric("validation_accuracy", "validation accuracy", "fraction", "higher",
               "share of the images split off the training set that are classified correctly"),
        Metric("validation_loss", "validation loss", "number", "lower",
               "mean cross-entropy over the images split off the training set"),
        Metric("accuracy_gap", "accuracy gap", "fraction", "lower",
               "train accuracy - test accuracy: how far the network overfits"),
        Metric("dead_ratio", "dead", "fraction", "lower",
               "share of hidden units with max|f'(z)| = 0 over the probe: no training image can change them"),
        Metric("near_dead_ratio", "near-dead", "fraction", "lower",
               "share of hidden units with max|f'(z)| <= 0.001 sup|f'| over the probe"),
        Metric("silent_ratio", "silent", "fraction", "lower",
               "share of hidden units whose output is 0 over the whole probe"),
        Metric("constant_ratio", "constant", "fraction", "lower",
               "share of hidden units with max a - min a <= 1e-6 over the probe"),
        Metric("always_linear_ratio", "always linear", "fraction", "lower",
               "share of hidden units that are not dead and have max f' - min f' <= 0.001 sup|f'| over the probe, "
               "such as a ReLU that never switches off"),
        Metric("dormant_0.025_ratio", "dormant 0.025", "fraction", "lower",
               "share of hidden units with mean|a| <= 0.025 times the layer's mean|a| (Sokar et al. 2023)"),
        Metric("dormant_0.1_ratio", "dormant 0.1", "fraction", "lower",
               "share of hidden units with mean|a| <= 0.1 times the layer's mean|a| (Sokar et al. 2023)"),
        Metric("dormant_centred_0.025_ratio", "dormant 0.025, centred", "fraction", "lower",
               "the same for |a - mean a| over the first 1,000 training images; finds units stuck at any value"),
        Metric("dormant_centred_0.1_ratio", "dormant 0.1, centred", "fraction", "lower",
               "the same for |a - mean a| over the first 1,000 training images; finds units stuck at any value"),
        Metric("sparsity", "sparsity", "fraction", "neither",
               "mean share of exact zeros among the hidden outputs; not the dead ratio"),
        Metric("saturated_ratio", "saturated", "fraction", "lower",
               "mean share of (unit, image) pairs with |f'(z)| < 0.01 sup|f'|"),
        Metric("mean_activation", "mean activation", "number", "neither",
               "mean hidden output; 0 if outputs are zero-centred"),
        Metric("rms_activation", "RMS activation", "number", "neither",
               "root mean square of the hidden outputs"),
        Metric("effective_rank", "effective rank", "number", "neither",
               "exp(entropy of the singular values) of a layer's outputs on the first 1,000 training images, averaged "
               "over the hidden layers (Roy & Vetterli 2007)"),
        Metric("grad_norm", "gradient norm", "number", "neither",
               "L2 norm of the gradient of the mean loss on the first 1,000 training images, for all weights"),
        Metric("first_grad_norm", "first layer's gradient norm", "number", "neither",
               "the same for the first layer's weights: shows vanishing and exploding gradients"),
        Metric("deaths", "deaths", "count", "lower",
               "hidden units that died: summed over the epochs, but per epoch in curves"),
        Metric("revivals", "revivals", "count", "neither",
               "dead hidden units that came back: summed over the epochs, but per epoch in curves"),
        Metric("born_dead_ratio", "born dead", "fraction", "lower",
               "share of hidden units that are dead at initialisation"),
        Metric("parameters", "parameters", "count", "neither", "how many numbers are learned"),
        Metric("epochs_run", "epochs run", "count", "neither", "epochs trained before the end or divergence"),
        Metric("wall_s", "time", "seconds", "lower", "wall-clock seconds for training and measuring"),
        Metric("images_per_s", "images", "rate", "higher", "training images per second"),
    ],
)  # fmt: skip
