"""reproduce: what counts as the same, what may differ and why, and that the results stay untouched."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actbench import api, cli
from actbench.errors import StoreError, UsageError
from actbench.events import PlainProgress
from actbench.reproduce import Reproduction, compared, explain, reproduce, run_of, size_of
from actbench.store import RunRecord, Store, StoredRun
from actbench.sweeps import Options

TINY: dict[str, Any] = {"name": "tiny", "dataset": "digits", "hidden": [8], "epochs": 2, "train_limit": 100}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def stored(results: Path) -> StoredRun:
    """One seed of a tiny network, trained."""
    return api.train(TINY, seeds=1, results=results, quiet=True)[0]


def again(run: StoredRun, device: str | None = None, threads: int | None = None, **given: Any) -> Reproduction:
    found = reproduce(run, run_of(run, device), Options(threads=threads), PlainProgress(print, quiet=True), **given)
    assert found is not None
    return found


def changed(run: StoredRun, **changes: Any) -> StoredRun:
    """Store the run once more with some fields replaced, and return what is stored then."""
    names = ("run_id", "seed", "status", "metrics", "layers", "provenance", "timing", "error")
    fields = {name: getattr(run, name) for name in names}
    fields |= {"config_yaml": run.config_yaml(), "flat": run.config, "epochs": run.epochs(), "neurons": run.neurons()}
    fields["layer_rows"] = run.layer_rows() if "layers.csv" in run.files else []
    record = RunRecord(**fields | {"weights": run.weights()} | changes)
    store = Store(run.folder.parent)
    with store.claim(run.run_id, force=True) as claim:
        assert claim is not None
        claim.finish(record)
    return store.load(run.run_id)


def with_epoch(run: StoredRun, number: int, **values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} if row["epoch"] == number else dict(row) for row in run.epochs()]


def snapshot(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" for path in files}


def command(*arguments: object) -> int:
    return cli.run([str(argument) for argument in ("reproduce", *arguments)])


# --- the same ------------------------------------------------------------------------------------------------


def test_a_cpu_run_comes_out_identical_to_the_bit_on_any_number_of_threads(stored: StoredRun) -> None:
    for threads in (1, 3):
        found = again(stored, threads=threads)
        assert found.verdict == "identical"
        assert set(found.parts) == {"weights", "epochs", "neurons", "layers", "final metrics"}
        assert all(found.parts.values())
        assert (found.differences, found.largest_weight, found.not_compared) == ((), 0.0, ())


def test_a_diverged_run_comes_out_identical_too(results: Path) -> None:
    wild = {**TINY, "activation": "identity", "optimizer": "sgd", "lr": 1e6, "epochs": 9}
    (run,) = api.train(wild, seeds=1, results=results, quiet=True)
    assert run.status == "diverged"
    found = again(run)
    assert (found.verdict, found.status, found.largest_weight) == ("identical", ("diverged", "diverged"), None)


def test_nothing_in_the_results_changes_and_the_scratch_folder_is_gone(
    stored: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = snapshot(stored.folder.parent)
    again(stored)
    assert snapshot(stored.folder.parent) == before
    assert list(scratch.iterdir()) == []


def test_the_command_takes_an_id_the_beginning_of_one_or_a_folder(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (stored.run_id, "tiny-s0", stored.folder):
        assert command(name, "--results", results, "-q") == 0
        out, err = capsys.readouterr()
        assert out == f"{stored.run_id}: identical to the bit (weights, epochs, neurons, layers, final metrics)\n"
        assert err == ""


def test_json_says_the_same(stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("tiny", "--results", results, "--format", "json", "-q") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format_version"], said["run_id"], said["verdict"]) == (1, stored.run_id, "identical")
    assert said["parts"]["weights"] is True
    assert said["explanation"] is None


# --- not the same --------------------------------------------------------------------------------------------


def test_other_weights_with_nearly_the_same_metrics_are_within_the_tolerance(stored: StoredRun) -> None:
    weights = {name: array + np.float32(0.25) for name, array in stored.weights().items()}
    accuracy = float(stored.epochs()[1]["test_accuracy"] or 0) + 0.015
    found = again(changed(stored, weights=weights, epochs=with_epoch(stored, 1, test_accuracy=accuracy)))
    assert found.verdict == "within tolerance"
    assert found.parts["weights"] is found.parts["epochs"] is False
    assert found.parts["neurons"] is True
    assert found.largest_weight == pytest.approx(0.25, rel=1e-3)
    (difference,) = found.differences
    assert (difference.metric, difference.where, difference.allowed) == ("test_accuracy", "epoch 1", 0.02)
    assert difference.size == pytest.approx(0.015)


@pytest.mark.parametrize("change", [0.0, 0.1])
def test_a_junit_file_says_whether_a_run_came_out_the_same(
    change: float, stored: StoredRun, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = float(stored.epochs()[1]["test_accuracy"] or 0)
    changed(stored, epochs=with_epoch(stored, 1, test_accuracy=accuracy + change))
    path = tmp_path / "again.xml"
    assert command("tiny", "--results", results, "-q", "--junit", path) == (1 if change else 0)
    (case,) = ElementTree.fromstring(path.read_bytes())
    assert case.attrib["name"] == stored.run_id
    assert [child.attrib["message"] in capsys.readouterr().err for child in case] == ([True] if change else [])


def test_a_metric_beyond_the_tolerance_makes_it_different_and_exit_1(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = float(stored.epochs()[1]["test_accuracy"] or 0)
    provenance = {**stored.provenance, "torch_version": "1.0", "threads": 99}
    changed(stored, epochs=with_epoch(stored, 1, test_accuracy=accuracy + 0.1), provenance=provenance)
    assert command("tiny", "--results", results, "-q") == 1
    out, err = capsys.readouterr()
    assert f"{stored.run_id}: different; identical to the bit: weights, neurons, layers, final metrics" in out
    assert "test_accuracy" in out
    assert "not 0.02" in out
    assert "came out different: torch_version 1.0 -> " in err
    assert "another torch may round differently" in err
    assert "must not change a CPU run" in err
    assert command("tiny", "--results", results, "-q", "--tolerance", "0.2") == 0
    assert "why: torch_version" in capsys.readouterr().out


def test_other_data_is_named_first(stored: StoredRun) -> None:
    other = {**stored.provenance, "data_fingerprint": "00", "torch_version": "1.0"}
    found = again(changed(stored, provenance=other, epochs=with_epoch(stored, 2, train_loss=99.0)))
    assert found.verdict == "different"
    assert [cause.what for cause in found.causes] == ["data_fingerprint", "torch_version"]
    assert explain(found).startswith("data_fingerprint 00 -> ")
    assert "these are not the same images" in explain(found)


def test_where_nothing_that_was_recorded_differs_that_is_said(stored: StoredRun) -> None:
    found = again(changed(stored, epochs=with_epoch(stored, 2, train_loss=99.0)))
    assert found.causes == ()
    assert explain(found).startswith("no recorded difference")


def test_a_number_on_one_side_only_is_a_difference_no_tolerance_allows(stored: StoredRun) -> None:
    found = again(changed(stored, epochs=with_epoch(stored, 2, train_loss=None)), tolerance=1e9)
    assert found.verdict == "different"
    assert [(d.metric, d.stored, d.size) for d in found.differences] == [("train_loss", None, math.inf)]


def test_another_end_is_different_whatever_the_numbers_say(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from actbench.engine.measure import Measurer

    monkeypatch.setattr(Measurer, "measure", lambda *_: 1 / 0)
    assert command("tiny", "--results", results, "-q") == 1
    out, err = capsys.readouterr()
    assert "it ended as done, this time as failed" in out
    assert "it failed this time: ZeroDivisionError: division by zero" in err


def test_a_run_of_before_there_were_rows_a_layer_is_compared_by_its_last_ones(stored: StoredRun) -> None:
    record_of_old = replace(stored, files={k: v for k, v in stored.files.items() if k != "layers.csv"})
    assert compared(record_of_old, stored).parts["layers"]
    assert compared(replace(record_of_old, layers=stored.layers[:1]), stored).parts["layers"]  # no output layer
    other = replace(record_of_old, layers=[{**layer, "dead_ratio": 0.5} for layer in stored.layers])
    assert not compared(other, stored).parts["layers"]


def test_fewer_epochs_are_different(stored: StoredRun) -> None:
    assert again(changed(stored, epochs=stored.epochs()[:2])).verdict == "different"


def test_columns_that_only_one_of_the_two_has_are_named_and_do_not_decide(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = [{**row, "a_metric_of_old": 1.0} for row in stored.epochs()]
    for row in epochs:
        del row["sparsity"]
    changed(stored, epochs=epochs)
    assert command("tiny", "--results", results, "-q") == 0
    assert "not compared, because only one of the two runs has it: a_metric_of_old, sparsity" in capsys.readouterr().out


def test_a_config_that_means_another_run_today_is_a_cause(stored: StoredRun) -> None:
    text = stored.config_yaml().replace("lr: 0.001", "lr: 0.002")
    found = again(changed(stored, config_yaml=text))
    assert found.causes[0].what == "run_id"
    assert found.verdict == "different"


def test_times_are_not_compared(stored: StoredRun) -> None:
    slower = [{**row, "train_s": 99.0, "evaluate_s": 99.0} for row in stored.epochs()]
    assert again(changed(stored, epochs=slower, metrics={**stored.metrics, "wall_s": 1e6})).verdict == "identical"


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "epochs.csv", "neurons.csv", "config.yaml"])
def test_a_damaged_run_is_refused_and_the_damage_named(
    stored: StoredRun, results: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored.folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert command("tiny", "--results", results, "-q") == 1
    assert f"cannot compare with this run: {name} has changed since it was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "epochs.csv", "config.yaml", "result.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_the_command_that_it_names_repairs_a_damaged_run(
    stored: StoredRun, results: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored.folder / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + b"?" * (damage == "changed"))
    assert command("tiny", "--results", results, "-q") == 1
    said = " ".join(capsys.readouterr().err.split())
    if name == "result.json":
        assert said.endswith("to repair it, repeat the command that trained it")
        api.train(TINY, seeds=[0], results=results, quiet=True)
    elif name == "config.yaml":
        assert said.endswith("to train it again: repeat the command that trained it, with --force")
        api.train(TINY, seeds=[0], results=results, quiet=True, force=True)
    else:
        _, named, arguments = said.partition("; to train it again: actbench ")
        assert named
        assert cli.run([*shlex.split(arguments), "--quiet"]) == 0
    assert Store(results).load(stored.run_id).verify() == []
    assert path.read_bytes() == data or name in ("epochs.csv", "result.json")  # which hold times
    assert len(Store(results).rows()[0]) == 1
    assert command("tiny", "--results", results, "-q") == 0


def test_a_damaged_result_is_named_whether_asked_for_by_id_or_folder(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stored.folder / "result.json").write_text("{")
    for name in ("tiny", stored.folder):
        assert command(name, "--results", results) == 1
        assert "result.json is truncated" in capsys.readouterr().err


def test_a_failed_run_has_nothing_to_compare_with(stored: StoredRun) -> None:
    with pytest.raises(UsageError, match="failed, so there is nothing to compare"):
        run_of(replace(stored, status="failed"))


def test_a_config_that_this_actbench_refuses_is_told(stored: StoredRun) -> None:
    with pytest.raises(StoreError, match=r"cannot be trained by this actbench:\n.*unknown activation 'swoosh'"):
        again(changed(stored, config_yaml=stored.config_yaml().replace("activation: relu", "activation: swoosh")))


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_is_a_number(stored: StoredRun, tolerance: float) -> None:
    with pytest.raises(UsageError, match="--tolerance must be a number >= 0"):
        again(stored, tolerance=tolerance)


def test_a_run_that_is_not_there_or_not_the_only_one_is_a_usage_error(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mistyped, meant in {stored.run_id.replace("relu", "rlu"): stored.run_id, "tny-s0": "tiny-s0"}.items():
        assert command(mistyped, "--results", results) == 2
        assert f"holds no run '{mistyped}'; did you mean '{meant}'?" in capsys.readouterr().err
    api.train(TINY, seeds=[1], results=results, quiet=True)
    assert command("tiny", "--results", results) == 2
    said = capsys.readouterr().err
    assert "2 runs begin with 'tiny'; give the whole id of one" in said
    assert f"  {stored.run_id}  seed 0\n" in said


def test_the_device_can_be_another_than_that_of_the_config(stored: StoredRun) -> None:
    assert run_of(stored, "cpu").variant.device == "cpu"
    assert run_of(stored, None).run_id == run_of(stored, "cpu").run_id == stored.run_id
    assert again(stored, device="cpu").verdict == "identical"


def test_ctrl_c_ends_it_with_130_and_without_a_verdict(
    stored: StoredRun, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainProgress, "on_epoch", lambda *_: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(signal, "SIG_DFL", signal.SIG_IGN)  # a second one would end this process
    assert command("tiny", "--results", results, "--threads", 1) == 130
    assert capsys.readouterr().out == ""


# --- sizes ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(["test_accuracy", "test_loss", "deaths"]), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_size_is_the_same_both_ways_and_0_only_for_equal_values(metric: str, a: float, b: float) -> None:
    size = size_of(metric, a, b, units=512)
    assert size == size_of(metric, b, a, units=512) >= 0
    assert (size == 0) == (a == b)


def test_small_numbers_are_compared_as_they_are_large_ones_by_their_share_and_counts_by_all_units() -> None:
    assert size_of("test_accuracy", 0.97, 0.96, 512) == pytest.approx(0.01)
    assert size_of("effective_rank", 200.0, 190.0, 512) == pytest.approx(0.05)
    assert size_of("deaths", 12, 9, 300) == pytest.approx(0.01)
    assert size_of("epochs_run", 10, 9, 300) == pytest.approx(0.1)


def test_a_run_is_identical_with_itself(stored: StoredRun) -> None:
    assert compared(stored, stored).verdict == "identical"
