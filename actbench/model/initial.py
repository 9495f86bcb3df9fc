"""Initial weights and BatchNorm statistics."""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.activations.definition import chain_gain
from actbench.config import Variant
from actbench.initializers import INITIALIZERS
from actbench.model.noise import generator
from actbench.structure import WINDOW, Layer, Structure


def initialise(structure: Structure, theta: Tensor, variant: Variant, seed: int) -> None:
    """Draw the weights of one lane, theta (1, P) on the CPU, layer by layer: first the weights, then the biases."""
    draws = generator(seed, "init")
    init = INITIALIZERS[variant.init.name]
    segments = {segment.name: segment for segment in structure.segments()}
    gain, _ = chain_gain(variant.links)
    output = Layer("output", structure.output_fan_in, structure.classes, structure.classes)
    for layer in (*structure.layers, output):
        weight, bias = init.draw(
            (layer.fan_in, layer.pre),
            draws,
            variant.init.params,
            activation_gain=1.0 if layer is output else gain,
            fan_out=layer.pre * (1 if layer.side is None else WINDOW),
        )
        place = segments[f"{layer.name}.weight"].of(theta)[0]
        place.copy_(weight if layer.side is None else weight.t().reshape(place.shape))
        if f"{layer.name}.bias" not in segments:
            continue
        if variant.bias_init is not None and layer is not output:
            bias = torch.full_like(bias if bias is not None else weight[0], variant.bias_init)
        if bias is not None:
            segments[f"{layer.name}.bias"].of(theta)[0] = bias
    for name, segment in segments.items():
        if name.endswith("norm.weight"):
            segment.of(theta).fill_(1.0)
        elif ".activation." in name:
            i, parameter = name.split(".")[-2:]
            segment.of(theta).fill_(float(variant.activation[int(i)].params[parameter]))


def fresh_statistics(structure: Structure, theta: Tensor) -> dict[str, Tensor]:
    """Return BatchNorm's running means 0 and variances 1, (L, width) each, by name, on the device of theta (L, P)."""
    statistics: dict[str, Tensor] = {}
    for segment in structure.segments():
        if segment.name.endswith("norm.weight"):
            shape, prefix = (len(theta), *segment.shape), segment.name.removesuffix("weight")
            statistics[prefix + "running_mean"] = torch.zeros(shape, device=theta.device)
            statistics[prefix + "running_var"] = torch.ones(shape, device=theta.device)
    return statistics
