"""`actbench compare` and `actbench pivot` as you use them, and a table worked out by hand from runs.csv."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from fake_runs import store_run

from actbench import cli
from actbench.store.csv import format_cell, parse_table

T_975_OF_7 = 2.3646242515927844  # the 97.5% quantile of Student's t with 7 degrees of freedom, from any table
SEEDS = 8
MEANS = {"relu": 0.97, "tanh": 0.968, "silu": 0.9701}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three activations with three learning rates and eight seeds each; the highest lr diverges for silu, seed 7."""
    root = tmp_path_factory.mktemp("compared") / "results"
    random, number = Random(1), 0
    for activation, mean in MEANS.items():
        for lr, loss in ((0.001, 0.0), (0.01, 0.002), (0.1, 0.05)):
            for seed in range(SEEDS):
                number += 1
                name = f"{activation}-{lr}".replace(".", "-")
                accuracy = round(mean - loss + random.gauss(0, 0.001), 4)
                diverged = (activation, lr, seed) == ("silu", 0.1, 7)
                flat = {"name": name, "dataset": "mnist", "activation": activation, "lr": lr, "validation": 5000}
                metrics = {"test_accuracy": accuracy, "validation_accuracy": round(accuracy - 0.001, 4)}
                metrics |= {"dead_ratio": round(lr + random.random() / 100, 4), "epochs_run": 2}
                store_run(
                    root,
                    seed,
                    name,
                    run_id=f"{name}-s{seed}-{number:010x}",
                    flat=flat,
                    status="diverged" if diverged else "done",
                    metrics={"epochs_run": 1} if diverged else metrics,
                    epochs=[
                        {"epoch": 0, "test_accuracy": 0.1, "train_s": 0.0},
                        {"epoch": 1, "test_accuracy": accuracy - 0.01, "train_s": 2.0},
                        {"epoch": 2, "test_accuracy": accuracy, "train_s": 2.0},
                    ],
                )
    return root


def run(*arguments: object) -> int:
    return cli.run(["compare", *map(str, arguments)])


def shown(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert run(*arguments) == code, capsys.readouterr().err
    return capsys.readouterr().out


def pivoted(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.run(["pivot", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


# --- by hand -------------------------------------------------------------------------------------------------


def sign_flip_by_hand(differences: list[float]) -> float:
    """The share of all sign patterns whose sum is at least as far from zero."""
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(one >= observed - 1e-12 for one in sums) / len(sums)


def interval_by_hand(values: list[float]) -> tuple[float, float]:
    half = T_975_OF_7 * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


def test_a_table_can_be_worked_out_by_hand_from_runs_csv(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (results / "runs.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["lr"] == "0.01"]
    accuracy = {
        name: [float(line["test_accuracy"]) for line in sorted(lines, key=lambda line: int(line["seed"]))
               if line["activation"] == name]
        for name in MEANS
    }  # fmt: skip
    differences = {
        name: [round(a - b, 10) for a, b in zip(accuracy[name], accuracy["relu"], strict=True)]
        for name in ("tanh", "silu")
    }
    p = {name: sign_flip_by_hand(d) for name, d in differences.items()}
    first, second = sorted(p, key=lambda name: p[name])
    holm = {first: min(1.0, 2 * p[first]), second: max(min(1.0, 2 * p[first]), p[second])}

    asked = ("--by", "activation", "--filter", "lr == 0.01", "--baseline", "relu")
    rows = {row["activation"]: row for row in json.loads(shown(capsys, results, *asked, "--format", "json"))["rows"]}
    for name, values in accuracy.items():
        low, high = interval_by_hand(values)
        assert rows[name]["test_accuracy_mean"] == pytest.approx(statistics.mean(values), rel=1e-12)
        assert rows[name]["test_accuracy_sd"] == pytest.approx(statistics.stdev(values), rel=1e-9)
        assert rows[name]["test_accuracy_low"] == pytest.approx(low, rel=1e-12)
        assert rows[name]["test_accuracy_high"] == pytest.approx(high, rel=1e-12)
        dead = [float(line["dead_ratio"]) for line in lines if line["activation"] == name]
        assert rows[name]["dead_ratio_mean"] == pytest.approx(statistics.mean(dead))
    for name, d in differences.items():
        low, high = interval_by_hand(d)
        assert rows[name]["test_accuracy_difference"] == pytest.approx(statistics.mean(d))
        assert rows[name]["test_accuracy_difference_low"] == pytest.approx(low)
        assert rows[name]["test_accuracy_difference_high"] == pytest.approx(high)
        assert rows[name]["test_accuracy_p"] == p[name]
        assert rows[name]["test_accuracy_adjusted_p"] == pytest.approx(holm[name])
        assert rows[name]["test_accuracy_effect"] == pytest.approx(statistics.mean(d) / statistics.stdev(d))
        wins = sum(one > 0 for one in d) + sum(one == 0 for one in d) / 2
        assert rows[name]["test_accuracy_superiority"] == wins / SEEDS
        better = "better" if statistics.mean(d) > 0 else "worse"
        assert rows[name]["test_accuracy_verdict"] == (better if holm[name] < 0.05 else "~")
    assert {row["test_accuracy_verdict"] for row in rows.values()} == {None, "worse", "~"}

    for line in shown(capsys, results, *asked, "--format", "csv").splitlines()[1:]:
        name = line.partition(",")[0]
        assert repr(rows[name]["test_accuracy_mean"]) in line
    table = shown(capsys, results, *asked)
    for name, values in accuracy.items():
        low, high = interval_by_hand(values)
        assert f"{100 * statistics.mean(values):.2f} ±{50 * (high - low):.2f}" in table
        if name != "relu":
            assert f"{100 * statistics.mean(differences[name]):+.2f}".replace("-", "\N{MINUS SIGN}") in table
            assert f"{holm[name]:.3f}" in table


# --- options -------------------------------------------------------------------------------------------------


def test_a_pivot_has_the_same_means_in_every_format(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("activation", "lr", results, "-m", "dead_ratio")
    table = pivoted(capsys, *asked)
    assert re.search(r"activation +lr=0\.001 +lr=0\.01 +lr=0\.1", table)
    (relu, silu, tanh) = parse_table(pivoted(capsys, *asked, "--format", "csv"))
    assert [row["activation"] for row in (relu, silu, tanh)] == ["relu", "silu", "tanh"]
    assert json.loads(pivoted(capsys, *asked, "--format", "json"))["rows"] == [relu, silu, tanh]
    assert (silu["lr=0.1_n"], silu["lr=0.1_diverged"], silu["lr=0.1_values"]) == (8, 1, 7)
    for text in (table, pivoted(capsys, *asked, "--format", "md"), pivoted(capsys, *asked, "--format", "latex")):
        for row in (relu, silu, tanh):
            assert f"{100 * float(row['lr=0.01_mean'] or 0):.2f}" in text
        assert "(1 diverged)" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sort", "tset_accuracy"], "unknown column to sort by 'tset_accuracy'; did you mean 'test_accuracy'"),
        (
            ["--by", "activation", "--epoch", "9"],
            "no run has a value of test_accuracy after epoch 9; the longest has 2",
        ),
        (
            ["--tune", "activation", "--by", "lr", "--filter", "activation == 'relu' or lr < 0.1"],
            "the same number of values of activation for every row, got lr=0.001: 3, lr=0.01: 3, lr=0.1: 1",
        ),
        (["--filter", "lr = 0.1"], "did you mean '=='?"),
        (["--fail-if", "accuracy < 0"], "unknown name 'accuracy'"),
        (["--format", "xml"], "unknown format 'xml' (allowed: table, md, latex, csv, json)"),
        (["--format", "jsn"], "unknown format 'jsn'; did you mean 'json'? (allowed: table, md, latex, csv, json)"),
        (["--metric", "epochs_to:test_accuracy"], "write it as epochs_to:test_accuracy>=0.97"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_in_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(results, *options) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([",", "lr"], "a pivot needs a key for its rows and a key for its columns, such as: activation lr"),
        (["activation", ","], "a pivot needs a key for its rows and a key for its columns, such as: activation lr"),
        (["activation,lr", "lr"], "lr cannot be in both rows and columns"),
        (["activation", "lr", "--format", "xml"], "unknown format 'xml' (allowed: table, md, latex, csv, json)"),
        (["activaton", "lr"], "did you mean 'activation'?"),
    ],
)
def test_a_pivot_that_cannot_be_made_is_refused_in_one_line(
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("ACTBENCH_RESULTS", str(results))
    assert cli.run(["pivot", *arguments]) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert len(streams.err.splitlines()) == 1
    assert streams.out == ""


def test_tuning_takes_each_activation_at_its_best_lr(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, results, "--by", "activation", "--tune", "lr", "--format", "md")
    assert "values of lr by validation accuracy after the last epoch: relu 0.001, silu 0.001, tanh 0.001" in text
    assert "| relu | 8 |" in text
    early = shown(capsys, results, "--by", "activation", "--tune", "lr", "--epoch", "1", "--format", "json")
    late = shown(capsys, results, "--by", "activation", "--tune", "lr", "--format", "json")
    for one, other in zip(json.loads(early)["rows"], json.loads(late)["rows"], strict=True):
        assert one["test_accuracy_mean"] == pytest.approx(other["test_accuracy_mean"] - 0.01)


def test_metrics_derived_from_curves_read_the_curves(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = "epochs_to:test_accuracy>=0.95,seconds_to:test_accuracy>=0.95,auc:test_accuracy"
    asked = (results, "--by", "activation", "--filter", "lr == 0.001", "--metric", metrics, "--format", "json")
    relu = next(row for row in json.loads(shown(capsys, *asked))["rows"] if row["activation"] == "relu")
    assert relu["epochs_to:test_accuracy>=0.95_mean"] == 1.0
    assert relu["seconds_to:test_accuracy>=0.95_mean"] == 2.0
    assert 0.7 < relu["auc:test_accuracy_mean"] < 0.8


def test_a_check_fails_only_on_a_significant_difference(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (results, "--by", "activation", "--filter", "lr == 0.001", "--baseline", "relu")
    assert run(*asked, "--fail-if", "diff(test_accuracy) < -0.0005") == 1
    assert "holds for: tanh" in capsys.readouterr().err
    few = (results, "--by", "activation", "--filter", "lr == 0.001 and seed < 5", "--baseline", "relu")
    assert run(*few, "--fail-if", "diff(test_accuracy) < -0.0005") == 0
    assert "tanh may meet the condition, but these runs do not decide it" in capsys.readouterr().err
    assert run(*asked, "--fail-if", "diff(test_accuracy) < -0.5") == 0


def test_a_check_of_a_mean_fails_for_every_row_that_meets_it(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (results, "--by", "activation", "--filter", "lr == 0.001", "--baseline", "relu", "--format", "json")
    means = {row["activation"]: row["test_accuracy_mean"] for row in json.loads(shown(capsys, *asked))["rows"]}
    low, high = min(means.values()), max(means.values())
    assert run(*asked, "--fail-if", f"test_accuracy < {low}") == 0
    assert run(*asked, "--fail-if", f"test_accuracy < {high + 1e-9}") == 1
    message = capsys.readouterr().err
    assert all(name in message for name in means)


def test_strict_also_fails_on_what_the_runs_do_not_decide(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = (results, "--by", "activation", "--filter", "lr == 0.001 and seed < 5", "--baseline", "relu")
    assert run(*few, "--fail-if", "diff(test_accuracy) < -0.0005", "--strict") == 1
    assert "is not decided for: tanh; train more seeds" in capsys.readouterr().err
    assert run(*few, "--fail-if", "diff(test_accuracy) < -0.4", "--strict") == 0
    assert run(*few, "--strict") == 2
    assert "add --fail-if" in capsys.readouterr().err


def junit_of(path: Path) -> tuple[ElementTree.Element, dict[str, list[str]]]:
    """The suite in a JUnit file, and how each of its cases ended: [] if it passed."""
    suite = ElementTree.fromstring(path.read_bytes())
    return suite, {case.attrib["name"]: [child.tag for child in case] for case in suite}


def test_a_check_writes_a_junit_file_with_a_case_per_row(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "checks.xml"
    condition = "diff(test_accuracy) < -0.0005"
    asked = (results, "--by", "activation", "--baseline", "relu", "--fail-if", condition, "--junit", path)
    assert run(*asked, "--filter", "lr == 0.001") == 1
    suite, cases = junit_of(path)
    assert cases == {"relu": [], "tanh": ["failure"], "silu": []}
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("3", "1", "0")
    assert suite.attrib["name"] == f'--fail-if "{condition}"'
    few = "lr == 0.001 and seed < 5"
    assert run(*asked, "--filter", few) == 0
    assert junit_of(path)[1]["tanh"] == ["skipped"]
    assert run(*asked, "--filter", few, "--strict") == 1
    assert junit_of(path)[1]["tanh"] == ["failure"]


def test_a_junit_file_is_xml_whatever_a_row_is_called(tmp_path: Path) -> None:
    names = ["a", "\x00\x1b[31m", "]]>&<'\"", "\ud7ff\ufffe\u202e"]
    rows = "".join(f"{format_cell(name)},{seed},0.{seed}\n" for name in names for seed in range(2))
    (tmp_path / "runs.csv").write_text(f"name,seed,test_accuracy\n{rows}")
    path = tmp_path / "checks.xml"
    assert run(tmp_path / "runs.csv", "--fail-if", "n > 5", "--junit", path) == 0
    assert len(junit_of(path)[1]) == len(names)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--junit", "x.xml"), "add --fail-if"),
        (("--junit", ".", "--fail-if", "n > 5"), "is a folder"),
        (("--junit", "nowhere/x.xml", "--fail-if", "n > 5"), "folder nowhere does not exist; create it first"),
    ],
)
def test_a_junit_file_that_cannot_be_written_is_refused_first(
    arguments: tuple[str, ...], told: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results, *arguments) == 2
    shown = capsys.readouterr()
    assert told in " ".join(shown.err.split())
    assert shown.out == ""


def test_diverged_runs_are_counted_shown_and_never_best(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, results, "--by", "activation", "--filter", "lr == 0.1", "--format", "latex")
    assert "silu & 8 (1 diverged)" in text
    assert not re.search(r"silu .*(textbf|\^\{\*\})", text)


def test_folders_runs_files_and_globs_may_be_mixed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = shown(capsys, results, "--by", "activation", "--format", "json")
    assert shown(capsys, results / "runs.csv", "--by", "activation", "--format", "json") == whole
    globs = (f"{results}/relu*", f"{results}/tanh-*", f"{results}/s*")
    assert shown(capsys, *globs, "--by", "activation", "--format", "json") == whole
    (tmp_path / "mine.csv").write_text("activation,dataset,seed,test_accuracy\n" + "".join(
        f"mine,mnist,{seed},0.95\n" for seed in range(SEEDS)))  # fmt: skip
    asked = ("--by", "activation", "--filter", "lr == 0.01 or lr == none", "--format", "json")
    rows = json.loads(shown(capsys, results, tmp_path / "*.csv", *asked))["rows"]
    mine = next(row for row in rows if row["activation"] == "mine")
    assert (mine["n"], mine["test_accuracy_verdict"], mine["test_accuracy_pairs"]) == (8, "worse", 8)
    assert mine["dead_ratio_mean"] is None


# --- terminals -----------------------------------------------------------------------------------------------


def printed(results: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "actbench", *arguments, str(results)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=True, timeout=120)


@pytest.mark.parametrize("columns", [80, 160])
def test_a_table_fits_its_terminal_and_uses_the_room_it_has(results: Path, columns: int) -> None:
    done = printed(
        results, "compare", "--by", "activation", "--filter", "lr < 0.1", COLUMNS=str(columns), PYTHONUTF8="1"
    )
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= columns
    assert ("P(A>B)" in "\n".join(lines)) == (columns == 160)
    assert "±" in lines[-5]


def test_an_ascii_pipe_gets_ascii(results: Path) -> None:
    done = printed(results, "pivot", "activation", "lr", PYTHONIOENCODING="ascii", NO_COLOR="1", TERM="dumb")
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert b"+-" in done.stdout
    compared = printed(results, "compare", "--by", "activation", PYTHONIOENCODING="ascii", COLUMNS="120").stdout
    assert re.search(rb" -[0-9.]+ \+-[0-9.]+ ", compared)
    assert "\N{MINUS SIGN}" in printed(results, "compare", "--by", "activation", PYTHONUTF8="1").stdout.decode()


def test_a_note_names_the_columns_hidden_from_a_narrow_table(results: Path) -> None:
    done = printed(results, "compare", "--by", "activation", "--filter", "lr < 0.1", COLUMNS="60")
    told = b"hidden, because the table is wider than 60 columns: effect, P(A>B), p, dead %, time s; to show all: --wide"
    assert told in done.stderr
    assert b"hidden" not in done.stdout


@pytest.mark.parametrize("command", [("compare", "--by", "activation"), ("pivot", "activation", "lr,seed")])
def test_a_file_or_a_wide_table_is_whole_however_narrow_the_terminal_is(
    command: tuple[str, ...], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = printed(results, *command)
    assert printed(results, *command, "--wide", COLUMNS="40").stdout == whole.stdout
    assert b"hidden" not in whole.stderr
    heading = whole.stdout.decode().splitlines()[0]
    names = ["effect", "P(A>B)", "time s"] if command[0] == "compare" else ["lr=0.001 seed=0", "lr=0.1 seed=7"]
    assert all(name in heading for name in names)
    narrow = printed(results, *command, COLUMNS="60").stdout.decode()
    assert max(map(len, narrow.splitlines())) <= 60 < len(heading)


# --- what is kept in the repository --------------------------------------------------------------------------

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


@pytest.mark.parametrize(("table", "options"), [("activations", ()), ("activations-dead", ("--metric", "dead_ratio"))])
def test_the_reference_tables_follow_from_the_runs_beside_them(
    capsys: pytest.CaptureFixture[str], table: str, options: tuple[str, ...]
) -> None:
    asked = (REFERENCE / "activations.csv", "--by", "name", "--baseline", "relu", "--format", "md")
    assert shown(capsys, *asked, *options) == (REFERENCE / f"{table}.md").read_text()
