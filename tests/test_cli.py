"""The command line as you use it: commands, streams, exit codes, faults."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import typer.main
from fake_runs import store_run

from actbench import cli, compute
from actbench.activations import ACTIVATIONS
from actbench.engine import measure
from actbench.store.csv import parse_table

ROOT = Path(__file__).parents[1]
QUICK = ["--set", "epochs=2", "--set", "hidden=[16]", "--set", "train_limit=200"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


TINY = "name: tiny\ndataset: digits\nepochs: 2\nhidden: [16]\ntrain_limit: 200\nseeds: 2\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A tiny config on the embedded digits."""
    return write(tmp_path / "tiny.yaml", TINY)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def actbench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real program in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "actbench", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )


def run(*arguments: object) -> int:
    """Run a command in this process."""
    return cli.run([str(argument) for argument in arguments])


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its content's hash and its time of change."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_of(results: Path) -> list[dict[str, Any]]:
    return parse_table((results / "runs.csv").read_text())


# --- start-up ------------------------------------------------------------------------------------------------

HEAVY = ("torch", "torchvision", "numba", "sklearn", "ray", "scipy")
PROBE = """
import sys
from actbench import cli
code = cli.run(sys.argv[1:])
print("loaded:", [name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


def loaded_by(*arguments: object, first: str = "") -> str:
    code = first + PROBE.format(heavy=HEAVY)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["validate", ROOT / "configs" / "relu.yaml"],
        ["schema"],
        ["schema", "--claims"],
        ["claims", "--dry-run"],
        ["list", "activations"],
        ["list", "inits"],
        ["list", "datasets"],
        ["list", "optimizers"],
        ["list", "schedules"],
        ["list", "metrics"],
        ["list", "configs"],
        ["init", "--help"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])).replace(str(ROOT), ""),
)
def test_light_commands_never_import_torch(arguments: list[object]) -> None:
    assert loaded_by(*arguments) == "loaded: []"


def test_reading_results_and_training_nothing_never_import_torch(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "-q") == 0
    assert loaded_by("show", "tiny-s0", "--results", results) == "loaded: []"
    for command in (
        ["compare", results],
        ["pivot", "activation", "lr", results],
        ["train", "-c", config, "--results", results],
    ):
        assert loaded_by(*command) in ("loaded: []", "loaded: ['scipy']")  # intervals need scipy


def test_the_test_for_heavy_imports_can_fail() -> None:
    assert loaded_by("--version", first="import torch\n") == "loaded: ['torch']"


def test_python_m_actbench_is_the_command_line() -> None:
    assert actbench("--version").stdout.startswith("actbench ")


def test_the_help_of_every_command_ends_with_an_example_that_parses() -> None:
    for name, command in all_commands().items():
        *_, example = command.help.strip().splitlines()
        found = re.match(rf"Example: actbench {name}\b([^>]*)", example)
        assert found is not None, name
        command.make_context(name, shlex.split(found[1]))  # refuses unknown options and missing arguments


# --- train ---------------------------------------------------------------------------------------------------


def test_train_ends_with_the_table_on_stdout_and_everything_else_on_stderr(config: Path, results: Path) -> None:
    done = actbench("train", "--config", config, "--results", results)
    assert done.returncode == 0
    assert "test accuracy %" in done.stdout
    assert "dead %" in done.stdout
    assert "tiny" in done.stdout
    assert "epoch" not in done.stdout
    lines = [line for line in done.stderr.splitlines() if "epoch" in line]
    assert len(lines) == 4  # 2 runs x 2 epochs, plain lines where stderr is no terminal
    assert all("loss" in line and "dead" in line and "images/s" in line for line in lines)
    assert "\x1b" not in done.stdout + done.stderr
    assert "(device: auto)" in done.stderr


def test_the_results_folder_is_laid_out_as_the_readme_says(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "-q") == 0
    rows = rows_of(results)
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        folder = results / str(row["run_id"])
        names = {path.name for path in folder.iterdir()}
        assert names == {
            *("config.yaml", "epochs.csv", "layers.csv", "neurons.csv", "result.json"),
            *("model.safetensors", "predictions.csv.gz"),
        }
        epochs = parse_table((folder / "epochs.csv").read_text())
        assert [line["epoch"] for line in epochs] == [0, 1, 2]
        assert epochs[-1]["dead_ratio"] == row["dead_ratio"]
        assert len(parse_table((folder / "neurons.csv").read_text())) == 16
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        assert weights["hidden.0.weight"].shape == (16, 784)
        assert run("train", "-c", folder / "config.yaml", "--results", results, "-q") == 0
    assert rows_of(results) == rows
    expected = (
        "run_id,name,dataset,network,activation,init,batch_norm,lr,optimizer,epochs,batch_size,hidden,seed,device,"
        "status,test_accuracy,test_loss,train_accuracy,train_loss,dead_ratio,near_dead_ratio,silent_ratio,"
        "saturated_ratio,sparsity,deaths,revivals,epochs_run,wall_s,images_per_s"
    )
    assert (results / "runs.csv").read_text().startswith(expected)


def test_dead_units_of_each_epoch_are_those_before_plus_deaths_less_revivals(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "-q", "--set", "lr=0.1", "--set", "epochs=5") == 0
    for row in rows_of(results):
        epochs = parse_table((results / str(row["run_id"]) / "epochs.csv").read_text())
        dead = [round(float(line["dead_ratio"]) * 16) for line in epochs]  # type: ignore[arg-type]
        for before, now, line in zip(dead, dead[1:], epochs[1:], strict=False):
            assert now == before + line["deaths"] - line["revivals"]  # type: ignore[operator]


def test_repeating_a_finished_command_trains_nothing_and_leaves_every_byte(
    config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "-c", config, "--results", results, "-q") == 0
    before, first = snapshot(results), capsys.readouterr().out
    assert run("train", "-c", config, "--results", results) == 0
    again = capsys.readouterr()
    assert snapshot(results) == before
    assert "nothing to train" in again.err
    assert again.out == first


def test_runs_csv_loses_the_rows_of_deleted_runs_even_if_nothing_trains(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "--seeds", 2) == 0
    gone, kept = sorted(path for path in results.iterdir() if (path / "result.json").exists())
    shutil.rmtree(gone)
    assert run("train", "-c", config, "--results", results, "--seed", 1) == 0
    assert [row["run_id"] for row in rows_of(results)] == [kept.name]
    (results / "runs.csv").unlink()
    assert run("train", "-c", config, "--results", results, "--seed", 1) == 0
    assert [row["run_id"] for row in rows_of(results)] == [kept.name]


def test_force_trains_again_to_bit_identical_weights_and_metrics(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "-q") == 0
    models = {path: path.read_bytes() for path in results.rglob("model.safetensors")}
    rows = rows_of(results)
    times = {path: path.stat().st_mtime_ns for path in models}
    assert run("train", "-c", config, "--results", results, "-q", "--force") == 0
    for path, data in models.items():
        assert path.stat().st_mtime_ns != times[path]
        assert path.read_bytes() == data
    untimed = ("wall_s", "images_per_s")
    for one, other in zip(rows, rows_of(results), strict=True):
        assert {k: v for k, v in one.items() if k not in untimed} == {
            k: v for k, v in other.items() if k not in untimed
        }


def test_new_seeds_train_only_themselves(config: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "-c", config, "--results", results, "-q", "--seeds", "1") == 0
    assert run("train", "-c", config, "--results", results, "--seeds", "3") == 0
    assert "2 to train, 1 already done" in capsys.readouterr().err
    assert [row["seed"] for row in rows_of(results)] == [0, 1, 2]


def test_json_puts_only_json_on_stdout(config: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: object) -> Any:
        assert run(*arguments, "--format", "json") == 0
        return json.loads(capsys.readouterr().out)

    found = printed("train", "-c", config, "--results", results)
    assert [row["seed"] for row in found["runs"]] == [0, 1]
    assert found["failed"] == {}
    assert printed("compare", results)["rows"][0]["n"] == 2
    assert printed("list", "activations")["activations"][0]["name"] == "relu"


def test_quiet_prints_nothing_but_the_result(config: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "-c", config, "--results", results, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_print_config_runs_back_in_unchanged(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "-c", config, "--print-config", "--set", "activation.name=elu", "--seeds", "3,7") == 0
    printed = capsys.readouterr().out
    again = write(tmp_path / "again.yaml", printed)
    assert run("train", "-c", again, "--print-config") == 0
    assert capsys.readouterr().out == printed
    assert "activation: elu" in printed
    assert "seeds: [3, 7]" in printed


def test_several_configs_train_side_by_side_and_are_compared(
    config: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other.yaml", config.read_text().replace("name: tiny", "name: other\nactivation: tanh"))
    assert run("train", "-c", config, "-c", other, "--results", results, "-q") == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "other" in out


# --- faults --------------------------------------------------------------------------------------------------


def test_every_problem_in_a_config_is_reported_with_its_place_and_nothing_starts(tmp_path: Path, results: Path) -> None:
    bad = write(tmp_path / "bad.yaml", "activation: swsh\nlr: fast\n")
    done = actbench("train", "-c", bad, "--results", results)
    assert done.returncode == 2
    assert "bad.yaml:1:13: activation: unknown activation 'swsh'" in done.stderr
    assert "bad.yaml:2:5: lr:" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not results.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "-c", "missing.yaml"],
        ["train", "-c", "x.yaml", "--sed", "3"],
        ["trian"],
        ["compare", "missing-folder"],
        ["show", "nothing-s0"],
        ["list", "activation"],
        ["data", "info", "mnits"],
        ["compare", "--format", "htlm"],
    ],
)
def test_a_wrong_command_line_exits_with_2_and_a_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = run(*arguments)
    err = capsys.readouterr().err
    assert code == 2 or (arguments[0] == "show" and code in (1, 2))
    assert "Traceback" not in err
    assert err.strip()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "foo"], "'foo' is not one of 'runs', 'activations'"),
        (["train", "-c", "x.yaml", "--threads", "0"], "must be an integer >= 1 and <= 100000, got 0"),
        (["train", "-c", "x.yaml", "--seed", "a"], "Invalid value for '--seed': must be a valid integer"),
        (["plot", "curves", "-o", "x.svg", "--theme", "page"], "'page' is not one of 'light', 'dark'"),
        (["trian"], "Did you mean 'train'?"),
        (["show", "x", "--format", "csv"], "unknown format 'csv' (allowed: table, json)"),
        (["list", "inits", "--format", "jsn"], "unknown format 'jsn'; did you mean 'json'? (allowed: table, json)"),
    ],
    ids=str,
)
def test_a_usage_error_says_in_plain_words_what_is_allowed(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "Value error" not in shown.err
    assert "Input should" not in shown.err
    assert shown.out == ""


INTEGERS = {
    "train -c {config}": ("threads", "lanes", "seed", "seeds"),
    "sweep -c {config} -g lr=0.1": ("threads", "lanes", "seed", "seeds"),
    "claims 1 --dry-run": ("threads", "lanes", "seeds"),
    "reproduce x": ("threads",),
    "compare {runs}": ("epoch", "top"),
    "pivot lr seed {runs}": ("epoch",),
    "cost relu": ("threads", "rounds"),
}


@pytest.mark.parametrize("value", [-1, 10**22, "9" * 401, "1.5", "1e3", "", "٣", "0x10"])
@pytest.mark.parametrize(("command", "option"), [(c, option) for c, options in INTEGERS.items() for option in options])
def test_an_absurd_integer_is_refused_with_the_range_that_is_allowed(
    command: str, option: str, value: object, config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "runs.csv").write_text("name,seed,lr,test_accuracy\na,0,0.1,0.5\na,1,0.1,0.5\n")
    filled = command.format(config=config, runs=config.parent / "runs.csv").split()
    code = run(*filled, f"--{option}", value)
    err = capsys.readouterr().err
    assert not results.exists()
    if value == "٣" and code == 0:
        return  # a three, in the digits of another script
    assert code == 2
    assert f"--{option}" in err
    assert re.search(r"must be an? (valid )?(integer|list)|is too long", err)
    assert "Traceback" not in err


def test_every_option_that_takes_an_integer_is_tested_with_absurd_ones() -> None:
    tested = {(command.split()[0], option) for command, options in INTEGERS.items() for option in options}
    taken = {
        (name, option.name)
        for name, command in all_commands().items()
        for option in command.params
        if option.type_descriptor.annotation is int
    }
    assert taken
    assert taken <= tested


@pytest.mark.parametrize("threads", [2, 32_768, 99_999])
def test_threads_are_limited_to_the_processors_and_a_note_says_so(
    threads: int, config: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compute, "usable_threads", lambda: 1)
    for command in (["train", "-c", config, "--results", results], ["cost", "relu", "--rounds", "2"]):
        assert run(*command, "--threads", threads) == 0
        err = capsys.readouterr().err
        assert err.count(f"--threads {threads}: this process may use 1 processor; using 1 thread") == 1


def all_commands() -> dict[str, Any]:
    """Every command by its full name, such as `plot curves`."""
    group: Any = typer.main.get_command(cli.app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {one}": each for one, each in below.items()}
    return found


OWN_MEANING = {
    ("cost", "--threads"), ("report", "--output"), ("results rm", "--dry-run"), ("results rm", "--filter"),
    ("schema", "--claims"),
}  # fmt: skip
"""Options that mean something else in one command."""


def test_an_option_of_several_commands_is_the_same_in_all_of_them() -> None:
    declared: dict[str, set[Any]] = {}
    for name, command in all_commands().items():
        for option in command.params:
            flag = option.opts[0]
            if flag.startswith("--") and (name, flag) not in OWN_MEANING:
                is_plot_metric = name.startswith("plot") and flag == "--metric"  # draws one metric
                is_json = flag == "--format" and option.metavar == "table|json"
                kind = f"{flag} of one chart" if is_plot_metric else f"{flag} json" if is_json else flag
                declared.setdefault(kind, set()).add((option.help, option.metavar, tuple(option.opts), option.envvar))
    assert {flag: texts for flag, texts in declared.items() if len(texts) > 1} == {}


def test_no_help_shows_types_in_the_words_of_python_or_typer(capsys: pytest.CaptureFixture[str]) -> None:
    for name in all_commands():
        assert run(*name.split(), "--help") == 0
        shown = capsys.readouterr().out
        assert not re.search(
            r"<[a-z_ ]*(int|str|float|path|list)[a-z_ \[\]]*>|\[\[|x>=|\|[a-z0-9]+>", shown, re.IGNORECASE
        ), name


@pytest.mark.parametrize("topic", ["activations", "inits", "datasets", "optimizers", "schedules", "metrics"])
def test_a_list_shows_each_entry_under_its_name_in_80_columns(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", topic, "--format", "json") == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)[topic]]
    assert run("list", topic) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line and not line.startswith(" ")] == names
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "tst_accuracy"], "unknown metric 'tst_accuracy'; did you mean 'test_accuracy', 'train_accuracy' or "

                                 "'accuracy_gap'? See: actbench list metrics"),
        (["-m", "qqq"], "unknown metric 'qqq'. See: actbench list metrics"),
        (["--baseline", "reul"], "unknown baseline 'reul'; did you mean 'relu'? "
                                 "To see all rows, leave out the baseline"),
        (["--by", "actvation"], "unknown column 'actvation'; did you mean 'activation'? "
                                "To see all columns, read the first line of runs.csv"),
        (["--sort", "tets_accuracy"], "did you mean 'test_accuracy'"),
        (["--tune", "lrr"], "unknown column 'lrr'; did you mean 'lr'? To see all columns, read the first"),
        (["--format", "jsno"], "unknown format 'jsno'; did you mean 'json'? (allowed: table, md, latex, csv, json)"),
    ],
)  # fmt: skip
def test_an_unknown_name_lists_similar_ones_and_says_where_all_are(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.csv").write_text("name,activation,seed,lr,test_accuracy\nrelu,relu,0,0.1,0.5\na,b,0,0.1,0.5\n")
    assert run("compare", tmp_path / "runs.csv", *arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("value", ["{a: 1}", "[{a: true}, null, 'x']"])
def test_a_value_that_is_refused_is_quoted_as_it_was_written(
    value: str, config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "-c", config, "--set", f"epochs={value}", "--results", results) == 2
    assert f"got {value}" in capsys.readouterr().err


def test_data_info_and_show_print_words_and_short_numbers(
    config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "-c", config, "--results", results, "-q", "--seeds", 1) == 0
    assert run("data", "info", "digits") == 0
    assert run("show", "tiny-s0", "--results", results) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"[{}]|True|False|None|\d\.\d{8,}", shown)
    assert "class counts:  train 142 " in shown


def test_no_command_has_a_json_flag_beside_its_format() -> None:
    assert not [name for name, command in all_commands().items() for p in command.params if "--json" in p.opts]


def test_a_diverged_run_is_shown_and_counted_and_exits_with_0(
    config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--set", "activation=identity", "--set", "optimizer=sgd", "--set", "lr=1e6", "--set", "name=wild"]
    assert run("train", "-c", config, "--results", results, *wild) == 0
    shown = capsys.readouterr()
    assert "2 (2 diverged)" in shown.out
    assert "diverged" in shown.err
    for row in rows_of(results):
        assert (row["status"], row["test_accuracy"]) == ("diverged", None)
        folder = results / str(row["run_id"])
        assert json.loads((folder / "result.json").read_text())["metrics"]["test_accuracy"] is None


def test_a_run_that_fails_is_reported_at_once_stored_and_retried_by_the_next_start(
    config: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = measure.Measurer.measure

    def hurting(self: measure.Measurer, *given: Any) -> None:
        measured(self, *given)
        if self.stack.runs[0].seed == 1 and self.epoch == 1:
            raise RuntimeError("no luck\x1b[31m today")

    monkeypatch.setattr(measure.Measurer, "measure", hurting)
    assert run("train", "-c", config, "--results", results) == 1
    shown = capsys.readouterr()
    assert "no luck\\x1b[31m today" in shown.err  # what a terminal might obey is escaped
    assert "tiny" in shown.out
    failed = [row for row in rows_of(results) if row["status"] == "failed"]
    assert [row["seed"] for row in failed] == [1]
    stored = json.loads((results / str(failed[0]["run_id"]) / "result.json").read_text())
    assert "RuntimeError: no luck" in stored["error"]
    monkeypatch.undo()
    assert run("train", "-c", config, "--results", results, "-q") == 0
    assert [row["status"] for row in rows_of(results)] == ["done", "done"]


def test_asking_for_cuda_without_a_gpu_is_an_error_before_anything_starts(
    config: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("train", "-c", config, "--results", results, "--device", "cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (results / "runs.csv").exists() or rows_of(results) == []


def test_unavailable_data_exits_with_2_and_names_the_ways_out(
    config: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--results", results, "--offline", "--data-dir", tmp_path / "none"]
    assert run("train", "-c", config, "--set", "dataset=mnist", *where) == 2
    said = capsys.readouterr().err
    for way in ("mirror", "MNIST/raw", "digits"):
        assert way in said
    assert "Traceback" not in said


def test_a_results_folder_that_is_a_file_is_an_error(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write(tmp_path / "results", "not a folder")
    assert run("train", "-c", config, "--results", there) == 1
    said = capsys.readouterr().err
    assert "is a file, not a folder" in said
    assert "Traceback" not in said


def test_a_reader_that_stops_reading_early_causes_no_traceback(config: Path, results: Path) -> None:
    command = f"{sys.executable} -m actbench list activations | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("relu")
    assert done.stderr == ""


def test_a_terminal_without_unicode_gets_plain_signs(config: Path, results: Path) -> None:
    assert run("train", "-c", config, "--results", results, "-q") == 0
    command = [sys.executable, "-m", "actbench", "compare", str(results)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=True)
    assert done.stdout.isascii()
    assert b"+-" in done.stdout


@pytest.mark.parametrize(
    "name", ["../../escaped", "/etc/passwd", "[red]x[/red]", "=1+1", "a\nb", "x" * 300, "none", "\x1b[31mred", "CON"]
)
def test_a_hostile_name_stays_a_name(
    name: str, config: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text().replace("name: tiny", f"name: {json.dumps(name)}")
    assert run("train", "-c", write(tmp_path / "hostile.yaml", text), "--results", results, "--seeds", "1") == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    (row,) = rows_of(results)
    assert row["name"] == name
    assert (results / str(row["run_id"])).is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "hostile.yaml", "results"}
    assert run("compare", results) == 0
    assert run("show", str(row["run_id"]), "--results", results) == 0
    assert "\x1b" not in capsys.readouterr().out


def started(config: Path, results: Path, *more: str, until: str) -> subprocess.Popen[str]:
    """Start training in another process, and return it once it has printed `until`."""
    command = [sys.executable, "-m", "actbench", "train", "-c", str(config), "--results", str(results), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(until in line for line in process.stderr)
    return process


LONGER = ("--set", "epochs=30", "--seeds", "2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """The weights of the tiny config with `LONGER`, trained in one go."""
    folder = tmp_path_factory.mktemp("whole")
    assert run("train", "-c", write(folder / "tiny.yaml", TINY), "--results", folder / "whole", *LONGER, "-q") == 0
    return weights(folder / "whole")


def weights(results: Path) -> dict[Path, bytes]:
    return {path.relative_to(results): path.read_bytes() for path in results.rglob("model.safetensors")}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_keeps_a_checkpoint_and_the_same_command_continues_to_the_same_bits(
    number: signal.Signals,
    code: int,
    config: Path,
    results: Path,
    uninterrupted: dict[Path, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = started(config, results, *LONGER, until="epoch 3/")
    process.send_signal(number)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "to continue, run the same command again" in rest
    assert run("train", "-c", config, "--results", results, *LONGER) == 0
    assert "continues after epoch" in capsys.readouterr().err
    assert weights(results) == uninterrupted


def test_a_second_signal_ends_the_process_at_once(config: Path, results: Path) -> None:
    # One epoch of this takes far longer than the test waits.
    endless = ("--set", "hidden=[4096, 4096]", "--set", "train_limit=1437", "--set", "epochs=1000")
    process = started(config, results, *endless, until="training on")
    time.sleep(0.5)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    process.communicate(timeout=5)
    assert process.returncode in (130, -signal.SIGINT)


def test_a_killed_run_is_never_lost_and_continues(config: Path, results: Path) -> None:
    process = started(config, results, *LONGER, until="epoch 2/")
    process.kill()
    process.communicate(timeout=20)
    assert run("train", "-c", config, "--results", results, *LONGER, "-q") == 0
    assert [row["status"] for row in rows_of(results)] == ["done"] * 2
    assert all(path.name.endswith(".lock") for path in (results / ".running").iterdir())


# --- sweep, compare and the rest -----------------------------------------------------------------------------


def test_a_sweep_expands_a_grid_trains_it_and_a_dry_run_shows_what_is_done(
    config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["sweep", "-c", config, "-g", "activation=relu,tanh", "-g", "lr=1e-3,1e-2", "--results", results]
    assert run(*grid, "--dry-run") == 0
    assert "4 variants x 2 seeds = 8 runs: 0 done, 8 to train" in capsys.readouterr().err
    assert not results.exists()
    assert run(*grid, "-q") == 0
    assert len(rows_of(results)) == 8
    capsys.readouterr()
    assert run(*grid, "--dry-run") == 0
    assert "8 done, 0 to train" in capsys.readouterr().err


def test_compare_writes_the_same_rows_in_every_format(
    config: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep", "-c", config, "-g", "activation=relu,tanh", "--results", results, "-q") == 0
    capsys.readouterr()
    texts = {}
    for name in ("table", "md", "latex", "csv", "json"):
        assert run("compare", results, "--by", "activation", "--format", name) == 0
        texts[name] = capsys.readouterr().out
        assert "relu" in texts[name]
        assert "tanh" in texts[name]
    assert texts["md"].startswith("| activation |")
    assert "\\begin{tabular}" in texts["latex"]
    (first, second) = parse_table(texts["csv"])
    raw = json.loads(texts["json"])["rows"]
    accuracies = {row["activation"]: row["test_accuracy_mean"] for row in raw}
    assert {row["activation"]: row["test_accuracy_mean"] for row in (first, second)} == accuracies
    for activation, mean in accuracies.items():
        own = [row["test_accuracy"] for row in rows_of(results) if row["activation"] == activation]
        assert mean == pytest.approx(sum(own) / 2)
        assert f"{100 * mean:.2f}" in texts["table"]


def test_validate_reports_every_problem_in_every_file_and_counts_the_good_ones(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(tmp_path / "bad.yaml", "epochs: true\n")
    worse = write(tmp_path / "worse.yaml", "nonsense: 1\n")
    assert run("validate", config, bad, worse) == 2
    shown = capsys.readouterr()
    assert "tiny.yaml: ok (1 variant, 2 runs)" in shown.out
    assert "bad.yaml:1:9" in shown.err
    assert "worse.yaml:1:1" in shown.err


def test_data_info_verify_and_fetch_know_the_embedded_digits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in ("info", "verify", "fetch"):
        assert run("data", command, "digits", "--data-dir", tmp_path) == 0
    assert "1437" in capsys.readouterr().out


def test_doctor_shows_versions_devices_and_folders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("doctor", "--data-dir", tmp_path, "--results", tmp_path / "r") == 0
    out = capsys.readouterr().out
    for word in ("torch:", "cuda:", "cpus:", "data:", "results:"):
        assert word in out


# --- configs and the real MNIST ------------------------------------------------------------------------------

CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "claims")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_says_what_it_is_and_how_to_run_it_and_is_valid(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    relative = path.relative_to(ROOT)
    assert first.startswith("# ")
    assert f"actbench train --config {relative}" in first or f"actbench sweep --config {relative}" in first
    schema = second.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / schema).resolve() == ROOT / "configs" / "schema.json"
    assert run("validate", path) == 0


def test_the_schema_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads((ROOT / "configs" / "schema.json").read_text()) == json.loads(capsys.readouterr().out)


def test_the_quickstart_learns_the_digits(results: Path) -> None:
    assert run("train", "-c", ROOT / "configs" / "quickstart.yaml", "--results", results, "-q") == 0
    rows = rows_of(results)
    assert len(rows) == 5
    assert min(float(row["test_accuracy"]) for row in rows) > 0.95


@pytest.mark.mnist
def test_one_epoch_on_the_real_mnist_reaches_95_percent_without_torchvision(results: Path, mnist_folder: Path) -> None:
    code = PROBE.format(heavy=("torchvision", "sklearn"))
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        "-c",
        str(ROOT / "configs" / "relu.yaml"),
        "--results",
        str(results),
    ]
    command += ["--data-dir", str(mnist_folder), "--set", "epochs=1", "--seeds", "2", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "loaded: []" in done.stderr
    rows = rows_of(results)
    assert len(rows) == 2
    for row in rows:
        assert 0.95 < float(row["test_accuracy"]) < 0.985
        assert float(row["dead_ratio"]) < 0.2
        assert 0.5 < float(row["sparsity"]) < 0.95


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if not entry.noise])
def test_every_activation_trains_on_the_digits_without_a_warning(name: str, config: Path, results: Path) -> None:
    given = ["--set", f"activation={name}", "--set", "epochs=1", "--set", f"name={name}", "--seeds", "1", "-q"]
    assert run("train", "-c", config, "--results", results, *given) == 0
    (row,) = rows_of(results)
    assert row["status"] == "done"
    neurons = parse_table((results / str(row["run_id"]) / "neurons.csv").read_text())
    assert sum(bool(unit["dead"]) for unit in neurons) / len(neurons) == pytest.approx(row["dead_ratio"])


def test_usable_threads_is_at_least_one() -> None:
    assert compute.usable_threads() >= 1


# --- what comes next -----------------------------------------------------------------------------------------


def test_training_ends_by_saying_where_the_results_are_and_what_to_do_with_them(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for results in ("results", "my results"):
        assert run("train", "-c", config, "--results", results) == 0
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"results are in {shlex.quote(results)}; next: ")
        for command in re.findall(r"actbench ((?:compare|report) (?:'[^']*'|\w+))", last):
            assert run(*shlex.split(command)) == 0
        assert (tmp_path / "report.html").exists()
        capsys.readouterr()
    assert run("train", "-c", config, "--results", "results", "-q") == 0
    assert capsys.readouterr().err == ""


def test_list_runs_shows_each_variant_once_with_its_seeds_and_how_they_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    results = tmp_path / "results"
    flat = {"dataset": "mnist", "activation": "relu"}
    for seed, status in enumerate(["done", "done", "diverged", "failed"]):
        changes = {"status": status, "metrics": {"test_accuracy": 0.97 + seed / 100} if status != "failed" else {}}
        provenance = {"ended_at": f"2026-01-0{seed + 1}T10:20:30+00:00"}
        store_run(results, seed, flat={"name": "relu", "lr": 0.001, **flat}, provenance=provenance, **changes)
    store_run(results, 9, flat={"name": "relu", "lr": 0.1, **flat})
    assert run("list", "runs", "--results", results, "--format", "json") == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert first == {
        "variant": "relu lr=0.001",
        "dataset": "mnist",
        "seeds": 4,
        "status": "2 done, 1 diverged, 1 failed",
        "test_accuracy": 0.975,
        "last_trained": "2026-01-04 10:20",
    }
    assert (second["variant"], second["seeds"]) == ("relu lr=0.1", 1)
    assert run("list", "runs", "--results", results) == 0
    out = capsys.readouterr().out
    assert re.search(r"relu lr=0.001 +mnist +4  2 done, 1 diverged, 1 failed +97.50  2026-01-04 10:20", out)
    assert run("list", "runs", "--results", tmp_path / "nowhere") == 1
    assert "there are no results yet" in capsys.readouterr().err


def test_the_beginning_of_several_run_ids_is_answered_with_what_tells_the_runs_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    for number, lr in enumerate((0.001, 0.1)):
        run_id = f"relu-s0-{number:010x}"
        store_run(results, 0, run_id=run_id, flat={"name": "relu", "lr": lr, "epochs": 2, "hidden": "[512]"})
    assert run("show", "relu-s0", "--results", results) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 runs begin with 'relu-s0'; give the whole id of one, or more of it:",
        "  relu-s0-0000000000  lr 0.001",
        "  relu-s0-0000000001  lr 0.1",
    ]
    (results / "relu-s0-0000000001" / "result.json").write_text("{")
    assert run("show", "relu-s0", "--results", results) == 2
    assert "relu-s0-0000000001  damaged" in capsys.readouterr().err
