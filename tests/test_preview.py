"""What a dry run says of a sweep: lane groups and time, here and on a Ray cluster (whose nodes are made up)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_sweep import Watcher, tiny

from actbench import cli, sweeps
from actbench.config import Run
from actbench.errors import DeviceError, UsageError
from actbench.store import Store
from actbench.sweeps import preview
from actbench.sweeps.plan import task_groups
from actbench.sweeps.ray import Cluster, connected
from actbench.text import duration

RUNS = [Run(tiny(), seed) for seed in range(20)]


def made_up(*nodes: tuple[int, int]) -> Cluster:
    """A cluster whose nodes have so many CPUs and GPUs; one more is dead."""

    class Ray:
        @staticmethod
        def nodes() -> list[dict[str, Any]]:
            dead = {"NodeID": "dead", "NodeManagerAddress": "0", "Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}
            living = [
                {
                    "NodeID": str(k),
                    "NodeManagerAddress": f"10.0.0.{k}",
                    "Alive": True,
                    "Resources": {"CPU": float(c), **({"GPU": float(g)} if g else {})},
                }
                for k, (c, g) in enumerate(nodes)
            ]
            return [dead, *living]

    return Cluster(Ray)


def test_a_dry_run_knows_the_groups_and_estimates_by_a_rough_rate_while_nothing_is_stored(tmp_path: Path) -> None:
    ahead = preview.preview(RUNS, Store(tmp_path / "nowhere"), sweeps.Options(threads=2))
    assert [len(runs) for _, runs in ahead.groups] == [16, 4]
    assert {place.at_once for place, _ in ahead.groups} == {2}
    assert ahead.timed == 0
    assert ahead.seconds is not None
    assert ahead.seconds > 0
    twice = preview.preview(
        [Run(tiny(epochs=2), seed) for seed in range(20)], Store(tmp_path), sweeps.Options(threads=2)
    )
    assert twice.seconds == pytest.approx(2 * ahead.seconds)


def test_stored_runs_of_the_same_shape_are_what_an_estimate_goes_by(tmp_path: Path) -> None:
    store = Store(tmp_path)
    done = RUNS[:3]
    sweeps.run(sweeps.make_plan(done, store), store, sweeps.Options(threads=1), Watcher())
    times = sorted(float(str(row["wall_s"])) for row in store.rows()[0])
    other_epochs = [Run(tiny(epochs=5, activation="tanh", lr=0.1), seed) for seed in range(4)]
    wider = [Run(tiny(hidden=[9]), 0)]
    ahead = preview.preview([*other_epochs, *wider], store, sweeps.Options(threads=1))
    assert (ahead.timed, ahead.runs) == (4, 5)
    alone = preview.preview(other_epochs, store, sweeps.Options(threads=1))
    assert alone.seconds == pytest.approx(4 * 5 * times[1])
    assert ahead.seconds is not None
    assert alone.seconds is not None
    assert ahead.seconds > alone.seconds


def test_a_dry_run_in_json_has_variants_groups_and_the_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\nhidden: [8]\nepochs: 1\nseeds: 2\n")
    command = [
        "sweep",
        "-c",
        str(config),
        "-g",
        "lr=1e-3,1e-2",
        "--dry-run",
        "--format",
        "json",
        "--results",
        str(tmp_path / "r"),
    ]
    assert cli.run(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(row["seeds"], row["done"]) for row in shown["variants"]] == [(2, 0), (2, 0)]
    assert [len(group["runs"]) for group in shown["groups"]] == [4]
    assert shown["estimate"]["runs_timed"] == 0
    assert not (tmp_path / "r").exists()


def test_train_has_a_dry_run_too_and_counts_in_good_english(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\nhidden: [8]\nepochs: 1\ntrain_limit: 100\nseeds: 1\n")
    command = ["train", "-c", str(config), "--results", str(tmp_path / "r")]
    assert cli.run([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().err
    assert "1 variant x 1 seed = 1 run: 0 done, 1 to train" in shown
    assert "1 lane group (1 of 1 run)" in shown
    assert "estimated: 1 run from a rough rate" in shown
    assert cli.run(command) == 0
    assert capsys.readouterr().err.startswith("1 run: 1 to train\n")
    assert cli.run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().err == "1 variant x 1 seed = 1 run: 1 done, 0 to train\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (100, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (1e6, "277.8 h")],
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- on a Ray cluster ----------------------------------------------------------------------------------------


def sizes(cluster: Cluster, runs: list[Run], **options: Any) -> list[tuple[str, int]]:
    return [(str(size), len(group)) for size, group in task_groups(runs, sweeps.Options(**options), cluster.nodes())]


def test_tasks_fit_the_smallest_node_and_there_are_enough_for_all_nodes() -> None:
    assert sizes(made_up((0, 0), (2, 0), (3, 0)), RUNS) == [("2 threads on cpu", 10)] * 2
    assert sizes(made_up((64, 0)), RUNS) == [("4 threads on cpu", 2)] * 10
    assert sizes(made_up((1, 0)), RUNS) == [("1 thread on cpu", 16), ("1 thread on cpu", 4)]
    assert sizes(made_up((4, 0)), RUNS, threads=2, lanes=15) == [("2 threads on cpu", 15), ("2 threads on cpu", 5)]


def test_auto_takes_the_gpus_of_a_cluster_and_each_task_one_of_them() -> None:
    cluster = made_up((8, 0), (8, 4))
    assert sizes(cluster, RUNS) == [("1 thread on cuda", 5)] * 4
    (size, _), *_ = task_groups(RUNS, sweeps.Options(), cluster.nodes())
    assert (size.slots(cluster.nodes()), size.slots(cluster.nodes()[:1])) == (4, 0)
    on_cpu = [Run(tiny(device="cpu"), seed) for seed in range(4)]
    assert sizes(cluster, on_cpu) == [("4 threads on cpu", 1)] * 4


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "message"),
    [
        ([(0, 0)], "auto", None, "device auto: no node of the Ray cluster has a CPU"),
        ([(4, 0)], "cuda", None, "device cuda: no node of the Ray cluster has a GPU"),
        ([(4, 2)], "cuda:1", None, "device cuda:1: Ray chooses the GPU of a task; use cuda"),
        ([(4, 0), (2, 0)], "cpu", 5, "--threads 5: no node of the Ray cluster has more than 4 CPUs"),
    ],
)
def test_a_cluster_without_room_is_an_error(
    nodes: list[tuple[int, int]], device: str, threads: int | None, message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        sizes(made_up(*nodes), [Run(tiny(device=device), 0)], threads=threads)


def test_without_ray_the_error_says_what_to_install_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\nseeds: 1\n")
    assert cli.run(["sweep", "-c", str(config), "--executor", "ray", "--results", str(tmp_path / "r")]) == 2
    assert "pip install 'actbench[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_an_address_that_ray_cannot_stream_from_or_without_the_executor_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(UsageError, match="Ray's client cannot stream results"),
        connected("ray://head:10001"),
    ):
        pass
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: digits\nseeds: 1\n")
    assert cli.run(["train", "-c", str(config), "--executor", "local", "--ray-address", "head:6379"]) == 2
    assert "--ray-address names a Ray cluster, but --executor is local; leave one out" in capsys.readouterr().err
