"""The conditions of `--filter` and `--fail-if`, in the language of `expressions`.

    diff(test_accuracy) < 0 or activation in ('relu', 'gelu')    `diff`: if the caller has functions of one name

A missing value makes a comparison unknown, which is neither true nor false: `not unknown` is unknown too, and an
unknown condition does not hold. `x == none` asks whether x is missing. A number, a text and a truth value are never
equal to each other.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from actbench.errors import UsageError
from actbench.expressions import Language, Parsed, parse, refuse
from actbench.text import comma_list

_ORDER: dict[type[ast.AST], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
_SIGNS: dict[type[ast.AST], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
    **{node: sign for node, (sign, _) in _ORDER.items()},
}  # fmt: skip

CONDITIONS = Language(
    signs={"and", "or", "not", "in", "not in", "==", "!=", "<", "<=", ">", ">=", "(", ")", ","},
    constants={"true": True, "false": False, "none": None},
    nodes={
        ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Compare, ast.Eq, ast.NotEq, *_ORDER, ast.In, ast.NotIn,
        ast.List, ast.Name, ast.Constant,
    },
    value="a name, a number, 'text', true, false, none or '('",
    joint="'and' or 'or'",
    unknown="; quote it if it is meant as text: '{}'",
)  # fmt: skip

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
        forms = [f"{function}({name})" for function, known in self.functions.items() for name in known]
        applied = ast.unparse(node)
        if applied not in forms:
            refuse(self.text, node.col_offset, f"unknown function or argument; there are: {comma_list(forms)}")
        return ast.copy_location(ast.Name(applied), node)

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
