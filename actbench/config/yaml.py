"""A YAML file or the YAML of a flag -> plain values, each with its line and column.

PyYAML parses the text into events, whose marks say where everything is written; `scalars` says what a scalar means.
Nothing is ever constructed from a tag, and depth and size are limited, also after aliases are expanded. A file of any
other kind (a folder, a picture, another encoding, a disk image) ends in a ConfigError that says what it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import yaml

from actbench.config.document import Document, Place, in_order
from actbench.config.scalars import plain_value
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 50_000


def read(path: str | FilePath) -> Document:
    """Return what the YAML file `path` holds; raises ConfigError with every problem in its form."""
    source = str(path)
    return parse(_text(FilePath(path), source), source)


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
_BOMS = {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}


def _text(path: FilePath, source: str) -> str:
    """Return the text of a file; raises ConfigError if it cannot be read, is too large or is not UTF-8."""
    place = Place(source)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        encoding = _other_encoding(raw)
        if len(raw) > MAX_BYTES:
            message = f"is larger than {MAX_BYTES:,} bytes; is it a config?"
        elif encoding:
            message = f"is {encoding} text; save it as UTF-8"
        else:
            return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found, before = error.object[error.start], error.object[: error.start].decode()
        message = f"byte 0x{found:02X} is not UTF-8; is it Latin-1? Save the file as UTF-8"
        place = Place(source, *_end(before))
    except FileNotFoundError:
        message = f"no such file{_nearest_file(path)}"
    except IsADirectoryError:
        message = "is a folder; give a YAML file in it"
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        message = f"is not a path: {error}"  # it has a NUL character
    raise ConfigError([place.problem(message)])


def _other_encoding(raw: bytes) -> str | None:
    half_is_zero = max(raw[::2].count(0), raw[1::2].count(0)) * 4 > len(raw)  # plain English in UTF-16
    marked = next((name for name, marks in _BOMS.items() if raw.startswith(marks)), None)
    return marked or ("UTF-16" if half_is_zero else None)


def _nearest_file(path: FilePath) -> str:
    """Return "; did you mean ...?" if a file with a similar name is beside it."""
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208 - only the names are needed
    except OSError:
        return f"; there is no folder {path.parent} to read"
    return suggestion(path.name, names)


def _end(text: str) -> tuple[int, int]:
    """Return line and column (from 1) of what follows `text`."""
    lines = re.split(r"\r\n|\r|\n", text)
    return len(lines), len(lines[-1]) + 1


def _contents(text: str, source: str, *, in_lines: bool = True) -> tuple[Any, Place]:
    """Return the value in `text`, None if it is empty, and its place; raises ConfigError with every problem."""
    if found := _CONTROL.search(text):
        place = Place(source, *(_end(text[: found.start()]) if in_lines else ()))
        hint = "is it a text file?" if found[0] == "\0" else "in double quotes it can be written as an escape"
        raise ConfigError([place.problem(f"a control character (U+{ord(found[0]):04X}); {hint}")])
    return _Reader(source, in_lines=in_lines).contents(yaml.SafeLoader(text))


class _Reader:
    """Turns PyYAML's events into values and places, and collects problems instead of stopping at the first one.

    An alias is a copy of what its anchor holds: the events of the anchor are read again.
    """

    def __init__(self, source: str, *, in_lines: bool) -> None:
        self._source, self._in_lines = source, in_lines
        self._events: list[Any] = []
        self._targets: dict[int, int] = {}  # the event at which the value of an alias begins
        self._problems: list[Problem] = []
        self._count = 0

    def contents(self, loader: yaml.SafeLoader) -> tuple[Any, Place]:
        """Return the value and its place; raises ConfigError with every problem found."""
        try:
            self._collect(loader)
        except yaml.MarkedYAMLError as error:
            self._report(*syntax_problem(error))
        except (ValueError, OverflowError):  # PyYAML does not check the numbers in \U escapes and %YAML
            self._report("an escape or a version that is not a valid number", loader.get_mark())
        self._count = 0
        try:
            value, place, _ = self._value(0, 0)
        except IndexError:  # the text is empty, or the events end at a mistake
            value, place = None, Place(self._source)
        if self._problems:
            raise ConfigError(in_order(self._problems))
        return value, place

    def _collect(self, loader: yaml.SafeLoader) -> None:
        """Note the events of the document, and what each alias stands for."""
        anchors: dict[str, int] = {}
        still_open: list[int] = []
        while loader.check_event():
            event: Any = loader.get_event()  # type: ignore[no-untyped-call]
            mark, at = event.start_mark, len(self._events)
            is_node, is_end = (isinstance(event, kind) for kind in (yaml.NodeEvent, yaml.CollectionEndEvent))
            if isinstance(event, yaml.DocumentStartEvent) and self._events:
                self._report("a second document starts here; a config is one", mark)
                break
            if is_node or is_end:
                self._events.append(event)
            if is_end:
                still_open.pop()
            if not is_node:
                continue
            self._check_size(len(still_open), mark)
            if isinstance(event, yaml.AliasEvent):
                target = anchors.get(str(event.anchor))
                if target is None or target in still_open:
                    why = "has no anchor before it" if target is None else "is inside its own anchor"
                    self._report(f"the alias {quoted(event.anchor)} {why}", mark)
                else:
                    self._targets[at] = target
                continue
            if event.tag is not None:
                self._report("tags (!...) are not supported; write the value plainly", mark)
            if event.anchor is not None:
                anchors[event.anchor] = at
            if isinstance(event, yaml.CollectionStartEvent):
                still_open.append(at)

    def _value(self, at: int, depth: int) -> tuple[Any, Place, int]:
        """Return the value that begins at event `at`, its place, and the index of the event after it."""
        event = self._events[at]
        if at in self._targets:
            value, place, _ = self._value(self._targets[at], depth)
            return value, place, at + 1
        self._check_size(depth, event.start_mark, " after aliases are expanded")
        place, at = self._place(event.start_mark), at + 1
        if not isinstance(event, yaml.CollectionStartEvent):
            return self._scalar(event), place, at
        is_list = isinstance(event, yaml.SequenceStartEvent)
        values: dict[Any, Any] = {}
        parts: dict[Any, Place] = {}
        while not isinstance(self._events[at], yaml.CollectionEndEvent):
            key: Any = len(values)
            key_mark = self._events[at].start_mark
            if not is_list:
                key, _, at = self._value(at, depth + 1)
                self._check_key(key, key_mark, parts)
            key = key if is_list else str(key)
            values[key], part, at = self._value(at, depth + 1)
            parts[key] = part if is_list else replace(part, key=self._place(key_mark))
        return list(values.values()) if is_list else values, replace(place, parts=parts), at + 1

    def _scalar(self, event: Any) -> Any:
        """Return what a scalar means; an alias without an anchor counts as empty."""
        if isinstance(event, yaml.AliasEvent):
            return None
        try:
            return plain_value(event.value) if event.style is None else event.value
        except ValueError as error:
            return self._report(str(error), event.start_mark)

    def _check_key(self, key: Any, mark: yaml.Mark, earlier: Mapping[Any, Place]) -> None:
        if not isinstance(key, str):
            found = "a list or mapping" if isinstance(key, list | dict) else quoted(key)
            self._report(f"a key must be a name, got {found}", mark)
        elif key == "<<":
            self._report("merge keys (<<) are not supported; write the keys out", mark)
        elif key in earlier:
            first = earlier[key].key
            where = f" (first in line {first.line})" if first and first.line else ""
            self._report(f"the key {quoted(key)} is given twice{where}; delete one", mark)

    def _check_size(self, depth: int, mark: yaml.Mark, when: str = "") -> None:
        self._count += 1
        too_deep = f"lists and mappings are nested more than {MAX_DEPTH} deep{when}"
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            self._report(too_deep if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values{when}", mark)
            raise ConfigError(in_order(self._problems))

    def _place(self, mark: yaml.Mark) -> Place:
        return Place(self._source, mark.line + 1, mark.column + 1) if self._in_lines else Place(self._source)

    def _report(self, message: str, mark: yaml.Mark) -> None:
        self._problems.append(self._place(mark).problem(message))


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
