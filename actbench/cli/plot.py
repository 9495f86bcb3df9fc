"""The command that draws: plot (layer 5). `figures` makes the charts; here is what reads for them and writes them."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from actbench import figures
from actbench.activations import ACTIVATIONS, check_chain
from actbench.cli import completion
from actbench.cli.console import Streams, say_problems, streams
from actbench.cli.options import ResultsOption
from actbench.comparison.groups import select
from actbench.comparison.quantities import Curve, Row
from actbench.config import Choice, parse_value
from actbench.config.choices import CHAIN
from actbench.config.rules import BadValueError
from actbench.errors import ConfigError, Problem, StoreError, UsageError
from actbench.store import files
from actbench.store.read import read_results, read_rows
from actbench.store.run import MODEL, RESULT
from actbench.text import readable

COST_LIMIT = 4 * 2**20
FIRST_LAYER = "hidden.0.weight"
_WITH_PARAMETERS = re.compile(r"\s*([a-z0-9_]+)\s*\((.*)\)\s*", re.DOTALL)


class Kind(StrEnum):
    """What `plot` can draw."""

    activations = "activations"
    curves = "curves"
    dead = "dead"
    heatmap = "heatmap"
    neurons = "neurons"
    landscape = "landscape"
    cost = "cost"


class Paper(StrEnum):
    """What the picture is drawn on."""

    light = "light"
    dark = "dark"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; None and False where it says nothing."""

    paths: Sequence[str]
    results: Path
    metric: str | None
    by: Sequence[str] | None
    condition: str | None
    rows: str | None
    cols: str | None
    activation: Sequence[str]
    log: bool
    free_y: bool


_TAKES = {
    "--metric": ("metric", {Kind.curves, Kind.heatmap, Kind.landscape}),
    "--by": ("by", {Kind.curves, Kind.dead, Kind.landscape}),
    "--filter": ("condition", {Kind.curves, Kind.dead, Kind.heatmap, Kind.landscape, Kind.neurons}),
    "--rows": ("rows", {Kind.heatmap}),
    "--cols": ("cols", {Kind.heatmap}),
    "--activation": ("activation", {Kind.activations}),
    "--log": ("log", {Kind.curves}),
    "--free-y": ("free_y", {Kind.curves}),
    "PATH": ("paths", set(Kind) - {Kind.activations}),
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plot")(plot)


def plot(
    kind: Annotated[Kind, typer.Argument(help="What to draw.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The picture; it ends in .svg, .png, .pdf or .html.")
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Results folders, run folders, ids, CSV files or globs; for cost, what `actbench cost --json` wrote.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", "-m", metavar="M", help="curves, heatmap, landscape: which.", autocompletion=completion.metric
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="KEY,...",
            help="The first key makes lines, the others panels; by default all settings.",
            autocompletion=completion.key,
        ),
    ] = None,
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help='Keep these runs: "lr <= 0.01 and seed < 5".')
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="KEY", help="heatmap: the key of its rows.", autocompletion=completion.key),
    ] = None,
    cols: Annotated[
        str | None,
        typer.Option("--cols", metavar="KEY", help="heatmap: the key of its columns.", autocompletion=completion.key),
    ] = None,
    activation: Annotated[
        list[str] | None,
        typer.Option(
            "--activation", "-a", metavar="NAME", help='activations: which, such as gelu or "elu(alpha=2)"; repeatable.'
        ),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="curves: a logarithmic axis.")] = False,
    free_y: Annotated[bool, typer.Option("--free-y", help="curves: an axis of its own for every panel.")] = False,
    theme: Annotated[
        Paper, typer.Option("--theme", help="Colours for light or dark paper; html follows its reader.")
    ] = (Paper.light),
    results: ResultsOption = Path("results"),
) -> None:
    """Draw activations, learning curves, dead units, heat maps, neurons or costs as svg, png, pdf or html.

    Example: actbench plot curves results --filter "lr == 0.001" -o curves.svg
    """
    keys = [part.strip() for part in by.split(",") if part.strip()] if by is not None else None
    asked = Asked(paths or [], results, metric, keys, condition, rows, cols, activation or [], log, free_y)
    for name, (field, kinds) in _TAKES.items():
        if getattr(asked, field) not in (None, False, []) and kind not in kinds:
            raise UsageError(f"plot {kind.value} takes no {name}; that is for {', '.join(sorted(kinds))}")
    ending = _check_output(output)
    to = streams()
    chart = _DRAWN[kind](asked, to)
    files.write_bytes(output, figures.render(chart, ending, theme=theme.value))
    to.result(readable(str(output)))


def _check_output(output: Path) -> str:
    """Return the ending of the file to write; raise UsageError where it cannot be written."""
    try:
        ending = figures.check_ending(output.suffix)
    except UsageError as error:
        raise UsageError(f"-o {readable(str(output))}: {error}") from None
    if output.is_dir():
        raise UsageError(f"-o {readable(str(output))}: is a folder; name a file in it")
    if not output.parent.is_dir():
        raise UsageError(
            f"-o {readable(str(output))}: the folder {readable(str(output.parent))} is not there; make it first"
        )
    return ending


def _chains(texts: Sequence[str]) -> list[tuple[Choice, ...]]:
    """Read activations as a config writes them, and as tables show them: `elu(alpha=2)`."""
    problems, found = [], []
    for text in texts:
        source = readable(f"--activation {text}")
        shown = _WITH_PARAMETERS.fullmatch(text)
        yaml = f"{{name: {shown[1]}, {shown[2].replace('=', ': ')}}}" if shown else text
        try:
            chain = CHAIN.check(parse_value(yaml, source))
            check_chain([(ACTIVATIONS[choice.name], choice.params) for choice in chain])
            found.append(chain)
        except BadValueError as bad:
            problems += [Problem(source, ": ".join([*map(str, flaw.path), flaw.message])) for flaw in bad.flaws]
        except UsageError as error:
            problems += error.problems if isinstance(error, ConfigError) else [Problem(source, str(error))]
    if problems:
        raise ConfigError(problems)
    return found


def _read(asked: Asked, to: Streams) -> tuple[list[Row], Curve]:
    """Return the rows of the runs that are asked for, and what gives the epochs of one of them."""
    read = read_rows(_paths(asked), asked.results)
    say_problems(to, read.problems)
    return select(read.rows, asked.condition), _tolerant(read.epochs, to)


def _paths(asked: Asked) -> list[str]:
    return [found for path in asked.paths for found in _run_folders(path, asked.results)]


def _run_folders(path: str, results: Path) -> list[str]:
    """Return the folders of the runs in `results` whose ids begin with `path`, if that is no path by itself."""
    if Path(path).exists() or "/" in path or any(sign in path for sign in "*?["):
        return [path]
    return sorted(str(found.parent) for found in results.glob(f"{glob.escape(path)}*/{RESULT}")) or [path]


def _tolerant(epochs: Curve, to: Streams) -> Curve:
    """Read a run's epochs once; a damaged file is said, and left out."""
    known: dict[int, Sequence[Row]] = {}

    def read(row: Row) -> Sequence[Row]:
        if id(row) not in known:
            try:
                known[id(row)] = epochs(row)
            except StoreError as error:
                to.note(f"left out {error}")
                known[id(row)] = []
        return known[id(row)]

    return read


def _activations(asked: Asked, to: Streams) -> figures.Chart:
    return figures.activations(_chains(asked.activation))


def _curves(asked: Asked, to: Streams) -> figures.Chart:
    metric = asked.metric or "test_accuracy"
    return figures.curves(*_read(asked, to), metric, by=asked.by, log=asked.log, free=asked.free_y)


def _dead(asked: Asked, to: Streams) -> figures.Chart:
    return figures.dead(*_read(asked, to), by=asked.by)


def _heatmap(asked: Asked, to: Streams) -> figures.Chart:
    rows, curve = _read(asked, to)
    return figures.heatmap(rows, asked.rows, asked.cols, asked.metric or "dead_ratio", curve=curve)


def _landscape(asked: Asked, to: Streams) -> figures.Chart:
    rows, curve = _read(asked, to)
    return figures.landscape(rows, by=asked.by, y=asked.metric or "test_accuracy", curve=curve)


def _neurons(asked: Asked, to: Streams) -> figures.Chart:
    found, problems = read_results(_paths(asked), asked.results)
    say_problems(to, problems)
    kept = {id(row) for row in select([run.row for run in found], asked.condition)}
    runs = [run for run in found if id(run.row) in kept]
    if len(runs) != 1:
        some = ", ".join(run.run_id for run in runs[:4]) + (", ..." if len(runs) > 4 else "")
        raise UsageError(f"plot neurons draws one run, got {len(runs)} ({some}); name one, or narrow with --filter")
    (run,) = runs
    weights = run.weights().get(FIRST_LAYER) if MODEL in run.files else None
    return figures.neurons(run.row, run.neurons(), weights)


def _cost(asked: Asked, to: Streams) -> figures.Chart:
    if len(asked.paths) != 1:
        raise UsageError(
            "plot cost draws one file: actbench cost --json > cost.json; actbench plot cost cost.json -o ..."
        )
    source = readable(asked.paths[0])
    try:
        found: Any = files.load_json(files.read_bytes(asked.paths[0], COST_LIMIT))
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{source}: is not what `actbench cost --json` prints: {error}") from None
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f'{source}: is not what `actbench cost --json` prints: it has no list of "rows"')
    try:
        return figures.cost(rows, found)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


_DRAWN: Mapping[Kind, Callable[[Asked, Streams], figures.Chart]] = {
    Kind.activations: _activations,
    Kind.curves: _curves,
    Kind.dead: _dead,
    Kind.heatmap: _heatmap,
    Kind.neurons: _neurons,
    Kind.landscape: _landscape,
    Kind.cost: _cost,
}
