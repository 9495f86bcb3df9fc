#!/usr/bin/env python3
"""Compare the speed of actbench's engine with other ways to do the same, in one run with interleaved rounds.

    .venv/bin/python scripts/benchmark.py [--rounds 3] [--only PART,...] [--full] [--data-dir DIR] [--out DIR]

A round measures every part once. The table shows medians over the rounds, and their targets. The parts are:

    plain    scripts/plain_program.py: torchvision, DataLoader, nn.Sequential, Adam; one epoch with its test pass
    jax      scripts/benchmarks/jax_program.py: the same in JAX, an epoch as one compiled call (skipped without JAX)
    one      one network in actbench; one epoch with its test pass and the neuron probe
    lanes    5 and 16 networks in actbench, per network
    floor    scripts/benchmarks/floor_program.py: the machine's rates, and the time that an epoch's two large
             products and Adam's pass take at these rates
    probe    the measuring of an epoch with and without the neuron probe
    startup  `train` from the shell to the end of its first step, compared with `import torch`
    memory   peak resident memory of `train` with 16 networks
    mixed    8 activations x 4 seeds x 2 learning rates, one epoch each, compared with the same runs one after another
    shell    16 of these runs as one `actbench sweep`, and as a shell loop of `actbench train`, one process per run
    full     10 epochs of `actbench train --seeds 1` and of the plain program, from the shell
    tried    micro-benchmarks of what was tried for speed: OUT/tried.json and OUT/tried.md

The default is all parts except full (--full adds it) and tried. Three rounds take about half an hour on an otherwise
idle machine. A complete run is written to OUT/cpu.json and OUT/cpu.md. A run of some parts, or a `--trial` with few
images and runs, is written only if --out is given; a trial shows that the script works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the actbench of this checkout
import torch
from benchmarks import commands, epochs, micro, mixed, targets, tried
from benchmarks.setting import ROOT, Part, Setting

import actbench
from actbench import datasets, engine

PARTS: dict[str, Callable[[Setting], Part]] = {
    "plain": epochs.plain,
    "jax": epochs.jax,
    "one": epochs.one,
    "lanes": epochs.lanes,
    "floor": epochs.floor,
    "probe": epochs.probe,
    "startup": commands.startup,
    "memory": commands.memory,
    "mixed": mixed.mixed,
    "shell": mixed.shell,
    "full": commands.full,
    "tried": micro.tried,
}
EXTRA = ("full", "tried")


def measure(parts: Sequence[str], setting: Setting, rounds: int) -> dict[str, list[float]]:
    """Measure every part `rounds` times in interleaved rounds; return all values by name."""
    engine.configure()
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        running = {name: stack.enter_context(closing(PARTS[name](setting))) for name in parts}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for part in running.values():
                for name, value in next(part).items():
                    found.setdefault(name, []).append(value)
                    print(f"  {name}: {targets.quantity(name, value)}", file=sys.stderr, flush=True)
    return found


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "measured_on": time.strftime("%Y-%m-%d"),
        "cpus": Setting(Path()).threads,
        "machine": platform.machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "actbench": actbench.__version__,
    }


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="PART,...", help="only these parts")
    parser.add_argument("--full", action="store_true", help="add 10 epochs of both programs, from the shell")
    parser.add_argument("--trial", action="store_true", help="use few images and runs, to try the script")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="default: results/benchmarks")
    options = parser.parse_args()
    options.parts = options.only.split(",") if options.only else [name for name in PARTS if name not in EXTRA]
    if options.full and "full" not in options.parts:
        options.parts.append("full")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    return options


def main() -> None:
    """Measure, print the tables, and write the files."""
    options = arguments()
    whole = not options.trial and (options.only is None or options.parts == ["tried"])
    out = options.out or (ROOT / "results" / "benchmarks" if whole else None)
    setting = Setting(datasets.data_folder(options.data_dir), options.trial)
    found = measure(options.parts, setting, options.rounds)
    medians = {name: median(values) for name, values in found.items()}
    where = machine()
    head = (
        f"Medians of {options.rounds} interleaved rounds, {where['measured_on']}; {where['cpus']} CPUs, "
        f"torch {where['torch']}, actbench {where['actbench']}, {where['machine']}."
    )
    values = {name: {"median": medians[name], "all": values} for name, values in found.items()}
    kept = {"machine": where, "rounds": options.rounds, "trial": options.trial, "values": values}
    pages = {}
    if set(options.parts) != {"tried"}:
        pages["cpu"] = [head, "", *targets.table(medians, options.parts)]
    if "tried" in options.parts:
        pages["tried"] = tried.page(medians, head)
    for name, lines in pages.items():
        print("\n".join(lines))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.md").write_text("\n".join(lines) + "\n")
            (out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
