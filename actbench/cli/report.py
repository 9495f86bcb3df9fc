"""The command report: one HTML page about runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from actbench.cli import options
from actbench.cli.console import streams
from actbench.errors import UsageError
from actbench.store import Store, files
from actbench.store.read import read_results
from actbench.text import plural, split_commas


def report(
    paths: options.Folders = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="Page to write.", parser=options.path)
    ] = Path("report.html"),
    by: options.By = None,
    baseline: options.Baseline = None,
    metric: options.Metrics = "test_accuracy",
    condition: options.Filter = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Title of the page.")] = "",
    results: options.Results = options.RESULTS,
) -> None:
    """Write one HTML page about runs. It shows the comparison, curves, dead neurons and configs, and needs no network.

    Example: actbench report results --by activation --baseline relu -o report.html
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the report is an HTML page; name a file that ends in .html")
    if not files.is_folder(output.parent):
        raise UsageError(f"--output {output}: folder {output.parent} does not exist; create it first")
    from actbench.claims.writeup import stored_verdicts  # slow to import: not needed to find a mistake in the options
    from actbench.report import render
    from actbench.report.gather import gather

    to = streams()
    runs, problems = read_results(paths or [], results)
    to.skipped(problems)
    page = gather(
        runs,
        problems,
        title=title,
        by=split_commas(by),
        baseline=baseline,
        metrics=split_commas(metric) or (),
        filter=condition,
        claims=[row for folder in _with_claims(paths or [], results) for row in stored_verdicts(Store(folder))],
    )
    with files.explained("write", output, "-o"):
        files.write_bytes(output, render(page).encode())
    to.note(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB): {plural(len(runs), 'run')}")


def _with_claims(paths: Sequence[str], results: Path) -> list[Path]:
    """Return the results folder whose claims the page shows; none unless all runs lie in that one folder."""
    found = [Path(path) for path in paths] or [results]
    return [folder for folder in found if (folder / "runs.csv").is_file()] if len(found) == 1 else []
