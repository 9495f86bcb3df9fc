"""The stacked network: parameters, initial weights, forward and backward pass of L networks at once.

Notation:
    L lanes, B batch, D inputs (784), H hidden width (512), C classes (10), P numbers in a lane's row of a flat buffer

The *flat parameter buffer* `theta` (L, P) holds all parameters of a lane one after another in one row; a second buffer
with the same layout, `grad`, holds their gradients. A weight is a view `(L, in, out)` into the buffer. The optimizer
sees only rows of the buffer, so one fused kernel updates a whole lane; a lane is saved or compared as one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.activations import ACTIVATIONS
from actbench.activations.definition import Link, chain_function, chain_slope, chain_sup_slope
from actbench.compute import PADDING
from actbench.config import Choice, Variant
from actbench.model.draws import Demand, generator, initialise
from actbench.model.layers import Convolution, FromBuffer, LaneAlone, Linear, cross_entropy, pool
from actbench.structure import Layer

__all__ = ["LaneNetwork", "Observer", "generator", "stretches"]

S = TypeVar("S")
Observer = Callable[[int, Tensor, Tensor], None]
"""Called as (layer, z (L, R, H), a (L, R, H)): the input and the output of a layer's activation function, with one row
per image, or one row per position of an image if the layer is a convolution."""

_BN_MOMENTUM, _BN_EPS = 0.1, 1e-5  # the defaults of torch.nn.BatchNorm1d


class Stretch(NamedTuple):
    """Neighbouring lanes with the same activation function."""

    lanes: slice
    chain: tuple[Choice, ...]


class LaneNetwork:
    """L networks of one structure that are trained side by side.

    Args:
        variants: one per lane, all of the same `Structure`; lanes with the same activation should be
            neighbours, because each group of neighbours is one call.
        seeds: one per lane; initial weights are a function of the lane's variant and seed alone.
        inputs, classes: the size of an image and the number of labels.
        device: where the flat buffers are.

    `threads` is the number of threads that share a lane's products on CPU. You may set it at any time; it does not
    change the bits of the result.
    """

    def __init__(
        self, variants: Sequence[Variant], seeds: Sequence[int], inputs: int, classes: int, device: torch.device
    ) -> None:
        structures = {variant.structure(inputs, classes) for variant in variants}
        if len(structures) != 1:
            raise ValueError(f"lanes of {len(structures)} different structures cannot be stacked")
        self.structure = structures.pop()
        self.segments = {segment.name: segment for segment in self.structure.segments()}
        size = max(segment.end for segment in self.segments.values())
        self.theta = torch.zeros(len(variants), -(-size // PADDING) * PADDING)  # (L, P)
        self.threads = 1
        self.stretches = [Stretch(*stretch) for stretch in stretches([variant.activation for variant in variants])]
        for lane, (variant, seed) in enumerate(zip(variants, seeds, strict=True)):
            initialise(self.structure, self.theta[lane : lane + 1], variant, seed)
        self.theta = self.theta.to(device)
        self.grad = torch.zeros_like(self.theta)
        self._weights = {name: segment.of(self.theta) for name, segment in self.segments.items()}
        self._gradients = {name: segment.of(self.grad) for name, segment in self.segments.items()}
        self._hidden = [self._product(layer.name, layer.side) for layer in self.structure.layers]
        self._output = self._product("output", None)
        self._slope_suffices = [self._is_a_factor(layer) for layer in self.structure.layers]
        self.statistics: dict[str, Tensor] = {}  # BatchNorm's running means and variances, (L, width) each
        for name, weight in self._weights.items():
            if name.endswith("norm.weight"):
                running = name.removesuffix("weight") + "running"
                self.statistics[f"{running}_mean"] = torch.zeros(weight.shape, device=device)
                self.statistics[f"{running}_var"] = torch.ones(weight.shape, device=device)
        self._dropout = _per_lane([variant.dropout for variant in variants], device)
        self._smoothing = _per_lane([variant.label_smoothing for variant in variants], device)
        self.demands = self._noise_demands([variant.dropout > 0 for variant in variants])
        self.alone = self._lane_alone()

    def _lane_alone(self) -> LaneAlone | None:
        """Return the faster way to train a single lane, or None if this network needs the general way."""
        products = (*self._hidden, self._output)
        lone = [product.alone for product in products if isinstance(product, Linear) and product.alone is not None]
        plain = all(self._slope_suffices) and not self.demands and self._smoothing is None
        if not plain or len(lone) < len(products):
            return None
        chains = [self._chain(k, self.stretches[0]) for k in range(len(self._hidden))]
        return LaneAlone(lone[:-1], chains, lone[-1])

    def _noise_demands(self, drops: Sequence[bool]) -> list[Demand]:
        """Return what a training step draws at random: each layer's random slopes and dropout."""
        demands: list[Demand] = []
        dropping = tuple(lane for lane, drop in enumerate(drops) if drop)
        for layer in self.structure.layers:
            for i in range(max(len(stretch.chain) for stretch in self.stretches)):
                noisy = [s.lanes for s in self.stretches if i < len(s.chain) and ACTIVATIONS[s.chain[i].name].noise]
                if lanes := tuple(lane for lanes in noisy for lane in range(lanes.start, lanes.stop)):
                    demands.append(Demand(f"{layer.name}.slope.{i}", "slope", lanes, layer.positions, layer.pre))
            if dropping:
                demands.append(Demand(f"{layer.name}.dropout", "dropout", dropping, layer.pooled, layer.post))
        return demands

    @torch.no_grad()
    def forward(self, x: Tensor, observe: Observer | None = None) -> Tensor:
        """Compute the logits (L, B, C) of the images x (L, B, D) in evaluation mode."""
        B = x.shape[1]
        for k, (layer, product) in enumerate(zip(self.structure.layers, self._hidden, strict=True)):
            z = product.forward(_rows(x, B, layer), self.threads)  # (L, B, D) -> (L, B, H)
            x = self._between(k, z, {}, observe, batch=False, moves=False)
        return self._output.forward(x.reshape(len(x), B, -1), self.threads)  # (L, B, C)

    @torch.no_grad()
    def backpropagate(
        self, x: Tensor, labels: Tensor, noise: Mapping[str, Tensor] | None = None, *, moves: bool = True
    ) -> Tensor:
        """Write the gradients of each lane's mean loss into `grad`; return these losses (L,).

        The gradients of the products are computed by hand, straight into the buffer. Between two products the gradient
        is multiplied by the activation's exact slope, or passes through autograd if BatchNorm, learned parameters,
        pooling or a change of width require it. This is a third faster than autograd throughout, and equal up to
        rounding.

        x (L, B, D), labels (L, B). `noise` contains what `demands` asks for; without it nothing is dropped and random
        slopes take their mean. BatchNorm uses the batch's statistics, and updates its running ones if `moves`.
        """
        B = x.shape[1]
        noise = noise or {}
        tape: list[tuple[Linear | Convolution, bool, Tensor, Tensor, Tensor, Tensor | None]] = []
        for k, (layer, product) in enumerate(zip(self.structure.layers, self._hidden, strict=True)):
            a_factor = self._slope_suffices[k]
            x = _rows(x, B, layer)
            z = product.forward(x, self.threads).requires_grad_(not a_factor)
            with torch.set_grad_enabled(not a_factor):
                out = self._between(k, z, noise, None, batch=True, moves=moves)
            kept = self._kept(layer, noise)
            tape.append((product, a_factor, x, z, out, kept))
            x = out.detach() if kept is None else out.detach() * kept
        x = x.reshape(len(x), B, -1)
        losses, g = cross_entropy(self._output.forward(x, self.threads), labels, self._smoothing)
        g = self._output.backward(x, g, self.threads, to_input=bool(tape))
        while tape:
            product, a_factor, x, z, out, kept = tape.pop()
            g = g.view_as(out) if kept is None else g.view_as(out) * kept
            if a_factor:
                g.mul_(self.slope(len(tape), z, noise))
            else:
                out.backward(g)  # type: ignore[no-untyped-call]
                assert z.grad is not None
                g = z.grad
            g = product.backward(x, g, self.threads, to_input=bool(tape))
        return losses

    def _kept(self, layer: Layer, noise: Mapping[str, Tensor]) -> Tensor | None:
        """Return the factor that drops outputs of a layer and scales up the others to keep their mean."""
        drawn = noise.get(f"{layer.name}.dropout")
        if drawn is None or self._dropout is None:
            return None
        return (drawn >= self._dropout).float().mul_(1 / (1 - self._dropout))

    @torch.no_grad()
    def slope(self, layer: int, z: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """f'(z) with the current parameters, of z's shape (L, B, H); see science: neuron health."""
        return self._per_activation(layer, z, chain_slope, noise or {})

    def sup_slope(self, layer: int) -> Tensor:
        """sup|f'| of each lane and unit with the current parameters: (L, 1), or (L, H) if learned per unit."""
        parts = []
        for stretch in self.stretches:
            chain, lanes = self._chain(layer, stretch), stretch.lanes.stop - stretch.lanes.start
            if len(chain) == 1:
                bound = torch.as_tensor(chain_sup_slope(chain), device=self.theta.device).detach()
                parts.append(bound.reshape(-1, bound.shape[-1] if bound.dim() else 1).expand(lanes, -1))
            else:
                rows = [chain_sup_slope(_numbers(chain, lane)) for lane in range(lanes)]
                parts.append(torch.tensor(rows, device=self.theta.device).unsqueeze(1))
        width = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(-1, width) for part in parts])

    def weight_gradients(self) -> list[Tensor]:
        """Return views of the last weight gradients, (L, ...), layer by layer; the output layer comes last."""
        return [self._gradients[f"{name}.weight"] for name in (*(x.name for x in self.structure.layers), "output")]

    def weights(self, lane: int) -> dict[str, Tensor]:
        """Return one lane's parameters and statistics on the CPU, in the layout of torch's own modules.

        Weights are (out, in); after a convolution, `in` is ordered as `nn.Flatten` does, channel by channel.
        """
        named = {name: segment.of(self.theta)[lane] for name, segment in self.segments.items()}
        named |= {name: statistic[lane] for name, statistic in self.statistics.items()}
        names = [layer.name for layer in self.structure.layers] + ["output"]
        for layer, name in zip(self.structure.layers, names[1:], strict=True):
            weight = named[f"{name}.weight"]
            if layer.side is not None and weight.dim() == 2:
                by_position = weight.view(layer.pooled, layer.post, -1)
                named[f"{name}.weight"] = by_position.transpose(0, 1).reshape(weight.shape)
        turned = {n: t.t() if t.dim() == 2 and ".activation." not in n else t for n, t in named.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in turned.items()}

    @contextmanager
    def undivided(self) -> Iterator[int]:
        """Keep products undivided inside the block; yield how many threads are free for other work."""
        free, self.threads = self.threads, 1
        try:
            yield free
        finally:
            self.threads = free

    def _product(self, name: str, side: int | None) -> Linear | Convolution:
        weight, bias = f"{name}.weight", f"{name}.bias"
        parts = (self._weights[weight], self._weights.get(bias), self._gradients[weight], self._gradients.get(bias))
        return Linear(*parts) if side is None else Convolution(side, *parts)

    def _is_a_factor(self, layer: Layer) -> bool:
        """Whether the activation's slope alone is the derivative of what follows a layer's product."""
        learns = any(name.startswith(f"{layer.name}.") for name, _ in self.structure.learned)
        return layer.pre == layer.post and layer.side is None and not self.structure.batch_norm and not learns

    def _between(
        self, k: int, z: Tensor, noise: Mapping[str, Tensor], observe: Observer | None, *, batch: bool, moves: bool
    ) -> Tensor:
        """Apply what comes between two products: activation, BatchNorm before or after it, pooling."""
        if self.structure.batch_norm == "before":
            z = self._normalise(k, z, batch, moves)
        a = self._per_activation(k, z, chain_function, noise)
        if observe is not None:
            observe(k, z, a)
        if self.structure.batch_norm == "after":
            a = self._normalise(k, a, batch, moves)
        side = self.structure.layers[k].side
        return a if side is None else pool(a, side)

    def _parameter(self, name: str, lanes: slice = slice(None)) -> Tensor:
        """Return a parameter (l, *shape) of some lanes for autograd; its gradient is written to the flat buffer."""
        weight, gradient = self._weights[name][lanes], self._gradients[name][lanes]
        if not torch.is_grad_enabled():
            return weight
        out: Tensor = FromBuffer.apply(weight.detach().requires_grad_(), gradient)  # type: ignore[no-untyped-call]
        return out

    def _normalise(self, k: int, z: Tensor, batch: bool, moves: bool) -> Tensor:
        """Apply BatchNorm to each lane: one call on (B, L*H), with the batch's statistics or the running ones."""
        L, B, H = z.shape
        name = f"{self.structure.layers[k].name}.norm"
        flat = z[0] if L == 1 else z.transpose(0, 1).reshape(B, L * H)
        running = moves or not batch
        flat = F.batch_norm(
            flat,
            self.statistics[f"{name}.running_mean"].view(-1) if running else None,
            self.statistics[f"{name}.running_var"].view(-1) if running else None,
            self._parameter(f"{name}.weight").reshape(-1),
            self._parameter(f"{name}.bias").reshape(-1),
            batch,
            _BN_MOMENTUM,
            _BN_EPS,
        )
        return flat.unsqueeze(0) if L == 1 else flat.view(B, L, H).transpose(0, 1)

    def _per_activation(self, k: int, z: Tensor, apply: Callable[..., Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """Apply each group of lanes' activation (or its slope) to its slice of z (L, B, H)."""
        parts = []
        for stretch in self.stretches:
            own: list[Tensor | None] = []
            for i, choice in enumerate(stretch.chain):
                drawn = noise.get(f"{self.structure.layers[k].name}.slope.{i}")
                own.append(drawn[stretch.lanes] if drawn is not None and ACTIVATIONS[choice.name].noise else None)
            part = z if len(self.stretches) == 1 else z[stretch.lanes]
            parts.append(apply(part, self._chain(k, stretch), own))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _chain(self, k: int, stretch: Stretch) -> list[Link]:
        """Return a stretch's activations with their parameters; learned ones are tensors (l, 1, 1) or (l, 1, H)."""
        chain: list[Link] = []
        for i, choice in enumerate(stretch.chain):
            entry, place = ACTIVATIONS[choice.name], f"{self.structure.layers[k].name}.activation.{i}"
            names = entry.learned(choice.params)
            learned = {name: self._parameter(f"{place}.{name}", stretch.lanes) for name in names}
            chain.append((entry, {**choice.params, **learned}))
        return chain


def stretches(settings: Sequence[S]) -> Iterator[tuple[slice, S]]:
    """Yield the lanes of each stretch of neighbours with equal settings, and these settings; one setting per lane."""
    start = 0
    for setting, members in groupby(settings):
        lanes = slice(start, start + len(list(members)))
        start = lanes.stop
        yield lanes, setting


def _rows(x: Tensor, batch: int, layer: Layer) -> Tensor:
    """Shape the output of the layer before into the rows that a layer reads: one per image, or one per position."""
    return x.reshape(len(x), batch if layer.side is None else batch * layer.positions, layer.reads)


def _per_lane(values: Sequence[float], device: torch.device) -> Tensor | None:
    """Return one number per lane, (L, 1, 1), or None if all are 0."""
    return torch.tensor(values, device=device).view(-1, 1, 1) if any(values) else None


def _numbers(chain: Sequence[Link], lane: int) -> list[Link]:
    """The chain of one lane with its learned parameters as plain numbers."""
    return [
        (entry, {k: float(v[lane].mean()) if isinstance(v, Tensor) else v for k, v in params.items()})
        for entry, params in chain
    ]
