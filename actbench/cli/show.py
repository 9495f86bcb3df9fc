"""The command show: one run in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from actbench import tables
from actbench.cli.console import Streams, plain_json, streams
from actbench.cli.options import JsonOption, ResultsOption, RunArgument
from actbench.metrics import METRICS
from actbench.store.csv import Row
from actbench.store.read import find_one
from actbench.store.run import StoredRun
from actbench.tables import Column
from actbench.text import readable, readable_lines


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("show")(show)


def show(
    run: RunArgument,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Show one run: its config, its curve, its neurons' health, where it was trained.

    Example: actbench show relu-s0
    """
    to = streams()
    stored = find_one(run, results)
    if as_json:
        epochs = stored.epochs() if "epochs.csv" in stored.files else []
        to.result(plain_json({"format_version": 1, **stored.row, "layers": stored.layers, "epochs": epochs,
                              "provenance": stored.provenance, "error": stored.error}))  # fmt: skip
        return
    to.result(f"{stored.run_id}: {stored.status}    {stored.folder}\n\n{stored.config_yaml()}")
    if stored.error:
        to.result(readable_lines(stored.error))
    _show_epochs(to, stored.epochs())
    _show_layers(to, stored)
    for what, value in {**stored.timing, **stored.provenance}.items():
        to.result(f"{what + ':':18} {readable(str(value))}")
    for problem in stored.verify():
        to.note(f"damaged: {problem}")


_CURVE = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "dead_ratio", "sparsity", "deaths", "revivals")


def _show_epochs(to: Streams, epochs: Sequence[Row]) -> None:
    present = [name for name in _CURVE if any(row.get(name) is not None for row in epochs)]
    columns = [Column("epoch", "epoch", right=True)]
    for i, name in enumerate(present):
        columns.append(Column(name, METRICS[name].heading, _shown(name), right=True, needed=0 if i < 5 else 1))
    if epochs:
        to.table(columns, epochs)


def _shown(name: str) -> Any:
    kind = METRICS[name].kind
    return tables.show_fraction if kind == "fraction" else lambda value: f"{value:.4g}"


def _show_layers(to: Streams, stored: StoredRun) -> None:
    """The health of each layer after the last epoch, a metric a line; the output layer has only a gradient."""
    if not stored.layers:
        return
    columns = [Column(str(k), str(layer.get("name", k)), right=True) for k, layer in enumerate(stored.layers)]
    rows = []
    for metric in (name for name in stored.layers[0] if name in METRICS):
        numbers = [layer.get(metric) for layer in stored.layers]
        texts = {str(k): None if x is None else _shown(metric)(x) for k, x in enumerate(numbers)}
        rows.append({"metric": METRICS[metric].heading, **texts, "meaning": METRICS[metric].doc})
    to.result(f"\nlayers after the last epoch, {stored.row.get('parameters')} parameters")
    to.table([Column("metric", "neurons"), *columns, Column("meaning", "meaning", needed=1)], rows)
