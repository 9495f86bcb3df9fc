"""CSV cells: every value reads back as it was, and no text is a formula for a spreadsheet."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.store.csv import Cell, format_cell, format_line, format_table, parse_cell, parse_table

quick = settings(derandomize=True, deadline=None, max_examples=150)
nasty = st.sampled_from(["", "'", "''x", "=1+1", "-1", "+1", "@a", "\t=1", "\r", " =a", "1e-3", "true", "nan", "-inf"])
texts = nasty | st.text() | st.text(alphabet=",;\"'\n\r\t=+-@ 01e.", max_size=8)
cells = st.none() | st.booleans() | st.integers() | st.floats() | texts


def same(first: Cell, second: Cell) -> bool:
    """Equal in type and value; nan is the same as nan, -0.0 is not 0.0."""
    return type(first) is type(second) and repr(first) == repr(second)


@quick
@given(cells)
def test_every_cell_reads_back_as_it_was(value: Cell) -> None:
    assert same(parse_cell(format_cell(value)), value)


@quick
@given(texts)
def test_no_text_begins_like_a_formula(text: str) -> None:
    assert not format_cell(text).lstrip().startswith(("=", "+", "-", "@"))
    assert not format_cell(text).startswith(("\t", "\r", "\n"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (-3, "-3"),
        (0.1, "0.1"),
        (-1e-300, "-1e-300"),
        (math.inf, "inf"),
        ("relu", "relu"),
        ("leaky_relu(negative_slope=0.2)", "leaky_relu(negative_slope=0.2)"),
        ("=HYPERLINK(0)", "'=HYPERLINK(0)"),
        ("'quoted'", "''quoted'"),
        ("7", "'7"),
        ("none", "none"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(False), "false"),
    ],
)
def test_numbers_stay_numbers_and_text_stays_text(value: Cell, text: str) -> None:
    assert format_cell(value) == text


@quick
@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), min_size=1, max_size=4))
def test_a_table_reads_back_and_any_csv_reader_sees_its_shape(rows: list[dict[str, Cell]]) -> None:
    text = format_table(rows)
    read = parse_table(text)
    assert [(repr(row["a"]), repr(row["b"])) for row in read] == [(repr(row["a"]), repr(row["b"])) for row in rows]
    assert {len(line) for line in csv.reader(io.StringIO(text, newline=""))} == {2}


@quick
@given(st.lists(cells, max_size=1))
def test_a_table_of_one_column_keeps_its_empty_cells(column: list[Cell]) -> None:
    read = parse_table(format_table([{"x": value} for value in column]))
    assert [repr(row["x"]) for row in read] == [repr(value) for value in column]


def test_a_table_has_all_columns_that_occur_or_those_asked_for() -> None:
    rows: list[dict[str, Cell]] = [{"b": 1}, {"a": "x", "b": None}]
    assert format_table(rows) == "b,a\n1,\n,x\n"
    assert format_table(rows, ["a"]) == 'a\n""\nx\n'
    assert format_table([]) == ""
    assert parse_table("") == []
    assert format_line([1, None, 'a"b']) == '1,,"a""b"'


@pytest.mark.parametrize("text", ['a,b\n"1,2\n', "a,b\n1\n", "a,b\n1,2,3\n"])
def test_an_incomplete_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_table(text)
