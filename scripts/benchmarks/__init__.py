"""The parts of scripts/benchmark.py; results are written to results/benchmarks by that script alone."""
