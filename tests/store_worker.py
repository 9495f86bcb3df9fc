"""What the processes run that test_store_faults.py starts: `python store_worker.py ACTION ROOT ...`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from fake_runs import record, run_id, store_run

from actbench.store import Store, files

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.write", "os.fsync"}


def train(root: Path, seeds: list[int]) -> None:
    """Train each run that nobody else trains, and write its seed to a log for each training."""
    store = Store(root)
    store.prepare()
    for seed in seeds:
        with store.claim(run_id(seed)) as claim:
            if claim is not None:
                with (root / "trained.log").open("a") as log:
                    log.write(f"{seed}\n")
                claim.save_checkpoint(b"half way")
                assert claim.finish(record(seed))


def train_forever(root: Path) -> NoReturn:
    """Train, fail and replace runs without end, until killed."""
    store = Store(root)
    store.prepare()
    print("ready", flush=True)
    while True:
        for seed in range(4):
            with store.claim(run_id(seed), force=seed < 2) as claim:
                if claim is not None:
                    claim.save_checkpoint(bytes(50_000))
                    claim.finish(record(seed, status="failed" if seed == 3 else "done"))
        print("round", flush=True)


def hold(root: Path) -> None:
    """Claim a run and keep it until killed."""
    with Store(root).claim(run_id()) as claim:
        print("held" if claim is not None else "refused", flush=True)
        time.sleep(60)


def die_at_every_step(root: Path, scenario: str) -> None:
    """Store a run again and again, killed with SIGKILL at the first step, the second, ... until none is left.

    After each death it prints the folder, for the test to look at.
    """
    for step in range(1, 1000):
        folder = root / str(step)
        if scenario != "new":
            store_run(folder, status="done" if scenario == "force" else "failed")
        child = os.fork()
        if child == 0:
            _die_at(step)
            Store(folder).prepare()
            with Store(folder).claim(run_id(), force=scenario == "force") as claim:
                claim.save_checkpoint(b"half way")  # type: ignore[union-attr]
                claim.finish(record(metrics={"test_accuracy": 0.99}))  # type: ignore[union-attr]
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(f"ended {os.WEXITSTATUS(status)}", flush=True)
            return
        print(folder, flush=True)


def _die_at(step: int) -> None:
    count = 0

    def at(event: str, _arguments: object) -> None:
        nonlocal count
        if event in EVENTS:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, descriptor: int, data: bytes) -> int:
            at("os.write", ())
            half = os.write(descriptor, data[: len(data) // 2])
            at("os.write", ())  # killed in the middle of a file
            return half + os.write(descriptor, data[half:])

        def fsync(self, descriptor: int) -> None:
            at("os.fsync", ())
            os.fsync(descriptor)

    setattr(files, "os", Watched())  # noqa: B010 - os is not the module's to give away
    sys.addaudithook(at)


if __name__ == "__main__":
    action, folder, *rest = sys.argv[1:]
    if action == "train":
        train(Path(folder), [int(seed) for seed in rest])
    elif action == "forever":
        train_forever(Path(folder))
    elif action == "hold":
        hold(Path(folder))
    else:
        die_at_every_step(Path(folder), action)
