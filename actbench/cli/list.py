"""The command list: what a config can choose."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from actbench.activations import ACTIVATIONS
from actbench.cli.console import plain_json, streams
from actbench.cli.options import JsonOption
from actbench.datasets import DATASETS
from actbench.initializers import INITIALIZERS
from actbench.metrics import METRICS
from actbench.optimizers import OPTIMIZERS
from actbench.registry import Parameter
from actbench.schedules import SCHEDULES
from actbench.tables import Column


class Kind(StrEnum):
    """What `list` can list."""

    activations = "activations"
    inits = "inits"
    datasets = "datasets"
    optimizers = "optimizers"
    schedules = "schedules"
    metrics = "metrics"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("list")(list_entries)


def list_entries(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: JsonOption = False,
) -> None:
    """List what a config can choose, with formulas, parameters, defaults and sources.

    Example: actbench list activations
    """
    rows = _LISTS[kind]()
    to = streams()
    if as_json:
        to.result(plain_json({"format_version": 1, kind.value: rows}))
        return
    if "formula" not in rows[0]:
        to.table([Column(key, key) for key in rows[0]], rows, wide=True)
        return
    for row in rows:
        for line in _block(row):
            to.result(line)


def _block(row: Mapping[str, Any]) -> Iterator[str]:
    """Lay one entry out as a few lines that fit 80 columns: name and formula, facts, parameters, source."""
    yield f"{row['name']:<18}{row['formula']}"
    facts = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key in ("range", "sup_slope", "gain")]
    for text in ("; ".join(facts), row.get("traits", ""), *row["parameters"], f"source: {row['source']}"):
        yield from textwrap.wrap(text, 80, initial_indent=" " * 18, subsequent_indent=" " * 20)
    yield ""


def _parameters(parameters: Sequence[Parameter]) -> list[str]:
    return [f"{p.name}: {_value(p.default)}  ({p.doc}; {p.allowed})" for p in parameters]


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _interval(low: float, high: float) -> str:
    """A range of values, open where it has no end."""
    left = "(-inf" if low == float("-inf") else f"[{low:.4g}"
    right = "inf)" if high == float("inf") else f"{high:.4g}]"
    return f"{left}, {right}"


def _activations() -> list[dict[str, Any]]:
    rows = []
    for entry in ACTIVATIONS.values():
        facts = entry.facts(entry.defaults)
        traits = {"monotone": facts.monotone, "smooth": facts.smooth, "bounded": facts.bounded}
        traits["zero-centred"] = facts.zero_centred
        rows.append(
            {
                "name": entry.name,
                "formula": entry.formula,
                "latex": entry.latex,
                "parameters": _parameters(entry.parameters),
                "range": _interval(*facts.range),
                "traits": ", ".join(name for name, holds in traits.items() if holds),
                "sup_slope": f"{float(entry.sup_slope(entry.defaults)):.4g}",
                "gain": f"{entry.gain(entry.defaults):.4f} ({entry.gain_source})",
                "source": entry.source,
            }
        )
    return rows


def _described(registry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": e.name,
            "formula": e.formula,
            **({"latex": e.latex} if hasattr(e, "latex") else {}),
            "parameters": _parameters(e.parameters),
            "source": e.source,
        }
        for e in registry.values()
    ]


def _datasets() -> list[dict[str, Any]]:
    return [
        {"name": e.name, "title": e.title, "train": e.train, "test": e.test, "licence": e.licence, "source": e.source}
        for e in DATASETS.values()
    ]


def _metrics() -> list[dict[str, Any]]:
    return [{"name": e.name, "better": e.better, "kind": e.kind, "meaning": e.doc} for e in METRICS.values()]


_LISTS: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    Kind.activations: _activations,
    Kind.inits: lambda: _described(INITIALIZERS),
    Kind.optimizers: lambda: _described(OPTIMIZERS),
    Kind.schedules: lambda: _described(SCHEDULES),
    Kind.datasets: _datasets,
    Kind.metrics: _metrics,
}
