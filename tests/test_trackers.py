"""Trackers: what they log, read back with their own readers, and that nothing they do can hurt a run."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actbench import api, cli, trackers
from actbench.config import Run, Variant
from actbench.errors import UnknownNameError, UsageError
from actbench.events import record_of
from actbench.store import RunRecord, Store
from actbench.trackers import Tracker, TrackerKind, Tracking, numbers, settings
from actbench.trackers.tensorboard import firing_rates
from tests.configs import HOSTILE

TINY: dict[str, Any] = {"name": "tiny", "dataset": "digits", "hidden": [8, 6], "epochs": 2, "train_limit": 100}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # those of others
needs_tensorboard = pytest.mark.skipif(not trackers.is_there("tensorboard"), reason="needs actbench[tensorboard]")
needs_mlflow = pytest.mark.skipif(not trackers.is_there("mlflow"), reason="needs actbench[mlflow]")


class Fake(Tracker):
    """A tracker that keeps what it is told, and fails where it is asked to."""

    def __init__(self, fails_at: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self.fails_at = fails_at
        self.threads: set[int] = set()

    def _tell(self, *what: Any) -> None:
        self.threads.add(threading.get_ident())
        self.told.append(what)
        if what[0] == self.fails_at:
            raise OSError(f"no {what[0]}\nsecond line")

    def on_start(self, run: Run, epochs_done: int) -> None:
        self._tell("start", run.seed, epochs_done)

    def on_epoch(self, run: Run, row: Any) -> None:
        self._tell("epoch", run.seed, row["epoch"])

    def on_end(self, run: Run, record: RunRecord) -> None:
        assert record.weights is None
        self._tell("end", run.seed, record.status, record.run_id)

    def close(self) -> None:
        self._tell("close")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    """Two fake kinds of trackers, `one` and `two`."""
    made = {"one": Fake(), "two": Fake()}
    kinds = [TrackerKind(name, "json", "DIR", lambda target, results, fake=fake: fake) for name, fake in made.items()]  # type: ignore[misc]
    monkeypatch.setattr(trackers, "TRACKERS", trackers.Registry("tracker", kinds))
    return made


def runs_of(name: str = "tiny", seeds: int = 1) -> list[Run]:
    return [Run(Variant(**{**TINY, "name": name}), seed) for seed in range(seeds)]


def hostile_runs() -> list[Run]:
    return [replace(runs_of(name)[0], seed=seed) for seed, name in enumerate(HOSTILE, 1)]


# --- what holds for all --------------------------------------------------------------------------------------


def test_a_tracker_is_told_everything_in_order_by_one_thread_of_its_own(fakes: dict[str, Fake], tmp_path: Path) -> None:
    (run,) = api.train(TINY, seeds=1, results=tmp_path / "results", track=["one", "two"], quiet=True)
    for fake in fakes.values():
        epochs = [("epoch", 0, epoch) for epoch in range(3)]
        assert fake.told == [("start", 0, 0), *epochs, ("end", 0, "done", run.run_id), ("close",)]
        assert len(fake.threads) == 1
        assert threading.get_ident() not in fake.threads


@pytest.mark.parametrize("place", ["start", "epoch", "end", "close"])
def test_a_tracker_that_fails_is_told_of_once_and_the_runs_and_other_trackers_go_on(
    fakes: dict[str, Fake], place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes["one"].fails_at = place
    runs = api.train(TINY, seeds=3, results=tmp_path / "results", track=["one", "two"], quiet=True)
    assert [run.status for run in runs] == ["done"] * 3
    assert capsys.readouterr().err == f"--track one stopped: OSError: no {place}. The runs continue without it\n"
    assert [what[0] for what in fakes["one"].told].count(place) == 1
    assert fakes["one"].told[-1][0] == place
    assert fakes["two"].told[-1] == ("close",)


def test_a_tracker_that_cannot_be_opened_is_told_of_and_the_run_succeeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(target: str | None, results: Path) -> Any:
        raise PermissionError(f"cannot write {target}")

    monkeypatch.setattr(trackers, "TRACKERS", trackers.Registry("tracker", [TrackerKind("one", "json", "DIR", refuse)]))
    (run,) = api.train(TINY, seeds=1, results=tmp_path / "results", track="one=/nowhere", quiet=True)
    assert run.status == "done"
    assert "--track one stopped: PermissionError: cannot write /nowhere" in capsys.readouterr().err


def test_a_tracker_that_never_answers_is_left_behind(
    fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    never = threading.Event()
    monkeypatch.setattr(fakes["one"], "on_epoch", lambda *_: never.wait())
    notes: list[str] = []
    (run,) = runs_of()
    with Tracking(["one"], tmp_path, notes.append, patience_s=0.01) as tracking:
        tracking.on_start(run, 0)
        tracking.on_epoch(run, {"epoch": 0})
    never.set()
    assert len(notes) == 1
    assert notes[0].startswith("--track one did not answer for 0.01 s: the events still to be logged are lost")


def test_a_slow_tracker_is_waited_for_as_long_as_it_gets_on(
    fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gates = [threading.Event() for _ in range(4)]
    passed: list[int] = []

    def slow(run: Run, row: Any) -> None:
        gates[row["epoch"]].wait()
        passed.append(row["epoch"])

    monkeypatch.setattr(fakes["one"], "on_epoch", slow)
    notes: list[str] = []
    (run,) = runs_of()
    opener = threading.Timer(0.05, lambda: [gate.set() for gate in gates])
    with Tracking(["one"], tmp_path, notes.append, patience_s=30) as tracking:
        for epoch in range(4):
            tracking.on_epoch(run, {"epoch": epoch})
        assert passed == []  # nobody waits for it before the end
        opener.start()
    assert passed == [0, 1, 2, 3]
    assert notes == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("", "unknown tracker ''"),
        ("mlflow=", "--track mlflow=: give the URI after the =, or leave out the ="),
    ],
)
def test_what_is_no_tracker_is_refused(wanted: str, told: str, tmp_path: Path) -> None:
    with pytest.raises((UnknownNameError, UsageError)) as caught:
        Tracking([wanted], tmp_path, print)
    assert told in str(caught.value)


def test_a_missing_package_is_a_usage_error_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\nhidden: [8]\nepochs: 1\nseeds: 1\n")
    monkeypatch.setattr(trackers, "is_there", lambda package: False)
    for name in ("tensorboard", "mlflow"):
        arguments = ["train", "-c", str(config), "--results", str(tmp_path / "results"), "--track", name]
        assert cli.run(arguments) == 2
        told = f"error: --track {name} needs the package {name}; install it with: pip install 'actbench[{name}]'\n"
        assert capsys.readouterr().err == told
    assert not (tmp_path / "results").exists()


def test_training_without_trackers_imports_none_of_them() -> None:
    code = (
        "import sys, tempfile\nfrom actbench import api\nfolder = tempfile.mkdtemp()\n"
        "api.train({'dataset': 'digits', 'hidden': [4], 'epochs': 1, 'train_limit': 64}, seeds=1, results=folder)\n"
        "print([name for name in ('tensorboard', 'mlflow', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_are_numbers_where_the_key_only_takes_numbers() -> None:
    found = settings(Run(Variant(lr=0.1, batch_norm="after", probe=500, hidden=[8, 4], tags=["a"]), 3))  # type: ignore[arg-type]
    assert (found["lr"], found["epochs"], found["seed"]) == (0.1, 10, 3)
    assert (found["batch_norm"], found["probe"], found["hidden"]) == ("after", "500", "8x4")
    assert (found["train_limit"], found["augment"]) == ("none", "none")
    plain = settings(Run(Variant(), 0))
    assert {key: type(value) for key, value in plain.items()} == {key: type(value) for key, value in found.items()} | {
        "lr": float
    }


def test_numbers_leave_out_the_epoch_and_what_is_missing() -> None:
    assert numbers({"epoch": 3, "train_loss": 0.5, "deaths": 2, "test_loss": None}) == {"train_loss": 0.5, "deaths": 2}


def test_firing_rates_are_those_of_units_that_have_one() -> None:
    rows: list[Any] = [
        {"layer": 0, "firing_rate": 0.5},
        {"layer": 1, "firing_rate": 0},
        {"layer": 1, "firing_rate": None},
    ]
    assert firing_rates(rows) == {0: [0.5], 1: [0.0]}


# --- tensorboard ---------------------------------------------------------------------------------------------


def accumulated(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def scalars(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


@needs_tensorboard
def test_tensorboard_reads_back_every_number_of_every_epoch(tmp_path: Path) -> None:
    runs = api.train(TINY, seeds=2, results=tmp_path / "results", track="tensorboard", quiet=True)
    for run in runs:
        events = accumulated(tmp_path / "results" / "tensorboard" / run.run_id)
        for name in ("train_loss", "test_accuracy", "dead_ratio", "sparsity", "deaths"):
            expected = [(int(row["epoch"]), float(row[name])) for row in run.epochs()]  # type: ignore[arg-type]
            assert scalars(events, name) == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


@needs_tensorboard
def test_tensorboard_shows_the_neurons_as_histograms_and_the_settings_as_hparams(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    (run,) = api.train(TINY, seeds=1, results=tmp_path / "results", track=f"tensorboard={tmp_path / 'tb'}", quiet=True)
    events = accumulated(tmp_path / "tb" / run.run_id)
    for layer, units in ((1, 8), (2, 6)):
        (event,) = events.Histograms(f"firing_rate/hidden_layer_{layer}")
        rates: list[Any] = [row["firing_rate"] for row in run.neurons() if row["layer"] == layer - 1]
        assert (event.step, event.histogram_value.num) == (2, units)
        assert (event.histogram_value.min, event.histogram_value.max) == (min(rates), max(rates))
        bins = [min(int(rate * 20), 19) for rate in rates]
        assert event.histogram_value.bucket == [bins.count(k) for k in range(20)]
    content = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    }
    start = content[metadata.SESSION_START_INFO_TAG].session_start_info
    assert start.hparams["lr"].number_value == 0.001
    assert start.hparams["activation"].string_value == "relu"
    assert start.group_name == run.run_id
    assert content[metadata.SESSION_END_INFO_TAG].session_end_info.status == 1  # STATUS_SUCCESS


@needs_tensorboard
def test_a_run_that_goes_on_and_one_that_starts_over_leave_one_curve_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = runs_of()
    starts = itertools.count(1_800_000_000)  # the second stands in a file's name and decides which one is read first

    def tell(epochs_done: int, values: dict[int, float]) -> None:
        now = next(starts)
        monkeypatch.setattr("time.time", lambda: now)
        with Tracking(["tensorboard"], tmp_path, pytest.fail) as tracking:
            tracking.on_start(run, epochs_done)
            for epoch, value in values.items():
                tracking.on_epoch(run, {"epoch": epoch, "train_loss": value})

    folder = tmp_path / "tensorboard" / run.run_id
    tell(0, {0: 9.0, 1: 8.0, 2: 7.0})
    tell(1, {2: 6.0, 3: 5.0})  # interrupted; its checkpoint was that of epoch 1
    assert scalars(accumulated(folder), "train_loss") == [(0, 9.0), (1, 8.0), (2, 6.0), (3, 5.0)]
    tell(0, {0: 4.0})  # trained anew
    assert scalars(accumulated(folder), "train_loss") == [(0, 4.0)]


@needs_tensorboard
def test_a_run_that_lost_its_machine_and_began_again_leaves_one_curve(tmp_path: Path) -> None:
    (run,) = runs_of()
    with Tracking(["tensorboard"], tmp_path, pytest.fail) as tracking:
        for epochs_done, values in ((0, {0: 9.0, 1: 8.0, 2: 7.0}), (1, {2: 6.0})):
            tracking.on_start(run, epochs_done)
            for epoch, value in values.items():
                tracking.on_epoch(run, {"epoch": epoch, "train_loss": value})
    events = accumulated(tmp_path / "tensorboard" / run.run_id)
    assert scalars(events, "train_loss") == [(0, 9.0), (1, 8.0), (2, 6.0)]


@needs_tensorboard
def test_diverged_and_failed_runs_are_told_as_what_they_are(tmp_path: Path) -> None:
    (run,) = api.train(
        {**TINY, "lr": 1e6, "optimizer": "sgd", "activation": "identity", "epochs": 9},
        seeds=1,
        results=tmp_path,
        track="tensorboard",
        quiet=True,
    )
    assert run.status == "diverged"
    events = accumulated(tmp_path / "tensorboard" / run.run_id)
    assert len(scalars(events, "train_loss")) >= 1
    assert not any(tag.startswith("firing_rate") for tag in events.Tags()["histograms"])
    with Tracking(["tensorboard"], tmp_path, pytest.fail) as tracking:
        tracking.on_end(
            runs_of()[0], record_of(runs_of()[0], status="failed", error="it could not be claimed")
        )  # never started


@needs_tensorboard
def test_tensorflow_is_never_imported_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom pathlib import Path\n"
        "from actbench.trackers.tensorboard import TensorBoard\nfrom actbench.config import Run, Variant\n"
        "from actbench.events import record_of\n"
        f"board, run = TensorBoard({str(tmp_path / 'tb')!r}, Path()), Run(Variant(), 0)\n"
        "board.on_start(run, 0)\nboard.on_epoch(run, {'epoch': 0, 'train_loss': 1.0})\n"
        "board.on_end(run, record_of(run, status='done'))\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "False", done.stderr


@needs_tensorboard
def test_no_name_leaves_the_folder_or_is_changed_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    folder = tmp_path / "deep" / "results"
    with Tracking(["tensorboard"], folder, pytest.fail) as tracking:
        for run in hostile_runs():
            tracking.on_start(run, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert {path.name for path in folder.iterdir()} == {"tensorboard"}
    for run in hostile_runs():
        events = accumulated(folder / "tensorboard" / run.run_id)
        about = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(about).session_start_info
        assert start.hparams["name"].string_value == run.variant.name


# --- mlflow --------------------------------------------------------------------------------------------------


def client_of(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


@needs_mlflow
def test_mlflow_reads_back_params_metrics_tags_and_artifacts_from_a_sqlite_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    runs = api.train(TINY, seeds=2, results=results, track="mlflow", quiet=True)
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # nothing beside the results
    client = client_of(results / "mlflow")
    experiment = client.get_experiment_by_name("actbench")
    found = {run.data.tags["actbench.run_id"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {run.run_id for run in runs}
    for run in runs:
        logged = found[run.run_id]
        assert logged.info.status == "FINISHED"
        assert logged.info.run_name == f"tiny s{run.seed}"
        assert (logged.data.params["lr"], logged.data.params["seed"]) == ("0.001", str(run.seed))
        assert logged.data.tags["actbench.status"] == "done"
        assert logged.data.tags["actbench.torch_version"] == run.provenance["torch_version"]
        for name in ("test_accuracy", "dead_ratio", "dormant_0.025_ratio"):
            history = client.get_metric_history(logged.info.run_id, name)
            assert sorted((m.step, m.value) for m in history) == [(row["epoch"], row[name]) for row in run.epochs()]
        names = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
        assert names == {path.name for path in run.folder.iterdir()}
        copy = Path(client.download_artifacts(logged.info.run_id, "result.json"))
        assert copy.read_bytes() == (run.folder / "result.json").read_bytes()


@needs_mlflow
def test_mlflow_keeps_names_goes_on_with_interrupted_runs_and_marks_failed_ones(tmp_path: Path) -> None:
    notes: list[str] = []

    def tracking() -> Tracking:
        return Tracking([f"mlflow={tmp_path / 'store'}"], tmp_path, notes.append)

    hostile = hostile_runs()
    (interrupted,) = runs_of("interrupted")
    with tracking() as told:
        for run in hostile:
            told.on_start(run, 0)
            told.on_end(run, record_of(run, status="failed", error="no"))
        for _ in range(2):  # a machine was lost in between
            told.on_start(interrupted, 0)
        told.on_epoch(interrupted, {"epoch": 1, "train_loss": 0.5})
    client = client_of(tmp_path / "store")
    (experiment,) = [one for one in client.search_experiments() if one.name == "actbench"]
    logged = {run.data.tags["actbench.run_id"]: run for run in client.search_runs([experiment.experiment_id])}
    assert {logged[run.run_id].data.params["name"] for run in hostile} == set(HOSTILE)
    assert {logged[run.run_id].info.status for run in hostile} == {"FAILED"}
    assert logged[interrupted.run_id].info.status == "KILLED"
    with tracking() as told:
        told.on_start(interrupted, 1)
        told.on_epoch(interrupted, {"epoch": 2, "train_loss": float("nan")})
        told.on_end(interrupted, record_of(interrupted, status="diverged"))
    again = client.search_runs([experiment.experiment_id])
    assert len(again) == len(logged)
    whole = client.get_run(logged[interrupted.run_id].info.run_id)
    assert (whole.info.status, whole.data.tags["actbench.status"]) == ("FINISHED", "diverged")
    assert [m.step for m in client.get_metric_history(whole.info.run_id, "train_loss")] == [1, 2]
    assert notes == []


@needs_mlflow
def test_a_server_that_is_gone_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    notes: list[str] = []
    with Tracking(["mlflow=http://127.0.0.1:9"], tmp_path, notes.append) as told:
        for run in runs_of(seeds=3):
            told.on_start(run, 0)
    assert len(notes) == 1
    assert notes[0].startswith("--track mlflow stopped: MlflowException: ")


def test_what_trackers_write_is_no_run_of_the_results_folder(tmp_path: Path) -> None:
    results = tmp_path / "results"
    track = [kind for kind in ("tensorboard", "mlflow") if trackers.is_there(kind)]
    api.train(TINY, seeds=1, results=results, track=track, quiet=True)
    runs, problems = Store(results).load_all()
    assert (len(runs), problems) == (1, [])
