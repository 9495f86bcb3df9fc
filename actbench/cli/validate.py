"""The command validate: checks config and sweep files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actbench import config
from actbench.cli.console import streams
from actbench.cli.options import SetOption
from actbench.errors import ConfigError, Problem
from actbench.text import plural, readable


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate")(validate)


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Config and sweep files.")],
    changes: SetOption = None,
) -> None:
    """Check config and sweep files; every problem is named with its file, line and column.

    Example: actbench validate configs/*.yaml
    """
    to = streams()
    problems: list[Problem] = []
    for file in files:
        try:
            found = config.load_sweep([file], changes or ())
        except ConfigError as error:
            problems += error.problems
        else:
            runs = sum(len(one.seeds) for one in found)
            to.result(f"{readable(str(file))}: ok ({plural(len(found), 'variant')}, {plural(runs, 'run')})")
    if problems:
        raise ConfigError(problems)
