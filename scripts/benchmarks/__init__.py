"""The parts of scripts/benchmark.py. Only that script writes results, to results/benchmarks."""
