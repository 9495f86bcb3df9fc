"""The command list: the stored runs, and everything that a config can choose from."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from actbench import config, tables
from actbench.activations import ACTIVATIONS
from actbench.cli import options
from actbench.cli.console import Streams, streams
from actbench.comparison.contrasts import value_of
from actbench.comparison.groups import group_runs
from actbench.comparison.quantities import quantity, read_once
from actbench.datasets import DATASETS
from actbench.initializers import INITIALIZERS
from actbench.metrics import METRICS
from actbench.optimizers import OPTIMIZERS
from actbench.registry import Parameter
from actbench.schedules import SCHEDULES
from actbench.store.read import read_results
from actbench.store.run import OUTCOMES
from actbench.tables import Column
from actbench.text import ascii_text, number_text, value_text

Topic = Literal["runs", "activations", "inits", "datasets", "optimizers", "schedules", "metrics", "configs"]

_RUNS_COLUMNS = (
    Column("variant", "variant"),
    Column("dataset", "dataset"),
    Column("seeds", "seeds", right=True),
    Column("status", "status"),
    Column("test_accuracy", "test accuracy %", tables.show_fraction, right=True),
    Column("last_trained", "last trained"),
)


def list_entries(
    topic: Annotated[Topic, typer.Argument(metavar="TOPIC", help=f"What to list: {', '.join(get_args(Topic))}.")],
    output: options.JsonFormat = "table",
    results: options.Results = options.RESULTS,
) -> None:
    """List stored runs, or what a config can choose from.

    Runs take one row per variant. All other entries come with what is known of them, such as formula, parameters and
    source.

    Example: actbench list activations
    """
    to = streams()
    rows = _runs(to, results) if topic == "runs" else _LISTS[topic]()
    if output == "json":
        to.json({"format_version": 1, topic: rows})
    elif topic == "runs":
        to.table(_RUNS_COLUMNS, rows, wide=True)
    elif topic == "configs":
        to.table([Column(key, key) for key in rows[0]], rows, wide=True)
    else:
        for row in rows:
            for line in _block(row):
                to.result(ascii_text(line) if to.ascii_only else line)


def _block(row: Mapping[str, Any]) -> Iterator[str]:
    """Lay out one entry in a few lines of at most 80 columns: its name and what it is, then what else is known."""
    what = row.get("formula") or row.get("title") or _kind(row)
    yield from textwrap.wrap(what, 80, initial_indent=f"{row['name']:<17} ", subsequent_indent=" " * 18)
    row = row if "range" not in row else {**row, "range": number_text(row["range"])}
    facts = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key in ("range", "sup_slope", "gain")]
    images = f"{row['train']:,} training and {row['test']:,} test images; {row['licence']}" if "train" in row else ""
    source = f"source: {row['source']}" if "source" in row else ""
    texts = [
        "; ".join(facts),
        row.get("traits", ""),
        *row.get("parameters", ()),
        row.get("meaning", ""),
        images,
        source,
    ]
    for text in texts:
        yield from textwrap.wrap(text, 80, initial_indent=" " * 18, subsequent_indent=" " * 20)
    yield ""


def _kind(row: Mapping[str, Any]) -> str:
    """Say what kind of number a metric is, and which direction is better."""
    return f"{row['kind']}, {row['better']} is better" if row["better"] != "neither" else row["kind"]


def _runs(to: Streams, results: Path) -> list[dict[str, Any]]:
    """Return what is stored, one row per variant."""
    stored, problems = read_results([], results)
    to.skipped(problems)
    accuracy, curve = quantity("test_accuracy", ()), read_once(None)
    ended = {run.run_id: str(run.provenance.get("ended_at") or "") for run in stored}
    rows = []
    for group in group_runs([run.row for run in stored]).groups if stored else ():
        runs = [*group.runs, *group.failed]
        counts = Counter(row["status"] for row in runs)
        rows.append(
            {
                "variant": group.label,
                "dataset": group.dataset,
                "seeds": len({row["seed"] for row in runs}),
                "status": ", ".join(f"{counts[status]} {status}" for status in OUTCOMES if counts[status]),
                "test_accuracy": value_of(group, accuracy, curve, ()).mean,
                "last_trained": max(ended[row["run_id"]] for row in runs)[:16].replace("T", " "),
            }
        )
    return rows


def _parameters(parameters: Sequence[Parameter]) -> list[str]:
    return [f"{p.name}: {value_text(p.default)}  ({p.doc}; {p.allowed})" for p in parameters]


def _interval(low: float, high: float) -> str:
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


def _configs() -> list[dict[str, Any]]:
    """Take the description of each built-in config from its first line, as in "# Description.   Run: ..."."""
    rows = []
    for name, path in config.builtin_configs().items():
        about, _, _ = path.read_text(encoding="utf-8").removeprefix("# ").partition("   Run: ")
        rows.append({"name": name, "for": "sweep" if path.parent.name == "sweeps" else "train", "about": about})
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


_LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "activations": _activations,
    "inits": lambda: _described(INITIALIZERS),
    "optimizers": lambda: _described(OPTIMIZERS),
    "schedules": lambda: _described(SCHEDULES),
    "datasets": lambda: [
        {key: getattr(entry, key) for key in ("name", "title", "train", "test", "licence", "source")}
        for entry in DATASETS.values()
    ],
    "configs": _configs,
    "metrics": lambda: [
        {"name": entry.name, "better": entry.better, "kind": entry.kind, "meaning": entry.doc}
        for entry in METRICS.values()
    ],
}
