"""The benchmark's tables of measured values. The measuring itself is run by hand."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import benchmark
from benchmarks import commands, epochs, micro, mixed, targets, tried
from benchmarks.setting import Setting

MEDIANS = {"plain_epoch_s": 24.0, "jax_epoch_s": 1.3, "one_epoch_s": 2.0, "floor_epoch_s": 0.8, "lanes_5_epoch_s": 1.0}


def row_of(medians: dict[str, float], compared_with: str) -> list[str]:
    (row,) = [line for line in targets.table(medians, []) if compared_with in line]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_row_has_both_times_their_ratio_and_whether_it_meets_its_target() -> None:
    met = row_of({"plain_epoch_s": 24.0, "one_epoch_s": 2.0}, "plain program")
    assert met == ["one network", "plain program", "24.00 s", "2.00 s", "12x", "≥ 12x", "yes"]
    assert row_of({"plain_epoch_s": 23.0, "one_epoch_s": 2.0}, "plain program")[-3:] == ["11.5x", "≥ 12x", "no"]


def test_an_upper_limit_is_met_by_smaller_values() -> None:
    for above, met in ((0.9, "yes"), (1.1, "no")):
        medians = {"import_torch_s": 2.0, "first_step_s": 2 + above, "above_torch_s": above}
        assert row_of(medians, "import torch")[-1] == met


def test_the_share_of_the_floor_divides_the_floors_time_by_the_lanes() -> None:
    assert row_of(MEDIANS, "floor, state in memory")[3:6] == ["1.00 s", "80%", "≥ 75%"]


def test_a_value_that_was_not_measured_has_no_row() -> None:
    assert len(targets.table({}, [])) == 2
    assert not any("JAX" in line for line in targets.table({"one_epoch_s": 2.0}, ["one"]))


def test_the_table_says_if_jax_is_not_installed() -> None:
    lines = targets.table({"one_epoch_s": 2.0}, ["one", "jax"])
    assert "not installed" in lines[-1]


def test_without_jax_its_part_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    part = epochs.jax(Setting(Path()))
    assert [next(part), next(part)] == [{}, {}]


def test_the_floor_is_two_products_per_step_and_one_pass_over_adams_state() -> None:
    images, products, passes = 128, 128 * 2 * 2 * 784 * 512, 2 * 28 * 407_050
    assert epochs.floor_epoch_s(images, 1e9, 1e30) == pytest.approx(products / 1e9)
    assert epochs.floor_epoch_s(images, 1e30, 1e9) == pytest.approx(passes / 1e9)
    assert epochs.floor_epoch_s(images, 1e9, 1e9) == pytest.approx((products + passes) / 1e9)


def test_every_value_in_the_tables_is_measured_by_some_part() -> None:
    sources = "".join(inspect.getsource(module) for module in (epochs, commands, mixed, micro))
    lanes = {f"lanes_{n}_epoch_s" for n in epochs.LANES} | {f"group_of_{n}_s" for n in micro.GROUPS}
    built = r"evaluate_(probed|unprobed)_s|chunks_of_\d+_s|child_.*_step_s"
    names = {name for one in targets.TARGETS for name in (one.reference, one.ours) if name}
    names |= {name for one in tried.TRIED for _, name in one.values}
    for name in names - lanes:
        assert f'"{name}"' in sources or re.fullmatch(built, name), name


def test_the_page_of_experiments_shows_measured_values_and_is_complete_without_them() -> None:
    bare, measured = tried.page({}, ""), tried.page({"autograd_step_s": 0.003, "by_hand_step_s": 0.002}, "head")
    assert len([line for line in bare if line.startswith("|")]) == 2 + len(tried.TRIED)
    assert any(line.endswith("| autograd 3 ms, by hand 2 ms |") for line in measured)
    assert "head" in measured


def test_the_help_names_every_part() -> None:
    assert benchmark.__doc__ is not None
    assert set(re.findall(r"^    ([a-z]+)  ", benchmark.__doc__, re.MULTILINE)) == set(benchmark.PARTS)


def test_a_trial_limits_the_images_of_every_run_and_command() -> None:
    trial, whole = Setting(Path("x"), trial=True), Setting(Path("x"))
    assert trial.variant(lr=0.01).train_limit == trial.images == 1000
    assert whole.variant().train_limit is None
    assert "train_limit=1000" in trial.actbench("train", "r")
    assert not any("limit" in argument for argument in whole.actbench("train", "r"))


def test_a_training_step_of_each_kind_runs() -> None:
    for step in (micro.stepper(micro.stack_of(2)), micro.autograd_stepper()):
        assert micro.typical(step, budget_s=0) > 0
