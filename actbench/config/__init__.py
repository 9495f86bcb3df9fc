"""Config files and flags -> `Config`: a variant and its seeds; and back to YAML (layer 2).

Imports `errors`, `variant`, `fields`, `rules`, `schema` and the YAML modules. Files of one variant are read
here, those with `sweep:` in `grid`. All problems of all files and flags are reported at once, each with its
place. This module is also where other parts import `Variant`, `Run` and `Choice` from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from actbench.config.fields import DEFAULT_SEEDS, REGISTRIES, Augment, Choice, Seeds
from actbench.config.rules import BadValueError, Flaw, Path
from actbench.config.schema import json_schema
from actbench.config.variant import RECIPE, Run, Variant, plain_value
from actbench.config.yaml_source import Document, Place, parse_value, read
from actbench.config.yaml_values import dump
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted, readable

__all__ = ["Augment", "Choice", "Config", "Run", "Setting", "Variant", "json_schema"]

KEYS = (*Variant.model_fields, "seeds", "sweep")
_MEANT = {
    "learning_rate": "lr", "initializer": "init", "initialization": "init", "seed": "seeds",
    "scheduler": "schedule", "layers": "hidden", "width": "hidden", "normalization": "batch_norm",
    "augmentation": "augment", "data": "dataset", "momentum": "optimizer.momentum",
}  # fmt: skip
MAX_PROBLEMS = 50

T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """A variant and the seeds it is trained with."""

    variant: Variant
    seeds: tuple[int, ...]

    def runs(self) -> list[Run]:
        """Return one run a seed, in the order of the seeds."""
        return [Run(self.variant, seed) for seed in self.seeds]


class Setting(NamedTuple):
    """A value that a flag puts in the place of what a file says."""

    path: Path
    value: Any
    place: Place


def load(
    path: str | FilePath,
    overrides: Sequence[str] = (),
    *,
    seeds: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Config:
    """Return the config in the file `path`, changed by `overrides` (`key=value`) and the flags of that name.

    Raises ConfigError with everything that is wrong, also when the file is a sweep.
    """
    return load_all([path], overrides, seeds=seeds, seed=seed, device=device)[0]


def load_all(
    paths: Sequence[str | FilePath],
    overrides: Sequence[str] = (),
    *,
    seeds: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> list[Config]:
    """Return one config a file, like `load`; raises one ConfigError with the problems of all files."""
    changes = settings(overrides, seeds=seeds, seed=seed, device=device)
    return collect([partial(_load_one, path, changes) for path in paths])


def _load_one(path: str | FilePath, changes: Sequence[Setting]) -> Config:
    return single(open_config(path, changes))


def single(document: Document) -> Config:
    """Return the config of the one variant that `document` holds; raises ConfigError, also for a sweep."""
    if "sweep" in document.values:
        place = document.place(("sweep",), at_key=True)
        message = f"this file is a sweep; run it with: actbench sweep -c {document.source}"
        raise ConfigError([place.problem(message)])
    return check(document)


def from_mapping(values: Mapping[str, Any], source: str = "config") -> Config:
    """Return the config that plain `values` hold, as `resolved` gives them; raises ConfigError."""
    return check(Document(source, dict(values)))


def open_config(path: str | FilePath, changes: Sequence[Setting] = ()) -> Document:
    """Return the values of the file `path` with the `changes` made, not checked yet; raises ConfigError."""
    document = read(path)
    for change in changes:
        apply(document, change)
    return document


def settings(
    overrides: Sequence[str] = (),
    *,
    seeds: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> list[Setting]:
    """Return what the flags `--set key=value ...`, `--seeds`, `--seed` and `--device` change.

    Raises ConfigError for flags that cannot be read; whether their values are allowed is found by `check`.
    """
    if seeds is not None and seed is not None:
        raise ConfigError([Problem(f"--seed {seed}", "cannot be combined with --seeds; give one of them")])
    found = collect([partial(parse_setting, text) for text in overrides])
    if seeds is not None:
        source = readable(f"--seeds {seeds}")
        found.append(Setting(("seeds",), _seeds_value(seeds, source), Place(source)))
    if seed is not None:
        found.append(Setting(("seeds",), [seed], Place(f"--seed {seed}")))
    if device is not None:
        found.append(Setting(("device",), device, Place(readable(f"--device {device}"))))
    return found


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that `--seeds` names: "5" means 0 to 4, "3,7" those two. Raises ConfigError."""
    source = readable(f"--seeds {text}")
    try:
        return Seeds().check(_seeds_value(text, source))
    except BadValueError as bad:
        raise ConfigError([Problem(source, flaw.message) for flaw in bad.flaws]) from None


def _seeds_value(text: str, source: str) -> Any:
    is_list = "," in text and not text.lstrip().startswith("[")
    return parse_value(f"[{text}]" if is_list else text, source)


def parse_setting(text: str) -> Setting:
    """Return what one `--set key=value` says; raises ConfigError."""
    source = readable(f"--set {text}")
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError([Problem(source, "must be key=value, such as lr=0.01 or optimizer.momentum=0.9")])
    return Setting(path, parse_value(value, source), Place(source))


def apply(document: Document, change: Setting) -> None:
    """Make one change, or note why it cannot be made; `optimizer.momentum` makes a mapping of a name."""
    path, value, place = change
    key = str(path[0])
    held = document.values.get(key)
    if len(path) > 1 and key in REGISTRIES and not isinstance(held, dict):
        if isinstance(held, list):
            document.problems.append(place.problem(f"{key}: is a chain; set all of it: {key}=[relu, sigmoid]"))
            return
        start = document.place((key,)) if key in document.values else place
        document.put((key,), {"name": plain_value(key, RECIPE[key]) if held is None else held}, start)
    elif len(path) > 1 and key in KEYS and key not in (*REGISTRIES, "augment", "sweep"):
        document.problems.append(place.problem(f"{key}: has no parts; write {key}=..."))
        return
    document.put(path, value, place)


def check(document: Document) -> Config:
    """Return the config that `document` holds (its `sweep` aside); raises ConfigError with all problems."""
    values = {key: value for key, value in document.values.items() if key not in ("seeds", "sweep")}
    seeds: tuple[int, ...] = ()
    flaws = []
    try:
        seeds = Seeds().check(document.values.get("seeds", DEFAULT_SEEDS))
    except BadValueError as bad:
        flaws += [replace(flaw, path=("seeds", *flaw.path)) for flaw in bad.flaws]
    try:
        variant = Variant.model_validate(values)
    except ValidationError as error:
        flaws += _all_flaws(values, error)
    if problems := [*document.problems, *(_problem(document, flaw) for flaw in flaws)]:
        raise ConfigError(sorted(problems, key=_order))
    return Config(variant, seeds)


def _all_flaws(values: dict[str, Any], error: ValidationError) -> list[Flaw]:
    """Return the flaws of single keys, and the clashes between the keys that are sound each for itself."""
    flaws = list(_flaws(error))
    wrong = {flaw.path[0] for flaw in flaws if not flaw.keys}
    if not wrong:
        return flaws
    try:
        Variant.model_validate({key: value for key, value in values.items() if key not in wrong})
    except ValidationError as other:
        flaws += [flaw for flaw in _flaws(other) if not wrong & set(flaw.keys)]
    return flaws


def _flaws(error: ValidationError) -> Iterator[Flaw]:
    for found in error.errors(include_url=False, include_input=False):
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, BadValueError):
            yield from (replace(flaw, path=(*found["loc"], *flaw.path)) for flaw in cause.flaws)
        elif found["type"] == "extra_forbidden":
            yield Flaw(found["loc"], unknown_key(str(found["loc"][0])), at_key=True)
        elif found["type"] != "default_factory_not_called":  # that one only says that there are others
            yield Flaw(found["loc"], found["msg"])


def unknown_key(key: str) -> str:
    """Say that there is no such key, and which one may be meant."""
    meant = _MEANT.get(key.casefold())
    near = f"; did you mean {meant!r}?" if meant else suggestion(key, KEYS)
    return f"unknown key {quoted(key)}{near or '; see: actbench schema'}"


def _problem(document: Document, flaw: Flaw) -> Problem:
    """Return the flaw with its place: its key's, or that of the first of its keys which was given."""
    given = next((key for key in flaw.keys if key in document.values), None)
    path = flaw.path if not flaw.keys or flaw.path[0] == given or given is None else (given,)
    top_key = flaw.at_key and len(flaw.path) == 1
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in flaw.path).lstrip(".")
    message = flaw.message if top_key else f"{readable(name)}: {flaw.message}"
    return document.place(path, at_key=flaw.at_key).problem(message)


def _order(problem: Problem) -> tuple[float, int]:
    """Sort by line and column; what came from a flag goes last."""
    return (problem.line if problem.line is not None else math.inf, problem.column or 0)


def collect(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Return what the calls return; raise one ConfigError with the problems of those that failed.

    After `MAX_PROBLEMS` problems no further call is made.
    """
    found: list[T] = []
    problems: dict[Problem, None] = {}  # what a flag does wrong, it does in every file: say it once
    for call in calls:
        try:
            found.append(call())
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
            if len(problems) > MAX_PROBLEMS:
                shown_first = list(problems)[:MAX_PROBLEMS]
                rest = Problem(shown_first[-1].source, f"and more; these are the first {MAX_PROBLEMS} problems")
                raise ConfigError([*shown_first, rest]) from None
    if problems:
        raise ConfigError(list(problems))
    return found


def resolved(variant: Variant, seeds: Sequence[int]) -> dict[str, Any]:
    """Return all keys as plain values that load back as the same config; n for the seeds 0 to n - 1."""
    counted = tuple(seeds) == tuple(range(len(seeds)))
    return {**variant.plain(), "seeds": len(seeds) if counted else list(seeds)}


def to_yaml(variant: Variant, seeds: Sequence[int]) -> str:
    """Return the resolved config as YAML: what `--print-config` prints and the store keeps."""
    return dump(resolved(variant, seeds))
