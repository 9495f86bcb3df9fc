"""The exception tree, and "did you mean" suggestions.

Every error that a user can cause derives from `ActbenchError`; the command line prints its text without a traceback
and exits with its `exit_code`. Anything else that escapes is a bug.

    ActbenchError               exit 1
    ├── UsageError              exit 2   a command that cannot be carried out as given; nothing was started
    │   ├── UnknownNameError    exit 2   a name that no registry knows (also a KeyError)
    │   ├── ConfigError         exit 2   problems in YAML files or --set, all reported together
    │   ├── DataError           exit 2   a dataset that is unavailable or damaged
    │   └── DeviceError         exit 2   a device that is missing or too small
    ├── StoreError              exit 1   a results folder that cannot be read or written
    └── CheckFailed             exit 1   a `--fail-if` or `reproduce` check that failed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actbench.text import comma_list, readable

_WHERE_ALL_ARE = {
    "activation": "See: actbench list activations",
    "initializer": "See: actbench list inits",
    "optimizer": "See: actbench list optimizers",
    "schedule": "See: actbench list schedules",
    "dataset": "See: actbench list datasets",
    "metric": "See: actbench list metrics",
    "column": "To see all columns, read the first line of runs.csv",
    "column to sort by": "To see all columns, read the first line of runs.csv",
    "baseline": "To see all rows, leave out the baseline",
}


class ActbenchError(Exception):
    """An error with a text for the user: where it is, what was found, what is allowed, what to do."""

    exit_code = 1


class UsageError(ActbenchError):
    """A command that cannot be carried out as given; nothing was started."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name that is not known; the text lists similar ones and says where to see all."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(dict.fromkeys(known))
        see = _WHERE_ALL_ARE.get(kind, f"Known: {comma_list(self.known, 12) or 'none'}")
        super().__init__(f"unknown {kind} {name!r}{suggestion(name, self.known, 3) or '.'} {see}")

    def __str__(self) -> str:
        """Return the plain text; KeyError would quote it."""
        return str(self.args[0])


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config, and where.

    `line` and `column` count from 1; both are None if the source has no lines (`--set lr=0`).
    """

    source: str
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Format as `configs/x.yaml:4:13: message`, which editors and terminals turn into a link."""
        where = [self.source, *(str(n) for n in (self.line, self.column) if n is not None)]
        return readable(f"{':'.join(where)}: {self.message}")


class ConfigError(UsageError):
    """All problems in the given configs."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(UsageError):
    """A dataset that is unavailable or damaged."""


class DeviceError(UsageError):
    """A device that is missing or too small for one lane."""


class StoreError(ActbenchError):
    """A results folder that cannot be read or written."""


class CheckFailed(ActbenchError):  # noqa: N818 - a result that the user asked for, not a fault
    """A check that the user asked for (`--fail-if`, `reproduce`) and that failed."""


def suggestion(name: object, known: Iterable[str], most: int = 1) -> str:
    """Return `"; did you mean 'swish'?"` with at most `most` names, ignoring case; empty if none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(str(name).casefold(), by_folded, n=most, cutoff=0.6)
    names = [repr(by_folded[match]) for match in found]
    return f"; did you mean {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}?" if names else ""
