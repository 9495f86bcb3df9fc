"""The command that writes the report: report (layer 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from actbench.cli import completion
from actbench.cli.console import say_problems, streams
from actbench.cli.options import ResultsOption
from actbench.errors import UsageError
from actbench.store import Store, files
from actbench.store.read import read_results
from actbench.text import split_commas


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report")(report)


def report(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Results folders, run folders or globs.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.")] = Path(
        "report.html"
    ),
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="KEY,...", help="What makes a row; by default all settings.", autocompletion=completion.key
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="V", help="The row that others are compared with.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option("--metric", "-m", metavar="M,...", help="Metrics to compare.", autocompletion=completion.metric),
    ] = "test_accuracy",
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help='Keep these runs: "lr <= 0.01 and seed < 5".')
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The page's title.")] = "",
    results: ResultsOption = Path("results"),
) -> None:
    """Write one self-contained HTML page about runs: comparison, curves, dead neurons, configs. It needs no network.

    Example: actbench report results --by activation --baseline relu -o report.html
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the report is an HTML page; name a file that ends in .html")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    from actbench import report as pages  # imports what takes longer than to find a mistake in the options
    from actbench.claims.writeup import stored_verdicts

    to = streams()
    runs, problems = read_results(paths or [], results)
    say_problems(to, problems)
    page = pages.gather(
        runs,
        problems,
        title=title,
        by=split_commas(by),
        baseline=baseline,
        metrics=split_commas(metric) or (),
        filter=condition,
        claims=[row for folder in _folders(paths or [], results) for row in stored_verdicts(Store(folder))],
    )
    with files.explained("write", output):
        files.write_bytes(output, pages.render(page).encode())
    to.note(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB): {len(runs)} runs")


def _folders(paths: Sequence[str], results: Path) -> list[Path]:
    """The results folder whose claims are shown: there is a verdict only where all runs lie in one."""
    found = [Path(path) for path in paths] or [results]
    return [folder for folder in found if (folder / "runs.csv").is_file()] if len(found) == 1 else []
