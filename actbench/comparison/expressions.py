"""The small language of `--filter` and `--fail-if` (layer 0; imports `errors` and the standard library).

    or_      := and_ ("or" and_)*
    and_     := not_ ("and" not_)*
    not_     := "not" not_ | test
    test     := operand (("==" | "!=" | "<" | "<=" | ">" | ">=") operand | ["not"] "in" "(" literals ")")?
    operand  := NAME | [NAME] | NUMBER | 'text' | "text" | true | false | none | "(" or_ ")"

A name in square brackets may hold other signs than letters, digits, _ and dots: `[epochs_to:test_accuracy>=0.97]`.
A text is only ever parsed into closures that compare values: nothing in it can call, import or look up
anything but the given names. A missing value makes a comparison *unknown*, which is neither true nor false
(`not unknown` is unknown), and what is unknown at the end counts as false; `x == none` asks for a missing
value. Numbers and text are never equal, true and false are no numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NoReturn

from actbench.comparison import logic
from actbench.comparison.logic import Node, Value, Values
from actbench.errors import UsageError, suggestion

MAX_LENGTH = 2000
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>\[[^\[\]]+\])
      | (?P<word>[^\W\d][\w.]*)
      | (?P<sign>==|!=|<=|>=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.DOTALL,
)
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "none": None}
_KEYWORDS = {"and", "or", "not", "in"}
_OPERAND = "expected a name, a number, 'text', true, false, none or '('"


@dataclass(frozen=True)
class Expression:
    """A parsed condition; `names` are the names it uses, in order of first use."""

    text: str
    names: tuple[str, ...]
    _root: Node

    def decide(self, values: Values) -> bool | None:
        """Return whether the condition holds for `values`, or None where a missing value leaves it open."""
        return logic.truth_of(self._root(values), self.text)

    def holds(self, values: Values) -> bool:
        """Return whether the condition is known to hold for `values`; a name that is absent is missing."""
        return self.decide(values) is True


def parse(text: str, names: Collection[str]) -> Expression:
    """Parse `text`, in which only `names` may be used.

    Raises `UsageError` that says the column, what stands there and what is allowed; texts above
    `MAX_LENGTH` characters or nested deeper than `MAX_DEPTH` are refused.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    parser = _Parser(text, names)
    root = parser.or_(0)
    if parser.kind != "end":
        chained = parser.token in {"==", "!=", *logic.ORDER, "in"}
        parser.fail("expected the end, 'and' or 'or'" + (" (join comparisons with 'and')" if chained else ""))
    return Expression(text, tuple(parser.used), root)


class _Parser:
    """One token of look-ahead over `text`; each method parses one rule of the grammar."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text, self.names = text, names
        self.used: dict[str, None] = {}
        self.end = 0
        self.advance()

    def advance(self) -> None:
        """Read the next token into `kind`, `token` and its place `start`."""
        match = _TOKEN.match(self.text, self.end)
        if match is not None:
            self.kind, self.token = str(match.lastgroup), match[str(match.lastgroup)]
            self.start, self.end = match.end() - len(self.token), match.end()
            return
        rest = self.text[self.end :].lstrip()
        self.start = len(self.text) - len(rest)
        self.kind, self.token = "end", ""
        if rest:
            what = "a text that is never closed" if rest[0] in "'\"" else f"unexpected {rest[0]!r}"
            self.fail(what + (" (use '==' to compare)" if rest[0] == "=" else ""), at_token=False)

    def fail(self, message: str, *, at_token: bool = True) -> NoReturn:
        """Raise a UsageError that points at the current token."""
        found = f", got {self.token!r}" if at_token and self.token else ", got the end" if at_token else ""
        shown = "".join(ch if ch.isprintable() else "?" for ch in self.text)
        where = f"in the expression, column {self.start + 1}: {message}{found}"
        raise UsageError(f"{where}\n  {shown}\n  {' ' * self.start}^")

    def is_word(self, word: str) -> bool:
        """Whether the current token is this keyword."""
        return self.kind == "word" and self.token == word

    def or_(self, depth: int) -> Node:
        """Parse `and_ (or and_)*`."""
        return self._joined("or", self.and_, logic.disjunction, depth)

    def and_(self, depth: int) -> Node:
        """Parse `not_ (and not_)*`."""
        return self._joined("and", self.not_, logic.conjunction, depth)

    def _joined(
        self, word: str, rule: Callable[[int], Node], join: Callable[[list[Node], str], Node], depth: int
    ) -> Node:
        terms = [rule(depth)]
        while self.is_word(word):
            self.advance()
            terms.append(rule(depth))
        return terms[0] if len(terms) == 1 else join(terms, self.text)

    def not_(self, depth: int) -> Node:
        """Parse `not not_` or a test."""
        if not self.is_word("not"):
            return self.test(depth)
        if depth >= MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels", at_token=False)
        self.advance()
        return logic.negation(self.not_(depth + 1), self.text)

    def test(self, depth: int) -> Node:
        """Parse an operand, and the comparison that may follow it."""
        left = self.operand(depth)
        negated = self.is_word("not")
        if negated or self.is_word("in"):
            if negated:
                self.advance()
                if not self.is_word("in"):
                    self.fail("expected 'in' after 'not'")
            self.advance()
            member = logic.member(left, self.literals())
            return logic.negation(member, self.text) if negated else member
        if self.kind != "sign" or self.token in {"(", ")", ","}:
            return left
        sign = self.token
        self.advance()
        right = self.operand(depth)
        if sign in {"==", "!="}:
            equal = logic.equal(left, right)
            return equal if sign == "==" else logic.negation(equal, self.text)
        return logic.ordered(left, right, sign, self.text)

    def operand(self, depth: int) -> Node:
        """Parse a name, a literal, or a parenthesised condition."""
        if self.token == "(":
            if depth >= MAX_DEPTH:
                self.fail(f"nested deeper than {MAX_DEPTH} levels", at_token=False)
            self.advance()
            inside = self.or_(depth + 1)
            if self.token != ")":
                self.fail("expected ')'")
            self.advance()
            return inside
        if self.kind == "name" or (self.kind == "word" and self.token not in {*_CONSTANTS, *_KEYWORDS}):
            return self.name()
        return logic.constant(self.literal())

    def name(self) -> Node:
        """Parse one of the known names; in brackets it may hold any signs."""
        name = self.token.strip("[]").strip() if self.kind == "name" else self.token
        if name not in self.names:
            hint = suggestion(name, self.names) or f"; quote it if it is meant as text: '{name}'"
            self.fail(f"unknown name {name!r}{hint}", at_token=False)
        self.used[name] = None
        self.advance()
        return lambda values: logic.known(values.get(name))

    def literal(self) -> Value:
        """Parse a number, a text, true, false or none."""
        value: Value
        if self.kind == "number":
            if math.isinf(float(self.token)):
                self.fail("a number out of range")
            value = float(self.token) if re.search(r"[.eE]", self.token) else int(self.token)
        elif self.kind == "text":
            value = re.sub(r"\\(.)", r"\1", self.token[1:-1], flags=re.DOTALL)
        elif self.kind == "word" and self.token in _CONSTANTS:
            value = _CONSTANTS[self.token]
        else:
            self.fail(_OPERAND)
        self.advance()
        return value

    def literals(self) -> list[Value]:
        """Parse a parenthesised list of literals; a comma may end it."""
        if self.token != "(":
            self.fail("expected '(' after 'in'")
        self.advance()
        values = [self.literal()]
        while self.token == ",":
            self.advance()
            if self.token == ")":
                break
            values.append(self.literal())
        if self.token != ")":
            self.fail("expected ',' or ')'")
        self.advance()
        return values
