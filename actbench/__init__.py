"""actbench: compare activation functions on MNIST, paired by seed, down to every neuron that dies.

    from actbench import train, sweep, compare

These three are loaded on first use (see `actbench.api`); importing actbench itself imports none of its parts. It does
set two environment variables, unless they are already set. Libraries that torch brings along read them while they
load, so no later module could be sure to set them in time.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actbench.api import compare, sweep, train

__all__ = ["__version__", "compare", "sweep", "train"]

__version__ = "0.1.0"

# Matrix products give the same bits for any number of threads (MKL's strictly reproducible mode; costs 2%).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# Waiting threads spin for about 0.1 ms, then sleep. If they spun forever, every shared product on a busy machine would
# wait for a whole time slice of another process.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("actbench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
