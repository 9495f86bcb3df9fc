"""Whole commands from the shell: training, start-up, memory."""

from __future__ import annotations

from benchmarks.setting import (
    COMMAND_LINE,
    SCRIPTS,
    Part,
    Program,
    Setting,
    results_folder,
    run,
    timed,
)

FIRST_STEP = """
import os, sys
from actbench import cli, datasets
load = datasets.load
def load_and_watch(*args, **options):
    dataset = load(*args, **options)
    from actbench.engine.lanes import LaneStack
    train_step = LaneStack.step
    def first_step(self, index):
        train_step(self, index)
        os._exit(3)
    LaneStack.step = first_step
    return dataset
datasets.load = load_and_watch
cli.run(sys.argv[1:])
"""
"""`actbench`, ending with exit code 3 after the first training step. `train` imports torch as usual, while it reads the
data."""

PEAK_MEMORY = """
import sys
from actbench import cli
cli.run(sys.argv[1:])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak)
"""
"""`actbench`, printing its peak resident memory in KiB at the end. It reads the value that Linux keeps for each
program, because `ru_maxrss` would start with the memory of the parent process."""


def full(setting: Setting) -> Part:
    """Time all 10 epochs, from the shell to the last byte written, and the plain program from start to end."""
    while True:
        with results_folder() as results:
            arguments = setting.actbench("train", results, "--seeds", "1")
            ours = timed(lambda: run(COMMAND_LINE, *arguments))  # noqa: B023 - called at once
        yield {"train_command_s": ours, "plain_command_s": timed(lambda: _plain_training(setting))}


def _plain_training(setting: Setting) -> None:
    reference = Program(SCRIPTS / "plain_program.py", str(setting.folder), str(setting.images))
    for _ in range(10):
        reference.round()
    reference.close()


def startup(setting: Setting) -> Part:
    """Time `train` from the shell to the end of its first step, including measuring the untrained network.

    Also time importing torch. Both processes leave without tidying up (os._exit), so that their end does not count.
    """
    while True:
        imported = timed(lambda: run("import os, torch; os._exit(3)", expect=3))
        with results_folder() as results:
            arguments = setting.actbench("train", results, "--seeds", "1")
            started = timed(lambda: run(FIRST_STEP, *arguments, expect=3))  # noqa: B023 - called at once
        yield {"import_torch_s": imported, "first_step_s": started, "above_torch_s": started - imported}


def memory(setting: Setting) -> Part:
    """Measure the peak resident memory of `train` with 16 lanes and one epoch."""
    while True:
        with results_folder() as results:
            printed = run(PEAK_MEMORY, *setting.actbench("train", results, "--seeds", "16", "-s", "epochs=1"))
        yield {"peak_16_lanes_bytes": 1024.0 * int(printed.split()[-1])}
