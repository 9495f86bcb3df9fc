"""The command schema: prints the JSON Schema of config files or claim files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from actbench import claims, config
from actbench.cli.console import streams


def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="Print the schema of claim files instead.")] = False,
) -> None:
    """Print the JSON Schema of config files, for editors.

    Example: actbench schema > actbench.config.schema.json
    """
    streams().document(json.dumps(claims.json_schema() if of_claims else config.json_schema(), indent=2))
