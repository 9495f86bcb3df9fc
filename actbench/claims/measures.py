"""What a claim may measure beside the metrics of runs: the structure of trained networks, and cost (layer 4).

Imports `comparison.quantities`, `registry`; torch, the engine and `cost` when something is measured.

    best:NAME           a metric at the epoch where it is best, by the test images themselves
    measured:NAME       a number that is computed from a run's stored weights, over all test images
    forward_ns, ...     with `measured: cost`: what `cost` times, one value a repetition

A new measurement is one entry of `MEASURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.comparison.quantities import Curve, Quantity, Row, number
from actbench.comparison.quantities import quantity as of_comparison
from actbench.config import Variant
from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS, Kind
from actbench.registry import Parameter, Registry
from actbench.store import StoredRun

if TYPE_CHECKING:
    from torch import Tensor

    from actbench.datasets import Dataset

PREFIX, BEST = "measured:", "best:"
COST = {
    "forward_ns": "forward, ns per element",
    "backward_ns": "backward, ns per element",
    "step_share": "share of a training step",
}
CURVE_COLUMNS = ("epoch", "train_s", "evaluate_s")
"""Columns of epochs.csv that are no metrics, but can be waited for: `seconds_to:epoch>=10`."""


@dataclass(frozen=True)
class Measure:
    """A number that trained weights have: `compute(layers)` of every layer's inputs and its weights."""

    name: str
    title: str
    kind: Kind
    doc: str
    compute: Callable[[Sequence[Layer], Tensor], float]
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One layer while all test images pass: what it reads x (N, in), gives out (N, out), its weight and bias."""

    x: Tensor
    out: Tensor
    weight: Tensor
    bias: Tensor


def same_sign_share(layers: Sequence[Layer], labels: Tensor) -> float:
    """Return the share of (image, output unit) whose incoming weights' gradients all have one sign.

    The gradient of unit c's weights for one image is (softmax_c - [c is the label]) a, so its signs are those of
    the hidden outputs a, or all the opposite ones. Units without any gradient (a softmax of exactly 0 or 1) do not
    count. LeCun et al. 1998, "Efficient BackProp", section 4.3.
    """
    import torch

    hidden, logits = layers[-1].x, layers[-1].out
    error = torch.softmax(logits, dim=1) - torch.nn.functional.one_hot(labels, logits.shape[1])  # (N, C)
    one_sign = ~((hidden > 0).any(dim=1) & (hidden < 0).any(dim=1))  # (N,)
    counted = error != 0
    return float((one_sign.unsqueeze(1) & counted).sum() / counted.sum())


def collapse_error(layers: Sequence[Layer], labels: Tensor) -> float:
    """Return max |f(x) - (W x + b)| / max |f(x)|, W and b the product of all layers as if none had an activation.

    About 1e-6, the rounding of float32, for a network that is one linear map; W and b are multiplied in float64.
    """
    weight, bias = layers[0].weight.double(), layers[0].bias.double()
    for layer in layers[1:]:
        weight, bias = layer.weight.double() @ weight, layer.weight.double() @ bias + layer.bias.double()
    logits = layers[-1].out.double()
    collapsed = layers[0].x.double() @ weight.T + bias
    return float((logits - collapsed).abs().max() / logits.abs().max())


MEASURES: Registry[Measure] = Registry(
    "measurement",
    [
        Measure("same_sign_share", "gradients of one sign", "fraction",
                "share of (test image, output unit) whose incoming weights' gradients all have the same sign",
                same_sign_share),
        Measure("collapse_error", "distance from one linear map", "number",
                "largest |network(x) - (W x + b)| over the test images, by the largest output", collapse_error),
    ],
)  # fmt: skip


def quantity(spec: str, measured: str, epoch: int | None) -> Quantity:
    """Return what `spec` names: a metric of runs, or a measurement of this module. Raises UsageError."""
    if measured == "cost":
        if spec not in COST:
            raise UnknownNameError("metric of a cost", spec, COST)
        return Quantity(spec, COST[spec], "fraction" if spec == "step_share" else "number", "lower", _never)
    if spec.startswith(PREFIX):
        measure = MEASURES[spec.removeprefix(PREFIX)]
        return Quantity(spec, measure.title, measure.kind, "neither", _never)
    if spec.startswith(BEST):
        return _best(spec)
    return of_comparison(spec, CURVE_COLUMNS, epoch)


def _best(spec: str) -> Quantity:
    metric = METRICS[spec.removeprefix(BEST)]

    def read(row: Row, curve: Curve) -> float | None:
        values = [value for line in curve(row) if (value := number(line.get(metric.name))) is not None]
        return (min if metric.better == "lower" else max)(values, default=None)

    return Quantity(spec, f"best {metric.title}", metric.kind, metric.better, read, from_curve=True)


def _never(_row: Any, _curve: Any) -> None:
    """A measurement is not read from a row."""


def structure(spec: str, variant: Variant, run: StoredRun, dataset: Dataset) -> float:
    """Measure `spec` on the stored weights of a run. Raises StoreError for weights that are not whole."""
    import torch

    from actbench.activations import ACTIVATIONS
    from actbench.activations.definition import chain_function
    from actbench.engine.lanes import Arrays

    if variant.batch_norm or variant.network != "mlp":
        raise UsageError(f"{spec} is known for networks of plain linear layers only, not for {variant.name!r}")
    arrays = Arrays.of(dataset, variant, torch.device("cpu"))
    tensors = {name: torch.from_numpy(array) for name, array in run.weights().items()}
    chain = [(ACTIVATIONS[choice.name], choice.params) for choice in variant.activation]
    if any(".activation." in name for name in tensors):
        raise UsageError(f"{spec} is not known for activations that learn parameters, such as {variant.name!r}")
    x, layers = arrays.test_images, []
    for name in (*(f"hidden.{k}" for k in range(len(variant.hidden))), "output"):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        out = torch.nn.functional.linear(x, weight, bias)  # (N, in) -> (N, out)
        layers.append(Layer(x, out, weight, bias))
        x = chain_function(out, chain)
    return MEASURES[spec.removeprefix(PREFIX)].compute(layers, arrays.test_labels)


def costs(arms: Mapping[str, Variant], repetitions: int) -> dict[str, list[dict[str, Any]]]:
    """Time the activation of each arm so many times, taking turns; one mapping of `COST` a repetition."""
    from actbench import cost

    names = {arm: variant.activation[0].name for arm, variant in arms.items()}
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for _ in range(repetitions):
        rows = {one.activation: one.row for one in cost.measure(list(dict.fromkeys(names.values())), rounds=2)}
        for arm, name in names.items():
            found[arm].append(rows[name])
    return found
