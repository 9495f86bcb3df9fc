"""Sweeps: `sweep:` in a file and `-g` flags -> one config per variant.

The variants come in the order of nested loops over the keys of `grid` as written (the last one changes fastest), then
over the rows of `zip`.

    sweep:
      grid: {activation: [relu, tanh], lr: [1e-3, 1e-2]}  # every combination
      zip: {init: [he_normal, xavier_normal], epochs: [10, 20]}  # the first values together, then the second values
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Unpack

from actbench.config.choices import Augment, Choice, short
from actbench.config.load import (
    FILE_KEYS,
    Config,
    FlagValues,
    Setting,
    apply,
    check,
    collect,
    open_config,
    settings,
    unknown_key,
)
from actbench.config.variant import Variant, flat_value
from actbench.config.yaml import Document, Path, Place, parse_value
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted, readable

MAX_VARIANTS = 10_000
MAX_RUNS = 1_000_000


@dataclass(frozen=True)
class Level:
    """One of the values that a sweep gives to the config key at `path`, with the places of its parts."""

    path: Path
    value: Any
    places: dict[Path, Place]
    key_places: dict[Path, Place]

    @property
    def place(self) -> Place:
        """Where the value was written."""
        return self.places[()]


Axis = list[tuple[Level, ...]]
"""What a loop runs over: steps of one level (a key of `grid`) or of several that go together (`zip`)."""


def load_sweep(
    paths: Sequence[str | FilePath],
    overrides: Sequence[str] = (),
    grids: Sequence[str] = (),
    **flags: Unpack[FlagValues],
) -> list[Config]:
    """Return the configs of all variants in the files at `paths`, in order; a file without a sweep is one variant.

    `grids` are the texts of `-g` flags (`lr=1e-3,1e-2`), each of which sets a key of `sweep.grid`; the other arguments
    are those of `load_all`. Raises ConfigError with every problem.
    """
    changes = settings(overrides, **flags)
    columns = collect([partial(parse_grid, text) for text in grids])

    def configs(path: str | FilePath) -> list[Config]:
        return with_flags(open_config(path, changes), columns)

    return list(itertools.chain(*collect([partial(configs, path) for path in paths])))


def parse_grid(text: str) -> Setting:
    """Return what one `-g key=value,value` says; raises ConfigError."""
    source = readable(f"-g {text}")
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([Problem(source, "must be key=value,value such as lr=0.001,0.01")])
    return Setting(("sweep", "grid", key.strip()), parse_value(f"[{values}]", source), Place(source))


def with_flags(document: Document, flags: Sequence[Setting]) -> list[Config]:
    """Return one config for each variant of `document` with the columns of `flags` in its sweep; raises ConfigError."""
    if "sweep" in document.values:
        _part(document, ("sweep",), "grid, zip or both")
    for flag in flags:
        document.put(*flag)
    return expand(document)


def expand(document: Document) -> list[Config]:
    """Return one config per variant of `document`; raises ConfigError.

    Each value is checked by itself before values are combined, so a wrong one is reported once.
    """
    if "sweep" not in document.values:
        return [check(document)]
    axes = _axes(document)
    variants = math.prod(len(axis) for axis in axes)
    place = document.place(("sweep",), at_key=True)
    if variants > MAX_VARIANTS:
        message = f"sweep: makes {variants:,} variants, at most {MAX_VARIANTS:,} are allowed"
        raise ConfigError([place.problem(message)])
    base = _without_sweep(document)
    first = [axis[0] for axis in axes]
    singly = ([*first[:k], step, *first[k + 1 :]] for k, axis in enumerate(axes) for step in axis)
    seeds = len(collect([partial(_at, base, steps) for steps in singly])[0].seeds)
    if variants * seeds > MAX_RUNS:
        message = f"sweep: {variants:,} variants with {seeds:,} seeds are {variants * seeds:,} runs"
        raise ConfigError([place.problem(f"{message}, at most {MAX_RUNS:,} are allowed")])
    points = list(itertools.product(*axes))
    configs = collect([partial(_at, base, steps) for steps in points])
    _check_twins(points, configs)
    return configs


def _axes(document: Document) -> list[Axis]:
    """Return what to loop over, outermost first; raises ConfigError if `sweep` has the wrong form."""
    sweep = _part(document, ("sweep",), "grid, zip or both")
    problems = []
    for part in sweep:
        if part not in ("grid", "zip"):
            hint = suggestion(part, ("grid", "zip")) or "; it has grid and zip"
            place = document.place(("sweep", part), at_key=True)
            problems.append(place.problem(f"sweep: unknown key {quoted(part)}{hint}"))
    if problems:
        raise ConfigError(problems)
    columns = collect([partial(_column, document, part, key) for part in sweep for key in _keys(document, part)])
    grid: list[Axis] = [[(level,) for level in column] for part, column in columns if part == "grid"]
    zipped = [column for part, column in columns if part == "zip"]
    _check_lengths(document, zipped)
    return [*grid, list(zip(*zipped, strict=True))] if zipped else grid


def _keys(document: Document, part: str) -> list[str]:
    return list(_part(document, ("sweep", part), "keys, each with a list of values"))


def _part(document: Document, path: Path, what: str) -> dict[str, Any]:
    """Return the mapping at `path`, which is part of the sweep; raises ConfigError if it is missing or empty."""
    found: Any = document.values
    for key in path:
        found = found[key]
    if not isinstance(found, dict) or not found:
        name = ".".join(map(str, path))
        raise ConfigError([document.place(path).problem(f"{name}: must hold {what}, got {quoted(found)}")])
    return found


def _column(document: Document, part: str, key: str) -> tuple[str, list[Level]]:
    """Return `part` and the levels of one of its keys; raises ConfigError."""
    path: Path = ("sweep", part, key)
    target = tuple(key.split("."))
    values = document.values["sweep"][part][key]
    at_key = document.place(path, at_key=True)
    if target[0] not in FILE_KEYS:
        raise ConfigError([at_key.problem(f"sweep.{part}: {unknown_key(target[0])}")])
    if target[0] in ("seeds", "sweep"):
        raise ConfigError([at_key.problem(f"sweep.{part}: {target[0]} is not part of a variant; take it out")])
    if part == "zip" and key in document.values["sweep"].get("grid", {}):
        raise ConfigError([at_key.problem(f"sweep.zip: {key} is in grid, too; take it out of one of them")])
    if not isinstance(values, list) or not values:
        message = f"sweep.{part}.{key}: must be a list of values such as [a, b], got {quoted(values)}"
        raise ConfigError([document.place(path).problem(message)])
    levels = [Level(target, value, {(): document.place((*path, k))}, {}) for k, value in enumerate(values)]
    for table in ("places", "key_places"):
        for found, place in getattr(document, table).items():
            if found[:3] == path and len(found) > 3:
                getattr(levels[int(found[3])], table)[found[4:]] = place
    return part, levels


def _check_lengths(document: Document, columns: Sequence[Sequence[Level]]) -> None:
    """Raise ConfigError if the columns of a zip differ in length."""
    for column in columns[1:]:
        if len(column) != len(columns[0]):
            key, first = (".".join(map(str, levels[0].path)) for levels in (column, columns[0]))
            message = f"sweep.zip.{key}: has {len(column)} values, but {first} has {len(columns[0])}"
            raise ConfigError([document.place(("sweep", "zip", key), at_key=True).problem(message)])


def _without_sweep(document: Document) -> Document:
    tables = (document.places, document.key_places)
    places, key_places = ({p: at for p, at in table.items() if p[:1] != ("sweep",)} for table in tables)
    values = {key: value for key, value in document.values.items() if key != "sweep"}
    return Document(document.source, values, places, key_places, document.problems)


def _at(base: Document, steps: Sequence[tuple[Level, ...]]) -> Config:
    """Return the config at one point of the sweep; raises ConfigError."""
    levels = [level for step in steps for level in step]
    point = copy.copy(base)
    point.values, point.problems = copy.deepcopy(base.values), list(base.problems)
    point.places, point.key_places = dict(base.places), dict(base.key_places)
    for level in sorted(levels, key=lambda level: len(level.path)):  # `optimizer` before `optimizer.momentum`
        apply(point, Setting(level.path, copy.deepcopy(level.value), level.place))
        point.places.update({(*level.path, *rest): place for rest, place in level.places.items()})
        point.key_places.update({(*level.path, *rest): place for rest, place in level.key_places.items() if rest})
    config = check(point)
    paths = [level.path for level in levels]
    if ("name",) in paths:
        return config
    prefix = [config.variant.name] if "name" in base.values else []
    name = " ".join([*prefix, *_differences(config.variant, paths, named=bool(prefix))])[:1000]
    return Config(config.variant.renamed(name), config.seeds)


def _differences(variant: Variant, paths: Sequence[Path], *, named: bool) -> Iterator[str]:
    """Yield the words of a variant's name: the activation, unless a name replaces it; then each varied key."""
    if not named or any(path[0] == "activation" for path in paths):
        yield str(flat_value("activation", variant.activation))
    for path in paths:
        key = str(path[0])
        held = getattr(variant, key)
        if key == "activation" or (len(path) > 1 and (key,) in paths):
            continue
        if len(path) == 1:
            yield f"{key}={short(flat_value(key, held))}"
        else:
            parts = held.params if isinstance(held, Choice) else vars(held or Augment())
            yield f"{key}.{path[1]}={short(parts.get(str(path[1])))}"


def _check_twins(points: Sequence[Sequence[tuple[Level, ...]]], configs: Sequence[Config]) -> None:
    """Raise ConfigError if two points are the same variant, at the value that made the second one."""
    seen: dict[str, Sequence[tuple[Level, ...]]] = {}
    problems: dict[Problem, None] = {}
    for steps, config in zip(points, configs, strict=True):
        first = seen.setdefault(json.dumps(config.variant.identity(), sort_keys=True), steps)
        if first is steps:
            continue
        level, earlier = next((b[0], a[0]) for a, b in zip(first, steps, strict=True) if a is not b)
        where = f" (as in line {earlier.place.line})" if earlier.place.line else ""
        key = ".".join(map(str, level.path))
        problems[level.place.problem(f"{key}: gives a variant that is already in the sweep{where}")] = None
    if problems:
        raise ConfigError(list(problems))
