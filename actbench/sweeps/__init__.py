"""From runs to stored results: skip what is done, claim the rest, train it in lane groups, store it (layer 4).

Imports the store and the configs; the engine (and with it torch) only when there is something to train, Ray
only when it is asked for. Prints nothing: a `Watcher` is told what happens.

`plans` says what is asked for and how it went, `keeper` holds the claims and stores, `training` trains a group
wherever it is called, `local` and `ray_executor` decide where that is, `preview` tells beforehand what it will take.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from actbench import datasets
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.store import MIN_FREE_BYTES, Store
from actbench.sweeps.plan import Options, Plan, Report, Train, Watcher, Work, lane_groups, plan, torch_version

__all__ = ["Options", "Plan", "Report", "Watcher", "execute", "lane_groups", "plan", "torch_version"]

_POLL_S = 0.2


def execute(
    todo: Plan, store: Store, options: Options, watcher: Watcher, stop: Callable[[], bool] = lambda: False
) -> Report:
    """Train the open runs of a plan and store each as it ends.

    Where nothing is open, runs.csv is brought up to date. Runs that another process trains meanwhile are waited for,
    and taken over should it die. `stop` is asked after every epoch; unfinished runs then keep a checkpoint. Raises
    DataError, DeviceError, StoreError or UsageError before anything is trained when it can be known then.
    """
    work = Work(store, options, watcher, stop)
    report = work.report
    if not todo.open:
        store.catch_up()
        return report
    with _executor(work) as train:
        store.prepare(MIN_FREE_BYTES + sum(4 * run.variant.parameter_count for run in todo.open))  # float32 weights
        for name in sorted({run.variant.dataset for run in todo.open}):
            work.datasets[name] = _load(name, options, watcher)
        waiting = todo.open
        while waiting and not report.stopped:
            waiting = [run for run in train(waiting) if not _ended_elsewhere(run.run_id, store, report)]
            if waiting and not report.stopped:
                time.sleep(_POLL_S)
                report.stopped = stop()
    return report


def _executor(work: Work) -> AbstractContextManager[Train]:
    if work.options.executor == "ray":
        from actbench.sweeps import ray_executor

        return ray_executor.executor(work)
    return nullcontext(functools.partial(_train_here, work=work))


def _train_here(runs: Sequence[Run], work: Work) -> list[Run]:
    from actbench.sweeps import local  # imports torch, which loading the data has done by now, reading meanwhile

    return local.train(runs, work)


def _load(name: str, options: Options, watcher: Watcher) -> Dataset:
    folder = datasets.data_folder(options.data_dir)
    return datasets.load(
        name,
        folder,
        offline=options.offline,
        mirror=options.mirror,
        progress=watcher.on_download,
        note=watcher.on_note,
    )


def _ended_elsewhere(run_id: str, store: Store, report: Report) -> bool:
    """Whether a run that could not be claimed has ended in another process meanwhile; then note it."""
    if store.result(run_id) is None:
        return False
    report.elsewhere.append(run_id)
    return True
