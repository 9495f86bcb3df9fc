r"""One small, safe language of expressions: `conditions` uses it, and any later use can.

`parse` turns a text into a checked tree of Python's `ast`; an evaluator, such as that of `Condition`, gives the tree a
meaning. A `Language` lists what a text may contain: another language is another table and another evaluator.

Python's parser only decides what belongs together. It never sees what a person typed: `_tokens` has checked and
rewritten every token, so this grammar is the same on every version of Python, and every error has a column:

    lr  dormant_0.1_ratio  [epochs_to:test_accuracy>=0.97]   names; in square brackets with any signs
    1  -2.5  1e-3  'text'  "text"  true  false  none          literals; in a text, \ quotes the next sign
    and  or  not  ==  !=  <  <=  >  >=  in (1, 2)  not in (1, 2)
    +  -  *  /  **  f(x)                                      in a language that lists arithmetic and calls

Only the signs, words and nodes that a `Language` lists are allowed, so nothing can be called or looked into but the
names that the caller gives. Length and depth are bounded before Python's parser starts.
"""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeAlias

from actbench.errors import UsageError, suggestion

MAX_LENGTH = 2000
MAX_DEPTH = 50
"""How deep brackets and `not` may nest. A sum of many terms nests too, in the tree: up to four levels for each."""

Literal: TypeAlias = str | int | float | bool | None

_MEMBERSHIP = ("in", "not in")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", *_MEMBERSHIP)
_MEANT = {"=": "==", "^": "**", "\u00d7": "*", "\u00b7": "*", "\u2212": "-", "\u00f7": "/"}
_WORDS: dict[type[ast.AST], str] = {ast.Tuple: "a list here", ast.Call: "a call"}


@dataclass(frozen=True)
class Language:
    """What an expression may contain.

    signs: operators and punctuation. constants: words that stand for a value. nodes: the whitelist for the tree. value,
    joint: how messages list what may stand where a value is expected, and after one. unknown: a hint for unknown names.
    """

    signs: Collection[str]
    constants: Mapping[str, Literal]
    nodes: Collection[type[ast.AST]]
    value: str
    joint: str
    unknown: str = ""


class Parsed(NamedTuple):
    """A text, its checked tree, and the names used, in order of first use; `col_offset` is a column of the text."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]


def parse(text: str, names: Collection[str], language: Language) -> Parsed:
    """Parse `text`, in which only `names` may be used, into a tree of the nodes that `language` allows.

    Raises `UsageError` that gives the column, what stands there and what is allowed; also for a text of more than
    `MAX_LENGTH` characters or nested deeper than `MAX_DEPTH`.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    tokens = _tokens(text, language)
    source = ""
    for token in tokens:  # every column is doubled, so that no two tokens touch
        source = source.ljust(2 * (token.start - tokens[0].start)) + token.piece
    try:
        tree = ast.parse(source, mode="eval").body
    except (RecursionError, MemoryError):
        refuse(text, 0, f"nested deeper than {MAX_DEPTH} levels")
    used = dict.fromkeys(token.value for token in tokens if token.kind == "name")
    return Parsed(text, _Checker(text, tokens, names, language).visit(tree), tuple(used))


def refuse(text: str, column: int, message: str) -> NoReturn:
    """Raise a `UsageError` that points at a column of `text`, counted from 0."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    raise UsageError(f"in the expression, column {column + 1}: {message}\n  {shown}\n  {' ' * column}^")


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>\[[^\[\]]+\])
      | (?P<sign>not\s+in(?![\w.])|(?:and|or|not|in)(?![\w.])|==|!=|<=|>=|\*\*|[-+*/<>(),])
      | (?P<word>[^\W\d][\w.]*)
    )""",
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str  # name, literal or sign
    text: str
    start: int
    piece: str = "_"  # what Python's parser sees instead: every name and literal is the same name
    value: Any = None  # of a literal; of a name, the name
    open: str = ""  # the brackets that are open after it, as Python closes them

    @property
    def ends_value(self) -> bool:
        return self.kind in ("name", "literal") or self.text == ")"


def _tokens(text: str, language: Language) -> list[_Token]:
    """Divide `text` into tokens; refuse the first that cannot continue an expression. `in (...)` becomes a list."""
    tokens: list[_Token] = []
    last, end, nots = _Token("start", "", 0), 0, 0
    while match := _TOKEN.match(text, end):
        kind = str(match.lastgroup)
        start, end = match.span(kind)
        if kind == "number" and text[start] in "+-" and (last.ends_value or text[start] in language.signs):
            kind, end = "sign", start + 1  # an operator, no part of the number
        found, piece, opened, value = text[start:end], "_", last.open, None
        if kind == "sign":
            found = piece = " ".join(found.split())  # `not  in` may have any space
            if found not in language.signs or (found == "," and not opened):
                refuse(text, start, f"unexpected {found!r}")
        elif kind in ("number", "text") or found in language.constants:
            kind, value = "literal", _literal(text, start, found, language)
        else:
            kind, value = "name", found.strip("[]").strip()
        if last.text in _MEMBERSHIP and found != "(":
            refuse(text, start, f"expected '(' after 'in', got {found!r}")
        if opened.endswith("]") and kind != "literal" and (last.piece == "[" or found not in (",", ")")):
            refuse(text, start, f"expected a number, 'text', true, false or none, got {found!r}")
        if last.ends_value:  # what may follow is an operator, a comma or a bracket
            fits = kind == "sign" and found != "not" and (found != ")" or opened != "")
        elif found == "not":
            fits = last.text in ("", "(", ",", "and", "or", "not")
        elif found == ")":
            fits = last.text == ","  # a list may end with a comma
        else:
            fits = kind != "sign" or found in ("(", "+", "-")
        if not fits:
            _refuse_misplaced(text, start, found, last, language)
        if found == "(":
            piece, closing = "[]" if last.text in _MEMBERSHIP else "()"
            opened += closing
        elif found == ")":
            piece, opened = opened[-1], opened[:-1]
        nots = nots + 1 if found == "not" else 0
        if len(opened) + nots > MAX_DEPTH:
            refuse(text, start, f"nested deeper than {MAX_DEPTH} levels")
        last = _Token(kind, found, start, piece, value, opened)
        tokens.append(last)
    rest = text[end:].lstrip()
    if rest:
        what = "a text that is never closed" if rest[0] in "'\"" else f"unexpected {rest[0]!r}"
        meant = _MEANT.get(rest[0])
        refuse(text, len(text) - len(rest), what + (f"; did you mean {meant!r}?" if meant in language.signs else ""))
    if last.open or not last.ends_value:
        _refuse_misplaced(text, len(text), "", last, language)
    return tokens


def _refuse_misplaced(text: str, column: int, found: str, last: _Token, language: Language) -> NoReturn:
    """Refuse a sign, a name or a literal (or the end, "") that cannot follow the token `last`."""
    ends = {"": f"the end, {language.joint}", ")": f"')', {language.joint}", "]": "',' or ')'"}
    wanted = ends[last.open[-1:]] if last.ends_value else language.value
    hint = " (did you mean 'not in'?)" if found == "not" and last.ends_value else ""
    refuse(text, column, f"expected {wanted}, got {repr(found) if found else 'the end'}{hint}")


def _literal(text: str, start: int, found: str, language: Language) -> Literal:
    if found in language.constants:
        return language.constants[found]
    if found[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", found[1:-1], flags=re.DOTALL)
    if math.isinf(float(found)):
        refuse(text, start, f"a number out of range, got {found!r}")
    return float(found) if re.search(r"[.eE]", found) else int(found)


class _Checker(ast.NodeTransformer):
    """Refuses nodes that the language lacks; puts names and literals in place, and says where each node stands."""

    def __init__(self, text: str, tokens: Sequence[_Token], names: Collection[str], language: Language) -> None:
        self.text, self.names, self.language = text, names, language
        self.tokens = {token.start: token for token in tokens}
        self.first, self.depth, self.column = tokens[0].start, 0, 0

    def visit(self, node: ast.AST) -> Any:
        """Check a node and what is below it."""
        if isinstance(node, ast.expr_context):
            return node
        if isinstance(node, ast.expr):
            node.col_offset = self.column = self.first + node.col_offset // 2
        if type(node) not in self.language.nodes:
            refuse(self.text, self.column, f"{_WORDS.get(type(node), type(node).__name__)} is not allowed")
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            refuse(self.text, self.column, f"nested deeper than {MAX_DEPTH} levels")
        checked = super().visit(node)
        self.depth -= 1
        return checked

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put a name or a literal in its place."""
        token = self.tokens[node.col_offset]
        if token.kind == "literal":
            return ast.copy_location(ast.Constant(token.value), node)
        if token.value not in self.names:
            hint = _suggestion(token.value, self.names) or self.language.unknown.format(token.value)
            refuse(self.text, token.start, f"unknown name {token.value!r}{hint}")
        node.id = token.value
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Refuse chained comparisons."""
        self.generic_visit(node)
        if len(node.ops) > 1:
            third = node.comparators[1].col_offset
            column = max(c for c, token in self.tokens.items() if token.text in _COMPARISONS and c < third)
            hint = " (join comparisons with 'and')" if "and" in self.language.signs else ""
            refuse(self.text, column, f"comparisons cannot be chained{hint}")
        return node


_LATIN = str.maketrans(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0455\u0458\u03bf\u03b1\u03c7\u03c1\u03bd", "aceopxyisjoaxpv"
)
"""Cyrillic and Greek letters that look like Latin ones."""


def _suggestion(name: str, known: Collection[str]) -> str:
    """Return a suggestion for an unknown name, also if letters of another script only look like the known ones."""
    latin = unicodedata.normalize("NFKC", name).translate(_LATIN)
    if latin != name and latin in known:
        return f" (not all of its letters are ASCII); did you mean {latin!r}?"
    return suggestion(latin, known)
