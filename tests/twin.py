"""The plain PyTorch network that every lane must match: nn.Sequential, DataLoader-free, one network at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from actbench.activations import ACTIVATIONS
from actbench.config import Variant
from actbench.optimizers import OPTIMIZERS

MODULES: dict[str, Any] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda negative_slope, per_unit: nn.PReLU(1, negative_slope),
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class Function(nn.Module):
    """An activation that torch has no module for; learned parameters become nn.Parameters."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__()
        self.entry, self.params = ACTIVATIONS[name], dict(params)
        for key in self.entry.learned(params):
            self.params[key] = nn.Parameter(torch.tensor([float(params[key])]))
            self.register_parameter(key, self.params[key])

    def forward(self, z: Tensor) -> Tensor:
        return self.entry.function(z, **self.params)


def twin_of(variant: Variant, weights: dict[str, Tensor]) -> nn.Sequential:
    """Build the variant's network from plain modules and load `weights`, as `LaneNetwork.weights` names them."""
    modules: list[nn.Module] = []
    for k in range(len(variant.hidden)):
        linear = weights[f"hidden.{k}.weight"]
        bias = weights.get(f"hidden.{k}.bias")
        modules.append(_loaded(nn.Linear(linear.shape[1], linear.shape[0], bias=bias is not None), linear, bias))
        norm = nn.Identity()
        if variant.batch_norm:
            scale, shift = weights[f"hidden.{k}.norm.weight"], weights[f"hidden.{k}.norm.bias"]
            norm = _loaded(nn.BatchNorm1d(len(scale)), scale, shift)
        if variant.batch_norm == "before":
            modules.append(norm)
        for i, choice in enumerate(variant.activation):
            make = MODULES.get(choice.name)
            module = make(**choice.params) if make else Function(choice.name, choice.params)
            for parameter, name in zip(
                module.parameters(), ACTIVATIONS[choice.name].learned(choice.params), strict=True
            ):
                parameter.data.copy_(weights[f"hidden.{k}.activation.{i}.{name}"].view(-1))
            modules.append(module)
        if variant.batch_norm == "after":
            modules.append(norm)
    out = weights["output.weight"]
    modules.append(_loaded(nn.Linear(out.shape[1], out.shape[0]), out, weights["output.bias"]))
    return nn.Sequential(*modules)


def twin_optimizer(variant: Variant, twin: nn.Module) -> torch.optim.Optimizer:
    """The same optimizer, the plain way: one group, neither fused nor foreach."""
    entry = OPTIMIZERS[variant.optimizer.name]
    settings = entry.settings(variant.optimizer.params, variant.lr, variant.weight_decay)
    return getattr(torch.optim, entry.torch_name)(twin.parameters(), foreach=False, **settings)


def _loaded(module: Any, weight: Tensor, bias: Tensor | None) -> Any:
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)
    return module
