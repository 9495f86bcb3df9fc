"""actbench: compare activation functions on MNIST, paired by seed, down to every neuron that dies."""

__version__ = "0.1.0"
