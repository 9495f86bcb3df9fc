"""The keeper of a sweep: holds the claims of runs in training and stores what it is told of them (layer 4).

Imports the store. Whatever trains, here or on another machine, tells a keeper; nothing else writes results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actbench.config import Run
from actbench.errors import StoreError
from actbench.store import Claim, RunRecord
from actbench.sweeps.plan import Work

if TYPE_CHECKING:
    from actbench.engine.measure import Row


class Keeper:
    """Claims runs and stores how they end. `claims` gives the claims back when it is closed."""

    def __init__(self, work: Work, claims: contextlib.ExitStack) -> None:
        self._work, self._stack = work, claims
        self._claims: dict[str, Claim] = {}

    def claim(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """Claim the runs that are free; return them, and those that another process holds or has just finished."""
        ours, held = [], []
        for run in runs:
            try:
                claim = self._stack.enter_context(self._work.store.claim(run.run_id, force=self._work.options.force))
            except StoreError as error:
                self._failed(run, str(error))
                continue
            if claim is None:
                held.append(run)
            else:
                self._claims[run.run_id] = claim
                ours.append(run)
        return ours, held

    def checkpoints(self, runs: Sequence[Run]) -> dict[str, bytes]:
        """Return the checkpoints that there are of claimed runs, by run id."""
        found = {run.run_id: self._claims[run.run_id].load_checkpoint() for run in runs}
        return {run_id: data for run_id, data in found.items() if data is not None}

    def is_open(self, run: Run) -> bool:
        """Whether a claimed run has not ended yet."""
        return run.run_id not in self._work.report.trained and run.run_id not in self._work.report.failed

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Pass on that a run begins."""
        self._work.watcher.on_start(run, epochs_done)

    def on_note(self, text: str) -> None:
        """Pass on a note."""
        self._work.watcher.on_note(text)

    def on_epoch(self, run: Run, row: Row) -> None:
        """Pass on an epoch."""
        self._work.watcher.on_epoch(run, row)

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """Keep a checkpoint; a run goes on without one when it cannot be written."""
        try:
            self._claims[run.run_id].save_checkpoint(data)
        except StoreError as error:
            self._work.watcher.on_note(f"{run.run_id} goes on without a checkpoint: {error}")

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Store an ended run; one whose results cannot be written has failed."""
        try:
            self._claims[run.run_id].finish(record)
        except StoreError as error:
            self._failed(run, str(error))
            return
        if record.status == "failed":
            self._failed(run, (record.error or "").strip().splitlines()[-1])
        else:
            self._work.report.trained[run.run_id] = record.status
            self._work.watcher.on_end(run, record.status, None)

    def _failed(self, run: Run, error: str) -> None:
        self._work.report.failed[run.run_id] = error
        self._work.watcher.on_end(run, "failed", error)
