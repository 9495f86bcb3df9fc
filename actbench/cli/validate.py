"""The command validate: checks config and sweep files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actbench import config
from actbench.cli import completion, options
from actbench.cli.console import streams
from actbench.errors import ConfigError, Problem
from actbench.text import plural


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Config and sweep files.",
            parser=options.path,
            autocompletion=completion.config_file,
        ),
    ],
    changes: options.Changes = None,
) -> None:
    """Check config and sweep files. Every problem is reported with its file, line and column.

    Example: actbench validate *.yaml
    """
    to = streams()
    settings = config.settings(changes or ())
    problems: list[Problem] = []
    for file in files:
        try:
            found = config.load_sweep([file], settings)
        except ConfigError as error:
            problems += error.problems
        else:
            runs = sum(len(one.seeds) for one in found)
            to.result(f"{file}: ok ({plural(len(found), 'variant')}, {plural(runs, 'run')})")
    if problems:
        raise ConfigError(problems)
