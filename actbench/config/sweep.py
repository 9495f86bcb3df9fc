"""Sweeps: `sweep:` in a file and `-g` flags -> one config per variant.

The variants come in the order of nested loops over the keys of `grid` as written (the last one changes fastest), then
over the rows of `zip`.

    sweep:
      grid: {activation: [relu, tanh], lr: [1e-3, 1e-2]}  # every combination
      zip: {init: [he_normal, xavier_normal], epochs: [10, 20]}  # the first values together, then the second values
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from actbench.config.choices import Augment, Choice, short
from actbench.config.document import Document, Path, Place
from actbench.config.load import (
    FILE_KEYS,
    Config,
    Setting,
    changed,
    check,
    checked,
    collect,
    config_of,
    is_own,
    open_config,
    unknown_key,
    without_name,
)
from actbench.config.rules import BadValueError, Flaw, check_each, mapping_of, named
from actbench.config.variant import SETTINGS, Variant, flat_value
from actbench.config.yaml import parse_value
from actbench.errors import ConfigError, Problem
from actbench.text import plural, quoted

MAX_VARIANTS = 10_000
MAX_RUNS = 1_000_000

Step = tuple[Setting, ...]
"""What one turn of a loop sets: one config key (a key of `grid`) or several that go together (`zip`)."""


def load_sweep(
    paths: Sequence[str | FilePath], changes: Sequence[Setting] = (), grids: Sequence[str] = ()
) -> list[Config]:
    """Return the configs of all variants in the files at `paths`, in order; a file without a sweep is one variant.

    `grids` are the texts of `-g` flags (`lr=1e-3,1e-2`), each of which sets a key of `sweep.grid`. Raises ConfigError
    with every problem.
    """
    columns = collect(parse_grid, grids)
    return list(itertools.chain(*collect(lambda path: expand(open_config(path, changes), columns), paths)))


def parse_grid(text: str) -> Setting:
    """Return what one `-g key=value,value` says; raises ConfigError."""
    place = Place(f"-g {text}")
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([place.problem("must be key=value,value such as lr=0.001,0.01")])
    return Setting(("sweep", "grid", key.strip()), parse_value(f"[{values}]", place.source), place)


def expand(document: Document, columns: Sequence[Setting] = ()) -> list[Config]:
    """Return one config per variant of `document`, with `columns` put into its sweep; raises ConfigError.

    Each value is checked by itself before values are combined, so a wrong one is reported once.
    """
    overridden = {str(column.path[-1]).split(".")[0] for column in columns} & document.values.keys()
    if isinstance(document.values.get("sweep", {}), Mapping):  # anything else is refused below
        for column in columns:
            document.put(*column)
    if "sweep" not in document.values:
        return [check(document)]
    axes = _axes(document)
    place = document.place(("sweep",), at_key=True)
    variants = math.prod(len(axis) for axis in axes)
    if variants > MAX_VARIANTS:
        message = f"sweep: makes {variants:,} variants; at most {MAX_VARIANTS:,} are allowed"
        raise ConfigError([place.problem(message)])
    varied = {setting.path[0] for axis in axes for step in axis for setting in step}
    base = replace(document, values={key: value for key, value in document.values.items() if key != "sweep"})
    changed_keys = {key for key in base.values if not is_own(document, key)}
    if not {*SETTINGS}.isdisjoint((overridden - changed_keys) | (changed_keys - varied)):
        base = without_name(base)
    config_at = partial(_config_at, base)
    first = [axis[0] for axis in axes]
    singly = ([*first[:k], step, *first[k + 1 :]] for k, axis in enumerate(axes) for step in axis)
    seeds = len(collect(config_at, singly)[0].seeds)
    if variants * seeds > MAX_RUNS:
        message = f"sweep: {variants:,} variants with {seeds:,} seeds are {variants * seeds:,} runs"
        raise ConfigError([place.problem(f"{message}; at most {MAX_RUNS:,} are allowed")])
    points = list(itertools.product(*axes))
    configs = collect(config_at, points)
    _check_twins(points, configs)
    return configs


def _axes(document: Document) -> list[list[Step]]:
    """Return what to loop over, outermost first; raises ConfigError if `sweep` has the wrong form."""
    form = {"sweep": document.values["sweep"]}
    sweep = checked(replace(document, problems=[]), lambda _: check_each(form, _check_parts))["sweep"]
    columns: dict[str, list[list[Setting]]] = {"grid": [], "zip": []}
    for part in sweep:
        for key, values in sweep[part].items():
            path, places = tuple(key.split(".")), (document.place(("sweep", part, key, k)) for k in range(len(values)))
            columns[part].append([Setting(path, *one) for one in zip(values, places, strict=True)])
    rows: list[Step] = list(zip(*columns["zip"], strict=True))
    axes: list[list[Step]] = [[(one,) for one in column] for column in columns["grid"]]
    return [*axes, rows] if rows else axes


def _check_parts(_: str, sweep: Any) -> dict[str, dict[str, list[Any]]]:
    """Return the lists of values by part and key; raises `BadValueError`."""
    if not isinstance(sweep, Mapping) or not sweep:
        raise BadValueError(f"must contain grid, zip or both, got {quoted(sweep)}")
    found: dict[str, dict[str, list[Any]]] = _PARTS.check(sweep)
    flaws: list[Flaw] = []
    zipped = found.get("zip", {})
    for key, values in zipped.items():
        first = next(iter(zipped))
        if key in found.get("grid", {}):
            flaws.append(Flaw(("zip", key), "is also in grid; remove it from one of them", at_key=True))
        elif len(values) != len(zipped[first]):
            message = f"has {plural(len(values), 'value')}, but {first} has {len(zipped[first])}"
            flaws.append(Flaw(("zip", key), message, at_key=True))
    if flaws:
        raise BadValueError(flaws)
    return found


def _check_column(key: str, values: Any) -> list[Any]:
    top = key.split(".")[0]
    if top not in FILE_KEYS:
        raise BadValueError([Flaw((), unknown_key(top), at_key=True)])
    if top in ("seeds", "sweep"):
        raise BadValueError([Flaw((), f"{top} is not part of a variant; remove it", at_key=True)])
    if not isinstance(values, list) or not values:
        raise BadValueError(f"must be a list of values such as [a, b], got {quoted(values)}")
    return values


_COLUMNS = named("keys, each with a list of values", _check_column, {})
_PARTS = mapping_of({"grid": _COLUMNS, "zip": _COLUMNS})


def _config_at(base: Document, steps: Sequence[Step]) -> Config:
    """Return the config at one point of the sweep; raises ConfigError."""
    settings = sorted(itertools.chain(*steps), key=lambda setting: len(setting.path))  # `optimizer` before its parts
    config = checked(changed(replace(base, problems=list(base.problems)), settings), config_of)
    paths = [setting.path for step in steps for setting in step]
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


def _check_twins(points: Sequence[Sequence[Step]], configs: Sequence[Config]) -> None:
    """Raise ConfigError if two points are the same variant, at the value that made the second one."""
    seen: dict[str, Sequence[Step]] = {}
    problems: dict[Problem, None] = {}
    for steps, config in zip(points, configs, strict=True):
        first = seen.setdefault(json.dumps(config.variant.identity(), sort_keys=True), steps)
        if first is not steps:
            again, earlier = next((b[0], a[0]) for a, b in zip(first, steps, strict=True) if a is not b)
            where = f" (as in line {earlier.place.line})" if earlier.place.line else ""
            key = ".".join(map(str, again.path))
            problems[again.place.problem(f"{key}: gives a variant that is already in the sweep{where}")] = None
    if problems:
        raise ConfigError(list(problems))
