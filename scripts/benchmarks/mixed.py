"""A mixed sweep of 8 activations x 4 seeds x 2 learning rates, one epoch each, against the same runs one by one."""

from __future__ import annotations

import itertools

from actbench import sweeps
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.sweeps.plan import cpu_lanes
from benchmarks.epochs import loaded, train
from benchmarks.setting import COMMAND_LINE, Part, Setting, results_folder, run, timed

ACTIVATIONS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "silu", "gelu", "softplus")
RATES, SEEDS = (1e-3, 3e-4), 4


def _grid(setting: Setting) -> tuple[tuple[str, ...], int]:
    """Return the activations and the number of seeds: all, or a few for a trial."""
    return (ACTIVATIONS[:2], 1) if setting.trial else (ACTIVATIONS, SEEDS)


def mixed(setting: Setting) -> Part:
    """Time the runs in this process without storing anything: in the groups that `sweep` forms, and one after another.

    A run that trains alone has all threads to itself.
    """
    dataset = loaded(setting)
    activations, seeds = _grid(setting)
    runs = [
        Run(setting.variant(activation=activation, lr=lr, epochs=1), seed)
        for activation, lr, seed in itertools.product(activations, RATES, range(seeds))
    ]
    while True:
        yield {
            "sweep_together_s": timed(lambda: _together(runs, dataset, setting.threads)),
            "sweep_one_by_one_s": timed(lambda: _one_by_one(runs, dataset, setting.threads)),
        }


def _together(runs: list[Run], dataset: Dataset, threads: int) -> None:
    for group in sweeps.lane_groups(runs, cpu_lanes(threads), "cpu"):
        train(group, dataset, threads)


def _one_by_one(runs: list[Run], dataset: Dataset, threads: int) -> None:
    for one in runs:
        train([one], dataset, threads)


def shell(setting: Setting) -> Part:
    """Time a quarter of the runs from the shell, stored: one `actbench sweep`, and one `actbench train` per run."""
    activations, seeds = _grid(setting)
    activations, seeds = activations[::2], max(seeds // 2, 1)
    while True:
        yield {
            "sweep_command_s": timed(lambda: _sweep_command(setting, activations, seeds)),
            "shell_loop_s": timed(lambda: _shell_loop(setting, activations, seeds)),
        }


def _sweep_command(setting: Setting, activations: tuple[str, ...], seeds: int) -> None:
    grid = ["-g", f"activation={','.join(activations)}", "-g", f"lr={','.join(map(str, RATES))}"]
    with results_folder() as results:
        arguments = setting.actbench("sweep", results, *grid, "--seeds", str(seeds), "-s", "epochs=1")
        run(COMMAND_LINE, *arguments)


def _shell_loop(setting: Setting, activations: tuple[str, ...], seeds: int) -> None:
    with results_folder() as results:
        for activation, lr, seed in itertools.product(activations, RATES, range(seeds)):
            changes = ["-s", f"activation={activation}", "-s", f"lr={lr}", "-s", "epochs=1", "--seed", str(seed)]
            run(COMMAND_LINE, *setting.actbench("train", results, *changes))
