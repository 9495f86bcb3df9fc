"""What the tests of configs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from actbench.config import Config, Document, check, parse
from actbench.errors import ConfigError


def loaded(text: str) -> Config:
    """Return the config that the text of a file x.yaml holds."""
    return check(parse(text, "x.yaml"))


def from_mapping(values: Mapping[str, Any]) -> Config:
    """Return the config that plain values hold."""
    return check(Document("config", values))


def problems(text: str) -> list[str]:
    """Return what is wrong with the text of a file x.yaml."""
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return str(caught.value).split("\n")


def problems_of(**values: Any) -> list[str]:
    """Return what is wrong with plain values."""
    with pytest.raises(ConfigError) as caught:
        from_mapping(values)
    return str(caught.value).split("\n")


HOSTILE = [  # names that people, or other programs, might be harmed by
    "../../etc/passwd", "/absolute", "..", ".", "C:\\x", "a/b", "none", "null", "no", "123", "1e-3", "true",
    "~",
    "- a",
    "x" * 300, "line\nbreak", "\r\n", "\ttab ", "  ", "\x00\x1b[31m\x07", "\u202eright", "[bold]rich[/bold]",
    "<script>alert(1)</script>", "**md** | table", "\\LaTeX{} $x$ %", "=HYPERLINK(1)", "+1", "-1", "@SUM(1)",
    "'", '"',
    "# comment", "a: b", "&anchor", "*alias", "!tag", "%dir", "{a: b}", "[a]", "CON", "é", "日本語",
    "\ufeff", "\x85", "🧠",
    "-rf", "--help", "2024-01-01", "<<", "=", "\u2028",
]  # fmt: skip
