"""The JSON Schema of config files, for `actbench schema` and for editors (layer 2).

Every config that loads satisfies the schema. The reverse does not hold: what goes together (a batch and the
images there are) and the forms of numbers (`012`) are left to `config`. Imports `variant`, `fields`, `rules`.
"""

from __future__ import annotations

from typing import Any

from actbench.config.choices import DEFAULT_SEEDS, REGISTRIES, SEEDS
from actbench.config.rules import Schema
from actbench.config.variant import KEYS, RECIPE, plain_value


def json_schema() -> Schema:
    """Return the JSON Schema (draft 7) of a config file, of a plain one or a sweep."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "actbench config",
        "description": "One variant and its seeds; or, with `sweep`, many variants.",
        "type": "object",
        "properties": {**_keys(), "seeds": _seeds(), "sweep": _sweep()},
        "additionalProperties": False,
    }


def _keys() -> dict[str, Schema]:
    """Return the schema of each key of a variant."""
    found: dict[str, Schema] = {}
    for name, key in KEYS.items():
        default = {"default": plain_value(name, RECIPE[name])} if name in RECIPE else {}
        found[name] = {**key.rule.schema, "description": key.about, **default}
    return found


def _seeds() -> Schema:
    about = "a number n, which means the seeds 0 to n - 1, or a list of seeds"
    return {**SEEDS.schema, "description": about, "default": DEFAULT_SEEDS}


def _sweep() -> Schema:
    columns = {
        "type": "object",
        "minProperties": 1,
        "properties": {
            key: {"type": "array", "minItems": 1, "items": {"$ref": f"#/properties/{key}"}} for key in ("name", *RECIPE)
        },
        "patternProperties": {rf"^({'|'.join((*REGISTRIES, 'augment'))})\.\w+$": {"type": "array", "minItems": 1}},
        "additionalProperties": False,
    }
    parts: dict[str, Any] = {
        "grid": {**columns, "description": "every combination of these values"},
        "zip": {**columns, "description": "the first values together, the second values together, and so on"},
    }
    return {
        "description": "many variants: what differs between them",
        "type": "object",
        "minProperties": 1,
        "properties": parts,
        "additionalProperties": False,
    }
