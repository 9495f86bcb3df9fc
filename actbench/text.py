"""Words and numbers as people read them: the helpers that every message, table and page shares.

Standard library only. Text that came from outside (names, paths, server answers) goes through `readable` once, where it
is shown: in the console, in the cells of tables, in each writer of files, in a problem of a config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_MAX_QUOTED = 60
_MINUS = "\N{MINUS SIGN}"


def readable(text: str) -> str:
    """Return `text` with every character a terminal might act on (control codes, bidirectional marks) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def readable_lines(text: str) -> str:
    """Return `text` made `readable` line by line, with its line breaks kept."""
    return "\n".join(map(readable, text.split("\n")))


def quoted(value: object) -> str:
    """Return a value as an error message quotes it: on one line, at most 60 characters, close to its YAML form."""
    text = _flow(value) if value is not None else "nothing"
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."


def _flow(value: object) -> str:
    """Return a value as YAML writes it on one line, but with quotes around every text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)


def value_text(value: object) -> str:
    """Return a setting as YAML would write it: `true`, `none`, `0.001`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def number_text(value: float | str, form: str = "") -> str:
    """Return a measured number in the format `form` as a person reads it: with a true minus sign.

    What can be typed again (settings, bounds, options) and files for programs keep the hyphen.
    """
    return format(value, form).replace("-", _MINUS)


def with_hyphens(text: str) -> str:
    """Return `text` with hyphens for the minus signs of `number_text`, for files that programs read."""
    return text.replace(_MINUS, "-")


def ascii_text(text: str) -> str:
    """Return `text` for a terminal that shows only ASCII: similar signs where there are any, else `?`."""
    plain = with_hyphens(text).replace("±", "+-").replace("–", "-").replace("×", "x")
    return plain.encode("ascii", "replace").decode()


def comma_list(texts: Sequence[str], most: int = 6) -> str:
    """Return `a, b, c`: at most `most` items, then how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def split_commas(text: str | None) -> list[str] | None:
    """Return the non-empty parts of `a,b`, stripped; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def slug(text: str) -> str:
    """Return what `text` has of a-z, 0-9, _ and -, at most 40 characters, for the name of a folder; never empty."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:40].strip("-") or "run"


def plural(count: int, noun: str) -> str:
    """Return `1 run` or `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def p_value(p: float) -> str:
    """Return `0.042`, or `<0.001` for anything smaller."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def duration(seconds: float) -> str:
    """Return a rough time: `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
