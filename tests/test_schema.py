"""The way there and back: resolved configs load unchanged, and all that loads satisfies the JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.config import REGISTRIES, Config, Variant, json_schema, parse, resolved, to_yaml
from actbench.config.variant import KEYS
from actbench.datasets import DATASETS
from actbench.errors import ConfigError
from actbench.registry import Parameter
from configs import HOSTILE, from_mapping, loaded


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_can_hold_anything_and_comes_back_as_it_was(name: str) -> None:
    variant = Variant(name=name, tags=[name])
    back = loaded(to_yaml(variant, (0,)))
    assert back.variant == variant
    assert back.variant.name == name


def parameter_values(parameter: Parameter) -> st.SearchStrategy[Any]:
    if isinstance(parameter.default, bool):
        return st.booleans()
    low, high = max(parameter.low, -1e9), min(parameter.high, 1e9)
    if isinstance(parameter.default, int):
        return st.integers(int(low), int(high))
    numbers = st.floats(
        low, high, exclude_min=parameter.low_open, exclude_max=parameter.high_open, allow_subnormal=False
    )
    if isinstance(parameter.default, str):
        return st.sampled_from(parameter.choices) | (numbers if parameter.or_number else st.nothing())
    return numbers


def loads(values: dict[str, Any]) -> bool:
    """Whether these values are a config: what is not built yet is none, nor is a gate in a chain."""
    try:
        from_mapping(values)
    except ConfigError:
        return False
    return True


@st.composite
def choices(draw: st.DrawFn, key: str) -> Any:
    entry = draw(st.sampled_from([entry for entry in REGISTRIES[key].values() if loads({key: entry.name})]))
    given = {parameter.name: draw(parameter_values(parameter)) for parameter in entry.parameters if draw(st.booleans())}
    whole = {"name": entry.name, **given}
    return whole if loads({key: whole}) else entry.name  # two parameters that do not go together


SAFE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50) | st.sampled_from(HOSTILE)
LINKS = choices("activation").filter(lambda link: loads({"activation": [link, "relu"]}))
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": SAFE_TEXT,
        "dataset": st.sampled_from(list(DATASETS)),
        "activation": choices("activation") | st.lists(LINKS, min_size=1, max_size=3),
        "init": choices("init"),
        "batch_norm": st.sampled_from([True, False, "before", "after"]),
        "lr": st.floats(0, 1e6, exclude_min=True, allow_subnormal=False),
        "optimizer": choices("optimizer"),
        "epochs": st.integers(1, 100_000),
        "batch_size": st.sampled_from([5, 64, 100]),
        "hidden": st.lists(st.integers(1, 500), max_size=5),
        "bias_init": st.none() | st.floats(-1e6, 1e6, allow_subnormal=False),
        "weight_decay": st.floats(0, 1e6, allow_subnormal=False),
        "probe": st.sampled_from(["train", "test", 1, 100]),
        "train_limit": st.sampled_from([None, 100, 1000]),
        "test_limit": st.none() | st.integers(1, 300),
        "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12"]),
        "tags": st.lists(SAFE_TEXT, max_size=3),
        "seeds": st.integers(1, 20) | st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5, unique=True),
    },
)
SCHEMA = jsonschema.Draft202012Validator(json_schema())


@settings(derandomize=True, max_examples=150, deadline=None)
@given(CONFIGS)
def test_a_resolved_config_loads_back_unchanged(values: dict[str, Any]) -> None:
    config = from_mapping(values)
    text = to_yaml(config.variant, config.seeds)
    back = from_mapping(parse(text, "x").values)
    assert back == config
    assert to_yaml(back.variant, back.seeds) == text
    assert [run.run_id for run in back.runs()] == [run.run_id for run in config.runs()]
    assert len({run.run_id for run in config.runs()}) == len(config.seeds)
    assert all(isinstance(cell, bool | int | float | str | None) for cell in config.variant.flat().values())


@settings(derandomize=True, max_examples=100, deadline=None)
@given(CONFIGS)
def test_every_config_that_loads_satisfies_the_schema(values: dict[str, Any]) -> None:
    config = from_mapping(values)
    SCHEMA.validate(values)
    SCHEMA.validate(resolved(config.variant, config.seeds))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["relu", "none", "012", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "negative_slope", "rotation", "x"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYS, "seeds", "x"]), ANYTHING, max_size=4))
def test_any_values_make_a_config_or_a_list_of_problems(values: dict[str, Any]) -> None:
    try:
        config = from_mapping(values)
    except ConfigError as caught:
        error = caught
    else:
        assert from_mapping(resolved(config.variant, config.seeds)) == config
        return
    assert all(re.match(r"[a-z_]+[\].\[\w]*: |unknown key ", problem.message) for problem in error.problems)


def test_the_schema_describes_every_key_and_its_default() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {*KEYS, "seeds", "sweep"}
    assert all(key_schema["description"] for key_schema in schema["properties"].values())
    defaults = {
        key: key_schema["default"] for key, key_schema in schema["properties"].items() if "default" in key_schema
    }
    assert from_mapping(defaults) == Config(Variant(), (0, 1, 2, 3, 4))
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert "leaky_relu" in schema["$defs"]["activation"]["anyOf"][0]["enum"]


@pytest.mark.parametrize(
    "values",
    [
        {"lrr": 1}, {"lr": 0}, {"lr": "fast"}, {"epochs": 1.5}, {"activation": "swsh"}, {"hidden": 512},
        {"seeds": []},
        {"activation": {"name": "relu", "negative_slope": 1}}, {"optimizer": {"name": "sgd", "momentum": 1}},
        {"sweep": {"grid": {"lr": 1}}}, {"sweep": {"grid": {"lr": ["fast"]}}}, {"sweep": {}},
        {"batch_norm": "no"},
        {"device": "gpu"}, {"name": ""}, {"augment": {"rotation": 181}}, {"train_limit": 0},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_config_refuses(values: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(values)
