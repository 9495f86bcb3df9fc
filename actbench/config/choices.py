"""The config keys that hold more than a number or text: choices from a registry, seeds, augmentation and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from actbench.activations import ACTIVATIONS
from actbench.config.rules import (
    TEXT,
    BadValueError,
    Flaw,
    Rule,
    Schema,
    check_each,
    converted,
    integer,
    list_of,
    mapping_of,
    one_of,
    parameter_rule,
)
from actbench.datasets import DATASETS, OwnData, own
from actbench.errors import DataError, suggestion
from actbench.initializers import INITIALIZERS
from actbench.optimizers import OPTIMIZERS
from actbench.registry import Parameter, Registry, Value
from actbench.schedules import SCHEDULES
from actbench.text import quoted, value_text

REGISTRIES: dict[str, Registry[Any]] = {
    "activation": ACTIVATIONS,
    "init": INITIALIZERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The keys that choose an entry of a registry: a name, or a mapping of `name` and parameters."""

_LISTED = {"activation": "activations", "init": "inits", "optimizer": "optimizers"}
MAX_SEED = 2**63 - 1
MAX_SEEDS = 10_000
DEFAULT_SEEDS = 5
MAX_CHAIN = 8


@dataclass(frozen=True)
class Choice:
    """An entry of a registry that a config chose, with all its parameters.

    `defaults` are the entry's own: `label` and `plain` leave out the parameters that equal them.
    """

    name: str
    params: dict[str, Value] = field(default_factory=dict)
    defaults: dict[str, Value] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, key: str, name: str, **given: Any) -> Choice:
        """Return entry `name` of the registry behind the config key `key`, with its defaults filled in.

        Raises `UnknownNameError` and `UsageError` like `Registry.complete`.
        """
        registry = REGISTRIES[key]
        return cls(name, registry.complete(name, given), registry.complete(name, {}))

    def __hash__(self) -> int:
        return hash((self.name, *self.params.values()))

    @property
    def changed(self) -> dict[str, Value]:
        """The parameters that differ from their defaults."""
        return {key: value for key, value in self.params.items() if self.defaults.get(key) != value}

    @property
    def label(self) -> str:
        """How tables show it: `leaky_relu(negative_slope=0.2)`, or the name alone."""
        inner = ", ".join(f"{key}={short(value)}" for key, value in self.changed.items())
        return f"{self.name}({inner})" if inner else self.name

    @property
    def plain(self) -> str | dict[str, Value]:
        """How YAML writes it: the name alone, or a mapping with the changed parameters."""
        return {"name": self.name, **self.changed} if self.changed else self.name


def short(value: Value | None) -> str:
    """Return a value as names and labels show it: `0.2`, `1`, `true`, `none`."""
    text = value_text(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def choice_of(key: str) -> Rule:
    """Return the rule for one entry of the registry behind the config key `key`, held as a `Choice`."""
    registry = REGISTRIES[key]
    names = one_of(registry.kind, tuple(registry), f"See: actbench list {_LISTED[key]}" if key in _LISTED else "")
    parameters = {entry.name: _parameters(entry.name, entry.parameters) for entry in registry.values()}

    def check(value: Any) -> Choice:
        if isinstance(value, Choice):
            value = {"name": value.name, **value.params}
        if not isinstance(value, Mapping):
            return Choice.of(key, names.check(value))
        if "name" not in value:
            raise BadValueError(f"needs a name as well as its parameters, such as {example}")
        name = check_each({"name": value["name"]}, lambda _, name: names.check(name))["name"]
        given = parameters[name].check({parameter: found for parameter, found in value.items() if parameter != "name"})
        choice = Choice.of(key, name, **given)
        _check_pairs(choice)
        return choice

    entry = next(entry for entry in registry.values() if entry.parameters)
    example = f"{{name: {entry.name}, {entry.parameters[0].name}: {short(entry.parameters[0].default)}}}"
    return Rule(check, {"$ref": f"#/$defs/{key}"})


def choice_schema(key: str) -> Schema:
    """Return the JSON Schema of a choice for `key`, which the schemas of its rules refer to as `#/$defs/<key>`."""
    mappings = []
    for entry in REGISTRIES[key].values():
        schema = _parameters(entry.name, entry.parameters).schema
        properties = {"name": {"const": entry.name}, **schema["properties"]}
        mappings.append({**schema, "title": entry.name, "properties": properties, "required": ["name"]})
    return {"anyOf": [{"enum": list(REGISTRIES[key])}, *mappings]}


def _parameters(owner: str, parameters: Sequence[Parameter]) -> Rule:
    return mapping_of({parameter.name: parameter_rule(parameter) for parameter in parameters}, owner=owner)


def _check_pairs(choice: Choice) -> None:
    """Raise `BadValueError` if two parameters of a choice contradict each other."""
    lower, upper = choice.params.get("lower", 0), choice.params.get("upper", 0)  # rrelu's
    if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
        raise BadValueError([Flaw(("lower",), f"must not be above upper, got {short(lower)} > {short(upper)}")])
    if choice.params.get("nesterov") is True and not choice.params.get("momentum"):
        raise BadValueError([Flaw(("nesterov",), "needs momentum > 0; set it, or write `optimizer: nesterov`")])


def either(is_list: Rule, single: Rule) -> Rule:
    """Return the rule for a list, or else for a single value."""

    def check(value: Any) -> Any:
        return is_list.check(value) if isinstance(value, list | tuple) else single.check(value)

    return Rule(check, {"anyOf": [single.schema, is_list.schema]})


_LINK = choice_of("activation")
CHAIN = either(list_of(_LINK, 1, MAX_CHAIN, "[relu, sigmoid]"), Rule(lambda value: (_LINK.check(value),), _LINK.schema))
"""One activation, or a list of them in the order in which they are applied; held as a tuple of `Choice`."""

NORM = converted(parameter_rule(Parameter("", False, "", choices=("before", "after"))), {True: "before"})
"""Where BatchNorm is: nowhere (False), before the activation (true means the same), or after it."""

_DATASET = one_of("dataset", tuple(DATASETS), "See: actbench list datasets")
_COUNT = integer(1, own.MAX_NUMBERS)
_OWN = mapping_of(
    {
        "npz": TEXT.described("an npz file with x_train, y_train, x_test and y_test"),
        "idx": TEXT.described("a folder with four files in MNIST's format"),
        "sha256": Rule(TEXT.check, {"type": "string", "pattern": "^[0-9a-f]{64}$"}).described("hash of the content"),
        "train": _COUNT, "test": _COUNT, "inputs": _COUNT, "classes": integer(2, own.MAX_CLASSES), "side": _COUNT,
    },
    owner="dataset",
)  # fmt: skip


def _check_dataset(value: Any) -> str | OwnData:
    if isinstance(value, OwnData):
        value = value.plain
    if not isinstance(value, Mapping):
        return str(_DATASET.check(value))
    facts = _OWN.check(value)
    kinds = [kind for kind in own.KINDS if kind in facts]
    if len(kinds) != 1:
        raise BadValueError("must be the name of a dataset, {npz: FILE} or {idx: FOLDER}")
    kind, path = kinds[0], facts.pop(kinds[0])
    try:
        path = TEXT.check(str(Path(path).expanduser().absolute()))
    except RuntimeError:
        raise BadValueError([Flaw((kind,), "there is no home folder; write the whole path")]) from None
    if facts.keys() >= _FACTS:  # a resolved config: the data is read and checked only to train on it
        return OwnData(kind, path, **facts)
    try:
        found = own.read(kind, path).data
    except DataError as error:
        raise BadValueError([Flaw((kind,), str(error))]) from None
    for key, expected in facts.items():
        if (there := getattr(found, key)) != expected:
            raise BadValueError([Flaw((key,), f"is {there} in {path}, but this config expects {expected}")])
    return found


_FACTS = {"sha256", "train", "test", "inputs", "classes"}
DATASET = Rule(_check_dataset, {"anyOf": [_DATASET.schema, _OWN.schema]})
"""What to train and test on: the name of a dataset, or `OwnData`, which is read to find out what it is."""

_DEVICE = "auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?"


def _check_device(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_DEVICE, value):
        return str(value)
    hint = suggestion(value, ("auto", "cpu", "cuda")) if isinstance(value, str) else ""
    raise BadValueError(f"must be auto, cpu, cuda or cuda:N, got {quoted(value)}{hint}")


DEVICE = Rule(_check_device, {"type": "string", "pattern": f"^({_DEVICE})$"})
"""Where to train: auto, cpu, cuda or cuda:N. Training checks whether it is available."""


@dataclass(frozen=True)
class Augment:
    """Random changes to every training image: rotated, shifted and scaled by up to these amounts."""

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0

    @property
    def plain(self) -> dict[str, float]:
        """How YAML writes it: the amounts that are not zero."""
        return {key: value for key, value in asdict(self).items() if value}

    @property
    def label(self) -> str:
        """How tables show it: `rotation=10, shift=2`."""
        return ", ".join(f"{key}={short(value)}" for key, value in self.plain.items())


_AMOUNTS = _parameters(
    "augment",
    (
        Parameter("rotation", 0.0, "largest angle in degrees, to either side", low=0, high=180),
        Parameter("shift", 0.0, "largest distance in pixels, in each direction", low=0, high=14),
        Parameter("scale", 0.0, "largest change of size, as a fraction of it", low=0, high=1, high_open=True),
    ),
)


def _check_augment(value: Any) -> Augment | None:
    if value is None or value is False or (isinstance(value, str) and value == "none"):
        return None
    if not isinstance(value, dict | Augment):
        raise BadValueError(f"must be none or a mapping such as {{rotation: 10, shift: 2}}, got {quoted(value)}")
    found = Augment(**_AMOUNTS.check(value.plain if isinstance(value, Augment) else value))
    return found if found.plain else None


AUGMENT = Rule(_check_augment, {"anyOf": [{"enum": ["none", False, None]}, _AMOUNTS.schema]})
"""How training images are varied: None, or an `Augment`."""


def _check_seed_list(value: Any) -> tuple[int, ...]:
    seeds: tuple[int, ...] = _SEED_LIST.check(value)
    first = {seed: k for k, seed in reversed(list(enumerate(seeds)))}
    if again := [k for k, seed in enumerate(seeds) if first[seed] != k]:
        raise BadValueError(Flaw((k,), f"seed {seeds[k]} is given twice") for k in again)
    return seeds


_SEED_COUNT = integer(1, MAX_SEEDS)
_SEED_LIST = list_of(integer(0, MAX_SEED), 1, MAX_SEEDS, "[0, 1, 2]")
SEEDS = either(
    Rule(_check_seed_list, {**_SEED_LIST.schema, "uniqueItems": True}),
    Rule(lambda value: tuple(range(_SEED_COUNT.check(value))), _SEED_COUNT.schema),
)
"""The seeds to train with: a number n, which means 0 to n - 1, or a list of different ones."""
