"""The command compare: variants compared, paired by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actbench import comparison, tables
from actbench.cli import completion
from actbench.cli.console import Streams, say_problems, streams
from actbench.cli.options import JsonOption, ResultsOption
from actbench.comparison import Comparison, Pivot
from actbench.errors import CheckFailed, UsageError
from actbench.store.read import read_rows
from actbench.tables import FORMATS
from actbench.text import readable, readable_lines, split_commas


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("compare")(compare)


def compare(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Results folders, run folders, CSV files like runs.csv, or globs."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="KEY,...",
            help="What makes a row; by default all settings.",
            autocompletion=completion.key,
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="V", help="The row that others are compared with.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            "-m",
            metavar="M,...",
            help="Metrics, also epochs_to:test_accuracy>=0.97 and auc:M.",
            autocompletion=completion.metric,
        ),
    ] = "test_accuracy",
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help='Keep these runs: "lr <= 0.01 and seed < 5".')
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="M",
            help="Order by any column: a metric, n, diverged, name, p, difference; -M turns it round.",
            autocompletion=completion.metric,
        ),
    ] = None,
    down: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="KEY,...",
            help="With --cols: a pivot, this setting down, the metric in the cells.",
            autocompletion=completion.key,
        ),
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            "--cols", metavar="KEY,...", help="With --rows: this setting across.", autocompletion=completion.key
        ),
    ] = None,
    epoch: Annotated[int | None, typer.Option("--epoch", min=0, help="Compare after this epoch.")] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            "--tune",
            metavar="KEY",
            help="Take each row at its best KEY, by validation accuracy.",
            autocompletion=completion.key,
        ),
    ] = None,
    equivalence: Annotated[
        float | None, typer.Option("--equivalence", metavar="M", help="Margin within which rows are equivalent.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", metavar="N", min=1, help="Show the first N rows.")] = None,
    only_changed: Annotated[bool, typer.Option("--only-changed", help="Hide columns with one value.")] = False,
    fail_if: Annotated[
        str | None,
        typer.Option(
            "--fail-if", metavar="EXPR", help='Exit 1 if a significant difference meets it: "test_accuracy < -0.005".'
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="table|md|latex|csv|json",
            help="How to print it.",
            autocompletion=completion.format_name,
        ),
    ] = "table",
    as_json: JsonOption = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Compare variants, paired by seed: accuracy with intervals, differences to a baseline, dead neurons, time.

    Example: actbench compare results --by activation --baseline relu --metric test_accuracy,dead_ratio
    """
    output = "json" if as_json else output
    if output != "table":
        FORMATS[output]  # an unknown format is refused before anything is read
    pivoted = down is not None or across is not None
    if pivoted:
        _refuse_beside_pivot(by=by, baseline=baseline, sort=sort, equivalence=equivalence, top=top,
                             only_changed=only_changed, fail_if=fail_if)  # fmt: skip
    to = streams()
    read = read_rows(paths or [], results)
    say_problems(to, read.problems)
    metrics = split_commas(metric) or ()
    if pivoted:
        crossed = comparison.pivot(
            read.rows,
            down=split_commas(down) or (),
            across=split_commas(across) or (),
            metrics=metrics,
            filter=condition,
            epoch=epoch,
            curve=read.epochs,
            tune=tune,
        )
        _show_pivot(to, crossed, output)
        return
    found = comparison.compare(
        read.rows,
        by=split_commas(by),
        baseline=baseline,
        metrics=metrics,
        filter=condition,
        sort=sort,
        epoch=epoch,
        curve=read.epochs,
        equivalence=equivalence,
        tune=tune,
        only_changed=only_changed,
        top=top,
    )
    if fail_if is not None:
        comparison.failing(found, fail_if)  # a condition that cannot be read is refused before anything is shown
    if output == "table":
        _show_comparison(to, found)
    else:
        _write(to, tables.write_comparison(found, output))
    if fail_if is not None:
        _check(to, found, fail_if)


def _refuse_beside_pivot(**options: object) -> None:
    """Refuse options that say something about differences to a baseline, which a pivot does not have."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise UsageError(f"--rows and --cols make a table of means, in which {given[0]} has no meaning; leave one out")


def _show_comparison(to: Streams, found: Comparison) -> None:
    columns, rows = tables.comparison_table(found)
    kept = tables.fitting(columns, rows, width=to.out.width, ascii_only=to.ascii_only)
    to.table(kept, rows, found.footnotes)
    gone = [column.heading for column in columns if column not in kept and column.needed < tables.ROOMY]
    if gone:
        to.note(f"left out, as {to.out.width} columns are too few: {', '.join(dict.fromkeys(gone))}")


def _show_pivot(to: Streams, crossed: Pivot, output: str) -> None:
    if output != "table":
        _write(to, tables.write_pivot(crossed, output))
        return
    columns, rows, naming = tables.pivot_table(crossed)
    parts = tables.blocks(columns, rows, naming, width=to.out.width, ascii_only=to.ascii_only)
    for i, part in enumerate(parts):
        if i:
            to.result("")
        to.table(part, rows, crossed.footnotes if part is parts[-1] else ())


def _write(to: Streams, text: str) -> None:
    # A file keeps a name's control characters, so that it reads back; a terminal must not obey them.
    to.result(readable_lines(text) if to.out.is_terminal else text)


def _check(to: Streams, found: Comparison, condition: str) -> None:
    for row in comparison.unproven(found, condition):
        to.note(f"--fail-if: {readable(row.label)} meets it or may, but the runs do not decide")
    failing = comparison.failing(found, condition)
    if failing:
        several = "dataset" in found.columns
        labels = ", ".join(readable(f"{row.label} on {row.dataset}" if several else row.label) for row in failing)
        raise CheckFailed(f'--fail-if "{condition}" holds for: {labels}')
