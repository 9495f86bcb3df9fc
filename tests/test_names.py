"""Names are labels: they never say what a flag made false, and never decide which run it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from actbench import api, claims, cli, config, sweeps
from actbench.claims.evidence import RunCache
from actbench.config import Document, Place, Run, Setting, Variant
from actbench.errors import ConfigError
from actbench.events import Broadcast
from actbench.store import Store
from actbench.store.csv import Row, parse_table

TINY = {"dataset": "digits", "hidden": [8], "epochs": 2, "train_limit": 100}
RELU = "name: relu\nactivation: relu\nlr: 0.001\noptimizer: {name: sgd, momentum: 0.5}\ntags: [old]\n"


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.yaml"
    path.write_text(RELU)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def named(folder: Path, name: str, **keys: Any) -> Path:
    """Return a file with a tiny config of that name."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**TINY, "seeds": 2, **keys, "name": name}))
    return path


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """Return stdout and stderr of a command that succeeds."""
    code = cli.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out, said.err


def stored_names(results: Path) -> list[Any]:
    return [row["name"] for row in parse_table((results / "runs.csv").read_text())]


# --- names and overrides -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "name"),
    [
        (["activation=tanh"], "tanh optimizer=sgd(momentum=0.5)"),
        (["activation.name=tanh"], "tanh optimizer=sgd(momentum=0.5)"),
        (["optimizer.momentum=0.9"], "relu optimizer=sgd(momentum=0.9)"),
        (["dropout=0.5"], "relu optimizer=sgd(momentum=0.5) dropout=0.5"),
        (["activation=tanh", "name=mine"], "mine"),
        (["name=mine", "activation=tanh"], "mine"),
        (["name=relu", "activation=tanh"], "relu"),
        (["device=cpu", "tags=[new]", "seeds=3"], "relu"),
        ([], "relu"),
    ],
    ids=str,
)
def test_a_name_from_a_file_ends_where_a_flag_changes_a_setting(relu: Path, override: list[str], name: str) -> None:
    assert config.load(relu, config.settings(override)).variant.name == name
    (swept,) = config.load_sweep([relu], config.settings(override))
    assert swept.variant.name == name
    keys = dict(text.split("=") for text in override)
    changes = [Setting(tuple(key.split(".")), config.parse_value(value, key), Place(f"set {key}"))
               for key, value in keys.items()]  # fmt: skip
    mapping = Document("config", config.parse(RELU, "x").values)  # as `set=` of the Python interface
    assert config.check(config.changed(mapping, changes)).variant.name == name


def test_flags_that_only_say_how_to_train_keep_the_name(relu: Path) -> None:
    found = config.load(relu, config.settings(seeds="2", device="cpu"))
    assert (found.variant.name, found.seeds) == ("relu", (0, 1))


@pytest.mark.parametrize(
    ("sweep", "override", "grids", "names"),
    [
        ("", [], ["activation=gelu,tanh"], ["gelu", "tanh"]),  # a key of the file
        ("", [], ["lr=0.1,0.2"], ["relu lr=0.1", "relu lr=0.2"]),
        ("", [], ["dropout=0.1,0.2"], ["relu dropout=0.1", "relu dropout=0.2"]),
        ("", [], ["optimizer=[adam, sgd]"], ["relu optimizer=adam", "relu optimizer=sgd"]),
        ("", ["name=x"], ["activation=gelu,tanh"], ["x gelu", "x tanh"]),
        ("", [], ["activation=gelu,tanh", "name=x"], ["x", "x"]),
        ("", ["activation=tanh"], ["dropout=0.1,0.2"], ["tanh dropout=0.1", "tanh dropout=0.2"]),
        ("sweep: {grid: {activation: [gelu, tanh]}}", [], [], ["relu gelu", "relu tanh"]),
        ("sweep: {grid: {activation: [gelu, tanh]}}", ["lr=1"], [], ["gelu", "tanh"]),
        ("sweep: {grid: {activation: [gelu, tanh]}}", ["activation=elu"], [], ["relu gelu", "relu tanh"]),
        ("sweep: {grid: {activation: [gelu, tanh]}}", ["device=cpu"], [], ["relu gelu", "relu tanh"]),
        ("sweep: {grid: {dropout: [0, 0.5]}}", [], ["activation=tanh"], ["tanh dropout=0", "tanh dropout=0.5"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_sweep_names_what_varies_after_a_name_that_is_still_true(
    relu: Path, sweep: str, override: list[str], grids: list[str], names: list[str]
) -> None:
    relu.write_text(RELU + sweep)
    grids = [text.replace("[", "").replace("]", "") for text in grids]
    found = config.load_sweep([relu], config.settings(override), grids)
    assert [one.variant.name for one in found] == names


CHANGES = {"activation": "tanh", "lr": 0.5, "dropout": 0.5, "optimizer.momentum": 0.9, "batch_norm": True}


@hypothesis(derandomize=True, deadline=None)
@given(st.sets(st.sampled_from(sorted(CHANGES)), min_size=1), st.sampled_from(["quickstart", "relu", "tanh", "x y"]))
def test_whatever_changes_the_name_is_that_of_the_same_settings_without_a_name(keys: set[str], name: str) -> None:
    def loaded(values: dict[str, Any]) -> Variant:
        changes = [Setting(tuple(key.split(".")), CHANGES[key], Place(f"--set {key}")) for key in sorted(keys)]
        return config.check(config.changed(Document("config", values), changes)).variant

    given_values = {"optimizer": "sgd", "activation": "relu"}
    assert loaded({**given_values, "name": name}) == loaded(given_values)


def test_the_python_interface_names_runs_as_the_command_line_does(
    relu: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def planned(runs: Any, store: Store, *, force: bool = False) -> sweeps.Plan:
        asked.append([run.variant.name for run in runs])
        return sweeps.Plan([], {})

    monkeypatch.setattr(sweeps, "make_plan", planned)
    for source in (relu, config.load(relu), config.load(relu).variant, dict(config.parse(RELU, "x").values)):
        asked.clear()
        api.train(source, set={"lr": 0.5}, seeds=1, results=results, quiet=True)
        api.train(source, set={"lr": 0.5, "name": "mine"}, seeds=1, results=results, quiet=True)
        api.train(source, seeds=1, device="cpu", results=results, quiet=True)
        api.sweep(source, grid={"activation": ["gelu", "tanh"]}, seeds=1, results=results, quiet=True)
        api.sweep(source, zip={"activation": ["gelu"], "lr": [1]}, seeds=1, results=results, quiet=True)
        assert asked == [
            ["relu lr=0.5 optimizer=sgd(momentum=0.5)"], ["mine"], ["relu"], ["gelu", "tanh"], ["gelu lr=1"],
        ]  # fmt: skip


# --- one run, several names ----------------------------------------------------------------------------------


def test_renaming_a_config_trains_nothing_and_says_how_the_runs_are_stored(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(capsys, "train", "-c", named(tmp_path, "before"), "--results", results, "-q")
    monkeypatch.setattr("actbench.engine.train_lanes", None)  # nothing may train any more
    out, err = command(capsys, "train", "-c", named(tmp_path, "after"), "--results", results)
    assert err.count("'after' is stored as 'before'") == 1
    assert "2 runs: all already done" in err
    assert "after" in out
    assert "before" not in out
    out, err = command(capsys, "train", "-c", tmp_path / "before.yaml", "--results", results)
    assert "stored as" not in err
    out, err = command(capsys, "sweep", "-c", named(tmp_path, "swept"), "--results", results, "--format", "json")
    assert {run["name"] for run in json.loads(out)["runs"]} == {"swept"}
    out, err = command(capsys, "train", "-c", tmp_path / "after.yaml", "--results", results, "--dry-run")
    assert "'after' is stored as 'before'" in err
    assert stored_names(results) == ["before", "before"]
    assert "before" in command(capsys, "compare", results)[0]
    runs = api.train(tmp_path / "after.yaml", results=results, quiet=True)
    assert [run.row["name"] for run in runs] == ["after", "after"]
    assert "name: before" in runs[0].config_yaml()
    assert "before" in str(api.compare(results))


def test_two_names_of_the_same_settings_train_once(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["-c", named(tmp_path, "a"), "-c", named(tmp_path, "b"), "-c", named(tmp_path, "c", lr=0.01)]
    _, err = command(capsys, "train", *files, "--results", results)
    assert "4 runs (2 variants): 4 to train" in err
    assert err.count("'b' is the same as 'a'; each run is trained once") == 1
    assert stored_names(results) == ["a", "a", "c", "c"]


@pytest.mark.parametrize("key", ["name", "device", "tags"])
def test_a_sweep_over_what_does_not_change_a_run_is_refused(tmp_path: Path, key: str) -> None:
    values = {"name": ["a", "b"], "device": ["auto", "cpu"], "tags": [["a"], ["b"]]}[key]
    with pytest.raises(ConfigError, match="already in the sweep"):
        config.load_sweep([named(tmp_path, "twins", sweep={"grid": {key: values}})])


def test_a_run_is_found_by_the_name_that_it_is_stored_under(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, "train", "-c", named(tmp_path, "My Net!", seeds=[1, 10]), "--results", results, "-q")
    for name in ("my-net-s1", "relu-dataset-digits-epochs-2-hidden-8-tr-s1-"):
        assert "-s1-" in command(capsys, "show", name, "--results", results)[0].splitlines()[0]
    assert cli.run(["show", "my-net", "--results", str(results)]) == 2
    assert "2 runs begin with 'my-net'" in capsys.readouterr().err


# --- folders of earlier versions -----------------------------------------------------------------------------


@pytest.fixture
def former(tmp_path: Path, results: Path) -> list[Run]:
    """Two runs named `old`, stored as actbench 0.1 stored them."""
    runs = [Run(Variant(**TINY, name="old"), seed, former=True) for seed in range(2)]
    store = Store(results)
    sweeps.run(sweeps.make_plan(runs, store), store, sweeps.Options(), Broadcast([]))
    assert sorted(path.name for path in results.glob("old-s*")) == sorted(run.former_id for run in runs)
    return runs


def test_former_folders_are_found_compared_shown_and_reproduced(
    tmp_path: Path, results: Path, former: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = command(capsys, "train", "-c", named(tmp_path, "old"), "--results", results)
    assert "2 runs: all already done" in err
    assert "old" in out
    assert [run.run_id for run in api.train(tmp_path / "old.yaml", results=results, quiet=True)] == [
        run.former_id for run in former
    ]
    assert "old" in command(capsys, "compare", results)[0]
    assert former[1].former_id in command(capsys, "show", "old-s1", "--results", results)[0]
    out, _ = command(capsys, "reproduce", "old-s1", "--results", results, "-q")
    assert out.startswith(f"{former[1].former_id}: identical to the bit")


def test_a_former_run_trained_again_keeps_its_folder(
    tmp_path: Path, results: Path, former: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, "train", "-c", named(tmp_path, "old"), "--results", results, "--force", "-q")
    assert sorted(path.name for path in results.glob("*-s*")) == sorted(run.former_id for run in former)
    config_file = results / former[0].former_id / "config.yaml"  # what a retry command names
    _, err = command(capsys, "train", "-c", config_file, "--results", results)
    assert "1 run: all already done" in err


def test_a_former_checkpoint_is_continued(results: Path) -> None:
    run, store = Run(Variant(**TINY, name="old"), 0), Store(results)
    starts, epochs = [], []

    class Watcher(Broadcast):
        def on_start(self, run: Run, epochs_done: int) -> None:
            starts.append((run.run_id, epochs_done))

        def on_epoch(self, run: Run, row: Row) -> None:
            epochs.append(row["epoch"])

    plan = sweeps.make_plan([Run(run.variant, run.seed, former=True)], store)
    sweeps.run(plan, store, sweeps.Options(), Watcher([]), stop=lambda: 1 in epochs)
    assert store.status(run.former_id) == "interrupted"
    report = sweeps.run(sweeps.make_plan([run], store), store, sweeps.Options(), Watcher([]))
    assert report.trained == {run.former_id: "done"}
    assert starts == [(run.former_id, 0), (run.former_id, 1)]


def test_claims_use_former_folders(results: Path) -> None:
    store = Store(results)
    every = claims.load_all(claims.claim_files(claims.folder()), claims.Flags(quick=True))
    claim = next(one for one in every if one.number == 2)
    runs = [Run(run.variant, run.seed, former=True) for run in claim.runs][:2]
    sweeps.run(sweeps.make_plan(runs, store), store, sweeps.Options(), Broadcast([]))
    assert claims.plan([claim], store).rows[0]["done"] == 2
    found = [RunCache(store, lambda _: pytest.fail("no data needed")).run(run) for run in claim.runs]
    assert [run.run_id for run in found if run is not None] == [run.former_id for run in runs]
