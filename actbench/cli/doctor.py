"""The command doctor: versions, devices and folders."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import actbench
from actbench import datasets
from actbench.cli import options
from actbench.cli.console import streams
from actbench.datasets import DATASETS
from actbench.datasets.stored import MISSING, way_to_fix
from actbench.errors import DataError


def doctor(data_dir: options.DataDir = None, results: options.Results = options.RESULTS) -> None:
    """Show versions, devices and folders.

    Example: actbench doctor
    """
    import torch

    to = streams()
    folder = datasets.data_folder(data_dir)
    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
    complete, notes = _datasets(folder)
    writable = os.access(results if results.exists() else results.resolve().parent, os.W_OK)
    for what, text in {
        "actbench": actbench.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": ", ".join(devices) if cuda else "not available; runs train on the CPU",
        "cpus": f"{os.cpu_count()}; torch uses {torch.get_num_threads()} threads",
        "data": f"{folder} ({', '.join(complete)})",
        "results": f"{results.resolve()} ({'writable' if writable else 'NOT writable'})",
    }.items():
        to.result(f"{what + ':':10} {text}")
    for note in notes:
        to.note(note)


def _datasets(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the datasets that are complete, and what to say about the others."""
    complete, notes = [], []
    for entry in DATASETS.values():
        try:
            checks = datasets.verify(entry.name, folder)
        except DataError as error:
            notes.append(str(error))
            continue
        if all(check.ok for check in checks):
            complete.append(entry.name)
        elif any(check.detail != MISSING for check in checks):
            notes.append(f"{entry.name} is damaged or incomplete. {way_to_fix(entry, folder)}")
        elif entry.name == "mnist":
            notes.append(
                f"mnist is missing; if you have it, name its folder with --data-dir. {way_to_fix(entry, folder)}"
            )
    return complete, notes
