"""YAML text -> plain values, with the line and column of every key and value (layer 2).

Imports `errors`, `textfile`, `yaml_errors`, `yaml_values` and PyYAML. PyYAML splits the text into events;
what they mean is decided here, so nothing is ever constructed from a tag, and depth and size are limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml

from actbench.config.textfile import check_characters, read_text
from actbench.config.yaml_errors import syntax_problem
from actbench.config.yaml_values import plain_value
from actbench.errors import ConfigError, Problem
from actbench.text import quoted, readable

Path = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the root, such as ("sweep", "grid", "lr", 2)."""

MAX_DEPTH = 20
MAX_VALUES = 50_000


@dataclass(frozen=True)
class Place:
    """Where something was written: a file with line and column (from 1), or a flag with neither."""

    source: str
    line: int | None = None
    column: int | None = None

    def problem(self, message: str) -> Problem:
        """Return a problem at this place."""
        return Problem(self.source, message, self.line, self.column)


@dataclass
class Document:
    """The values of one file, where each key and value was written, and what is known to be wrong so far."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, at_key: bool = False) -> Place:
        """Return where the value at `path` (or its key) was written, else the nearest thing around it."""
        if at_key and path in self.key_places:
            return self.key_places[path]
        around = (path[:length] for length in range(len(path), -1, -1))
        return next((self.places[p] for p in around if p in self.places), Place(self.source))

    def put(self, path: Path, value: Any, place: Place) -> None:
        """Set the value at `path`, written at `place`; mappings on the way are made where there are none."""
        parent = self.values
        for depth, key in enumerate(path[:-1], 1):
            if not isinstance(parent.get(str(key)), dict):
                parent[str(key)] = {}
                self._wrote(path[:depth], place)
            parent = parent[str(key)]
        parent[str(path[-1])] = value
        self._wrote(path, place)

    def _wrote(self, path: Path, place: Place) -> None:
        for table in (self.places, self.key_places):
            for old in [p for p in table if p[: len(path)] == path]:
                del table[old]
        self.places[path] = place


def read(path: str | FilePath) -> Document:
    """Return what the YAML file `path` holds; raises ConfigError with all that is wrong with its form."""
    return parse(read_text(FilePath(path)), readable(str(path)))


def parse(text: str, source: str) -> Document:
    """Return the mapping that `text` holds; raises ConfigError with all that is wrong with its form."""
    check_characters(text, source)
    root = _Composer(text, lambda mark: Place(source, mark.line + 1, mark.column + 1)).compose()
    if root is None:
        raise ConfigError([Problem(source, "is empty; a config has keys such as `activation: relu`")])
    if root.pairs is None:
        kind = "a list" if root.items is not None else "a single value"
        raise ConfigError([root.place.problem(f"holds {kind}, must hold keys such as `activation: relu`")])
    document = Document(source)
    document.values = _Expansion(document).value(root, ())
    return document


def parse_value(text: str, source: str) -> Any:
    """Return the value in `text`, which the flag `source` gave, or None if there is none.

    Raises ConfigError without lines or columns.
    """
    check_characters(text, source, in_lines=False)
    root = _Composer(text, lambda mark: Place(source)).compose()
    return None if root is None else _Expansion(Document(source)).value(root, ())


@dataclass
class _Node:
    """A value as written: a scalar, the items of a list, or the pairs of a mapping."""

    place: Place
    scalar: Any = None
    items: list[_Node] | None = None
    pairs: list[tuple[str, Place, _Node]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it is null, or not there."""
        return self.scalar is None and self.items is None and self.pairs is None


class _Composer:
    """Builds nodes from PyYAML's events, collecting what is wrong with them."""

    def __init__(self, text: str, place: Callable[[Any], Place]) -> None:
        self._parser: Any = yaml.SafeLoader(text)  # untyped in types-PyYAML; only its events are used
        self._place = place
        self._problems: list[Problem] = []
        self._anchors: dict[str, _Node | None] = {}  # None while the anchor's own value is being read
        self._count = 0

    def compose(self) -> _Node | None:
        """Return the root, or None where there is nothing; raises ConfigError with everything found."""
        root = None
        try:
            root = self._document()
        except yaml.MarkedYAMLError as error:
            self._report(*syntax_problem(error))
        except _Stopped:
            pass
        if self._problems:
            raise ConfigError(self._problems)
        return root

    def _document(self) -> _Node | None:
        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        root = self._node(self._next(), 0)
        self._next()  # the end of the document
        following = self._next()
        if isinstance(following, yaml.DocumentStartEvent):
            self._report("a second document starts here; a config is one", following.start_mark)
        return None if root.is_empty else root

    def _node(self, event: Any, depth: int) -> _Node:
        self._count += 1
        if depth > MAX_DEPTH:
            self._stop(f"lists and mappings are nested more than {MAX_DEPTH} deep", event.start_mark)
        if self._count > MAX_VALUES:
            self._stop(f"more than {MAX_VALUES:,} values", event.start_mark)
        node = _Node(self._place(event.start_mark))
        if isinstance(event, yaml.AliasEvent):
            return self._target(event) or node
        if event.tag is not None:
            self._report("tags (!...) are not supported; write the value plainly", event.start_mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node.scalar = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = list(self._items(depth + 1))
        else:
            node.pairs = list(self._pairs(depth + 1))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _target(self, alias: yaml.AliasEvent) -> _Node | None:
        target = self._anchors.get(str(alias.anchor))
        if target is None:
            inside = alias.anchor in self._anchors
            why = "stands inside its own anchor" if inside else "has no anchor before it"
            self._report(f"the alias {quoted(alias.anchor)} {why}", alias.start_mark)
        return target

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        if not event.implicit[0]:  # quoted, or a block of text
            return event.value
        try:
            return plain_value(event.value)
        except ValueError as error:
            self._report(str(error), event.start_mark)
            return event.value

    def _items(self, depth: int) -> Iterator[_Node]:
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._node(event, depth)

    def _pairs(self, depth: int) -> Iterator[tuple[str, Place, _Node]]:
        seen: dict[str, Place] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth)
            value = self._node(self._next(), depth)
            name = key.scalar
            if not isinstance(name, str):
                found = quoted(name) if key.items is None and key.pairs is None else "a list or mapping"
                self._report(f"a key must be a name, got {found}", event.start_mark)
            elif name == "<<":
                self._report("merge keys (<<) are not supported; write the keys out", event.start_mark)
            elif name in seen:
                first = f" (first in line {seen[name].line})" if seen[name].line else ""
                self._report(f"the key {quoted(name)} is given twice{first}; delete one", event.start_mark)
            else:
                seen[name] = self._place(event.start_mark)
                yield str(name), seen[name], value

    def _next(self) -> Any:
        try:
            return self._parser.get_event()
        except (ValueError, OverflowError):  # PyYAML does not check the numbers in \U escapes and %YAML
            self._stop("an escape or a version that is no valid number", self._parser.get_mark())

    def _report(self, message: str, mark: Any) -> None:
        self._problems.append(self._place(mark).problem(message))

    def _stop(self, message: str, mark: Any) -> NoReturn:
        self._report(message, mark)
        raise _Stopped


class _Stopped(Exception):  # noqa: N818 - reading on makes no sense; the problem is noted
    pass


@dataclass
class _Expansion:
    """Turns nodes into values and notes their places. An alias becomes a copy, so copies are counted."""

    document: Document
    count: int = 0

    def value(self, node: _Node, path: Path) -> Any:
        """Return the value of `node`, which stands at `path`."""
        self.count += 1
        if self.count > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} values, with its aliases written out"
            raise ConfigError([node.place.problem(message)])
        self.document.places[path] = node.place
        if node.items is not None:
            return [self.value(item, (*path, k)) for k, item in enumerate(node.items)]
        if node.pairs is None:
            return node.scalar
        for key, place, _ in node.pairs:
            self.document.key_places[*path, key] = place
        return {key: self.value(item, (*path, key)) for key, _, item in node.pairs}
