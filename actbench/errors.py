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


class ActbenchError(Exception):
    """An error with a text for the user: where it is, what was found, what is allowed, what to do."""

    exit_code = 1


class UsageError(ActbenchError):
    """A command that cannot be carried out as given; nothing was started."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name that a registry does not know; the text suggests the nearest known one."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(f"unknown {kind} {name!r}{suggestion(name, self.known)}")

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
        return f"{':'.join(where)}: {self.message}"


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


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, ignoring case, or None if none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return `"; did you mean 'swish'?"`, or an empty text if no known name is close."""
    match = nearest(name, known)
    return f"; did you mean {match!r}?" if match is not None else ""
