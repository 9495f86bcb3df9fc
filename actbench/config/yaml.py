"""A YAML file or the YAML of a flag -> plain values, each with its line and column.

PyYAML composes the text into nodes, whose marks say where everything is written; `scalars` says what a scalar means.
Nothing is ever constructed from a tag, and depth and size are limited, also after aliases are expanded. A file of any
other kind (a folder, a picture, another encoding, a disk image) ends in a ConfigError that says what it is.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml

from actbench.config.scalars import plain_value
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted, readable

Path = tuple[str | int, ...]
"""The keys and list positions that lead from the root to a value, such as ("sweep", "grid", "lr", 2)."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 50_000


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


def read(path: str | FilePath) -> Document:
    """Return what the YAML file `path` holds; raises ConfigError with every problem in its form."""
    source = readable(str(path))
    return parse(_text(FilePath(path), source), source)


def parse(text: str, source: str) -> Document:
    """Return the mapping that `text` holds; raises ConfigError with every problem in its form."""
    values, place = _contents(text, source)
    if values is None:
        raise ConfigError([Problem(source, "is empty; a config has keys such as `activation: relu`")])
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise ConfigError([place.problem(f"holds {kind}, must hold keys such as `activation: relu`")])
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
        return f"; there is no folder {readable(str(path.parent))} to read"
    return readable(suggestion(path.name, names))


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
    return _Composer(text, source, in_lines=in_lines).contents()


class _Composer(yaml.SafeLoader):
    """Composes nodes, and collects the problems it meets instead of stopping at the first one.

    The node of a plain scalar holds the scalar's meaning as its value.
    """

    def __init__(self, text: str, source: str, *, in_lines: bool) -> None:
        super().__init__(text)
        self._source, self._in_lines = source, in_lines
        self._problems: list[Problem] = []
        self._anchored: dict[str, yaml.Node | None] = {}  # None while the anchor's own value is being read
        self._levels: list[dict[str, yaml.Mark]] = []  # the keys so far of each open mapping (or list: none)
        self._count = 0

    def contents(self) -> tuple[Any, Place]:
        """Return the value and its place, with aliases expanded; raises ConfigError with every problem found."""
        root = None
        try:
            root = self.get_single_node()
        except yaml.MarkedYAMLError as error:
            self._report(*syntax_problem(error))
        except (ValueError, OverflowError):  # PyYAML does not check the numbers in \U escapes and %YAML
            self._report("an escape or a version that is not a valid number", self.get_mark())
        if self._problems:
            raise ConfigError(self._problems)
        self._count = 0
        return (None, Place(self._source)) if root is None else self._expanded(root)

    def _expanded(self, node: yaml.Node, depth: int = 0) -> tuple[Any, Place]:
        """Return the value of `node` and its place. Each alias becomes a copy, so copies count."""
        self._check_size(depth, node.start_mark, " after aliases are expanded")
        place = self._place(node.start_mark)
        if not isinstance(node, yaml.CollectionNode):
            return node.value, place
        values: dict[str | int, Any] = {}
        parts: dict[str | int, Place] = {}
        if isinstance(node, yaml.SequenceNode):
            for k, item in enumerate(node.value):
                values[k], parts[k] = self._expanded(item, depth + 1)
            return list(values.values()), replace(place, parts=parts)
        for key, item in node.value:
            values[str(key.value)], part = self._expanded(item, depth + 1)
            parts[str(key.value)] = replace(part, key=self._place(key.start_mark))
        return values, replace(place, parts=parts)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        """Compose the next node, within the limits; check it if it is a key of `parent`."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._check_size(len(self._levels), event.start_mark)
        node = self._target() if isinstance(event, yaml.AliasEvent) else self._composed(parent, index, event)
        if isinstance(parent, yaml.MappingNode) and index is None:
            node = copy.copy(node)
            node.start_mark = event.start_mark  # of the alias, if the key is one
            self._check_key(node)
        return node

    def _check_size(self, depth: int, mark: yaml.Mark, when: str = "") -> None:
        self._count += 1
        if depth > MAX_DEPTH:
            self._stop(f"lists and mappings are nested more than {MAX_DEPTH} deep{when}", mark)
        if self._count > MAX_VALUES:
            self._stop(f"more than {MAX_VALUES:,} values{when}", mark)

    def _composed(self, parent: yaml.Node | None, index: Any, event: Any) -> Any:
        if event.tag is not None:
            self._report("tags (!...) are not supported; write the value plainly", event.start_mark)
        anchor, event.anchor = event.anchor, None  # PyYAML would refuse an anchor that is set again
        if anchor is not None:
            self._anchored[anchor] = None
        self._levels.append({})
        node = super().compose_node(parent, index)
        self._levels.pop()
        if anchor is not None:
            self._anchored[anchor] = node
        return node

    def _target(self) -> Any:
        """Return the node that the next event, an alias, stands for; an empty one if there is none."""
        alias = self.get_event()  # type: ignore[no-untyped-call]
        node = self._anchored.get(alias.anchor)
        if node is None:
            why = "is inside its own anchor" if alias.anchor in self._anchored else "has no anchor before it"
            self._report(f"the alias {quoted(alias.anchor)} {why}", alias.start_mark)
        return node or yaml.ScalarNode("", None, alias.start_mark, alias.end_mark)

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Compose a scalar; a plain one gets its meaning as value."""
        node = super().compose_scalar_node(anchor)
        if node.style is None:
            try:
                node.value = plain_value(node.value)
            except ValueError as error:
                self._report(str(error), node.start_mark)
        return node

    def _check_key(self, node: yaml.Node) -> None:
        key, earlier = node.value, self._levels[-1]
        if not isinstance(key, str):
            found = quoted(key) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            self._report(f"a key must be a name, got {found}", node.start_mark)
        elif key == "<<":
            self._report("merge keys (<<) are not supported; write the keys out", node.start_mark)
        elif key in earlier:
            first = f" (first in line {earlier[key].line + 1})" if self._in_lines else ""
            self._report(f"the key {quoted(key)} is given twice{first}; delete one", node.start_mark)
        else:
            earlier[key] = node.start_mark

    def _place(self, mark: yaml.Mark) -> Place:
        return Place(self._source, mark.line + 1, mark.column + 1) if self._in_lines else Place(self._source)

    def _report(self, message: str, mark: yaml.Mark) -> None:
        self._problems.append(self._place(mark).problem(message))

    def _stop(self, message: str, mark: yaml.Mark) -> NoReturn:
        self._report(message, mark)
        raise ConfigError(self._problems)


_MISPLACED = "is the indentation right, or are quotes missing?"

# What PyYAML says ("context: problem"), what to say instead, and whether to point to the start of the context.
_MESSAGES: tuple[tuple[str, str, bool], ...] = (
    (r"expected a single document", "a second document starts here; a config is one", False),
    (r"while parsing a flow sequence", "the '[' here has no ']' (or a ',' is missing before {there})", True),
    (r"while parsing a flow mapping", "the '{{' here has no '}}' (or a ',' is missing before {there})", True),
    (r"quoted scalar: found unexpected", "the quote that opens here is not closed", True),
    (r"quoted scalar: found unknown escape", r"an unknown escape; write '\\' for a backslash", False),
    (r"quoted scalar: expected escape", "an escape without all its hexadecimal digits", False),
    (r"could not find expected ':'", "expected `key: value`, found no ':' in this line", True),
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
