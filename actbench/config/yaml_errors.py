"""What PyYAML finds wrong with a text, in words that help (layer 1; imports PyYAML).

PyYAML tells what its grammar expected; a person wants to know what to change. Each row of `_MESSAGES` maps
the one to the other; a text that no row knows is passed on as PyYAML put it.
"""

from __future__ import annotations

import re

import yaml

_MISPLACED = "is the indentation right, or are quotes missing?"

# What PyYAML says ("context: problem"), what to say, and whether to show where the context starts.
_MESSAGES: tuple[tuple[str, str, bool], ...] = (
    (r"while parsing a flow sequence", "the '[' here has no ']' (or a ',' is missing before {there})", True),
    (r"while parsing a flow mapping", "the '{{' here has no '}}' (or a ',' is missing before {there})", True),
    (r"quoted scalar: found unexpected", "the quote that opens here is not closed", True),
    (r"quoted scalar: found unknown escape", r"an unknown escape; write '\\' for a backslash", False),
    (r"quoted scalar: expected escape", "an escape without all its hexadecimal digits", False),
    (r"could not find expected ':'", "expected `key: value`, found no ':' in this line", True),
    (r"mapping values are not allowed here", f"an unexpected ':'; {_MISPLACED}", False),
    (r"sequence entries are not allowed here", f"an unexpected '-'; {_MISPLACED}", False),
    (r"found character '\\t'", "a tab; indent with spaces", False),
    (r"found character '(?P<what>.)' that cannot start", "no value starts with '{what}'; quote it", False),
    (r"while parsing a block (mapping|collection)", f"this does not belong here; {_MISPLACED}", False),
    (r"parsing a flow node.*<stream end>", "the file ends inside a '[' or '{{' that is not closed", False),
    (r"expected the node content, but found '(?P<what>.*)'", "a value is missing before '{what}'", False),
    (r"while scanning an (alias|anchor)", "'*' and '&' stand before a name; quote the text", False),
    (r"directive|YAML document|<document start>", "directives (%...) are not supported; remove this", False),
    (r"\btag\b", "tags (!...) are not supported; write the value plainly", False),
    (r"while scanning a block scalar", "a block of text (| or >) with a mistake; quote the text", False),
)


def syntax_problem(error: yaml.MarkedYAMLError) -> tuple[str, object]:
    """Return what is wrong in words, and PyYAML's mark of the place to show."""
    said = f"{error.context or ''}: {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    for pattern, message, at_start in _MESSAGES:
        if found := re.search(pattern, said):
            where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the end"
            text = message.format(there=where, what=found.groupdict().get("what"))
            return text, error.context_mark if at_start and error.context_mark else mark
    return said.removeprefix(": "), mark
