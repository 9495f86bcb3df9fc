"""The cost of an activation: how it is timed and shown. No test depends on real times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench import cli, cost
from actbench.activations import ACTIVATIONS
from actbench.config import Choice
from actbench.cost import Cost, Elements, measure
from actbench.errors import UnknownNameError, UsageError

TINY = Elements(4, 8)
KEYS = ["activation", "forward_ns", "forward_low", "forward_high", "backward_ns", "backward_low", "backward_high"]
KEYS += ["step_share"]


class FakeClock:
    """A clock on which the n-th reading is `at(n)` seconds."""

    def __init__(self, at: Any) -> None:
        self.readings, self._at = 0, at

    def __call__(self) -> float:
        self.readings += 1
        return float(self._at(self.readings))


def test_a_steady_clock_gives_all_the_same_time_per_element_with_an_interval_of_zero_width() -> None:
    for one in measure(["relu", "tanh"], TINY, rounds=3, clock=FakeClock(lambda n: n * 1e-6)):
        for side in ("forward", "backward"):
            found = [getattr(one, f"{side}_{part}") for part in ("low", "ns", "high")]
            assert found == pytest.approx([1000 / 32] * 3)
        assert one.step_share == pytest.approx(2)  # a tick forward, one backward, one for the step


def test_elements_are_those_of_the_input_whose_width_a_gated_activation_chooses() -> None:
    relu, glu = measure(["relu", "glu"], TINY, rounds=2, clock=FakeClock(lambda n: n))
    pre, _ = ACTIVATIONS["glu"].widths(8, 784, 10, {})
    assert glu.forward_ns * 4 * pre == pytest.approx(relu.forward_ns * 32)


@settings(deadline=None, max_examples=10)
@given(names=st.lists(st.sampled_from(["relu", "tanh", "prelu", "identity"]), min_size=1, max_size=3, unique=True))
def test_a_machine_that_slows_down_steadily_slows_all_activations_equally(names: list[str]) -> None:
    found = measure(names, TINY, rounds=2, clock=FakeClock(lambda n: n * n))
    assert [one.backward_ns for one in found] == pytest.approx([found[0].backward_ns] * len(names))
    assert [one.forward_ns for one in found] == pytest.approx([found[0].forward_ns] * len(names))


def test_the_first_round_only_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "CALLS", 1)
    monkeypatch.setattr(cost, "STEPS", 1)
    slow_start = FakeClock(lambda n: n if n > 5 else -(10.0 ** (9 - n)))  # a round reads the clock five times
    (one,) = measure(["relu"], TINY, rounds=2, clock=slow_start)
    assert slow_start.readings == 15
    assert one.forward_low == one.forward_ns == one.forward_high == pytest.approx(1e9 / 32)


def test_real_times_are_positive_and_lie_within_their_intervals() -> None:
    for one in measure(["relu", "prelu", "swiglu", "identity"], TINY, rounds=2):
        assert 0 <= one.forward_low <= one.forward_ns <= one.forward_high
        assert 0 <= one.backward_low <= one.backward_ns <= one.backward_high
        assert one.forward_ns > 0
        assert one.backward_ns > 0
        assert one.step_share > 0


def test_every_activation_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "CALLS", 1)
    monkeypatch.setattr(cost, "STEPS", 1)
    assert [one.activation for one in measure(list(ACTIVATIONS), TINY, rounds=2)] == list(ACTIVATIONS)


def test_autograd_is_used_only_if_the_exact_slope_is_not_enough() -> None:
    found = {one.activation: one.by_slope for one in measure(["relu", "prelu", "crelu", "swish"], TINY, rounds=2)}
    assert found == {"relu": True, "prelu": False, "crelu": False, "swish": True}


def test_timing_does_not_change_threads_or_denormals_for_other_code() -> None:
    before = torch.get_num_threads()
    measure(["relu"], TINY, rounds=2)
    assert torch.get_num_threads() == before
    assert float(torch.tensor(1e-40) * 1) > 0


def test_a_row_holds_the_numbers_and_nothing_else() -> None:
    one = Cost("relu", 2.0, 1.0, 3.0, 5.0, 4.0, 6.0, 0.01, by_slope=True)
    assert one.row == dict(zip(KEYS, ["relu", 2.0, 1.0, 3.0, 5.0, 4.0, 6.0, 0.01], strict=True))
    assert replace(one, by_slope=False).row == one.row


def test_elements_can_be_parsed_from_their_own_text() -> None:
    assert Elements.parse("64x512") == Elements(64, 512)
    assert str(Elements.parse("64X512")) == "64x512"


@pytest.mark.parametrize(
    "text", ["", "64", "64x", "0x512", "64x-1", "1e3x5", "2048x1024", "1x99999", "²x5", "9" * 5000]
)
def test_invalid_elements_are_refused_and_the_error_says_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match=r"must be BATCHxWIDTH such as 64x512.*got"):
        Elements.parse(text)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tanh'"):
        measure(["tahn"], TINY)


# --- the command ---------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return cli.run(["cost", "--rounds", "2", "--elements", "4x8", *map(str, arguments)])


def test_the_json_output_is_what_plot_cost_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tanh", "--format", "json") == 0
    (tmp_path / "cost.json").write_text(capsys.readouterr().out)
    assert cli.run(["plot", "cost", str(tmp_path / "cost.json"), "-o", str(tmp_path / "cost.svg")]) == 0
    assert "tanh" in (tmp_path / "cost.svg").read_text()


def test_the_json_output_begins_with_relu(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tanh", "tanh", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [list(row) for row in found["rows"]] == [KEYS, KEYS]
    assert [row["activation"] for row in found.pop("rows")] == ["relu", "tanh"]
    assert found == {"threads": 1, "elements": "4x8", "rounds": 2, "device": "cpu"}


def test_the_csv_output_has_one_line_per_activation(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gelu", "--format", "csv", "--quiet") == 0
    streams = capsys.readouterr()
    lines = streams.out.splitlines()
    assert lines[0] == ",".join(KEYS)
    assert [line.split(",")[0] for line in lines[1:]] == ["relu", "gelu"]
    assert streams.err == ""


def test_the_table_fits_80_columns_and_marks_activations_that_need_autograd(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(chosen: list[Choice], *_: object, **__: object) -> list[Cost]:
        names = [one.label for one in chosen]
        return [Cost(name, 99.5, 90.25, 99.75, 99.5, 1.0, 99.75, 0.123, by_slope=name != "glu") for name in names]

    monkeypatch.setattr(cost, "measure", found)
    monkeypatch.setenv("COLUMNS", "80")
    assert run("squared_relu", "glu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("glu [2]") and "1.00" in line and "12.3" in line for line in lines)
    assert any(line.startswith("[2] backward by autograd") for line in lines)


@pytest.mark.parametrize(
    "arguments", [["tahn"], ["--elements", "0x1"], ["--rounds", "1"], ["--threads", "0"], ["--format", "xml"]]
)
def test_bad_arguments_are_refused_before_anything_is_timed(arguments: list[str]) -> None:
    assert run(*arguments) == 2


def test_an_activation_with_parameters_is_timed_under_the_name_that_tables_show(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["cost", "elu(alpha=2)", "elu", "--elements", "4x8", "--rounds", "2", "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert [row["activation"] for row in json.loads(shown.out)["rows"]] == ["relu", "elu(alpha=2)", "elu"]
    assert "timing 3 activations in 2 rounds" in shown.err
    assert cli.run(["cost", "relu", "--elements", "4x8", "--rounds", "2"]) == 0
    assert "timing 1 activation in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("elu(alpa=2)", "activation elu(alpa=2): alpa: unknown parameter 'alpa' of elu; did you mean 'alpha'?"),
        ("elu(alpha=x)", "alpha: must be a number"),
        ("[relu, tanh]", "cost times activations one by one"),
    ],
)
def test_a_wrong_activation_is_refused_before_anything_is_timed(
    wrong: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["cost", wrong]) == 2
    assert told in capsys.readouterr().err
