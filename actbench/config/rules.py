"""What the value of a config key may be: numbers, text, names, lists (layer 2).

Imports `errors`, `registry`, `yaml_values` and pydantic. A `Rule` turns what YAML holds into what a `Variant`
holds, or raises `BadValueError` with all that is wrong with it; and it knows its JSON Schema. The rules for
choices from a registry and other values of their own kind are in `fields`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from actbench.config.yaml_values import Unquoted
from actbench.errors import suggestion
from actbench.registry import Parameter, Value
from actbench.text import quoted

Path = tuple[str | int, ...]
Schema = dict[str, Any]

_NUMERAL = re.compile(r"\s*[-+]?[0-9]*[.,]?[0-9]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with a value.

    `path` leads from the value to the part that is meant, `at_key` says that it is that part's key. `keys`
    are the config keys whose values do not go together, where that is what is wrong.
    """

    path: Path
    message: str
    at_key: bool = False
    keys: tuple[str, ...] = ()


class BadValueError(ValueError):
    """A value that a rule does not take, with all its flaws."""

    def __init__(self, flaws: Sequence[Flaw] | str) -> None:
        self.flaws = (Flaw((), flaws),) if isinstance(flaws, str) else tuple(flaws)
        super().__init__("; ".join(".".join(map(str, (*f.path, f.message))) for f in self.flaws))


class Rule:
    """What a value may be. Annotates a field of a pydantic model, which then checks its values by it."""

    def check(self, value: Any) -> Any:
        """Return the canonical form of `value` (of that form itself, too), or raise `BadValueError`."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """Return the JSON Schema of what YAML may hold."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic call `check` first, and then hold its answer against the type of the field."""
        return core_schema.no_info_before_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class Number(Rule):
    """An integer or a number within the bounds of `parameter`; None, too, where `or_none` is set."""

    parameter: Parameter
    or_none: bool = False

    def check(self, value: Any) -> Any:
        """Return the number."""
        return None if value is None and self.or_none else checked(self.parameter, value)

    def schema(self) -> Schema:
        """Return the schema of the parameter, with null where that is allowed."""
        schema = parameter_schema(self.parameter)
        return {**schema, "type": [schema["type"], "null"]} if self.or_none else schema

    def or_nothing(self) -> Number:
        """Return the same rule, which also takes None."""
        return replace(self, or_none=True)


def integer(default: int, low: int, high: int) -> Number:
    """Return the rule for an integer from `low` to `high`."""
    return Number(Parameter("", default, "", low=low, high=high))


def number(default: float, low: float, high: float, *, above: bool = False, below: bool = False) -> Number:
    """Return the rule for a number from `low` to `high`; `above` and `below` leave the bound itself out."""
    return Number(Parameter("", default, "", low=low, high=high, low_open=above, high_open=below))


def checked(parameter: Parameter, value: Any) -> Value:
    """Return `value` as `parameter` wants it; raise `BadValueError` saying what is allowed."""
    try:
        found = parameter.check(value)
    except ValueError:
        message = f"must be {parameter.allowed}, got {quoted(value)}{how_to_write(parameter, value)}"
        raise BadValueError(message) from None
    if isinstance(found, float) and 0 < abs(found) < sys.float_info.min:
        # Training takes such numbers for 0, as `compute` says, and a run would have another id there.
        raise BadValueError(f"must be 0 or at least {sys.float_info.min:.2g} in size, got {quoted(value)}")
    return found + 0.0 if isinstance(found, float) else found  # -0.0 becomes 0.0: equal values look equal


def how_to_write(parameter: Parameter, value: Any) -> str:
    """Return "; write ..." where it is known what was meant by a `value` that `parameter` does not take."""
    if isinstance(value, Unquoted) and str(value).casefold() in _BOOLEAN_WORDS:
        takes_it = isinstance(parameter.default, bool)
        return f"; write {_BOOLEAN_WORDS[str(value).casefold()]}" if takes_it else ""
    if isinstance(value, str) and (near := suggestion(value, parameter.choices)):
        return near
    takes_number = parameter.or_number or not isinstance(parameter.default, bool | str)
    if not takes_number:
        return ""
    if isinstance(value, Unquoted):
        meant = value.as_integer()
        return f"; write {meant}" if meant is not None else ""
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        return "; write it with a point" if "," in value else "; remove the quotes"
    if isinstance(value, float) and isinstance(parameter.default, int) and value.is_integer():
        return f"; write {value:.0f}"
    return ""


def parameter_schema(parameter: Parameter) -> Schema:
    """Return the JSON Schema of a parameter: type, bounds or choices, meaning and default."""
    about = {"description": parameter.doc, "default": parameter.default}
    if isinstance(parameter.default, bool):
        return {"type": "boolean", **about}
    names = {"enum": list(parameter.choices)}
    if isinstance(parameter.default, str) and not parameter.or_number:
        return {**names, **about}
    bounds: Schema = {"type": "integer" if isinstance(parameter.default, int) else "number"}
    if math.isfinite(parameter.low):
        bounds["exclusiveMinimum" if parameter.low_open else "minimum"] = parameter.low
    if math.isfinite(parameter.high):
        bounds["exclusiveMaximum" if parameter.high_open else "maximum"] = parameter.high
    return {"anyOf": [names, bounds], **about} if parameter.choices else {**bounds, **about}


@dataclass(frozen=True)
class Text(Rule):
    """Free text, such as a name: anything a person types, kept as it is."""

    longest: int = 1000

    def check(self, value: Any) -> str:
        """Return the text; what is no text to every reader of YAML has to be quoted."""
        if value is None:
            raise BadValueError('is empty; give a text, or quote it if the word is meant: "null"')
        if isinstance(value, Unquoted | bool | int | float):
            raise BadValueError(f'must be text, got {quoted(value)}; quote it: "{quoted(value)}"')
        if not isinstance(value, str):
            raise BadValueError(f"must be text, got {quoted(value)}")
        if not 1 <= len(value) <= self.longest:
            raise BadValueError(f"must have 1 to {self.longest} characters, got {len(value)}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadValueError(f"must be valid Unicode, got a lone surrogate in {quoted(value)}")
        return str(value)

    def schema(self) -> Schema:
        """Return the schema of a text."""
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


@dataclass(frozen=True)
class OneOf(Rule):
    """One of the `known` names of a `kind`; `see` tells where they are described."""

    kind: str
    known: tuple[str, ...]
    see: str = ""

    def check(self, value: Any) -> str:
        """Return the name."""
        see = self.see or f"Known: {', '.join(self.known)}"
        if value is None or isinstance(value, Unquoted | bool):
            text = "null" if value is None else quoted(value)
            one = f"the name of {'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"
            raise BadValueError(f'must be {one}, got {text}; quote it if it is meant as a name: "{text}". {see}')
        if not isinstance(value, str) or value not in self.known:
            raise BadValueError(f"unknown {self.kind} {quoted(value)}{suggestion(value, self.known) or '.'} {see}")
        return str(value)

    def schema(self) -> Schema:
        """Return the schema of the names."""
        return {"enum": list(self.known)}


@dataclass(frozen=True)
class Several(Rule):
    """A list of at most `most` items that follow one rule; `example` shows how one is written."""

    item: Rule
    most: int
    example: str
    fewest: int = 0

    def check(self, value: Any) -> tuple[Any, ...]:
        """Return the items, in order."""
        if not isinstance(value, list | tuple):
            raise BadValueError(f"must be a list such as {self.example}, got {quoted(value)}")
        if not self.fewest <= len(value) <= self.most:
            raise BadValueError(f"must have {self.fewest} to {self.most} items, got {len(value)}")
        return tuple(check_each(dict(enumerate(value)), lambda key, item: self.item.check(item)).values())

    def schema(self) -> Schema:
        """Return the schema of the list."""
        return {
            "type": "array",
            "items": self.item.schema(),
            "minItems": self.fewest,
            "maxItems": self.most,
        }


def check_each(values: dict[Any, Any], check: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    """Return check(key, value) by key; raise one `BadValueError` with the flaws of all values."""
    found, flaws = {}, []
    for key, value in values.items():
        try:
            found[key] = check(key, value)
        except BadValueError as bad:
            flaws += [replace(flaw, path=(key, *flaw.path)) for flaw in bad.flaws]
    if flaws:
        raise BadValueError(flaws)
    return found


def check_parameters(owner: str, parameters: Sequence[Parameter], given: dict[str, Any]) -> dict[str, Value]:
    """Return the given values as the parameters of `owner` want them; raise one `BadValueError`."""
    known = {parameter.name: parameter for parameter in parameters}

    def check(key: str, value: Any) -> Value:
        if key in known:
            return checked(known[key], value)
        has = f"; it has {', '.join(known)}" if known else "; it has none"
        message = f"unknown parameter {quoted(key)} of {owner}{suggestion(key, known) or has}"
        raise BadValueError([Flaw((), message, at_key=True)])

    return check_each(given, check)
