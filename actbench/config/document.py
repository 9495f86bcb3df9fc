"""A config file: its text, its values, and where each was written. Flags and sweeps can replace values."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from actbench.errors import ConfigError, Problem, suggestion

MAX_BYTES = 1_000_000

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


def read_text(path: FilePath, source: str) -> str:
    """Return the text of a file; raises ConfigError if it cannot be read, is too large or is not UTF-8."""
    place = Place(source)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        encoding = json.detect_encoding(raw)
        if len(raw) > MAX_BYTES:
            message = f"is larger than {MAX_BYTES:,} bytes; is it a config?"
        elif not encoding.startswith("utf-8"):
            message = f"is {encoding[:6].upper()} text; save it as UTF-8"
        else:
            return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found, before = error.object[error.start], error.object[: error.start].decode()
        message = f"byte 0x{found:02X} is not UTF-8; is it Latin-1? Save the file as UTF-8"
        place = Place(source, *end_of(before))
    except FileNotFoundError:
        message = f"no such file{_nearest_file(path)}"
    except IsADirectoryError:
        message = "is a folder; give a YAML file in it"
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        message = f"is not a path: {error}"  # it has a NUL character
    raise ConfigError([place.problem(message)])


def _nearest_file(path: FilePath) -> str:
    """Return "; did you mean ...?" if a file with a similar name is beside it."""
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208 - only the names are needed
    except OSError:
        return f"; there is no folder {path.parent} to read"
    return suggestion(path.name, names)


def end_of(text: str) -> tuple[int, int]:
    """Return line and column (from 1) of what follows `text`."""
    lines = re.split(r"\r\n|\r|\n", text)
    return len(lines), len(lines[-1]) + 1
