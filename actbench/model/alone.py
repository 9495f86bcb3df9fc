"""The training step of a single lane, with plain matrices.

Every call of torch releases Python's lock and takes it again. With two lanes on two threads, a step waits there,
whatever the call does. This step makes half as many calls as `LaneNetwork`, and everything it reads and writes is a
plain tensor, so the calls can be recorded and become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from actbench.activations.definition import Link, chain_function, chain_slope
from actbench.model.layers import LoneLinear, cross_entropy


@dataclass(frozen=True)
class LaneAlone:
    """A multilayer perceptron of one lane with nothing but activations without learned parameters between products.

    It shares the lane's flat buffers: `backpropagate` does what `LaneNetwork.backpropagate` does, for this case.
    """

    hidden: Sequence[LoneLinear]
    chains: Sequence[Sequence[Link]]
    output: LoneLinear

    def tensors(self) -> list[Tensor]:
        """Return all parameters and gradients that a step reads or writes, in the order that `on` expects."""
        return [tensor for product in (*self.hidden, self.output) for tensor in product.tensors()]

    def on(self, tensors: Sequence[Tensor]) -> LaneAlone:
        """Return the same network with other tensors in place of its own."""
        rest = iter(tensors)
        *hidden, output = [product.on(rest) for product in (*self.hidden, self.output)]
        return LaneAlone(hidden, self.chains, output)

    def backpropagate(self, x: Tensor, labels: Tensor, threads: int) -> Tensor:
        """Write the gradients of the mean loss into the flat buffer; return the loss (). x (B, D), labels (B,)."""
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
