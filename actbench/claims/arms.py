"""The arms of a claim file: base, arm, rung and flags, merged into one variant each and checked like a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actbench import config
from actbench.config import Document, Place, Setting, Variant
from actbench.config.document import Path
from actbench.errors import ConfigError
from actbench.text import quoted

QUICK = {"dataset": "digits", "epochs": 5, "train_limit": None}
"""What `--quick` changes in the arms of every claim, unless the claim's own `quick` says otherwise."""
NOT_IN_ARMS = {
    "seeds": "seeds belong to the claim, beside `arms`",
    "name": "arms are named after what they are, so that equal arms of several claims are one run",
    "sweep": "write a `ladder` instead",
    "device": "give it with --device",
}
"""Config keys that an arm cannot have, and what to do instead."""


class Arms:
    """The arms of one file.

    variants: the sound arms by name. names: all arms. ladders: the rungs of each arm that has some, as names of arms.
    Wrong config values become problems of the document. `parse` checks the form of the file; what has the wrong form
    counts as empty here.
    """

    def __init__(self, document: Document, *, quick: bool, device: Sequence[Setting]) -> None:
        self.quick, self.measured = quick, str(document.values.get("measured", ""))
        self.variants: dict[str, Variant] = {}
        self.names: list[str] = []
        self.ladders: dict[str, tuple[str, ...]] = {}
        for name, own in _mapping(document, ("arms",)).items():
            ladder: Path = ("arms", name, "ladder") if isinstance(own, dict) and "ladder" in own else ("ladder",)
            rungs: dict[str, list[Path]] = {f"{name} {rung}": [(*ladder, rung)] for rung in _mapping(document, ladder)}
            if rungs:
                self.ladders[name] = tuple(rungs)
            for arm, rung in (rungs or {name: []}).items():
                if arm in self.names:
                    place = document.place(("arms", name), at_key=True)
                    document.problems.append(place.problem(f"arms: there are two arms {quoted(arm)}"))
                self.names.append(arm)
                self._add(document, arm, [("base",), ("arms", name), *rung], device)

    def _add(self, document: Document, arm: str, paths: Sequence[Path], device: Sequence[Setting]) -> None:
        """Check the config that the mappings at `paths` make, later ones over earlier ones."""
        merged = Document(document.source)
        for path in paths:
            _merge(document, path, merged)
        if self.quick:
            config.changed(merged, [Setting((key,), value, Place("--quick")) for key, value in QUICK.items()])
            _merge(document, ("quick",), merged)
        try:
            variant = config.check(config.changed(merged, device)).variant
        except ConfigError as error:
            document.problems += error.problems
            return
        self.variants[arm] = variant
        if self.measured and (len(variant.activation) > 1 or variant.activation[0].changed):
            message = f"arms: {arm}: the cost of an activation is known only for its default parameters"
            document.problems.append(document.place(("arms", arm)).problem(message))


def _mapping(document: Document, path: Path) -> Mapping[str, Any]:
    found: Any = document.values
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _merge(document: Document, path: Path, into: Document) -> None:
    """Put the config keys at `path` into a document of their own, with their places."""
    for key, value in _mapping(document, path).items():
        if key not in NOT_IN_ARMS and not (key == "ladder" and path[0] == "arms"):
            into.put((key,), value, document.place((*path, key)))
