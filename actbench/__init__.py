"""actbench: compare activation functions on MNIST, paired by seed, down to every neuron that dies.

Importing it sets two environment variables for this process, unless they are set: libraries that torch
brings along read them when they are loaded, which no later module can be sure to precede.
"""

import os

__version__ = "0.1.0"

# Products that give the same bits however many threads share them (MKL's strictly reproducible mode; costs 2%).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# Threads that wait for each other spin about 0.1 ms, then sleep: with endless spinning, every shared product on a
# busy machine waits for a whole time slice of another process.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
