"""How kernels are compiled and cached, and how the threads that run one together wait for each other.

numba compiles a kernel on first use, and caches it for this user.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
import platformdirs
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

EXACT = frozenset({"contract", "nsz", "arcp"})
"""What the compiler may change in arithmetic: nothing that reorders sums or ignores nan and inf."""
_SPINS = 2000  # how often a thread looks for the others before it lets another process run


def compiled(fastmath: frozenset[str] = EXACT) -> Callable[[F], F]:
    """Return a decorator that compiles a kernel, and caches it where the user may write."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": set(fastmath)}

    def decorate(function: F) -> F:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = before or str(cache_folder())
        try:
            return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # there is no folder that the user may write to
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        finally:
            numba.config.CACHE_DIR = before

    return decorate


def cache_folder() -> Path:
    """Return the folder in which compiled kernels are cached for this user."""
    return Path(platformdirs.user_cache_dir("actbench")) / "kernels"


@intrinsic  # type: ignore[untyped-decorator]
def _add_atomically(_context: Any, cell: Any, amount: Any) -> Any:
    """Add to the first number of an int64 array in one indivisible step; return what was there before."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, arguments[1], "seq_cst")

    return types.int64(cell, types.int64), code


_let_others_run = types.ExternalFunction("sched_yield", types.intc())


@compiled()
def meet(arrived: NDArray[np.int64], expected: int) -> None:
    """Add one to `arrived` (1,), and wait until it has reached `expected`: until all shares are here."""
    _add_atomically(arrived, 1)
    spins = 0
    while _add_atomically(arrived, 0) < expected:
        spins += 1
        if spins > _SPINS:  # the thread of another share may be waiting for this processor
            _let_others_run()
