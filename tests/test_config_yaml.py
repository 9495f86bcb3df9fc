"""Reading YAML: what scalars mean, where things stand, and what is said about files that are not right."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from actbench.config.document import MAX_BYTES, Document, Place
from actbench.config.yaml import (
    MAX_DEPTH,
    Unquoted,
    dump,
    parse,
    parse_value,
    plain_value,
    read,
    syntax_problem,
)
from actbench.errors import ConfigError


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    return str(caught.value).split("\n")


def problems_of_file(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1e3", 1000.0), ("1E-3", 0.001), (".5", 0.5), ("5.", 5.0), ("-2.5e+1", -25.0),
        ("+3", 3), ("0", 0), ("-0", 0), ("012.5", 12.5), (".inf", math.inf), ("-.Inf", -math.inf),
        ("1e999", math.inf),
    ],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(text: str, value: float) -> None:
    found = plain_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number_that_a_config_can_refuse() -> None:
    assert math.isnan(plain_value(".nan"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("012", 12), ("0x10", 16), ("0o17", 15), ("0b11", 3), ("1_000", 1000), ("-012", -12), ("00", 0),
        ("1:30", None), ("1_000.5", None), ("yes", None), ("No", None), ("ON", None), ("off", None),
    ],
)  # fmt: skip
def test_what_other_readers_take_for_something_else_is_marked(text: str, meant: int | None) -> None:
    found = plain_value(text)
    assert isinstance(found, Unquoted)
    assert found == text
    assert repr(found) == text
    assert found.as_integer() == meant


@pytest.mark.parametrize("text", ["2024-01-01", "y", "tRuE", "1e--3", "0,001", "nan", "1.2.3", "none", "cuda:0", "e5"])
def test_everything_else_is_text(text: str) -> None:
    assert type(plain_value(text)) is str


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_nothing_is_none(text: str) -> None:
    assert plain_value(text) is None


def test_only_true_and_false_are_booleans() -> None:
    assert [plain_value(text) for text in ("true", "True", "TRUE", "false", "False", "FALSE")] == [True] * 3 + [
        False
    ] * 3


def test_quotes_make_text_of_anything() -> None:
    values = parse("a: 'no'\nb: \"012\"\nc: '1e-3'\nd: |\n  5\n", "x").values
    assert values == {"a": "no", "b": "012", "c": "1e-3", "d": "5\n"}
    assert {type(value) for value in values.values()} == {str}


def test_keys_and_values_know_their_line_and_column() -> None:
    document = parse("# first\nlr: 1\nsweep:\n  grid:\n    lr: [1,\n      22]\n", "x.yaml")
    assert document.place(("lr",), at_key=True) == Place("x.yaml", 2, 1)
    assert document.place(("lr",)) == Place("x.yaml", 2, 5)
    assert document.place(("sweep", "grid", "lr", 1)) == Place("x.yaml", 6, 7)
    assert document.place(("sweep", "grid", "lr", 1, "deeper")) == Place("x.yaml", 6, 7)
    assert document.place(("missing",)) == Place("x.yaml", 2, 1)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: relu\r\nlr: 0.1\r\n")
    document = read(path)
    assert document.values == {"name": "relu", "lr": 0.1}
    assert document.place(("lr",)) == Place(str(path), 2, 5)
    assert document.place(("name",), at_key=True).column == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml: is empty; a config has keys such as `activation: relu`"),
        ("# only this\n", "x.yaml: is empty"),
        ("---\n", "x.yaml: is empty"),
        ("null", "x.yaml: is empty"),
        ("- a\n- b\n", "x.yaml:1:1: contains a list; it must contain keys"),
        ("relu", "x.yaml:1:1: contains a single value; it must contain keys"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1: a second document starts here"),
        ("a:\n\tb: 1\n", "x.yaml:2:1: a tab; indent with spaces"),
        ("\ta: 1\n", "x.yaml:1:1: a tab; indent with spaces"),
        ("a: [1, 2\nb: 3\n", "x.yaml:1:4: the '[' here has no ']' (or a ',' is missing before line 2"),
        ("a: {b: 1\nc: 2\n", "x.yaml:1:4: the '{' here has no '}' (or a ',' is missing before line 2"),
        ("a: 'x\nb: 2\n", "x.yaml:1:4: the quote that opens here is not closed"),
        ('a: "x\n', "x.yaml:1:4: the quote that opens here is not closed"),
        ('a: "\\q"\n', "x.yaml:1:6: an unknown escape"),
        ('a: "\\x1"\n', "x.yaml:1:7: an escape without all its hexadecimal digits"),
        ('a: "\\UFFFFFFFF"\n', "x.yaml:1:7: an escape or a version that is not a valid number"),
        ("%YAML 1." + "9" * 5000, "x.yaml:1:9: an escape or a version that is not a valid number"),
        ("%" + "x" * 5000, "x.yaml:1:5002: directives (%...) are not supported"),
        ("a: b: c\n", "x.yaml:1:5: an unexpected ':'; is the indentation right"),
        ("a: 1\n b: 2\n", "x.yaml:2:3: an unexpected ':'; is the indentation right"),
        ("a: - b\n", "x.yaml:1:4: an unexpected '-'"),
        ("a: 'x' y\n", "x.yaml:1:8: this does not belong here"),
        ("a: 1\nbcd\ne: 2\n", "x.yaml:2:1: expected `key: value`, but found no ':' in this line"),
        ("a: @x\n", "x.yaml:1:4: no value starts with '@'; quote it"),
        ("a: [\n", "x.yaml:2:1: the file ends inside a '[' or '{' that is not closed"),
        ("a: [1,,2]\n", "x.yaml:1:7: a value is missing before ','"),
        ("a: * x\n", "x.yaml:1:5: '*' and '&' must precede a name; quote the text"),
        ("a: |x\n", "x.yaml:1:5: a mistake in a block of text (| or >)"),
        ("%YAML 2.0\n---\na: 1\n", "x.yaml:1:1: directives (%...) are not supported"),
        ("a: *b\n", "x.yaml:1:4: the alias 'b' has no anchor before it"),
        ("a: &x [1, *x]\n", "x.yaml:1:11: the alias 'x' is inside its own anchor"),
        ("<<: {a: 1}\n", "x.yaml:1:1: merge keys (<<) are not supported"),
        ("1: 2\n", "x.yaml:1:1: a key must be a name, got 1"),
        ("true: 2\n", "x.yaml:1:1: a key must be a name, got true"),
        ("~: 2\n", "x.yaml:1:1: a key must be a name, got nothing"),
        ("? [a]\n: 2\n", "x.yaml:1:3: a key must be a name, got a list or mapping"),
        ("{}: 2\n", "x.yaml:1:1: a key must be a name, got a list or mapping"),
        ("a: " + "9" * 5000, "x.yaml:1:4: a number of 5000 digits is too long"),
        ("a: 1\nb: \x07\n", "x.yaml:2:4: a control character (U+0007); in double quotes it can be"),
        ("a: \ud800\n", "x.yaml:1:4: a control character (U+D800)"),
        ("a: 1\0", "x.yaml:1:5: a control character (U+0000); is it a text file?"),
    ],
)  # fmt: skip
def test_a_mistake_of_form_is_said_in_one_line_with_its_place(text: str, message: str) -> None:
    (found,) = problems(text)
    assert found.startswith(message)
    assert len(found) < 160


def test_a_mistake_that_no_message_is_written_for_is_told_in_the_parsers_words() -> None:
    unheard = yaml.MarkedYAMLError(context="while dreaming", problem="found a sheep")
    assert syntax_problem(unheard) == ("while dreaming: found a sheep", None)


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system", "!!python/name:os.system", "!mine", "!", "!!str", "!<x>", "!a!b"],
)
def test_tags_of_every_kind_are_refused_and_construct_nothing(tag: str) -> None:
    assert problems(f"a: {tag} [echo]\n") == ["x.yaml:1:4: tags (!...) are not supported; write the value plainly"]


def test_a_key_that_is_given_twice_names_both_lines() -> None:
    assert problems("lr: 1\n\nname: a\nlr: 2\n") == [
        "x.yaml:4:1: the key 'lr' is given twice (first in line 1); delete one"
    ]
    assert problems("a: {b: 1, b: 2}\n") == ["x.yaml:1:11: the key 'b' is given twice (first in line 1); delete one"]


def test_all_mistakes_that_can_be_seen_are_reported_at_once() -> None:
    assert [line.split(": ")[0] for line in problems("a: !x 1\na: 2\n3: 4\nb: *y\nc: [\n")] == [
        "x.yaml:1:4", "x.yaml:2:1", "x.yaml:3:1", "x.yaml:4:4", "x.yaml:6:1",
    ]  # fmt: skip


def test_an_alias_is_a_copy_of_what_its_anchor_holds() -> None:
    values = parse("a: &x {b: [1]}\nc: *x\n", "x").values
    assert values["c"] == {"b": [1]}
    values["c"]["b"].append(2)
    assert values["a"] == {"b": [1]}


def test_aliases_that_multiply_are_stopped_before_they_fill_the_memory() -> None:
    rows = [f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 9)}]" for k in range(12)]
    (found,) = problems("a: &a [" + ", ".join("x" * 9) + "]\n" + "\n".join(rows))
    assert "more than 50,000 values after aliases are expanded" in found


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_very_deep_nesting_is_refused_before_anything_breaks(opening: str, closing: str) -> None:
    for depth in (MAX_DEPTH + 1, 20_000):
        (found,) = problems("a:\n  " + opening * depth + "1" + closing * depth)
        assert found.endswith(f"lists and mappings are nested more than {MAX_DEPTH} deep")
    deep = MAX_DEPTH - 1
    assert parse("a:\n  " + opening * deep + "1" + closing * deep, "x").values["a"]


def test_aliases_that_nest_ever_deeper_are_refused_too() -> None:
    rows = ["a0: &a0 1", *(f"a{k}: &a{k} {'[' * 19}*a{k - 1}{']' * 19}" for k in range(1, 80))]
    (found,) = problems("\n".join(rows))
    assert found == "x.yaml:2:10: lists and mappings are nested more than 20 deep after aliases are expanded"


def test_a_key_can_be_an_alias_and_stands_where_the_alias_is_written() -> None:
    assert parse("b: &a x\n*a : 2\n", "x").values == {"b": "x", "x": 2}
    assert problems("&a x: 1\n*a : 2\n") == ["x.yaml:2:1: the key 'x' is given twice (first in line 1); delete one"]


def test_too_many_values_are_refused() -> None:
    assert problems("a: [" + "1," * 60_000 + "]")[0].endswith("more than 50,000 values")


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for encoding, name in [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
    ]:
        path.write_bytes("name: relu\n".encode(encoding))
        assert problems_of_file(path) == f"{path}: is {name} text; save it as UTF-8"
    path.write_bytes("name: relu\ntags: [é]\n".encode("latin-1"))
    assert problems_of_file(path) == f"{path}:2:8: byte 0xE9 is not UTF-8; is it Latin-1? Save the file as UTF-8"


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "relu.yaml").write_text("name: relu\n")
    assert problems_of_file(tmp_path / "rleu.yml").endswith("rleu.yml: no such file; did you mean 'relu.yaml'?")
    assert problems_of_file(tmp_path / "unlike.txt").endswith("unlike.txt: no such file")
    assert problems_of_file(tmp_path / "no" / "x.yaml").endswith(
        f"no such file; there is no folder {tmp_path / 'no'} to read"
    )


def test_what_is_no_readable_file_is_said(tmp_path: Path) -> None:
    assert problems_of_file(tmp_path) == f"{tmp_path}: is a folder; give a YAML file in it"
    assert "cannot be read" in problems_of_file(tmp_path / ("x" * 5000))
    assert "is not a path" in problems_of_file(Path("a\0b"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in problems_of_file(tmp_path / "loop")
    if os.geteuid() != 0:  # root reads everything
        (tmp_path / "secret").write_text("a: 1")
        (tmp_path / "secret").chmod(0)
        assert "cannot be read: Permission denied" in problems_of_file(tmp_path / "secret")


def test_an_unreadable_file_gives_the_systems_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert problems_of_file(tmp_path / "x.yaml").endswith("x.yaml: cannot be read: Permission denied")


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(10**9)
    assert problems_of_file(path) == f"{path}: is larger than {MAX_BYTES:,} bytes; is it a config?"


def test_control_characters_in_a_path_do_not_reach_the_terminal() -> None:
    found = problems_of_file(Path("nowhere/\x1b[31mred\u202e.yaml"))
    assert found.isprintable()
    assert "\\x1b[31mred\\u202e.yaml" in found


def test_a_value_of_a_flag_has_a_source_but_no_line() -> None:
    assert parse_value("[1, {a: 1e-3}]", "--set") == [1, {"a": 0.001}]
    assert parse_value("", "--set") is None
    with pytest.raises(ConfigError, match=r"^--set x: the '\[' here has no '\]'"):
        parse_value("[1", "--set x")
    with pytest.raises(ConfigError, match=r"^--set x: the key 'a' is given twice; delete one$"):
        parse_value("{a: 1, a: 2}", "--set x")
    with pytest.raises(ConfigError, match=r"^--set x: a control character \(U\+001B\)"):
        parse_value("\x1b", "--set x")


def test_putting_a_value_replaces_what_was_written_there() -> None:
    document = parse("optimizer: {name: sgd, momentum: 0.5}\n", "x")
    flag = Place("--set")
    document.put(("optimizer",), "adam", flag)
    assert document.values == {"optimizer": "adam"}
    assert document.place(("optimizer", "momentum")) == flag
    document.put(("sweep", "grid", "lr"), [1], flag)
    assert document.values["sweep"] == {"grid": {"lr": [1]}}
    assert document.place(("sweep",)) == flag


def test_a_place_in_an_empty_document_is_its_source() -> None:
    assert Document("config").place(("lr",)) == Place("config")


KEYS = st.text().filter(lambda key: key != "<<")
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, LEAVES | st.lists(LEAVES) | st.dictionaries(KEYS, LEAVES), min_size=1))
def test_what_is_written_is_read_back_by_us_and_by_others(values: dict[str, object]) -> None:
    text = dump(values)
    assert parse(text, "x").values == values
    assert yaml.safe_load(text) == values


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.text() | st.text("ab01 :-[]{},'\"\n\t#&*!|>%@?<~\\x.e", max_size=40))
def test_any_text_is_read_or_refused_but_never_breaks(text: str) -> None:
    try:
        assert isinstance(parse(text, "x.yaml").values, dict)
    except ConfigError as caught:
        error = caught
    else:
        return
    assert {problem.source for problem in error.problems} == {"x.yaml"}
    assert max(len(problem.message) for problem in error.problems) < 200
    assert str(error).replace("\n", "").isprintable()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(raw=st.binary() | st.binary(max_size=8).map(lambda some: b"a: 1\n" + some))
def test_any_bytes_are_read_or_refused_but_never_break(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(raw)
    try:
        values = read(path).values
    except ConfigError as error:
        values = {problem.message: problem for problem in error.problems}
    assert values or raw.strip() == b"{}"
