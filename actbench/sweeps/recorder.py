"""The run recorder: claims runs, stores how they end, and passes the events of training on to the watchers.

Whatever trains, here or on another machine, reports to a recorder. Nothing else in a sweep writes results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import actbench
from actbench.config import Run
from actbench.datasets import Dataset
from actbench.errors import StoreError
from actbench.events import Broadcast, Events, last_line, record_of
from actbench.store import Claim, RunRecord, Store
from actbench.sweeps.plan import Options, Plan, Report, torch_version


class RunRecorder(Broadcast):
    """Records the runs of one plan; `datasets` holds the loaded datasets of its open runs, by name."""

    def __init__(self, plan: Plan, store: Store, options: Options, events: Events, stop: Callable[[], bool]) -> None:
        super().__init__([events])
        self.store, self.options, self.report = store, options, Report(plan)
        self.datasets: dict[str, Dataset] = {}
        self._stop = stop
        self._stack = ExitStack()
        self._claims: dict[str, Claim] = {}

    def should_stop(self) -> bool:
        """Whether to stop training early: when told to, or after a failure if one is enough."""
        if self._stop() or (self.options.fail_fast and self.report.failed):
            self.report.stopped = True
        return self.report.stopped

    @contextmanager
    def claims(self) -> Iterator[None]:
        """Give the claims that are made inside this context back when it ends."""
        with self._stack:
            yield

    def claim(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """Claim the runs that are free; return them, and those that another process holds or has just finished."""
        ours, held = [], []
        for run in runs:
            try:
                claim = self._stack.enter_context(self.store.claim(run.run_id, force=self.options.force))
            except StoreError as error:
                self._report(run, failed_record(run, str(error)))
                continue
            if claim is None:
                held.append(run)
            else:
                self._claims[run.run_id] = claim
                ours.append(run)
        return ours, held

    def checkpoints(self, runs: Sequence[Run]) -> dict[str, bytes]:
        """Return the checkpoints of claimed runs that have one, by run id."""
        found = {run.run_id: self._claims[run.run_id].load_checkpoint() for run in runs}
        return {run_id: data for run_id, data in found.items() if data is not None}

    def is_open(self, run: Run) -> bool:
        """Whether a claimed run has not ended yet."""
        return run.run_id not in self.report.trained and run.run_id not in self.report.failed

    def on_checkpoint(self, run: Run, data: bytes) -> None:
        """Keep a checkpoint. If it cannot be written, the run continues without one."""
        try:
            self._claims[run.run_id].save_checkpoint(data)
        except StoreError as error:
            self.on_note(f"{run.run_id} continues without a checkpoint: {error}")

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Store an ended run. If its results cannot be written, the run has failed."""
        try:
            self._claims[run.run_id].finish(record)
        except StoreError as error:
            record = replace(record, status="failed", error=str(error))
        self._report(run, record)

    def _report(self, run: Run, record: RunRecord) -> None:
        if record.status == "failed":
            self.report.failed[run.run_id] = last_line(record.error)
        else:
            self.report.trained[run.run_id] = record.status
        super().on_end(run, record)


def failed_record(run: Run, error: str) -> RunRecord:
    """Return the record of a run that could not start, or that no machine could finish."""
    versions = {"actbench_version": actbench.__version__, "torch_version": torch_version()}
    return record_of(run, status="failed", error=error, provenance=versions)
