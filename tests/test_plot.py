"""`actbench plot` as you use it: real small runs, every chart, whole files, errors that say what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actbench import cli
from actbench.store.csv import parse_table


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs on the embedded digits: two activations, two learning rates, two seeds."""
    folder = tmp_path_factory.mktemp("plot")
    text = "name: tiny\ndataset: digits\nepochs: 2\nhidden: [16]\ntrain_limit: 200\nseeds: 2\n"
    grid = "sweep: {grid: {activation: [relu, tanh], lr: [0.001, 0.1]}}\n"
    (folder / "tiny.yaml").write_text(text + grid)
    assert run("sweep", "-c", folder / "tiny.yaml", "--results", folder / "results", "--quiet") == 0
    return folder / "results"


@pytest.fixture(scope="module")
def run_ids(results: Path) -> list[str]:
    return [str(row["run_id"]) for row in parse_table((results / "runs.csv").read_text())]


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"rows": [{"activation": "relu", "forward_ns": 0.1, "backward_ns": 0.2}], "rounds": 3}))
    return path


@pytest.mark.parametrize(
    ("chart", "options", "told"),
    [
        ("curves", [], "Test accuracy over the epochs: 2 activations × 2 learning rates, 2 seeds"),
        (
            "curves",
            ["--metric", "train_loss", "--log", "--free-y", "--by", "lr,activation"],
            "Train loss over the epochs",
        ),
        ("dead", ["--filter", "lr == 0.1"], "Dead hidden units over the epochs: 2 activations, 2 seeds"),
        ("heatmap", [], "Dead units by activation and lr: 2 seeds"),
        ("heatmap", ["--rows", "lr", "--cols", "seed", "-m", "auc:test_accuracy"], "by lr and seed"),
        ("landscape", ["--by", "lr"], "Test accuracy against dead units: 2 learning rates, 2 seeds"),
        ("landscape", ["--metric", "test_loss"], "Test loss against dead units"),
    ],
)
def test_each_chart_draws_the_stored_runs(
    chart: str, options: list[str], told: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.svg"
    assert run("plot", chart, results, *options, "-o", picture) == 0
    assert told in picture.read_text()
    assert capsys.readouterr().out == f"{picture}\n"
    assert list(tmp_path.iterdir()) == [picture]


def test_neurons_draws_one_run_by_its_id_or_its_folder(results: Path, run_ids: list[str], tmp_path: Path) -> None:
    by_id, by_folder = tmp_path / "a.svg", tmp_path / "b.svg"
    assert run("plot", "neurons", run_ids[0], "--results", results, "-o", by_id) == 0
    assert run("plot", "neurons", results / run_ids[0], "-o", by_folder) == 0
    first, second = (re.sub(r"gradient_\d+", "", path.read_text()) for path in (by_id, by_folder))  # vega counts these
    assert first == second
    assert len(set(re.findall(r"data:image/png;base64,[^\"]+", first))) >= 8


def test_activations_are_drawn_with_parameters_and_chains_and_need_no_results(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    names = ["gelu", "elu(alpha=2)", "{name: leaky_relu, negative_slope: 0.2}", "[relu, sigmoid]"]
    assert run("plot", "activations", *(part for name in names for part in ("-a", name)), "-o", picture) == 0
    text = picture.read_text()
    assert all(
        label in text for label in ("gelu", "elu(alpha=2)", "leaky_relu(negative_slope=0.2)", "relu &gt; sigmoid")
    )


def test_cost_draws_what_the_cost_command_prints(costs: Path, tmp_path: Path) -> None:
    assert run("plot", "cost", costs, "-o", tmp_path / "cost.svg") == 0
    assert "time per element (ns)" in (tmp_path / "cost.svg").read_text()


@pytest.mark.parametrize("ending", ["svg", "png", "pdf", "html", "PNG"])
def test_the_extension_selects_the_format(ending: str, results: Path, tmp_path: Path) -> None:
    start = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "html": b"<!doc"}[ending.lower()]
    assert run("plot", "landscape", results, "--theme", "dark", "-o", tmp_path / f"x.{ending}") == 0
    assert (tmp_path / f"x.{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["curves", "-o", "x.jpg"], ".svg, .png, .pdf or .html, got .jpg"),
        (["curves", "-o", "x"], ".svg, .png, .pdf or .html, this one has none"),
        (["curves", "-o", "no/x.svg"], "folder no does not exist; create it first"),
        (["curves", "-o", "folder.svg"], "this is a folder; name a file in it"),
        (["curves", "nowhere", "-o", "x.svg"], "nowhere: there is no such file or folder"),
        (["curves", "--metric", "dead_rato", "-o", "x.svg"], "did you mean 'dead_ratio'"),
        (["curves", "--by", "activaton", "-o", "x.svg"], "did you mean 'activation'"),
        (["curves", "--filter", "lr > 5", "-o", "x.svg"], "leaves none of the 8 runs"),
        (["curves", "-m", "dead_ratio", "--log", "-o", "x.svg"], "values <= 0"),
        (["heatmap", "--rows", "lr", "--cols", "lr", "-o", "x.svg"], "two different settings"),
        (["activations", "-a", "gelo", "-o", "x.svg"], "did you mean 'gelu'"),
        (["activations", "-a", "elu(alpha=-1)", "-o", "x.svg"], "alpha: must be a number >= 0"),
        (["activations", "-a", "elu(alpha", "-o", "x.svg"], "activation elu(alpha: unknown activation"),
        (["activations", "-a", "[glu, relu]", "-o", "x.svg"], "changes the width"),
        (["neurons", "-o", "x.svg"], "draws one run, got 8"),
        (["cost", "nowhere.json", "-o", "x.svg"], "nowhere.json: cannot be read: No such file"),
    ],
)
def test_a_chart_that_cannot_be_drawn_gives_one_line_and_no_file(
    arguments: list[str],
    told: str,
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    monkeypatch.setenv("ACTBENCH_RESULTS", str(results))
    assert run("plot", *arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["curves", "--rows", "lr", "-o", "x.svg"], "No such option: --rows"),
        (["dead", "-m", "dead_ratio", "-o", "x.svg"], "No such option: -m"),
        (["activations", "results", "-o", "x.svg"], "(results)"),
        (["cost", "-o", "x.svg"], "Missing argument 'FILE'"),
        (["curves"], "Missing option '--output' / '-o'"),
        (["curvs", "-o", "x.svg"], "No such command 'curvs'"),
    ],
)
def test_a_chart_takes_only_its_own_options(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plot", *arguments) == 2
    assert told in capsys.readouterr().err


def test_the_help_lists_the_charts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plot", "--help") == 0
    text = capsys.readouterr().out
    for chart in ("activations", "curves", "dead", "heatmap", "landscape", "neurons", "cost"):
        assert re.search(rf"^  {chart}  ", text, re.MULTILINE)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"rows": 3}', '{"rows": [1]}', '{"rows": []}', '{"rows": [{"activation": "x"}]}']
)
def test_a_file_that_does_not_contain_costs_is_named(
    text: str, costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs.write_text(text)
    assert run("plot", "cost", costs, "-o", tmp_path / "x.svg") == 2
    assert f"error: {costs}: " in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_leaves_the_old_one_whole(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "x.svg"
    picture.write_text("old")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert run("plot", "landscape", results, "-o", picture) == 1
    monkeypatch.undo()
    assert "No space left" in capsys.readouterr().err
    assert picture.read_text() == "old"
    assert list(tmp_path.iterdir()) == [picture]


def test_a_damaged_run_is_named_and_the_others_are_drawn(
    results: Path, run_ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = results / run_ids[0] / "epochs.csv"
    whole = epochs.read_bytes()
    try:
        epochs.write_bytes(whole.replace(b"0", b"1", 1))
        assert run("plot", "curves", results, "-o", tmp_path / "x.svg") == 0
    finally:
        epochs.write_bytes(whole)
    assert f"left out {epochs.parent}: epochs.csv has changed" in capsys.readouterr().err


def test_a_csv_file_has_final_values_but_no_curves(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results / "runs.csv"
    assert run("plot", "heatmap", table, "-o", tmp_path / "a.svg") == 0
    assert run("plot", "heatmap", results, "-o", tmp_path / "b.svg") == 0
    drawn = [re.findall(r">([0-9.]+%)<", (tmp_path / name).read_text()) for name in ("a.svg", "b.svg")]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) >= 4
    capsys.readouterr()
    assert run("plot", "curves", table, "-o", tmp_path / "c.svg") == 2
    assert "a CSV file has no epochs" in capsys.readouterr().err


def test_drawing_stored_runs_never_imports_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from actbench import cli; code = cli.run(sys.argv[1:]);"
        "print([name for name in ('torch', 'torchvision', 'sklearn') if name in sys.modules], code)"
    )
    for kind in ("curves", "heatmap"):
        command = [sys.executable, "-W", "error", "-c", code, "plot", kind, str(results), "-o", str(tmp_path / "x.svg")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.splitlines()[-1] == "[] 0"
