"""Writes TensorBoard's event files: scalars after every epoch, hparams, and histograms of the neurons.

It uses tensorboard's own writer and summary classes, never TensorFlow. Each run has a folder named by its id:
`tensorboard --logdir results/tensorboard`. Scalars and histograms are written in the older of the two forms that
TensorBoard reads: only in that form do all its readers drop what a restarted run has declared void.
"""

from __future__ import annotations

import importlib.machinery
import sys
import time
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actbench.config import Run
from actbench.store import RunRecord
from actbench.store.csv import Row
from actbench.trackers import Tracker, numbers, settings

_BINS = 20


def _forgo_tensorflow() -> None:
    """Make tensorboard use its own file functions. If TensorFlow is installed, it would load it for them.

    It does without if a module of this name exists, as in its builds without TensorFlow.
    """
    name = "tensorboard.compat.notf"
    if name not in sys.modules and "tensorflow" not in sys.modules:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


class TensorBoard(Tracker):
    """Keeps an event file open for each run in training, in `folder` or the folder `tensorboard` of the results."""

    def __init__(self, folder: str | None, results: Path) -> None:
        _forgo_tensorflow()
        self._folder = Path(folder) if folder else results / "tensorboard"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writers: dict[str, Any] = {}

    def on_start(self, run: Run, epochs_done: int) -> None:
        """Open a file. What an earlier file of the run holds beyond `epochs_done` is declared void."""
        from tensorboard.compat.proto import event_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if run.run_id not in self._writers:
            self._writers[run.run_id] = EventFileWriter(str(self._folder / run.run_id))
        void_from = epochs_done + 1 if epochs_done else 0
        restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = event_pb2.Event(wall_time=time.time(), step=void_from, session_log=restart)
        self._writers[run.run_id].add_event(event)
        if not epochs_done:
            self._write(run, 0, hparams_pb(settings(run), trial_id=run.run_id))

    def on_epoch(self, run: Run, row: Row) -> None:
        """Write every number of the epoch as a scalar."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers(row).items()]
        self._write(run, int(row["epoch"] or 0), Summary(value=values))

    def on_end(self, run: Run, record: RunRecord) -> None:
        """Write how often each unit fires, by layer, and how the run ended; close its file."""
        if run.run_id not in self._writers:  # it failed before it started
            return
        if record.status == "done":
            self._write(run, int(record.metrics.get("epochs_run") or 0), _histograms(firing_rates(record.neurons)))
        self._write(run, 0, _session_end(record.status))
        self._writers.pop(run.run_id).close()

    def close(self) -> None:
        """Close the files that are still open."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _write(self, run: Run, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        writer = self._writers[run.run_id]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()


def firing_rates(neurons: Iterable[Row]) -> dict[int, list[float]]:
    """Return the share of images for which each unit fires, by layer. Units without this number are left out."""
    found: dict[int, list[float]] = {}
    for row in neurons:
        layer, rate = row["layer"], row.get("firing_rate")
        if isinstance(layer, int) and isinstance(rate, int | float):
            found.setdefault(layer, []).append(float(rate))
    return found


def _histograms(rates: dict[int, list[float]]) -> Any:
    """Count the units of each layer by how often they fire, in bins of 5% of the images."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    found = Summary()
    for layer, values in rates.items():
        counts = [0] * _BINS
        for value in values:
            counts[min(int(value * _BINS), _BINS - 1)] += 1
        histogram = HistogramProto(
            min=min(values), max=max(values), num=len(values), sum=sum(values), sum_squares=sum(v * v for v in values),
            bucket_limit=[(k + 1) / _BINS for k in range(_BINS)], bucket=counts,
        )  # fmt: skip
        found.value.add(tag=f"firing_rate/hidden_layer_{layer + 1}", histo=histogram)
    return found


def _session_end(status: str) -> Any:
    """Return how a run ended in the terms of the hparams dashboard. A diverged run counts as a success."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = api_pb2.STATUS_FAILURE if status == "failed" else api_pb2.STATUS_SUCCESS
    ended = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    summary = Summary()
    summary.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return summary
