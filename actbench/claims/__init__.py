"""Claim studies: what is commonly said about activation functions, tested, each with a verdict (layer 4).

Imports the sweep's plan, the comparison's quantities and statistics, the store; torch only where something is measured
on weights. Adding a claim is adding a YAML file to `configs/claims`: see `files` for its form, `verdict` for the rule
that decides it. Nothing here trains, prints or writes files: `cli.claims` does.

    files      YAML -> Claim                        evidence   stored runs -> findings, part by part
    arms       ... its variants                     verdict    findings -> verdicts
    readings   ... its contrasts                    study      plan, and all of it together
    reader     ... with the place of each problem   layout     a study as text, rows and JSON
    model      Claim, Reading, Part, Side           schema     the JSON Schema of claim files
    measures   what is measured beside the runs
"""

from __future__ import annotations

from actbench.claims.evidence import Results
from actbench.claims.files import Flags, load_all
from actbench.claims.model import Claim
from actbench.claims.schema import json_schema
from actbench.claims.study import Plan, Study, claim_files, folder, judge, plan, ready, select
from actbench.claims.verdict import Verdict

__all__ = [
    "Claim", "Flags", "Plan", "Results", "Study", "Verdict", "claim_files", "folder", "json_schema", "judge",
    "load_all", "plan", "ready", "select",
]  # fmt: skip
