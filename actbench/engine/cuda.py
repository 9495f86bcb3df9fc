"""What only CUDA needs: the choice of a device, its stream and memory, and training steps captured as graphs.

Nothing else in the engine calls `torch.cuda` while it trains, so tests can put a stand-in in the place of a GPU.
"""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from actbench.errors import DeviceError

_WARM_UP_STEPS = 3  # libraries set themselves up in the first calls, which a graph cannot contain


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` names; `auto` chooses CUDA if it is available.

    Raises DeviceError if CUDA is requested but not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"--device {name}: this torch ({torch.__version__}) sees no CUDA device; use cpu or auto")
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise DeviceError(f"--device {name}: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}")
    return device


def stacks_lanes(device: torch.device) -> bool:
    """Whether the lanes of a group train as one stack with captured steps, as on CUDA, or each alone, as on CPU."""
    return device.type == "cuda"


@contextmanager
def training_on(device: torch.device) -> Iterator[None]:
    """Make `device` current, and use its training stream for everything inside the block; nothing changes on CPU.

    One stream, not the default one, serves uploads, warm-up, capture, replays and measuring: they need not wait for
    each other, and the memory that one of them frees serves the next. The memory is given back at the end.
    """
    if not stacks_lanes(device):
        yield
        return
    try:
        with torch.cuda.device(device), torch.cuda.stream(_stream(device)):
            yield
    finally:
        free_memory()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished what it was given, so that a clock read afterwards is true."""
    if stacks_lanes(device):
        torch.cuda.synchronize(device)


def free_memory() -> None:
    """Give the memory of stacks that have ended back to the device, so that the next stack finds it free."""
    gc.collect()
    torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a lack of device memory caused `error`: a failed capture hides it behind an error of its own."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "ALLOC_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


class CapturedStep:
    """A training step of a stack for one batch size, captured in a CUDA graph.

    A call launches the whole step at once, without Python or host synchronisation in between. A captured step refers
    to its graph and its index alone, never back to the stack, so both are freed as soon as the stack is.
    """

    def __init__(self, graph: torch.cuda.CUDAGraph, index: Tensor) -> None:
        self.graph, self._index = graph, index

    def __call__(self, index: Tensor) -> None:
        """Train one step on the images `index` (L, B)."""
        self._index.copy_(index)
        self.graph.replay()


def capture(
    step: Callable[[Tensor], None],
    state: Callable[[], Mapping[str, Tensor]],
    index: Tensor,
    beside: CapturedStep | None = None,
) -> CapturedStep | None:
    """Capture `step` for batches of the size of `index`, and leave the state as it was.

    Capturing needs a few warm-up steps. If it fails for any reason but a lack of memory, a warning says why, and None
    is returned: the step then runs call by call.

    Args:
        step: trains one step on the images whose index (L, B) it is given, call by call.
        state: returns the tensors that a step changes, by name.
        index: images of a batch of that size.
        beside: a step that shares its memory with this one, because they never run at the same time.
    """
    before = {name: tensor.clone() for name, tensor in state().items()}
    own_index, graph = torch.zeros_like(index), torch.cuda.CUDAGraph()
    captured: CapturedStep | None = None
    pool = None if beside is None else beside.graph.pool()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that a capturable optimizer steps uncaptured
            for _ in range(_WARM_UP_STEPS):
                step(own_index)
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            step(own_index)
        captured = CapturedStep(graph, own_index)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        warnings.warn(f"CUDA graph capture failed, training call by call: {error}", RuntimeWarning, stacklevel=2)
    for name, tensor in state().items():
        # Moments and step counts that the warm-up created start from zero.
        tensor.copy_(before[name]) if name in before else tensor.zero_()
    return captured
