"""A stand-in for a GPU: lanes train as one stack on the CPU, and captured steps are recorded and replayed.

A recorded graph keeps the operations of aten in their order, with the very tensors that they read and wrote. A replay
runs them again, and puts each result where the recording put it: as with a CUDA graph, no Python of the step runs, and
what was a plain number at the time of the capture stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from actbench.engine import cuda


class RecordedGraph(TorchDispatchMode):
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []
        self.replays = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self._calls:
                again = func(*args, **kwargs)
                for old, new in zip(pytree.tree_leaves(out), pytree.tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def pool(self) -> tuple[int, int]:
        return (0, id(self))

    @property
    def names(self) -> list[str]:
        """The operations that a replay launches; views launch nothing."""
        return [str(func) for func, *_ in self._calls if not func.is_view]


class Gpu:
    """What tests ask the stand-in afterwards."""

    def __init__(self) -> None:
        self.graphs: list[RecordedGraph] = []
        self.pools: list[Any] = []
        self.emptied = 0

    @contextmanager
    def graph(self, graph: RecordedGraph, pool: Any = None, stream: Any = None) -> Iterator[None]:
        self.graphs.append(graph)
        self.pools.append(pool)
        with graph:
            yield

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Let the engine train on the CPU as it would on CUDA."""
    fake = Gpu()
    monkeypatch.setattr(cuda, "stacks_lanes", lambda device: True)
    for name, value in {
        "CUDAGraph": RecordedGraph,
        "graph": fake.graph,
        "empty_cache": fake.empty_cache,
        "synchronize": lambda device=None: None,
        "Stream": lambda device=None: None,
        "current_stream": lambda device=None: None,
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    cuda._stream.cache_clear()
    return fake
