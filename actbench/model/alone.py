"""The step of a lane alone in plain matrices (layer 3; imports the layers, the activations' curves and torch).

A call of torch gives Python's lock back and takes it again. With two lanes on two threads that is where a step
waits, whatever the call does: here are half as many as in `LaneNetwork`, and all that they read and write is at
hand as plain tensors, so that they can be recorded and become one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from actbench.activations.definition import Link, chain_function, chain_slope
from actbench.model.layers import LoneLinear, cross_entropy


@dataclass(frozen=True)
class LaneAlone:
    """A multilayer perceptron of one lane, in which only activations without parameters stand between products.

    It shares the lane's planes: `backpropagate` is what `LaneNetwork.backpropagate` does, for this case.
    """

    hidden: Sequence[LoneLinear]
    chains: Sequence[Sequence[Link]]
    output: LoneLinear

    def tensors(self) -> list[Tensor]:
        """All parameters and gradients that a step reads and writes, in the order in which `on` takes them."""
        return [tensor for product in (*self.hidden, self.output) for tensor in product.tensors()]

    def on(self, tensors: Sequence[Tensor]) -> LaneAlone:
        """The same network with other tensors in the places of its own."""
        rest = iter(tensors)
        *hidden, output = [product.on(rest) for product in (*self.hidden, self.output)]
        return LaneAlone(hidden, self.chains, output)

    def backpropagate(self, x: Tensor, labels: Tensor, threads: int) -> Tensor:
        """Write the gradients of the mean loss into the plane; return this loss (). x (B, D), labels (B,)."""
        tape: list[tuple[LoneLinear, Sequence[Link], Tensor, Tensor]] = []
        for product, chain in zip(self.hidden, self.chains, strict=True):
            z = product.forward(x, threads)
            tape.append((product, chain, x, z))
            x = chain_function(z, chain)
        loss, g = cross_entropy(self.output.forward(x, threads), labels, None)
        g = self.output.backward(x, g, threads, to_input=bool(tape))
        while tape:
            product, chain, x, z = tape.pop()
            g = product.backward(x, g.mul_(chain_slope(z, chain)), threads, to_input=bool(tape))
        return loss
