"""The commands data fetch, data verify and data info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from actbench import datasets
from actbench.cli import completion, options
from actbench.cli.console import streams
from actbench.cli.live import watcher
from actbench.datasets import DATASETS
from actbench.datasets.stored import way_to_fix
from actbench.errors import DataError

app = typer.Typer(name="data", help="Download, check and describe datasets.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help=f"Dataset: {', '.join(DATASETS)}.", autocompletion=completion.dataset)
]


@app.command()
def fetch(
    name: Name = "mnist",
    data_dir: options.DataDir = None,
    mirror: options.Mirror = None,
    offline: options.Offline = False,
) -> None:
    """Check a dataset, and download what is missing or damaged.

    Damaged files are renamed, not deleted.

    Example: actbench data fetch mnist
    """
    to = streams()
    folder = datasets.data_folder(data_dir)
    with watcher(to, [], quiet=False) as watching:
        raw = datasets.fetch(
            name, folder, offline=offline, mirror=mirror, progress=watching.on_download, note=watching.on_note
        )
    _report_checks(name, folder)
    to.result(str(raw))


@app.command()
def verify(name: Name = "mnist", data_dir: options.DataDir = None) -> None:
    """Check the files of a dataset against their published checksums.

    Example: actbench data verify mnist
    """
    _report_checks(name, datasets.data_folder(data_dir))


@app.command()
def info(name: Name = "mnist", data_dir: options.DataDir = None, output: options.JsonFormat = "table") -> None:
    """Describe a dataset: its folder, size, classes, licence and source.

    Example: actbench data info digits
    """
    found = datasets.info(name, datasets.data_folder(data_dir))
    to = streams()
    if output == "json":
        to.json({key: str(value) if isinstance(value, Path) else value for key, value in found.items()})
        return
    for key, value in found.items():
        to.result(f"{key.replace('_', ' ') + ':':14} {_text(value)}")


def _text(value: Any) -> str:
    """Write a value in words, and what is inside it too."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ("; " if value and isinstance(value[0], Mapping) else " ").join(map(_text, value))
    return {None: "-", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def _report_checks(name: str, folder: Path) -> None:
    checks = datasets.verify(name, folder)
    for check in checks:
        streams().result(f"{'ok ' if check.ok else 'BAD'} {check.file}: {check.detail}")
    if not all(check.ok for check in checks):
        raise DataError(f"{name} is damaged or incomplete. {way_to_fix(DATASETS[name], folder)}")
