"""Tables: the same rows in every format, with nothing in a label that a format, a terminal or a spreadsheet obeys."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from actbench import tables
from actbench.comparison import Comparison, Pivot, compare, pivot
from actbench.errors import UnknownNameError
from actbench.metrics import Kind
from actbench.store.csv import parse_table
from actbench.tables import (
    FORMATS,
    ROOMY,
    Column,
    blocks,
    comparison_table,
    fitting,
    pivot_table,
    terminal_table,
    write_comparison,
    write_pivot,
)
from actbench.text import readable, with_hyphens

STEPS = (0, 1, -1, 2, -2, 3, -3, 0)


def run(name: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    row = {"name": name, "dataset": "mnist", "activation": name, "lr": 0.01, "seed": seed, "status": "done"}
    return {**row, "test_accuracy": accuracy, "dead_ratio": 0.25, "wall_s": 2.0 + seed / 8, **more}


def runs(name: str, base: float = 0.95, turn: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [run(name, seed, base + STEPS[(seed + turn) % 8] / 1024, **more) for seed in range(8)]


def example() -> Comparison:
    """Three variants, one of them with a diverged run."""
    rows = [*runs("relu"), *runs("tanh", 0.9375, 4), *runs("silu", 0.951, 3)]
    rows[-1]["status"] = "diverged"
    return compare(rows)


def printed(
    columns: list[Column], rows: list[dict[str, Any]], *, width: int = 200, ascii_only: bool = False, wide: bool = False
) -> str:
    out = io.StringIO()
    table = terminal_table(columns, rows, width=width, ascii_only=ascii_only, wide=wide)
    Console(file=out, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


# --- one comparison in every format --------------------------------------------------------------------------


SNAPSHOTS = Path(__file__).parent / "snapshots"


def crossing() -> Pivot:
    """Two activations by three learning rates: one cell empty, one with fewer runs, one diverged."""
    rows = [{**r, "lr": lr} for lr in (0.1, 0.01) for r in (*runs("relu", 0.95 - lr / 8), *runs("tanh", 0.9375, 4))]
    rows += [{**r, "lr": 1.0} for r in runs("relu", 0.5, 2)]
    rows[-1]["status"] = "diverged"
    del rows[-9]
    return pivot(rows, down=["activation"], across=["lr"])


def crossed(width: int = 100) -> str:
    columns, rows, naming = pivot_table(crossing())
    parts = blocks(columns, rows, naming, width=width)
    return "\n\n".join(printed(list(part), rows, width=width) for part in parts)


WRITTEN: dict[str, Callable[[], str]] = {
    "wide.txt": lambda: printed(*comparison_table(example()), width=160),
    "narrow.txt": lambda: printed(*comparison_table(example()), width=80),
    "plain.txt": lambda: printed(*comparison_table(example()), width=80, ascii_only=True),
    "pivot.txt": crossed,
    "pivot-narrow.txt": lambda: crossed(60),
    **{f"comparison.{name}": partial(lambda name: write_comparison(example(), name), name) for name in FORMATS},
    **{f"pivot.{name}": partial(lambda name: write_pivot(crossing(), name), name) for name in FORMATS},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_table_looks_as_it_did(name: str) -> None:
    """Look at the difference; if it is meant, write the file anew: UPDATE_SNAPSHOTS=1 pytest tests/test_tables.py."""
    path, text = SNAPSHOTS / name, WRITTEN[name]() + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    known = path.read_text(encoding="utf-8")
    if name.endswith("json"):
        assert nearly(json.loads(text)) == nearly(json.loads(known))
    elif name.endswith("csv"):
        assert text.splitlines()[0] == known.splitlines()[0]
        assert nearly(parse_table(text)) == nearly(parse_table(known))
    else:
        assert text == known


def nearly(value: Any) -> Any:
    """Round numbers, in the last digits of which libraries may differ."""
    if isinstance(value, dict):
        return {key: nearly(one) for key, one in value.items()}
    if isinstance(value, list):
        return [nearly(one) for one in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def test_every_snapshot_is_of_something() -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == set(WRITTEN)


def test_csv_and_json_of_single_runs_have_every_column_and_exact_numbers() -> None:
    single = compare([run("relu", 0, 0.95), run("tanh", 0, 0.9375)])
    keys, relu, tanh = write_comparison(single, "csv").splitlines()
    assert keys == (
        "label,n,diverged,failed,is_baseline,test_accuracy_mean,test_accuracy_sd,test_accuracy_low,test_accuracy_high,"
        "test_accuracy_values,test_accuracy_difference,test_accuracy_difference_low,test_accuracy_difference_high,"
        "test_accuracy_p,test_accuracy_adjusted_p,test_accuracy_pairs,test_accuracy_method,test_accuracy_effect,"
        "test_accuracy_effect_name,test_accuracy_superiority,test_accuracy_equivalence_p,test_accuracy_verdict,"
        "test_accuracy_rank,dead_ratio_mean,dead_ratio_sd,dead_ratio_low,dead_ratio_high,dead_ratio_values,"
        "wall_s_mean,wall_s_sd,wall_s_low,wall_s_high,wall_s_values"
    )
    assert relu == "relu,1,0,0,true,0.95,,,,1,,,,,,,,,,,,,best,0.25,,,,1,2.0,,,,1"
    difference = repr(0.9375 - 0.95)
    assert tanh == (
        f"tanh,1,0,0,false,0.9375,,,,1,{difference},,,1.0,1.0,1,paired,,d_z,0.0,,needs >= 6 seeds,tied,"
        "0.25,,,,1,2.0,,,,1"
    )
    found = json.loads(write_comparison(single, "json"))
    assert list(found) == ["format_version", "rows", "footnotes"]
    assert found["format_version"] == 1
    assert list(found["rows"][0]) == keys.split(",")
    assert found["footnotes"] == list(single.footnotes)


def test_csv_and_json_hold_the_same_raw_values_and_read_back_as_they_were() -> None:
    columns, rows = comparison_table(example(), raw=True)
    from_csv = parse_table(write_comparison(example(), "csv"))
    from_json = json.loads(write_comparison(example(), "json"))["rows"]
    assert from_csv == from_json == [{column.key: row.get(column.key) for column in columns} for row in rows]
    assert from_csv[1]["test_accuracy_verdict"] == "worse"
    assert from_csv[1]["test_accuracy_mean"] == 0.9375
    assert from_csv[1]["test_accuracy_p"] == 2 / 2**8
    assert from_csv[1]["test_accuracy_adjusted_p"] == 4 / 2**8
    assert from_csv[1]["test_accuracy_rank"] is None


def test_every_format_has_the_same_rows_in_the_same_order() -> None:
    texts = {name: write_comparison(example(), name) for name in FORMATS}
    texts["table"] = printed(*comparison_table(example()))
    for name, text in texts.items():
        places = [text.index(label) for label in ("\nrelu " if name == "table" else "relu", "tanh", "silu")]
        assert places == sorted(places), name


def test_an_unknown_format_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown format 'latx'; did you mean 'latex'"):
        write_comparison(example(), "latx")


def test_a_baseline_alone_has_no_columns_for_differences() -> None:
    columns, _ = comparison_table(compare(runs("relu")))
    assert [column.title for column in columns] == ["variant", "n", "test accuracy %", "dead %", "time s"]


def test_latex_prints_the_best_bold_and_stars_what_is_tied_with_it() -> None:
    text = write_comparison(compare([*runs("relu"), *runs("tanh", 0.9499, 3), *runs("silu", 0.9)]), "latex")
    lines = {line.split(" ")[0]: line for line in text.splitlines()}
    assert r"\textbf{95.00 $\pm$0.16}" in lines["relu"]
    assert r"94.99 $\pm$0.16$^{*}$" in lines["tanh"]
    assert "textbf" not in lines["silu"]
    assert "^{*}" not in lines["silu"]
    assert "% bold: the best mean; *: not shown to differ from it" in text


def test_rows_with_the_same_best_mean_are_all_the_best() -> None:
    text = write_comparison(compare([*runs("relu"), *runs("tanh", turn=3), *runs("silu", 0.9)]), "latex")
    assert text.count(r"\textbf{95.00 $\pm$0.16}") == 2


def test_an_interval_that_is_clipped_is_shown_by_its_ends() -> None:
    rows = [run("relu", 0, 1.0), run("relu", 1, 0.99), run("relu", 2, 1.0)]
    assert "99.67 [98.23, 100.00]" in printed(*comparison_table(compare(rows)))


def test_a_row_without_values_says_why() -> None:
    rows = [*runs("relu"), *runs("tanh", status="diverged"), *runs("silu", status="failed")]
    lines = {line.split(" | ")[0]: line for line in write_comparison(compare(rows), "md").splitlines()}
    assert "| 8 (8 diverged) | diverged |" in lines["| tanh"]
    assert "| 0 | - |" in lines["| silu"]


def test_small_p_values_are_not_shown_as_zero() -> None:
    rows = [run(name, s, base + s / 4096) for name, base in (("relu", 0.9), ("tanh", 0.95)) for s in range(12)]
    assert "| <0.001 |".replace("<", "&lt;") in write_comparison(compare(rows), "md")


# --- hostile text --------------------------------------------------------------------------------------------

NASTY = [
    "a|b", "a\nb", "a\r\n\nb", "<script>alert(1)</script>", "[x](http://x)", "**b**", "`c`", "a\\", "&amp;", "~~s~~",
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "'q", "1e3", "true", "nan", "", "a,b", 'say "hi"',
    "$x$", r"\input{/etc/passwd}", "50% {off}_^~#&", "[2pt]", "*", "[red]bold[/red]", "[/]", ":smile:",
    "a--b---c", "<<x>>,,y", "``q''", "https://x.org", "www.x.org", "- x", "1. x", "# x", "\N{MINUS SIGN}1",
    "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202eevil", "\x00", "é±–", "\ud800",
]  # fmt: skip
labels = st.sampled_from(NASTY) | st.text(max_size=12) | st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
quick = settings(derandomize=True, deadline=None, max_examples=60)


def hostile(label: str) -> tuple[list[Column], list[dict[str, Any]], list[str]]:
    """The label wherever a person's text can stand: in a cell, a title and a footnote."""
    return [Column("label", label), Column("x", "x", right=True)], [{"label": label, "x": 1}], [label]


@quick
@given(labels)
def test_no_label_breaks_a_markdown_table(label: str) -> None:
    text = tables.markdown(*hostile(label))
    table, note = text.split("\n\n", 1)
    assert len(table.split("\n")) == 3
    assert "\n" not in note
    for line in [*table.split("\n"), note]:
        bare = re.sub(r"\\.", "", line)  # what is not escaped
        assert line.isprintable()
        assert bare.count("|") == (0 if line == note else 3)
        assert not set("`*_{}[]#!~<>$") & set(bare)
        assert not re.search(r"://|\bwww\.", bare, re.IGNORECASE)


@quick
@given(labels)
def test_markdown_shows_a_label_as_it_is(label: str) -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(tables.markdown(*hostile(label)))
    inline = [token for token in tokens if token.type == "inline"]
    assert [part.type for token in inline for part in token.children or [] if part.type != "text"] == []
    shown = ["".join(part.content for part in token.children or []) for token in inline]
    name = readable(label).strip()
    assert shown == [name, "x", name, "1", *([name] if name else [])]
    assert {token.type for token in tokens} <= {
        "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close", "tr_open", "tr_close",
        "th_open", "th_close", "td_open", "td_close", "inline", "ordered_list_open", "ordered_list_close",
        "list_item_open", "list_item_close", "paragraph_open", "paragraph_close",
    }  # fmt: skip


LATEX_SIGNS = {
    r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotesingle{}": "'", r"\textasciigrave{}": "`",
    r"\texttt{\symbol{34}}": '"', r"$\pm$": "±", "$-$": "\N{MINUS SIGN}", "{[}": "[", "{]}": "]", "{*}": "*", "{}": "",
    **{"\\" + sign: sign for sign in "{}$&#%_"},
}  # fmt: skip
LATEX_TOKENS = re.compile(
    "|".join([*map(re.escape, sorted(LATEX_SIGNS, key=len, reverse=True)), r"[^\\{}$&#%_^~|<>'`\"]"])
)


def read_latex(source: str) -> str:
    """Return the text that LaTeX prints for `source`. Fails for what it would obey, or print as another sign."""
    found, end = [], 0
    while end < len(source):
        token = LATEX_TOKENS.match(source, end)
        assert token is not None, source[end:]
        assert not re.match("--|,,", source[end:]), "a ligature"
        found.append(LATEX_SIGNS.get(token[0], token[0]))
        end = token.end()
    return "".join(found)


@quick
@given(labels)
def test_latex_prints_a_label_as_it_is(label: str) -> None:
    text = tables.latex(*hostile(label))
    lines = text.split("\n")
    assert len(lines) == 8
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("% 1. ")
    assert read_latex(lines[-1].removeprefix("% 1. ")) == readable(label)
    for line, other in ((lines[2], "x"), (lines[4], "1")):
        end = f" & {other} \\\\"
        assert line.endswith(end)
        assert not line.startswith(("[", "*"))  # an argument of the \\ above
        assert read_latex(line.removesuffix(end)) == readable(label)


@pytest.mark.parametrize(
    "source", ["a--b", "a,,b", "a|b", "``a''", 'a"b', "<<a>>", "$x$", r"\input{x}", "a%b", "{a", "a_b"]
)
def test_what_latex_would_not_print_as_it_is_cannot_be_read_back(source: str) -> None:
    with pytest.raises(AssertionError):
        read_latex(source)


numbers = st.floats(-1e6, 1e6) | st.floats(-1e-4, 1e-4)


@quick
@given(numbers, st.sampled_from(sorted(tables.SHOW)))
def test_a_number_for_people_has_true_minus_signs_and_reads_back(value: float, kind: Kind) -> None:
    text = tables.SHOW[kind](value)
    column = [Column("x", "x", tables.SHOW[kind])]
    assert "-" not in text
    assert float(text.replace("\N{MINUS SIGN}", "-").replace(",", "")) == pytest.approx(
        100 * value if kind == "fraction" else value, rel=1e-3, abs=0.5
    )
    assert text.count("\N{MINUS SIGN}") == printed(column, [{"x": value}], ascii_only=True).splitlines()[-1].count("-")
    assert tables.latex(column, [{"x": value}]).count("$-$") == text.count("\N{MINUS SIGN}")
    assert text in tables.markdown(column, [{"x": value}])
    assert "\N{MINUS SIGN}" not in tables.csv(column, [{"x": value}]) + tables.json(column, [{"x": value}])


def test_footnotes_in_json_have_plain_hyphens() -> None:
    assert json.loads(tables.json([], [], ["below \N{MINUS SIGN}1"]))["footnotes"] == ["below -1"]


@quick
@given(labels)
def test_no_label_is_a_formula_in_csv_and_each_reads_back(label: str) -> None:
    text = tables.csv(*hostile(label))
    lines = list(csv.reader(io.StringIO(text + "\n", newline=""), strict=True))
    assert [len(line) for line in lines] == [2, 2]
    for line in lines:
        assert not line[0].lstrip().startswith(("=", "+", "-", "@"))
    assert parse_table(text) == [{"label": label, "x": 1}]


@quick
@given(labels)
def test_json_holds_a_label_as_it_is_in_plain_ascii(label: str) -> None:
    text = tables.json(*hostile(label))
    found = json.loads(text)
    assert found["rows"] == [{"label": label, "x": 1}]
    assert found["footnotes"] == [with_hyphens(label)]
    assert text.replace("\n", "").isascii()
    assert text.replace("\n", "").isprintable()


@quick
@given(labels)
def test_no_label_is_obeyed_by_a_terminal_or_taken_for_markup(label: str) -> None:
    columns, rows, _ = hostile(label)
    for ascii_only in (False, True):
        text = printed(columns, rows, ascii_only=ascii_only)
        assert text.replace("\n", "").isprintable()
        assert len(text.splitlines()) == 3
        assert not ascii_only or text.isascii()


def test_rich_markup_is_shown_as_it_was_typed() -> None:
    columns, rows, _ = hostile("[red]bold[/red] :smile:")
    assert printed(columns, rows).count("[red]bold[/red] :smile:") == 2


def test_a_hostile_label_passes_through_a_whole_comparison() -> None:
    evil = "\x1b[2J|<b>\n=1[0]"
    found = compare([*runs(evil), *runs("tanh", 0.9), *runs("tanh", 0.9, dataset=evil)], baseline=evil)
    for name in FORMATS:
        if name != "csv":  # keeps raw texts
            assert "\x1b" not in write_comparison(found, name)
            assert "\n=1" not in write_comparison(found, name)
    assert "\x1b" not in printed(*comparison_table(found))
    assert json.loads(write_comparison(found, "json"))["rows"][-2]["label"] == evil


# --- JSON and CSV --------------------------------------------------------------------------------------------


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_json_is_strict_and_has_no_nan() -> None:
    columns = [Column("x", "x"), Column("missing", "m")]
    values = [math.nan, math.inf, -math.inf, 0.1, (1, math.nan)]
    found = json.loads(tables.json(columns, [{"x": value} for value in values]), parse_constant=refuse)
    assert [row["x"] for row in found["rows"]] == [None, None, None, 0.1, [1, None]]
    assert all(row["missing"] is None for row in found["rows"])


@quick
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans(), max_size=4))
def test_raw_numbers_survive_csv_and_json_to_the_last_bit(values: list[Any]) -> None:
    columns = [Column(str(i), f"title {i}") for i in range(len(values))] + [Column("end", "end")]
    row = {str(i): value for i, value in enumerate(values)}
    for read in (parse_table(tables.csv(columns, [row])), json.loads(tables.json(columns, [row]))["rows"]):
        assert [repr(read[0][key]) for key in row] == [repr(value) for value in values]
        assert read[0]["end"] is None


# --- the terminal --------------------------------------------------------------------------------------------


def test_a_narrow_terminal_leaves_out_the_least_needed_columns_first() -> None:
    columns, rows = comparison_table(example())
    wide = printed(columns, rows, width=200).splitlines()[0]
    assert " ".join(wide.split()) == "variant n test accuracy % vs relu effect P(A>B) p verdict dead % time s"
    titles = [{column.title for column in fitting(columns, rows, width=width)} for width in range(200, 20, -1)]
    gone = [before - after for before, after in pairwise(titles) if before != after]
    assert gone == [{"effect"}, {"P(A>B)"}, {"time s"}, {"p"}, {"dead %"}]


def test_a_heading_wraps_at_words_before_a_column_goes() -> None:
    columns, rows = comparison_table(compare([*runs("relu"), *runs("tanh", 0.9)]))
    lasting = [column for column in columns if column.needed < ROOMY]
    natural = max(map(len, printed(lasting, rows, width=300).splitlines()))
    lines = printed(lasting, rows, width=natural - 1).splitlines()
    assert lines[0].split() == ["test"]
    assert lines[1].split()[:4] == ["variant", "n", "accuracy", "%"]
    assert "time" in lines[1]


def test_a_column_without_a_value_is_not_shown_for_want_of_a_better() -> None:
    columns, rows = comparison_table(compare([run("relu", 0, 0.95), run("tanh", 0, 0.9375)]))
    assert "effect" not in {column.title for column in fitting(columns, rows, width=200)}


def test_a_pivot_that_is_too_wide_is_divided_into_tables_that_each_name_their_rows() -> None:
    columns, rows, naming = pivot_table(crossing())
    for width in (10, 40, 60, 80, 200):
        parts = blocks(columns, rows, naming, width=width)
        assert [c for part in parts for c in part[naming:]] == columns[naming:]
        assert all(list(part[:naming]) == columns[:naming] for part in parts)
        if width >= 40:
            assert max(len(line) for part in parts for line in printed(list(part), rows).splitlines()) <= width


@pytest.mark.parametrize("by", [None, ["activation", "lr"]])
def test_eighty_columns_always_have_what_names_a_row_its_metric_and_its_verdict(by: list[str] | None) -> None:
    rows = [
        *runs("relu", lr=0.1),
        *runs("a_long_name_of_an_activation", lr=0.001),
        *runs("tanh", 0.9, dataset="kmnist"),
    ]  # fmt: skip
    columns, laid = comparison_table(compare(rows, by=by))
    table = terminal_table(columns, laid, width=80)
    titles = {" ".join(str(column.header).split()) for column in table.columns}
    assert titles >= {"dataset", "n", "test accuracy %", "verdict", *(by or ["variant"])}
    assert max(map(len, printed(columns, laid, width=80).splitlines())) <= 80


def test_settings_beside_a_label_go_before_anything_that_stands_in_every_format() -> None:
    rows = [*runs("first", lr=0.1), *runs("second", 0.9, lr=0.001)]
    columns, laid = comparison_table(compare(rows))
    lasting = [column for column in columns if column.needed < ROOMY]
    assert [column.title for column in lasting][:2] == ["variant", "lr"]
    kept = [[column.title for column in fitting(lasting, laid, width=width)] for width in range(200, 20, -1)]
    assert next(titles for titles in kept if titles != kept[0]) == [title for title in kept[0] if title != "lr"]


def test_a_wide_table_leaves_nothing_out() -> None:
    columns, rows = comparison_table(example())
    assert len(terminal_table(columns, rows, width=30, wide=True).columns) == len(columns)


def test_a_plain_terminal_gets_plain_signs() -> None:
    columns, rows = comparison_table(compare([*runs("relu"), *runs("é", 0.9)], baseline="é"))
    text = printed(columns, rows, ascii_only=True)
    assert text.isascii()
    assert "95.00 +-0.16" in text
    assert "vs ?" in text


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("test_accuracy", 0.97934, "97.93"),
        ("wall_s", 12.345, "12.3"),
        ("deaths", 3, "3"),
        ("deaths", 2.5, "2.5"),
        ("test_loss", 0.0712345, "0.07123"),
        ("images_per_s", 123456.7, "123,457"),
    ],
)
def test_a_value_is_shown_in_the_unit_of_its_metric(metric: str, value: float, shown: str) -> None:
    columns, (row,) = comparison_table(compare([{**run("relu", 0, 0.95), metric: value}], metrics=[metric]))
    (column,) = (column for column in columns if column.key == metric)
    assert column.text(row) == shown


def test_a_missing_value_is_an_empty_cell() -> None:
    assert Column("x", "x").text({}) == ""
    assert Column("x", "x").text({"x": None}) == ""
    assert Column("x", "x").text({"x": False}) == "false"
