"""The stacked network: parameters, initial weights and the forward pass of L networks at once (layer 3).

Imports the registries, `config` (for the shape of a variant) and torch. Touches no files and no devices
but the one it is given.

Notation:
    L lanes, B batch, D inputs (784), H hidden width (512), C classes (10), P numbers in a lane's plane

All of a lane's parameters lie one after the other in one row of a *plane* `theta` (L, P), and their
gradients in a second one. A weight is a view into it, `(L, in, out)`; the optimizer sees rows of the plane
alone, so that one fused kernel updates a whole lane; saving, comparing or freezing a lane is one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.activations import ACTIVATIONS
from actbench.activations.curves import Chain, Link, chain_function, chain_gain, chain_slope, chain_sup_slope
from actbench.compute import PLANE_SHARE
from actbench.config import Variant
from actbench.config.fields import Choice
from actbench.initializers import INITIALIZERS
from actbench.model.layers import FromPlane, Linear
from actbench.model.structure import Structure

__all__ = ["LaneNetwork", "Observer", "Structure", "generator"]

Observer = Callable[[int, Tensor, Tensor], None]
"""Called as (layer, z (L, B, H), a (L, B, H)): the input and the output of a layer's activation function."""

_BN_MOMENTUM, _BN_EPS = 0.1, 1e-5  # the defaults of torch.nn.BatchNorm1d


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return the CPU generator of one run for one purpose ("init", "order", ...).

    A function of seed and purpose alone, so that no use of randomness moves another and runs with the same
    seed start from the same standard draw and see the images in the same order.
    """
    digest = hashlib.sha256(f"actbench:{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class ActivationRun:
    """Neighbouring lanes with the same activation function."""

    lanes: slice
    chain: tuple[Choice, ...]


class LaneNetwork:
    """L networks of one structure that are trained side by side.

    Args:
        variants: one per lane, all of the same `Structure`; lanes with the same activation should be
            neighbours, since each run of them is one call.
        seeds: one per lane; initial weights are a function of the lane's variant and seed alone.
        inputs, classes: the size of an image and the number of labels.
        device: where the planes live.

    `threads` may be set at any time: how many share a lane's products on CPU. It does not change their bits.
    """

    def __init__(
        self, variants: Sequence[Variant], seeds: Sequence[int], inputs: int, classes: int, device: torch.device
    ) -> None:
        structures = {Structure.of(variant, inputs, classes) for variant in variants}
        if len(structures) != 1:
            raise ValueError(f"lanes of {len(structures)} different structures cannot be stacked")
        self.structure = structures.pop()
        self.segments = {segment.name: segment for segment in self.structure.segments()}
        size = max(segment.end for segment in self.segments.values())
        self.theta = torch.zeros(len(variants), -(-size // PLANE_SHARE) * PLANE_SHARE)  # (L, P)
        self.threads = 1
        self.activations = _activation_runs(variants)
        for lane, (variant, seed) in enumerate(zip(variants, seeds, strict=True)):
            self._initialise(self.theta[lane : lane + 1], variant, seed)
        self.theta = self.theta.to(device)
        self.grad = torch.zeros_like(self.theta)
        self._weights = {name: segment.of(self.theta) for name, segment in self.segments.items()}
        self._gradients = {name: segment.of(self.grad) for name, segment in self.segments.items()}
        self._hidden = [self._linear(f"hidden.{k}") for k in range(len(self.structure.layers))]
        self._output = self._linear("output")
        elementwise = all(layer.pre == layer.post for layer in self.structure.layers)
        self._slope_suffices = elementwise and not self.structure.batch_norm and not self.structure.learned
        self.statistics = self._fresh_statistics()

    def _initialise(self, theta: Tensor, variant: Variant, seed: int) -> None:
        """Draw the weights of one lane, theta (1, P): layer by layer, each in the order weights, biases."""
        draws = generator(seed, "init")
        init = INITIALIZERS[variant.init.name]
        gain, _ = chain_gain([(ACTIVATIONS[choice.name], choice.params) for choice in variant.activation])
        layers = [(f"hidden.{k}", (layer.fan_in, layer.pre), gain) for k, layer in enumerate(self.structure.layers)]
        layers.append(("output", (self.structure.output_fan_in, self.structure.classes), 1.0))
        for name, shape, layer_gain in layers:
            weight, bias = init.draw(shape, draws, variant.init.params, activation_gain=layer_gain)
            self.segments[f"{name}.weight"].of(theta)[0] = weight
            if f"{name}.bias" not in self.segments:
                continue
            if variant.bias_init is not None and name != "output":
                bias = torch.full_like(bias if bias is not None else weight[0], variant.bias_init)
            if bias is not None:
                self.segments[f"{name}.bias"].of(theta)[0] = bias
        for name, segment in self.segments.items():
            if name.endswith("norm.weight"):
                segment.of(theta).fill_(1.0)
            elif ".activation." in name:
                _, _, _, i, parameter = name.split(".")
                segment.of(theta).fill_(float(variant.activation[int(i)].params[parameter]))

    def _fresh_statistics(self) -> dict[str, Tensor]:
        """BatchNorm's running mean and variance, (L, width) each."""
        statistics: dict[str, Tensor] = {}
        for name, segment in self.segments.items():
            if name.endswith("norm.weight"):
                shape = (len(self.theta), *segment.shape)
                prefix = name.removesuffix("weight")
                statistics[prefix + "running_mean"] = torch.zeros(shape, device=self.theta.device)
                statistics[prefix + "running_var"] = torch.ones(shape, device=self.theta.device)
        return statistics

    @torch.no_grad()
    def forward(self, x: Tensor, observe: Observer | None = None) -> Tensor:
        """Compute the logits (L, B, C) of the images x (L, B, D) in evaluation mode."""
        for k, linear in enumerate(self._hidden):
            z = linear.forward(x, self.threads)  # (L, B, D) -> (L, B, H)
            x = self._between(k, z, training=False, observe=observe)
        return self._output.forward(x, self.threads)  # (L, B, C)

    @torch.no_grad()
    def backpropagate(self, x: Tensor, labels: Tensor) -> Tensor:
        """Write the gradients of each lane's mean loss into the plane; return these losses (L,).

        The products' gradients are written out by hand, into their places. Between two products stands a factor,
        the activation's exact slope; or autograd, where BatchNorm, learned parameters or a width that changes
        ask for more. That is a third faster than autograd for all of it, and the same to rounding.

        x (L, B, D), labels (L, B). In training mode: BatchNorm uses the batch and moves its statistics.
        """
        tape: list[tuple[Linear, Tensor, Tensor, Tensor]] = []
        for k, linear in enumerate(self._hidden):
            z = linear.forward(x, self.threads).requires_grad_(not self._slope_suffices)
            with torch.set_grad_enabled(not self._slope_suffices):
                out = self._between(k, z, training=True)
            tape.append((linear, x, z, out))
            x = out.detach()
        losses, g = _cross_entropy(self._output.forward(x, self.threads), labels)
        g = self._output.backward(x, g, self.threads, to_input=bool(tape))
        while tape:
            linear, x, z, out = tape.pop()
            if self._slope_suffices:
                g.mul_(self.slope(len(tape), z))
            else:
                out.backward(g)  # type: ignore[no-untyped-call]
                assert z.grad is not None
                g = z.grad
            g = linear.backward(x, g, self.threads, to_input=bool(tape))
        return losses

    @torch.no_grad()
    def slope(self, layer: int, z: Tensor) -> Tensor:
        """f'(z) with the current parameters, of z's shape (L, B, H); see science: neuron health."""
        return self._per_activation(layer, z, chain_slope)

    def sup_slope(self, layer: int) -> Tensor:
        """sup|f'| of each lane and unit with the current parameters: (L, 1), or (L, H) if learned per unit."""
        parts = []
        for run in self.activations:
            chain = self._chain(layer, run)
            lanes = range(*run.lanes.indices(len(self.theta)))
            if len(chain) == 1:
                bound = torch.as_tensor(chain_sup_slope(chain), device=self.theta.device).detach()
                parts.append(bound.reshape(-1, bound.shape[-1] if bound.dim() else 1).expand(len(lanes), -1))
            else:
                rows = [chain_sup_slope(_numbers(chain, lane - lanes.start)) for lane in lanes]
                parts.append(torch.tensor(rows, device=self.theta.device).unsqueeze(1))
        width = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(-1, width) for part in parts])

    def weights(self, lane: int) -> dict[str, Tensor]:
        """One lane's parameters and statistics on the CPU, weights as (out, in) like `nn.Linear` keeps them."""
        named = {name: segment.of(self.theta)[lane] for name, segment in self.segments.items()}
        named |= {name: statistic[lane] for name, statistic in self.statistics.items()}
        return {
            name: (tensor.t() if tensor.dim() == 2 and ".activation." not in name else tensor)
            .detach()
            .cpu()
            .contiguous()
            for name, tensor in named.items()
        }

    @contextmanager
    def undivided(self) -> Iterator[int]:
        """Keep products undivided, and give the number of threads that are free for something else instead."""
        free, self.threads = self.threads, 1
        try:
            yield free
        finally:
            self.threads = free

    def _linear(self, name: str) -> Linear:
        weight, bias = f"{name}.weight", f"{name}.bias"
        w, b = self._weights[weight], self._weights.get(bias)
        return Linear(w, b, self._gradients[weight], self._gradients.get(bias))

    def _between(self, k: int, z: Tensor, *, training: bool, observe: Observer | None = None) -> Tensor:
        """Apply what stands between two products: activation, BatchNorm before or after it."""
        if self.structure.batch_norm == "before":
            z = self._normalise(k, z, training)
        a = self._per_activation(k, z, chain_function)
        if observe is not None:
            observe(k, z, a)
        return self._normalise(k, a, training) if self.structure.batch_norm == "after" else a

    def _parameter(self, name: str, lanes: slice = slice(None)) -> Tensor:
        """A parameter (l, *shape) of some lanes for autograd to use; its gradient goes to the plane."""
        weight, gradient = self._weights[name][lanes], self._gradients[name][lanes]
        if not torch.is_grad_enabled():
            return weight
        out: Tensor = FromPlane.apply(weight.detach().requires_grad_(), gradient)  # type: ignore[no-untyped-call]
        return out

    def _normalise(self, k: int, z: Tensor, training: bool) -> Tensor:
        """BatchNorm of each lane by itself: one call on (B, L*H)."""
        L, B, H = z.shape
        name = f"hidden.{k}.norm"
        flat = z[0] if L == 1 else z.transpose(0, 1).reshape(B, L * H)
        flat = F.batch_norm(
            flat,
            self.statistics[f"{name}.running_mean"].view(-1),
            self.statistics[f"{name}.running_var"].view(-1),
            self._parameter(f"{name}.weight").reshape(-1),
            self._parameter(f"{name}.bias").reshape(-1),
            training,
            _BN_MOMENTUM,
            _BN_EPS,
        )
        return flat.unsqueeze(0) if L == 1 else flat.view(B, L, H).transpose(0, 1)

    def _per_activation(self, k: int, z: Tensor, apply: Callable[[Tensor, Chain], Tensor]) -> Tensor:
        """Apply each run of lanes' own activation (or its slope) to its slice of z (L, B, H)."""
        if len(self.activations) == 1:
            return apply(z, self._chain(k, self.activations[0]))
        return torch.cat([apply(z[run.lanes], self._chain(k, run)) for run in self.activations])

    def _chain(self, k: int, run: ActivationRun) -> list[Link]:
        """The run's activations with their parameters, the learned ones as tensors (l, 1, 1) or (l, 1, H)."""
        chain: list[Link] = []
        for i, choice in enumerate(run.chain):
            entry = ACTIVATIONS[choice.name]
            names = entry.learned(choice.params)
            learned = {name: self._parameter(f"hidden.{k}.activation.{i}.{name}", run.lanes) for name in names}
            chain.append((entry, {**choice.params, **learned}))
        return chain


def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of each lane (L,), and its gradient (softmax - one-hot) / B by the logits (L, B, C)."""
    log_p = F.log_softmax(logits, dim=2)
    target = labels.unsqueeze(2)  # (L, B, 1)
    losses = -log_p.gather(2, target).mean(dim=(1, 2))
    g = log_p.exp_()
    g.scatter_add_(2, target, torch.full_like(target, -1, dtype=g.dtype))
    return losses, g.div_(labels.shape[1])


def _activation_runs(variants: Sequence[Variant]) -> list[ActivationRun]:
    runs: list[ActivationRun] = []
    for lane, variant in enumerate(variants):
        if runs and runs[-1].chain == variant.activation:
            runs[-1] = ActivationRun(slice(runs[-1].lanes.start, lane + 1), variant.activation)
        else:
            runs.append(ActivationRun(slice(lane, lane + 1), variant.activation))
    return runs


def _numbers(chain: Sequence[Link], lane: int) -> list[Link]:
    """The chain of one lane with its learned parameters as plain numbers."""
    return [
        (entry, {k: float(v[lane].mean()) if isinstance(v, Tensor) else v for k, v in params.items()})
        for entry, params in chain
    ]
