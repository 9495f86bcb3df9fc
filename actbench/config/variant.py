"""`Variant`, a resolved config without its seed, and `Run`, a variant with one.

Each key of a config file is one field of `Variant`, and this is the only place that lists them: the schema, the
columns of tables and the completion of the command line follow from it. A field's rule says what its value may be,
`clashes` which values contradict each other.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from actbench.activations import ACTIVATIONS
from actbench.activations.definition import Chain, check_chain
from actbench.config.choices import AUGMENT, CHAIN, DATASET, DEVICE, NORM, Augment, Choice, choice_of, short
from actbench.config.rules import TEXT, BadValueError, Flaw, Rule, integer, list_of, number, one_of, or_null, sort_out
from actbench.datasets import DatasetEntry, OwnData, entry_of
from actbench.errors import UsageError
from actbench.registry import Value
from actbench.structure import Structure
from actbench.text import slug

MAX_IMAGES = 10_000_000
MAX_PARAMETERS = 200_000_000


def _key(rule: Rule, default: Any, about: str) -> Any:
    return field(default=default, metadata={"rule": rule.described(about)})


def _choice(key: str, default: str, about: str) -> Any:
    return _key(choice_of(key), Choice.of(key, default), about)


_SHARE = number(0, 1, below=True)
_BIAS = or_null(number(-1e6, 1e6))
_LIMIT = or_null(integer(1, MAX_IMAGES))
_WIDTHS = list_of(integer(1, 16_384), 0, 100, "[512]")
_TAGS = list_of(TEXT, 0, 100, "[quick, draft]")
_AUTOMATIC = object()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A resolved config without its seed: the thing that is compared. Every key has a value.

    To add a config key, add a field here. `Variant(activation="relu", lr=1e-3)` takes values as YAML holds them, and
    canonical ones (`Choice`, tuples). Raises `BadValueError`; `config.load` reports the same problems with places.
    """

    name: str = _key(TEXT, _AUTOMATIC, "the variant's name in tables; made from the other keys if missing")
    dataset: str | OwnData = _key(
        DATASET, "mnist", "images to train and test on: a name, or your own as {npz: FILE} or {idx: FOLDER}"
    )
    network: str = _key(
        one_of("network", ("mlp", "cnn")), "mlp", "mlp: fully connected layers; cnn: the same after two convolutions"
    )
    activation: tuple[Choice, ...] = _key(
        CHAIN, (Choice.of("activation", "relu"),), "activation of the hidden layers, or a chain of them"
    )
    init: Choice = _choice("init", "he_normal", "how the weights are drawn")
    batch_norm: Literal[False, "before", "after"] = _key(
        NORM, False, "BatchNorm before or after the activation; true means before"
    )
    lr: float = _key(number(0, 1e6, above=True), 0.001, "learning rate")
    optimizer: Choice = _choice("optimizer", "adam", "how the weights are updated")
    epochs: int = _key(integer(1, 100_000), 10, "passes over the training images")
    batch_size: int = _key(integer(1, MAX_IMAGES), 64, "images per training step")
    hidden: tuple[int, ...] = _key(_WIDTHS, (512,), "widths of the hidden layers; an empty list makes a linear model")
    dropout: float = _key(_SHARE, 0.0, "share of the hidden outputs that is dropped in training")
    schedule: Choice = _choice("schedule", "constant", "how the learning rate changes during training")
    augment: Augment | None = _key(AUGMENT, None, "random changes to every training image")
    bias_init: float | None = _key(_BIAS, None, "initial bias of the hidden layers; null leaves it to the init")
    weight_decay: float = _key(number(0, 1e6), 0.0, "the optimizer's own weight decay")
    label_smoothing: float = _key(_SHARE, 0.0, "share of the target that is spread evenly over all classes")
    validation: int = _key(integer(0, MAX_IMAGES), 0, "images split off the training set for validation")
    probe: Literal["train", "test"] | int = _key(
        integer(1, MAX_IMAGES, "train", "test"),
        "train",
        "images on which neuron health is measured: train, test or the first N training images",
    )
    train_limit: int | None = _key(_LIMIT, None, "train on the first N images only; null means all")
    test_limit: int | None = _key(_LIMIT, None, "test on the first N images only; null means all")
    device: str = _key(DEVICE, "auto", "where to train: auto, cpu, cuda or cuda:N")
    tags: tuple[str, ...] = _key(_TAGS, (), "words to find the runs by")

    def __post_init__(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        given = {key: value for key, value in vars(self).items() if value is not defaults[key]}
        sound, flaws = sort_out(given, lambda key, value: KEYS[key].check(value))
        wrong = {str(flaw.path[0]) for flaw in flaws}
        vars(self).update(sound, **{key: defaults[key] for key in wrong})  # a frozen class, so not by assignment
        if self.name is _AUTOMATIC:
            vars(self)["name"] = _automatic_name(self)
        flaws += [flaw for flaw in clashes(self) if wrong.isdisjoint(flaw.keys)]
        if flaws:
            raise BadValueError(flaws)

    def renamed(self, name: str) -> Variant:
        """Return the same variant under another name, which is not checked."""
        other = copy.copy(self)
        vars(other)["name"] = name
        return other

    @property
    def links(self) -> Chain:
        """The activation function, link by link: the registry's entry and the parameters."""
        return [(ACTIVATIONS[choice.name], choice.params) for choice in self.activation]

    @property
    def data(self) -> DatasetEntry | OwnData:
        """What is known of the dataset: `train`, `test`, `inputs`, `classes` and `side`."""
        return entry_of(self.dataset)

    def structure(self, inputs: int | None = None, classes: int | None = None) -> Structure:
        """Return the structure of this variant's network, by default for its own dataset."""
        inputs, classes = inputs or self.data.inputs, classes or self.data.classes
        return Structure.of(self.network, self.links, self.hidden, self.batch_norm, inputs, classes)

    @property
    def parameter_count(self) -> int:
        """How many numbers the network learns: 407,050 for 784-512-10."""
        return self.structure().parameter_count

    def plain(self) -> dict[str, Any]:
        """Return every key as YAML holds it, and of the parameters of choices those that were changed."""
        return {key: plain_value(key, getattr(self, key)) for key in KEYS}

    def flat(self) -> dict[str, Value | None]:
        """Return every key as a cell of a table; None is an empty cell."""
        return {key: flat_value(key, getattr(self, key)) for key in KEYS}

    def identity(self) -> dict[str, Any]:
        """Return what decides how this variant trains, with all parameters written out; the name is only a label.

        Keys that are None are left out: a later version may add keys that default to None, and the runs of this
        version keep their ids.
        """
        held = {key: getattr(self, key) for key in SETTINGS if key != "name"}
        return {key: _full_value(value) for key, value in held.items() if value is not None}


KEYS: dict[str, Rule] = {field.name: field.metadata["rule"] for field in fields(Variant)}
"""The rule of every key of a variant, in the order in which files and tables show them."""
RECIPE = {field.name: field.default for field in fields(Variant) if field.name != "name"}
"""Every key but `name` with its default."""
SETTINGS = tuple(key for key in KEYS if key not in ("device", "tags"))
"""`name`, and the keys that decide what is trained and how: all but `device` and `tags`."""


def _automatic_name(variant: Variant) -> str:
    """Return the activation, then ` key=value` for every other key that differs from the recipe."""
    parts = [flat_value("activation", variant.activation)]
    for key in SETTINGS:
        value = getattr(variant, key)
        if key not in ("name", "activation") and value != RECIPE[key]:
            parts.append(f"{key}={short(flat_value(key, value))}")
    return " ".join(map(str, parts))[:1000]


def _full_value(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"name": value.name, **value.params}
    if isinstance(value, OwnData):
        return {"sha256": value.sha256}
    if isinstance(value, tuple):
        return [_full_value(item) for item in value]
    return asdict(value) if isinstance(value, Augment) else value


def plain_value(key: str, value: Any) -> Any:
    """Return the canonical value of config key `key` as YAML holds it."""
    if isinstance(value, Choice | Augment | OwnData):
        return value.plain
    if key == "activation":
        return value[0].plain if len(value) == 1 else [link.plain for link in value]
    if key == "augment":
        return "none"
    return list(value) if isinstance(value, tuple) else value


def flat_value(key: str, value: Any) -> Value | None:
    """Return the value of config key `key` as a cell of a table: `512x256`, `relu > sigmoid`."""
    if isinstance(value, Choice | Augment | OwnData):
        return value.label
    if key == "activation":
        return " > ".join(link.label for link in value)
    if key == "hidden":
        return "x".join(map(str, value)) or "none"
    if key == "tags":
        return ", ".join(value) or None
    return value  # type: ignore[no-any-return]  # a number, a text, a boolean or None


def clashes(variant: Variant) -> Iterator[Flaw]:
    """Yield what does not go together in a variant whose values are each valid on their own."""
    data = variant.data
    for key, there in (("train_limit", data.train), ("test_limit", data.test)):
        limit = getattr(variant, key)
        if limit is not None and limit > there:
            yield _clash(key, f"must be at most {there} (all of {data.label}), got {limit}", "dataset")
    images = min(variant.train_limit or data.train, data.train)
    if variant.validation >= images:
        message = f"must leave some of the {images} training images to train on, got {variant.validation}"
        yield _clash("validation", message, "train_limit", "dataset")
    else:
        yield from _batch_clashes(variant, images - variant.validation)
    yield from _shape_clashes(variant)
    count = variant.parameter_count
    if count > MAX_PARAMETERS:
        millions, most = count / 1e6, MAX_PARAMETERS // 1_000_000
        yield _clash("hidden", f"makes {millions:,.0f} million parameters; at most {most} million are allowed")
    warmup = variant.schedule.params.get("warmup_epochs", 0)
    if isinstance(warmup, float) and warmup > variant.epochs:
        message = f"must be at most epochs ({variant.epochs}), got {short(warmup)}"
        yield Flaw(("schedule", "warmup_epochs"), message, keys=("schedule", "epochs"))
    try:
        check_chain(variant.links)
    except UsageError as error:
        yield _clash("activation", str(error))


def _shape_clashes(variant: Variant) -> Iterator[Flaw]:
    data = variant.data
    found = f"{data.inputs} numbers per image" if data.side is None else f"{data.side} x {data.side} images"
    if variant.network == "cnn" and (data.side or 0) < 4:
        yield _clash("network", f"cnn needs square images of at least 4 x 4; {data.label} has {found}", "dataset")
    if variant.augment and data.side is None:
        yield _clash("augment", f"needs square images; {data.label} has {found}", "dataset")


def _batch_clashes(variant: Variant, images: int) -> Iterator[Flaw]:
    keys, most = ("train_limit", "validation", "dataset"), f"must be at most {images} (the number of training images)"
    if variant.batch_size > images:
        yield _clash("batch_size", f"{most}, got {variant.batch_size}", *keys)
    elif variant.batch_norm and variant.hidden and 1 in (variant.batch_size, images % variant.batch_size):
        message = f"leaves a batch of one image ({images} training images), but batch_norm needs at least two"
        yield _clash("batch_size", message, "batch_norm", *keys)
    if isinstance(variant.probe, int) and variant.probe > images:
        yield _clash("probe", f"{most}, got {variant.probe}", *keys)


def _clash(key: str, message: str, *others: str) -> Flaw:
    return Flaw((key,), message, keys=(key, *others))


@dataclass(frozen=True)
class Run:
    """A variant with one seed: the thing that is trained and stored.

    `former` is whether its id is the one that actbench 0.1 gave it: see `sweeps.plan.in_store`.
    """

    variant: Variant
    seed: int
    former: bool = False

    @property
    def run_id(self) -> str:
        """The name of the run's folder: `<slug>-s<seed>-<10 hexadecimal digits>`.

        The digits are the SHA-256 over the seed and the variant's `identity` as canonical JSON. The slug is for people:
        what the automatic name has of a-z, 0-9, _ and -, at most 40 characters. So the same settings and seed have the
        same folder whatever they are called: a name is a label, and renaming a config trains nothing again.
        """
        if self.former:
            return self.former_id
        name, data = _automatic_name(self.variant), self.variant.dataset
        if isinstance(data, OwnData):  # the same data under another file name is the same run
            name = name.replace(data.label, data.sha256[:8])
        return self._id(name, self.variant.identity())

    @property
    def former_id(self) -> str:
        """The id that actbench 0.1 gave the run: by the variant's name, which was part of the identity."""
        return self._id(self.variant.name, {**self.variant.identity(), "name": self.variant.name})

    def _id(self, name: str, identity: Mapping[str, Any]) -> str:
        text = json.dumps({**identity, "seed": self.seed}, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"{slug(name)}-s{self.seed}-{hashlib.sha256(text.encode('ascii')).hexdigest()[:10]}"
