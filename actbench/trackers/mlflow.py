"""Logs to MLflow: each run with its params, its metrics after every epoch, tags, and the run folder as artifacts.

MLflow's telemetry is off unless the environment says otherwise. The tracker has its own client and never touches the
global state of `mlflow.start_run`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from actbench.config import Run
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.trackers import Tracker, numbers, settings

EXPERIMENT = "actbench"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_LONGEST_TAG = 5000


class MLflow(Tracker):
    """Logs to `uri`, else to MLFLOW_TRACKING_URI, else to a SQLite file in the folder `mlflow` of the results."""

    def __init__(self, uri: str | None, results: Path) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        where = uri or os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None
        if where is None or "://" not in where:
            folder = (Path(where) if where else results / "mlflow").absolute()
            folder.mkdir(parents=True, exist_ok=True)
            where, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=where)
        self._experiment = self._get_experiment(artifacts)
        self._results = results
        self._open: dict[str, str] = {}

    def _get_experiment(self, artifacts: str | None) -> str:
        """Return the id of the experiment, which other processes may be creating at this moment."""
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        except MlflowException:
            if found := self._client.get_experiment_by_name(EXPERIMENT):
                return str(found.experiment_id)
            raise

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Open a run. If it continues from a checkpoint, its earlier MLflow run continues, too."""
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

    def on_epoch(self, run: Run, row: Row) -> None:
        """Log every number of the epoch."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(row["epoch"] or 0)
        metrics = [Metric(name, value, now, step) for name, value in numbers(row).items()]
        self._client.log_batch(self._open[run.run_id], metrics=metrics)

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Log how the run ended, its provenance, and its files if it could be stored."""
        from mlflow.entities import RunTag

        opened = self._open.pop(run.run_id, None)
        if opened is None:  # it failed before it started
            return
        tags: dict[str, Any] = {f"actbench.{key}": value for key, value in record.provenance.items()}
        tags["actbench.status"] = record.status
        self._client.log_batch(opened, tags=[RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in tags.items()])
        if (folder := self._results / run.run_id).is_dir():
            self._client.log_artifacts(opened, str(folder))
        self._client.set_terminated(opened, "FAILED" if record.status == "failed" else "FINISHED")

    def close(self) -> None:
        """Mark runs that have not ended as killed, so that a later process can continue them."""
        while self._open:
            self._client.set_terminated(self._open.popitem()[1], "KILLED")
