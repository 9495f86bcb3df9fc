"""Config files and flags -> `Config`, a variant with its seeds; and back to YAML.

Files of one variant are loaded here, those with `sweep:` in `sweep`. All problems in all files and flags are reported
together, each with its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

from actbench.config.builtin import find_config
from actbench.config.choices import DEFAULT_SEEDS, REGISTRIES, SEEDS
from actbench.config.rules import BadValueError, Flaw
from actbench.config.scalars import dump
from actbench.config.variant import KEYS, RECIPE, Run, Variant, plain_value
from actbench.config.yaml import Document, Path, Place, parse_value, read
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted, readable

FILE_KEYS = (*KEYS, "seeds", "sweep")
"""Every key that a config file may have."""

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
        """Return one run per seed, in the order of the seeds."""
        return [Run(self.variant, seed) for seed in self.seeds]


class Setting(NamedTuple):
    """A value from a flag, which replaces what a file says."""

    path: Path
    value: Any
    place: Place


class FlagValues(TypedDict, total=False):
    """The values of the flags `--seeds`, `--seed` and `--device`."""

    seeds: str | None
    seed: int | None
    device: str | None


def load(path: str | FilePath, overrides: Sequence[str] = (), **flags: Unpack[FlagValues]) -> Config:
    """Return the config in the file `path`, changed by `overrides` (`key=value`) and the flags of the same names.

    Raises ConfigError with every problem, also if the file is a sweep.
    """
    return load_all([path], overrides, **flags)[0]


def load_all(
    paths: Sequence[str | FilePath], overrides: Sequence[str] = (), **flags: Unpack[FlagValues]
) -> list[Config]:
    """Return one config per file, like `load`; raises one ConfigError with the problems in all files."""
    changes = settings(overrides, **flags)

    def config(path: str | FilePath) -> Config:
        return single(open_config(path, changes))

    return collect([partial(config, path) for path in paths])


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
    """Return the unchecked values of a file, or of a built-in config by its name, with the `changes` made.

    Raises ConfigError.
    """
    document = read(find_config(path))
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

    Raises ConfigError for flags that cannot be parsed; `check` decides whether their values are allowed.
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
        seeds: tuple[int, ...] = SEEDS.check(_seeds_value(text, source))
    except BadValueError as bad:
        raise ConfigError([Problem(source, flaw.message) for flaw in bad.flaws]) from None
    return seeds


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
    """Make one change, or note why it is impossible; `optimizer.momentum` turns a name into a mapping."""
    path, value, place = change
    key = str(path[0])
    held = document.values.get(key)
    if len(path) > 1 and key in REGISTRIES and not isinstance(held, dict):
        if isinstance(held, list):
            document.problems.append(place.problem(f"{key}: is a chain; set all of it: {key}=[relu, sigmoid]"))
            return
        start = document.place((key,)) if key in document.values else place
        document.put((key,), {"name": plain_value(key, RECIPE[key]) if held is None else held}, start)
    elif len(path) > 1 and key in FILE_KEYS and key not in (*REGISTRIES, "augment", "sweep"):
        document.problems.append(place.problem(f"{key}: has no parts; write {key}=..."))
        return
    document.put(path, value, place)


def check(document: Document) -> Config:
    """Return the config that `document` holds (its `sweep` aside); raises ConfigError with every problem."""
    given = {key: value for key, value in document.values.items() if key in KEYS}
    unknown = [key for key in document.values if key not in FILE_KEYS]
    flaws = [Flaw((key,), unknown_key(key), at_key=True) for key in unknown]
    try:
        seeds = SEEDS.check(document.values.get("seeds", DEFAULT_SEEDS))
    except BadValueError as bad:
        flaws += bad.inside("seeds")
    try:
        variant = Variant(**given)
    except BadValueError as bad:
        flaws += bad.flaws
    if problems := [*document.problems, *(problem_at(document, flaw) for flaw in flaws)]:
        raise ConfigError(sorted(problems, key=file_order))
    return Config(variant, seeds)


def unknown_key(key: str) -> str:
    """Return the message for an unknown key, with the key that was probably meant."""
    meant = _MEANT.get(key.casefold())
    near = f"; did you mean {meant!r}?" if meant else suggestion(key, FILE_KEYS)
    return f"unknown key {quoted(key)}{near or '; see: actbench schema'}"


def problem_at(document: Document, flaw: Flaw) -> Problem:
    """Return the flaw with its place; a contradiction is shown at the first of its keys that was given."""
    given = next((key for key in flaw.keys if key in document.values), None)
    path = flaw.path if not flaw.keys or flaw.path[0] == given or given is None else (given,)
    top_key = flaw.at_key and len(flaw.path) == 1
    message = flaw.message if top_key else f"{dotted(flaw.path)}: {flaw.message}"
    return document.place(path, at_key=flaw.at_key).problem(message)


def dotted(path: Path) -> str:
    """Return a path as messages show it: `optimizer.momentum`, `hidden[1]`."""
    return readable("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip("."))


def file_order(problem: Problem) -> tuple[float, int]:
    """Sort by line and column; problems of flags go last."""
    return (problem.line if problem.line is not None else math.inf, problem.column or 0)


def collect(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Return what the calls return, or raise one ConfigError with the problems of those that fail.

    No further call is made after `MAX_PROBLEMS` problems.
    """
    found: list[T] = []
    problems: dict[Problem, None] = {}  # a flag's mistake comes up again for every file: report it once
    for call in calls:
        try:
            found.append(call())
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
            if len(problems) > MAX_PROBLEMS:
                first = list(problems)[:MAX_PROBLEMS]
                rest = Problem(first[-1].source, f"and more; these are the first {MAX_PROBLEMS} problems")
                raise ConfigError([*first, rest]) from None
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
