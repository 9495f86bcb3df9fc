"""Claim studies: common statements about activation functions, tested, each with a verdict.

To add a claim, add a YAML file to `configs/claims`; `parse` describes its form, `verdict` the rule that decides it.
Nothing here trains, prints or writes files: the `claims` command does.
"""

from __future__ import annotations

from actbench.claims.evidence import RunCache
from actbench.claims.model import Claim, StudyPlan, claim_files, folder, plan, select
from actbench.claims.parse import Flags, json_schema, load_all
from actbench.claims.verdict import Study, Verdict, judge, ready

__all__ = [
    "Claim", "Flags", "RunCache", "Study", "StudyPlan", "Verdict", "claim_files", "folder", "json_schema", "judge",
    "load_all", "plan", "ready", "select",
]  # fmt: skip
