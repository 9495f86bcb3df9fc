"""Sweeps: which variants a file makes, in which order, under which names; and what is refused before that."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actbench.config import Config, Document, Run, expand, load_sweep, parse, settings
from actbench.config.sweep import parse_grid
from actbench.errors import ConfigError


def expanded(text: str) -> list[Config]:
    return expand(parse(text, "x.yaml"))


def names(text: str) -> list[str]:
    return [config.variant.name for config in expanded(text)]


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        expanded(text)
    return str(caught.value).split("\n")


def swept(folder: Path, text: str, grids: Sequence[str] = (), **flags: Any) -> list[Config]:
    path = folder / "x.yaml"
    path.write_text(text)
    return load_sweep([path], settings(**flags), grids)


def test_a_grid_is_every_combination_with_the_last_key_fastest() -> None:
    assert names("sweep:\n  grid:\n    activation: [relu, {name: elu, alpha: 2}]\n    lr: [1e-3, 1e-2]\n") == [
        "relu lr=0.001",
        "relu lr=0.01",
        "elu(alpha=2) lr=0.001",
        "elu(alpha=2) lr=0.01",
    ]


def test_the_columns_of_a_zip_go_together() -> None:
    configs = expanded("sweep: {zip: {init: [he_normal, xavier_normal], epochs: [1, 2]}}")
    assert [(config.variant.init.name, config.variant.epochs) for config in configs] == [
        ("he_normal", 1),
        ("xavier_normal", 2),
    ]


def test_a_zip_is_looped_over_inside_the_grid() -> None:
    text = "sweep: {zip: {epochs: [1, 2], batch_size: [8, 16]}, grid: {lr: [1, 2]}}"
    found = [(c.variant.lr, c.variant.epochs, c.variant.batch_size) for c in expanded(text)]
    assert found == [(1, 1, 8), (1, 2, 16), (2, 1, 8), (2, 2, 16)]


def test_what_is_not_varied_is_that_of_the_file() -> None:
    configs = expanded("epochs: 3\nlr: 5\nseeds: [4]\ntags: [a]\nsweep: {grid: {lr: [1, 2]}}")
    assert [(c.variant.lr, c.variant.epochs, c.variant.tags, c.seeds) for c in configs] == [
        (1, 3, ("a",), (4,)),
        (2, 3, ("a",), (4,)),
    ]


def test_a_file_without_a_sweep_is_one_variant() -> None:
    assert names("lr: 0.1") == ["relu lr=0.1"]
    assert names("{}") == ["relu"]


def test_a_name_in_the_file_comes_first() -> None:
    text = "name: depth\nactivation: tanh\nsweep: {grid: {hidden: [[8], [8, 8]]}}"
    assert names(text) == ["depth hidden=8", "depth hidden=8x8"]
    assert names("name: a\nsweep: {grid: {activation: [relu, tanh]}}") == ["a relu", "a tanh"]
    assert names("activation: tanh\nsweep: {grid: {batch_norm: [false, after]}}") == [
        "tanh batch_norm=false",
        "tanh batch_norm=after",
    ]


def test_names_can_be_varied_themselves() -> None:
    assert names("sweep: {zip: {name: [one, two], lr: [1, 2]}}") == ["one", "two"]


def test_parts_of_a_choice_can_be_varied() -> None:
    text = "optimizer: sgd\nsweep: {grid: {optimizer.momentum: [0, 0.9]}}"
    assert names(text) == ["relu optimizer.momentum=0", "relu optimizer.momentum=0.9"]
    text = "sweep: {grid: {activation.negative_slope: [0.1, 0.2], activation: [leaky_relu, prelu]}}"
    assert names(text) == [
        "leaky_relu(negative_slope=0.1)",
        "prelu(negative_slope=0.1)",
        "leaky_relu(negative_slope=0.2)",
        "prelu(negative_slope=0.2)",
    ]


def test_a_chain_is_one_value_of_a_grid() -> None:
    assert names("sweep: {grid: {activation: [relu, [relu, sigmoid]]}}") == ["relu", "relu > sigmoid"]


def test_flags_set_keys_of_the_grid(tmp_path: Path) -> None:
    configs = swept(tmp_path, "epochs: 2\n", ["lr=1e-4,1e-3", "activation=relu,{name: elu, alpha: 2}"])
    assert [config.variant.name for config in configs] == [
        "relu lr=0.0001", "elu(alpha=2) lr=0.0001", "relu lr=0.001", "elu(alpha=2) lr=0.001",
    ]  # fmt: skip
    text = "sweep: {grid: {lr: [1, 2], epochs: [1, 2]}}"
    configs = swept(tmp_path, text, ["lr=7", "hidden=[8],[8,8]"], seeds="2", device="cpu")
    assert {config.variant.lr for config in configs} == {7}
    assert [config.variant.hidden for config in configs][:2] == [(8,), (8, 8)]
    assert {(config.seeds, config.variant.device) for config in configs} == {((0, 1), "cpu")}


def test_several_files_are_swept_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\n")
    (tmp_path / "b.yaml").write_text("name: b\nsweep: {grid: {lr: [1, 2]}}\n")
    found = load_sweep([tmp_path / "a.yaml", tmp_path / "b.yaml"], settings(["epochs=2"]), ["epochs=3,4"])
    assert [config.variant.name for config in found] == [
        "a epochs=3", "a epochs=4", "b lr=1 epochs=3", "b lr=1 epochs=4", "b lr=2 epochs=3", "b lr=2 epochs=4",
    ]  # fmt: skip


def test_set_can_replace_a_part_of_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("sweep: {grid: {lr: [1, 2]}}")
    changes = settings(["sweep.grid.lr=[1e-3,1e-2]"])
    assert [c.variant.lr for c in load_sweep([tmp_path / "x.yaml"], changes)] == [0.001, 0.01]


def test_a_wrong_value_is_reported_once_at_its_place_in_the_list() -> None:
    text = "sweep:\n  grid:\n    lr: [1, 0]\n    epochs: [1, 2, 3]\n    activation: [relu, {name: elu, alpha: -1}]\n"
    assert refused(text) == [
        "x.yaml:3:13: lr: must be a number > 0 and <= 1e+06, got 0",
        "x.yaml:5:43: activation.alpha: must be a number >= 0 and <= 100, got -1",
    ]


def test_a_wrong_value_of_a_flag_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        swept(tmp_path, "epochs: 0\n", ["lr=1e-3,fast"])
    assert str(caught.value).split("\n") == [
        f"{tmp_path}/x.yaml:1:9: epochs: must be an integer >= 1 and <= 100000, got 0",
        "-g lr=1e-3,fast: lr: must be a number > 0 and <= 1e+06, got 'fast'",
    ]


def test_values_that_do_not_go_together_are_found_in_the_combination() -> None:
    found = refused("sweep: {grid: {batch_size: [8, 64], train_limit: [1000, 50]}}")
    assert found == ["x.yaml:1:32: batch_size: must be at most 50 (the number of training images), got 64"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: 3", "1:8: sweep: must contain grid, zip or both, got 3"),
        ("sweep: {}", "1:8: sweep: must contain grid, zip or both, got {}"),
        ("sweep:", "1:7: sweep: must contain grid, zip or both, got nothing"),
        ("sweep: {grid: }", "1:14: sweep.grid: must contain keys, each with a list of values, got nothing"),
        ("sweep: {grd: {lr: [1]}}", "1:9: sweep.grd: unknown key 'grd'; did you mean 'grid'?"),
        ("sweep: {x: {lr: [1]}}", "1:9: sweep.x: unknown key 'x'; it has grid, zip"),
        ("sweep: {grid: {lrr: [1]}}", "1:16: sweep.grid.lrr: unknown key 'lrr'; did you mean 'lr'?"),
        ("sweep: {grid: {seeds: [1]}}", "1:16: sweep.grid.seeds: seeds is not part of a variant; remove it"),
        ("sweep: {grid: {lr: 1}}", "1:20: sweep.grid.lr: must be a list of values such as [a, b], got 1"),
        ("sweep: {grid: {lr: []}}", "1:20: sweep.grid.lr: must be a list of values such as [a, b], got []"),
        ("sweep: {grid: {lr.x: [1]}}", "1:23: lr: has no parts; write lr=..."),
        ("sweep: {grid: {hidden: [8]}}", "1:25: hidden: must be a list such as [512], got 8"),
        (
            "sweep: {grid: {optimizer.momentum: [0.5]}}",
            "1:37: optimizer.momentum: unknown parameter 'momentum' of",
        ),
        ("sweep: {zip: {lr: [1, 2], epochs: [1]}}", "1:27: sweep.zip.epochs: has 1 value, but lr has 2"),
        (
            "sweep: {grid: {lr: [1]}, zip: {lr: [2]}}",
            "1:32: sweep.zip.lr: is also in grid; remove it from one",
        ),
    ],
)
def test_a_sweep_has_its_form_or_is_refused(text: str, message: str) -> None:
    (found,) = refused(text + "\n")
    assert found.startswith(f"x.yaml:{message}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sweep:\n  grid:\n    lr: [1e-3,\n         0.001]\n", "4:10: lr"),
        (
            "sweep:\n  grid:\n    activation:\n    - relu\n    - {name: relu}\n    - [relu]\n",
            "5:7: activation",
        ),
        ("sweep: {grid: {epochs: [1, 2], lr: [1, 1.0]}}", "1:40: lr"),
        ("sweep: {zip: {epochs: [1, 2, 1], lr: [1, 2, 1]}}", "1:30: epochs"),
        ("sweep: {zip: {name: [a, a], device: [cpu, cuda]}}", "1:25: name"),
    ],
)
def test_a_variant_that_comes_twice_is_refused_at_its_second_value(text: str, place: str) -> None:
    assert refused(text)[0].startswith(f"x.yaml:{place}: gives a variant that is already in the sweep (as in line ")


def test_a_grid_of_millions_is_refused_before_it_is_made() -> None:
    values = "[" + ", ".join(str(k) for k in range(1, 201)) + "]"
    text = f"sweep: {{grid: {{lr: {values}, epochs: {values}, batch_size: {values}, probe: {values}}}}}"
    assert refused(text) == ["x.yaml:1:1: sweep: makes 1,600,000,000 variants; at most 10,000 are allowed"]


def test_millions_of_runs_are_refused() -> None:
    values = "[" + ", ".join(str(k) for k in range(1, 102)) + "]"
    assert refused(f"seeds: 10000\nsweep: {{grid: {{lr: {values}}}}}") == [
        "x.yaml:2:1: sweep: 101 variants with 10,000 seeds are 1,010,000 runs; at most 1,000,000 are allowed"
    ]


@pytest.mark.parametrize("text", ["lr", "=1", "lr=1]", "lr=[1", "lr=1 # 2", "lr=\x1b"])
def test_a_flag_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^-g [^\x1b]*$"):
        parse_grid(text)


def test_an_empty_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^-g lr=: sweep.grid.lr: must be a list of values"):
        swept(tmp_path, "{}", ["lr="])


def test_a_wrong_sweep_is_refused_with_flags_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sweep: must contain grid, zip or both, got 3"):
        swept(tmp_path, "sweep: 3", ["lr=1,2"])


AXES = st.fixed_dictionaries(
    {},
    optional={
        "activation": st.lists(st.sampled_from(["relu", "tanh", "elu"]), min_size=1, unique=True),
        "lr": st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4, unique=True),
        "epochs": st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
        "init": st.lists(st.sampled_from(["he_normal", "orthogonal"]), min_size=1, unique=True),
    },
)


@hypothesis_settings(derandomize=True, max_examples=60, deadline=None)
@given(AXES.filter(len))
def test_the_variants_are_as_many_as_the_combinations_and_all_different(grid: dict[str, list[Any]]) -> None:
    configs = expand(Document("x", {"seeds": 1, "sweep": {"grid": grid}}))
    points = list(itertools.product(*grid.values()))
    assert len(configs) == len(points)
    assert len({config.variant.name for config in configs}) == len(points)
    assert len({Run(config.variant, 0).run_id for config in configs}) == len(points)
    for config, point in zip(configs, points, strict=True):
        flat = config.variant.flat()
        assert [flat[key] for key in grid] == list(point)


@hypothesis_settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["relu", "lr", "grid", ""]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["grid", "zip", "lr", "epochs", "optimizer.momentum", "augment.x", "."]),
                inner,
            )
        ),
        max_leaves=6,
    )
)
def test_any_sweep_makes_configs_or_a_list_of_problems(sweep: Any) -> None:
    try:
        found = len(expand(Document("x", {"sweep": sweep})))
    except ConfigError as error:
        found = len(error.problems)
    assert found > 0
