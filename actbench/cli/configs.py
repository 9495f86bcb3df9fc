"""The commands init, validate and schema: writing and checking config files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from actbench import claims, config
from actbench.cli import completion, options
from actbench.cli.console import streams
from actbench.config import Variant
from actbench.errors import ConfigError, Problem, UsageError
from actbench.store import files
from actbench.text import plural

NETWORK, SWEEP = Path("network.yaml"), Path("relu_or.yaml")

_NETWORK_HEAD = f"""\
# One network, with every config key.   Run: actbench train -c {NETWORK}
# To change a key that is commented out, remove its "# ".
# For the names you can use: actbench list activations (or inits, optimizers, schedules, datasets)
"""
_OPEN = ("dataset", "activation", "init", "lr", "optimizer", "epochs", "batch_size", "hidden", "seeds")
"""The keys that are not commented out."""

_SWEEP = f"""\
# ReLU or ...? Five activations, eight seeds each, in seconds.   Run: actbench sweep -c {SWEEP}
# Then: actbench compare --by activation --baseline relu
dataset: digits           # comes with scikit-learn; the real thing is mnist, which the first run downloads
seeds: 8                  # the fewest with which compare can tell four others from relu
sweep:
  grid:                   # every combination of the values below
    activation: [relu, leaky_relu, gelu, silu, tanh]
    # lr: [1e-4, 1e-3, 1e-2]
"""

_NEXT = f"""\
wrote {NETWORK} and {SWEEP}; now run:
  actbench train -c {NETWORK}   # one network, five seeds
  actbench sweep -c {SWEEP}   # ReLU or ...? Five activations, eight seeds each
  actbench list configs            # more configs, to use by name: actbench train -c relu"""


def init() -> None:
    """Write a starter config and a starter sweep into this folder. Existing files are never overwritten.

    Example: actbench init
    """
    new = {NETWORK: network_text(), SWEEP: _SWEEP}
    if taken := [str(path) for path in new if path.is_symlink() or path.exists()]:
        exist = f"{' and '.join(taken)} already exist{'s' if len(taken) == 1 else ''} here"
        raise UsageError(f"{exist}, so nothing was written; run this in another folder")
    for path, text in new.items():
        with files.explained("write", path), path.open("x", encoding="utf-8") as file:
            file.write(text)
    streams().document(_NEXT)


def network_text() -> str:
    """Return a config on the digits that has every key with its meaning, most of them commented out."""
    meanings = config.json_schema()["properties"]
    lines = []
    for line in config.to_yaml(Variant(name="mine", dataset="digits"), range(5)).splitlines():
        key = line.partition(":")[0]
        lines.append(f"{line if key in _OPEN else f'# {line}':<25} # {meanings[key]['description']}\n")
    return _NETWORK_HEAD + "".join(lines)


def validate(
    paths: Annotated[
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
    for path in paths:
        try:
            found = config.load_sweep([path], settings)
        except ConfigError as error:
            problems += error.problems
        else:
            runs = sum(len(one.seeds) for one in found)
            to.result(f"{path}: ok ({plural(len(found), 'variant')}, {plural(runs, 'run')})")
    if problems:
        raise ConfigError(problems)


def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="Print the schema of claim files instead.")] = False,
) -> None:
    """Print the JSON Schema of config files, for editors.

    Example: actbench schema > actbench.config.schema.json
    """
    streams().document(json.dumps(claims.json_schema() if of_claims else config.json_schema(), indent=2))
