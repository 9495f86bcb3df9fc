"""What stands on the page: read from stored runs, compared, and put into plain values (layer 4).

Imports the comparison, tables, configs, `curves` and `pictures`. Files that are damaged are named, not fatal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import actbench
from actbench import comparison, config, tables
from actbench.comparison.groups import Group, group_runs, select, varying
from actbench.comparison.quantities import Row
from actbench.config import RECIPE, Variant
from actbench.errors import ActbenchError
from actbench.metrics import METRICS
from actbench.report import curves as curves_of
from actbench.report import pictures
from actbench.report.curves import HeatMap
from actbench.report.pictures import Neuron, Shape
from actbench.store.run import CONFIG, StoredProblem, StoredRun
from actbench.tables import Column


@dataclass(frozen=True)
class VariantFacts:
    """One row of the comparison: its config as YAML with all its seeds, and the runs behind it."""

    label: str
    dataset: str
    yaml: str
    runs: tuple[Row, ...]


@dataclass(frozen=True)
class Neurons:
    """Pictures of one run's neurons."""

    label: str
    run_id: str
    dead: list[Neuron]
    active: list[Neuron]


NEURON_METRICS = (
    "dead_ratio", "born_dead_ratio", "deaths", "revivals", "near_dead_ratio", "silent_ratio", "dormant_0.1_ratio",
    "saturated_ratio", "sparsity",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """All that the page shows. `data` is what its script draws: the groups' labels and their curves."""

    title: str
    version: str
    facts: list[tuple[str, str]]
    columns: list[Column]
    rows: list[dict[str, Any]]
    sort_keys: list[list[float | str]]
    footnotes: tuple[str, ...]
    baseline: str
    data: dict[str, Any]
    neuron_columns: list[tuple[str, str]]
    neuron_rows: list[list[str]]
    heat_maps: list[HeatMap]
    shapes: list[Shape]
    neurons: list[Neurons]
    variants: list[VariantFacts]
    provenance: list[tuple[str, str]]
    ended_badly: list[Row]
    problems: list[str]
    claims: list[Mapping[str, str]] = field(default_factory=list)


def gather(
    runs: Sequence[StoredRun],
    problems: Sequence[StoredProblem] = (),
    *,
    title: str = "",
    by: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = ("test_accuracy",),
    filter: str | None = None,  # noqa: A002 - named like its flag
    claims: Sequence[Mapping[str, str]] = (),
) -> Page:
    """Read what the page needs from `runs`, compared as `comparison.compare` does with these options.

    Raises UsageError where they cannot be compared so. What cannot be read of a run is said on the page.
    """
    said = [str(problem) for problem in problems]
    by_id = {run.run_id: run for run in runs}
    rows = select([run.row for run in runs], filter)
    reader = _Reader(by_id, said)
    found = comparison.compare(rows, by=by, baseline=baseline, metrics=metrics, curve=reader.epochs)
    columns, shown_rows = tables.comparison_table(found)
    columns = [column for column in columns if column.needed < tables.REPEATED]  # the label says them already
    _, raw = tables.comparison_table(found, raw=True)
    places = {(row.label, row.dataset): i for i, row in enumerate(found.rows)}
    groups = sorted(group_runs(rows, by).groups, key=lambda g: places.get((g.label, g.dataset), len(places)))
    variants = [_facts_of(group, reader) for group in groups]
    resolved = [variant for variant in map(reader.variant, rows) if variant is not None]
    keys = [key for key in RECIPE if key not in ("device", "tags", "dataset")]
    settings = varying([row for group in groups for row in group.runs], keys)
    return Page(
        title=title or _title(groups, found.baseline),
        version=actbench.__version__,
        facts=_facts(rows, groups),
        columns=columns,
        rows=shown_rows,
        sort_keys=[_sort_keys(columns, row) for row in raw],
        footnotes=found.footnotes,
        baseline=found.baseline,
        data={
            "groups": [{"label": _label(group, groups), "runs": len(group.runs)} for group in groups],
            "curves": curves_of.curves(groups, reader.epochs),
        },
        neuron_columns=[(METRICS[name].heading, METRICS[name].doc) for name in NEURON_METRICS],
        neuron_rows=[_health(group, _label(group, groups)) for group in groups],
        heat_maps=curves_of.heat_maps(rows, settings) if len({row["dataset"] for row in rows}) == 1 else [],
        shapes=pictures.shapes(resolved),
        neurons=_neurons(groups, found.baseline, reader),
        variants=variants,
        provenance=_provenance(runs),
        ended_badly=[row for row in rows if row["status"] != "done"],
        problems=list(dict.fromkeys(said)),
        claims=list(claims),
    )


class _Reader:
    """Reads files of runs; what is damaged is noted once and left out."""

    def __init__(self, by_id: Mapping[str, StoredRun], said: list[str]) -> None:
        self._by_id, self._said = by_id, said
        self._variants: dict[str, Variant | None] = {}

    def run(self, row: Row) -> StoredRun:
        return self._by_id[str(row["run_id"])]

    def epochs(self, row: Row) -> Sequence[Row]:
        try:
            return self.run(row).epochs()
        except ActbenchError as error:
            self._said.append(str(error))
            return []

    def variant(self, row: Row) -> Variant | None:
        run = self.run(row)
        if run.run_id not in self._variants:
            try:
                run.config_yaml()  # its checksum
                self._variants[run.run_id] = config.load(run.folder / CONFIG).variant
            except ActbenchError as error:
                self._said.append(str(error))
                self._variants[run.run_id] = None
        return self._variants[run.run_id]

    def neurons(self, label: str, row: Row) -> Neurons | None:
        run = self.run(row)
        try:
            dead, active = pictures.neurons(run)
        except ActbenchError as error:
            self._said.append(str(error))
            return None
        return Neurons(label, run.run_id, dead, active) if dead or active else None


def _title(groups: Sequence[Group], baseline: str) -> str:
    labels = list(dict.fromkeys(group.label for group in groups))
    others = [label for label in labels if label != baseline]
    if not others:
        return baseline
    return f"{baseline} and {others[0]}" if len(others) == 1 else f"{baseline} and {len(others)} others"


def _label(group: Group, groups: Sequence[Group]) -> str:
    several = len({one.dataset for one in groups}) > 1
    return f"{group.label} ({group.dataset})" if several else group.label


def _facts(rows: Sequence[Row], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Pairs of what and how many, for the head of the page."""
    seeds = {row["seed"] for row in rows}
    counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "diverged", "failed")}
    ended = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    return [
        ("variants", str(len(groups))),
        ("runs", f"{len(rows)} ({ended})"),
        ("seeds", str(len(seeds))),
        ("data", ", ".join(sorted({str(row["dataset"]) for row in rows}))),
        ("epochs", ", ".join(map(str, sorted({int(row["epochs"]) for row in rows if isinstance(row["epochs"], int)})))),
    ]


def _sort_keys(columns: Sequence[Column], raw: Mapping[str, Any]) -> list[float | str]:
    """What each cell of a row is ordered by: its number where it has one, else its text."""
    keys: list[float | str] = []
    for column in columns:
        name = column.key.replace(":p", "_adjusted_p").replace(":", "_")
        value = raw.get(name, raw.get(f"{name}_mean"))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        keys.append(float(value) if number else "" if value is None else str(value))
    return keys


def _facts_of(group: Group, reader: _Reader) -> VariantFacts:
    runs = sorted((*group.runs, *group.failed), key=lambda row: int(row["seed"]))
    variants = dict.fromkeys(variant for variant in map(reader.variant, runs) if variant is not None)
    seeds = sorted({int(row["seed"]) for row in runs})
    texts = [config.to_yaml(variant, seeds) for variant in variants]
    return VariantFacts(group.label, str(group.dataset), "---\n".join(texts), tuple(runs))


def _health(group: Group, label: str) -> list[str]:
    """A variant's name and the means of its neurons' health over the runs that are done."""
    cells = [label]
    for name in NEURON_METRICS:
        values = [row.get(name) for row in group.runs if row["status"] == "done"]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        scale = 100 if METRICS[name].kind == "fraction" else 1
        cells.append(f"{scale * sum(numbers) / len(numbers):.{2 if scale > 1 else 1}f}" if numbers else "")
    return cells


def _neurons(groups: Sequence[Group], baseline: str, reader: _Reader) -> list[Neurons]:
    """The baseline's first run, and the run with the most dead units, where that is another one."""
    done = [(group.label, row) for group in groups for row in group.runs if row["status"] == "done"]
    chosen = [(label, row) for label, row in done if label == baseline][:1]
    chosen += sorted(done, key=lambda pair: -float(pair[1].get("dead_ratio") or 0))[:1]
    unique = {str(row["run_id"]): (label, row) for label, row in chosen}
    return [shown for shown in (reader.neurons(label, row) for label, row in unique.values()) if shown is not None]


def _provenance(runs: Iterable[StoredRun]) -> list[tuple[str, str]]:
    """What the runs were trained by and on: every value that occurs, counted where there are several."""
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        for key, value in run.provenance.items():
            if key not in ("started_at", "ended_at"):
                texts = counts.setdefault(key, {})
                texts[str(value)] = texts.get(str(value), 0) + 1
    starts = sorted(str(run.provenance["started_at"]) for run in runs if "started_at" in run.provenance)
    listed = [
        (key.replace("_", " "), ", ".join(t if len(texts) == 1 else f"{t} ({n} runs)" for t, n in texts.items()))
        for key, texts in counts.items()
    ]
    return listed + ([("trained", f"{starts[0]} to {starts[-1]}")] if starts else [])
