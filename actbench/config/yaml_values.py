"""What a scalar of YAML means, and how values are written, in YAML or in a message (layer 1; imports PyYAML).

Differences to YAML 1.1, which PyYAML follows: numbers are those of YAML 1.2 (`1e-3` is one), only true and
false are booleans, dates are text, and a scalar without quotes that other readers may take for something else
(`no`, `012`, `1:30`) becomes `Unquoted`, so that a config can refuse it in every place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

MAX_DIGITS = 100

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
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
_WORD = re.compile(r"[A-Za-z]([A-Za-z0-9_ ./:+-]*[A-Za-z0-9_])?")


class Unquoted(str):
    """A scalar without quotes that is text here, but a boolean or a number to other readers of YAML."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show it as it stands in the file."""
        return str(self)

    def as_integer(self) -> int | None:
        """Return the integer that was probably meant, None where that is not clear (`no`, `1:30`)."""
        digits = self.replace("_", "")
        try:
            return int(digits, 10 if re.fullmatch(r"[-+]?[0-9]+", digits) else 0)
        except ValueError:
            return None


def plain_value(text: str) -> Any:
    """Return what a scalar without quotes means: None, a boolean, a number, `Unquoted` or text.

    Raises ValueError for an integer of more than `MAX_DIGITS` digits.
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
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
    """Return `values` as YAML that every reader of YAML takes back unchanged."""
    layout: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 1_000_000}
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, **layout))


class _Dumper(yaml.SafeDumper):
    """Puts short lists and mappings on one line, and text in quotes unless it is a plain word."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out, instead of referring to what was written before."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_word = _WORD.fullmatch(text) and type(plain_value(text)) is str
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_word else '"')


_Dumper.add_representer(str, _represent_text)
