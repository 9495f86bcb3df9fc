"""What the page shows: stored runs, read, compared and turned into plain values.

A damaged file does not stop the page; the page names it. Numbers, regions and pictures come from the functions that
`figures` draws with, so that a quantity has the same value in a chart and on the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import actbench
from actbench import comparison, config, figures, tables
from actbench.comparison.contrasts import value_of
from actbench.comparison.groups import Group, Grouping, columns_of, group_runs, select, varying
from actbench.comparison.quantities import Curve, number, quantity
from actbench.config import SETTINGS, Variant
from actbench.errors import ActbenchError, UsageError
from actbench.figures.activations import draw_shape
from actbench.figures.heatmap import HeatCells, heat_cells
from actbench.figures.neurons import FIRST_LAYER, galleries
from actbench.figures.panels import LearningCurves, measure, notes_on_breaks
from actbench.metrics import METRICS, UNITS
from actbench.report import Gallery, HeatCell, HeatTable, Page, UnitPictures, VariantFacts
from actbench.store.csv import Row
from actbench.store.run import CONFIG, OUTCOMES, StoredProblem, StoredRun
from actbench.tables import Column
from actbench.text import plural, value_text

CURVE_METRICS = (
    "test_accuracy", "test_loss", "train_accuracy", "train_loss", "validation_accuracy", "dead_ratio",
    "near_dead_ratio", "deaths", "revivals", "silent_ratio", "sparsity", "saturated_ratio", "mean_activation",
    "effective_rank", "grad_norm", "first_grad_norm",
)  # fmt: skip
HEALTH_METRICS = (
    "dead_ratio", "born_dead_ratio", "deaths", "revivals", "near_dead_ratio", "silent_ratio", "dormant_0.1_ratio",
    "saturated_ratio", "sparsity",
)  # fmt: skip
_HEAT_METRICS = ("test_accuracy", "dead_ratio")
_SHADES = 9  # of a heat map; page.css has a colour for each


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

    Raises UsageError if they cannot be compared so. The page lists what cannot be read.
    """
    reader = _Reader(runs, [str(problem) for problem in problems])
    rows = select([run.row for run in runs], filter)
    found = comparison.compare(rows, by=by, baseline=baseline, metrics=metrics, curve=reader.epochs)
    columns, table = tables.comparison_table(found)
    columns = [column for column in columns if column.needed < tables.REPEATED]  # the label contains the others
    _, raw = tables.comparison_table(found, raw=True)
    places = {(row.label, row.dataset): i for i, row in enumerate(found.rows)}
    grouping = group_runs(rows, by)
    groups = sorted(grouping.groups, key=lambda group: places.get((group.label, group.dataset), len(places)))
    several = len({group.dataset for group in groups}) > 1
    labels = [f"{group.label} ({group.dataset})" if several else group.label for group in groups]
    labelled = list(zip(labels, groups, strict=True))
    return Page(
        title=title or _title(groups, found.baseline),
        version=actbench.__version__,
        facts=_facts(rows, groups),
        columns=columns,
        rows=table,
        sort_keys=[_sort_keys(columns, row) for row in raw],
        footnotes=found.footnotes,
        baseline=found.baseline,
        data={
            "groups": [{"label": label, "runs": len(group.runs)} for label, group in labelled],
            "curves": _curves(grouping, groups, reader.epochs),
        },
        health_columns=[(METRICS[name].heading, METRICS[name].doc) for name in HEALTH_METRICS],
        health_rows=[[label, *_health(group, grouping, reader.epochs)] for label, group in labelled],
        heat_tables=list(_heat_tables(rows, groups)),
        activations=_activations(variant for variant in map(reader.variant, rows) if variant is not None),
        neurons=_neurons(groups, found.baseline, reader),
        variants=[_variant_facts(group, reader) for group in groups],
        provenance=_provenance(runs),
        unfinished=[row for row in rows if row["status"] != "done"],
        problems=list(dict.fromkeys(reader.problems)),
        claims=claims,
    )


class _Reader:
    """Reads the files of runs, each once; a damaged file becomes one of the `problems`."""

    def __init__(self, runs: Sequence[StoredRun], problems: list[str]) -> None:
        self.problems = problems
        self._runs = {run.run_id: run for run in runs}
        self._known: dict[tuple[str, str], Any] = {}

    def _read(self, what: str, row: Row, read: Callable[[StoredRun], Any], otherwise: Any) -> Any:
        run = self._runs[str(row["run_id"])]
        if (what, run.run_id) not in self._known:
            try:
                self._known[what, run.run_id] = read(run)
            except ActbenchError as error:
                self.problems.append(str(error))
                self._known[what, run.run_id] = otherwise
        return self._known[what, run.run_id]

    def epochs(self, row: Row) -> Sequence[Row]:
        return self._read("epochs", row, lambda run: run.epochs(), [])  # type: ignore[no-any-return]

    def variant(self, row: Row) -> Variant | None:
        def read(run: StoredRun) -> Variant:
            run.config_yaml()  # checks its checksum
            return config.load(run.folder / CONFIG).variant

        return self._read("config", row, read, None)  # type: ignore[no-any-return]

    def galleries(self, row: Row) -> list[Gallery]:
        def read(run: StoredRun) -> list[Gallery]:
            weights, units = run.weights().get(FIRST_LAYER), run.neurons()
            return [
                (one.heading, [(unit["unit"], _caption(unit), picture) for unit, picture in one.pictured])
                for one in (galleries(units, weights) if units else [])
            ]

        return self._read("neurons", row, read, [])  # type: ignore[no-any-return]


def _caption(unit: Row) -> str:
    if unit["dead"]:
        return "born dead" if unit["died_in"] == 0 else f"died in epoch {unit['died_in']}"
    rate = number(unit.get("firing_rate"))
    return "" if rate is None else f"fires for {rate:.0%}"


def _title(groups: Sequence[Group], baseline: str) -> str:
    others = [label for label in dict.fromkeys(group.label for group in groups) if label != baseline]
    if not others:
        return baseline
    return f"{baseline} and {others[0]}" if len(others) == 1 else f"{baseline} and {len(others)} others"


def _facts(rows: Sequence[Row], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Return names and values for the head of the page."""
    counts = {status: sum(row["status"] == status for row in rows) for status in OUTCOMES}
    ended = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    return [
        ("variants", str(len(groups))),
        ("runs", f"{len(rows)} ({ended})"),
        ("seeds", str(len({row["seed"] for row in rows}))),
        ("data", ", ".join(sorted({str(row["dataset"]) for row in rows}))),
        ("epochs", ", ".join(map(str, sorted({int(row["epochs"]) for row in rows if isinstance(row["epochs"], int)})))),
    ]


def _sort_keys(columns: Sequence[Column], raw: Mapping[str, Any]) -> list[float | str]:
    """Return what orders each cell of a row: its number if it has one, else its text."""
    keys: list[float | str] = []
    for column in columns:
        name = column.key.replace(":p", "_adjusted_p").replace(":", "_")
        value = raw.get(name, raw.get(f"{name}_mean"))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        keys.append(float(value) if is_number else "" if value is None else str(value))
    return keys


def _curves(grouping: Grouping, groups: Sequence[Group], epochs: Curve) -> dict[str, Any]:
    """Return the means, intervals and seeds of every metric that was recorded, with fractions in percent."""
    lines = [line for group in groups for row in group.runs for line in epochs(row)]
    found = {}
    for name in CURVE_METRICS:
        if any(number(line.get(name)) is not None for line in lines):
            metric, measured = METRICS[name], measure(grouping, epochs, name)
            scale = 100 if metric.kind == "fraction" else 1
            drawn = [_lines(group, measured, scale) for group in groups]
            about = " ".join([metric.doc + ".", *notes_on_breaks([measured])])
            found[name] = {"title": metric.heading, "about": about, "unit": UNITS[metric.kind], "groups": drawn}
    return found


def _lines(group: Group, measured: LearningCurves, scale: int) -> dict[str, Any]:
    """Return a group's lines, of points (epoch, mean, low, high, n), and the points (epoch, value) of each run."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else float(f"{value * scale:.5g}")

    means, seeds = measured.means.get(id(group), []), dict[str, list[Any]]()
    for row in measured.runs.get(id(group), []):
        seeds.setdefault(row["run"], []).append([row["epoch"], scaled(row["value"])])
    lines = dict[str, list[Any]]()
    for row in means:
        point = [row["epoch"], *(scaled(row[key]) for key in ("mean", "low", "high")), row["n"]]
        lines.setdefault(row["line"], []).append(point)
    return {"lines": list(lines.values()), "seeds": list(seeds.values())}


def _health(group: Group, grouping: Grouping, epochs: Curve) -> list[str]:
    """Return the means of a variant's neuron health over its seeds."""
    cells = []
    for name in HEALTH_METRICS:
        metric = quantity(name, columns_of(group.runs))
        mean = value_of(group, metric, epochs, tuple(grouping.mixed)).mean
        cells.append("" if mean is None else tables.SHOW[metric.kind](mean))
    return cells


def _heat_tables(rows: Sequence[Row], groups: Sequence[Group]) -> Iterator[HeatTable]:
    """Yield accuracy and dead units by two settings, if just two vary and most of their combinations were run."""
    keys = [key for key in SETTINGS if key not in ("name", "dataset")]
    settings = varying([row for group in groups for row in group.runs], keys)
    if len(settings) != 2 or len({row["dataset"] for row in rows}) > 1:
        return
    (down, downs), (across, acrosses) = settings.items()
    for name in _HEAT_METRICS:
        try:
            found = heat_cells(rows, (down, across), name)
        except UsageError:  # no run has this metric
            continue
        cells = {(cell["down"], cell["across"]): _heat_cell(found, cell) for cell in found.cells}
        if 2 * len(cells) > len(downs) * len(acrosses):
            names = tuple(map(value_text, downs)), tuple(map(value_text, acrosses))
            grid = tuple(tuple(cells.get((r, c)) for c in acrosses) for r in downs)
            yield HeatTable(METRICS[name].heading, down, across, *names, grid)


def _heat_cell(found: HeatCells, cell: Mapping[str, Any]) -> HeatCell:
    runs = plural(cell["runs"], "run") + f", {cell['diverged']} diverged" * bool(cell["diverged"])
    if cell["mean"] is None:
        return cell["text"], None, runs
    text = tables.show_fraction(cell["mean"]) + "*" * bool(cell["diverged"])
    return text, round((_SHADES - 1) * found.share(cell["mean"])), runs


def _activations(variants: Iterable[Variant]) -> list[str]:
    """Return a drawing of each distinct activation as SVG, in the colours of the page."""
    chains = {str(variant.flat()["activation"]): variant.activation for variant in variants}
    drawn = []
    for i, chain in enumerate(chains.values()):
        svg = figures.render(draw_shape(chain), "svg", theme="page").decode()
        drawn.append(re.sub(r'(id="|url\(#)', rf"\1activation{i}-", svg))  # ids must be unique in the page
    return drawn


def _neurons(groups: Sequence[Group], baseline: str, reader: _Reader) -> list[UnitPictures]:
    """Return the baseline's first run, and the run with the most dead units if that is another one."""
    done = [(group.label, row) for group in groups for row in group.runs if row["status"] == "done"]
    chosen = [(label, row) for label, row in done if label == baseline][:1]
    chosen += sorted(done, key=lambda pair: -float(pair[1].get("dead_ratio") or 0))[:1]
    unique = {str(row["run_id"]): (label, row) for label, row in chosen}
    pictured = [UnitPictures(label, run_id, reader.galleries(row)) for run_id, (label, row) in unique.items()]
    return [one for one in pictured if one.galleries]


def _variant_facts(group: Group, reader: _Reader) -> VariantFacts:
    runs = sorted((*group.runs, *group.failed), key=lambda row: int(row["seed"]))
    variants = dict.fromkeys(variant for variant in map(reader.variant, runs) if variant is not None)
    seeds = sorted({int(row["seed"]) for row in runs})
    texts = [config.to_yaml(variant, seeds) for variant in variants]
    return VariantFacts(group.label, str(group.dataset), "---\n".join(texts), tuple(runs))


def _provenance(runs: Iterable[StoredRun]) -> list[tuple[str, str]]:
    """Return what the runs were trained by and on: every value that occurs, with counts if there are several."""
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in run.provenance.items():
            if key not in ("started_at", "ended_at"):
                counts.setdefault(key, Counter())[str(value)] += 1
    starts = sorted(str(run.provenance["started_at"]) for run in runs if "started_at" in run.provenance)
    facts = [
        (key.replace("_", " "), ", ".join(t if len(texts) == 1 else f"{t} ({n} runs)" for t, n in texts.items()))
        for key, texts in counts.items()
    ]
    return facts + ([("trained", f"{starts[0]} to {starts[-1]}")] if starts else [])
