#!/usr/bin/env python3
"""Print the results of `actbench claims` as Markdown: the README's table (one row per claim), or all evidence.

Usage: .venv/bin/python scripts/claims_table.py [--evidence] [FOLDER]

FOLDER (default: results/reference) contains claims.json and, for --evidence, the runs in claims.csv.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actbench.tables import markdown_text

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


def table(study: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the README's table: each claim's verdicts, with the readings that got them."""
    yield "| | it is said that | what the runs say |"
    yield "| ---: | --- | --- |"
    for claim in study["claims"]:
        by_verdict: dict[str, list[str]] = {}
        for reading in claim["readings"]:
            by_verdict.setdefault(reading["verdict"].split(" with ")[0], []).append(markdown_text(reading["says"]))
        verdicts = "<br>".join(f"**{verdict}**: {'; '.join(says)}" for verdict, says in by_verdict.items())
        yield f"| {claim['id']} | {markdown_text(claim['claim'].removesuffix('.'))} | {verdicts} |"


def evidence(study: dict[str, Any], runs: list[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a page with every number: one section per claim, one row per part."""
    yield "# Claims and what the runs say"
    yield ""
    yield effort(runs)
    for claim in study["claims"]:
        yield ""
        yield f"## {claim['id']}. {claim['claim']}"
        yield ""
        yield f"Source: {claim['source']}. {claim['note']}".rstrip()
        yield ""
        yield "| reading | verdict | evidence |"
        yield "| --- | --- | --- |"
        for reading in claim["readings"]:
            says, verdict = markdown_text(reading["says"]), f"**{reading['verdict']}**"
            for part in reading["parts"]:
                its = f" **[{part['verdict']}]**" if len(reading["parts"]) > 1 else ""
                yield f"| {says} | {verdict} | {markdown_text(part['evidence'])}{its} |"
                says = verdict = ""
        yield from ladders(claim)
    yield ""
    for note in study["footnotes"]:
        yield f"- {note}"


def ladders(claim: dict[str, Any]) -> Iterator[str]:
    """Yield one line per ladder of a claim, with each arm's mean."""
    parts = [part for reading in claim["readings"] for part in reading["parts"]]
    lines = [(part["metric"], arms) for part in parts for arms in part["ladders"]]
    lines += [(one["metric"], one["arms"]) for reading in claim["readings"] for one in reading["also"]]
    for metric, arms in {json.dumps(line): line for line in lines}.values():
        shown = ", ".join(f"{one['arm']} {one['mean']:.4g}" for one in arms if one["mean"] is not None)
        yield ""
        yield f"`{metric}`: {markdown_text(shown)}"


def effort(runs: list[dict[str, str]]) -> str:
    """Return how many runs there are, and how long they trained."""
    epochs = sum(int(run["epochs_run"] or 0) for run in runs)
    seconds = sum(float(run["wall_s"] or 0) for run in runs)
    where = ", ".join(sorted({f"{run['device']}, torch {run['torch_version']}" for run in runs}))
    return f"{len(runs):,} runs, {epochs:,} epochs, {seconds / 3600:.1f} hours of one thread each ({where})."


def main() -> None:
    """Read the study and print the table or the page."""
    folders = [argument for argument in sys.argv[1:] if argument != "--evidence"]
    folder = Path(folders[0]) if folders else REFERENCE
    study = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    if "--evidence" in sys.argv:
        with (folder / "claims.csv").open(newline="", encoding="utf-8") as file:
            print("\n".join(evidence(study, list(csv.DictReader(file)))))
    else:
        print("\n".join(table(study)))


if __name__ == "__main__":
    main()
