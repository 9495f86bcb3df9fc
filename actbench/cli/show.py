"""The command show: everything about one run."""

from __future__ import annotations

from collections.abc import Sequence

from actbench import tables
from actbench.cli import options
from actbench.cli.console import Streams, streams
from actbench.metrics import METRICS
from actbench.store.csv import Row
from actbench.store.read import find_one
from actbench.store.run import StoredRun
from actbench.tables import Column

_CURVE = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "dead_ratio", "sparsity", "deaths", "revivals")
_ALWAYS_SHOWN = 5
"""How many columns of the curve stay when a terminal is too narrow for all."""


def show(run: options.Run, output: options.JsonFormat = "table", results: options.Results = options.RESULTS) -> None:
    """Show everything about one run. Prints its config, metrics per epoch, neuron health and provenance.

    Example: actbench show relu-s0
    """
    to = streams()
    stored = find_one(run, results)
    if output == "json":
        epochs = stored.epochs() if "epochs.csv" in stored.files else []
        details = {"layers": stored.layers, "epochs": epochs, "provenance": stored.provenance, "error": stored.error}
        to.json({"format_version": 1, **stored.row, **details})
        return
    to.result(f"{stored.run_id}: {stored.status}    {stored.folder}")
    to.document(f"\n{stored.config_yaml()}")
    for line in (stored.error or "").splitlines():
        to.result(line)
    _show_epochs(to, stored.epochs())
    _show_layers(to, stored)
    for what, value in {**stored.timing, **stored.provenance}.items():
        to.result(f"{what + ':':18} {f'{value:.6g}' if isinstance(value, float) else value}")
    for problem in stored.verify():
        to.note(f"damaged: {problem}")


def _show_epochs(to: Streams, epochs: Sequence[Row]) -> None:
    present = [name for name in _CURVE if any(row.get(name) is not None for row in epochs)]
    columns = [Column("epoch", "epoch", right=True)]
    for i, name in enumerate(present):
        needed = 0 if i < _ALWAYS_SHOWN else 1
        columns.append(Column(name, METRICS[name].heading, tables.SHOW[METRICS[name].kind], right=True, needed=needed))
    if epochs:
        to.table(columns, epochs)


def _show_layers(to: Streams, stored: StoredRun) -> None:
    """Show the health of each layer after the last epoch, one metric per line; the output layer has only a gradient."""
    if not stored.layers:
        return
    columns = [Column(str(k), str(layer.get("name", k)), right=True) for k, layer in enumerate(stored.layers)]
    rows = []
    for metric in (name for name in stored.layers[0] if name in METRICS):
        numbers = [layer.get(metric) for layer in stored.layers]
        texts = {str(k): None if x is None else tables.SHOW[METRICS[metric].kind](x) for k, x in enumerate(numbers)}
        rows.append({"metric": METRICS[metric].heading, **texts, "meaning": METRICS[metric].doc})
    to.document("")
    to.result(f"layers after the last epoch, {stored.row.get('parameters')} parameters")
    to.table([Column("metric", "neurons"), *columns, Column("meaning", "meaning", needed=1)], rows)
