"""The record of an ended run, and the files that a run folder gets from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actbench.store import files
from actbench.store.csv import Cell, Row, format_table
from actbench.store.run import (
    CONFIG,
    EPOCHS,
    FORMAT_VERSION,
    LAYERS,
    MODEL,
    NEURONS,
    RESULT,
    SCALARS,
    Outcome,
    sealed,
    sha256,
)

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RunRecord:
    """An ended run, ready to be stored.

    `flat` holds the config columns of runs.csv, `metrics` the final metrics (fractions and counts) by column, `layers`
    the raw final metrics of each layer. `epochs`, `layer_rows` (one per epoch and layer) and `neurons` are the rows of
    epochs.csv, layers.csv and neurons.csv. `provenance` names versions, device, threads and data, never environment
    variables. result.json stores nan and inf as null.
    """

    run_id: str
    config_yaml: str
    flat: Mapping[str, Any]
    seed: int
    status: Outcome
    metrics: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Any]] = ()
    epochs: Sequence[Row] = ()
    layer_rows: Sequence[Row] = ()
    neurons: Sequence[Row] = ()
    weights: Mapping[str, np.ndarray] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def files(self) -> dict[str, bytes]:
        """Return the content of each file in the run folder, by name."""
        texts = {
            CONFIG: self.config_yaml,
            EPOCHS: format_table(self.epochs),
            LAYERS: format_table(self.layer_rows),
            NEURONS: format_table(self.neurons),
        }
        contents = {name: text.encode(errors="backslashreplace") for name, text in texts.items()}
        if self.weights is not None:
            contents[MODEL] = _weights_to_bytes(self.weights)
        result = {
            "format_version": FORMAT_VERSION,
            "run_id": self.run_id,
            "status": self.status,
            "seed": self.seed,
            "config": _scalars(self.flat),
            "metrics": _scalars(self.metrics),
            "layers": self.layers,
            "timing": self.timing,
            "provenance": self.provenance,
            "error": self.error,
            "files": {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in contents.items()},
        }
        contents[RESULT] = sealed(files.dump_json(result).removesuffix("\n}").encode())
        return contents


def _scalars(values: Mapping[str, Any]) -> dict[str, Cell]:
    """Return plain scalars; a list (such as the hidden widths) becomes its JSON text."""
    simple = {key: files.plain(value) for key, value in values.items()}
    return {k: v if type(v) in SCALARS else files.dump_json(v, indent=None) for k, v in simple.items()}


def _weights_to_bytes(weights: Mapping[str, np.ndarray]) -> bytes:
    import numpy as np  # slow, and comparing does not need it
    import safetensors.numpy

    dense = {name: np.asarray(array, order="C") for name, array in weights.items()}
    return bytes(safetensors.numpy.save(dense))
