"""The step of a lane alone in plain matrices (layer 3; imports the layers, the activations' curves and torch).

A call of torch gives Python's lock back and takes it again. With two lanes on two threads that is where a step
waits, whatever the call does: half as many calls, and a step is a seventh faster, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from actbench.activations.curves import Link, chain_function, chain_slope
from actbench.model.layers import Linear, cross_entropy


@dataclass(frozen=True)
class LaneAlone:
    """A multilayer perceptron of one lane, in which only activations without parameters stand between products.

    It shares the lane's planes: `backpropagate` is what `LaneNetwork.backpropagate` does, for this case.
    """

    hidden: Sequence[Linear]
    chains: Sequence[Sequence[Link]]
    output: Linear

    def backpropagate(self, x: Tensor, labels: Tensor, threads: int) -> Tensor:
        """Write the gradients of the mean loss into the plane; return this loss (). x (B, D), labels (B,)."""
        tape: list[tuple[Linear, Sequence[Link], Tensor, Tensor]] = []
        for product, chain in zip(self.hidden, self.chains, strict=True):
            z = product.forward_alone(x, threads)
            tape.append((product, chain, x, z))
            x = chain_function(z, chain)
        loss, g = cross_entropy(self.output.forward_alone(x, threads), labels, None)
        g = self.output.backward_alone(x, g, threads, to_input=bool(tape))
        while tape:
            product, chain, x, z = tape.pop()
            g = product.backward_alone(x, g.mul_(chain_slope(z, chain)), threads, to_input=bool(tape))
        return loss
