"""The command doctor: shows versions, devices and folders."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import typer

import actbench
from actbench import datasets
from actbench.cli.console import streams
from actbench.cli.options import DataDirOption, ResultsOption
from actbench.datasets import DATASETS


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(doctor)


def doctor(data_dir: DataDirOption = None, results: ResultsOption = Path("results")) -> None:
    """Explain the machine: versions, devices, threads, folders and what is in them.

    Example: actbench doctor
    """
    import torch  # the one look-up that is about torch

    to = streams()
    folder = datasets.data_folder(data_dir)
    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
    there = [name for name in DATASETS if datasets.info(name, folder)["complete"]]
    writable = os.access(results if results.exists() else results.resolve().parent, os.W_OK)
    for what, text in {
        "actbench": actbench.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": ", ".join(names) if cuda else "not available: runs train on the CPU",
        "cpus": f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads",
        "data": f"{folder} ({', '.join(there)})",
        "results": f"{results.resolve()} ({'writable' if writable else 'NOT writable'})",
    }.items():
        to.result(f"{what + ':':10} {text}")
    if "mnist" not in there:
        to.note("mnist is not there yet: `actbench data fetch mnist` gets it, or name its folder with --data-dir")
