"""Lists, sets and optional values.

Source: kubernetes apiserver/pkg/cel/library/lists.go; cel-go ext/{lists,sets}.go, cel/library.go (v1.36).
"""

from __future__ import annotations

from functools import cmp_to_key, reduce
from itertools import pairwise
from typing import Any

from skerry.cel.errors import EvalError
from skerry.cel.functions import MAX_SIZE, Functions
from skerry.cel.operators import span
from skerry.cel.values import (
    NONE,
    Bag,
    Duration,
    Uint,
    checked_int,
    checked_uint,
    compare,
    equals,
    no_overload,
    some,
)

_RANGE = 100_000


def add_lists(table: Functions) -> None:
    """Put the functions on lists into the table."""
    table.method("isSorted", "list<A>", "bool", _is_sorted)
    table.method("min", "list<A>", "A", lambda items: _extreme(items, -1, "min"))
    table.method("max", "list<A>", "A", lambda items: _extreme(items, 1, "max"))
    table.method("sum", "list<A>", "A", _sum)
    table.method("indexOf", "list<A>, A", "int", lambda items, value: _index_of(items, value, range(len(items))))
    table.method(
        "lastIndexOf", "list<A>, A", "int", lambda items, value: _index_of(items, value, reversed(range(len(items))))
    )
    table.method("slice", "list<A>, int, int", "list<A>", _slice)
    table.method("flatten", "list<A>", "list<dyn>", lambda items: _flatten(items, 1))
    table.method("flatten", "list<A>, int", "list<dyn>", _flatten)
    table.method("distinct", "list<A>", "list<A>", _distinct)
    table.method("reverse", "list<A>", "list<A>", lambda items: items[::-1])
    table.method("sort", "list<A>", "list<A>", lambda items: sorted(items, key=cmp_to_key(compare)))
    table.method("first", "list<A>", "optional<A>", lambda items: some(items[0]) if items else NONE)
    table.method("last", "list<A>", "optional<A>", lambda items: some(items[-1]) if items else NONE)
    table.function("lists.range", "int", "list<int>", _range)


def add_sets(table: Functions) -> None:
    """Put the functions on sets into the table."""
    table.function("sets.contains", "list<A>, list<A>", "bool", _contains_all)
    table.function(
        "sets.equivalent", "list<A>, list<A>", "bool", lambda a, b: _contains_all(a, b) and _contains_all(b, a)
    )
    table.function("sets.intersects", "list<A>, list<A>", "bool", _intersects)


def add_optionals(table: Functions) -> None:
    """Put the functions on optional values into the table; ``or`` and ``orValue`` are run by the evaluator."""
    table.function("optional.of", "A", "optional<A>", some)
    table.function("optional.none", "", "optional<A>", lambda: NONE)
    table.function(
        "optional.ofNonZeroValue", "A", "optional<A>", lambda value: NONE if _is_zero(value) else some(value)
    )
    table.method("hasValue", "optional<A>", "bool", lambda optional: optional.has_value)
    table.method("value", "optional<A>", "A", _value)
    table.method("or", "optional<A>, optional<A>", "optional<A>", lambda a, b: a if a.has_value else b)
    table.method("orValue", "optional<A>, A", "A", lambda a, b: a.value if a.has_value else b)
    table.function("optional.unwrap", "list<optional<A>>", "list<A>", _unwrap)
    table.method("unwrapOpt", "list<optional<A>>", "list<A>", _unwrap)


def _is_sorted(items: list[Any]) -> bool:
    return all(compare(a, b) <= 0 for a, b in pairwise(items))


def _extreme(items: list[Any], sign: int, name: str) -> Any:
    if not items:
        raise EvalError(f"{name} called on empty list")
    return reduce(lambda best, item: item if compare(item, best) == sign else best, items)


def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    first = items[0]
    if isinstance(first, Duration):
        return span(sum(item.nanos for item in items))
    if any(type(item) is not type(first) for item in items) or not isinstance(first, (int, float)):
        raise no_overload(*items[:2])
    if isinstance(first, bool):
        raise no_overload(first)
    if isinstance(first, Uint):
        return checked_uint(sum(map(int, items)))
    total = sum(items)
    return total if isinstance(total, float) else checked_int(total)


def _index_of(items: list[Any], value: Any, places: Any) -> int:
    return next((place for place in places if equals(items[place], value)), -1)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0 or start > end or end > len(items):
        raise EvalError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise EvalError("level must be non-negative")
    found: list[Any] = []
    for item in items:
        found += _flatten(item, depth - 1) if isinstance(item, list) and depth > 0 else [item]
        if len(found) > MAX_SIZE:
            raise EvalError(f"result of more than {MAX_SIZE} items")
    return found


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    seen = Bag([])
    for item in items:
        if item not in seen:
            found.append(item)
            seen.add(item)
    return found


def _range(count: int) -> list[int]:
    if count > _RANGE:
        raise EvalError(f"lists.range takes at most {_RANGE}")
    return list(range(count))


def _contains_all(a: list[Any], b: list[Any]) -> bool:
    bag = Bag(a)
    return all(item in bag for item in b)


def _intersects(a: list[Any], b: list[Any]) -> bool:
    bag = Bag(a)
    return any(item in bag for item in b)


def _is_zero(value: Any) -> bool:
    return value is None or value is False or value in (0, 0.0, "", b"") or value == [] or value == {}


def _value(optional: Any) -> Any:
    if not optional.has_value:
        raise EvalError("optional.none() dereference")
    return optional.value


def _unwrap(items: list[Any]) -> list[Any]:
    return [item.value for item in items if item.has_value]
