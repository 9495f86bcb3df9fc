r"""One small, safe language of expressions: the conditions of `--filter` and `--fail-if`, and any later use.

`parse` turns a text into a checked tree of Python's `ast`; an evaluator, such as that of `condition`, gives the tree a
meaning. A `Language` lists what a text may contain: another language is another table and another evaluator.

Python's parser never sees what a person typed. Every token is rewritten in ASCII first, names and literals as
placeholders, so this grammar is the same on every version of Python, and every error has a column:

    lr  dormant_0.1_ratio  [epochs_to:test_accuracy>=0.97]   names; in square brackets with any signs
    1  -2.5  1e-3  'text'  "text"  true  false  none          literals; in a text, \ quotes the next sign
    and  or  not  ==  !=  <  <=  >  >=  in (1, 2)  not in (1, 2)

A missing value makes a comparison unknown, which is neither true nor false: `not unknown` is unknown too, and an
unknown condition does not hold. `x == none` asks whether x is missing. A number, a text and a truth value are never
equal to each other.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn, TypeAlias

from actbench.errors import UsageError, suggestion

MAX_LENGTH = 2000
MAX_DEPTH = 50
"""How deep brackets and `not` may nest. A sum of many terms nests too, in the tree: up to four levels for each."""

Literal: TypeAlias = str | int | float | bool | None
Values: TypeAlias = Mapping[str, Any]

_ORDER: dict[type[ast.AST], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
_MEMBERSHIP = ("in", "not in")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", *_MEMBERSHIP)
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


CONDITIONS = Language(
    signs={"and", "or", "not", *_COMPARISONS, "(", ")", ","},
    constants={"true": True, "false": False, "none": None},
    nodes={
        ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Compare, ast.Eq, ast.NotEq, *_ORDER, ast.In, ast.NotIn,
        ast.List, ast.Name, ast.Constant,
    },
    value="a name, a number, 'text', true, false, none or '('",
    joint="'and' or 'or'",
    unknown="; quote it if it is meant as text: '{}'",
)  # fmt: skip


class Parsed(NamedTuple):
    """A checked tree, its text, and the names used, in order of first use. `col_offset` is a place in the text."""

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
    tokens: list[_Token] = []
    try:
        for token in _tokens(text, language):
            tokens.append(token)  # noqa: PERF402 - the tokens before a refused one are needed
    except UsageError:
        _check_syntax(text, tokens, language)  # there may be an earlier mistake
        raise
    tree = _python(tokens)
    if tree is None:
        _check_syntax(text, tokens, language)
        refuse(text, 0, "cannot read this")
    used = tuple(dict.fromkeys(token.value for token in tokens if token.kind == "name"))
    return Parsed(text, _Checker(text, tokens, names, language).visit(tree), used)


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
    kind: str  # name, literal, sign or end
    text: str
    start: int
    piece: str = ""  # its rewriting for Python's parser; an operand becomes a placeholder, `_3` for the token at 3
    value: Any = None  # of a literal; of a name, the name
    open: str = ""  # the brackets that are open after it, as Python closes them

    @property
    def ends_value(self) -> bool:
        return self.kind in ("name", "literal") or self.text == ")"


_START = _Token("start", "", 0)


def _tokens(text: str, language: Language) -> Iterator[_Token]:
    """Divide `text` into tokens, the last of which is the end. The brackets after `in` become those of a list."""
    last, count, end, nots = _START, 0, 0, 0
    while match := _TOKEN.match(text, end):
        kind = str(match.lastgroup)
        start, end = match.span(kind)
        if kind == "number" and text[start] in "+-" and (last.ends_value or text[start] in language.signs):
            kind, end = "sign", start + 1  # an operator, no part of the number
        found, piece, opened, value = text[start:end], f"_{count}", last.open, None
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
        if found == "(":
            piece, closing = "[]" if last.text in _MEMBERSHIP else "()"
            opened += closing
        elif found == ")":
            piece, opened = opened[-1:] or ")", opened[:-1]
        nots = nots + 1 if found == "not" else 0
        if len(opened) + nots > MAX_DEPTH:
            refuse(text, start, f"nested deeper than {MAX_DEPTH} levels")
        last, count = _Token(kind, found, start, piece, value, opened), count + 1
        yield last
    rest = text[end:].lstrip()
    if rest:
        what = "a text that is never closed" if rest[0] in "'\"" else f"unexpected {rest[0]!r}"
        refuse(text, len(text) - len(rest), what + (" (use '==' to compare)" if rest[0] == "=" else ""))
    yield _Token("end", "", len(text), open=last.open)


def _literal(text: str, start: int, found: str, language: Language) -> Literal:
    if found in language.constants:
        return language.constants[found]
    if found[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", found[1:-1], flags=re.DOTALL)
    if math.isinf(float(found)):
        refuse(text, start, f"a number out of range, got {found!r}")
    return float(found) if re.search(r"[.eE]", found) else int(found)


def _python(tokens: Sequence[_Token], completion: str = "") -> ast.expr | None:
    """Return what Python's parser makes of tokens and what completes them; None if that is no expression."""
    try:
        return ast.parse(" ".join([token.piece for token in tokens] + [completion]), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        return None


def _check_syntax(text: str, tokens: Sequence[_Token], language: Language) -> None:
    """Refuse the first token that must be wrong: what is before it could still become an expression."""

    def is_wrong(count: int) -> bool:
        last = tokens[count - 1]
        completion = "" if last.ends_value or last.kind == "end" else "_ "
        return _python(tokens[:count], completion + (last.open[::-1] if last.kind != "end" else "")) is None

    wrong = bisect_left(range(1, len(tokens) + 1), True, key=is_wrong)
    if wrong == len(tokens):
        return
    token, last = tokens[wrong], tokens[wrong - 1] if wrong else _START
    ends = {"": f"the end, {language.joint}", ")": f"')', {language.joint}", "]": "',' or ')'"}
    wanted = ends[last.open[-1:]] if last.ends_value else language.value
    hint = " (did you mean 'not in'?)" if token.text == "not" and last.ends_value else ""
    refuse(text, token.start, f"expected {wanted}, got {repr(token.text) if token.text else 'the end'}{hint}")


class _Checker(ast.NodeTransformer):
    """Refuses nodes that the language lacks; puts names and literals in place, and says where each node stands."""

    def __init__(self, text: str, tokens: Sequence[_Token], names: Collection[str], language: Language) -> None:
        self.text, self.tokens, self.names, self.language = text, tokens, names, language
        self.offsets = list(accumulate((len(token.piece) + 1 for token in tokens[:-1]), initial=0))
        self.depth = self.column = 0

    def visit(self, node: ast.AST) -> Any:
        """Check a node and what is below it."""
        if isinstance(node, ast.expr_context):
            return node
        if isinstance(node, ast.expr):
            node.col_offset = self.column = self.tokens[bisect_right(self.offsets, node.col_offset) - 1].start
        if type(node) not in self.language.nodes:
            refuse(self.text, self.column, f"{_WORDS.get(type(node), type(node).__name__)} is not allowed")
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            refuse(self.text, self.column, f"nested deeper than {MAX_DEPTH} levels")
        checked = super().visit(node)
        self.depth -= 1
        return checked

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put a name or a literal in the place of its placeholder."""
        token = self.tokens[int(node.id[1:])]
        if token.kind == "literal":
            return ast.copy_location(ast.Constant(token.value), node)
        if token.value not in self.names:
            hint = suggestion(token.value, self.names) or self.language.unknown.format(token.value)
            refuse(self.text, token.start, f"unknown name {token.value!r}{hint}")
        node.id = token.value
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Refuse chained comparisons."""
        self.generic_visit(node)
        if len(node.ops) > 1:
            third = node.comparators[1].col_offset
            column = max(t.start for t in self.tokens if t.text in _COMPARISONS and t.start < third)
            refuse(self.text, column, "comparisons cannot be chained (join comparisons with 'and')")
        return node


@dataclass(frozen=True)
class Condition:
    """A condition over the named values of a row; `names` are those it uses, in order of first use."""

    text: str
    names: tuple[str, ...]
    _root: _Node

    def decide(self, values: Values) -> bool | None:
        """Return whether the condition holds for `values`, or None if a missing value leaves it open.

        A value is missing if it is absent, None or nan. Raises `UsageError` for an order between values that have
        none, and for a number or a text where a condition is needed.
        """
        return _truth(self._root(values), self.text)

    def holds(self, values: Values) -> bool:
        """Return whether the condition is known to hold for `values`."""
        return self.decide(values) is True


def condition(text: str, names: Collection[str]) -> Condition:
    """Read `text` as a condition in which only `names` may be used. Raises `UsageError` as `parse` does."""
    parsed = parse(text, names, CONDITIONS)
    return Condition(text, parsed.names, _evaluator(parsed.tree, text))


_Node: TypeAlias = Callable[[Values], Any]
"""Gives the value of one node for the values of a row."""


class _Nothing:
    """The literal `none`: unlike a missing value, it can be compared."""


def _evaluator(tree: ast.expr, text: str) -> _Node:
    match tree:
        case ast.Constant(value=literal):
            constant: Any = _Nothing if literal is None else literal
            return lambda _: constant
        case ast.Name(id=name):
            return lambda values: _known(values.get(name))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _not(_evaluator(operand, text), text)
        case ast.BoolOp(op=op, values=parts):
            return _joined([_evaluator(part, text) for part in parts], isinstance(op, ast.Or), text)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[ast.List(elts=elements)]):
            a, options = _evaluator(left, text), [_evaluator(element, text) for element in elements]
            found = _joined([_equal(a, option) for option in options], True, text)
            return found if isinstance(op, ast.In) else _not(found, text)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            a, b = _evaluator(left, text), _evaluator(right, text)
            if type(op) in _ORDER:
                sign, compare = _ORDER[type(op)]
                return lambda values: _ordered(a(values), b(values), sign, compare, text)
            return _equal(a, b) if isinstance(op, ast.Eq) else _not(_equal(a, b), text)
    raise TypeError(f"a condition cannot hold {type(tree).__name__}")


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _equal(left: _Node, right: _Node) -> _Node:
    return lambda values: _same(left(values), right(values))


def _not(node: _Node, text: str) -> _Node:
    def opposite(values: Values) -> bool | None:
        truth = _truth(node(values), text)
        return None if truth is None else not truth

    return opposite


def _joined(nodes: Sequence[_Node], decisive: bool, text: str) -> _Node:
    """Join nodes with `or`, which a true one decides, or with `and`, which a false one decides."""

    def joined(values: Values) -> bool | None:
        unknown = False
        for node in nodes:
            truth = _truth(node(values), text)
            if truth is decisive:
                return decisive
            unknown = unknown or truth is None
        return None if unknown else not decisive

    return joined


def _same(left: Any, right: Any) -> bool | None:
    """Compare two values: `none` equals a missing value; compared with anything else, a missing value is unknown."""
    if left is _Nothing or right is _Nothing:
        return (left is None or left is _Nothing) and (right is None or right is _Nothing)
    if left is None or right is None:
        return None
    alike = isinstance(left, bool) == isinstance(right, bool) and isinstance(left, str) == isinstance(right, str)
    return alike and bool(left == right)


def _ordered(left: Any, right: Any, sign: str, compare: Callable[[Any, Any], bool], text: str) -> bool | None:
    if left is None or right is None or left is _Nothing or right is _Nothing:
        return None
    kinds = _kind(left), _kind(right)
    if kinds not in (("text", "text"), ("a number", "a number")):
        raise UsageError(f"{text!r}: cannot order {kinds[0]} ({left!r}) {sign} {kinds[1]} ({right!r})")
    return bool(compare(left, right))


def _truth(value: Any, text: str) -> bool | None:
    if value is None or value is _Nothing:
        return None
    if not isinstance(value, bool):
        raise UsageError(f"{text!r} uses {_kind(value)} ({value!r}) as a condition; compare it with something")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list"
