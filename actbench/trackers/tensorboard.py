"""Writes TensorBoard's event files: scalars an epoch, hparams, histograms of the neurons (layer 4).

Imports tensorboard's own writer and summary classes, never TensorFlow. A folder a run, named by its id:
`tensorboard --logdir results/tensorboard`. Scalars and histograms are written in the older of the two forms that
its readers know: only in that form do all of them drop what a restarted run has declared void.
"""

from __future__ import annotations

import importlib.machinery
import sys
import time
import types
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.config import Run
from actbench.store import StoredRun
from actbench.store.csv import Row as Neuron
from actbench.trackers import numbers, settings

if TYPE_CHECKING:
    from actbench.engine.measure import Row

_BINS = 20


def _forgo_tensorflow() -> None:
    """Let tensorboard use its own file functions: where TensorFlow is installed, it would load it for them.

    It does without where a module of this name exists, which its builds without TensorFlow have.
    """
    name = "tensorboard.compat.notf"
    if name not in sys.modules and "tensorflow" not in sys.modules:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


class TensorBoard:
    """Keeps an open event file for each run in training."""

    def __init__(self, folder: Path) -> None:
        _forgo_tensorflow()
        self._folder = folder
        self._writers: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, run: Run, epochs_done: int) -> None:
        """Open a file; what an earlier one of the run holds beyond `epochs_done` is declared void."""
        from tensorboard.compat.proto import event_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if run.run_id in self._writers:
            writer = self._writers[run.run_id]
        else:
            writer = self._writers[run.run_id] = EventFileWriter(str(self._folder / run.run_id))
        void_from = epochs_done + 1 if epochs_done else 0
        restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        writer.add_event(event_pb2.Event(wall_time=time.time(), step=void_from, session_log=restart))
        if not epochs_done:
            self._write(run, 0, hparams_pb(settings(run), trial_id=run.run_id))

    def epoch(self, run: Run, row: Row) -> None:
        """Write every number of the epoch as a scalar."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers(row).items()]
        self._write(run, int(row["epoch"] or 0), Summary(value=values))

    def end(self, run: Run, status: str, stored: StoredRun | None) -> None:
        """Write how often each unit fires, layer by layer, and how the run ended; close its file."""
        if run.run_id not in self._writers:  # it has failed before it began
            return
        if stored is not None and status == "done":
            self._write(run, int(stored.metrics.get("epochs_run") or 0), _histograms(firing_rates(stored.neurons())))
        self._write(run, 0, _session_end(status))
        self._writers.pop(run.run_id).close()

    def close(self) -> None:
        """Close what is still open."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _write(self, run: Run, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        writer = self._writers[run.run_id]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()


def firing_rates(neurons: Iterable[Neuron]) -> dict[int, list[float]]:
    """Return the share of images for which each unit fires, by layer; units without one are left out."""
    found: dict[int, list[float]] = {}
    for row in neurons:
        layer, rate = row["layer"], row.get("firing_rate")
        if isinstance(layer, int) and isinstance(rate, int | float):
            found.setdefault(layer, []).append(float(rate))
    return found


def _histograms(rates: dict[int, list[float]]) -> Any:
    """Count the units of each layer by how often they fire, in steps of 5% of the images."""
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
    """Say in the terms of the hparams dashboard how a run ended; a diverged one has run to its end."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = api_pb2.STATUS_FAILURE if status == "failed" else api_pb2.STATUS_SUCCESS
    ended = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    summary = Summary()
    summary.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return summary
