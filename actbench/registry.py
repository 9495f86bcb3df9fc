"""What all registries share: named entries whose parameters have defaults and bounds; and lazy imports.

An entry is any frozen dataclass with a `name` and `parameters`. `Registry` maps names to entries and turns a user's
choice into a complete set of parameters.

To add something, add one entry: to ACTIVATIONS in `activations`, INITIALIZERS in `initializers`, OPTIMIZERS in
`optimizers`, SCHEDULES in `schedules`, METRICS in `metrics` or DATASETS in `datasets`. Configs, their schema, messages
and `actbench list` follow from it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from actbench.errors import UnknownNameError, UsageError, suggestion
from actbench.text import quoted

Value = bool | int | float | str
Params = Mapping[str, Any]
"""The parameters of an entry by name: each a Value, or a tensor for one that is learned."""


def _bound(number: float) -> str:
    """Write a bound as people do: an integer in full."""
    return str(number) if isinstance(number, int) else f"{number:g}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a registry entry: its default gives its type, and its bounds the values it can have.

    A bool default takes a bool, an int default an integer, a float default any finite number, and a str default a
    number if `or_number` is set. All of them also take one of `choices`.
    """

    name: str
    default: Value
    doc: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    or_number: bool = False

    def check(self, value: object) -> Value:
        """Return `value` in the parameter's type. Raises ValueError that says what is allowed."""
        if isinstance(value, str) and value in self.choices:
            return value
        if isinstance(value, bool) and isinstance(self.default, bool):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and self._takes_number(value):
            return value if isinstance(self.default, int) else float(value)
        hint = suggestion(value, self.choices) if isinstance(value, str) else ""
        raise ValueError(f"must be {self.allowed}, got {quoted(value)}{hint}")

    def require(self, value: object) -> Any:
        """Return `value` in the parameter's type. Raises UsageError that says what is allowed."""
        try:
            return self.check(value)
        except ValueError as error:
            raise UsageError(f"{self.name} {error}") from None

    def _takes_number(self, value: int | float) -> bool:
        if isinstance(self.default, bool | str) and not self.or_number:
            return False
        if isinstance(self.default, int) and not isinstance(value, int):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)  # in this order: huge integers are no floats

    @property
    def allowed(self) -> str:
        """What the parameter can be, in words: `a number > 0`, `one of 'fan_in', 'fan_out'`."""
        if isinstance(self.default, bool):
            *words, last = ("true", "false", *self.choices)
            return f"{', '.join(words)} or {last}"
        listed = f"one of {', '.join(repr(c) for c in self.choices)}" if self.choices else ""
        if isinstance(self.default, str) and not self.or_number:
            return listed
        number = "an integer" if isinstance(self.default, int) else "a number"
        bounds = []
        if math.isfinite(self.low):
            bounds.append(f"{'>' if self.low_open else '>='} {_bound(self.low)}")
        if math.isfinite(self.high):
            bounds.append(f"{'<' if self.high_open else '<='} {_bound(self.high)}")
        number = " ".join([number, " and ".join(bounds)]).strip()
        return f"{listed} or {number}" if listed else number


class Entry(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Its name in a config."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a config can set."""


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E]):
    """Entries by name, in the given order; an unknown name raises UnknownNameError with a suggestion."""

    def __init__(self, kind: str, entries: list[E]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise ValueError(f"two entries of the {kind} registry share a name")

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise UnknownNameError(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def complete(self, name: str, given: Mapping[str, Any]) -> dict[str, Value]:
        """Return all parameters of entry `name`: the given ones, checked, and defaults for the others.

        Raises UnknownNameError for an unknown name or parameter, UsageError for a bad value.
        """
        known = {parameter.name: parameter for parameter in self[name].parameters}
        for key in given:
            if key not in known:
                raise UnknownNameError(f"parameter of {name}", key, known)
        return {key: one.require(given[key]) if key in given else one.default for key, one in known.items()}


class LazyModule:
    """A stand-in for the module `name` that imports it when one of its attributes is first read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # from now on an ordinary attribute
        return value
