"""Sweeps on a real Ray cluster on this machine: a head without CPUs, where the driver is, two nodes with one each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_sweep import Watcher, tiny

import actbench
from actbench import sweeps
from actbench.config import Run
from actbench.errors import UsageError
from actbench.store import Store
from actbench.sweeps.ray import connected

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="needs the extra actbench[ray]")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves pipes and log files of the processes that it has started to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

RUNS = [Run(tiny(epochs=40, hidden=[64], train_limit=None), seed) for seed in range(8)]


def descendants() -> dict[int, str]:
    """The processes that come from this one, with their command lines."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
        if fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    found, wave = {}, {os.getpid()}
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave}
        found.update((pid, commands[pid]) for pid in wave)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster that notices the death of a node soon; nothing of it is left afterwards."""
    from ray.cluster_utils import Cluster

    before = set(descendants())
    soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": soon})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()
    assert set(descendants()) - before == set()


def on_ray(cluster: Any, **options: Any) -> sweeps.Options:
    port = cluster.address.rpartition(":")[2]
    return sweeps.Options(executor="ray", ray_address=f"127.0.0.1:{port}", **options)


class Acting(Watcher):
    """A watcher that does something when a run begins or has trained an epoch."""

    def __init__(self, act: Callable[[str, Run], None]) -> None:
        super().__init__()
        self._act = act

    def on_start(self, run: Run, epochs_done: int) -> None:
        super().on_start(run, epochs_done)
        self._act("start", run)

    def on_epoch(self, run: Run, row: object) -> None:
        self._act("epoch", run)


def contents(root: Path, runs: Sequence[Run]) -> dict[str, bytes]:
    """What training has made of the runs, apart from times."""
    files = {}
    for run in runs:
        for name in ("model.safetensors", "neurons.csv", "config.yaml"):
            files[f"{run.run_id}/{name}"] = (root / run.run_id / name).read_bytes()
    return files


def test_a_node_killed_in_the_middle_loses_nothing_and_all_is_as_trained_here_to_the_bit(
    cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at_work: set[int] = set()

    def kill_a_node(what: str, run: Run) -> None:
        if what == "epoch" and len(at_work) < 2:
            at_work.add(run.seed // 2)
            if len(at_work) == 2:  # two groups, so both nodes
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    there, watcher = Store(tmp_path / "there"), Acting(kill_a_node)
    report = sweeps.run(sweeps.make_plan(RUNS, there), there, on_ray(cluster, lanes=2), watcher)
    assert len(cluster.worker_nodes) == 1
    assert report.trained == {run.run_id: "done" for run in RUNS}
    assert sorted(run_id for run_id, _, _ in watcher.ended) == sorted(run.run_id for run in RUNS)
    assert any("lost in training" in note for note in watcher.notes)
    assert capfd.readouterr().out == ""  # stdout belongs to results

    here = Store(tmp_path / "here")
    sweeps.run(sweeps.make_plan(RUNS, here), here, sweeps.Options(), Watcher())
    assert contents(there.root, RUNS) == contents(here.root, RUNS)
    assert [run.verify() for run in there.load_all()[0]] == [[] for _ in RUNS]
    cluster.add_node(num_cpus=1)


def test_a_run_that_kills_its_worker_each_time_fails_alone(cluster: Any, tmp_path: Path) -> None:
    kills: list[int] = []

    def kill_the_worker(what: str, run: Run) -> None:
        if what == "start" and run.seed == 1:
            kills.extend(pid for pid, command in descendants().items() if command.startswith("ray::train_stream"))
            os.kill(kills[-1], signal.SIGKILL)

    store, watcher = Store(tmp_path / "results"), Acting(kill_the_worker)
    plan = sweeps.make_plan(RUNS[:2], store)
    # One node: with two, the other run would train beside this one, and nothing tells their processes apart.
    cluster.remove_node(next(iter(cluster.worker_nodes)))
    report = sweeps.run(plan, store, on_ray(cluster, lanes=2), watcher)
    cluster.add_node(num_cpus=1)
    assert report.trained == {RUNS[0].run_id: "done"}
    assert list(report.failed) == [RUNS[1].run_id]
    assert "lost 4 times in training" in report.failed[RUNS[1].run_id]
    assert "lost 4 times" in str(store.load(RUNS[1].run_id).error)


def test_ctrl_c_keeps_checkpoints_and_the_same_command_goes_on(cluster: Any, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\ndataset: digits\nhidden: [8]\ntrain_limit: 100\nepochs: 1000\nseeds: 2\n")
    command = [sys.executable, "-W", "error", "-m", "actbench", "sweep", "-c", str(config), "--executor", "ray"]
    command += ["--ray-address", cluster.address, "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 5/" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that it has started
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "to continue, run the same command again" in err
    again = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "continues after epoch" in again.stderr
    assert again.stdout.startswith("{")
    assert [row["status"] for row in Store(tmp_path / "results").rows()[0]] == ["done"] * 2


def test_a_node_with_another_actbench_is_refused_before_anything_is_trained(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actbench, "__version__", "9.9.9")
    store = Store(tmp_path / "results")
    with pytest.raises(UsageError, match=r"has actbench .*; install actbench 9\.9\.9 on every node"):
        sweeps.run(sweeps.make_plan(RUNS, store), store, on_ray(cluster), Watcher())
    assert not store.root.exists()


def test_an_address_where_nobody_answers_is_told_at_once() -> None:
    with (
        pytest.raises(UsageError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 \("),
        connected("127.0.0.1:1"),
    ):
        pass
