"""Claim files -> `Claim`: YAML with line numbers, checked like configs (layer 4).

Imports `config`, `comparison.quantities`, `model` and `measures`. All problems of all files are reported at once.

    id: 12
    claim: Softplus converges more slowly than ReLU.
    source: lectures and tutorials on smooth activation functions
    base: {epochs: 10}                     # config keys that all arms share
    arms:
      relu: {activation: relu}
      softplus: {activation: softplus}
    seeds: 20
    readings:
      - says: after one epoch it is less accurate
        parts:
          - {metric: test_accuracy, epoch: 1, arm: softplus, against: relu, expect: lower, margin: 0.002}

A `ladder` (rung -> config keys, for all arms or inside one) makes one arm a rung, named `<arm> <rung>`. A side is an
arm's name, a number, or {arm: NAME, epoch: K, layer: first|last|K}. `transform: log` compares ratios; its margin is a
factor. `quick` holds config keys, and in a part keys of that part, that take the place of others with `--quick`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from actbench import config
from actbench.claims import measures
from actbench.claims.model import Claim, Part, Reading, Side
from actbench.comparison.quantities import Quantity
from actbench.config import Variant
from actbench.config.fields import Seeds
from actbench.config.rules import BadValueError, Flaw, OneOf, Rule, Text, integer, number
from actbench.config.textfile import readable
from actbench.config.yaml_source import Document, Path, Place, read
from actbench.config.yaml_values import shown
from actbench.errors import ConfigError, Problem, UsageError, suggestion

QUICK = {"dataset": "digits", "epochs": 5, "train_limit": None}
"""What the arms of every claim become with `--quick`, unless the claim's own `quick` says otherwise."""
QUICK_SEEDS = 4
DEFAULT_SEEDS = 13
"""The fewest that can decide one of a hundred contrasts, by `stats.seeds_needed`."""

KEYS = ("id", "claim", "source", "note", "base", "arms", "ladder", "seeds", "measured", "readings", "quick")
READING_KEYS = ("says", "parts", "also")
PART_KEYS = ("metric", "arm", "against", "expect", "margin", "epoch", "layer", "transform", "quick")
SIDE_KEYS = ("arm", "epoch", "layer")
_NEEDED = {"": ("id", "claim", "source", "arms", "readings"), "reading": ("says", "parts")}
NOT_IN_ARMS = {
    "seeds": "seeds belong to the claim, beside `arms`",
    "name": "arms are named after what they are, so that equal ones of several claims are one run",
    "sweep": "write a `ladder` instead",
    "device": "give it with --device",
}
_MOST_EPOCHS = 100_000


@dataclass(frozen=True)
class Flags:
    """What the command line says over all claim files."""

    quick: bool = False
    seeds: str | None = None
    device: str | None = None


def load_all(paths: Sequence[FilePath], flags: Flags = Flags()) -> list[Claim]:
    """Return the claims in the files at `paths`, by number; raises one ConfigError with all problems."""
    seeds = config.parse_seeds(flags.seeds) if flags.seeds is not None else None
    device = config.settings(device=flags.device)
    claims = config.collect([partial(_load, path, flags.quick, seeds, device) for path in paths])
    first: dict[int, Claim] = {}
    for claim in claims:
        if first.setdefault(claim.number, claim) is not claim:
            message = f"id: {claim.number} is also the id in {first[claim.number].path}"
            raise ConfigError([Problem(claim.path, message)])
    return sorted(claims, key=lambda claim: claim.number)


def _load(path: FilePath, quick: bool, seeds: tuple[int, ...] | None, device: Sequence[config.Setting]) -> Claim:
    reader = _Reader(read(path), quick, device)
    claim = reader.claim(path.stem)
    if reader.problems:
        raise ConfigError(sorted(reader.problems, key=lambda p: (p.line or math.inf, p.column or 0)))
    return claim if seeds is None else replace(claim, seeds=seeds)


class _Reader:
    """Reads one document and notes everything that is wrong with it."""

    def __init__(self, document: Document, quick: bool, device: Sequence[config.Setting]) -> None:
        self.document, self.quick, self.device = document, quick, device
        self.problems: list[Problem] = list(document.problems)
        self.arms: dict[str, Variant] = {}
        self.known_arms: dict[str, None] = {}
        self.measured = ""

    def claim(self, stem: str) -> Claim:
        """Return the claim; what is wrong with it is in `problems`."""
        self._keys((), KEYS, _NEEDED[""])
        values = self.document.values
        self.measured = self._take(("measured",), OneOf("measurement", ("cost",)), "")
        claim = Claim(
            number=self._take(("id",), integer(1, 1, 9999), 0),
            slug=stem.lstrip("0123456789_-") or stem,
            path=self.document.source,
            text=self._take(("claim",), Text(), ""),
            source=self._take(("source",), Text(), ""),
            note=self._take(("note",), Text(), ""),
            measured=self.measured,
        )
        seeds = self._take(("seeds",), Seeds(), ()) if "seeds" in values else tuple(range(DEFAULT_SEEDS))
        ladders = dict(self._ladders())
        readings = tuple(self._readings())
        counted = tuple(range(QUICK_SEEDS)) if self.quick else seeds
        return replace(claim, arms=self.arms, ladders=ladders, seeds=counted, readings=readings)

    # --- arms --------------------------------------------------------------------------------------------------

    def _ladders(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Fill `arms`, and yield those that a ladder has made several of."""
        for name in self._mapping(("arms",), "arms, each with config keys"):
            inner = ("arms", name, "ladder")
            has_own = "ladder" in self._mapping(("arms", name), "config keys", may_be_empty=True)
            ladder: Path = inner if has_own else ("ladder",)
            rungs = self._mapping(ladder, "rungs, each with config keys") if has_own or self._has(ladder) else {}
            for rung in rungs or (None,):
                arm = name if rung is None else f"{name} {rung}"
                if arm in self.known_arms:
                    self._problem(("arms", name), f"arms: {shown(arm)} is there already", at_key=True)
                self.known_arms[arm] = None
                self._add(arm, [("base",), ("arms", name), *([(*ladder, rung)] if rung is not None else [])])
            if rungs:
                yield name, tuple(f"{name} {rung}" for rung in rungs)

    def _add(self, arm: str, paths: Sequence[Path]) -> None:
        """Check the config that the mappings at `paths` make, later ones over earlier ones."""
        merged = Document(self.document.source)
        for path in paths:
            self._merge(path, merged)
        if self.quick:
            for key, value in QUICK.items():
                merged.put((key,), value, Place("--quick"))
            self._merge(("quick",), merged)
        for change in self.device:
            config.apply(merged, change)
        try:
            self.arms[arm] = config.check(merged).variant
        except ConfigError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]

    def _merge(self, path: Path, into: Document) -> None:
        """Put the config keys at `path` into a document of their own, with their places."""
        depth = len(path)
        for key, value in self._mapping(path, "config keys", may_be_empty=True).items():
            if key == "ladder" and path[0] == "arms":
                continue
            if key in NOT_IN_ARMS:
                self._problem((*path, key), f"{key}: {NOT_IN_ARMS[key]}", at_key=True)
                continue
            into.put((key,), copy.deepcopy(value), self.document.place((*path, key)))
        for table, target in ((self.document.places, into.places), (self.document.key_places, into.key_places)):
            target.update({p[depth:]: at for p, at in table.items() if p[:depth] == path and len(p) > depth})

    # --- readings ----------------------------------------------------------------------------------------------

    def _readings(self) -> Iterator[Reading]:
        for k in self._items(("readings",), "a list of readings, each with `says` and `parts`"):
            path = ("readings", k)
            if not self._keys(path, READING_KEYS, _NEEDED["reading"]):
                continue
            says = self._take((*path, "says"), Text(), "")
            parts = [self._part((*path, "parts", i)) for i in self._items((*path, "parts"), "a list of contrasts")]
            names = self._items((*path, "also"), "a list of metrics") if self._has((*path, "also")) else []
            also = [self._quantity((*path, "also", i), None) for i in names]
            yield Reading(says, tuple(part for part in parts if part), tuple(one for one in also if one))

    def _part(self, path: Path) -> Part | None:
        """Return one contrast; None where something is wrong with it."""
        before = len(self.problems)
        values = self._mapping(path, "a metric, two sides, a direction and a margin")
        if not values:
            return None
        at = {key: (*path, key) for key in values}
        if self.quick and "quick" in values:
            at |= {key: (*path, "quick", key) for key in self._mapping(at["quick"], "keys of the part")}
            self._keys(at["quick"], PART_KEYS[:-1])
        self._keys(path, PART_KEYS, ("metric", "arm", "against", "expect", "margin"))
        if len(self.problems) > before:
            return None
        epoch = self._take(at["epoch"], integer(0, 0, _MOST_EPOCHS), None) if "epoch" in at else None
        layer = self._layer(at["layer"]) if "layer" in at else None
        found = self._quantity(at["metric"], epoch)
        sides = [self._side(at[key], epoch, layer) for key in ("arm", "against")]
        expect = self._take(at["expect"], OneOf("direction", ("higher", "lower", "same")))
        log = "transform" in at and self._take(at["transform"], OneOf("transform", ("log",))) == "log"
        margin = self._take(at["margin"], number(1.0, 1.0 if log else 0.0, 1e9, above=True), math.nan)
        if log and len(self.problems) > before and not margin > 1:
            self.problems[-1] = replace(self.problems[-1], message=self.problems[-1].message + " (a factor)")
        if len(self.problems) > before or found is None:
            return None
        if sides[0].arm is None and sides[1].arm is None:
            self._problem(at["against"], "against: one of the sides must be an arm")
            return None
        return Part(found.name, found, sides[0], sides[1], expect, margin, log)

    def _side(self, path: Path, epoch: int | None, layer: int | None) -> Side:
        value = self._value(path)
        key = str(path[-1])
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Side(number=self._take(path, number(0.0, -1e9, 1e9), 0.0))
        if not isinstance(value, dict):
            return Side(self._arm(path, key), None, self._epoch(path, value, epoch), layer)
        self._keys(path, SIDE_KEYS, ("arm",))
        if "epoch" in value:
            epoch = self._take((*path, "epoch"), integer(0, 0, _MOST_EPOCHS), 0)
        if "layer" in value:
            layer = self._layer((*path, "layer"))
        arm = self._arm((*path, "arm"), f"{key}.arm") if "arm" in value else ""
        return Side(arm, None, self._epoch(path, arm, epoch), layer)

    def _arm(self, path: Path, key: str) -> str:
        value = self._value(path)
        if not isinstance(value, str) or value not in self.known_arms:
            near = suggestion(value, self.known_arms) or f"; there are {', '.join(self.known_arms) or 'none'}"
            self._problem(path, f"{key}: there is no arm {shown(value)}{readable(near)}")
            return ""
        return str(value)

    def _epoch(self, path: Path, arm: Any, epoch: int | None) -> int | None:
        """Check that the arm has this epoch; a demonstration takes the last one instead."""
        if epoch is None or arm not in self.arms or epoch <= self.arms[arm].epochs:
            return epoch
        if not self.quick:
            self._problem(path, f"epoch: must be at most {self.arms[arm].epochs} (the epochs of {arm}), got {epoch}")
        return self.arms[arm].epochs

    def _layer(self, path: Path) -> int | None:
        value = self._value(path)
        if isinstance(value, str) and value in ("first", "last"):
            return 0 if value == "first" else -1
        found: int | None = self._take(path, integer(0, 0, 99), None)
        return found

    def _quantity(self, path: Path, epoch: int | None) -> Quantity | None:
        spec = self._take(path, Text())
        if spec is None:
            return None
        try:
            return measures.quantity(spec, self.measured, epoch)
        except UsageError as error:
            self._problem(path, f"metric: {error}. See: actbench list metrics")
            return None

    # --- the document ------------------------------------------------------------------------------------------

    def _value(self, path: Path) -> Any:
        found: Any = self.document.values
        for key in path:
            found = found[key]
        return found

    def _has(self, path: Path) -> bool:
        parent = self._value(path[:-1])
        return path[-1] in (range(len(parent)) if isinstance(parent, list) else parent)

    def _mapping(self, path: Path, what: str, *, may_be_empty: bool = False) -> Mapping[str, Any]:
        """Return the mapping at `path`; a key that is missing on the way gives an empty one."""
        if not self._has(path):
            return {}
        found = self._value(path)
        if isinstance(found, dict) and (found or may_be_empty):
            return found
        self._problem(path, f"{_dotted(path)}: must hold {what}, got {shown(found)}")
        return {}

    def _items(self, path: Path, what: str) -> range:
        found = self._value(path) if self._has(path) else []
        if isinstance(found, list) and (found or not self._has(path)):
            return range(len(found))
        self._problem(path, f"{_dotted(path)}: must be {what}, got {shown(found)}")
        return range(0)

    def _keys(self, path: Path, known: Sequence[str], needed: Sequence[str] = ()) -> bool:
        """Check the keys of the mapping at `path`; False where it is none."""
        found = self._value(path) if path else self.document.values
        if not isinstance(found, dict):
            self._problem(path, f"{_dotted(path)}: must hold {', '.join(needed or known)}, got {shown(found)}")
            return False
        for key in found:
            if key not in known:
                hint = suggestion(key, known) or f"; known are {', '.join(known)}"
                self._problem((*path, key), f"{_dotted((*path, key))}: unknown key{hint}", at_key=True)
        for key in needed:
            if key not in found:
                self._problem(path, f"{_dotted((*path, key))}: is missing")
        return True

    def _take(self, path: Path, rule: Rule, default: Any = None) -> Any:
        """Return the value at `path` as the rule gives it; `default` where it is missing or wrong."""
        if not self._has(path):
            return default
        try:
            return rule.check(self._value(path))
        except BadValueError as bad:
            for flaw in bad.flaws:
                self._flaw(path, flaw)
            return default

    def _flaw(self, path: Path, flaw: Flaw) -> None:
        self._problem((*path, *flaw.path), f"{_dotted((*path, *flaw.path))}: {flaw.message}", at_key=flaw.at_key)

    def _problem(self, path: Path, message: str, *, at_key: bool = False) -> None:
        problem = self.document.place(path, at_key=at_key).problem(message)
        if problem not in self.problems:
            self.problems.append(problem)


def _dotted(path: Path) -> str:
    """Write a path as `readings[0].parts[1].metric`."""
    return readable("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip("."))
