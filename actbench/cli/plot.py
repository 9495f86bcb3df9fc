"""The commands `plot CHART`: each reads what one chart of `figures` needs, draws it and writes one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from actbench import figures
from actbench.cli import completion, options
from actbench.cli.console import Streams, streams
from actbench.comparison.groups import select
from actbench.comparison.quantities import Curve
from actbench.errors import StoreError, UsageError
from actbench.figures.neurons import FIRST_LAYER
from actbench.store import files
from actbench.store.csv import Row
from actbench.store.read import begun_by, read_results, read_rows
from actbench.store.run import MODEL, RESULT
from actbench.text import split_commas

COST_LIMIT = 4 * 2**20

app = typer.Typer(
    name="plot",
    help="Draw a chart of stored runs. Each chart has its own options: actbench plot CHART --help.",
    no_args_is_help=True,
)


def _writable(output: Path) -> Path:
    """Check the picture's name before anything is read or drawn."""
    try:
        figures.check_ending(output.suffix)
    except UsageError as error:
        raise UsageError(f"-o {output}: {error}") from None
    if files.is_folder(output):
        raise UsageError(f"-o {output}: this is a folder; name a file in it")
    if not files.is_folder(output.parent):
        raise UsageError(f"-o {output}: folder {output.parent} does not exist; create it first")
    return output


Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Picture to write: .svg, .png, .pdf or .html.",
        parser=options.path,
        callback=_writable,
    ),
]
Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Results folders, run folders, run ids, CSV files like runs.csv, or globs."),
]
Theme = Annotated[
    Literal["light", "dark"],
    typer.Option(
        "--theme",
        metavar="light|dark",
        help="Colours for a light or dark page; html follows its reader's setting.",
    ),
]
Metric = Annotated[
    str, typer.Option("--metric", "-m", metavar="M", help="Metric to draw.", autocompletion=completion.metric)
]


@app.command()
def activations(
    output: Output,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--activation", "-a", metavar="NAME", help='Such as gelu or "elu(alpha=2)" (repeatable). Default: all.'
        ),
    ] = None,
    theme: Theme = "light",
) -> None:
    """Draw the shapes and slopes of activation functions.

    Example: actbench plot activations -a relu -a "elu(alpha=2)" -o shapes.svg
    """
    _write(output, theme, figures.activations(options.activation_chains(names or [])))


@app.command()
def curves(
    output: Output,
    paths: Paths = None,
    metric: Metric = "test_accuracy",
    by: options.By = None,
    condition: options.Filter = None,
    log: Annotated[bool, typer.Option("--log", help="Use a logarithmic axis.")] = False,
    free_y: Annotated[bool, typer.Option("--free-y", help="Give every panel its own axis.")] = False,
    theme: Theme = "light",
    results: options.Results = options.RESULTS,
) -> None:
    """Draw learning curves: a metric over the epochs. The first key of --by makes lines, the others make panels.

    Example: actbench plot curves results --filter "lr == 0.001" -o curves.svg
    """
    rows, epochs = _rows(paths, results, condition)
    _write(output, theme, figures.curves(rows, epochs, metric, by=split_commas(by), log=log, free=free_y))


@app.command()
def dead(
    output: Output,
    paths: Paths = None,
    by: options.By = None,
    condition: options.Filter = None,
    theme: Theme = "light",
    results: options.Results = options.RESULTS,
) -> None:
    """Draw the share of dead units over the epochs.

    Example: actbench plot dead results --by activation -o dead.svg
    """
    rows, epochs = _rows(paths, results, condition)
    _write(output, theme, figures.dead(rows, epochs, by=split_commas(by)))


@app.command()
def heatmap(
    output: Output,
    paths: Paths = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="KEY", help="Key of the rows.", autocompletion=completion.key)
    ] = None,
    cols: Annotated[
        str | None, typer.Option("--cols", metavar="KEY", help="Key of the columns.", autocompletion=completion.key)
    ] = None,
    metric: Metric = "dead_ratio",
    condition: options.Filter = None,
    theme: Theme = "light",
    results: options.Results = options.RESULTS,
) -> None:
    """Draw the mean of a metric for every pair of settings.

    Example: actbench plot heatmap results --rows activation --cols lr -o heatmap.svg
    """
    stored, epochs = _rows(paths, results, condition)
    _write(output, theme, figures.heatmap(stored, rows, cols, metric, curve=epochs))


@app.command()
def landscape(
    output: Output,
    paths: Paths = None,
    metric: Metric = "test_accuracy",
    by: options.By = None,
    condition: options.Filter = None,
    theme: Theme = "light",
    results: options.Results = options.RESULTS,
) -> None:
    """Draw a metric against the share of dead units.

    Example: actbench plot landscape results --by activation -o landscape.svg
    """
    rows, epochs = _rows(paths, results, condition)
    _write(output, theme, figures.landscape(rows, by=split_commas(by), y=metric, curve=epochs))


@app.command()
def neurons(
    output: Output,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Run id, its beginning, or run folder.", autocompletion=completion.run_id),
    ] = None,
    condition: options.Filter = None,
    theme: Theme = "light",
    results: options.Results = options.RESULTS,
) -> None:
    """Draw the hidden units of one run. A results folder works too if --filter leaves one run.

    Example: actbench plot neurons relu-s0 -o neurons.svg
    """
    to = streams()
    found, problems = read_results(_with_run_ids(paths, results), results)
    to.skipped(problems)
    kept = {id(row) for row in select([run.row for run in found], condition)}
    runs = [run for run in found if id(run.row) in kept]
    if len(runs) != 1:
        some = ", ".join(run.run_id for run in runs[:4]) + (", ..." if len(runs) > 4 else "")
        raise UsageError(f"plot neurons draws one run, got {len(runs)} ({some}); name one, or narrow with --filter")
    (run,) = runs
    weights = run.weights().get(FIRST_LAYER) if MODEL in run.files else None
    _write(output, theme, figures.neurons(run.row, run.neurons(), weights))


@app.command()
def cost(
    output: Output,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `actbench cost --format json` printed.")],
    theme: Theme = "light",
) -> None:
    """Draw what activation functions cost.

    The chart shows the time per element and the share of a training step.

    Write FILE first with: actbench cost --format json > cost.json

    Example: actbench plot cost cost.json -o cost.svg
    """
    try:
        found: Any = files.load_json(files.read_bytes(file, COST_LIMIT))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{file}: not the output of `actbench cost --format json`: {error}") from None
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f'{file}: not the output of `actbench cost --format json`: it has no list of "rows"')
    try:
        chart = figures.cost(rows, found)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    _write(output, theme, chart)


def _write(output: Path, theme: figures.Theme, chart: figures.Chart) -> None:
    files.write_bytes(output, figures.render(chart, figures.check_ending(output.suffix), theme=theme))
    streams().result(str(output))


def _rows(paths: Sequence[str] | None, results: Path, condition: str | None) -> tuple[list[Row], Curve]:
    """Return the rows of the selected runs, and a function that gives the epochs of one of them."""
    to = streams()
    read = read_rows(_with_run_ids(paths, results), results)
    to.skipped(read.problems)
    return select(read.rows, condition), _tolerant(read.epochs, to)


def _with_run_ids(paths: Sequence[str] | None, results: Path) -> list[str]:
    """Replace what is not a path, but the beginning of run ids in `results`, by the folders of these runs."""
    return [found for path in paths or [] for found in _run_folders(path, results)]


def _run_folders(path: str, results: Path) -> list[str]:
    if files.exists(path) or "/" in path or any(sign in path for sign in "*?["):
        return [path]
    folders = [results / run_id for run_id in begun_by(path, results)]
    return [str(folder) for folder in folders if files.exists(folder / RESULT)] or [path]


def _tolerant(epochs: Curve, to: Streams) -> Curve:
    """Read the epochs of each run once; report a damaged file and leave the run out."""
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
