"""OPTIMIZERS: the torch optimizers that a config can name. To add one, add one entry here.

One optimizer object serves a whole lane group. Each lane brings its parameters and its learning rate as a parameter
group, so an entry only says which torch class runs and which of its settings a config can change.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.registry import LazyModule, Parameter, Params, Registry, Value

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@dataclass(frozen=True)
class Optimizer:
    """One optimizer: its class in `torch.optim`, what a config can set, and what the name itself fixes."""

    name: str
    torch_name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    fixed: tuple[tuple[str, Value], ...] = ()

    def settings(self, params: Params, lr: float, weight_decay: float) -> dict[str, Any]:
        """Return the options of one lane's parameter group under torch's names."""
        options: dict[str, Any] = {**dict(self.fixed), **params, "lr": lr, "weight_decay": weight_decay}
        if "beta1" in options:
            options["betas"] = (options.pop("beta1"), options.pop("beta2"))
        return options

    def build(self, groups: list[dict[str, Any]], *, device: str) -> torch.optim.Optimizer:
        """Build the torch optimizer over `groups` (`params` and `settings` each) for a type of device.

        It is fused if torch has such a kernel. On CUDA, a step counter stays on the device, as a CUDA graph requires
        (`capturable`).
        """
        options: dict[str, Any] = {}
        if self.torch_name in {"SGD", "Adam", "AdamW"} or (self.torch_name == "Adagrad" and device == "cpu"):
            options["fused"] = True
        if device == "cuda" and self.torch_name in {"Adam", "AdamW", "RMSprop"}:
            options["capturable"] = True
        # Else torch imports its compiler (0.7 s) just to disable it for a method that is never compiled. It keeps the
        # disabled method under this name; a version that does not simply gains nothing.
        plain = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = plain
        built: torch.optim.Optimizer = getattr(torch.optim, self.torch_name)(groups, lr=1e-3, **options)
        return built


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return the optimizer's step without torch's wrapper around it; call it with gradients switched off.

    The wrapper serves torch's profiler and compiler: its first call imports the compiler (0.7 s), and each call takes
    0.05 ms. For Adam over one tensor on the CPU, it is only the fused kernel: torch's sorting of tensors by device and
    type costs a fifth of the kernel's time, and holds the GIL.
    """
    whole = functools.partial(inspect.unwrap(type(optimizer).step), optimizer)
    kernel = getattr(torch, {"Adam": "_fused_adam_", "AdamW": "_fused_adamw_"}.get(type(optimizer).__name__, ""), None)
    group = optimizer.param_groups[0]
    if kernel is None or len(optimizer.param_groups) > 1 or group["params"][0].device.type != "cpu":
        return whole
    (rows,) = group["params"]
    beta1, beta2 = group["betas"]
    fixed = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
    state: list[list[torch.Tensor]] = []  # in the kernel's order; the tensors stay the same

    def step() -> None:
        if not state:
            made = optimizer.state[rows]
            if not made:  # torch creates the state in the first step
                whole()
                return
            state.extend(([made["exp_avg"]], [made["exp_avg_sq"]], [], [made["step"]]))
        state[-1][0].add_(1)
        kernel([rows], [rows.grad], *state, lr=group["lr"], beta1=beta1, beta2=beta2, **fixed)

    return step


_EPS = Parameter("eps", 1e-8, "added to the denominator", low=0, low_open=True)
_BETAS = (
    Parameter("beta1", 0.9, "decay of the gradient's running mean", low=0, high=1, high_open=True),
    Parameter("beta2", 0.999, "decay of the squared gradient's running mean", low=0, high=1, high_open=True),
)
_MOMENTUM = Parameter("momentum", 0.9, "share of the last step to keep", low=0, high=1, high_open=True)

OPTIMIZERS: Registry[Optimizer] = Registry(
    "optimizer",
    [
        Optimizer(
            "sgd", "SGD", "w <- w - lr g", "torch.optim.SGD; Robbins & Monro 1951",
            (
                Parameter("momentum", 0.0, _MOMENTUM.doc, low=0, high=1, high_open=True),
                Parameter("nesterov", False, "look ahead along the momentum (requires momentum > 0)"),
            ),
        ),
        Optimizer(
            "momentum", "SGD", "v <- m v + g; w <- w - lr v", "torch.optim.SGD; Polyak 1964", (_MOMENTUM,)
        ),
        Optimizer(
            "nesterov", "SGD", "v <- m v + g; w <- w - lr (g + m v)", "torch.optim.SGD; Sutskever et al. 2013",
            (Parameter("momentum", 0.9, _MOMENTUM.doc, low=0, high=1, low_open=True, high_open=True),),
            (("nesterov", True),),
        ),
        Optimizer(
            "adam", "Adam", "w <- w - lr m^ / (sqrt(v^) + eps)", "torch.optim.Adam; Kingma & Ba 2015",
            (*_BETAS, _EPS),
        ),
        Optimizer(
            "adamw", "AdamW", "Adam, with a separate w <- (1 - lr wd) w", "torch.optim.AdamW; Loshchilov & Hutter 2019",
            (*_BETAS, _EPS),
        ),
        Optimizer(
            "adagrad", "Adagrad", "s <- s + g^2; w <- w - lr g / (sqrt(s) + eps)",
            "torch.optim.Adagrad; Duchi et al. 2011",
            (Parameter("eps", 1e-10, _EPS.doc, low=0, low_open=True),),
        ),
        Optimizer(
            "rmsprop", "RMSprop", "v <- a v + (1 - a) g^2; w <- w - lr g / (sqrt(v) + eps)",
            "torch.optim.RMSprop; Hinton 2012",
            (
                Parameter("alpha", 0.99, "decay of the squared gradient's running mean", low=0, high=1, high_open=True),
                _EPS,
                Parameter("momentum", 0.0, _MOMENTUM.doc, low=0, high=1, high_open=True),
            ),
        ),
    ],
)  # fmt: skip
