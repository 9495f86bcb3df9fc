"""Training in this process, one lane group after the other (layer 4; imports the engine and torch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch

from actbench import compute, engine
from actbench.config import Run
from actbench.sweeps.keeper import Keeper
from actbench.sweeps.plan import Options, Work, cpu_lanes, lane_groups
from actbench.sweeps.training import train_group


def threads_of(options: Options) -> int:
    """Return how many threads train."""
    return options.threads or compute.usable_threads()


def groups(runs: Sequence[Run], options: Options) -> Iterator[tuple[torch.device, list[Run]]]:
    """Give the lane groups in the order in which they train, device by device. Raises DeviceError."""
    devices = {name: engine.pick_device(name) for name in sorted({run.variant.device for run in runs})}
    for name, device in devices.items():
        members = [run for run in runs if run.variant.device == name]
        lanes = engine.lanes_that_fit(device, members, threads_of(options))
        if device.type == "cpu":
            lanes = min(lanes, cpu_lanes(threads_of(options)))
        for group in lane_groups(members, options.lanes or lanes, device.type):
            yield device, group


def train(runs: Sequence[Run], work: Work) -> list[Run]:
    """Go through the runs once; return those that others hold."""
    engine.configure(tf32=work.options.tf32)
    report, threads = work.report, threads_of(work.options)
    if not report.trained and not report.failed and any(run.variant.device == "auto" for run in runs):
        work.watcher.on_note(f"training on {engine.pick_device('auto')} (device: auto)")
    held: list[Run] = []
    for device, group in groups(runs, work.options):
        report.stopped = report.stopped or work.should_stop()
        if report.stopped:
            break
        with ExitStack() as claims:
            keeper = Keeper(work, claims)
            ours, others = keeper.claim(group)
            held += others
            if ours:
                train_group(
                    ours,
                    work.datasets[ours[0].variant.dataset],
                    device=device,
                    threads=threads,
                    checkpoints=keeper.checkpoints(ours),
                    listener=keeper,
                    stop=work.should_stop,
                )
        report.stopped = report.stopped or work.should_stop()
    return held
