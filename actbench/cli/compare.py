"""The command compare: one row per variant, paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from actbench import comparison, tables
from actbench.cli import completion, junit, options
from actbench.cli.console import Streams, streams
from actbench.comparison import Comparison, ComparisonRow
from actbench.errors import CheckFailed, UsageError
from actbench.store.read import read_rows
from actbench.text import split_commas


def compare(
    paths: options.Paths = None,
    by: options.By = None,
    baseline: options.Baseline = None,
    metric: options.Metrics = "test_accuracy",
    condition: options.Filter = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="M",
            help="Column to sort by: a metric, n, diverged, name, p or difference; -M reverses the order.",
            autocompletion=completion.metric,
        ),
    ] = None,
    epoch: options.Epoch = None,
    tune: options.Tune = None,
    equivalence: Annotated[
        float | None,
        typer.Option("--equivalence", metavar="M", help="Margin within which two variants count as equivalent."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", callback=options.within(comparison.TOP), help="Show only the first N rows."),
    ] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="Hide columns in which all values are the same.")
    ] = False,
    fail_if: Annotated[
        str | None,
        typer.Option(
            "--fail-if",
            metavar="EXPR",
            help="Exit with 1 if a row meets this condition on means and significant differences: "
            '"test_accuracy < 0.97 or diff(test_accuracy) < -0.005".',
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --fail-if: exit with 1 also if the runs do not decide a row.")
    ] = False,
    junit_file: junit.File = None,
    output: options.Format = "table",
    wide: options.Wide = False,
    results: options.Results = options.RESULTS,
) -> None:
    """Compare variants, paired by seed.

    Prints one row per variant: means with intervals, differences from the baseline, dead neurons and time.

    Example: actbench compare results --by activation --baseline relu --metric test_accuracy,dead_ratio
    """
    if strict and fail_if is None:
        raise UsageError("--strict needs a condition that the runs may not decide; add --fail-if")
    if junit_file is not None and fail_if is None:
        raise UsageError("--junit writes the outcome of a check; add --fail-if")
    to = streams(wide=wide)
    read = read_rows(paths or [], results)
    to.skipped(read.problems)
    found = comparison.compare(
        read.rows,
        by=split_commas(by),
        baseline=baseline,
        metrics=split_commas(metric) or (),
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
        comparison.failing(found, fail_if)  # refuses a condition with a mistake before anything is printed
    if output == "table":
        _show(to, found)
    else:
        to.document(tables.write_comparison(found, output))
    if fail_if is not None:
        _check(to, found, fail_if, junit_file, strict=strict)


def _show(to: Streams, found: Comparison) -> None:
    columns, rows = tables.comparison_table(found)
    kept = tables.fitting(columns, rows, width=to.out.width, ascii_only=to.ascii_only)
    to.table(kept, rows, found.footnotes)
    hidden = [column.heading for column in columns if column not in kept and any(column.text(row) for row in rows)]
    if hidden:
        names = ", ".join(dict.fromkeys(hidden))
        to.note(f"hidden, because the table is wider than {to.out.width} columns: {names}; to show all: --wide")


def _check(to: Streams, found: Comparison, condition: str, junit_file: Path | None, *, strict: bool) -> None:
    """Raise `CheckFailed` if a row meets the condition, and with `strict`, if the runs do not decide one."""
    check = f'--fail-if "{condition}"'

    def named(rows: Sequence[ComparisonRow]) -> str:
        several = "dataset" in found.columns
        return ", ".join(f"{row.label} on {row.dataset}" if several else row.label for row in rows)

    failing, undecided = comparison.failing(found, condition), comparison.undecided(found, condition)
    if junit_file is not None:
        found_out: dict[int, tuple[junit.Outcome, str]] = {id(row): ("failure", f"{check} holds") for row in failing}
        undecided_is: junit.Outcome = "failure" if strict else "skipped"
        found_out |= {id(row): (undecided_is, "these runs do not decide it; train more seeds") for row in undecided}
        cases = [junit.Case(named([row]), *found_out.get(id(row), ("passed", ""))) for row in found.rows]
        junit.write(junit_file, check, cases)
    for row in undecided:
        to.note(f"--fail-if: {named([row])} may meet the condition, but these runs do not decide it")
    if failing:
        raise CheckFailed(f"{check} holds for: {named(failing)}")
    if undecided and strict:
        raise CheckFailed(f"{check} is not decided for: {named(undecided)}; train more seeds")
