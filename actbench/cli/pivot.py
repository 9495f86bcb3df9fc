"""The command pivot: a grid of two settings with a metric in the cells."""

from __future__ import annotations

from typing import Annotated

import typer

from actbench import comparison, tables
from actbench.cli import completion, options
from actbench.cli.console import streams
from actbench.store.read import read_rows
from actbench.text import split_commas


def pivot(
    rows: Annotated[
        str,
        typer.Argument(metavar="ROWS", help="Key of the rows, or several with commas.", autocompletion=completion.key),
    ],
    cols: Annotated[
        str,
        typer.Argument(
            metavar="COLS", help="Key of the columns, or several with commas.", autocompletion=completion.key
        ),
    ],
    paths: options.Paths = None,
    metric: options.Metrics = "test_accuracy",
    condition: options.Filter = None,
    epoch: options.Epoch = None,
    tune: options.Tune = None,
    output: options.Format = "table",
    wide: options.Wide = False,
    results: options.Results = options.RESULTS,
) -> None:
    """Show a metric in a grid of two settings. Each cell has the mean over the seeds and its interval.

    Example: actbench pivot activation lr results --metric dead_ratio
    """
    to = streams(wide=wide)
    read = read_rows(paths or [], results)
    to.skipped(read.problems)
    found = comparison.pivot(
        read.rows,
        down=split_commas(rows) or (),
        across=split_commas(cols) or (),
        metrics=split_commas(metric) or (),
        filter=condition,
        epoch=epoch,
        curve=read.epochs,
        tune=tune,
    )
    if output != "table":
        to.document(tables.write_pivot(found, output))
        return
    columns, cells, naming = tables.pivot_table(found)
    blocks = tables.blocks(columns, cells, naming, width=to.out.width, ascii_only=to.ascii_only)
    for block in blocks:
        if block is not blocks[0]:
            to.result("")
        to.table(block, cells, found.footnotes if block is blocks[-1] else ())
