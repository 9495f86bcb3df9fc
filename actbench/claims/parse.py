"""Claim files -> `Claim`: YAML read, checked and reported like configs; and the JSON Schema of these files.

    id: 12
    claim: Softplus converges more slowly than ReLU.
    source: lectures and tutorials on smooth activation functions
    base: {epochs: 10}                     # config keys that all arms share
    arms:
      relu: {activation: relu}
      softplus: {activation: softplus}
    seeds: 20
    readings:
      - says: after one epoch it is less accurate
        parts:
          - {metric: test_accuracy, epoch: 1, arm: softplus, against: relu, expect: lower, margin: 0.002}

A `ladder` (rung -> config keys, for all arms or inside one) turns an arm into one arm per rung, named `<arm> <rung>`.
A side is an arm's name, a number, or {arm: NAME, epoch: K, layer: first|last|K}. `transform: log` compares ratios; its
margin is a factor. `quick` holds what replaces other keys with `--quick`: config keys, or `says` of a reading, or keys
of a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from actbench import config
from actbench.claims import measures
from actbench.claims.arms import NOT_IN_ARMS, Arms
from actbench.claims.model import Claim, Part, Reading, Side
from actbench.comparison.quantities import Quantity
from actbench.config import Document, Setting
from actbench.config.choices import SEEDS
from actbench.config.load import checked
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
    named,
    number,
    one_of,
)
from actbench.errors import ConfigError, Problem, UsageError, suggestion
from actbench.text import quoted

DEFAULT_SEEDS = 13
"""The fewest that can decide one of a hundred contrasts, by `permutation.seeds_needed`."""
QUICK_SEEDS = 4
_MOST = 1000


@dataclass(frozen=True)
class Flags:
    """What the command line says about all claim files."""

    quick: bool = False
    seeds: str | None = None
    device: str | None = None


def load_all(paths: Sequence[FilePath], flags: Flags = Flags()) -> list[Claim]:
    """Return the claims in the files at `paths`, by number; raises one ConfigError with every problem."""
    seeds = None
    if flags.seeds is not None:
        seeds = config.check(config.changed(Document("--seeds"), config.settings(seeds=flags.seeds))).seeds
    device = config.settings(device=flags.device)
    claims = config.collect(lambda path: _load(path, flags.quick, seeds, device), paths)
    first: dict[int, Claim] = {}
    for claim in claims:
        if first.setdefault(claim.number, claim) is not claim:
            message = f"id: {claim.number} is also the id in {first[claim.number].path}"
            raise ConfigError([Problem(claim.path, message)])
    return sorted(claims, key=lambda claim: claim.number)


def _load(path: FilePath, quick: bool, seeds: tuple[int, ...] | None, device: Sequence[Setting]) -> Claim:
    """Return the claim in one file; raises ConfigError with every problem in it."""
    document = config.read(path)
    arms = Arms(document, quick=quick, device=device)
    found = checked(document, _claim_rule(arms).check)
    return Claim(
        number=found["id"],
        slug=path.stem.lstrip("0123456789_-") or path.stem,
        path=document.source,
        text=found["claim"],
        source=found["source"],
        note=found.get("note", ""),
        arms=arms.variants,
        ladders=arms.ladders,
        seeds=seeds or tuple(range(QUICK_SEEDS) if quick else found.get("seeds", range(DEFAULT_SEEDS))),
        readings=found["readings"],
        measured=found.get("measured", ""),
    )


def json_schema() -> Schema:
    """Return the JSON Schema of claim files.

    Every claim file that loads satisfies it. The reverse does not hold: whether an arm exists, and which config values
    contradict each other, is checked only when the file is loaded.
    """
    whole = config.json_schema()
    keys = {key: schema for key, schema in whole["properties"].items() if key not in NOT_IN_ARMS}
    variant: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    own = {key: {"$ref": f"#/$defs/variant/properties/{key}"} for key in keys}
    arm = {**variant, "properties": {**own, "ladder": _LADDER.schema}}
    return {
        "$schema": whole["$schema"],
        "title": "actbench claim",
        "description": "A claim about activation functions, and how it is tested.",
        **_claim_rule(Arms(Document("schema"), quick=False, device=())).schema,
        "$defs": {
            **{key: schema for key, schema in whole["$defs"].items() if key != "columns"},
            "variant": variant,
            "arm": arm,
            "ladder": _RUNGS.schema,
            "side": _SIDE.schema,
        },
    }


def _claim_rule(arms: Arms) -> Rule:
    """Return the rule for a claim file with these arms; its schema is the same for all."""
    readings = list_of(_reading_rule(arms), 1, _MOST, "[{says: ..., parts: [...]}]")
    rules = {
        "id": integer(1, 9999).described("the number for `actbench claims ID`"),
        "claim": TEXT.described("the claim, in one sentence"),
        "source": TEXT.described("the kind of text that makes the claim"),
        "note": TEXT.described("what to know before you believe the verdict"),
        "base": _VARIANT.described("config keys of all arms"),
        "arms": _ARMS.described("what is trained"),
        "ladder": _LADDER,
        "seeds": Rule(SEEDS.check, {**SEEDS.schema, "default": DEFAULT_SEEDS}).described("how many seeds, or which"),
        "measured": one_of("measurement", ("cost",)).described("time the arms' activations instead of training them"),
        "readings": readings.described("the meanings of the claim; each gets a verdict"),
        "quick": _VARIANT.described("config keys of all arms with --quick"),
    }
    return mapping_of(rules, needed=("id", "claim", "source", "arms", "readings"))


def _check_config_keys(value: Any) -> Any:
    """Check the form only: `Arms` checks the values."""
    if not isinstance(value, dict):
        raise BadValueError(f"must contain config keys, got {quoted(value)}")
    if flaws := [Flaw((key,), why, at_key=True) for key, why in NOT_IN_ARMS.items() if key in value]:
        raise BadValueError(flaws)
    return value


def _check_arm(value: Any) -> Any:
    _check_config_keys(value)
    return check_each({key: value[key] for key in ("ladder",) if key in value}, lambda _, ladder: _LADDER.check(ladder))


_VARIANT = Rule(_check_config_keys, {"$ref": "#/$defs/variant"})
_RUNGS = named("rungs, each with config keys", lambda _, keys: _check_config_keys(keys), _VARIANT.schema)
_ARMS = named("arms, each with config keys", lambda _, keys: _check_arm(keys), {"$ref": "#/$defs/arm"})
_LADDER = Rule(_RUNGS.check, {"$ref": "#/$defs/ladder"}).described(
    "rungs with config keys; they turn an arm into one arm per rung, named `<arm> <rung>`",
)


_EPOCH = integer(0, 100_000).described("after this epoch (0: untrained); the last one if missing")
_LAYER = converted(integer(0, 99, "first", "last"), {"first": 0, "last": -1}).described(
    "in this hidden layer, counted from 0; in the whole network if missing"
)
_NAME = Rule(lambda name: name, TEXT.schema)  # `_side` looks it up among the arms
_SIDE_KEYS = mapping_of({"arm": _NAME, "epoch": _EPOCH, "layer": _LAYER}, needed=("arm",))


def _check_side(value: Any) -> Any:
    if isinstance(value, dict):
        return _SIDE_KEYS.check(value)
    return number(-1e9, 1e9).check(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_SIDE = Rule(_check_side, {"anyOf": [_NAME.schema, {"type": "number"}, _SIDE_KEYS.schema]})
_SIDE_REF = Rule(
    _check_side, {"$ref": "#/$defs/side", "description": "an arm, an arm after an epoch or in a layer, or a number"}
)
_PART_KEYS = {
    "metric": TEXT.described("as in `actbench compare --metric`, or measured:NAME"),
    "arm": _SIDE_REF,
    "against": _SIDE_REF,
    "expect": one_of("direction", ("higher", "lower", "same")).described(
        "how the claim says `arm` compares with `against`"
    ),
    "margin": number(0, 1e9, above=True).described("the smallest difference that matters"),
    "epoch": _EPOCH,
    "layer": _LAYER,
    "transform": one_of("transform", ("log",)).described("compare ratios; the margin is a factor"),
}


def _reading_rule(arms: Arms) -> Rule:
    part = list_of(_part_rule(arms), 1, _MOST, "[{metric: test_accuracy, arm: ...}]")
    metric = Rule(lambda value: _quantity(TEXT.check(value), arms, None), TEXT.schema)
    keys = mapping_of(
        {
            "says": TEXT.described("one meaning of the claim"),
            "parts": part.described("contrasts; all of them must hold"),
            "also": list_of(metric, 1, _MOST, "[test_loss]").described("metrics to show beside the evidence"),
            "quick": mapping_of({"says": TEXT}, needed=("says",)).described("what it says with --quick"),
        },
        needed=("says", "parts"),
    )

    def check(value: Any) -> Reading:
        found = keys.check(value)
        changed = found.pop("quick", {})
        return Reading(**{**found, **(changed if arms.quick else {})})

    return Rule(check, keys.schema)


def _part_rule(arms: Arms) -> Rule:
    quick = mapping_of(_PART_KEYS)
    unchecked = Rule(lambda value: value, {**quick.schema, "description": "keys that replace others with --quick"})
    whole = mapping_of({**_PART_KEYS, "quick": unchecked}, needed=("metric", "arm", "against", "expect", "margin"))

    def check(value: Any) -> Part:
        found = whole.check(value)
        given = {"quick": found.pop("quick", {})} if arms.quick else {}
        changed = check_each(given, lambda _, keys: quick.check(keys)).get("quick", {})
        try:
            return _part({**found, **changed}, arms)
        except BadValueError as bad:
            moved = [
                replace(flaw, path=("quick", *flaw.path)) if flaw.path[0] in changed else flaw for flaw in bad.flaws
            ]
            raise BadValueError(moved) from None

    return Rule(check, whole.schema)


def _part(keys: Mapping[str, Any], arms: Arms) -> Part:
    """Return the contrast of sound `keys`; raises `BadValueError` for those that contradict each other or the arms."""
    epoch, layer, log = keys.get("epoch"), keys.get("layer"), keys.get("transform") == "log"
    steps = {
        "metric": lambda metric: _quantity(metric, arms, epoch),
        "arm": lambda side: _side(side, arms, epoch, layer),
        "against": lambda side: _side(side, arms, epoch, layer),
        "margin": number(1.0 if log else 0.0, 1e9, above=True).check,
    }
    found = check_each({key: keys[key] for key in steps}, lambda key, value: steps[key](value))
    quantity, sides = found["metric"], (found["arm"], found["against"])
    if ":" in quantity.name and any(side.epoch is not None or side.layer is not None for side in sides):
        raise BadValueError([Flaw(("metric",), f"{quantity.name} is of a whole run: leave out epoch and layer")])
    if sides[0].arm is None and sides[1].arm is None:
        raise BadValueError([Flaw(("against",), "one of the sides must be an arm")])
    return Part(quantity, *sides, keys["expect"], found["margin"], log)


def _side(value: Any, arms: Arms, epoch: int | None, layer: int | None) -> Side:
    """Return the side that `value` names; `epoch` and `layer` are those of the whole part."""
    if isinstance(value, float):
        return Side(number=value)
    own = value if isinstance(value, dict) else {"arm": value}
    arm, epoch, layer = own["arm"], own.get("epoch", epoch), own.get("layer", layer)
    if arm not in arms.names:
        near = suggestion(arm, arms.names) or f"; there are {', '.join(arms.names) or 'none'}"
        path = ("arm",) if own is value else ()
        raise BadValueError([Flaw(path, f"there is no arm {quoted(arm)}{near}")])
    last = arms.variants[arm].epochs if arm in arms.variants else None
    if epoch is not None and last is not None and epoch > last:
        if not arms.quick:
            raise BadValueError(f"epoch: must be at most {last} (the epochs of {arm}), got {epoch}")
        epoch = last  # a demonstration takes its last epoch instead
    return Side(arm, None, epoch, layer)


def _quantity(metric: str, arms: Arms, epoch: int | None) -> Quantity:
    try:
        return measures.quantity(metric, arms.measured, epoch)
    except UsageError as error:
        raise BadValueError(f"{error}. See: actbench list metrics") from None
