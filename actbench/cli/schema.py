"""The command schema: prints the JSON Schema of config files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from actbench import claims, config
from actbench.cli.console import streams


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("schema")(schema)


def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="Of claim files instead.")] = False,
) -> None:
    """Print the JSON Schema of config files, for editors.

    Example: actbench schema > actbench.config.schema.json
    """
    streams().result(json.dumps(claims.json_schema() if of_claims else config.json_schema(), indent=2))
