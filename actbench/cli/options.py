"""The options that several commands share, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from actbench.cli import completion

ConfigOption = Annotated[
    list[Path], typer.Option("--config", "-c", help="A config file; give it several times for several variants.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change a key of every file, such as lr=0.01.",
        autocompletion=completion.setting,
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", metavar="N|A,B,...", help="How many seeds (0 to N-1), or which.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Train this one seed.")]
ResultsOption = Annotated[
    Path, typer.Option("--results", metavar="DIR", envvar="ACTBENCH_RESULTS", help="Where results are kept.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="ACTBENCH_DATA_DIR",
        help="Where datasets are; a folder with MNIST/raw is used as it is. Default: the platform's cache.",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Open no connection.")]
MirrorOption = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", envvar="ACTBENCH_MIRROR", help="Ask this address for datasets first."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to train, over what files say.",
        autocompletion=completion.device,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="How many runs to train at the same moment on CPU; results do not depend on it.",
    ),
]
LanesOption = Annotated[
    int | None, typer.Option("--lanes", metavar="N", min=1, help="How many runs train side by side.")
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="KIND[=WHERE]",
        help="Also log to tensorboard[=DIR] or mlflow[=URI]; give it several times for several.",
        autocompletion=completion.tracker,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the beginning of one, or its folder.",
        autocompletion=completion.run_id,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Put JSON, and only JSON, on stdout.")]


def with_fields_of(flags: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `f(flags, ...)` an option for each field of the dataclass, so that commands share them.

    Typer reads a command's options from its signature: this one has those of the fields, then the command's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = list(inspect.signature(flags, eval_str=True).parameters.values())
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def called(**given: Any) -> None:
            fields = {parameter.name: given.pop(parameter.name) for parameter in shared}
            command(flags(**fields), **given)

        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*shared, *own)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate
