r"""One small, safe language of expressions: the conditions of `--filter` and `--fail-if`, and any later use.

`parse` turns a text into a checked tree of Python's `ast`; an evaluator, such as that of `Condition`, gives the tree a
meaning. A `Language` lists what a text may contain: another language is another table and another evaluator.

Python's parser only decides what belongs together. It never sees what a person typed: `_tokens` has checked and
rewritten every token, so this grammar is the same on every version of Python, and every error has a column:

    lr  dormant_0.1_ratio  [epochs_to:test_accuracy>=0.97]   names; in square brackets with any signs
    1  -2.5  1e-3  'text'  "text"  true  false  none          literals; in a text, \ quotes the next sign
    and  or  not  ==  !=  <  <=  >  >=  in (1, 2)  not in (1, 2)
    diff(test_accuracy)                                      if the caller has functions: a function of one name

A missing value makes a comparison unknown, which is neither true nor false: `not unknown` is unknown too, and an
unknown condition does not hold. `x == none` asks whether x is missing. A number, a text and a truth value are never
equal to each other.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, TypeAlias

from actbench.errors import UsageError, suggestion
from actbench.text import comma_list

MAX_LENGTH = 2000
MAX_DEPTH = 50
"""How deep brackets and `not` may nest. A sum of many terms nests too, in the tree: up to four levels for each."""

Literal: TypeAlias = str | int | float | bool | None

_ORDER: dict[type[ast.AST], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
_MEMBERSHIP = ("in", "not in")
_SIGNS: dict[type[ast.AST], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
    **{node: sign for node, (sign, _) in _ORDER.items()},
}  # fmt: skip
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
        refuse(text, len(text) - len(rest), what + (" (use '==' to compare)" if rest[0] == "=" else ""))
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
            hint = suggestion(token.value, self.names) or self.language.unknown.format(token.value)
            refuse(self.text, token.start, f"unknown name {token.value!r}{hint}")
        node.id = token.value
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Refuse chained comparisons."""
        self.generic_visit(node)
        if len(node.ops) > 1:
            third = node.comparators[1].col_offset
            column = max(c for c, token in self.tokens.items() if token.text in _COMPARISONS and c < third)
            refuse(self.text, column, "comparisons cannot be chained (join comparisons with 'and')")
        return node


Values: TypeAlias = Mapping[str, Any]
"""The values of a row by name; one is missing if it is absent, None or nan."""


class Condition(Parsed):
    """A condition over the named values of a row."""

    def decide(self, values: Values) -> bool | None:
        """Return whether the condition holds for `values`, or None if a missing value leaves it open.

        Raises `UsageError` for an order between values that have none, and for a number or a text where a condition
        is needed.
        """
        return self._truth(self.tree, values)

    def holds(self, values: Values) -> bool:
        """Return whether the condition is known to hold for `values`."""
        return self.decide(values) is True

    def _truth(self, node: ast.expr, values: Values) -> bool | None:
        value = self._value(node, values)
        if value is None or value is _Nothing:
            return None
        if not isinstance(value, bool):
            raise UsageError(f"{self.text!r} uses {_kind(value)} ({value!r}) as a condition; compare it with something")
        return value

    def _value(self, node: ast.expr, values: Values) -> Any:
        """Return the value of a node: None if it is missing or unknown, `_Nothing` for the literal `none`."""
        match node:
            case ast.Constant(value=literal):
                return _Nothing if literal is None else literal
            case ast.Name(id=name):
                value = values.get(name)
                return None if isinstance(value, float) and math.isnan(value) else value
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(self._truth(operand, values))
            case ast.BoolOp(op=op, values=parts):
                return _joined((self._truth(part, values) for part in parts), decisive=isinstance(op, ast.Or))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compare(self._value(left, values), op, right, values)
        raise TypeError(f"a condition cannot hold {type(node).__name__}")

    def _compare(self, left: Any, op: ast.cmpop, right: ast.expr, values: Values) -> bool | None:
        if isinstance(right, ast.List):
            found = _joined((_same(left, self._value(option, values)) for option in right.elts), decisive=True)
            return found if isinstance(op, ast.In) else _negated(found)
        other = self._value(right, values)
        if type(op) not in _ORDER:
            return _same(left, other) if isinstance(op, ast.Eq) else _negated(_same(left, other))
        if left is None or other is None or left is _Nothing or other is _Nothing:
            return None
        sign, compare = _ORDER[type(op)]
        kinds = _kind(left), _kind(other)
        if kinds not in (("text", "text"), ("a number", "a number")):
            raise UsageError(f"{self.text!r}: cannot order {kinds[0]} ({left!r}) {sign} {kinds[1]} ({other!r})")
        return bool(compare(left, other))


def condition(text: str, names: Collection[str], functions: Mapping[str, Collection[str]] = {}) -> Condition:
    """Read `text` as a condition in which only `names` may be used. Raises `UsageError` as `parse` does.

    functions: the names that each function takes. `f(x)` is then the name "f(x)": its value is looked up by that.
    """
    language = replace(CONDITIONS, nodes={*CONDITIONS.nodes, ast.Call}) if functions else CONDITIONS
    parsed = parse(text, [*names, *functions], language)
    tree = _Applied(text, names, functions).visit(parsed.tree)
    used = sorted((node.col_offset, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name))
    return Condition(text, tree, tuple(dict.fromkeys(name for _, name in used)))


def sign_of(op: ast.cmpop) -> str:
    """Return a comparison as it is written, such as `<=`."""
    return _SIGNS[type(op)]


class _Applied(ast.NodeTransformer):
    """Replaces each call `f(x)` by the name "f(x)"."""

    def __init__(self, text: str, names: Collection[str], functions: Mapping[str, Collection[str]]) -> None:
        self.text, self.names, self.functions = text, names, functions

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Refuse a call unless it is of a known function with one of its names."""
        match node:
            case ast.Call(func=ast.Name(id=function), args=[ast.Name(id=name)]) if function in self.functions:
                if name in self.functions[function]:
                    return ast.copy_location(ast.Name(f"{function}({name})"), node)
        forms = [f"{function}({name})" for function, known in self.functions.items() for name in known]
        refuse(self.text, node.col_offset, f"unknown function or argument; there are: {comma_list(forms)}")

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Refuse the name of a function without its argument."""
        if node.id not in self.names:
            refuse(self.text, node.col_offset, f"{node.id} is a function: write {node.id}(NAME)")
        return node


class _Nothing:
    """The literal `none`: unlike a missing value, it can be compared."""


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _joined(truths: Iterable[bool | None], decisive: bool) -> bool | None:
    """Join truths with `or`, which a true one decides, or with `and`, which a false one decides."""
    unknown = False
    for truth in truths:
        if truth is decisive:
            return decisive
        unknown = unknown or truth is None
    return None if unknown else not decisive


def _same(left: Any, right: Any) -> bool | None:
    """Compare two values: `none` equals a missing value; compared with anything else, a missing value is unknown."""
    if left is _Nothing or right is _Nothing:
        return left in (None, _Nothing) and right in (None, _Nothing)
    if left is None or right is None:
        return None
    alike = isinstance(left, bool) == isinstance(right, bool) and isinstance(left, str) == isinstance(right, str)
    return alike and bool(left == right)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list"
