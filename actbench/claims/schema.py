"""The JSON Schema of claim files, for `actbench schema --claims` and for editors (layer 4; imports `config`, `files`).

Every claim file that loads satisfies it. The reverse does not hold: whether an arm is there, and what goes together in
a config, is found by `files`.
"""

from __future__ import annotations

from actbench import config
from actbench.claims.arms import NOT_IN_ARMS
from actbench.claims.files import DEFAULT_SEEDS, KEYS
from actbench.claims.readings import PART_KEYS
from actbench.config.rules import Schema

_TEXT: Schema = {"type": "string", "minLength": 1}
_EPOCH: Schema = {"type": "integer", "minimum": 0, "description": "after this epoch (0: untrained); else the last one"}
_LAYER: Schema = {
    "anyOf": [{"enum": ["first", "last"]}, {"type": "integer", "minimum": 0}],
    "description": "in this hidden layer, from 0; else in the whole network",
}


def json_schema() -> Schema:
    """Return the JSON Schema (draft 7) of a claim file."""
    whole = config.json_schema()
    keys = {key: rule for key, rule in whole["properties"].items() if key not in NOT_IN_ARMS}
    variant: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    ladder: Schema = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": variant,
        "description": "rungs: config keys each; an arm becomes one arm a rung, named `<arm> <rung>`",
    }
    arm = {**variant, "properties": {**keys, "ladder": ladder}}
    properties: dict[str, Schema] = {
        "id": {"type": "integer", "minimum": 1, "maximum": 9999, "description": "what `actbench claims ID` takes"},
        "claim": {**_TEXT, "description": "what is said, in one sentence"},
        "source": {**_TEXT, "description": "what kind of text says it"},
        "note": {**_TEXT, "description": "what to know before believing the verdict"},
        "base": {**variant, "description": "config keys of all arms"},
        "arms": {"type": "object", "minProperties": 1, "additionalProperties": arm, "description": "what is trained"},
        "ladder": ladder,
        "seeds": {**whole["properties"]["seeds"], "default": DEFAULT_SEEDS},
        "measured": {"enum": ["cost"], "description": "time the arms' activations instead of training them"},
        "readings": {"type": "array", "minItems": 1, "items": _reading(), "description": "a verdict each"},
        "quick": {**variant, "description": "config keys of all arms with --quick"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "actbench claim",
        "description": "A claim about activation functions, and how it is tested.",
        "type": "object",
        "properties": {key: properties[key] for key in KEYS},
        "required": ["id", "claim", "source", "arms", "readings"],
        "additionalProperties": False,
    }


def _reading() -> Schema:
    side: Schema = {
        "anyOf": [
            _TEXT,
            {"type": "number"},
            {
                "type": "object",
                "properties": {"arm": _TEXT, "epoch": _EPOCH, "layer": _LAYER},
                "required": ["arm"],
                "additionalProperties": False,
            },
        ],
        "description": "an arm, an arm after an epoch or in a layer, or a number",
    }
    keys: dict[str, Schema] = {
        "metric": {**_TEXT, "description": "as in `actbench compare --metric`, or measured:NAME"},
        "arm": side,
        "against": side,
        "expect": {"enum": ["higher", "lower", "same"], "description": "what the claim says of arm against the other"},
        "margin": {"type": "number", "exclusiveMinimum": 0, "description": "the smallest difference that matters"},
        "epoch": _EPOCH,
        "layer": _LAYER,
        "transform": {"enum": ["log"], "description": "compare ratios; the margin is a factor"},
    }
    quick: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    part: Schema = {
        "type": "object",
        "properties": {key: {**keys, "quick": quick}[key] for key in PART_KEYS},
        "required": ["metric", "arm", "against", "expect", "margin"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "says": {**_TEXT, "description": "one meaning of the claim"},
            "parts": {"type": "array", "minItems": 1, "items": part, "description": "all of them have to hold"},
            "also": {"type": "array", "minItems": 1, "items": _TEXT, "description": "metrics that are shown, too"},
        },
        "required": ["says", "parts"],
        "additionalProperties": False,
    }
