#!/usr/bin/env python3
"""The recipe in JAX, as a reference for scripts/benchmark.py: an epoch is one compiled call (jit, lax.scan).

It trains a 784-512-10 network with ReLU, He initialisation, batch size 64 and Adam at 1e-3, with a test pass after each
epoch and no neuron probe. The images are in memory, in a new order for each epoch. For every line on standard input, it
trains one epoch and prints its seconds and test accuracy; compilation happens before the first. XLA uses as many
threads as there are processors. Only this script needs JAX: pip install jax.

    yes | head -3 | python scripts/benchmarks/jax_program.py DATA_DIR [IMAGES]
"""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

B, LR, BETA1, BETA2, EPS = 64, 1e-3, 0.9, 0.999, 1e-8


def idx(folder: Path, name: str, header: int) -> np.ndarray[Any, Any]:
    """Return the bytes of an IDX file after its header, gzipped or not."""
    file = next((folder / "MNIST" / "raw").glob(f"{name}-ubyte*"))
    data = file.read_bytes()
    return np.frombuffer(gzip.decompress(data) if file.suffix == ".gz" else data, np.uint8, offset=header)


def split(folder: Path, name: str, limit: int) -> tuple[jax.Array, jax.Array]:
    """Return normalised images (N, D) and labels (N,)."""
    pixels = idx(folder, f"{name}-images-idx3", 16).reshape(-1, 784)[:limit].astype(np.float32)
    return jnp.asarray((pixels / 255 - 0.1307) / 0.3081), jnp.asarray(idx(folder, f"{name}-labels-idx1", 8)[:limit])


def initial() -> dict[str, jax.Array]:
    """Return He normal weights and zero biases."""
    draws = np.random.default_rng(0)

    def weight(rows: int, columns: int) -> jax.Array:
        return jnp.asarray(draws.normal(0, (2 / rows) ** 0.5, (rows, columns)), jnp.float32)

    return {"w1": weight(784, 512), "b1": jnp.zeros(512), "w2": weight(512, 10), "b2": jnp.zeros(10)}


def forward(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Return logits (N, 10)."""
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def loss(p: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean cross-entropy."""
    return -jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None].astype(jnp.int32), axis=1).mean()


def adam(state: Any, gradients: Any) -> Any:
    """Take one step of Adam on (parameters, both moments, number of steps)."""
    p, m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
    rate, scale = LR / (1 - BETA1**t), 1 / jnp.sqrt(1 - BETA2**t)
    p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * scale + EPS), p, m, v)
    return p, m, v, t


def main() -> None:
    """Train one epoch per line of standard input."""
    folder, limit = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    (x, y), (x_test, y_test) = split(folder, "train", limit), split(folder, "t10k", limit)
    n = len(x)

    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(state[0], x[batch], y[batch])
        return adam(state, gradients), value

    def epoch(state: Any, order: jax.Array) -> tuple[Any, jax.Array]:
        whole = n // B * B
        state, _ = jax.lax.scan(step, state, order[:whole].reshape(-1, B))
        if whole < n:
            state, _ = step(state, order[whole:])
        return state, (forward(state[0], x_test).argmax(1) == y_test).mean()

    compiled, draws = jax.jit(epoch, donate_argnums=0), np.random.default_rng(1)
    p = initial()
    state: Any = (p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.zeros(()))
    state, accuracy = compiled(state, draws.permutation(n))
    accuracy.block_until_ready()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        state, accuracy = compiled(state, draws.permutation(n))
        accuracy.block_until_ready()
        print(time.perf_counter() - started, float(accuracy), flush=True)


if __name__ == "__main__":
    main()
