"""Running a tree: every node becomes a closure over a frame.

Each step costs one unit, each tenth character or item that a function reads one more. A frame stops at its cost limit
or at its deadline, which counts the thread's processor time, so that a busy machine changes no answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from skerry.cel import operators
from skerry.cel.ast import Call, Ident, ListOf, Literal, Macro, MapOf, Node, Select, Struct
from skerry.cel.errors import CostExceeded, EvalError
from skerry.cel.functions import Functions, Overload
from skerry.cel.parser import qualified_name
from skerry.cel.values import NONE, Optional, TypeValue, no_overload, some, type_name

_CHECK_EVERY = 64
TYPE_NAMES = (
    "bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "optional_type",
    "google.protobuf.Duration", "google.protobuf.Timestamp",
)  # fmt: skip

Run = Callable[["Frame"], Any]


class Lazy:
    """A variable that is computed when it is first used."""

    __slots__ = ("_compute", "_is_done", "_value")

    def __init__(self, compute: Callable[[Frame], Any]) -> None:
        self._compute = compute
        self._is_done = False
        self._value: Any = None

    def get(self, frame: Frame) -> Any:
        """The value."""
        if not self._is_done:
            self._value = self._compute(frame)
            self._is_done = True
        return self._value


class Frame:
    """One run: its variables and what it may still cost."""

    __slots__ = ("_check_at", "_deadline", "cost", "limit", "variables")

    def __init__(self, variables: Mapping[str, Any], *, limit: int, deadline_s: float) -> None:
        self.variables = dict(variables)
        self.cost = 0
        self.limit = limit
        self._deadline = time.thread_time() + deadline_s
        self._check_at = _CHECK_EVERY

    def charge(self, units: int = 1) -> None:
        """Pay for a step.

        Raises:
            CostExceeded: the limit or the deadline is reached.
        """
        self.cost += units
        if self.cost > self.limit:
            raise CostExceeded(f"operation cancelled: actual cost limit exceeded ({self.limit})")
        if self.cost >= self._check_at:
            self._check_at = self.cost + _CHECK_EVERY
            if time.thread_time() > self._deadline:
                raise CostExceeded("operation cancelled: the expression took too long")


class Compiler:
    """Makes closures of a checked tree.

    Args:
        names: variables; other names may be types or parts of qualified function names.
        make: builds ``Name{…}`` from its members; None when the name is unknown.
    """

    def __init__(
        self,
        functions: Functions,
        names: frozenset[str],
        make: Callable[[str, dict[str, Any]], Any] | None = None,
    ) -> None:
        self._functions = functions
        self._names = names
        self._make = make

    def run(self, node: Node) -> Run:
        """The closure of a node."""
        match node:
            case Literal(value=value):
                return lambda frame: value
            case Ident(name=name):
                return self._ident(name)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListOf():
                return self._list(node)
            case MapOf():
                return self._map(node)
            case Struct():
                return self._struct(node)
            case Macro():
                return self._macro(node)
        raise AssertionError(node)

    def _ident(self, name: str) -> Run:
        known = TypeValue(name) if name in TYPE_NAMES and name not in self._names else None

        def run(frame: Frame) -> Any:
            frame.charge()
            value = frame.variables.get(name, frame)
            if value is frame:
                if known is not None:
                    return known
                raise EvalError(f"no such attribute: {name}")
            return value.get(frame) if isinstance(value, Lazy) else value

        return run

    def _select(self, node: Select) -> Run:
        qualified = qualified_name(node)
        if qualified in TYPE_NAMES:
            value = TypeValue(str(qualified))
            return lambda frame: value
        operand, name = self.run(node.operand), node.field
        is_optional, is_test = node.is_optional, node.is_test

        def run(frame: Frame) -> Any:
            frame.charge()
            value = operand(frame)
            if isinstance(value, Optional) and not is_test:
                return operators.optional_field(value, name)
            if is_test:
                return operators.has_field(value, name)
            if is_optional:
                return operators.optional_field(some(value), name)
            return operators.field(value, name)

        return run

    def _list(self, node: ListOf) -> Run:
        items = [(self.run(item), index in node.optional) for index, item in enumerate(node.items)]

        def run(frame: Frame) -> Any:
            frame.charge(1 + len(items))
            found = []
            for item, is_optional in items:
                value = item(frame)
                if not is_optional:
                    found.append(value)
                elif value.has_value:
                    found.append(value.value)
            return found

        return run

    def _map(self, node: MapOf) -> Run:
        entries = [(self.run(key), self.run(value), is_optional) for key, value, is_optional in node.entries]

        def run(frame: Frame) -> Any:
            frame.charge(1 + len(entries))
            found: dict[Any, Any] = {}
            for key_of, value_of, is_optional in entries:
                key, value = operators.key(key_of(frame)), value_of(frame)
                if key in found:
                    raise EvalError(f"duplicate key in map: {key}")
                if not is_optional:
                    found[key] = value
                elif value.has_value:
                    found[key] = value.value
            return found

        return run

    def _struct(self, node: Struct) -> Run:
        entries = [(name, self.run(value), is_optional) for name, value, is_optional in node.entries]
        make = self._make
        assert make is not None

        def run(frame: Frame) -> Any:
            frame.charge(1 + len(entries))
            found: dict[str, Any] = {}
            for name, value_of, is_optional in entries:
                value = value_of(frame)
                if not is_optional:
                    found[name] = value
                elif value.has_value:
                    found[name] = value.value
            return make(node.name, found)

        return run

    def _call(self, node: Call) -> Run:
        if node.target is None:
            if node.function in ("_&&_", "_||_"):
                return _logic([self.run(arg) for arg in node.args], stops_at=node.function == "_||_")
            if node.function == "_?_:_":
                return _choice(*[self.run(arg) for arg in node.args])
            overloads = self._functions.functions.get(node.function, [])
            return _invoke(node.function, overloads, [self.run(arg) for arg in node.args])
        qualified = qualified_name(node.target)
        root = qualified.partition(".")[0] if qualified else ""
        if root and root not in self._names:
            overloads = self._functions.functions.get(f"{qualified}.{node.function}", [])
            if overloads:
                return _invoke(node.function, overloads, [self.run(arg) for arg in node.args])
        if node.function in ("or", "orValue") and len(node.args) == 1:
            return _otherwise(self.run(node.target), self.run(node.args[0]), keeps=node.function == "or")
        overloads = self._functions.methods.get(node.function, [])
        return _invoke(node.function, overloads, [self.run(node.target), *map(self.run, node.args)])

    def _macro(self, node: Macro) -> Run:
        inner = Compiler(self._functions, self._names | set(node.variables), self._make)
        operand, body = self.run(node.operand), [inner.run(part) for part in node.body]
        match node.name:
            case "bind":
                return _bind(operand, node.variables[0], body[0])
            case "optMap" | "optFlatMap":
                return _option(operand, node.variables[0], body[0], wraps=node.name == "optMap")
        loop = _LOOPS[node.name]

        def run(frame: Frame) -> Any:
            frame.charge()
            value = operand(frame)
            if not isinstance(value, (list, dict)):
                raise no_overload(value)
            names = node.variables
            saved = {name: frame.variables[name] for name in names if name in frame.variables}
            try:
                return loop(frame, value, names, body)
            finally:
                for name in names:
                    frame.variables.pop(name, None)
                frame.variables.update(saved)

        return run


def _invoke(name: str, overloads: list[Overload], args: list[Run]) -> Run:
    fitting = [overload for overload in overloads if len(overload.args) == len(args)]

    def run(frame: Frame) -> Any:
        values = tuple([arg(frame) for arg in args])
        units = 1
        for value in values:
            if isinstance(value, (str, bytes, list, dict)):
                units += len(value) // 10
        frame.charge(units)
        for overload in fitting:
            if overload.takes(values):
                return overload.call(*values)
        raise EvalError(f"no such overload: {name}({', '.join(type_name(value) for value in values)})")

    return run


def _logic(parts: list[Run], *, stops_at: bool) -> Run:
    """``&&`` and ``||``: an operand that decides wins over one that fails, whatever their order."""

    def run(frame: Frame) -> Any:
        failed: EvalError | None = None
        for part in parts:
            try:
                value = part(frame)
            except CostExceeded:
                raise
            except EvalError as exc:
                failed = failed or exc
                continue
            if value is stops_at:
                return stops_at
            if not isinstance(value, bool):
                failed = failed or no_overload(value)
        if failed is not None:
            raise failed
        return not stops_at

    return run


def _choice(condition: Run, yes: Run, no: Run) -> Run:
    def run(frame: Frame) -> Any:
        frame.charge()
        value = condition(frame)
        if not isinstance(value, bool):
            raise no_overload(value)
        return yes(frame) if value else no(frame)

    return run


def _otherwise(optional: Run, other: Run, *, keeps: bool) -> Run:
    """``or`` and ``orValue``: the other value is computed only when it is needed."""

    def run(frame: Frame) -> Any:
        frame.charge()
        value = optional(frame)
        if not isinstance(value, Optional):
            raise no_overload(value)
        if value.has_value:
            return value if keeps else value.value
        return other(frame)

    return run


def _bind(value: Run, name: str, body: Run) -> Run:
    def run(frame: Frame) -> Any:
        frame.charge()
        missing = object()
        saved = frame.variables.get(name, missing)
        computed = value(frame)
        frame.variables[name] = computed
        try:
            return body(frame)
        finally:
            if saved is missing:
                del frame.variables[name]
            else:
                frame.variables[name] = saved

    return run


def _option(optional: Run, name: str, body: Run, *, wraps: bool) -> Run:
    bound = _bind(lambda frame: frame.variables["@value"], name, body)

    def run(frame: Frame) -> Any:
        value = optional(frame)
        if not isinstance(value, Optional):
            raise no_overload(value)
        if not value.has_value:
            return NONE
        frame.variables["@value"] = value.value
        found = bound(frame)
        return some(found) if wraps else found

    return run


Loop = Callable[[Frame, Any, tuple[str, ...], list[Run]], Any]


def _each(frame: Frame, items: Any, names: tuple[str, ...]) -> Any:
    """Set the variables for one item after the other."""
    variables = frame.variables
    if len(names) == 1:
        for item in items:
            frame.charge()
            variables[names[0]] = item
            yield item
        return
    for first, second in items.items() if isinstance(items, dict) else enumerate(items):
        frame.charge()
        variables[names[0]], variables[names[1]] = first, second
        yield first


def _true(value: Any) -> bool:
    if not isinstance(value, bool):
        raise no_overload(value)
    return value


def _quantified(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run], *, stops_at: bool) -> bool:
    failed: EvalError | None = None
    for _ in _each(frame, items, names):
        try:
            if _true(body[0](frame)) is stops_at:
                return stops_at
        except CostExceeded:
            raise
        except EvalError as exc:
            failed = failed or exc
    if failed is not None:
        raise failed
    return not stops_at


def _all(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    return _quantified(frame, items, names, body, stops_at=False)


def _exists(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    return _quantified(frame, items, names, body, stops_at=True)


def _exists_one(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    return sum(_true(body[0](frame)) for _ in _each(frame, items, names)) == 1


def _filter(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    return [item for item in _each(frame, items, names) if _true(body[0](frame))]


def _map_items(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    """``map`` and ``transformList``, with or without a condition before the result."""
    if len(body) == 1:
        return [body[0](frame) for _ in _each(frame, items, names)]
    return [body[1](frame) for _ in _each(frame, items, names) if _true(body[0](frame))]


def _transform_map(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    found = {}
    for key in _each(frame, items, names):
        if len(body) == 1 or _true(body[0](frame)):
            found[key] = body[-1](frame)
    return found


def _transform_entry(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    found: dict[Any, Any] = {}
    for _ in _each(frame, items, names):
        if len(body) == 1 or _true(body[0](frame)):
            entry = body[-1](frame)
            if not isinstance(entry, dict):
                raise no_overload(entry)
            for key, value in entry.items():
                if key in found:
                    raise EvalError(f"insert failed: key '{key}' already exists")
                found[key] = value
    return found


def _sort_by(frame: Frame, items: Any, names: tuple[str, ...], body: list[Run]) -> Any:
    keyed = [(body[0](frame), item) for item in _each(frame, items, names)]
    frame.charge(len(keyed) * max(1, len(keyed).bit_length()))
    return [item for _, item in sorted(keyed, key=operators.Ordered.of_first)]


_LOOPS: dict[str, Loop] = {
    "all": _all,
    "exists": _exists,
    "existsOne": _exists_one,
    "filter": _filter,
    "map": _map_items,
    "sortBy": _sort_by,
    "transformList": _map_items,
    "transformMap": _transform_map,
    "transformMapEntry": _transform_entry,
}
