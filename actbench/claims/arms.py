"""The arms of a claim file: base, arm, rung and flags -> variants, checked like configs (layer 4).

Imports `config` and `reader`. An arm's problems have the place where each value was written, whatever it was merged
with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from actbench import config
from actbench.claims.reader import Reader
from actbench.config import Document, Path, Place, Setting, Variant
from actbench.errors import ConfigError
from actbench.text import quoted

QUICK = {"dataset": "digits", "epochs": 5, "train_limit": None}
"""What the arms of every claim become with `--quick`, unless the claim's own `quick` says otherwise."""
NOT_IN_ARMS = {
    "seeds": "seeds belong to the claim, beside `arms`",
    "name": "arms are named after what they are, so that equal ones of several claims are one run",
    "sweep": "write a `ladder` instead",
    "device": "give it with --device",
}
"""Keys of a config that an arm cannot have, and what to do instead."""


@dataclass(frozen=True)
class Arms:
    """The variants by arm, those that are sound; the names of all of them; and the ladders, arm by arm."""

    variants: dict[str, Variant] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    ladders: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_arms(reader: Reader, *, quick: bool, device: Sequence[Setting]) -> Arms:
    """Return the arms of a claim file; what is wrong with them is noted in `reader`."""
    arms = Arms()
    for name in reader.mapping(("arms",), "arms, each with config keys"):
        ladder = _ladder(reader, name)
        rungs = reader.mapping(ladder, "rungs, each with config keys") if ladder else {}
        for rung in rungs or (None,):
            arm = name if rung is None else f"{name} {rung}"
            if arm in arms.names:
                reader.problem(("arms", name), f"arms: {quoted(arm)} is there already", at_key=True)
            arms.names[arm] = None
            paths: list[Path] = [("base",), ("arms", name), *([(*ladder, rung)] if rung is not None else [])]
            _add(reader, arms, arm, [*paths, *([("quick",)] if quick else [])], device)
        if rungs:
            arms.ladders[name] = tuple(f"{name} {rung}" for rung in rungs)
    return arms


def _ladder(reader: Reader, name: str) -> Path:
    """Return where the ladder of an arm is written: in the arm, beside the arms, or nowhere."""
    if "ladder" in reader.mapping(("arms", name), "config keys", may_be_empty=True):
        return ("arms", name, "ladder")
    return ("ladder",) if reader.has(("ladder",)) else ()


def _add(reader: Reader, arms: Arms, arm: str, paths: Sequence[Path], device: Sequence[Setting]) -> None:
    """Check the config that the mappings at `paths` make, later ones over earlier ones."""
    merged = Document(reader.document.source)
    for path in paths:
        if path == ("quick",):
            for key, value in QUICK.items():
                merged.put((key,), value, Place("--quick"))
        _merge(reader, path, merged)
    for change in device:
        config.apply(merged, change)
    try:
        arms.variants[arm] = config.check(merged).variant
    except ConfigError as error:
        reader.problems += [problem for problem in error.problems if problem not in reader.problems]


def _merge(reader: Reader, path: Path, into: Document) -> None:
    """Put the config keys at `path` into a document of their own, with their places."""
    depth, document = len(path), reader.document
    for key, value in reader.mapping(path, "config keys", may_be_empty=True).items():
        if key == "ladder" and path[0] == "arms":
            continue
        if key in NOT_IN_ARMS:
            reader.problem((*path, key), f"{key}: {NOT_IN_ARMS[key]}", at_key=True)
            continue
        into.put((key,), copy.deepcopy(value), document.place((*path, key)))
    for table, target in ((document.places, into.places), (document.key_places, into.key_places)):
        target.update({p[depth:]: at for p, at in table.items() if p[:depth] == path and len(p) > depth})
