"""A YAML document that is read key by key, noting everything that is wrong with it (layer 4; imports `config`).

Nothing raises: what is wrong or missing gives a default, and `problems` says where and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actbench.config.rules import BadValueError, Flaw, Rule
from actbench.config.yaml import Document, Path
from actbench.errors import Problem, suggestion
from actbench.text import quoted, readable


class Reader:
    """Reads one document; a path is keys and positions from its root."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = list(document.problems)

    def value(self, path: Path) -> Any:
        """Return the value at `path`, which is there."""
        found: Any = self.document.values
        for key in path:
            found = found[key]
        return found

    def has(self, path: Path) -> bool:
        """Whether there is a value at `path`, in a mapping or a list that is there."""
        parent = self.value(path[:-1])
        return path[-1] in (range(len(parent)) if isinstance(parent, list) else parent)

    def mapping(self, path: Path, what: str, *, may_be_empty: bool = False) -> Mapping[str, Any]:
        """Return the mapping at `path`; a key that is missing on the way gives an empty one."""
        if not self.has(path):
            return {}
        found = self.value(path)
        if isinstance(found, dict) and (found or may_be_empty):
            return found
        self.problem(path, f"{_dotted(path)}: must hold {what}, got {quoted(found)}")
        return {}

    def items(self, path: Path, what: str) -> range:
        """Return the positions of the list at `path`; none where it is missing."""
        found = self.value(path) if self.has(path) else []
        if isinstance(found, list) and (found or not self.has(path)):
            return range(len(found))
        self.problem(path, f"{_dotted(path)}: must be {what}, got {quoted(found)}")
        return range(0)

    def keys(self, path: Path, known: Sequence[str], needed: Sequence[str] = ()) -> bool:
        """Check the keys of the mapping at `path`; False where it is none."""
        found = self.value(path) if path else self.document.values
        if not isinstance(found, dict):
            self.problem(path, f"{_dotted(path)}: must hold {', '.join(needed or known)}, got {quoted(found)}")
            return False
        for key in found:
            if key not in known:
                hint = suggestion(key, known) or f"; known are {', '.join(known)}"
                self.problem((*path, key), f"{_dotted((*path, key))}: unknown key{hint}", at_key=True)
        for key in needed:
            if key not in found:
                self.problem(path, f"{_dotted((*path, key))}: is missing")
        return True

    def take(self, path: Path, rule: Rule, default: Any = None) -> Any:
        """Return the value at `path` as the rule gives it; `default` where it is missing or wrong."""
        if not self.has(path):
            return default
        try:
            return rule.check(self.value(path))
        except BadValueError as bad:
            for flaw in bad.flaws:
                self._flaw(path, flaw)
            return default

    def _flaw(self, path: Path, flaw: Flaw) -> None:
        self.problem((*path, *flaw.path), f"{_dotted((*path, *flaw.path))}: {flaw.message}", at_key=flaw.at_key)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Note a problem at the value (or the key) at `path`, once."""
        found = self.document.place(path, at_key=at_key).problem(message)
        if found not in self.problems:
            self.problems.append(found)


def _dotted(path: Path) -> str:
    """Write a path as `readings[0].parts[1].metric`."""
    return readable("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip("."))
