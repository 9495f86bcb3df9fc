"""Config files and flags -> variants and runs; and back to YAML.

variant    every config key, defined once; `Variant` and `Run`
rules      what a value may be
choices    the values that are more than a number or text
document   the values of a file, each with its place
yaml       YAML -> values, and back
load       files, built-in configs and flags -> `Config`
sweep      `sweep:` -> one `Config` per variant
schema     the JSON Schema of config files
"""

from __future__ import annotations

from actbench.config.choices import REGISTRIES, Augment, Choice
from actbench.config.document import Document, Place
from actbench.config.load import (
    FILE_KEYS,
    Config,
    Setting,
    builtin_configs,
    builtin_folder,
    changed,
    check,
    collect,
    find_config,
    load,
    local_configs,
    resolved,
    settings,
    to_yaml,
)
from actbench.config.schema import json_schema
from actbench.config.sweep import expand, load_sweep
from actbench.config.variant import RECIPE, SETTINGS, Run, Variant
from actbench.config.yaml import parse, parse_value, read

__all__ = [
    "FILE_KEYS", "RECIPE", "REGISTRIES", "SETTINGS", "Augment", "Choice", "Config", "Document", "Place", "Run",
    "Setting", "Variant", "builtin_configs", "builtin_folder", "changed", "check", "collect", "expand", "find_config",
    "json_schema", "load", "load_sweep", "local_configs", "parse", "parse_value", "read", "resolved", "settings",
    "to_yaml",
]  # fmt: skip
