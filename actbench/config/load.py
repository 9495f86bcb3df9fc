"""Config files and flags -> `Config`, a variant with its seeds; and back to YAML.

Files of one variant are loaded here, those with `sweep:` in `sweep`. The name of a built-in config stands for its file
in `configs/`. All problems in all files and flags are reported together, each with its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypeVar

import actbench
from actbench.config.choices import DEFAULT_SEEDS, REGISTRIES, SEEDS
from actbench.config.document import Document, Path, Place, in_order
from actbench.config.rules import BadValueError, Flaw, sort_out
from actbench.config.variant import KEYS, RECIPE, SETTINGS, Run, Variant, plain_value
from actbench.config.yaml import dump, parse_value, read
from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import quoted

FILE_KEYS = (*KEYS, "seeds", "sweep")
"""Every key that a config file may have."""

_MEANT = {
    "learning_rate": "lr", "initializer": "init", "initialization": "init", "seed": "seeds",
    "scheduler": "schedule", "layers": "hidden", "width": "hidden", "normalization": "batch_norm",
    "augmentation": "augment", "data": "dataset", "momentum": "optimizer.momentum",
}  # fmt: skip
MAX_PROBLEMS = 50

S = TypeVar("S")
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
    """A value that replaces what a file says, from a flag or a sweep."""

    path: Path
    value: Any
    place: Place


def builtin_folder() -> FilePath:
    """Return the folder of the built-in configs: `configs/` in a checkout, or its copy in the installed package."""
    package = FilePath(actbench.__file__).parent
    checkout = package.parent / "configs"
    return checkout if (checkout / "quickstart.yaml").is_file() else package / "config" / "files"


def builtin_configs() -> dict[str, FilePath]:
    """Return the file of each built-in config and sweep by its name, configs first."""
    folder = builtin_folder()
    return {path.stem: path for where in (folder, folder / "sweeps") for path in sorted(where.glob("*.yaml"))}


def find_config(given: str | FilePath) -> FilePath:
    """Return the file that `given` means: a path, or else the name of a built-in config.

    Only a name without a folder and a suffix can mean a built-in config, and a file of that name comes first. Raises
    ConfigError for a name that means neither.
    """
    path = FilePath(given)
    if path.name != str(given) or path.suffix or path.is_file():
        return path
    known = builtin_configs()
    if path.name in known:
        return known[path.name]
    if os.path.lexists(path):
        return path  # a folder, say; reading it fails and says so
    near = suggestion(path.name, [*known, *local_configs()])
    message = f"no such file, and no built-in config has this name{near or '.'} See: actbench list configs"
    raise ConfigError([Problem(path.name, message)])


def local_configs() -> list[str]:
    """Return the names of the YAML files in the current folder."""
    return sorted(path.name for path in FilePath().glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def load(path: str | FilePath, changes: Iterable[Setting] = ()) -> Config:
    """Return the config in the file `path`, with the changes made. Raises ConfigError, also if the file is a sweep."""
    return check(open_config(path, changes))


def open_config(path: str | FilePath, changes: Iterable[Setting] = ()) -> Document:
    """Return the unchecked values of a file, or of a built-in config by its name, with the changes made.

    Raises ConfigError.
    """
    return changed(read(find_config(path)), changes)


def changed(document: Document, changes: Iterable[Setting]) -> Document:
    """Make the changes in `document` and return it. `optimizer.momentum` turns a name into a mapping.

    A change that is impossible becomes one of the document's problems.
    """
    for path, value, place in changes:
        key = str(path[0])
        held = document.values.get(key)
        if len(path) > 1 and key in REGISTRIES and not isinstance(held, Mapping):
            if isinstance(held, list):
                document.problems.append(place.problem(f"{key}: is a chain; set all of it: {key}=[relu, sigmoid]"))
                continue
            start = document.place((key,)) if key in document.values else place
            document.put((key,), {"name": plain_value(key, RECIPE[key]) if held is None else held}, start)
        elif len(path) > 1 and key in FILE_KEYS and key not in (*REGISTRIES, "dataset", "augment", "sweep"):
            document.problems.append(place.problem(f"{key}: has no parts; write {key}=..."))
            continue
        document.put(path, value, place)
    return document


def settings(
    overrides: Sequence[str] = (), *, seeds: str | None = None, seed: int | None = None, device: str | None = None
) -> list[Setting]:
    """Return what the flags `--set key=value ...`, `--seeds`, `--seed` and `--device` change.

    Raises ConfigError for flags that cannot be parsed; `check` decides whether their values are allowed.
    """
    if seeds is not None and seed is not None:
        raise ConfigError([Problem(f"--seed {seed}", "cannot be combined with --seeds; give one of them")])
    found = collect(_parse_setting, overrides)
    if seeds is not None:
        place = Place(f"--seeds {seeds}")
        is_list = "," in seeds and not seeds.lstrip().startswith("[")
        found.append(Setting(("seeds",), parse_value(f"[{seeds}]" if is_list else seeds, place.source), place))
    if seed is not None:
        found.append(Setting(("seeds",), [seed], Place(f"--seed {seed}")))
    if device is not None:
        found.append(Setting(("device",), device, Place(f"--device {device}")))
    return found


def _parse_setting(text: str) -> Setting:
    """Return what one `--set key=value` says; raises ConfigError."""
    place = Place(f"--set {text}")
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError([place.problem("must be key=value, such as lr=0.01 or optimizer.momentum=0.9")])
    return Setting(path, parse_value(value, place.source), place)


def check(document: Document) -> Config:
    """Return the config of the one variant that `document` holds; raises ConfigError with every problem."""
    if "sweep" in document.values:
        message = f"this file is a sweep; run it with: actbench sweep -c {document.source}"
        raise ConfigError([document.place(("sweep",), at_key=True).problem(message)])
    overridden = any(key in SETTINGS and not is_own(document, key) for key in document.values)
    return checked(without_name(document) if overridden else document, config_of)


def is_own(document: Document, key: str) -> bool:
    """Whether the value of a key comes from the document's own file, or mapping, and no part of it from a flag."""

    def all_own(place: Place) -> bool:
        return place.source == document.source and all(map(all_own, place.parts.values()))

    place = document.place(()).parts.get(key)
    return place is None or all_own(place)


def without_name(document: Document) -> Document:
    """Return a document whose settings flags have changed, so that its own name may be false; one from a flag stays.

    A name in a file describes what is in the file. Without it, a variant is named after its settings.
    """
    values = {key: value for key, value in document.values.items() if key != "name"}
    return replace(document, values=values) if is_own(document, "name") else document


def config_of(values: Mapping[str, Any]) -> Config:
    """Return the config that `values` hold; raises `BadValueError` with every flaw."""
    seeds, flaws = sort_out({"seeds": values.get("seeds", DEFAULT_SEEDS)}, lambda _, value: SEEDS.check(value))
    flaws += [Flaw((key,), unknown_key(key), at_key=True) for key in values if key not in FILE_KEYS]
    try:
        variant = Variant(**{key: value for key, value in values.items() if key in KEYS})
    except BadValueError as bad:
        raise BadValueError([*flaws, *bad.flaws]) from None
    if flaws:
        raise BadValueError(flaws)
    return Config(variant, **seeds)


def checked(document: Document, check: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what `check` makes of the document's values. Raises ConfigError with its flaws and earlier problems.

    They are in the order of the file; those of flags come last.
    """
    flaws: Sequence[Flaw] = ()
    try:
        found = check(document.values)
    except BadValueError as bad:
        flaws = bad.flaws
    if problems := [*document.problems, *(_problem(document, flaw) for flaw in flaws)]:
        raise ConfigError(in_order(problems))
    return found


def _problem(document: Document, flaw: Flaw) -> Problem:
    """Return the flaw with its place; a contradiction is shown at the first of its keys that was given."""
    given = next((key for key in flaw.keys if key in document.values), None)
    path = flaw.path if not flaw.keys or flaw.path[0] == given or given is None else (given,)
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in flaw.path).lstrip(".")
    is_top_key = flaw.at_key and len(flaw.path) == 1
    message = flaw.message if is_top_key else f"{dotted}: {flaw.message}"
    return document.place(path, at_key=flaw.at_key).problem(message)


def unknown_key(key: str) -> str:
    """Return the message for an unknown key, with the key that was probably meant."""
    meant = _MEANT.get(key.casefold())
    near = f"; did you mean {meant!r}?" if meant else suggestion(key, FILE_KEYS)
    return f"unknown key {quoted(key)}{near or '; see: actbench schema'}"


def collect(make: Callable[[S], T], sources: Iterable[S]) -> list[T]:
    """Return what `make` makes of each source, or raise one ConfigError with the problems of those that fail.

    It stops after `MAX_PROBLEMS` problems.
    """
    found: list[T] = []
    problems: dict[Problem, None] = {}  # a flag's mistake comes up again for every file: report it once
    for source in sources:
        try:
            found.append(make(source))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
        if len(problems) > MAX_PROBLEMS:
            first = list(problems)[:MAX_PROBLEMS]
            rest = Problem(first[-1].source, f"and more; these are the first {MAX_PROBLEMS} problems")
            raise ConfigError([*first, rest])
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
