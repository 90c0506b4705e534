"""The checker: every name must be known and every call must have an overload that fits, before anything runs.

Source of the texts: cel-go checker/errors.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skerry.cel.ast import Call, Ident, ListOf, Literal, Macro, MapOf, Node, Select, Struct
from skerry.cel.errors import CompileError, issue
from skerry.cel.evaluate import TYPE_NAMES
from skerry.cel.functions import Functions, Overload
from skerry.cel.parser import qualified_name
from skerry.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    UINT,
    ObjectType,
    Type,
    list_of,
    map_of,
    optional_of,
    substitute,
    unify,
)
from skerry.cel.values import Uint

_MOST_ERRORS = 10


class Checker:
    """Types one expression.

    Args:
        variables: the types of the names that it may use.
        struct: the type of ``Name{…}``, None for names that cannot be built.
    """

    def __init__(
        self,
        source: str,
        functions: Functions,
        variables: Mapping[str, Type],
        struct: Callable[[str], Type | None] = lambda name: None,
    ) -> None:
        self._source = source
        self._functions = functions
        self._variables = dict(variables)
        self._struct = struct
        self._errors: list[str] = []

    def check(self, node: Node) -> Type:
        """The type of the whole expression.

        Raises:
            CompileError: with every problem that was found.
        """
        found = self._of(node)
        if self._errors:
            raise CompileError("\n".join(self._errors))
        return found

    def _fail(self, at: int, text: str) -> Type:
        if len(self._errors) < _MOST_ERRORS:
            self._errors.append(issue(self._source, at, text))
        return DYN

    def _of(self, node: Node) -> Type:
        match node:
            case Literal(value=value):
                return _literal(value)
            case Ident(name=name):
                return self._ident(node.at, name)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListOf(items=items, optional=optional):
                parts = [(item, index in optional) for index, item in enumerate(items)]
                return list_of(self._joined(parts))
            case MapOf(entries=entries):
                keys = self._joined([(key, False) for key, _, _ in entries])
                return map_of(keys, self._joined([(value, is_optional) for _, value, is_optional in entries]))
            case Struct():
                return self._struct_of(node)
            case Macro():
                return self._macro(node)
        raise AssertionError(node)

    def _ident(self, at: int, name: str) -> Type:
        if name in self._variables:
            return self._variables[name]
        if name in TYPE_NAMES:
            return Type("type")
        return self._fail(at, f"undeclared reference to '{name}' (in container '')")

    def _select(self, node: Select) -> Type:
        qualified = qualified_name(node)
        if qualified in TYPE_NAMES:
            return Type("type")
        operand = self._of(node.operand)
        is_wrapped = operand.name == "optional_type"
        inner = operand.params[0] if is_wrapped and operand.params else operand
        if inner.name not in ("dyn", "map") and not isinstance(inner, ObjectType) and not inner.is_variable:
            return self._fail(node.at, f"type '{inner}' does not support field selection")
        found = DYN if inner.is_variable else inner.field(node.field)
        if found is None:
            return self._fail(node.at, f"undefined field '{node.field}'")
        if node.is_test:
            return BOOL
        return optional_of(found) if node.is_optional or is_wrapped else found

    def _joined(self, parts: list[tuple[Node, bool]]) -> Type:
        """The one type of the items of a literal."""
        known: Type | None = None
        for item, is_optional in parts:
            found = self._of(item)
            if is_optional:
                if found.name not in ("optional_type", "dyn"):
                    return self._fail(item.at, f"expected type 'optional_type' but found '{found}'")
                found = found.params[0] if found.params else DYN
            if known is None or found.name == "dyn" or known.name == "null":
                known = found
            elif not unify(known, found, {}):
                return self._fail(item.at, f"expected type '{known}' but found '{found}'")
        return known or DYN

    def _struct_of(self, node: Struct) -> Type:
        found = self._struct(node.name)
        if found is None:
            return self._fail(node.at, f"undeclared reference to '{node.name}' (in container '')")
        for name, value, _ in node.entries:
            given = self._of(value)
            wanted = found.field(name)
            if wanted is None:
                self._fail(value.at, f"undefined field '{name}'")
            elif not unify(wanted, given, {}) and given.name != "optional_type":
                self._fail(value.at, f"expected type of field '{name}' is '{wanted}' but provided type is '{given}'")
        return found

    def _call(self, node: Call) -> Type:
        if node.target is None:
            if node.function in ("_&&_", "_||_"):
                for arg in node.args:
                    self._expect(arg, BOOL, node.function)
                return BOOL
            if node.function == "_?_:_":
                return self._choice(node)
            return self._resolve(node, self._functions.functions.get(node.function), node.args)
        qualified = qualified_name(node.target)
        root = qualified.partition(".")[0] if qualified else ""
        if root and root not in self._variables:
            found = self._functions.functions.get(f"{qualified}.{node.function}")
            if found is not None:
                return self._resolve(node, found, node.args)
        overloads = self._functions.methods.get(node.function)
        if overloads is None and root and root not in self._variables and root not in TYPE_NAMES:
            return self._fail(node.at, f"undeclared reference to '{qualified}.{node.function}' (in container '')")
        return self._resolve(node, overloads, (node.target, *node.args))

    def _expect(self, node: Node, wanted: Type, function: str) -> None:
        found = self._of(node)
        if not unify(wanted, found, {}):
            self._fail(node.at, f"expected type '{wanted}' but found '{found}'")

    def _choice(self, node: Call) -> Type:
        self._expect(node.args[0], BOOL, node.function)
        yes, no = self._of(node.args[1]), self._of(node.args[2])
        bound: dict[str, Type] = {}
        if not unify(yes, no, bound):
            return self._fail(node.at, f"found no matching overload for '_?_:_' applied to '(bool, {yes}, {no})'")
        return no if yes.name in ("dyn", "null") else yes

    def _mixed(self, node: Node) -> Type:
        """The arguments of ``format``, the one literal whose items may differ in type."""
        if isinstance(node, ListOf):
            for item in node.items:
                self._of(item)
            return list_of(DYN)
        return self._of(node)

    def _resolve(self, node: Call, overloads: list[Overload] | None, args: tuple[Node, ...]) -> Type:
        given = [self._mixed(arg) if node.function == "format" else self._of(arg) for arg in args]
        if overloads is None:
            return self._fail(node.at, f"undeclared reference to '{node.function}' (in container '')")
        results: list[Type] = []
        for overload in overloads:
            bound: dict[str, Type] = {}
            if len(overload.args) == len(given) and all(
                unify(wanted, have, bound) for wanted, have in zip(overload.args, given, strict=True)
            ):
                results.append(substitute(overload.result, bound))
        if not results:
            shown = ", ".join(map(str, given))
            if node.target is not None and len(args) > len(node.args):
                shown = f"{given[0]}.({', '.join(map(str, given[1:]))})"
                return self._fail(node.at, f"found no matching overload for '{node.function}' applied to '{shown}'")
            return self._fail(node.at, f"found no matching overload for '{node.function}' applied to '({shown})'")
        first = results[0]
        return first if all(str(result) == str(first) for result in results) else DYN

    def _macro(self, node: Macro) -> Type:
        operand = self._of(node.operand)
        names = node.variables
        if node.name == "bind":
            return self._scoped({names[0]: operand}, node.body)[0]
        if node.name in ("optMap", "optFlatMap"):
            inner = operand.params[0] if operand.name == "optional_type" and operand.params else DYN
            found = self._scoped({names[0]: inner}, node.body)[0]
            return optional_of(found) if node.name == "optMap" else found
        items = self._items(node, operand, len(names))
        parts = self._scoped(dict(zip(names, items, strict=True)), node.body)
        return self._loop(node, operand, items, parts)

    def _items(self, node: Macro, operand: Type, count: int) -> list[Type]:
        match operand.name:
            case "list":
                return [operand.params[0]] if count == 1 else [INT, operand.params[0]]
            case "map":
                return [operand.params[0]] if count == 1 else list(operand.params)
        if operand.name != "dyn" and not operand.is_variable and not isinstance(operand, ObjectType):
            self._fail(
                node.operand.at,
                f"expression of type '{operand}' cannot be range of a comprehension (must be list, map, or dynamic)",
            )
        return [DYN] * count

    def _scoped(self, names: Mapping[str, Type], body: tuple[Node, ...]) -> list[Type]:
        saved = dict(self._variables)
        self._variables |= names
        found = [self._of(part) for part in body]
        self._variables = saved
        return found

    def _loop(self, node: Macro, operand: Type, items: list[Type], parts: list[Type]) -> Type:
        tests = parts if node.name in ("all", "exists", "existsOne", "filter") else parts[:-1]
        for part, test in zip(node.body, tests, strict=False):
            if not unify(BOOL, test, {}):
                self._fail(part.at, f"expected type 'bool' but found '{test}'")
        match node.name:
            case "all" | "exists" | "existsOne":
                return BOOL
            case "filter":
                return list_of(items[0])
            case "sortBy":
                return operand
            case "map" | "transformList":
                return list_of(parts[-1])
            case "transformMap":
                return map_of(items[0], parts[-1])
        return parts[-1]


def _literal(value: Any) -> Type:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, Uint):
        return UINT
    if isinstance(value, int):
        return INT
    if isinstance(value, float):
        return DOUBLE
    return BYTES if isinstance(value, bytes) else STRING
