"""The Python interface: what it trains, what it returns, and that importing actbench costs nothing."""

from __future__ import annotations

import builtins
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import actbench
from actbench import api, config
from actbench.api import Runs, Table
from actbench.config import Variant
from actbench.errors import ConfigError, StoreError, UsageError
from actbench.store import Store
from actbench.store.csv import parse_table
from tests.configs import HOSTILE
from tests.fake_runs import store_run

TINY: dict[str, Any] = {"name": "tiny", "dataset": "digits", "hidden": [8], "epochs": 2, "train_limit": 100}
MODULE_HAS_THE_NAME = any((Path(actbench.__file__).parent / name).exists() for name in ("sweep.py", "sweep"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


# --- importing -----------------------------------------------------------------------------------------------


def test_importing_actbench_imports_none_of_its_parts() -> None:
    code = "import sys, actbench; print([name for name in sys.modules if name.startswith(('actbench.', 'torch'))])"
    assert python(code) == "[]"


def test_the_functions_are_there_and_asking_for_them_never_imports_torch() -> None:
    code = (
        "import sys\nfrom actbench import compare, train\nprint(train.__module__, compare.__name__, 'torch' in "
        "sys.modules, 'pandas' in sys.modules, 'polars' in sys.modules, 'ray' in sys.modules)"
    )
    assert python(code) == "actbench.api compare False False False False"


@pytest.mark.skipif(MODULE_HAS_THE_NAME, reason="a module of actbench still has the name sweep")
@pytest.mark.parametrize("before", ["", "import actbench.api", "import actbench.sweeps", "import actbench.cli"])
def test_sweep_is_the_function_whatever_was_imported_before(before: str) -> None:
    again = "import actbench.cli, actbench\nprint(sweep is getattr(actbench, 'sweep'), sweep)"
    code = f"{before}\nfrom actbench import sweep\n{again}"
    assert python(code).startswith("True <function sweep")


def test_everything_public_is_named_and_what_is_not_there_is_an_attribute_error() -> None:
    assert {"train", "sweep", "compare", "__version__"} <= set(dir(actbench))
    assert set(actbench.__all__) == {"train", "sweep", "compare", "__version__"}
    with pytest.raises(AttributeError, match="module 'actbench' has no attribute 'retrain'"):
        actbench.retrain  # noqa: B018


# --- train and sweep -----------------------------------------------------------------------------------------


def test_train_gives_the_stored_runs_in_the_order_that_was_asked_for(results: Path) -> None:
    runs = api.train([TINY, {**TINY, "activation": "tanh"}], seeds=[3, 1], results=results, quiet=True)
    assert isinstance(runs, Runs)
    assert [(run.config["activation"], run.seed) for run in runs] == [
        ("relu", 3),
        ("relu", 1),
        ("tanh", 3),
        ("tanh", 1),
    ]
    assert all(run.status == "done" and run.folder.parent == results for run in runs)
    assert runs.failed == {}
    assert len(runs[1:]) == 3
    assert runs[-1].seed == 1


def test_training_again_trains_nothing_and_gives_the_same(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = api.train(TINY, seeds=2, results=results, quiet=True)
    monkeypatch.setattr("actbench.engine.train_lanes", None)
    assert api.train(TINY, seeds=2, results=results, quiet=True).rows == first.rows


def test_files_mappings_configs_and_variants_are_the_same_to_train(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\ndataset: digits\nhidden: [8]\nepochs: 2\ntrain_limit: 100\nseeds: 1\n")
    loaded = config.load(path)
    sources = [path, str(path), {**TINY, "seeds": 1}, loaded]
    found = [api.train(source, results=results, quiet=True).rows for source in sources]
    found.append(api.train(Variant(**TINY), seeds=1, results=results, quiet=True).rows)
    assert all(rows == found[0] for rows in found)
    assert len(list(results.glob("*-s0-*"))) == 1


def test_set_replaces_keys_and_parts_of_keys_and_leaves_the_mapping_as_it_was(results: Path) -> None:
    mine = {**TINY, "optimizer": {"name": "sgd", "momentum": 0.5}}
    changes = {"optimizer.momentum": 0.9, "epochs": 1, "lr": 0.1}
    (run,) = api.train(mine, seeds=1, set=changes, device="cpu", results=results, quiet=True)
    assert run.config["optimizer"] == "sgd(momentum=0.9)"
    assert (run.config["epochs"], run.config["lr"], run.config["device"]) == (1, 0.1, "cpu")
    assert mine["optimizer"] == {"name": "sgd", "momentum": 0.5}


def test_sweep_makes_every_combination_and_the_rows_of_zip(results: Path) -> None:
    grid, zipped = {"activation": ["relu", "tanh"]}, {"lr": [1e-3, 1e-2], "optimizer.beta1": [0.9, 0.8]}
    runs = api.sweep(TINY, grid=grid, zip=zipped, seeds=1, set={"epochs": 1}, results=results, quiet=True)
    found = [(row["activation"], row["lr"], row["optimizer"]) for row in runs.rows]
    assert found == [
        ("relu", 0.001, "adam"),
        ("relu", 0.01, "adam(beta1=0.8)"),
        ("tanh", 0.001, "adam"),
        ("tanh", 0.01, "adam(beta1=0.8)"),
    ]


def test_a_sweep_file_is_a_sweep_and_no_training(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "dataset: digits\nhidden: [8]\nepochs: 1\ntrain_limit: 100\nseeds: 1\nsweep:\n  grid:\n    lr: [0.1, 0.2]\n"
    )
    assert len(api.sweep(path, results=results, quiet=True)) == 2
    with pytest.raises(ConfigError, match=r"sweep.yaml:6:1: this file is a sweep; run it with: actbench sweep -c"):
        api.train(path, results=results)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"configs": {**TINY, "activation": "swsh"}}, "config: activation: unknown activation 'swsh'; did you mean"),
        ({"configs": {**TINY, 5: 1}}, "unknown key '5'"),
        ({"configs": TINY, "set": {"lr": "fast"}}, "set lr: lr: must be a number > 0"),
        ({"configs": TINY, "set": {"lr.x": 1}}, "set lr.x: lr: has no parts"),
        ({"configs": TINY, "seeds": 0}, "seeds: seeds: must be"),
        ({"configs": TINY, "seeds": [1, 1]}, "seeds: seeds"),
        ({"configs": TINY, "device": "tpu"}, "device: device: must be"),
        ({"configs": "nowhere.yaml"}, "nowhere.yaml: no such file"),
    ],
)
def test_what_is_wrong_with_a_config_is_told_before_anything_is_trained(
    arguments: dict[str, Any], told: str, results: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        api.train(**arguments, results=results)
    assert told in str(caught.value)
    assert not results.exists()


def test_a_wrong_column_of_a_sweep_is_named(results: Path) -> None:
    for grid, told in (
        ({"lr": [1e-3, -1]}, "grid lr: lr: must be"),
        ({"seed": [1]}, "grid seed: sweep.grid.seed: unknown key"),
        ({"lr": "abc"}, "grid lr: sweep.grid.lr: must be a list"),
    ):
        with pytest.raises(ConfigError) as caught:
            api.sweep(TINY, grid=grid, results=results)
        assert told in str(caught.value)


@pytest.mark.parametrize("wrong", [5, None, [5], [["nested"]]])
def test_what_is_no_config_is_refused(wrong: Any, results: Path) -> None:
    with pytest.raises(UsageError, match="a config is a path, a mapping of its keys"):
        api.train(wrong, results=results)


def test_progress_goes_to_stderr_unless_quiet(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.train(TINY, seeds=1, results=results)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tiny s0  epoch 2/2  loss" in err
    api.train(TINY, seeds=2, results=results, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_fails_is_warned_of_and_kept_apart(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actbench.engine.measure import Measurer

    monkeypatch.setattr(Measurer, "measure", lambda *_: 1 / 0)
    with pytest.warns(
        RuntimeWarning, match="2 of 2 runs failed; the first, relu-dataset-digits-.*-s0-.*: ZeroDivisionError"
    ):
        runs = api.train(TINY, seeds=2, results=results, quiet=True)
    assert list(runs) == []
    assert [text.split(":")[0] for text in runs.failed.values()] == ["ZeroDivisionError"] * 2
    assert repr(runs) == "0 runs, 2 failed"


def test_ctrl_c_ends_training_after_the_epoch_and_the_same_call_goes_on(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def interrupting(text: str) -> None:
        told.append(text)
        if "epoch 1/" in text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(api, "_to_stderr", interrupting)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        api.train(TINY, seeds=1, threads=1, results=results)
    assert signal.getsignal(signal.SIGINT) is before
    assert not any("epoch 2/" in text for text in told)
    assert len(api.train(TINY, seeds=1, threads=1, results=results)) == 1
    assert any("continues after epoch 1" in text for text in told)


def test_training_works_in_a_thread_that_may_not_handle_signals(results: Path) -> None:
    found: list[Runs] = []
    thread = threading.Thread(target=lambda: found.append(api.train(TINY, seeds=1, results=results, quiet=True)))
    thread.start()
    thread.join()
    assert len(found[0]) == 1


# --- compare -------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(results: Path) -> Path:
    """Three seeds of two made-up variants."""
    for name in ("relu", "tanh"):
        for seed in range(3):
            flat = {"name": name, "dataset": "mnist", "activation": name, "lr": 0.001, "batch_norm": False}
            metrics = {"test_accuracy": 0.9 + (name == "relu") / 50 + seed / 100, "dead_ratio": 0.25}
            store_run(results, seed, name, flat=flat, metrics=metrics)
    return results


def test_results_paths_and_runs_compare_to_the_same(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_path = api.compare(stored, by="activation")
    runs = Store(stored).load_all()[0]
    monkeypatch.setenv("ACTBENCH_RESULTS", str(stored))
    for other in (str(stored), runs, Runs(runs), [Runs(runs[:3]), *runs], [run.folder for run in runs], None):
        assert api.compare(other, by=["activation"]).rows == by_path.rows
    assert [row.label for row in by_path] == ["relu", "tanh"]
    assert by_path[0].is_baseline
    assert by_path.baseline == "relu"
    assert len(by_path) == len(by_path[:]) == 2


def test_the_rows_hold_every_number_and_the_same_as_the_command_prints(stored: Path) -> None:
    found = api.compare(stored, by="activation", metric="test_accuracy,dead_ratio", baseline="tanh")
    assert found.rows[0]["test_accuracy_mean"] == pytest.approx(0.93)
    assert found.rows[0]["test_accuracy_difference"] == pytest.approx(0.02)
    assert found.rows[0]["dead_ratio_mean"] == 0.25
    read_back = parse_table(found.format("csv") + "\n")
    assert [row["test_accuracy_mean"] for row in read_back] == [row["test_accuracy_mean"] for row in found.rows]
    assert "| relu |" in found.format("md")


def test_curves_are_read_where_a_metric_needs_them(results: Path) -> None:
    runs = api.train(TINY, seeds=2, results=results, quiet=True)
    found = api.compare(runs, metric="auc:test_accuracy")
    assert 0 < found.rows[0]["auc:test_accuracy_mean"] < 1
    assert api.compare(runs, epoch=0).rows[0]["test_accuracy_mean"] < 0.5


def test_damaged_folders_are_warned_of(stored: Path) -> None:
    next(stored.glob("relu-s0-*/result.json")).write_text("{")
    with pytest.warns(RuntimeWarning, match="skipped .*relu-s0-.*is truncated"):
        found = api.compare(stored, by="activation")
    assert [row.n for row in found] == [2, 3]


def test_what_cannot_be_compared_is_refused(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(UsageError, match="compare takes runs, paths or lists of them, not int"):
        api.compare([5])
    with pytest.raises(UsageError, match="there is no such file or folder"):
        api.compare(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there are no runs to compare"):
        api.compare([])
    with pytest.raises(UsageError, match="unknown metric"):
        api.compare(stored, metric="acuracy")


# --- tables --------------------------------------------------------------------------------------------------


def test_runs_epochs_neurons_and_comparisons_convert_to_pandas_and_polars(results: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    runs = api.sweep(TINY, grid={"batch_norm": [False, "after"]}, seeds=2, results=results, quiet=True)
    for frame in (runs, runs.epochs(), runs.layers(), runs.neurons(), api.compare(runs)):
        as_pandas, as_polars = frame.to_pandas(), frame.to_polars()
        assert isinstance(as_pandas, pandas.DataFrame)
        assert isinstance(as_polars, polars.DataFrame)
        assert list(as_pandas.columns) == as_polars.columns == frame.columns
        assert len(as_pandas) == len(as_polars) == len(frame.rows)
    assert runs.to_polars()["batch_norm"].to_list() == ["false", "false", "after", "after"]
    assert runs.to_polars()["seed"].to_list() == [0, 1, 0, 1]
    assert runs.to_pandas()["test_accuracy"].tolist() == [run.metrics["test_accuracy"] for run in runs]
    assert set(runs.epochs().to_pandas()["epoch"]) == {0, 1, 2}
    assert len(runs.neurons()) == 4 * 8
    assert len(runs.layers()) == 4 * 3 * 2  # runs, epochs from 0, a hidden and an output layer


def test_columns_have_one_type_whatever_the_rows_mix() -> None:
    polars = pytest.importorskip("polars")
    rows = [{"a": 1, "b": True, "c": None}, {"a": 0.5, "b": "x", "c": None}, {"a": None, "d": 2**63 - 1}]
    frame = Table(rows).to_polars()
    assert frame["a"].to_list() == [1.0, 0.5, None]
    assert frame["b"].to_list() == ["true", "x", None]
    assert frame["d"].to_list() == [None, None, 2**63 - 1]
    assert frame.schema["d"] == polars.Int64
    assert Table([]).to_polars().shape == (0, 0)


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_missing_library_is_named_with_the_way_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(wanted: str, *rest: Any, **named: Any) -> Any:
        if wanted.split(".")[0] == name:
            raise ImportError(wanted)
        return real(wanted, *rest, **named)

    for loaded in [one for one in sys.modules if one.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=f"to_{name} needs {name}; install it with: pip install {name}"):
        getattr(Table([{"a": 1}]), f"to_{name}")()


def test_rows_are_copies_that_may_be_changed(stored: Path) -> None:
    runs, table = Runs(Store(stored).load_all()[0]), Table([{"a": 1}])
    found = api.compare(runs)
    for frame in (runs, table, found):
        before = frame.rows
        frame.rows[0].clear()
        assert frame.rows == before


def test_runs_add_up_each_once(stored: Path) -> None:
    runs = Runs(Store(stored).load_all()[0])
    both = Runs(runs[:4], {"a": "no"}) + Runs(runs[2:], {"b": "no"})
    assert both.rows == runs.rows
    assert both.failed == {"a": "no", "b": "no"}


def test_a_result_reads_well_in_a_terminal(stored: Path) -> None:
    runs = Runs(Store(stored).load_all()[0], {"x": "no"})
    text = repr(runs)
    assert text.startswith("6 runs, 1 failed\nvariant")
    assert "test accuracy %" in text
    assert "93.00" in text
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.split("\n")[:6])
    assert repr(api.compare(runs)).startswith("variant")
    assert repr(Table([{"epoch": 1, "loss": 0.123456789}])).split("\n")[-1].split() == ["1", "0.123457"]
    assert "... 70 more rows" in repr(Table([{"n": n} for n in range(100)]))
    assert repr(Runs([])) == "0 runs"


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_name_holds_is_text_in_a_notebook_and_harmless_in_a_terminal(name: str, tmp_path: Path) -> None:
    store_run(tmp_path / "results", flat={"name": name, "dataset": "mnist", "activation": name})
    runs = Runs(Store(tmp_path / "results").load_all()[0])
    page = runs._repr_html_() + api.compare(runs)._repr_html_() + runs.epochs()._repr_html_()
    assert "<script" not in page
    text = repr(runs) + repr(api.compare(runs)) + repr(runs.epochs())
    assert all(sign.isprintable() or sign == "\n" for sign in text + page)


def test_damaged_files_of_a_run_are_an_error_when_they_are_read(stored: Path) -> None:
    runs = Runs(Store(stored).load_all()[0])
    (runs[0].folder / "epochs.csv").write_text("epoch\n")
    with pytest.raises(StoreError, match=r"epochs.csv is damaged"):
        runs.epochs()


# --- the README ----------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
EXAMPLES = [
    block
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if "from actbench import" in block
]


@pytest.mark.skipif(MODULE_HAS_THE_NAME, reason="a module of actbench still has the name sweep")
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_in_the_readme_runs(example: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.setenv("ACTBENCH_RESULTS", str(results))
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})


@pytest.mark.parametrize("value", [0, -1, 10**6, 10**22, 1.5, True, "2"])
@pytest.mark.parametrize("option", ["threads", "lanes"])
def test_an_absurd_number_of_threads_or_lanes_is_refused(option: str, value: Any, results: Path) -> None:
    with pytest.raises(UsageError, match=f"{option} must be an integer >= 1 and <= 100000, got "):
        api.train(TINY, seeds=1, results=results, **{option: value})
    assert not results.exists()


@pytest.mark.parametrize("value", [-1, 10**22, 1.5, True, "2"])
@pytest.mark.parametrize("option", ["epoch", "top"])
def test_an_absurd_epoch_or_number_of_rows_is_refused(option: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("name,seed,test_accuracy\na,0,0.5\na,1,0.5\n")
    with pytest.raises(UsageError, match=f"{option} must be an integer >= [01] and <= 100000, got "):
        api.compare(tmp_path / "runs.csv", **{option: value})
