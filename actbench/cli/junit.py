"""The outcome of a check as a JUnit file, which CI systems show test by test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from xml.etree import ElementTree

import typer

from actbench.store import files
from actbench.text import readable

Outcome = Literal["passed", "failure", "skipped"]


class Case(NamedTuple):
    """One thing that was checked: whether it passed, and why it did not."""

    name: str
    outcome: Outcome = "passed"
    reason: str = ""


def _writable(path: Path | None) -> Path | None:
    """Check the name of the file before anything is compared or trained."""
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file in it")
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"folder {path.parent} does not exist; create it first")
    return path


File = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", callback=_writable, help="Also write the outcome as a JUnit file, for CI."),
]


def write(path: Path, check: str, cases: Sequence[Case]) -> None:
    """Write the cases of one check. Text is made readable: XML cannot hold control characters. Raises StoreError."""
    counts = {what: str(sum(case.outcome == what for case in cases)) for what in ("failure", "skipped")}
    about = {"tests": str(len(cases)), "failures": counts["failure"], "skipped": counts["skipped"], "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": readable(check), **about})
    for case in cases:
        test = ElementTree.SubElement(suite, "testcase", {"classname": readable(check), "name": readable(case.name)})
        if case.outcome != "passed":
            ElementTree.SubElement(test, case.outcome, {"message": readable(case.reason)})
    files.write_bytes(path, ElementTree.tostring(suite, "utf-8", xml_declaration=True) + b"\n")
