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


class Given(nn.Module):
    """Random numbers for one step, set from outside: what is dropped, or the slopes of a random ReLU."""

    def __init__(self, key: str, apply: Any) -> None:
        super().__init__()
        self.key, self.apply_to, self.noise = key, apply, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x, self.noise) if self.training else self.apply_to(x, None)


def give(twin: nn.Module, noise: dict[str, Tensor]) -> None:
    """Hand every part of the twin its random numbers (R, H) of this step, rows as the engine orders them."""
    for module in twin.modules():
        if isinstance(module, Given):
            module.noise = noise[module.key]


def _dropped(share: float) -> Any:
    def apply(x: Tensor, noise: Tensor | None) -> Tensor:
        if noise is None:
            return x
        return x * (_like(noise, x) >= share) / (1 - share)

    return apply


def _random_slope(lower: float, upper: float) -> Any:
    def apply(x: Tensor, noise: Tensor | None) -> Tensor:
        slope = (lower + upper) / 2 if noise is None else lower + (upper - lower) * _like(noise, x)
        return torch.where(x > 0, x, slope * x)

    return apply


def _like(noise: Tensor, x: Tensor) -> Tensor:
    """Rows (B * h * w, C) as images (B, C, h, w) where x is that."""
    return noise if x.dim() == 2 else noise.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


def twin_of(variant: Variant, weights: dict[str, Tensor]) -> nn.Sequential:
    """Build the variant's network from plain modules and load `weights`, as `LaneNetwork.weights` names them."""
    convolves = variant.network == "cnn"
    modules: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))] if convolves else []
    names = ["conv.0", "conv.1"] if convolves else []
    flat = False
    for name in (*names, *(f"hidden.{k}" for k in range(len(variant.hidden)))):
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        in_images = name.startswith("conv")
        if not in_images and modules and any(isinstance(m, nn.MaxPool2d) for m in modules) and not flat:
            modules.append(nn.Flatten())
            flat = True
        plain = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=bias is not None) if in_images else None
        plain = plain or nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        modules.append(_loaded(plain, weight, bias))
        norm = nn.Identity()
        if variant.batch_norm:
            scale, shift = weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"]
            norm = _loaded((nn.BatchNorm2d if in_images else nn.BatchNorm1d)(len(scale)), scale, shift)
        if variant.batch_norm == "before":
            modules.append(norm)
        modules += _activations(variant, name, weights)
        if variant.batch_norm == "after":
            modules.append(norm)
        if in_images:
            modules.append(nn.MaxPool2d(2))
        if variant.dropout:
            modules.append(Given(f"{name}.dropout", _dropped(variant.dropout)))
    if convolves and not variant.hidden:
        modules.append(nn.Flatten())
    out = weights["output.weight"]
    modules.append(_loaded(nn.Linear(out.shape[1], out.shape[0]), out, weights["output.bias"]))
    return nn.Sequential(*modules)


def _activations(variant: Variant, name: str, weights: dict[str, Tensor]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i, choice in enumerate(variant.activation):
        if choice.name == "rrelu":
            modules.append(Given(f"{name}.slope.{i}", _random_slope(**choice.params)))
            continue
        make = MODULES.get(choice.name)
        module = make(**choice.params) if make else Function(choice.name, choice.params)
        for parameter, learned in zip(
            module.parameters(), ACTIVATIONS[choice.name].learned(choice.params), strict=True
        ):
            parameter.data.copy_(weights[f"{name}.activation.{i}.{learned}"].view(-1))
        modules.append(module)
    return modules


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
