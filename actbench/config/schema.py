"""The JSON Schema of config files, for `actbench schema` and for editors.

Every config that loads satisfies the schema. The reverse does not hold: contradictions between values (a batch larger
than the training set) and the notation of numbers (`012`) are left to `load`.
"""

from __future__ import annotations

from actbench.config.choices import DEFAULT_SEEDS, REGISTRIES, SEEDS, choice_schema
from actbench.config.rules import Schema
from actbench.config.variant import KEYS, RECIPE, plain_value

_SEEDS = "a number n, which means the seeds 0 to n - 1, or a list of seeds"


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of config files, with or without `sweep:`."""
    defaults = {name: {"default": plain_value(name, default)} for name, default in RECIPE.items()}
    keys = {name: {**rule.schema, **defaults.get(name, {})} for name, rule in KEYS.items()}
    columns: Schema = {
        "type": "object",
        "minProperties": 1,
        "properties": {
            name: {"type": "array", "minItems": 1, "items": {"$ref": f"#/properties/{name}"}} for name in keys
        },
        "patternProperties": {rf"^({'|'.join((*REGISTRIES, 'augment'))})\.\w+$": {"type": "array", "minItems": 1}},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "actbench config",
        "description": "One variant and its seeds; or, with `sweep`, many variants.",
        "type": "object",
        "properties": {
            **keys,
            "seeds": {**SEEDS.described(_SEEDS).schema, "default": DEFAULT_SEEDS},
            "sweep": {
                "description": "many variants: how they differ",
                "type": "object",
                "minProperties": 1,
                "properties": {
                    "grid": {"$ref": "#/$defs/columns", "description": "every combination of these values"},
                    "zip": {
                        "$ref": "#/$defs/columns",
                        "description": "the first values together, the second values together, and so on",
                    },
                },
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
        "$defs": {**{key: choice_schema(key) for key in REGISTRIES}, "columns": columns},
    }
