"""Reading results folders and CSV files: what a file needs, what a cell can be, and one message per mistake."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from fake_runs import record, store_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import actbench
from actbench.comparison import compare
from actbench.config import Run, Variant
from actbench.config.variant import KEYS
from actbench.errors import ActbenchError, UsageError
from actbench.store import Store, index
from actbench.store.read import read_csv, read_results, read_rows
from actbench.store.run import LABELS


def written(folder: Path, text: str | bytes, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read_csv(written(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_the_runs_csv_of_a_results_folder_reads_as_the_folder_does(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(3):
        store_run(results, seed, provenance={"device": "cpu", "threads": 2}, error="x, \"y\"\n'z'" if seed else None)
    rows, problems = Store(results).rows()
    assert not problems
    assert read_csv(results / "runs.csv") == rows


def test_a_seed_a_variant_and_a_metric_are_enough(tmp_path: Path) -> None:
    lines = [f"{name},{seed},{base + seed / 1000}" for name, base in (("a", 0.9), ("b", 0.8)) for seed in range(6)]
    rows = read_csv(written(tmp_path, "\n".join(["variant,seed,test_accuracy", *lines])))
    assert rows[0] == {"name": "a", "seed": 0, "test_accuracy": 0.9}
    found = compare(rows, baseline="a")
    contrast = found.rows[1].results["test_accuracy"].contrast
    assert contrast is not None
    assert (contrast.found.n, contrast.verdict) == (6, "worse")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0.5", 0.5),
        (" 0.5 ", 0.5),
        ("5E-1", 0.5),
        (".5", 0.5),
        ("+0.5", 0.5),
        ("1.", 1.0),
        ("1", 1),
        ("", None),
        ("  ", None),
        ("nan", None),
        ("NaN", None),
        ("NA", None),
        ("None", None),
    ],
)
def test_numbers_may_be_written_as_spreadsheets_and_pandas_do(tmp_path: Path, cell: str, value: Any) -> None:
    (row,) = read_csv(written(tmp_path, f"name,seed,test_accuracy\na,0,{cell}\n"))
    assert row["test_accuracy"] == value


def test_what_pandas_and_spreadsheets_add_does_no_harm(tmp_path: Path) -> None:
    text = "\ufeff,name , seed,batch_norm,hidden\r\n0,relu,0.0,True,'512\r\n\r\n1,=1+1,1,False,'1e3\r\n"
    assert read_csv(written(tmp_path, text)) == [
        {"name": "relu", "seed": 0, "batch_norm": True, "hidden": "512"},
        {"name": "=1+1", "seed": 1, "batch_norm": False, "hidden": "1e3"},
    ]


LABELS_OF_ALL_KINDS = [
    "none",
    "NA",
    "nan",
    "null",
    "None",
    "true",
    "True",
    "1",
    "1.0",
    "01",
    "1e3",
    ".5",
    "n/a",
    "-",
    "inf",
]


@pytest.mark.parametrize("column", ["name", "variant", "activation", "init", "optimizer", "hidden", "schedule", "tags"])
def test_a_label_is_text_whatever_it_looks_like(tmp_path: Path, column: str) -> None:
    first = "" if column in ("name", "variant", "activation") else "activation,"
    lines = [f"{first and 'relu,'}{label},{seed}" for seed, label in enumerate(LABELS_OF_ALL_KINDS)]
    rows = read_csv(written(tmp_path, "\n".join([f"{first}{column},seed", *lines])))
    assert [row["name" if column == "variant" else column] for row in rows] == LABELS_OF_ALL_KINDS


def test_an_empty_label_is_missing_and_has_a_row_beside_the_text_none(tmp_path: Path) -> None:
    text = "name,seed,test_accuracy\n,0,0.5\nnone,0,0.6\n',0,0.7\n  ,1,0.5\n"
    rows = read_csv(written(tmp_path, text))
    assert [row["name"] for row in rows] == [None, "none", "", None]
    assert {row.label: row.n for row in compare(rows).rows} == {"(missing)": 2, "none": 1, "": 1}


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "1.0", "", "NA", "2e3"], [1, 1.0, None, None, 2000.0]),
        (["true", "False", ""], [True, False, None]),
        (["1", "true"], ["1", "true"]),
        (["1", "1.0", "01", "a", "", "NA"], ["1", "1.0", "01", "a", None, "NA"]),
        (["'1", "2"], ["1", "2"]),
        (["", "NA"], [None, None]),
    ],
)
def test_a_column_of_your_own_holds_numbers_or_truth_values_or_labels(
    tmp_path: Path, cells: list[str], values: list[Any]
) -> None:
    lines = [f"a,{seed},{cell}" for seed, cell in enumerate(cells)]
    rows = read_csv(written(tmp_path, "\n".join(["name,seed,mine", *lines])))
    assert [repr(row["mine"]) for row in rows] == [repr(value) for value in values]


awkward = [" a", "a ", "'a", "''a", "=1+1", "a,b", 'a"b', "a\nb", "\t", "a"]
hostile_names = st.sampled_from([*LABELS_OF_ALL_KINDS, *awkward]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8
)


@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(hostile_names, min_size=1, max_size=5, unique=True), st.sampled_from(["train", "test", 100]))
def test_a_folder_and_its_runs_csv_give_the_same_comparison(tmp_path: Path, names: list[str], probe: Any) -> None:
    results = Path(tempfile.mkdtemp(dir=tmp_path))
    for i, name in enumerate(names):
        others: dict[str, Any] = {"hidden": [], "batch_norm": True, "augment": {"shift": 2}, "tags": ["NA"]}
        variant = Variant(name=name, lr=(i + 1) / 1000, **(others if i % 2 else {"probe": probe}))
        run = Run(variant, 0)
        made = record(0, run_id=run.run_id, flat=variant.flat(), metrics={"test_accuracy": 0.9 + i / 100})
        (results / run.run_id).mkdir()
        for file, data in made.files().items():
            (results / run.run_id / file).write_bytes(data)
    index.update(results)
    rows, _ = Store(results).rows()
    table = read_csv(results / "runs.csv")
    assert [list(map(repr, row.items())) for row in table] == [list(map(repr, row.items())) for row in rows]
    folder, file = compare(rows), compare(table)
    assert {row.label for row in file.rows} == set(names)
    assert (file.rows, file.columns, file.footnotes) == (folder.rows, folder.columns, folder.footnotes)


def test_the_columns_of_labels_are_the_keys_whose_cells_are_text() -> None:
    variants = [Variant(activation="tanh"), Variant(hidden=(), augment={"shift": 1}, tags=["1"], probe=5)]  # type: ignore[arg-type]
    cells = {key: {type(variant.flat()[key]) for variant in variants} - {type(None)} for key in KEYS}
    assert {key for key, kinds in cells.items() if kinds == {str}} - {"augment"} == LABELS & set(KEYS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "runs.csv: is empty; a table of runs has a header with seed and name"),
        ("\n", "runs.csv: is empty"),
        ("name,seed,test_accuracy\n", "runs.csv: has no rows below its header"),
        (
            "seed,test_accuracy\n0,1\n",
            "runs.csv:1: has no column that names the variants; add one of name, variant, act",
        ),
        ("name,test_accuracy\na,1\n", "runs.csv:1: has no column 'seed', which pairs the runs; if your runs have"),
        ("name,seed,seed\na,1,1\n", "runs.csv:1: has the column 'seed' more than once"),
        ("name;seed\na;1\n", "runs.csv: has semicolons between its cells; save it with commas"),
        ("name\tseed\na\t1\n", "runs.csv: has tabs between its cells"),
        ("name,seed\na,1\n\na\n", "runs.csv:4: has 1 cells, but the header has 2"),
        ('name,seed\n"a,1\n', "runs.csv:2: is not valid CSV: unexpected end of data"),
        ("name,seed\n" + "a" * 200_000 + ",1\n", "runs.csv:2: is not valid CSV: field larger than field limit"),
        ("name,seed\na,x\n", "runs.csv:2: seed: must be a whole number or empty, got 'x'"),
        ("name,seed\na,1.5\n", "runs.csv:2: seed: must be a whole number or empty, got 1.5"),
        ("name,seed\na,true\n", "runs.csv:2: seed: must be a whole number or empty, got True"),
        ("name,seed\na,inf\n", "runs.csv:2: seed: must be a whole number or empty, got inf"),
        ("name,seed,status\na,1,fine\n", "runs.csv:2: status: must be done, diverged, failed or empty, got 'fine'"),
        ("name,seed,dead_ratio\na,1,some\n", "runs.csv:2: dead_ratio: must be a number or empty, got 'some'"),
        ("name,seed,dead_ratio\na,1,true\n", "runs.csv:2: dead_ratio: must be a number or empty, got True"),
        ("name,seed,dead_ratio\na,1,97%\n", "got '97%'; write percents as fractions from 0 to 1"),
        ('name,seed,dead_ratio\na,1,"0,97"\n', "got '0,97'; write a decimal point"),
        ("name,seed,test_accuracy\na,1,97.5\n", "must be a fraction from 0 to 1, got 97.5; divide percents by 100"),
        ("name,seed,test_accuracy\na,1,-0.1\n", "must be a fraction from 0 to 1, got -0.1"),
        (f"name,seed,test_loss\na,1,{10**300}\n", "test_loss: must be a number up to 1e+100, got one of 301 digits"),
        ("name,seed,test_loss\na,1,1e300\n", "test_loss: must be a number up to 1e+100"),
        (b"name,seed\na\xe9,1\n", "runs.csv:2: is not UTF-8 text; save it as CSV in UTF-8"),
        ("name,seed\n".encode("utf-16"), "runs.csv:1: is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "runs.csv:1: is not UTF-8 text"),
        ("<html><body>no</body></html>\n", "runs.csv:1: has no column that names the variants"),
        ('{"rows": []}', "runs.csv:1: has no column that names the variants"),
    ],
)
def test_each_mistake_has_its_own_message(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_other_numbers_above_one_and_negative_gaps_are_fine(tmp_path: Path) -> None:
    (row,) = read_csv(written(tmp_path, "name,seed,test_loss,accuracy_gap,mine\na,1,97.5,-0.1,hello\n"))
    assert (row["test_loss"], row["accuracy_gap"], row["mine"]) == (97.5, -0.1, "hello")


def test_numbers_of_hundreds_of_digits_are_fine_in_other_columns(tmp_path: Path) -> None:
    rows = read_csv(written(tmp_path, "name,seed,mine,test_accuracy\n" + f"a,{'9' * 390},{'9' * 390},0.5\n" * 2))
    assert compare(rows).rows[0].n == 1
    with pytest.raises(UsageError, match="no run has a value of mine; these have numbers: test_accuracy"):
        compare(rows, metrics=["mine"])


def test_all_mistakes_are_reported_together_the_first_few_in_full(tmp_path: Path) -> None:
    text = refused(tmp_path, "name,seed,test_accuracy\n" + "a,x,2\n" * 4)
    assert len(text.splitlines()) == 6
    assert text.splitlines()[-1] == "and 3 more"


def test_a_message_shows_no_control_characters(tmp_path: Path) -> None:
    assert "\x1b" not in refused(tmp_path, "name,seed\na,\x1b[31mred\n")
    assert "\x1b" not in refused(tmp_path, "name,seed,\x1b[31m,\x1b[31m\na,1,2,3\n")


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actbench.store.read.MAX_CSV_BYTES", 10)
    assert "is larger than 0 MiB" in refused(tmp_path, "name,seed\na,1\n")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_csv(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_csv(tmp_path / "gone.csv")


@settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=60) | st.lists(st.sampled_from(list("name,seed\n\"\r;0.5'é\x00")), max_size=40).map("".join))
def test_any_text_is_read_or_refused(tmp_path: Path, body: str) -> None:
    for text in (body, f"name,seed,test_accuracy\n{body}"):
        path = written(tmp_path, text.encode("utf-8", "surrogatepass"))
        try:
            rows = read_csv(path)
        except ActbenchError as error:
            assert str(error).startswith(str(path))  # noqa: PT017 - that no other error escapes is what is tested
        else:
            assert all("seed" in row for row in rows)


# --- beside results folders ----------------------------------------------------------------------------------


def test_folders_files_and_globs_are_read_together_and_copies_count_once(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(3):
        store_run(results, seed)
    other = written(tmp_path, "name,seed,test_accuracy\nmine,0,0.5\nmine,1,0.6\n", "mine.CSV")
    read = read_rows([str(results), str(tmp_path / "*.CSV"), str(results / "runs.csv")], tmp_path)
    rows = read.rows
    assert (len(rows), read.problems) == (3 + 2 + 3, [])
    assert len(read.epochs(rows[0])) == 2
    for row in rows[3:]:
        with pytest.raises(UsageError, match="a CSV file has no epochs; compare the results folder"):
            read.epochs(row)
    found = compare(rows, by=["name"])
    assert {row.label: row.n for row in found.rows} == {"relu": 3, "mine": 2}
    assert "Counted once although stored more than once: 3 runs." in found.footnotes
    assert read_rows([str(other)], tmp_path / "nowhere").rows[0]["name"] == "mine"
    assert len(read_rows([], results).rows) == 3


def test_the_python_interface_reads_them_too(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(3):
        store_run(results, seed)
    other = written(tmp_path, "name,dataset,seed,test_accuracy\nmine,mnist,0,0.5\nmine,mnist,1,0.6\n", "mine.csv")
    found = actbench.compare([results, other], by="name")
    assert {row.label: row.n for row in found} == {"relu": 3, "mine": 2}
    with pytest.raises(UsageError, match="a CSV file has no epochs"):
        actbench.compare(other, epoch=1)


def test_only_compare_reads_csv_files(tmp_path: Path) -> None:
    path = written(tmp_path, "name,seed\na,1\n")
    with pytest.raises(UsageError, match="only compare, pivot and plot read CSV files"):
        read_results([str(path)], tmp_path)
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_results([str(tmp_path / "gone.csv")], tmp_path)
    with pytest.raises(UsageError, match="is not a results folder, a run folder or a CSV file"):
        read_rows([str(written(tmp_path, "x", "notes.txt"))], tmp_path)


def test_a_record_of_a_run_has_what_a_csv_file_needs() -> None:
    assert {"name", "activation"} <= set(record().flat)
