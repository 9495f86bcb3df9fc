"""Schedules: their end points, and agreement with torch if it has the same one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.errors import UnknownNameError
from actbench.schedules import SCHEDULES, multiplier


def factors(name: str, per_epoch: int = 10, epochs: int = 4, **given: Any) -> list[float]:
    params = SCHEDULES.complete(name, given)
    return [multiplier(name, params, step, per_epoch, epochs) for step in range(per_epoch * epochs + 1)]


def test_constant_is_one_throughout() -> None:
    assert set(factors("constant")) == {1.0}


def test_step_cuts_after_every_step_size_epochs() -> None:
    found = factors("step", step_size=2, gamma=0.5)
    assert found[0] == found[19] == 1
    assert found[20] == found[39] == 0.5
    assert found[40] == 0.25


def test_exponential_falls_once_per_epoch() -> None:
    assert factors("exponential", gamma=0.5)[::10] == [1, 0.5, 0.25, 0.125, 0.0625]
    assert factors("exponential", gamma=0.5)[9] == 1


def test_cosine_goes_from_one_through_the_middle_to_its_end() -> None:
    found = factors("cosine", min_lr_ratio=0.2)
    assert found[0] == 1
    assert found[20] == pytest.approx(0.6)
    assert found[40] == pytest.approx(0.2)
    assert found == sorted(found, reverse=True)


def test_warmup_rises_to_one_in_its_epochs_and_stays() -> None:
    found = factors("warmup", warmup_epochs=2.0)
    assert found[0] == pytest.approx(1 / 20)
    assert found[9] == pytest.approx(0.5)
    assert set(found[19:]) == {1.0}


def test_warmup_can_be_followed_by_a_cosine() -> None:
    found = factors("warmup", warmup_epochs=1.0, then="cosine")
    assert found[9] == found[10] == 1
    assert found[25] == pytest.approx(0.5)
    assert found[40] == pytest.approx(0)


def test_warmup_as_long_as_the_training_never_falls() -> None:
    found = factors("warmup", warmup_epochs=4.0, then="cosine")
    assert found == sorted(found)
    assert found[-1] == 1


def test_one_cycle_starts_low_peaks_and_ends_lower() -> None:
    found = factors("one_cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert max(found) == pytest.approx(1)
    assert found.index(max(found)) == 11
    assert found[39] == pytest.approx(1 / 25 / 1e4)


def test_after_the_last_step_the_factor_stays_the_same() -> None:
    for name in SCHEDULES:
        params = SCHEDULES.complete(name, {})
        assert multiplier(name, params, 99, 10, 4) == multiplier(name, params, 40, 10, 4)


def test_an_unknown_schedule_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        multiplier("cosin", {}, 0, 1, 1)


@pytest.mark.parametrize(
    ("name", "params", "torch_name", "options"),
    [
        ("one_cycle", {}, "OneCycleLR", {"total_steps": 40}),
        (
            "one_cycle",
            {"pct_start": 0.5, "div_factor": 5.0},
            "OneCycleLR",
            {"pct_start": 0.5, "div_factor": 5.0},
        ),
        ("one_cycle", {"pct_start": 0.0}, "OneCycleLR", {"pct_start": 0.0}),
        ("cosine", {"min_lr_ratio": 0.1}, "CosineAnnealingLR", {"T_max": 40, "eta_min": 0.1}),
        ("step", {"step_size": 3, "gamma": 0.3}, "StepLR", {"step_size": 3, "gamma": 0.3}),
        ("exponential", {"gamma": 0.7}, "ExponentialLR", {"gamma": 0.7}),
    ],
)
def test_the_factors_agree_with_torch(
    name: str, params: dict[str, Any], torch_name: str, options: dict[str, Any]
) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    if torch_name == "OneCycleLR":
        options = {"max_lr": 1.0, "total_steps": 40, "cycle_momentum": False, **options}
    scheduler = getattr(torch.optim.lr_scheduler, torch_name)(optimizer, **options)
    each_epoch = torch_name in ("StepLR", "ExponentialLR")
    found = factors(name, **params)[: 40 : 10 if each_epoch else 1]
    expected = []
    for _ in found:
        expected.append(optimizer.param_groups[0]["lr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that no optimizer step was made
            scheduler.step()
    assert found == pytest.approx(expected, rel=1e-9)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.sampled_from(list(SCHEDULES)), st.integers(1, 7), st.integers(1, 7), st.data())
def test_every_factor_is_a_share_of_the_rate(name: str, per_epoch: int, epochs: int, data: st.DataObject) -> None:
    given_params = {}
    for parameter in SCHEDULES[name].parameters:
        if isinstance(parameter.default, int):
            given_params[parameter.name] = data.draw(st.integers(1, 10))
        elif isinstance(parameter.default, float):
            high = min(parameter.high, epochs if parameter.name == "warmup_epochs" else 1e9)
            bounds = {"exclude_min": parameter.low_open, "exclude_max": parameter.high_open}
            given_params[parameter.name] = data.draw(st.floats(parameter.low, high, **bounds))
        else:
            given_params[parameter.name] = data.draw(st.sampled_from(parameter.choices))
    found = factors(name, per_epoch, epochs, **given_params)
    assert all(math.isfinite(factor) and 0 <= factor <= 1 + 1e-12 for factor in found)
