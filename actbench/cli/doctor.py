"""The command doctor: versions, devices and folders."""

from __future__ import annotations

import os
import platform
import sys

import actbench
from actbench import datasets
from actbench.cli import options
from actbench.cli.console import streams
from actbench.datasets import DATASETS


def doctor(data_dir: options.DataDir = None, results: options.Results = options.RESULTS) -> None:
    """Show versions, devices and folders.

    Example: actbench doctor
    """
    import torch

    to = streams()
    folder = datasets.data_folder(data_dir)
    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
    complete = [name for name in DATASETS if datasets.info(name, folder)["complete"]]
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
    if "mnist" not in complete:
        to.note("mnist is missing: download it with `actbench data fetch mnist`, or name its folder with --data-dir")
