"""Operators, fields and indexes on values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skerry.cel.errors import EvalError
from skerry.cel.functions import MAX_SIZE, Functions
from skerry.cel.values import (
    INT_MIN,
    NONE,
    Duration,
    KeyedList,
    Optional,
    SetList,
    Timestamp,
    checked_int,
    checked_uint,
    compare,
    contains,
    equals,
    is_number,
    no_overload,
    some,
)

MIN_TIME, MAX_TIME = -62135596800 * 10**9, 253402300800 * 10**9 - 1


class Ordered:
    """A sort key of a value, by CEL's order."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Ordered) -> bool:
        return compare(self.value, other.value) < 0

    @classmethod
    def of_first(cls, pair: tuple[Any, Any]) -> Ordered:
        """The key of a pair, by its first part."""
        return cls(pair[0])


def field(value: Any, name: str) -> Any:
    """``value.name``.

    Raises:
        EvalError: there is no such member.
    """
    if isinstance(value, dict):
        if name in value:
            return value[name]
        raise EvalError(f"no such key: {name}")
    getter = getattr(value, "cel_field", None)
    if getter is not None:
        return getter(name)
    raise no_overload(value)


def has_field(value: Any, name: str) -> bool:
    """``has(value.name)``."""
    if isinstance(value, Optional):
        return value.has_value and has_field(value.value, name)
    if isinstance(value, dict):
        return name in value
    getter = getattr(value, "cel_has", None)
    if getter is not None:
        return bool(getter(name))
    raise no_overload(value)


def optional_field(value: Optional, name: str) -> Optional:
    """``value.?name``."""
    if not value.has_value:
        return NONE
    return some(field(value.value, name)) if has_field(value.value, name) else NONE


def key(value: Any) -> Any:
    """A key of a map: a whole double finds the int, as numbers are equal across types.

    Raises:
        EvalError: no type of keys.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (str, int)):
        return value
    raise EvalError(f"unsupported key type: {type(value).__name__}")


def index(value: Any, at: Any) -> Any:
    """``value[at]``.

    Raises:
        EvalError: no such place.
    """
    if isinstance(value, Optional):
        return optional_index(value, at)
    if isinstance(value, list):
        place = _place(at)
        if not 0 <= place < len(value):
            raise EvalError(f"index out of bounds: {place}")
        return value[place]
    if isinstance(value, dict):
        found = key(at) if not isinstance(at, bool) else at
        if found not in value:
            raise EvalError(f"no such key: {at}")
        return value[found]
    raise no_overload(value, at)


def optional_index(value: Any, at: Any) -> Optional:
    """``value[?at]``."""
    if isinstance(value, Optional):
        if not value.has_value:
            return NONE
        value = value.value
    try:
        return some(index(value, at))
    except EvalError as exc:
        if "no such key" in str(exc) or "out of bounds" in str(exc):
            return NONE
        raise


def _place(at: Any) -> int:
    if isinstance(at, float) and at.is_integer():
        return int(at)
    if isinstance(at, int) and not isinstance(at, bool):
        return int(at)
    raise no_overload(at)


def add(a: Any, b: Any) -> Any:
    """``a + b`` of lists and texts."""
    if len(a) + len(b) > MAX_SIZE:
        raise EvalError(f"result of more than {MAX_SIZE} items")
    if isinstance(a, KeyedList):
        later = {repr(a.key_of(item)): item for item in b}
        kept = [later.pop(repr(a.key_of(item)), item) for item in a]
        return KeyedList([*kept, *later.values()], a.keys)
    if isinstance(a, SetList):
        return SetList([*a, *(item for item in b if not contains(a, item))])
    return [*a, *b] if isinstance(a, list) else a + b


def _whole(work: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    return lambda a, b: checked_int(work(a, b))


def _unsigned(work: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    return lambda a, b: checked_uint(work(int(a), int(b)))


def _quotient(a: int, b: int) -> int:
    if b == 0:
        raise EvalError("division by zero")
    found = abs(a) // abs(b)
    return found if (a < 0) == (b < 0) else -found


def _rest(a: int, b: int) -> int:
    if b == 0:
        raise EvalError("modulus by zero")
    return int(math.fmod(a, b)) if abs(a) < 1 << 52 and abs(b) < 1 << 52 else a - b * _quotient(a, b)


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _moment(nanos: int) -> Timestamp:
    if not MIN_TIME <= nanos <= MAX_TIME:
        raise EvalError("timestamp overflow")
    return Timestamp(nanos)


def span(nanos: int) -> Duration:
    """A duration, when it is in range."""
    if not INT_MIN <= nanos <= -INT_MIN - 1:
        raise EvalError("duration overflow")
    return Duration(nanos)


def _in(value: Any, items: Any) -> bool:
    if isinstance(items, dict):
        try:
            return key(value) in items
        except EvalError:
            return False
    return contains(items, value)


def add_operators(table: Functions) -> None:
    """Put the operators into the table of functions."""
    for word, whole in (("+", lambda a, b: a + b), ("-", lambda a, b: a - b), ("*", lambda a, b: a * b)):
        table.function(f"_{word}_", "int, int", "int", _whole(whole))
        table.function(f"_{word}_", "uint, uint", "uint", _unsigned(whole))
        table.function(f"_{word}_", "double, double", "double", whole)
    for word, work in (("/", _quotient), ("%", _rest)):
        table.function(f"_{word}_", "int, int", "int", _whole(work))
        table.function(f"_{word}_", "uint, uint", "uint", _unsigned(work))
    table.function("_/_", "double, double", "double", _divide)
    for kind in ("string, string", "bytes, bytes", "list<A>, list<A>"):
        table.function("_+_", kind, kind.partition(", ")[0], add)
    table.function("_+_", "timestamp, duration", "timestamp", lambda a, b: _moment(a.nanos + b.nanos))
    table.function("_+_", "duration, timestamp", "timestamp", lambda a, b: _moment(a.nanos + b.nanos))
    table.function("_+_", "duration, duration", "duration", lambda a, b: span(a.nanos + b.nanos))
    table.function("_-_", "timestamp, timestamp", "duration", lambda a, b: span(a.nanos - b.nanos))
    table.function("_-_", "timestamp, duration", "timestamp", lambda a, b: _moment(a.nanos - b.nanos))
    table.function("_-_", "duration, duration", "duration", lambda a, b: span(a.nanos - b.nanos))
    table.function("-_", "int", "int", lambda a: checked_int(-a))
    table.function("-_", "double", "double", lambda a: -a)
    table.function("!_", "bool", "bool", lambda a: not a)
    table.function("_==_", "A, A", "bool", equals)
    table.function("_!=_", "A, A", "bool", lambda a, b: not equals(a, b))
    tests: tuple[tuple[str, Callable[[int], bool]], ...] = (
        ("<", lambda c: c < 0), ("<=", lambda c: c <= 0), (">", lambda c: c > 0), (">=", lambda c: c >= 0),
    )  # fmt: skip
    for word, test in tests:
        _add_order(table, f"_{word}_", test)
    table.function("@in", "A, list<A>", "bool", _in)
    table.function("@in", "A, map<A, B>", "bool", _in)
    table.function("_[_]", "list<A>, int", "A", index)
    table.function("_[_]", "map<A, B>, A", "B", index)
    table.function("_[_]", "optional<list<A>>, int", "optional<A>", index)
    table.function("_[_]", "optional<map<A, B>>, A", "optional<B>", index)
    table.function("_[?_]", "list<A>, int", "optional<A>", optional_index)
    table.function("_[?_]", "map<A, B>, A", "optional<B>", optional_index)
    table.function("_[?_]", "optional<list<A>>, int", "optional<A>", optional_index)
    table.function("_[?_]", "optional<map<A, B>>, A", "optional<B>", optional_index)


def _add_order(table: Functions, name: str, test: Callable[[int], bool]) -> None:
    def call(a: Any, b: Any) -> bool:
        if is_number(a) and is_number(b) and (a != a or b != b):
            return False
        return test(compare(a, b))

    for kind in ("string", "bytes", "bool", "timestamp", "duration"):
        table.function(name, f"{kind}, {kind}", "bool", call)
    for first in ("int", "uint", "double"):
        for second in ("int", "uint", "double"):
            table.function(name, f"{first}, {second}", "bool", call)
