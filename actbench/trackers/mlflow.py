"""Logs to an MLflow store: runs with their params, metrics an epoch, tags, and the run folder as artifacts (layer 4).

Imports mlflow, with its telemetry off unless the environment says otherwise. Uses a client of its own, never the
global state of `mlflow.start_run`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.config import Run
from actbench.store import StoredRun
from actbench.trackers import numbers, settings

if TYPE_CHECKING:
    from actbench.engine.measure import Row

EXPERIMENT = "actbench"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_LONGEST_TAG = 5000


class MLflow:
    """Logs to `uri`; else to where MLFLOW_TRACKING_URI says; else to a SQLite file in the folder `local`."""

    def __init__(self, uri: str | None, local: Path) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        where = uri or os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None
        if where is None or "://" not in where:
            folder = (Path(where) if where else local).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            where, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=where)
        self._experiment = self._get_experiment(artifacts)
        self._open: dict[str, str] = {}

    def _get_experiment(self, artifacts: str | None) -> str:
        """Return the id of the experiment; other processes may be making it at this moment."""
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        except MlflowException:
            if found := self._client.get_experiment_by_name(EXPERIMENT):
                return str(found.experiment_id)
            raise

    def start(self, run: Run, epochs_done: int) -> None:
        """Open a run; one that goes on from a checkpoint goes on in its MLflow run, too."""
        from mlflow.entities import Param

        if run.run_id in self._open:
            return
        if epochs_done and (known := self._interrupted(run)):
            self._client.update_run(known, status="RUNNING")
            self._open[run.run_id] = known
            return
        name = f"{run.variant.name} s{run.seed}"
        tags = {"actbench.run_id": run.run_id}
        created = self._client.create_run(self._experiment, tags=tags, run_name=name)
        self._open[run.run_id] = created.info.run_id
        params = [Param(key, str(value)) for key, value in settings(run).items()]
        self._client.log_batch(created.info.run_id, params=params)

    def _interrupted(self, run: Run) -> str | None:
        wanted = f"tags.`actbench.run_id` = '{run.run_id}'"
        found = self._client.search_runs([self._experiment], wanted, max_results=1, order_by=["start_time DESC"])
        return str(found[0].info.run_id) if found and found[0].info.status in ("KILLED", "RUNNING") else None

    def epoch(self, run: Run, row: Row) -> None:
        """Log every number of the epoch."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(row["epoch"] or 0)
        metrics = [Metric(name, value, now, step) for name, value in numbers(row).items()]
        self._client.log_batch(self._open[run.run_id], metrics=metrics)

    def end(self, run: Run, status: str, stored: StoredRun | None) -> None:
        """Log how the run ended, what it was trained on, and its files."""
        from mlflow.entities import RunTag

        opened = self._open.pop(run.run_id, None)
        if opened is None:  # it has failed before it began
            return
        tags: dict[str, Any] = {"actbench.status": status}
        if stored is not None:
            tags |= {f"actbench.{key}": value for key, value in stored.provenance.items()}
        self._client.log_batch(opened, tags=[RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in tags.items()])
        if stored is not None:
            self._client.log_artifacts(opened, str(stored.folder))
        self._client.set_terminated(opened, "FAILED" if status == "failed" else "FINISHED")

    def close(self) -> None:
        """Mark what has not ended as killed, which a later process may go on with."""
        while self._open:
            self._client.set_terminated(self._open.popitem()[1], "KILLED")
