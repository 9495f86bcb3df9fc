"""What the value of a config key may be: numbers, text, names, lists and mappings.

A `Rule` turns what YAML holds into what a `Variant` holds, or raises `BadValueError` with every flaw of the value. It
also knows the JSON Schema of the values it takes.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actbench.config.document import Path
from actbench.config.yaml import Unquoted
from actbench.errors import suggestion
from actbench.registry import Parameter, Value
from actbench.text import quoted

Schema = dict[str, Any]

_NUMERAL = re.compile(r"\s*[-+]?[0-9]*[.,]?[0-9]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with a value.

    `path` leads from the value to the wrong part; with `at_key`, the part's key is wrong. `keys` are the config keys
    that contradict each other, if that is the flaw.
    """

    path: Path
    message: str
    at_key: bool = False
    keys: tuple[str, ...] = ()


class BadValueError(ValueError):
    """A value that breaks a rule, with all its flaws."""

    def __init__(self, flaws: Iterable[Flaw] | str) -> None:
        self.flaws = (Flaw((), flaws),) if isinstance(flaws, str) else tuple(flaws)
        super().__init__("; ".join(".".join(map(str, (*flaw.path, flaw.message))) for flaw in self.flaws))


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    check: returns the canonical form of a value (of a canonical form, too), or raises `BadValueError`.
    schema: the JSON Schema of what YAML may hold.
    """

    check: Callable[[Any], Any]
    schema: Schema

    def described(self, about: str) -> Rule:
        """Return the same rule, with its meaning in its schema."""
        return replace(self, schema={**self.schema, "description": about})


def parameter_rule(parameter: Parameter) -> Rule:
    """Return the rule for the value of `parameter`."""

    def check(value: Any) -> Value:
        try:
            found = parameter.check(value)
        except ValueError as error:
            raise BadValueError(f"{error}{_how_to_write(parameter, value)}") from None
        if isinstance(found, float) and 0 < abs(found) < sys.float_info.min:
            # Training rounds such numbers to 0, as `compute` says, but the run would have an id of its own.
            raise BadValueError(f"must be 0 or at least {sys.float_info.min:.2g} in size, got {quoted(value)}")
        return found + 0.0 if isinstance(found, float) else found  # -0.0 becomes 0.0: equal values look equal

    return Rule(check, _parameter_schema(parameter))


def _how_to_write(parameter: Parameter, value: Any) -> str:
    """Return "; write ..." if it is clear what was meant by a `value` that `parameter` does not take, else ""."""
    default = parameter.default
    takes_number = parameter.or_number or not isinstance(default, bool | str)
    if isinstance(value, Unquoted):
        word = _BOOLEAN_WORDS.get(value.casefold()) if isinstance(default, bool) else None
        meant = value.as_integer() if takes_number else word
        return f"; write {meant}" if meant is not None else ""
    if isinstance(value, str) and takes_number and _NUMERAL.fullmatch(value):
        return "; write it with a point" if "," in value else "; remove the quotes"
    return f"; write {value:.0f}" if isinstance(value, float) and type(default) is int and value.is_integer() else ""


def _parameter_schema(parameter: Parameter) -> Schema:
    about: Schema = {"description": parameter.doc, "default": parameter.default} if parameter.name else {}
    if isinstance(parameter.default, bool):
        return (
            {"enum": [True, False, *parameter.choices], **about} if parameter.choices else {"type": "boolean", **about}
        )
    names: Schema = {"enum": list(parameter.choices)}
    if isinstance(parameter.default, str) and not parameter.or_number:
        return {**names, **about}
    bounds: Schema = {"type": "integer" if isinstance(parameter.default, int) else "number"}
    if math.isfinite(parameter.low):
        bounds["exclusiveMinimum" if parameter.low_open else "minimum"] = parameter.low
    if math.isfinite(parameter.high):
        bounds["exclusiveMaximum" if parameter.high_open else "maximum"] = parameter.high
    return {"anyOf": [names, bounds], **about} if parameter.choices else {**bounds, **about}


def integer(low: int, high: int, *words: str) -> Rule:
    """Return the rule for an integer from `low` to `high`, or one of the `words`."""
    return parameter_rule(Parameter("", low, "", low=low, high=high, choices=words))


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
    """Return the rule for a number from `low` to `high`; `above` and `below` exclude the bound itself."""
    return parameter_rule(Parameter("", 0.0, "", low=low, high=high, low_open=above, high_open=below))


def or_null(rule: Rule) -> Rule:
    """Return the same rule for a number, which also takes None."""
    schema = {**rule.schema, "type": [rule.schema["type"], "null"]}
    return Rule(lambda value: None if value is None else rule.check(value), schema)


def converted(rule: Rule, meanings: Mapping[Any, Any]) -> Rule:
    """Return the same rule, in whose canonical form the keys of `meanings` are replaced by their values."""

    def check(value: Any) -> Any:
        found = rule.check(value)
        return meanings.get(found, found)

    return replace(rule, check=check)


def _check_text(value: Any) -> str:
    if value is None:
        raise BadValueError('is empty; write a text, or quote the word if you mean it: "null"')
    if not isinstance(value, str) or isinstance(value, Unquoted):
        hint = f'; quote it: "{quoted(value)}"' if isinstance(value, Unquoted | bool | int | float) else ""
        raise BadValueError(f"must be text, got {quoted(value)}{hint}")
    if not 1 <= len(value) <= MAX_TEXT:
        raise BadValueError(f"must have 1 to {MAX_TEXT} characters, got {len(value)}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadValueError(f"must be valid Unicode, got a lone surrogate in {quoted(value)}")
    return str(value)


MAX_TEXT = 1000
TEXT = Rule(_check_text, {"type": "string", "minLength": 1, "maxLength": MAX_TEXT})
"""Free text, such as a name; whatever some reader of YAML takes for a number must be quoted."""


def one_of(kind: str, known: Sequence[str], see: str = "") -> Rule:
    """Return the rule for one of the `known` names of a `kind`; `see` says where they are described."""
    see = see or f"Known: {', '.join(known)}"

    def check(value: Any) -> str:
        if value is None or isinstance(value, Unquoted | bool):
            word = "null" if value is None else quoted(value)
            one = f"the name of {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
            raise BadValueError(f'must be {one}, got {word}; quote it if you mean a name: "{word}". {see}')
        if not isinstance(value, str) or value not in known:
            raise BadValueError(f"unknown {kind} {quoted(value)}{suggestion(value, known) or '.'} {see}")
        return str(value)

    return Rule(check, {"enum": list(known)})


def list_of(item: Rule, fewest: int, most: int, example: str) -> Rule:
    """Return the rule for a list of `fewest` to `most` items; `example` shows how to write one."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise BadValueError(f"must be a list such as {example}, got {quoted(value)}")
        if not fewest <= len(value) <= most:
            raise BadValueError(f"must have {fewest} to {most} items, got {len(value)}")
        return tuple(check_each(dict(enumerate(value)), lambda _, part: item.check(part)).values())

    return Rule(check, {"type": "array", "items": item.schema, "minItems": fewest, "maxItems": most})


def mapping_of(rules: Mapping[str, Rule], needed: Sequence[str] = (), owner: str = "") -> Rule:
    """Return the rule for a mapping with the keys of `rules`, at least `needed`.

    The keys are those of a file, or the parameters of `owner`.
    """

    def check_one(key: str, value: Any) -> Any:
        if key in rules:
            return rules[key].check(value)
        unknown = f"unknown parameter {quoted(key)} of {owner}" if owner else f"unknown key {quoted(key)}"
        hint = suggestion(key, rules) or f"; it has {', '.join(rules) or 'none'}"
        raise BadValueError([Flaw((), f"{unknown}{hint}", at_key=True)])

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise BadValueError(f"must contain {', '.join(needed or rules)}, got {quoted(value)}")
        missing = [Flaw((key,), "is missing") for key in needed if key not in value]
        return check_each(value, check_one, missing)

    properties = {key: rule.schema for key, rule in rules.items()}
    required = {"required": list(needed)} if needed else {}
    return Rule(check, {"type": "object", "properties": properties, **required, "additionalProperties": False})


def named(what: str, check: Callable[[str, Any], Any], schema: Schema) -> Rule:
    """Return the rule for a mapping that is not empty, whose values `check` takes together with their keys."""

    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise BadValueError(f"must contain {what}, got {quoted(value)}")
        return check_each(value, check)

    return Rule(check_all, {"type": "object", "minProperties": 1, "additionalProperties": schema})


def check_each(
    values: Mapping[Any, Any], check: Callable[[Any, Any], Any], more: Sequence[Flaw] = ()
) -> dict[Any, Any]:
    """Return check(key, value) by key; raises one `BadValueError` with the flaws of all values, and `more`."""
    sound, flaws = sort_out(values, check)
    if flaws or more:
        raise BadValueError([*flaws, *more])
    return sound


def sort_out(values: Mapping[Any, Any], check: Callable[[Any, Any], Any]) -> tuple[dict[Any, Any], list[Flaw]]:
    """Return check(key, value) by key for the sound values, and the flaws of the others."""
    sound, flaws = {}, []
    for key, value in values.items():
        try:
            sound[key] = check(key, value)
        except BadValueError as bad:
            flaws += [replace(flaw, path=(key, *flaw.path)) for flaw in bad.flaws]
    return sound, flaws
