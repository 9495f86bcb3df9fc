"""YAML -> plain values, each with its line and column; and plain values -> YAML.

PyYAML parses the text into events, whose marks say where everything is written. Numbers are those of YAML 1.2 (`1e-3`
is one), only true and false are booleans, and dates are text. An unquoted scalar that other readers take for something
else (`no`, `012`, `1:30`) becomes `Unquoted`, so that every config key can refuse it.

Nothing is ever constructed from a tag, and depth and size are limited, also after aliases are expanded. A file of any
other kind (a folder, a picture, another encoding, a disk image) ends in a ConfigError that says what it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import yaml

from actbench.config.document import Document, Place, end_of, in_order, read_text
from actbench.errors import ConfigError, Problem
from actbench.text import quoted

MAX_DEPTH = 20
MAX_VALUES = 50_000
MAX_DIGITS = 100


def read(path: str | FilePath) -> Document:
    """Return what the YAML file `path` holds; raises ConfigError with every problem in its form."""
    source = str(path)
    return parse(read_text(FilePath(path), source), source)


def parse(text: str, source: str) -> Document:
    """Return the mapping that `text` holds; raises ConfigError with every problem in its form."""
    values, place = _contents(text, source)
    if values is None:
        raise ConfigError([Problem(source, "is empty; a config has keys such as `activation: relu`")])
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise ConfigError([place.problem(f"contains {kind}; it must contain keys such as `activation: relu`")])
    return Document(source, values, place)


def parse_value(text: str, source: str) -> Any:
    """Return the value in `text`, which came from the flag `source`; None if it is empty.

    Raises ConfigError without lines and columns.
    """
    return _contents(text, source, in_lines=False)[0]


_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _contents(text: str, source: str, *, in_lines: bool = True) -> tuple[Any, Place]:
    """Return the value in `text`, None if it is empty, and its place; raises ConfigError with every problem."""
    if found := _CONTROL.search(text):
        place = Place(source, *(end_of(text[: found.start()]) if in_lines else ()))
        hint = "is it a text file?" if found[0] == "\0" else "in double quotes it can be written as an escape"
        raise ConfigError([place.problem(f"a control character (U+{ord(found[0]):04X}); {hint}")])
    return _Reader(yaml.SafeLoader(text), source, in_lines=in_lines).contents()


class _Reader:
    """Turns PyYAML's events into values and places. It collects mistakes; only those of syntax and size end it."""

    def __init__(self, loader: Any, source: str, *, in_lines: bool) -> None:
        self._loader, self._source, self._in_lines = loader, source, in_lines
        self._anchors: dict[str, tuple[Any, Place] | None] = {}  # None: what the anchor holds is still being read
        self._problems: list[Problem] = []
        self._count = 0

    def contents(self) -> tuple[Any, Place]:
        """Return the value and its place; raises ConfigError with every problem found."""
        value, place = None, Place(self._source)
        try:
            self._loader.get_event()  # the start of the stream
            if not self._loader.check_event(yaml.StreamEndEvent):
                self._loader.get_event()  # the start of the document
                value, place = self._value(0)
                self._loader.get_event()
                if not self._loader.check_event(yaml.StreamEndEvent):
                    self._report("a second document starts here; a config is one", self._next_place())
        except yaml.MarkedYAMLError as error:
            message, mark = syntax_problem(error)
            self._report(message, self._place(mark))
        except (ValueError, OverflowError):  # PyYAML does not check the numbers in \U escapes and %YAML
            self._report("an escape or a version that is not a valid number", self._place(self._loader.get_mark()))
        if self._problems:
            raise ConfigError(in_order(self._problems))
        return value, place

    def _value(self, depth: int) -> tuple[Any, Place]:
        """Return the value that the next events describe, and its place."""
        event = self._loader.get_event()
        place = self._place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, place, depth)
        self._check_size(depth, place)
        if event.tag is not None:
            self._report("tags (!...) are not supported; write the value plainly", place)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            found = self._scalar(event, place), place
        else:
            found = self._collection(place, depth, is_list=isinstance(event, yaml.SequenceStartEvent))
        if event.anchor is not None:
            self._anchors[event.anchor] = found
        return found

    def _scalar(self, event: Any, place: Place) -> Any:
        try:
            return plain_value(event.value) if event.style is None else event.value
        except ValueError as error:
            return self._report(str(error), place)

    def _collection(self, place: Place, depth: int, *, is_list: bool) -> tuple[Any, Place]:
        values: dict[Any, Any] = {}
        parts: dict[Any, Place] = {}
        while not self._loader.check_event(yaml.CollectionEndEvent):
            key: Any = len(values)
            if is_list:
                values[key], parts[key] = self._value(depth + 1)
                continue
            key_place = self._next_place()
            key, _ = self._value(depth + 1)
            self._check_key(key, key_place, parts)
            values[str(key)], part = self._value(depth + 1)
            parts[str(key)] = replace(part, key=key_place)
        self._loader.get_event()
        return list(values.values()) if is_list else values, replace(place, parts=parts)

    def _alias(self, anchor: Any, place: Place, depth: int) -> tuple[Any, Place]:
        """Return a copy of what the anchor holds; an alias without an anchor counts as empty."""
        if (found := self._anchors.get(anchor)) is None:
            why = "is inside its own anchor" if anchor in self._anchors else "has no anchor before it"
            self._report(f"the alias {quoted(anchor)} {why}", place)
            return None, place
        self._check_copy(found[1], depth)
        return copy.deepcopy(found[0]), found[1]

    def _check_copy(self, place: Place, depth: int) -> None:
        self._check_size(depth, place, " after aliases are expanded")
        for part in place.parts.values():
            self._check_copy(part, depth + 1)

    def _check_key(self, key: Any, place: Place, earlier: Mapping[Any, Place]) -> None:
        if not isinstance(key, str):
            found = "a list or mapping" if isinstance(key, list | dict) else quoted(key)
            self._report(f"a key must be a name, got {found}", place)
        elif key == "<<":
            self._report("merge keys (<<) are not supported; write the keys out", place)
        elif key in earlier:
            first = earlier[key].key
            where = f" (first in line {first.line})" if first and first.line else ""
            self._report(f"the key {quoted(key)} is given twice{where}; delete one", place)

    def _check_size(self, depth: int, place: Place, when: str = "") -> None:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            too_deep = f"lists and mappings are nested more than {MAX_DEPTH} deep{when}"
            self._report(too_deep if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values{when}", place)
            raise ConfigError(in_order(self._problems))

    def _next_place(self) -> Place:
        return self._place(self._loader.peek_event().start_mark)

    def _place(self, mark: yaml.Mark) -> Place:
        return Place(self._source, mark.line + 1, mark.column + 1) if self._in_lines else Place(self._source)

    def _report(self, message: str, place: Place) -> None:
        self._problems.append(place.problem(message))


class Unquoted(str):
    """An unquoted scalar that is text here, but a boolean or a number to other readers of YAML."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show it as it is written in the file."""
        return str(self)

    def as_integer(self) -> int | None:
        """Return the integer that was probably meant; None if that is unclear (`no`, `1:30`)."""
        digits = self.replace("_", "")
        try:
            return int(digits, 10 if re.fullmatch(r"[-+]?[0-9]+", digits) else 0)
        except ValueError:
            return None


_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_AMBIGUOUS = re.compile(
    r"(?i:yes|no|on|off)"
    r"|[-+]?0[0-9_]+"  # octal to some readers
    r"|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oO][0-7_]+|[-+]?0[bB][01_]+"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # base 60 to some readers
    r"|[-+]?[0-9]+_[0-9_]*(\.[0-9_]*)?"
)
_PLAIN_TEXT = re.compile(r"[A-Za-z]([A-Za-z0-9_ ./:+-]*[A-Za-z0-9_])?")


def plain_value(text: str) -> Any:
    """Return the meaning of an unquoted scalar: None, a boolean, a number, `Unquoted` or text.

    Raises ValueError for an integer of more than `MAX_DIGITS` digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text)
    if len(text) <= MAX_DIGITS and _AMBIGUOUS.fullmatch(text):
        return Unquoted(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2])
    return text


_MISPLACED = "is the indentation right, or are quotes missing?"

# What PyYAML says ("context: problem"), what to say instead, and whether to point to the start of the context.
_MESSAGES: tuple[tuple[str, str, bool], ...] = (
    (r"while parsing a flow sequence", "the '[' here has no ']' (or a ',' is missing before {there})", True),
    (r"while parsing a flow mapping", "the '{{' here has no '}}' (or a ',' is missing before {there})", True),
    (r"quoted scalar: found unexpected", "the quote that opens here is not closed", True),
    (r"quoted scalar: found unknown escape", r"an unknown escape; write '\\' for a backslash", False),
    (r"quoted scalar: expected escape", "an escape without all its hexadecimal digits", False),
    (r"could not find expected ':'", "expected `key: value`, but found no ':' in this line", True),
    (r"mapping values are not allowed here", f"an unexpected ':'; {_MISPLACED}", False),
    (r"sequence entries are not allowed here", f"an unexpected '-'; {_MISPLACED}", False),
    (r"found character '\\t'", "a tab; indent with spaces", False),
    (r"found character '(?P<what>.)' that cannot start", "no value starts with '{what}'; quote it", False),
    (r"while parsing a block (mapping|collection)", f"this does not belong here; {_MISPLACED}", False),
    (r"parsing a flow node.*<stream end>", "the file ends inside a '[' or '{{' that is not closed", False),
    (r"expected the node content, but found '(?P<what>.*)'", "a value is missing before '{what}'", False),
    (r"while scanning an (alias|anchor)", "'*' and '&' must precede a name; quote the text", False),
    (r"directive|YAML document|<document start>", "directives (%...) are not supported; remove this", False),
    (r"\btag\b", "tags (!...) are not supported; write the value plainly", False),
    (r"while scanning a block scalar", "a mistake in a block of text (| or >); quote the text", False),
)


def syntax_problem(error: yaml.MarkedYAMLError) -> tuple[str, Any]:
    """Return what is wrong in words that help (PyYAML's own if there are none), and the mark to point to."""
    said = f"{error.context or ''}: {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    for pattern, message, at_start in _MESSAGES:
        if found := re.search(pattern, said):
            where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the end"
            text = message.format(there=where, what=found.groupdict().get("what"))
            return text, error.context_mark if at_start and error.context_mark else mark
    return said.removeprefix(": "), mark


def dump(values: Mapping[str, Any]) -> str:
    """Return `values` as YAML that every reader of YAML reads back unchanged."""
    layout: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 1_000_000}
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, **layout))


class _Dumper(yaml.SafeDumper):
    """Puts short lists and mappings on one line, and quotes all text but plain words."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out instead of using anchors and aliases."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN_TEXT.fullmatch(text) and type(plain_value(text)) is str
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)
