"""Variants and runs: what goes together, names, ids and the cells of tables."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.config import Run, Variant
from actbench.config.rules import BadValueError
from actbench.config.variant import KEYS
from actbench.datasets import DATASETS
from actbench.metrics import METRICS
from actbench.store.run import COLUMNS
from configs import HOSTILE, problems, problems_of

DIGITS = DATASETS["digits"].train


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 60_001}, "batch_size: must be at most 60000 (the number of training images), got 60001"),
        ({"dataset": "digits", "train_limit": 5000}, f"train_limit: must be at most {DIGITS} (all of digits)"),
        ({"test_limit": 10_001}, "test_limit: must be at most 10000 (all of mnist), got 10001"),
        ({"train_limit": 63}, "batch_size: must be at most 63 (the number of training images), got 64"),
        ({"train_limit": 100, "probe": 101}, "probe: must be at most 100 (the number of training images), got 101"),
        ({"train_limit": 65, "batch_norm": True}, "batch_size: leaves a batch of one image (65 training"),
        ({"batch_size": 1, "batch_norm": "after"}, "batch_size: leaves a batch of one image"),
    ],
)  # fmt: skip
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    (found,) = problems_of(**values)
    assert found.startswith(f"config: {message}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation": 60_000}, "validation: must leave some of the 60000 training images to train on, got 60000"),
        ({"validation": 60_000 - 63}, "batch_size: must be at most 63 (the number of training images), got 64"),
        (
            {"schedule": {"name": "warmup", "warmup_epochs": 11}},
            "schedule.warmup_epochs: must be at most epochs (10), got 11",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused_where_they_are_not_built_too(
    values: dict[str, Any], message: str
) -> None:
    assert f"config: {message}" in problems_of(**values)


def test_a_clash_is_shown_at_the_key_that_was_given() -> None:
    assert problems("name: a\ntrain_limit: 10\n")[0].startswith("x.yaml:2:14: batch_size: must be at most 10")


def test_a_clash_with_a_value_that_is_wrong_itself_is_not_reported() -> None:
    assert len(problems("train_limit: -1\nbatch_size: 60000\n")) == 1
    assert len(problems("dataset: dgits\nbatch_size: 60000\n")) == 1


def test_bounds_are_inclusive_where_the_message_says_so() -> None:
    assert Variant(batch_size=60_000).batch_size == 60_000
    assert Variant(hidden=[]).parameter_count == 7_850
    assert Variant(hidden=[16_384]).hidden == (16_384,)
    assert Variant(hidden=[64] * 100).flat()["hidden"] == "x".join(["64"] * 100)
    assert Variant(epochs=100_000, lr=1e6).lr == 1e6
    assert Variant(batch_size=1).batch_size == 1


def test_a_number_that_training_would_take_for_zero_is_refused() -> None:
    assert problems("lr: 5e-324\n") == ["x.yaml:1:5: lr: must be 0 or at least 2.2e-308 in size, got 5e-324"]


def test_a_variant_refuses_what_is_given_to_it_directly() -> None:
    with pytest.raises(BadValueError, match="lr"):
        Variant(lr="fast")
    with pytest.raises(FrozenInstanceError):
        Variant().lr = 1.0  # type: ignore[misc]  # that it is refused is the test


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_id_is_a_plain_folder_name_whatever_the_name_is(name: str) -> None:
    run = Run(Variant(name=name), 0)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,39}-s0-[0-9a-f]{10}", run.former_id)
    assert run.run_id == Run(Variant(), 0).run_id


def test_former_ids_of_different_names_differ_even_on_a_disk_that_ignores_case() -> None:
    names = [*HOSTILE, "ReLU", "relu", "RELU", "x" * 301, "x" * 299 + "y"]
    ids = {Run(Variant(name=name), 0).former_id.casefold() for name in names}
    assert len(ids) == len(names)


def test_a_variant_without_a_name_is_named_after_what_differs_from_the_recipe() -> None:
    assert Variant().name == "relu"
    assert Variant(activation="tanh", device="cpu", tags=["a"]).name == "tanh"
    values = {"activation": ["relu", "sigmoid"], "lr": 0.01, "batch_norm": True, "hidden": [512, 256]}
    assert Variant(**values).name == "relu > sigmoid batch_norm=before lr=0.01 hidden=512x256"
    assert (
        Variant(bias_init=0, optimizer={"name": "sgd", "momentum": 0.9}).name
        == "relu optimizer=sgd(momentum=0.9) bias_init=0"
    )
    assert Variant(**dict(reversed(values.items()))).name == Variant(**values).name


def test_a_run_id_never_changes() -> None:
    assert Run(Variant(), 0).run_id == "relu-s0-6de3aefc0f"
    assert Run(Variant(), 0).former_id == "relu-s0-c69bfcfff1"
    assert Run(Variant(), 0, former=True).run_id == "relu-s0-c69bfcfff1"


OTHERS: dict[str, Any] = {
    "dataset": "qmnist", "network": "cnn", "activation": "tanh", "init": "orthogonal", "batch_norm": True, "lr": 0.01,
    "optimizer": "sgd", "epochs": 3, "batch_size": 32, "hidden": [16], "dropout": 0.5, "schedule": "cosine",
    "augment": {"shift": 1}, "bias_init": 0, "weight_decay": 0.1, "label_smoothing": 0.1, "validation": 100,
    "probe": "test", "train_limit": 1000, "test_limit": 1000,
}  # fmt: skip
"""For every key that decides what is trained, a value that is not the recipe's."""
a_run = st.tuples(st.sets(st.sampled_from(sorted(OTHERS)), max_size=4), st.integers(0, 2))


def test_every_key_that_decides_what_is_trained_is_among_the_others() -> None:
    assert {*OTHERS} == {*KEYS} - {"name", "device", "tags"}


@settings(derandomize=True, deadline=None)
@given(a_run, a_run | st.none(), st.sampled_from(HOSTILE), st.sampled_from(["relu", "tanh", *HOSTILE]))
def test_run_ids_are_equal_exactly_if_settings_and_seed_are_whatever_the_names(
    one: tuple[set[str], int], other: tuple[set[str], int] | None, name: str, other_name: str
) -> None:
    def run(keys: set[str], seed: int, name: str) -> Run:
        return Run(Variant(**{key: OTHERS[key] for key in keys}, name=name), seed)

    other = other or one
    a, b = run(*one, name), run(*other, other_name)
    assert (a.run_id == b.run_id) == (one == other)
    assert (a.former_id == b.former_id) == ((one, name) == (other, other_name))
    assert a.run_id != a.former_id


def test_a_run_id_depends_on_what_is_trained_and_on_nothing_else() -> None:
    base = Run(Variant(name="a"), 0).run_id
    assert Run(Variant(name="a", device="cuda", tags=["x"]), 0).run_id == base
    assert Run(Variant(name="a", activation={"name": "relu"}, lr=1e-3), 0).run_id == base
    others = [
        Variant(name="a", lr=0.002),
        Variant(name="a", bias_init=0),
        Variant(name="a", hidden=[512, 512]),
    ]
    ids = {Run(variant, 0).run_id for variant in others} | {Run(Variant(name="a"), 1).run_id, base}
    assert len(ids) == 5


def test_a_run_id_is_the_same_in_another_process() -> None:
    code = "from actbench.config import *; print(Run(Variant(name='é', activation='elu'), 3).run_id)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],             capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs == [Run(Variant(name="é", activation="elu"), 3).run_id] * 2


def test_the_cells_of_a_table_are_plain_values() -> None:
    flat = Variant(activation=["relu", "tanh"], hidden=[4, 3], tags=["a", "b"], batch_norm=True).flat()
    assert list(flat)[:11] == [
        "name", "dataset", "network", "activation", "init", "batch_norm", "lr", "optimizer", "epochs",
        "batch_size", "hidden",
    ]  # fmt: skip
    assert (flat["activation"], flat["hidden"], flat["tags"], flat["batch_norm"]) == (
        "relu > tanh",
        "4x3",
        "a, b",
        "before",
    )
    assert flat["train_limit"] is None
    assert Variant(hidden=[]).flat()["hidden"] == "none"
    assert set(flat) == set(KEYS)


def test_the_first_columns_of_runs_csv_are_keys_and_metrics_under_their_own_names() -> None:
    own = {"run_id", "seed", "status", "wall_s", "images_per_s"}
    assert {*COLUMNS} - own <= {*KEYS, *METRICS}
    first = [column for column in COLUMNS if column in KEYS]
    assert first == [key for key in KEYS if key in first]


def test_variants_can_be_compared_hashed_and_sent_to_other_processes() -> None:
    variant = Variant(activation={"name": "leaky_relu", "negative_slope": 0.2})
    same = pickle.loads(pickle.dumps(variant))
    assert same == variant
    assert hash(same) == hash(variant)
    assert same.activation[0].label == "leaky_relu(negative_slope=0.2)"
    assert Variant(**vars(variant)) == variant
