"""What config keys hold beside plain numbers and text: choices from a registry, seeds and the like (layer 2).

Imports the registries, `rules` and `yaml_values`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from actbench.activations import ACTIVATIONS
from actbench.config.rules import (
    BadValueError,
    Flaw,
    OneOf,
    Rule,
    Schema,
    Several,
    check_parameters,
    how_to_write,
    integer,
    parameter_schema,
)
from actbench.errors import suggestion
from actbench.initializers import INITIALIZERS
from actbench.optimizers import OPTIMIZERS
from actbench.registry import Parameter, Registry, Value
from actbench.schedules import SCHEDULES
from actbench.text import quoted

REGISTRIES: dict[str, Registry[Any]] = {
    "activation": ACTIVATIONS,
    "init": INITIALIZERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The keys that choose an entry of a registry: a name, or a mapping of `name` and parameters."""

_LISTED = {"activation": "activations", "init": "inits", "optimizer": "optimizers"}
MAX_IMAGES = 70_000
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
    params: dict[str, Value] = field(default_factory=dict, hash=False)
    defaults: dict[str, Value] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, key: str, name: str, **given: Any) -> Choice:
        """Return entry `name` of the registry behind the config key `key`, defaults filled in.

        Raises `UnknownNameError` and `UsageError` like `Registry.complete`.
        """
        registry = REGISTRIES[key]
        return cls(name, registry.complete(name, given), registry.complete(name, {}))

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
        """How YAML writes it: the name alone, or a mapping with the parameters that were changed."""
        return {"name": self.name, **self.changed} if self.changed else self.name


def short(value: Value) -> str:
    """Write a value as a person would: `0.2`, `1`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Chosen(Rule):
    """An entry of the registry behind the config key `key`."""

    key: str

    def check(self, value: Any) -> Choice:
        """Return the choice with all its parameters."""
        if isinstance(value, Choice):
            value = {"name": value.name, **value.params}
        if not isinstance(value, dict):
            return Choice.of(self.key, self._names.check(value))
        if "name" not in value:
            raise BadValueError(f"needs a name beside its parameters, such as {self._example}")
        given = {key: found for key, found in value.items() if key != "name"}
        try:
            name = self._names.check(value["name"])
        except BadValueError as bad:
            raise BadValueError([Flaw(("name",), flaw.message) for flaw in bad.flaws]) from None
        parameters = REGISTRIES[self.key][name].parameters
        choice = Choice.of(self.key, name, **check_parameters(name, parameters, given))
        _check_pairs(choice)
        return choice

    @property
    def _names(self) -> OneOf:
        listed = _LISTED.get(self.key)
        registry = REGISTRIES[self.key]
        return OneOf(registry.kind, tuple(registry), f"See: actbench list {listed}" if listed else "")

    @property
    def _example(self) -> str:
        entry = next(entry for entry in REGISTRIES[self.key].values() if entry.parameters)
        first = entry.parameters[0]
        return f"{{name: {entry.name}, {first.name}: {short(first.default)}}}"

    def schema(self) -> Schema:
        """Return the schema: one of the names, or the mapping of one of the entries."""
        mappings = [
            {
                "type": "object",
                "title": entry.name,
                "properties": {
                    "name": {"const": entry.name},
                    **{parameter.name: parameter_schema(parameter) for parameter in entry.parameters},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
            for entry in REGISTRIES[self.key].values()
        ]
        return {"anyOf": [{"enum": list(REGISTRIES[self.key])}, *mappings]}


def _check_pairs(choice: Choice) -> None:
    """Raise `BadValueError` where two parameters of a choice do not go together."""
    lower, upper = choice.params.get("lower", 0), choice.params.get("upper", 0)  # rrelu's
    if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
        raise BadValueError([Flaw(("lower",), f"must not be above upper, got {short(lower)} > {short(upper)}")])
    if choice.params.get("nesterov") is True and not choice.params.get("momentum"):
        raise BadValueError([Flaw(("nesterov",), "needs momentum > 0; set it, or write `optimizer: nesterov`")])


class Chain(Rule):
    """One activation, or a list of them that are applied one after the other."""

    LINK = Chosen("activation")
    LINKS = Several(LINK, MAX_CHAIN, "[relu, sigmoid]", fewest=1)

    def check(self, value: Any) -> tuple[Choice, ...]:
        """Return the choices in the order in which they are applied."""
        return self.LINKS.check(value) if isinstance(value, list | tuple) else (self.LINK.check(value),)

    def schema(self) -> Schema:
        """Return the schema of one activation or a list of them."""
        return {"anyOf": [*self.LINK.schema()["anyOf"], self.LINKS.schema()]}


class Norm(Rule):
    """Where BatchNorm stands: nowhere (false), before the activation (true means that too), or after it."""

    def check(self, value: Any) -> Any:
        """Return False, "before" or "after"."""
        if isinstance(value, bool):
            return "before" if value else False
        if isinstance(value, str) and value in ("before", "after"):
            return str(value)
        hint = how_to_write(Parameter("", False, "", choices=("before", "after")), value)
        raise BadValueError(f"must be true, false, before or after, got {quoted(value)}{hint}")

    def schema(self) -> Schema:
        """Return the schema of the four values."""
        return {"enum": [True, False, "before", "after"]}


class Probe(Rule):
    """The images on which neuron health is measured: train, test, or the first N training images."""

    def check(self, value: Any) -> str | int:
        """Return "train", "test" or a number of images."""
        if isinstance(value, str) and value in ("train", "test"):
            return str(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_IMAGES:
            return value
        hint = how_to_write(Parameter("", 1, "", choices=("train", "test")), value)
        raise BadValueError(f"must be train, test or a number of training images >= 1, got {quoted(value)}{hint}")

    def schema(self) -> Schema:
        """Return the schema of both forms."""
        return {"anyOf": [{"enum": ["train", "test"]}, integer(1, 1, MAX_IMAGES).schema()]}


class Device(Rule):
    """Where to train: auto, cpu, cuda or cuda:N. Whether it is there shows when training starts."""

    PATTERN = "auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?"

    def check(self, value: Any) -> str:
        """Return the device's name."""
        if isinstance(value, str) and re.fullmatch(self.PATTERN, value):
            return str(value)
        hint = suggestion(value, ("auto", "cpu", "cuda")) if isinstance(value, str) else ""
        raise BadValueError(f"must be auto, cpu, cuda or cuda:N, got {quoted(value)}{hint}")

    def schema(self) -> Schema:
        """Return the schema of the names."""
        return {"type": "string", "pattern": f"^({self.PATTERN})$"}


@dataclass(frozen=True)
class Augment:
    """Random changes to every training image: turned, moved and resized by up to these amounts."""

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


class Augmentation(Rule):
    """How training images are varied: none, or a mapping of rotation, shift and scale."""

    AMOUNTS = (
        Parameter("rotation", 0.0, "degrees, at most, to either side", low=0, high=180),
        Parameter("shift", 0.0, "pixels, at most, in each direction", low=0, high=14),
        Parameter("scale", 0.0, "change of size, at most, as a share of it", low=0, high=1, high_open=True),
    )

    def check(self, value: Any) -> Augment | None:
        """Return the amounts, or None where nothing is varied."""
        if value is None or value is False or (isinstance(value, str) and value == "none"):
            return None
        if not isinstance(value, dict | Augment):
            raise BadValueError(f"must be none or a mapping such as {{rotation: 10, shift: 2}}, got {quoted(value)}")
        given = value.plain if isinstance(value, Augment) else value
        found = Augment(**check_parameters("augment", self.AMOUNTS, given))  # type: ignore[arg-type]  # all floats
        return found if found.plain else None

    def schema(self) -> Schema:
        """Return the schema of the mapping and of the ways to write none."""
        amounts = {amount.name: parameter_schema(amount) for amount in self.AMOUNTS}
        mapping = {"type": "object", "properties": amounts, "additionalProperties": False}
        return {"anyOf": [{"enum": ["none", False, None]}, mapping]}


class Seeds(Rule):
    """The seeds to train with: a number n, which means 0 to n - 1, or a list of different ones."""

    LISTED = Several(integer(0, 0, MAX_SEED), MAX_SEEDS, "[0, 1, 2]", 1)
    COUNT = integer(DEFAULT_SEEDS, 1, MAX_SEEDS)

    def check(self, value: Any) -> tuple[int, ...]:
        """Return the seeds, in the order given."""
        if not isinstance(value, list | tuple):
            return tuple(range(self.COUNT.check(value)))
        seeds: tuple[int, ...] = self.LISTED.check(value)
        first = {seed: k for k, seed in reversed(list(enumerate(seeds)))}
        if again := [k for k, seed in enumerate(seeds) if first[seed] != k]:
            raise BadValueError([Flaw((k,), f"the seed {seeds[k]} is given twice") for k in again])
        return seeds

    def schema(self) -> Schema:
        """Return the schema of both forms."""
        return {"anyOf": [self.COUNT.schema(), {**self.LISTED.schema(), "uniqueItems": True}]}
