"""Values at run time: what CEL's types are in Python, their equality and order.

``null bool int double string bytes list map`` are Python's own; ``uint`` is ``Uint``. Lists that a schema declares as
sets or maps are ``SetList`` and ``KeyedList``: equal whatever their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry.cel.errors import EvalError

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
NANOS = 10**9


class Uint(int):
    """An unsigned integer."""

    __slots__ = ()


class SetList(list[Any]):
    """A list of unique values in any order."""

    __slots__ = ()


class KeyedList(list[Any]):
    """A list of objects told apart by some of their fields, in any order."""

    __slots__ = ("keys",)

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def key_of(self, item: Any) -> tuple[Any, ...]:
        """What tells an item apart."""
        return tuple(item.get(name) if isinstance(item, dict) else None for name in self.keys)


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment, in nanoseconds since 1970."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be missing."""

    value: Any = None
    has_value: bool = False


NONE = Optional()


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value: the answer of ``type(x)``."""

    name: str


def some(value: Any) -> Optional:
    """An optional that has a value."""
    return Optional(value, True)


def type_name(value: Any) -> str:
    """CEL's name of a value's type."""
    if value is None:
        return "null_type"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Uint):
        return "uint"
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name
    return str(getattr(value, "cel_type", type(value).__name__))


_NAMES: tuple[tuple[type, str], ...] = (
    (int, "int"),
    (float, "double"),
    (str, "string"),
    (bytes, "bytes"),
    (list, "list"),
    (dict, "map"),
    (Timestamp, "google.protobuf.Timestamp"),
    (Duration, "google.protobuf.Duration"),
    (Optional, "optional_type"),
    (TypeValue, "type"),
)


def is_number(value: Any) -> bool:
    """Whether a value is an int, uint or double."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equals(a: Any, b: Any) -> bool:
    """CEL's equality: numbers by value whatever their type, everything else only within its type."""
    if a is b:
        return not (isinstance(a, float) and a != a)
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if is_number(a) and is_number(b):
        return bool(a == b)
    if isinstance(a, list):
        return isinstance(b, list) and _equal_lists(a, b)
    if isinstance(a, dict):
        return (
            isinstance(b, dict)
            and len(a) == len(b)
            and all(key in b and equals(value, b[key]) for key, value in a.items())
        )
    if isinstance(a, Optional) and isinstance(b, Optional):
        return a.has_value == b.has_value and equals(a.value, b.value)
    return type(a) is type(b) and bool(a == b)


def _equal_lists(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        return False
    if isinstance(a, KeyedList) or isinstance(b, KeyedList):
        keyed = a if isinstance(a, KeyedList) else b
        assert isinstance(keyed, KeyedList)
        others = {_frozen(keyed.key_of(item)): item for item in b}
        return all((key := _frozen(keyed.key_of(item))) in others and equals(item, others[key]) for item in a)
    if isinstance(a, SetList) or isinstance(b, SetList):
        bag = Bag(b)
        return all(item in bag for item in a)
    return all(equals(x, y) for x, y in zip(a, b, strict=True))


def _frozen(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(repr(part) if isinstance(part, (list, dict)) else part for part in key)


def contains(items: list[Any], value: Any) -> bool:
    """Whether a list has an equal item."""
    return any(equals(item, value) for item in items)


class Bag:
    """Quick answers whether a list has an equal item: texts and numbers are hashed, the rest is searched.

    Raises:
        EvalError: more than a thousand items have to be searched.
    """

    __slots__ = ("_plain", "_rest")

    def __init__(self, items: list[Any]) -> None:
        self._plain: set[Any] = set()
        self._rest: list[Any] = []
        for item in items:
            self.add(item)

    def add(self, item: Any) -> None:
        """Put one more in."""
        if _is_plain(item):
            self._plain.add(item)
        elif len(self._rest) < 1000:
            self._rest.append(item)
        else:
            raise EvalError("comparing more than 1000 items that are neither texts nor numbers")

    def __contains__(self, item: Any) -> bool:
        return item in self._plain if _is_plain(item) else contains(self._rest, item)


def _is_plain(item: Any) -> bool:
    return isinstance(item, (str, bytes)) or is_number(item)


def compare(a: Any, b: Any) -> int:
    """-1, 0 or 1 for values that have an order.

    Raises:
        EvalError: they have none.
    """
    both = (a, b)
    fits = (
        all(is_number(v) for v in both)
        or any(all(isinstance(v, kind) for v in both) for kind in (str, bytes, bool, Timestamp, Duration))
    )  # fmt: skip
    if not fits:
        custom = getattr(a, "cel_compare", None)
        if custom is not None and type(a) is type(b):
            return int(custom(b))
        raise no_overload(a, b)
    if a == b:
        return 0
    return -1 if a < b else 1


def no_overload(*values: Any) -> EvalError:
    """The error of an operation that the types of its operands do not have."""
    return EvalError(f"no such overload: ({', '.join(type_name(value) for value in values)})")


def checked_int(number: int) -> int:
    """An int, when it fits in 64 bits.

    Raises:
        EvalError: it does not.
    """
    if not INT_MIN <= number <= INT_MAX:
        raise EvalError("integer overflow")
    return number


def checked_uint(number: int) -> Uint:
    """A uint, when it fits in 64 bits.

    Raises:
        EvalError: it does not.
    """
    if not 0 <= number <= UINT_MAX:
        raise EvalError("unsigned integer overflow")
    return Uint(number)
