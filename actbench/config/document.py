"""The values of a file, and where each was written; flags and sweeps can replace both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from actbench.errors import Problem

Path = tuple[str | int, ...]
"""The keys and list positions that lead from the root to a value, such as ("sweep", "grid", "lr", 2)."""


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file with line and column (from 1), or a flag without them.

    `key` is the place of the value's key, and `parts` holds the places of what is inside it.
    """

    source: str
    line: int | None = None
    column: int | None = None
    key: Place | None = field(default=None, compare=False)
    parts: Mapping[str | int, Place] = field(default_factory=dict, compare=False, repr=False)

    def problem(self, message: str) -> Problem:
        """Return a problem at this place."""
        return Problem(self.source, message, self.line, self.column)


@dataclass
class Document:
    """The values of one file, where they were written, and the problems found so far."""

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    root: Place | None = None
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, at_key: bool = False) -> Place:
        """Return the place of the value (or key) at `path`, or of the nearest value that encloses it."""
        found = self.root or Place(self.source)
        for step in path:
            if step not in found.parts:
                return found
            found = found.parts[step]
        return found.key or found if at_key else found

    def put(self, path: Path, value: Any, place: Place) -> None:
        """Set the value at `path`, written at `place`; create missing mappings on the way."""
        self.values, self.root = _with(self.values, self.place(()), path, value, place)


def _with(
    values: Mapping[str, Any], place: Place, path: Path, value: Any, written: Place
) -> tuple[dict[str, Any], Place]:
    """Return copies of `values` and their `place` in which `path` leads to `value`."""
    key, *deeper = path
    if deeper:
        inner, around = values.get(str(key)), place.parts.get(key, replace(place, parts={}))
        if not isinstance(inner, Mapping):
            inner, around = {}, replace(written, parts={}, key=None)
        value, written = _with(inner, around, tuple(deeper), value, written)
    return {**values, str(key): value}, replace(place, parts={**place.parts, key: written})


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems without repetitions, in the order of the file; those of flags come last."""
    last = (math.inf, 0)
    return sorted(dict.fromkeys(problems), key=lambda one: (one.line, one.column or 0) if one.line else last)
