"""The language of --filter and --fail-if: what it means, what it refuses, and that it can do nothing else."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.conditions import condition
from actbench.errors import ActbenchError, UsageError
from actbench.expressions import MAX_DEPTH, MAX_LENGTH, Language, parse

NAMES = ("lr", "seed", "activation", "batch_norm", "note", "dormant_0.1_ratio")
ROW: dict[str, Any] = {
    "lr": 0.01, "seed": 3, "activation": "relu", "batch_norm": False, "note": None, "dormant_0.1_ratio": 0.25,
}  # fmt: skip


def decide(text: str, **changes: Any) -> bool | None:
    return condition(text, NAMES).decide(ROW | changes)


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
        "seed == 003",
        "[dormant_0.1_ratio] == 0.25",
        "[ lr ] == 0.01",
        r"activation != 'it\'s'",
        "note not  in (1,) or true",
        "seed < 1" + "0" * 300,
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
        assert condition(text, "abc").decide(names) == eval(meant, {}, names)


@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize("test", ["lr == 1", "lr != 1", "lr < 1", "lr >= 1", "lr in (1, 2)", "lr not in (1, 2)"])
def test_a_comparison_with_a_missing_value_holds_neither_way(test: str, missing: float | None) -> None:
    for text in (test, f"not ({test})"):
        assert decide(text, lr=missing) is None
        assert not condition(text, NAMES).holds(ROW | {"lr": missing})


def test_a_name_that_a_row_lacks_is_missing() -> None:
    assert not condition("lr < 1", NAMES).holds({})


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
        ("lr = 1", 4, "unexpected '='; did you mean '=='?"),
        ("lr == 'x", 7, "a text that is never closed"),
        ("lr == 1 seed", 9, "expected the end, 'and' or 'or', got 'seed'"),
        ("0 < lr < 1", 8, "join comparisons with 'and'"),
        ("(lr == 1", 9, "expected ')'"),
        ("lr in 1", 7, "expected '(' after 'in'"),
        ("lr in (1 2)", 10, "expected ',' or ')'"),
        ("lr in ()", 8, "expected a number, 'text', true, false or none, got ')'"),
        ("lr in (seed)", 8, "expected a number, 'text', true, false or none, got 'seed'"),
        ("lr in (1 == 2)", 10, "expected a number"),
        ("lr in ((1))", 8, "expected a number"),
        ("lr in", 6, "got the end"),
        ("lr not", 4, "got 'not' (did you mean 'not in'?)"),
        ("lr not 5", 4, "expected the end, 'and' or 'or', got 'not'"),
        ("lr == not true", 7, "expected a name"),
        ("lr == 1) or (true", 8, "expected the end, 'and' or 'or', got ')'"),
        ("(lr == 1))", 10, "expected the end, 'and' or 'or', got ')'"),
        ("'a' 'b'", 5, "expected the end, 'and' or 'or', got \"'b'\""),
        ("1 2", 3, "expected the end, 'and' or 'or', got '2'"),
        ("lr == 1, 2", 8, "unexpected ','"),
        ("seed == (1, 2)", 9, "a list here is not allowed"),
        ("(0) < (lr) < (1)", 12, "join comparisons with 'and'"),
        ("lr -1 > 0", 4, "unexpected '-'"),
        ("lr == - 1", 7, "unexpected '-'"),
        ("lr == ٣", 7, "unexpected '٣'"),
        ("lr # == 1", 4, "unexpected '#'"),
        ("lr seed == 1 &", 4, "expected the end, 'and' or 'or', got 'seed'"),  # the first mistake of two
        ("true\n&", 6, "unexpected '&'"),
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
    assert lines[1] == "  " + text.replace("\n", "?")
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
        "[lr, seed]",
        "[lr][0]",
        "lr in [1, 2]",
        "{lr}",
        "*lr",
        "lr and (yield)",
        "await lr",
        "print",
        "__debug__",
        "0x10 == 16",
        "0o7 == 7",
        "1j == 1",
        "1_000 == 1000",
        "'lr' % 1 == ''",
        "b'x' == 'x'",
        "...",
        "\uff4cr == 1",  # Python's parser would read this as lr
    ],
)
def test_nothing_can_be_called_or_looked_into(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("diff(label) < 0", 1, "unknown function or argument; there are: diff(lr), diff(a:b>=1)"),
        ("lr > 1 and dif(lr) < 0", 12, "unknown name 'dif'; did you mean 'diff'?"),
        ("diff < 0", 1, "diff is a function: write diff(NAME)"),
        ("diff(lr, lr) < 0", 1, "unknown function or argument"),
        ("diff(1) < 0", 1, "unknown function or argument"),
        ("diff(diff(lr)) < 0", 1, "unknown function or argument"),
        ("lr(lr) < 0", 1, "unknown function or argument"),
        ("diff() < 0", 6, "expected"),
        ("diff(lr < 0", 12, "got the end"),
    ],
)
def test_a_function_takes_one_of_its_names(text: str, column: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        condition(text, ["lr", "label", "a:b>=1"], {"diff": ["lr", "a:b>=1"]})
    assert f"column {column}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_function_of_a_name_has_a_value_of_its_own() -> None:
    asked = condition("diff(lr) < 0 or diff([a:b>=1]) > lr", ["lr", "a:b>=1"], {"diff": ["lr", "a:b>=1"]})
    assert asked.names == ("diff(lr)", "diff(a:b>=1)", "lr")
    assert asked.decide({"lr": 1, "diff(lr)": -1}) is True
    assert asked.decide({"lr": 1, "diff(lr)": 1, "diff(a:b>=1)": 2}) is True
    assert asked.decide({"lr": 1, "diff(lr)": 1}) is None
    assert "a call is not allowed" in refused("lr(lr) < 0")


def test_the_names_used_are_known_in_order_of_first_use() -> None:
    assert condition("seed > 1 and lr < 1 or seed == 0", NAMES).names == ("seed", "lr")


def test_length_and_depth_have_limits() -> None:
    assert condition("true" + " " * (MAX_LENGTH - 4), NAMES).decide({}) is True
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


hostile = st.sampled_from(
    ["(" * 1000, "not " * 500, "(not " * 400, "[" * 999, "]" * 999, "lr in (" * 200, "lr == " * 300, "1" * 2000,
     "-" * 900, "1 in (" + "1," * 900 + ")", "true or " * 240 + "true", "'" + "\\" * 1990, "(" * 50 + "lr" + ")" * 49,
     "a." * 900,
     "(true or not (" * 25 + "true" + "))" * 25, "(not seed == 1 and true or " * 50 + "true" + ")" * 50, "\ud800",
     "'\ud800' == 'é'", "\x00", "lr\u202e", "lr ==\u00a01", "\u2028lr", "1e309", "1e-999 == 0", "9" * 1999 + " < 0.5"]
)  # fmt: skip


@settings(derandomize=True, deadline=2000, max_examples=120)
@given(hostile, hostile | st.just(""), st.integers(0, 2000))
def test_a_hostile_text_is_answered_or_refused_in_bounded_time(one: str, other: str, length: int) -> None:
    for text in (one, one + other, one[:length], other + one[:length]):
        try:
            assert decide(text) in (True, False, None)
        except UsageError as error:
            assert str(error)  # noqa: PT017 - that no other error escapes is what is tested


FORMULAS = Language(
    signs={"+", "-", "*", "/", "**", "<", "(", ")", ","},
    constants={"pi": math.pi},
    nodes={ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UnaryOp, ast.USub, ast.UAdd, ast.Compare,
           ast.Lt, ast.Call, ast.Name, ast.Constant},
    value="x, a number or '('",
    joint="or an operator",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x - 1", "x - 1"),
        ("x-1e-2", "x - 0.01"),
        ("-2**2 / -x", "-2 ** 2 / -x"),
        ("2 ** 3 ** x", "2 ** 3 ** x"),
        ("x * tanh(pi * (x + 1))", f"x * tanh({math.pi} * (x + 1))"),
        ("where(x < 0, 0, x)", "where(x < 0, 0, x)"),
    ],
)
def test_another_language_is_another_table(text: str, expected: str) -> None:
    assert ast.unparse(parse(text, ["x", "tanh", "where"], FORMULAS).tree) == expected


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("x +", 4, "expected x, a number or '(', got the end"),
        ("x 2", 3, "expected the end, or an operator, got '2'"),
        ("x and x", 3, "unexpected 'and'"),
        ("tahn(x)", 1, "unknown name 'tahn'; did you mean 'tanh'?"),
        ("tanh(x, *x)", 9, "expected x, a number or '(', got '*'"),
        ("x + (1, 2)", 5, "a list here is not allowed"),
        ("x" + " + x" * 400, 1, "nested deeper"),
        ("x ** " * 399 + "x", 996, "nested deeper"),
        ("-" * 900 + "x", 200, "nested deeper"),
    ],
)
def test_another_language_has_the_same_bounds_and_places(text: str, column: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, ["x", "tanh"], FORMULAS)
    assert message in str(caught.value)
    assert f"column {column}: " in str(caught.value)


def test_every_node_knows_its_place_in_the_text() -> None:
    tree = parse("  x  + ( tanh( -x ) )", ["x", "tanh"], FORMULAS).tree
    places = {type(node).__name__: node.col_offset for node in ast.walk(tree) if isinstance(node, ast.expr)}
    assert places["BinOp"] == 2
    assert places["Call"] == 9
    assert places["UnaryOp"] == 15


values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["relu", "", "3"])


@settings(derandomize=True, deadline=None, max_examples=150)
@given(values, values)
def test_a_test_and_its_denial_never_both_hold(left: Any, right: Any) -> None:
    for test in ("a == b", "a in (1, 'relu', true, none)", "a < b"):
        row = {"a": left, "b": right}
        try:
            answers = [condition(text, "ab").holds(row) for text in (test, f"not ({test})")]
        except UsageError:
            continue  # values that have no order
        assert answers != [True, True]
