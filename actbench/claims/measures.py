"""What a claim can measure beyond the metrics of runs: the structure of trained networks, and cost.

    best:NAME           a metric at its best epoch, chosen by the test images themselves
    measured:NAME       a number computed from a run's stored weights, over all test images
    forward_ns, ...     with `measured: cost`: what `actbench.cost` times, one value per repetition

To add a measurement on weights, add an entry to `MEASURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.comparison.quantities import Curve, Quantity, number
from actbench.comparison.quantities import quantity as run_quantity
from actbench.config import Variant
from actbench.errors import UnknownNameError, UsageError
from actbench.metrics import METRICS, Kind
from actbench.registry import Parameter, Registry
from actbench.store import StoredRun
from actbench.store.csv import Row

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
"""Columns of epochs.csv that are not metrics but can have a threshold: `seconds_to:epoch>=10`."""


@dataclass(frozen=True)
class WeightMeasure:
    """A number computed from trained weights: `compute(layers, labels)`, over all test images."""

    name: str
    title: str
    kind: Kind
    doc: str
    compute: Callable[[Sequence[LayerPass], Tensor], float]
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class LayerPass:
    """One linear layer in the forward pass of all test images: input x (N, in), output (N, out), weight, bias."""

    x: Tensor
    out: Tensor
    weight: Tensor
    bias: Tensor


def same_sign_share(layers: Sequence[LayerPass], labels: Tensor) -> float:
    """Return the share of (image, output unit) pairs in which the gradients of all incoming weights have one sign.

    The gradient of unit c's weights for one image is (softmax_c - [c is the label]) a, so its signs are those of the
    hidden outputs a, or all of them reversed. Units without any gradient (a softmax of exactly 0 or 1) are not
    counted. LeCun et al. 1998, "Efficient BackProp", section 4.3.
    """
    import torch

    hidden, logits = layers[-1].x, layers[-1].out
    error = torch.softmax(logits, dim=1) - torch.nn.functional.one_hot(labels, logits.shape[1])  # (N, C)
    one_sign = ~((hidden > 0).any(dim=1) & (hidden < 0).any(dim=1))  # (N,)
    counted = error != 0
    return float((one_sign.unsqueeze(1) & counted).sum() / counted.sum())


def collapse_error(layers: Sequence[LayerPass], labels: Tensor) -> float:
    """Return max |f(x) - (W x + b)| / max |f(x)|, where W and b compose all layers as if none had an activation.

    W and b are computed in float64. For a linear network the result is the rounding of float32, about 1e-6.
    """
    weight, bias = layers[0].weight.double(), layers[0].bias.double()
    for layer in layers[1:]:
        weight, bias = layer.weight.double() @ weight, layer.weight.double() @ bias + layer.bias.double()
    logits = layers[-1].out.double()
    collapsed = layers[0].x.double() @ weight.T + bias
    return float((logits - collapsed).abs().max() / logits.abs().max())


MEASURES: Registry[WeightMeasure] = Registry(
    "measurement",
    [
        WeightMeasure("same_sign_share", "gradients of one sign", "fraction",
                      "share of (test image, output unit) pairs whose incoming weights' gradients all have one sign",
                      same_sign_share),
        WeightMeasure("collapse_error", "distance from one linear map", "number",
                      "largest |network(x) - (W x + b)| over the test images, divided by the largest output",
                      collapse_error),
    ],
)  # fmt: skip


def quantity(metric: str, measured: str, epoch: int | None) -> Quantity:
    """Return the quantity that `metric` names; `measured` and `epoch` are those of the claim and the side.

    Raises UsageError.
    """
    if measured == "cost":
        if metric not in COST:
            raise UnknownNameError("metric of a cost", metric, COST)
        return Quantity(metric, COST[metric], "fraction" if metric == "step_share" else "number", "lower", _not_in_row)
    if metric.startswith(PREFIX):
        measure = MEASURES[metric.removeprefix(PREFIX)]
        return Quantity(metric, measure.title, measure.kind, "neither", _not_in_row)
    if not metric.startswith(BEST):
        return run_quantity(metric, CURVE_COLUMNS, epoch)
    one = METRICS[metric.removeprefix(BEST)]

    def best(row: Row, curve: Curve) -> float | None:
        values = [value for line in curve(row) if (value := number(line.get(one.name))) is not None]
        return (min if one.better == "lower" else max)(values, default=None)

    return Quantity(metric, f"best {one.title}", one.kind, one.better, best)


def _not_in_row(_row: Any, _curve: Any) -> None:
    """Costs and measurements on weights are not stored in a run's row."""


def structure(metric: str, variant: Variant, run: StoredRun, dataset: Dataset) -> float:
    """Compute a `measured:` metric from the stored weights of a run. Raises the errors of `layer_passes`."""
    return MEASURES[metric.removeprefix(PREFIX)].compute(*layer_passes(variant, run, dataset))


def layer_passes(variant: Variant, run: StoredRun, dataset: Dataset) -> tuple[list[LayerPass], Tensor]:
    """Pass all test images through the stored weights of a run; return each layer's pass, and the labels (N,).

    Raises UsageError for networks with more than plain linear layers, StoreError for damaged weights.
    """
    import torch

    from actbench.activations.definition import chain_function
    from actbench.engine.images import Arrays

    if variant.batch_norm or variant.network != "mlp":
        raise UsageError(f"only networks of plain linear layers can be measured; {variant.name!r} has other layers")
    tensors = {name: torch.from_numpy(array) for name, array in run.weights().items()}
    if any(".activation." in name for name in tensors):
        raise UsageError(f"only fixed activations can be measured; {variant.name!r} has learned parameters")
    arrays = Arrays.of(dataset, variant, torch.device("cpu"))
    x, layers = arrays.test_images, []
    for name in (*(f"hidden.{k}" for k in range(len(variant.hidden))), "output"):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        out = torch.nn.functional.linear(x, weight, bias)  # (N, in) -> (N, out)
        layers.append(LayerPass(x, out, weight, bias))
        x = chain_function(out, variant.links)
    return layers, arrays.test_labels


def costs(arms: Mapping[str, Variant], repetitions: int) -> dict[str, list[dict[str, Any]]]:
    """Time each arm's activation in turns; return its `COST` values, one mapping per repetition."""
    from actbench import cost

    names = {arm: variant.activation[0].name for arm, variant in arms.items()}
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for _ in range(repetitions):
        rows = {one.activation: one.row for one in cost.measure(list(dict.fromkeys(names.values())), rounds=2)}
        for arm, name in names.items():
            found[arm].append(rows[name])
    return found
