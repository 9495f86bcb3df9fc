"""The command line: one file per command, and the only package that prints.

`options` declares the options that commands share, `console` prints, `live` shows runs while they train, `notes` holds
what is said before and after training, and `completion` answers the Tab key. Importing this package imports no torch:
commands in a shell loop pay for torch only if they train.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.core import TyperArgument

import actbench
from actbench.cli import (
    claims,
    compare,
    configs,
    cost,
    data,
    doctor,
    pivot,
    plot,
    report,
    reproduce,
    results,
    show,
    sweep,
    train,
)
from actbench.cli import list as listing
from actbench.cli.console import open_streams, streams
from actbench.errors import ActbenchError
from actbench.text import readable_lines

TyperArgument.display_type = lambda *_, **__: ""  # type: ignore[method-assign]  # help: `PATH`, not `PATH <list[str]>`

app = typer.Typer(
    name="actbench",
    help="Compare activation functions on MNIST: accuracy, speed of learning and dead neurons, paired by seed.",
    epilog="Start with: actbench train -c quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"actbench {actbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Declare the options of actbench itself."""


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train.train,
    "sweep": sweep.sweep,
    "compare": compare.compare,
    "pivot": pivot.pivot,
    "show": show.show,
    "report": report.report,
    "reproduce": reproduce.reproduce,
    "claims": claims.run_claims,
    "list": listing.list_entries,
    "validate": configs.validate,
    "schema": configs.schema,
    "doctor": doctor.doctor,
    "cost": cost.cost,
    "init": configs.init,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
for group in (plot.app, data.app, results.app):
    app.add_typer(group)


def main() -> None:
    """Run the command line and end the process with its exit code, as listed in `errors`.

    A reader that has read enough (`| head`) changes nothing. Results that cannot be written are an error.
    """
    stdout = open_streams()
    code = run()
    sys.stdout.flush()
    if stdout.error is not None and not isinstance(stdout.error, BrokenPipeError):
        streams().note(f"error: the results could not be written to stdout: {stdout.error.strerror}")
        code = code or 1
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; only a bug shows a traceback."""
    try:
        return int(app(args=arguments, prog_name="actbench", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return 130
    except ActbenchError as error:
        streams().error(str(error))
        return error.exit_code
    except Exception as error:
        return _other_error(error)


def _other_error(error: Exception) -> int:
    """Print a usage error in typer's words; anything else is a bug in actbench."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        if isinstance(message := getattr(error, "message", None), str):  # without pydantic's phrases
            plain = message.removeprefix("Value error, ").replace("Input should be", "must be")
            error.message = readable_lines(plain)  # type: ignore[attr-defined]
        show()
        return code
    if type(error).__name__ == "Abort":
        return 130
    for line in traceback.format_exc().splitlines():
        streams().note(line)
    streams().note("this is a bug in actbench; please report it, including the lines above")
    return 1


if __name__ == "__main__":
    main()
