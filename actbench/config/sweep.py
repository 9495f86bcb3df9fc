"""Sweeps: the `sweep:` of a file and `-g` flags -> one config for each variant (layer 2).

Imports `errors`, `config`, `variant`, `fields` and the YAML modules. The order is that of nested loops over
the keys of `grid` as they are written (the last one changes fastest), then over the rows of `zip`.

    sweep:
      grid: {activation: [relu, tanh], lr: [1e-3, 1e-2]}  # every combination
      zip: {init: [he_normal, xavier_normal], epochs: [10, 20]}  # the first ones, the second ones, ...
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
from typing import Any

from actbench.config.choices import Augment, Choice, short
from actbench.config.load import FILE_KEYS, Config, Setting, apply, check, collect, open_config, settings, unknown_key
from actbench.config.variant import Variant, flat_value
from actbench.config.yaml import Document, Path, Place, parse_value
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted, readable

MAX_VARIANTS = 10_000
MAX_RUNS = 1_000_000

Places = dict[Path, Place]


@dataclass(frozen=True)
class Cell:
    """One value of a sweep for the config key at `path`, and where it and its parts were written."""

    path: Path
    value: Any
    places: Places
    key_places: Places

    @property
    def place(self) -> Place:
        """Where the value was written."""
        return self.places[()]


Row = tuple[Cell, ...]
Axis = list[Row]
"""What a loop runs over: rows of one cell (a key of `grid`), or of several that go together (a `zip`)."""


def load_sweep(
    paths: Sequence[str | FilePath],
    overrides: Sequence[str] = (),
    grids: Sequence[str] = (),
    *,
    seeds: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> list[Config]:
    """Return the configs of all variants that the files at `paths` make, in order.

    `grids` are the texts of `-g` flags (`lr=1e-3,1e-2`), each of which sets a key of `sweep.grid`; the others
    are those of `config.load`. A file without a sweep is one variant. Raises ConfigError with all problems.
    """
    changes = settings(overrides, seeds=seeds, seed=seed, device=device)
    flags = collect([partial(parse_grid, text) for text in grids])
    return list(itertools.chain(*collect([partial(_load_one, path, changes, flags) for path in paths])))


def parse_grid(text: str) -> Setting:
    """Return what one `-g key=value,value` says; raises ConfigError."""
    source = readable(f"-g {text}")
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([Problem(source, "must be key=value,value such as lr=0.001,0.01")])
    return Setting(("sweep", "grid", key.strip()), parse_value(f"[{values}]", source), Place(source))


def _load_one(path: str | FilePath, changes: Sequence[Setting], flags: Sequence[Setting]) -> list[Config]:
    return with_flags(open_config(path, changes), flags)


def with_flags(document: Document, flags: Sequence[Setting]) -> list[Config]:
    """Return one config for each variant of `document` with the columns of `flags` in its sweep; raises ConfigError."""
    if "sweep" in document.values:
        _part(document, ("sweep",), "grid, zip or both")
    for flag in flags:
        document.put(*flag)
    return expand(document)


def expand(document: Document) -> list[Config]:
    """Return one config for each variant of `document`; raises ConfigError.

    Values are checked one by one before they are combined, so a wrong one is reported once.
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
    singly = ([*first[:k], row, *first[k + 1 :]] for k, axis in enumerate(axes) for row in axis)
    found = collect([partial(_at, base, rows) for rows in singly])
    runs = variants * len(found[0].seeds)
    if runs > MAX_RUNS:
        message = f"sweep: {variants:,} variants with {len(found[0].seeds):,} seeds are {runs:,} runs"
        raise ConfigError([place.problem(f"{message}, at most {MAX_RUNS:,} are allowed")])
    points = list(itertools.product(*axes))
    configs = collect([partial(_at, base, rows) for rows in points])
    _check_twins(points, configs)
    return configs


def _axes(document: Document) -> list[Axis]:
    """Return what to loop over, outermost first; raises ConfigError where `sweep` has not its form."""
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
    grid: list[Axis] = [[(cell,) for cell in column] for part, column in columns if part == "grid"]
    zipped = [column for part, column in columns if part == "zip"]
    _check_lengths(document, zipped)
    return [*grid, list(zip(*zipped, strict=True))] if zipped else grid


def _keys(document: Document, part: str) -> list[str]:
    return list(_part(document, ("sweep", part), "keys, each with a list of values"))


def _part(document: Document, path: Path, what: str) -> dict[str, Any]:
    """Return the mapping at `path` of the sweep; raises ConfigError where there is none, or an empty one."""
    found: Any = document.values
    for key in path:
        found = found[key]
    if not isinstance(found, dict) or not found:
        name = ".".join(map(str, path))
        raise ConfigError([document.place(path).problem(f"{name}: must hold {what}, got {quoted(found)}")])
    return found


def _column(document: Document, part: str, key: str) -> tuple[str, list[Cell]]:
    """Return `part` and the cells of one key of it; raises ConfigError."""
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
    places: list[Places] = [{(): document.place((*path, k))} for k in range(len(values))]
    key_places: list[Places] = [{} for _ in values]
    for of, to in ((document.places, places), (document.key_places, key_places)):
        for found, place in of.items():
            if found[:3] == path and len(found) > 3:
                to[int(found[3])][found[4:]] = place
    return part, [Cell(target, *cell) for cell in zip(values, places, key_places, strict=True)]


def _check_lengths(document: Document, columns: Sequence[Sequence[Cell]]) -> None:
    """Raise ConfigError where the columns of a zip are not of one length."""
    for column in columns[1:]:
        if len(column) != len(columns[0]):
            key, first = (".".join(map(str, cells[0].path)) for cells in (column, columns[0]))
            message = f"sweep.zip.{key}: has {len(column)} values, but {first} has {len(columns[0])}"
            raise ConfigError([document.place(("sweep", "zip", key), at_key=True).problem(message)])


def _without_sweep(document: Document) -> Document:
    tables = (document.places, document.key_places)
    places, key_places = ({p: at for p, at in table.items() if p[:1] != ("sweep",)} for table in tables)
    values = {key: value for key, value in document.values.items() if key != "sweep"}
    return Document(document.source, values, places, key_places, document.problems)


def _at(base: Document, rows: Sequence[Row]) -> Config:
    """Return the config at one point of the sweep; raises ConfigError."""
    cells = [cell for row in rows for cell in row]
    point = copy.copy(base)
    point.values, point.problems = copy.deepcopy(base.values), list(base.problems)
    point.places, point.key_places = dict(base.places), dict(base.key_places)
    for cell in sorted(cells, key=lambda cell: len(cell.path)):  # `optimizer` before `optimizer.momentum`
        apply(point, Setting(cell.path, copy.deepcopy(cell.value), cell.place))
        point.places.update({(*cell.path, *rest): place for rest, place in cell.places.items()})
        point.key_places.update({(*cell.path, *rest): place for rest, place in cell.key_places.items() if rest})
    config = check(point)
    paths = [cell.path for cell in cells]
    if ("name",) in paths:
        return config
    prefix = [config.variant.name] if "name" in base.values else []
    name = " ".join([*prefix, *_differences(config.variant, paths, named=bool(prefix))])[:1000]
    return Config(config.variant.renamed(name), config.seeds)


def _differences(variant: Variant, paths: Sequence[Path], *, named: bool) -> Iterator[str]:
    """Yield the words of a variant's name: the activation, unless it says nothing; then each varied key."""
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


def _check_twins(points: Sequence[Sequence[Row]], configs: Sequence[Config]) -> None:
    """Raise ConfigError where two points are the same variant, at the value that made the second one."""
    seen: dict[str, Sequence[Row]] = {}
    problems: dict[Problem, None] = {}
    for rows, config in zip(points, configs, strict=True):
        first = seen.setdefault(json.dumps(config.variant.identity(), sort_keys=True), rows)
        if first is rows:
            continue
        cell, earlier = next((b[0], a[0]) for a, b in zip(first, rows, strict=True) if a is not b)
        where = f" (as in line {earlier.place.line})" if earlier.place.line else ""
        key = ".".join(map(str, cell.path))
        problems[cell.place.problem(f"{key}: gives a variant that is in the sweep already{where}")] = None
    if problems:
        raise ConfigError(list(problems))
