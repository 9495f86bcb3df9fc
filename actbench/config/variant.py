"""`Variant`, a resolved config without its seed, and `Run`, a variant with one (layer 2).

Imports the registries, `fields`, `rules` and pydantic. A key of a config file is one field of `Variant`: its
rule says what it may be, `clashes` what does not go together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actbench.activations import ACTIVATIONS, check_chain
from actbench.config.fields import (
    MAX_IMAGES,
    Augment,
    Augmentation,
    Chain,
    Choice,
    Chosen,
    Device,
    Norm,
    Probe,
    short,
)
from actbench.config.rules import BadValueError, Flaw, OneOf, Several, Text, integer, number
from actbench.datasets import DATASETS
from actbench.errors import UsageError
from actbench.registry import Value

INPUTS, CLASSES = 784, 10
CHANNELS, WINDOW = (16, 32), 9
"""Widths of the two convolutions of `network: cnn`, and the positions that each sees at once, 3x3."""
MAX_PARAMETERS = 200_000_000


def _automatic_name(fields: Mapping[str, Any]) -> str:
    """Return the activation, then ` key=value` for every other key that differs from the recipe."""
    parts = [flat_value("activation", fields["activation"])]
    for key, value in fields.items():
        if key not in ("activation", "device", "tags") and value != RECIPE[key]:
            parts.append(f"{key}={label(flat_value(key, value))}")
    return " ".join(map(str, parts))[:1000]


class Variant(BaseModel):
    """A resolved config without its seed: the thing that is compared. Every key has a value.

    `Variant(activation="relu", lr=1e-3)` takes values as YAML holds them, and canonical ones (`Choice`,
    tuples). Raises pydantic's ValidationError; `config.load` gives the same problems with their places.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    dataset: Annotated[str, OneOf("dataset", tuple(DATASETS), "See: actbench list datasets")] = Field(
        "mnist", description="the images to train on and to test with"
    )
    network: Annotated[str, OneOf("network", ("mlp", "cnn"))] = Field(
        "mlp", description="mlp: fully connected layers; cnn: two convolutions with pooling come first"
    )
    activation: Annotated[tuple[Choice, ...], Chain()] = Field(
        (Choice.of("activation", "relu"),), description="activation of the hidden layers, or a chain of them"
    )
    init: Annotated[Choice, Chosen("init")] = Field(
        Choice.of("init", "he_normal"), description="how the weights are drawn"
    )
    batch_norm: Annotated[Literal[False, "before", "after"], Norm()] = Field(
        False, description="BatchNorm before or after the activation; true means before"
    )
    lr: Annotated[float, number(0.001, 0, 1e6, above=True)] = Field(0.001, description="learning rate")
    optimizer: Annotated[Choice, Chosen("optimizer")] = Field(
        Choice.of("optimizer", "adam"), description="how the weights are updated"
    )
    epochs: Annotated[int, integer(10, 1, 100_000)] = Field(10, description="passes over the training images")
    batch_size: Annotated[int, integer(64, 1, MAX_IMAGES)] = Field(64, description="images in a training step")
    hidden: Annotated[tuple[int, ...], Several(integer(512, 1, 16_384), 100, "[512]")] = Field(
        (512,), description="widths of the hidden layers; none of them makes a linear model"
    )
    dropout: Annotated[float, number(0.0, 0, 1, below=True)] = Field(
        0.0, description="share of hidden outputs that is dropped in training"
    )
    schedule: Annotated[Choice, Chosen("schedule")] = Field(
        Choice.of("schedule", "constant"), description="how the learning rate moves during training"
    )
    augment: Annotated[Augment | None, Augmentation()] = Field(
        None, description="random changes to every training image"
    )
    bias_init: Annotated[float | None, number(0.0, -1e6, 1e6).or_nothing()] = Field(
        None, description="bias of the hidden layers at the start; null leaves it to the init, mostly 0"
    )
    weight_decay: Annotated[float, number(0.0, 0, 1e6)] = Field(0.0, description="L2 penalty")
    label_smoothing: Annotated[float, number(0.0, 0, 1, below=True)] = Field(
        0.0, description="share of the target that is spread over all classes"
    )
    validation: Annotated[int, integer(0, 0, MAX_IMAGES)] = Field(
        0, description="images split off the training set for validation"
    )
    probe: Annotated[Literal["train", "test"] | int, Probe()] = Field(
        "train", description="images on which neuron health is measured: train, test or N training images"
    )
    train_limit: Annotated[int | None, integer(1, 1, MAX_IMAGES).or_nothing()] = Field(
        None, description="train on the first N images only; null means all"
    )
    test_limit: Annotated[int | None, integer(1, 1, MAX_IMAGES).or_nothing()] = Field(
        None, description="test on the first N images only; null means all"
    )
    device: Annotated[str, Device()] = Field("auto", description="where to train: auto, cpu, cuda or cuda:N")
    tags: Annotated[tuple[str, ...], Several(Text(), 100, "[quick, draft]")] = Field(
        (), description="words to find the runs by"
    )
    # The last field: without a name of its own, a variant is named after what its other fields hold.
    name: Annotated[str, Text()] = Field(
        default_factory=_automatic_name,
        description="what tables call it; made from the other keys if missing",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if flaws := list(clashes(self)):
            raise BadValueError(flaws)
        return self

    @property
    def parameter_count(self) -> int:
        """Weights and biases: the sum of (inputs + 1) outputs over the layers (BatchNorm's not counted)."""
        first, convolutions = INPUTS, 0
        if self.network == "cnn":
            reads = [1, *CHANNELS]
            convolutions = sum((channels * WINDOW + 1) * out for channels, out in itertools.pairwise(reads))
            first = reads[-1] * INPUTS // 4 ** len(CHANNELS)  # each is followed by a maximum over 2x2 positions
        widths = (first, *self.hidden, CLASSES)
        return convolutions + sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))

    def plain(self) -> dict[str, Any]:
        """Return every key as YAML holds it, `name` first; parameters of choices where they were changed."""
        return {key: plain_value(key, getattr(self, key)) for key in ("name", *RECIPE)}

    def flat(self) -> dict[str, Value | None]:
        """Return every key as a cell of a table; None means an empty one. Keys as in `plain`."""
        return {key: flat_value(key, getattr(self, key)) for key in ("name", *RECIPE)}

    def identity(self) -> dict[str, Any]:
        """Return what makes runs of this variant what they are, all parameters written out.

        Without `device` and `tags`, and without keys that are None: a later version may add keys that
        default to None, and the runs of this one keep their ids.
        """
        values = {key: _full_value(getattr(self, key)) for key in ("name", *RECIPE)}
        return {k: value for k, value in values.items() if k not in ("device", "tags") and value is not None}


RECIPE = {key: field.default for key, field in Variant.model_fields.items() if key != "name"}
"""Every key but `name` with the value that it has when a file does not give it."""


def _full_value(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"name": value.name, **value.params}
    if isinstance(value, tuple):
        return [_full_value(item) for item in value]
    return asdict(value) if isinstance(value, Augment) else value


def plain_value(key: str, value: Any) -> Any:
    """Return the canonical value of config key `key` as YAML holds it."""
    if isinstance(value, Choice | Augment):
        return value.plain
    if key == "activation":
        return value[0].plain if len(value) == 1 else [link.plain for link in value]
    if key == "augment":
        return "none"
    return list(value) if isinstance(value, tuple) else value


def flat_value(key: str, value: Any) -> Value | None:
    """Return the value of config key `key` as a cell of a table: `512x256`, `relu > sigmoid`."""
    if isinstance(value, Choice | Augment):
        return value.label
    if key == "activation":
        return " > ".join(link.label for link in value)
    if key == "hidden":
        return "x".join(map(str, value)) or "none"
    if key == "tags":
        return ", ".join(value) or None
    return value  # type: ignore[no-any-return]  # a number, a text, a boolean or None


def label(cell: Value | None) -> str:
    """Return a cell of a table as a name shows it."""
    return "none" if cell is None else short(cell)


def clashes(variant: Variant) -> Iterator[Flaw]:
    """Yield what does not go together in a variant whose values are sound each for itself."""
    data = DATASETS[variant.dataset]
    for key, there in (("train_limit", data.train), ("test_limit", data.test)):
        limit = getattr(variant, key)
        if limit is not None and limit > there:
            yield _clash(key, f"must be at most {there} (all of {data.name}), got {limit}", "dataset")
    images = min(variant.train_limit or data.train, data.train)
    if variant.validation >= images:
        message = f"must leave some of the {images} training images, got {variant.validation}"
        yield _clash("validation", message, "train_limit", "dataset")
    else:
        yield from _batch_clashes(variant, images - variant.validation)
    if variant.parameter_count > MAX_PARAMETERS:
        millions, most = variant.parameter_count / 1e6, MAX_PARAMETERS // 1_000_000
        yield _clash("hidden", f"makes {millions:,.0f} million parameters, at most {most} million are allowed")
    warmup = variant.schedule.params.get("warmup_epochs", 0)
    if isinstance(warmup, float) and warmup > variant.epochs:
        message = f"must be at most epochs ({variant.epochs}), got {short(warmup)}"
        yield Flaw(("schedule", "warmup_epochs"), message, keys=("schedule", "epochs"))
    try:
        check_chain([(ACTIVATIONS[choice.name], choice.params) for choice in variant.activation])
    except UsageError as error:
        yield _clash("activation", str(error))


def _batch_clashes(variant: Variant, images: int) -> Iterator[Flaw]:
    keys, most = ("train_limit", "validation", "dataset"), f"must be at most {images} (the training images)"
    if variant.batch_size > images:
        yield _clash("batch_size", f"{most}, got {variant.batch_size}", *keys)
    elif variant.batch_norm and variant.hidden and 1 in (variant.batch_size, images % variant.batch_size):
        message = f"leaves a batch of one image ({images} training images), and batch_norm needs two"
        yield _clash("batch_size", message, "batch_norm", *keys)
    if isinstance(variant.probe, int) and variant.probe > images:
        yield _clash("probe", f"{most}, got {variant.probe}", *keys)


def _clash(key: str, message: str, *others: str) -> Flaw:
    return Flaw((key,), message, keys=(key, *others))


@dataclass(frozen=True)
class Run:
    """A variant with one seed: the thing that is trained and stored."""

    variant: Variant
    seed: int

    @property
    def run_id(self) -> str:
        """The name of the run's folder: `<slug>-s<seed>-<10 hexadecimal digits>`.

        The slug is for people: what the variant's name has of a-z, 0-9, _ and -, at most 40 characters. The
        digits are the SHA-256 over the seed and the variant's `identity` as canonical JSON, so names that
        differ only in case, or beyond the slug, get folders of their own.
        """
        identity = {**self.variant.identity(), "seed": self.seed}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        digest = hashlib.sha256(text.encode("ascii")).hexdigest()
        slug = re.sub(r"[^a-z0-9_-]+", "-", self.variant.name.lower()).strip("-")[:40].strip("-")
        return f"{slug or 'run'}-s{self.seed}-{digest[:10]}"
