"""A small text file that a person wrote -> its text, or what is wrong with it (layer 1; imports `errors`).

Whatever was given by mistake (a folder, a picture, a file in another encoding, a disk image) ends in a
`ConfigError` that says what it is. UTF-8 is read, with or without a byte order mark.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from actbench.errors import ConfigError, Problem, suggestion
from actbench.text import readable

MAX_BYTES = 1_000_000

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BOMS = {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}


def read_text(path: Path) -> str:
    """Return the text of the file `path`; raises ConfigError saying why there is none."""
    source = readable(str(path))
    raw = _read(path, source)
    return _decoded(raw, source)


def check_characters(text: str, source: str, *, in_lines: bool = True) -> None:
    """Raise ConfigError at the first control character (or lone surrogate) in `text`, if there is one."""
    if found := _CONTROL.search(text):
        line, column = position(text[: found.start()]) if in_lines else (None, None)
        hint = "is it a text file?" if found[0] == "\0" else "in double quotes it can be written as an escape"
        message = f"a control character (U+{ord(found[0]):04X}); {hint}"
        raise ConfigError([Problem(source, message, line, column)])


def position(before: str) -> tuple[int, int]:
    """Return line and column (from 1) of what follows the text `before`."""
    lines = re.split(r"\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1


def _read(path: Path, source: str) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([Problem(source, f"no such file{_nearest(path)}")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(source, "is a folder; give a YAML file in it")]) from None
    except OSError as error:
        raise ConfigError([Problem(source, f"cannot be read: {error.strerror or error}")]) from None
    except ValueError as error:  # a NUL in the path
        raise ConfigError([Problem(source, f"is no path: {error}")]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem(source, f"is larger than {MAX_BYTES:,} bytes; is it a config?")])
    return raw


def _nearest(path: Path) -> str:
    """Return "; did you mean ...?" where a file of a similar name lies beside it."""
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208 - only the names are needed
    except OSError:
        return f"; there is no folder {readable(str(path.parent))} to read"
    return readable(suggestion(path.name, names))


def _decoded(raw: bytes, source: str) -> str:
    encoding = next((name for name, marks in _BOMS.items() if raw.startswith(marks)), None)
    if encoding is None and max(raw[::2].count(0), raw[1::2].count(0)) * 4 > len(raw):
        encoding = "UTF-16"  # every second byte of plain English is 0
    if encoding:
        raise ConfigError([Problem(source, f"is {encoding} text; save it as UTF-8")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position(raw[: error.start].decode("utf-8-sig"))
        message = f"byte 0x{raw[error.start]:02X} is not UTF-8; is it Latin-1? Save the file as UTF-8"
        raise ConfigError([Problem(source, message, line, column)]) from None
