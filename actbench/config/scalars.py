"""What a YAML scalar means, and how values are written as YAML.

PyYAML follows YAML 1.1. Here, numbers are those of YAML 1.2 (`1e-3` is one), only true and false are booleans, and
dates are text. An unquoted scalar that other readers take for something else (`no`, `012`, `1:30`) becomes `Unquoted`,
so that every config key can refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

MAX_DIGITS = 100


class Unquoted(str):
    """An unquoted scalar that is text here, but a boolean or a number to other readers of YAML."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show it as it is written in the file."""
        return str(self)

    def as_integer(self) -> int | None:
        """Return the integer that was probably meant; None if that is unclear (`no`, `1:30`)."""
        digits = self.replace("_", "")
        try:
            return int(digits, 10 if re.fullmatch(r"[-+]?[0-9]+", digits) else 0)
        except ValueError:
            return None


_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_AMBIGUOUS = re.compile(
    r"(?i:yes|no|on|off)"
    r"|[-+]?0[0-9_]+"  # octal to some readers
    r"|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oO][0-7_]+|[-+]?0[bB][01_]+"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # base 60 to some readers
    r"|[-+]?[0-9]+_[0-9_]*(\.[0-9_]*)?"
)
_PLAIN_TEXT = re.compile(r"[A-Za-z]([A-Za-z0-9_ ./:+-]*[A-Za-z0-9_])?")


def plain_value(text: str) -> Any:
    """Return the meaning of an unquoted scalar: None, a boolean, a number, `Unquoted` or text.

    Raises ValueError for an integer of more than `MAX_DIGITS` digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text)
    if len(text) <= MAX_DIGITS and _AMBIGUOUS.fullmatch(text):
        return Unquoted(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2])
    return text


def dump(values: Mapping[str, Any]) -> str:
    """Return `values` as YAML that every reader of YAML reads back unchanged."""
    layout: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 1_000_000}
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, **layout))


class _Dumper(yaml.SafeDumper):
    """Puts short lists and mappings on one line, and quotes all text but plain words."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out instead of using anchors and aliases."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN_TEXT.fullmatch(text) and type(plain_value(text)) is str
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)
