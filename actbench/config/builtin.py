"""The configs that come with actbench: the files in `configs/`, which commands take by name."""

from __future__ import annotations

import os
from pathlib import Path

import actbench
from actbench.errors import ConfigError, Problem, suggestion


def folder() -> Path:
    """Return the folder of these files: `configs/` in a checkout, or its copy in the installed package."""
    package = Path(actbench.__file__).parent
    checkout = package.parent / "configs"
    return checkout if (checkout / "quickstart.yaml").is_file() else package / "config" / "files"


def builtin_configs() -> dict[str, Path]:
    """Return the file of each built-in config and sweep by its name, configs first."""
    return {path.stem: path for where in (folder(), folder() / "sweeps") for path in sorted(where.glob("*.yaml"))}


def find_config(given: str | Path) -> Path:
    """Return the file that `given` means: a path, or else the name of a built-in config.

    Only a name without a folder and a suffix can mean a built-in config, and a file of that name comes first. Raises
    ConfigError for a name that means neither.
    """
    path = Path(given)
    if path.name != str(given) or path.suffix or path.is_file():
        return path
    known = builtin_configs()
    if path.name in known:
        return known[path.name]
    if os.path.lexists(path):
        return path  # a folder, say; reading it fails and says so
    near = suggestion(path.name, [*known, *local_configs()])
    message = f"no such file, and no built-in config has this name{near or '.'} See: actbench list configs"
    raise ConfigError([Problem(path.name, message)])


def local_configs() -> list[str]:
    """Return the names of the YAML files in the current folder."""
    return sorted(path.name for path in Path().glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
