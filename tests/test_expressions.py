"""The language of --filter and --fail-if: what it means, what it refuses, and that it can do nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.comparison.expressions import MAX_DEPTH, MAX_LENGTH, parse
from actbench.errors import ActbenchError, UsageError

NAMES = ("lr", "seed", "activation", "batch_norm", "note", "dormant_0.1_ratio")
ROW: dict[str, Any] = {
    "lr": 0.01, "seed": 3, "activation": "relu", "batch_norm": False, "note": None, "dormant_0.1_ratio": 0.25,
}  # fmt: skip


def decide(text: str, **changes: Any) -> bool | None:
    return parse(text, NAMES).decide(ROW | changes)


def refused(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        decide(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "lr == 0.01",
        "lr == 1e-2",
        "lr == +.01",
        "lr != 0.02",
        "seed < 4 and seed <= 3 and seed > -1 and seed >= 3",
        "seed<4 and(seed>2)",
        "activation == 'relu'",
        'activation == "relu"',
        r"activation == 'r\elu'",
        "activation < 'silu'",
        "activation in ('silu', 'relu',)",
        "activation not in ('silu', 'gelu')",
        "seed in (1, 2, 3)",
        "batch_norm == false",
        "not batch_norm",
        "not not true",
        "dormant_0.1_ratio == 0.25",
        "3 == seed",
        "(seed == 3)",
        "((lr < 1) and (seed == 9 or true))",
        "true\nor\tfalse",
    ],
)
def test_these_hold(text: str) -> None:
    assert decide(text) is True


@pytest.mark.parametrize(
    "text",
    ["lr > 0.01", "activation == 'ReLU'", "activation not in ('relu')", "seed in (1, 2)", "batch_norm", "not true"],
)
def test_these_do_not(text: str) -> None:
    assert decide(text) is False


def test_and_binds_more_tightly_than_or_and_not_more_than_both() -> None:
    assert decide("true or false and false") is True
    assert decide("(true or false) and false") is False
    assert decide("not false or true") is True
    assert decide("not (false or true)") is False
    assert decide("not seed == 4") is True


@pytest.mark.parametrize("truths", [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)])
def test_logic_is_that_of_python(truths: tuple[bool, bool, bool]) -> None:
    names = dict(zip("abc", truths, strict=True))
    for text in ("a and b or c", "a or b and c", "not a and b", "not (a or b) == c", "a and not b or not c"):
        meant = text.replace("not (a or b) == c", "not ((a or b) == c)")
        assert parse(text, "abc").decide(names) == eval(meant, {}, names)


@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize("test", ["lr == 1", "lr != 1", "lr < 1", "lr >= 1", "lr in (1, 2)", "lr not in (1, 2)"])
def test_a_comparison_with_a_missing_value_holds_neither_way(test: str, missing: float | None) -> None:
    for text in (test, f"not ({test})"):
        assert decide(text, lr=missing) is None
        assert not parse(text, NAMES).holds(ROW | {"lr": missing})


def test_a_name_that_a_row_lacks_is_missing() -> None:
    assert not parse("lr < 1", NAMES).holds({})


def test_what_is_known_can_decide_beside_what_is_missing() -> None:
    assert decide("note == 1 or true") is True
    assert decide("note == 1 and false") is False
    assert decide("note == 1 and true") is None
    assert decide("note == 1 or false") is None


def test_none_asks_for_what_is_missing() -> None:
    assert decide("note == none") is True
    assert decide("lr == none") is False
    assert decide("lr != none") is True
    assert decide("note in ('x', none)") is True
    assert decide("lr == none", lr=math.nan) is True


def test_values_of_different_kinds_are_never_equal() -> None:
    assert decide("seed == '3'") is False
    assert decide("seed == true", seed=1) is False
    assert decide("batch_norm == 0") is False
    assert decide("seed == 3.0") is True


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("activation < 3", "cannot order text ('relu') < a number (3)"),
        ("lr >= '1'", "cannot order a number (0.01) >= text ('1')"),
        ("batch_norm < true", "cannot order true or false"),
        ("lr", "uses a number (0.01) as a condition; compare it with something"),
        ("not activation", "uses text ('relu') as a condition"),
        ("true and seed", "uses a number (3) as a condition"),
    ],
)
def test_what_makes_no_sense_is_said_not_guessed(text: str, kinds: str) -> None:
    assert kinds in refused(text)


def test_a_list_cannot_be_ordered() -> None:
    for text in ("seed < 3", "seed > seed"):
        with pytest.raises(UsageError, match="cannot order a list"):
            decide(text, seed=(512, 256))


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a name, a number, 'text', true, false, none or '(', got the end"),
        ("lr <", 5, "got the end"),
        ("lr = 1", 4, "use '==' to compare"),
        ("lr == 'x", 7, "a text that is never closed"),
        ("lr == 1 seed", 9, "expected the end, 'and' or 'or', got 'seed'"),
        ("0 < lr < 1", 8, "join comparisons with 'and'"),
        ("(lr == 1", 9, "expected ')'"),
        ("lr in 1", 7, "expected '(' after 'in'"),
        ("lr in (1 2)", 10, "expected ',' or ')'"),
        ("lr in ()", 8, "expected a name"),
        ("lr in (seed)", 8, "expected"),
        ("lr == 1e999", 7, "a number out of range"),
        ("lr == 5abc", 7, "unexpected '5'"),
        ("and", 1, "expected a name"),
        ("lr == 1 & true", 9, "unexpected '&'"),
    ],
)
def test_an_error_points_at_its_place(text: str, column: int, message: str) -> None:
    lines = refused(text).splitlines()
    assert lines[0].startswith(f"in the expression, column {column}: ")
    assert message in lines[0]
    assert lines[1] == f"  {text}"
    assert lines[2].index("^") == 2 + column - 1


def test_an_unknown_name_is_suggested_or_taken_for_text() -> None:
    assert "unknown name 'activaton'; did you mean 'activation'?" in refused("activaton == 'relu'")
    assert "unknown name 'xyz'; quote it if it is meant as text: 'xyz'" in refused("activation == xyz")


def test_an_error_shows_no_control_characters() -> None:
    text = refused("lr == '\x1b[31m' ?")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "lr.__class__ == 1",
        "lr(1)",
        "activation.upper() == 'RELU'",
        "activation[0] == 'r'",
        "lambda: 1",
        "lr if true else seed",
        "lr + 1 > 0",
        "f'{lr}' == ''",
        "`id`",
        "lr == 1; seed == 2",
        "lr := 1",
    ],
)
def test_nothing_can_be_called_or_looked_into(text: str) -> None:
    refused(text)


def test_the_names_used_are_known_in_order_of_first_use() -> None:
    assert parse("seed > 1 and lr < 1 or seed == 0", NAMES).names == ("seed", "lr")


def test_length_and_depth_have_limits() -> None:
    assert parse("true" + " " * (MAX_LENGTH - 4), NAMES).decide({}) is True
    assert f"at most {MAX_LENGTH}" in refused("true" + " " * (MAX_LENGTH - 3))
    for opened, closed in (("(", ")"), ("not ", "")):
        assert decide(opened * MAX_DEPTH + "true" + closed * MAX_DEPTH) is True
        deeper = MAX_DEPTH + 1
        assert f"nested deeper than {MAX_DEPTH} levels" in refused(opened * deeper + "true" + closed * deeper)
    assert decide(" and ".join(["true"] * 200)) is True


tokens = st.sampled_from(
    ["lr", "seed", "activation", "note", "and", "or", "not", "in", "(", ")", ",", "==", "!=", "<", ">=", "=", "1",
     "-2.5", "1e5", "'relu'", '"', "'", "\\", "true", "none", ".", "__class__", "\x00", "\x1b[0m", "é", "٣", "∞"]
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.text(max_size=30) | st.lists(tokens, max_size=12).map(" ".join) | st.lists(tokens, max_size=8).map("".join))
def test_any_text_gives_an_answer_or_an_error_for_a_person(text: str) -> None:
    try:
        answer = decide(text)
    except ActbenchError as error:
        assert str(error)  # noqa: PT017 - that no other error escapes is what is tested
    else:
        assert answer in (True, False, None)


values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["relu", "", "3"])


@settings(derandomize=True, deadline=None, max_examples=150)
@given(values, values)
def test_a_test_and_its_denial_never_both_hold(left: Any, right: Any) -> None:
    for test in ("a == b", "a in (1, 'relu', true, none)", "a < b"):
        row = {"a": left, "b": right}
        try:
            answers = [parse(text, "ab").holds(row) for text in (test, f"not ({test})")]
        except UsageError:
            continue  # values that have no order
        assert answers != [True, True]
