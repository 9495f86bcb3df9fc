"""The commands data fetch, data verify and data info: get, check and describe the datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actbench import datasets
from actbench.cli import completion
from actbench.cli.console import plain_json, streams
from actbench.cli.live import watcher
from actbench.cli.options import DataDirOption, JsonOption, MirrorOption, OfflineOption
from actbench.errors import DataError

data_app = typer.Typer(name="data", help="Get, check and describe the datasets.", no_args_is_help=True)
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="mnist, fashion_mnist, kmnist, qmnist or digits.",
        autocompletion=completion.dataset,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(data_app)


@data_app.command("fetch")
def fetch(
    name: NameArgument = "mnist",
    data_dir: DataDirOption = None,
    mirror: MirrorOption = None,
    offline: OfflineOption = False,
) -> None:
    """Download a dataset unless it is there, and check it.

    Example: actbench data fetch mnist
    """
    to = streams()
    folder = datasets.data_folder(data_dir)
    with watcher(to, [], quiet=False) as watching:
        raw = datasets.fetch(
            name,
            folder,
            offline=offline,
            mirror=mirror,
            progress=watching.on_download,
            note=watching.on_note,
        )
    _report_checks(name, folder)
    to.result(str(raw))


@data_app.command("verify")
def verify(name: NameArgument = "mnist", data_dir: DataDirOption = None) -> None:
    """Check the files of a dataset against their published checksums.

    Example: actbench data verify mnist
    """
    _report_checks(name, datasets.data_folder(data_dir))


def _report_checks(name: str, folder: Path) -> None:
    checks = datasets.verify(name, folder)
    for check in checks:
        streams().result(f"{'ok ' if check.ok else 'BAD'} {check.file}: {check.detail}")
    if not all(check.ok for check in checks):
        raise DataError(f"{name} is damaged or incomplete in {folder}; `actbench data fetch {name}` gets it")


@data_app.command("info")
def info(name: NameArgument = "mnist", data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Describe a dataset: where it lies, how large it is, its classes, licence and source.

    Example: actbench data info digits
    """
    found = datasets.info(name, datasets.data_folder(data_dir))
    to = streams()
    if as_json:
        to.result(plain_json({key: str(v) if isinstance(v, Path) else v for key, v in found.items()}))
        return
    for key, value in found.items():
        to.result(f"{key.replace('_', ' ') + ':':14} {value if value is not None else '-'}")
