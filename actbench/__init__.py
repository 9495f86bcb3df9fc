"""actbench: compare activation functions on MNIST, paired by seed, down to every neuron that dies.

    from actbench import train, sweep, compare

Those three are loaded when they are first asked for (see `actbench.api`); importing actbench itself imports none of
its parts. It sets two environment variables for this process, unless they are set: libraries that torch
brings along read them when they are loaded, which no later module can be sure to precede.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actbench.api import compare, sweep, train

__all__ = ["__version__", "compare", "sweep", "train"]

__version__ = "0.1.0"

# Products that give the same bits however many threads share them (MKL's strictly reproducible mode; costs 2%).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# Threads that wait for each other spin about 0.1 ms, then sleep: with endless spinning, every shared product on a
# busy machine waits for a whole time slice of another process.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("actbench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
