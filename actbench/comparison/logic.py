"""The three-valued logic of expressions: conditions as closures over a row's values (layer 0; imports `errors`).

A missing value makes a comparison unknown (None), which is neither true nor false. Each function here takes the
nodes of its operands and returns the node of the whole; a node gives its value for the values of a row.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from actbench.errors import UsageError

Value = str | int | float | bool | None
Values = Mapping[str, Any]
Node = Callable[[Values], Any]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Nothing:
    """The literal `none`: unlike a missing value, it can be compared."""


def known(value: Any) -> Any:
    """Return `value`, or None where it is missing: not a number is as good as none."""
    return None if isinstance(value, float) and math.isnan(value) else value


def constant(value: Value) -> Node:
    """Return the node of a literal."""
    constant = Nothing if value is None else value
    return lambda _: constant


def _same(left: Any, right: Any) -> bool | None:
    """Compare two values; none equals what is missing, everything else that is missing is unknown."""
    if left is Nothing or right is Nothing:
        return (left is None or left is Nothing) and (right is None or right is Nothing)
    if left is None or right is None:
        return None
    alike = isinstance(left, bool) == isinstance(right, bool) and isinstance(left, str) == isinstance(right, str)
    return alike and bool(left == right)


def equal(left: Node, right: Node) -> Node:
    """`left == right`; numbers and text are never equal."""
    return lambda values: _same(left(values), right(values))


def member(left: Node, members: list[Value]) -> Node:
    """`left in (...)`."""
    constants = [Nothing if member is None else member for member in members]

    def node(values: Values) -> bool | None:
        value = left(values)
        answers = [_same(value, constant) for constant in constants]
        return True if True in answers else None if None in answers else False

    return node


def ordered(left: Node, right: Node, sign: str, text: str) -> Node:
    """`left < right` and the like; raises `UsageError` for what has no order."""
    compare = ORDER[sign]

    def node(values: Values) -> bool | None:
        a, b = left(values), right(values)
        if a is None or b is None or a is Nothing or b is Nothing:
            return None
        if _type(a) != _type(b) or _type(a) not in ("text", "a number"):
            raise UsageError(f"{text!r}: cannot order {_type(a)} ({a!r}) {sign} {_type(b)} ({b!r})")
        return bool(compare(a, b))

    return node


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list"


def truth_of(value: Any, text: str) -> bool | None:
    """Return a condition's value, or refuse a bare number or text in its place."""
    if value is None or value is Nothing:
        return None
    if not isinstance(value, bool):
        raise UsageError(f"{text!r} uses {_type(value)} ({value!r}) as a condition; compare it with something")
    return value


def negation(node: Node, text: str) -> Node:
    """`not node`."""

    def negated(values: Values) -> bool | None:
        truth = truth_of(node(values), text)
        return None if truth is None else not truth

    return negated


def conjunction(nodes: list[Node], text: str) -> Node:
    """`a and b and ...`: false as soon as one is, unknown where one may be."""

    def every(values: Values) -> bool | None:
        unknown = False
        for node in nodes:
            truth = truth_of(node(values), text)
            if truth is False:
                return False
            unknown = unknown or truth is None
        return None if unknown else True

    return every


def disjunction(nodes: list[Node], text: str) -> Node:
    """`a or b or ...`: true as soon as one is, unknown where one may be."""

    def some(values: Values) -> bool | None:
        unknown = False
        for node in nodes:
            truth = truth_of(node(values), text)
            if truth is True:
                return True
            unknown = unknown or truth is None
        return None if unknown else False

    return some
