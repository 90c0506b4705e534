"""What a rule may cost at worst, estimated from its schema before anything runs.

Only the upper bound is kept: it alone decides whether a rule is admitted. Sizes come from ``maxItems``,
``maxProperties`` and ``maxLength``; without them from what fits into the largest request.
Source: cel-go checker/cost.go, apiserver pkg/cel/{library/cost,common/schemas}.go (v1.36); their numbers are a
contract, since they say which rules a CRD may have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from skerry.api.schema import Schema
from skerry.cel.ast import Call, Ident, ListOf, Literal, Macro, MapOf, Node, Select, Struct
from skerry.cel.schemas import escape

MAX_REQUEST = 3 * 1024 * 1024
"""Bytes of the largest request."""

_STRING_FACTOR, _REGEX_FACTOR = 0.1, 0.25
_LIST, _MAP, _STRUCT = 10, 30, 40
_CHECK = 350_000
_FORMAT_SIZES = {"duration": 32, "date": 12, "date-time": 32}
_MIN_STRINGS = {"duration": 3, "date": 12, "date-time": 21}
_MIN_SIZES = {"string": 2, "boolean": 4, "number": 1, "integer": 1}
_SCALARS = ("boolean", "number", "integer")
_NAME_PATTERN = 128
_ADDRESS = 16
_NAMESPACES = ("base64", "format", "ip", "jsonpatch", "lists", "optional", "sets", "strings")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a value: the most items or bytes it may have, and of what.

    Args:
        size: infinite when nothing is known.
        schema: of the place it comes from, if it comes from one.
        item, key: of a list's or a map's members.
    """

    size: float
    schema: Schema | None = None
    item: Shape | None = None
    key: Shape | None = None

    def items(self) -> Shape:
        """Of one member."""
        if self.item is not None:
            return self.item
        found = self.schema and (self.schema.items or self.schema.additional)
        return shape_of(found) if found else _UNKNOWN

    @property
    def is_map(self) -> bool:
        """Whether loops over it go over its keys."""
        return self.key is not None or (self.schema is not None and self.schema.type == "object")

    def keys(self) -> Shape:
        """Of one key; nothing is charged for those of a place."""
        return self.key or (Shape(0) if self.is_map else _SCALAR)

    def field(self, name: str) -> Shape:
        """Of a member by name."""
        if self.schema is None:
            return _UNKNOWN
        found = next((child for raw, child in self.schema.properties.items() if escape(raw) == name), None)
        if found is None and self.schema.additional is not None:  # a map's ``m.k``, unlike ``m["k"]``, is not looked up
            value = self.schema.additional
            return _SCALAR if value.type in _SCALARS else Shape(math.inf, value)
        return shape_of(found) if found is not None else _UNKNOWN


_UNKNOWN = Shape(math.inf)
_SCALAR = Shape(1)


def shape_of(schema: Schema) -> Shape:
    """What is known of the values of a place."""
    return Shape(_most(schema), schema)


def smallest(schema: Schema) -> int:
    """Bytes of the smallest value of a place as JSON."""
    if schema.int_or_string or schema.quantity:
        return 1
    if schema.type == "object" and schema.additional is None:
        needed = ((name, schema.properties[name]) for name in schema.required if name in schema.properties)
        return 2 + sum(len(name) + smallest(child) + 4 for name, child in needed if not child.has_default)
    if schema.type == "string":
        return _MIN_STRINGS.get(schema.format, 2)
    return _MIN_SIZES.get(schema.type, 2)


def _most(schema: Schema) -> float:
    if schema.int_or_string or schema.quantity or schema.type == "string":
        return _longest(schema)
    if schema.type == "array":
        own = _bound(schema, "maxItems")
        each = smallest(schema.items) if schema.items is not None else 1
        return (MAX_REQUEST - 2) // (each + 1) if own is None else own
    if schema.type == "object" and schema.additional is not None:
        own = _bound(schema, "maxProperties")
        return (MAX_REQUEST - 2) // (smallest(schema.additional) + 6) if own is None else own
    return 0 if schema.type else math.inf


def _longest(schema: Schema) -> float:
    if schema.format in _FORMAT_SIZES:
        return _FORMAT_SIZES[schema.format]
    length = _bound(schema, "maxLength")
    if length is not None:
        return length if schema.format == "byte" else 4 * length
    values = schema.keywords.get("enum")
    if values and not schema.int_or_string:
        return max((len(value.encode()) for value in values if isinstance(value, str)), default=0)
    return MAX_REQUEST - 2


def _bound(schema: Schema, keyword: str) -> int | None:
    found = schema.keywords.get(keyword)
    return max(0, int(found)) if isinstance(found, (int, float)) else None


def occurrences(schema: Schema, above: float) -> float:
    """How often a member of this place may be there, when the place itself may be there ``above`` times; infinite when
    a list or a map on the way has no bound."""
    if schema.type == "array":
        own = _bound(schema, "maxItems")
    elif schema.type == "object" and schema.additional is not None:
        own = _bound(schema, "maxProperties")
    else:
        own = 1
    return math.inf if own is None else _times(above, own)


def total(cost: float, schema: Schema, times: float) -> float:
    """What a rule may cost over a whole object.

    Args:
        cost: of one run.
        schema: of the place that has the rule.
        times: how often the place may be there, from ``occurrences``; when infinite, as often as fits in a request.
    """
    return _times(cost, times if times != math.inf else MAX_REQUEST // (smallest(schema) + 1))


def estimate(node: Node, variables: Mapping[str, Shape]) -> float:
    """The most that one run of an expression may cost; infinite when nothing bounds it."""
    return _Estimator(variables).of(node)[0]


def _times(cost: float, count: float) -> float:
    return 0 if cost == 0 or count == 0 else cost * count


def _scaled(size: float, factor: float) -> float:
    return size if size == math.inf else math.ceil(size * factor)


def _same(shapes: list[Shape]) -> Shape | None:
    """One shape for members of different kinds: the largest."""
    return max(shapes, key=lambda shape: shape.size) if shapes else None


class _Estimator:
    """Walks an expression as cel-go expands it: each loop is a condition and a step for every item."""

    def __init__(self, variables: Mapping[str, Shape]) -> None:
        self._variables = dict(variables)

    def of(self, node: Node) -> tuple[float, Shape]:
        """Cost and shape."""
        match node:
            case Literal(value=value):
                size = len(value) if isinstance(value, (str, bytes)) else 1
                return 0, Shape(size)
            case Ident(name=name):
                return 1, self._variables.get(name, _UNKNOWN)
            case Select(operand=operand, field=field, is_test=is_test):
                cost, shape = self.of(operand)
                return (cost, _SCALAR) if is_test else (cost + 1, shape.field(field))
            case Call():
                return self._call(node)
            case ListOf(items=items):
                parts = [self.of(item) for item in items]
                return _LIST + sum(cost for cost, _ in parts), Shape(
                    len(items), item=_same([shape for _, shape in parts]) or Shape(0)
                )
            case MapOf(entries=entries):
                keys = [self.of(key) for key, _, _ in entries]
                values = [self.of(value) for _, value, _ in entries]
                return _MAP + sum(cost for cost, _ in keys + values), Shape(
                    len(entries),
                    item=_same([shape for _, shape in values]) or Shape(0),
                    key=_same([shape for _, shape in keys]) or Shape(0),
                )
            case Struct(entries=members):
                return _STRUCT + sum(self.of(value)[0] for _, value, _ in members), _UNKNOWN
            case Macro():
                return self._macro(node)
        raise AssertionError(node)

    def _macro(self, node: Macro) -> tuple[float, Shape]:
        cost, shape = self.of(node.operand)
        if node.name == "bind":
            inner, result = self._scoped(node, [shape])
            return _LIST + cost + sum(inner), result
        if node.name in ("optMap", "optFlatMap"):
            inner, result = self._scoped(node, [shape])
            return cost + _LIST + 6 + sum(inner), result
        first = shape.keys() if shape.is_map else shape.items()
        names = [first] if len(node.variables) == 1 else [shape.keys(), shape.items()]
        inner, result = self._scoped(node, names)
        once, each = _loop(node, inner)
        return cost + once + _times(each, shape.size), self._looped(node, shape, result)

    def _looped(self, node: Macro, shape: Shape, result: Shape) -> Shape:
        match node.name:
            case "all" | "exists" | "existsOne":
                return _SCALAR
            case "filter":
                return Shape(shape.size, item=shape.keys() if shape.is_map else shape.items())
            case "transformMap":
                return Shape(shape.size, item=result, key=shape.keys())
            case "sortBy":
                return shape
        return Shape(shape.size, item=result)

    def _scoped(self, node: Macro, shapes: list[Shape]) -> tuple[list[float], Shape]:
        saved = dict(self._variables)
        self._variables |= zip(node.variables, shapes, strict=True)
        parts = [self.of(part) for part in node.body]
        self._variables = saved
        return [cost for cost, _ in parts], parts[-1][1]

    def _call(self, node: Call) -> tuple[float, Shape]:
        function = self._name(node)
        nodes = node.args if node.target is None or function != node.function else (node.target, *node.args)
        parts = [self.of(each) for each in nodes]
        costs, shapes = [cost for cost, _ in parts], [shape for _, shape in parts]
        if function in ("_&&_", "_||_"):
            return sum(costs), _SCALAR
        if function == "_?_:_":
            return costs[0] + max(costs[1:]), max(shapes[1:], key=lambda shape: shape.size)
        own, shape = _own(function, nodes, shapes)
        return sum(costs) + own, shape

    def _name(self, node: Call) -> str:
        """The function's name, with its namespace if it has one: ``sets.contains``."""
        target = node.target
        if isinstance(target, Ident) and target.name in _NAMESPACES and target.name not in self._variables:
            return f"{target.name}.{node.function}"
        return node.function


def _own(function: str, nodes: tuple[Node, ...], shapes: list[Shape]) -> tuple[float, Shape]:
    """What the function adds to the cost of its arguments, and its result."""
    made = _RESULTS.get(function)
    if made is not None and shapes:
        return made(shapes)
    told = _OF_LITERALS.get(function)
    if told is not None and shapes:
        return told(nodes, shapes)
    if function == "dyn" and shapes:
        return 1, shapes[0]
    return 1, _UNKNOWN if function in _UNBOUNDED else _SCALAR


def _loop(node: Macro, inner: list[float]) -> tuple[float, float]:
    """What a loop costs once, and for each item."""
    match node.name:
        case "all":
            return 1, 3 + inner[0]
        case "exists":
            return 1, 4 + inner[0]
        case "existsOne":
            return 2, 2 + inner[0]
        case "filter":
            return _LIST + 1, 3 + _LIST + inner[0]
        case "transformMap":
            return _MAP + 1, 3 + sum(inner)
    return _LIST + 1, 2 + _LIST + sum(inner)


def _compare(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(min(shape.size for shape in shapes), _STRING_FACTOR), _SCALAR


def _order(shapes: list[Shape]) -> tuple[float, Shape]:
    return max(1, _compare(shapes)[0]), _SCALAR


def _read(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, _STRING_FACTOR), _SCALAR


def _formatted(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, _STRING_FACTOR), _UNKNOWN


def _quoted(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, _STRING_FACTOR), Shape(2 * shapes[0].size + 2)


def _as_bytes(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, _STRING_FACTOR), Shape(4 * shapes[0].size)


def _as_text(shapes: list[Shape]) -> tuple[float, Shape]:
    """Bytes become as long a text at most; of anything else nothing is known."""
    schema = shapes[0].schema
    is_bytes = schema is not None and schema.type == "string" and schema.format == "byte"
    return _kept(shapes) if is_bytes else (1, _UNKNOWN)


def _kept(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, _STRING_FACTOR), Shape(shapes[0].size)


def _begins(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[-1].size, _STRING_FACTOR), _SCALAR


def _contained(shapes: list[Shape]) -> tuple[float, Shape]:
    return _times(_scaled(shapes[0].size, _STRING_FACTOR), _scaled(shapes[-1].size, _STRING_FACTOR)), _SCALAR


def _matched(shapes: list[Shape]) -> tuple[float, Shape]:
    text, pattern = _scaled(shapes[0].size + 1, _STRING_FACTOR), _scaled(shapes[1].size, _REGEX_FACTOR)
    return _times(text, pattern), Shape(shapes[0].size, item=Shape(shapes[0].size))


def _added(shapes: list[Shape]) -> tuple[float, Shape]:
    size = sum(shape.size for shape in shapes)
    if any(shape.item is not None or (shape.schema is not None and shape.schema.type == "array") for shape in shapes):
        return 1, Shape(size, item=_same([shape.items() for shape in shapes]))
    is_number = all(shape.schema is not None and shape.schema.type in ("integer", "number") for shape in shapes)
    return (1, _SCALAR) if is_number else (_scaled(size, _STRING_FACTOR), Shape(size))


def _over_items(shapes: list[Shape]) -> tuple[float, Shape]:
    """Once over a list, with a look into each text; or once over a text."""
    shape = shapes[0]
    is_text = shape.item is None and (shape.schema is None or shape.schema.type == "string")
    if is_text:
        return _scaled(shape.size, _STRING_FACTOR), _SCALAR
    item = shape.items()
    has_texts = item.schema is None or item.schema.type == "string"
    each = 1 + (_scaled(_text_of(shape), _STRING_FACTOR) if has_texts and item.schema is not None else 0)
    return _times(each, shape.size), _UNKNOWN if has_texts else item


def _text_of(shape: Shape) -> float:
    """How long the texts in a list may be: known only of a list that stands in the object."""
    return shape.items().size if shape.schema is not None else math.inf


def _split(nodes: tuple[Node, ...], shapes: list[Shape]) -> tuple[float, Shape]:
    text = shapes[0].size
    return _scaled(text, 2 * _STRING_FACTOR), Shape(_whole_number(nodes, 2, text), item=Shape(text))


def _joined(shapes: list[Shape]) -> tuple[float, Shape]:
    size = _times(shapes[0].size, _text_of(shapes[0]))
    if len(shapes) > 1:
        size += _times(shapes[1].size, max(0, shapes[0].size - 1))
    return _scaled(size, _STRING_FACTOR), Shape(size)


def _listed(size: float, factor: float, item: Shape) -> tuple[float, Shape]:
    """A new list."""
    return _LIST + 1 + _scaled(size, factor), Shape(size, item=item)


def _whole_number(nodes: tuple[Node, ...], index: int, otherwise: float) -> float:
    """What is written at this place."""
    node = nodes[index] if index < len(nodes) else None
    return node.value if isinstance(node, Literal) and type(node.value) is int and node.value >= 0 else otherwise


def _sliced(nodes: tuple[Node, ...], shapes: list[Shape]) -> tuple[float, Shape]:
    size = _whole_number(nodes, 2, shapes[0].size) - _whole_number(nodes, 1, 0)
    return _listed(max(0, size), 1, shapes[0].items())


def _ranged(nodes: tuple[Node, ...], _shapes: list[Shape]) -> tuple[float, Shape]:
    return _listed(_whole_number(nodes, 0, math.inf), 1, _SCALAR)


def _flattened(nodes: tuple[Node, ...], shapes: list[Shape]) -> tuple[float, Shape]:
    return _listed(shapes[0].size, _whole_number(nodes, 1, 1), _UNKNOWN)


def _distinct(shapes: list[Shape]) -> tuple[float, Shape]:
    return _listed(_times(shapes[0].size, shapes[0].size), 2, shapes[0].items())


def _sorted(shapes: list[Shape]) -> tuple[float, Shape]:
    item = shapes[0].items()
    has_texts = item.schema is None or item.schema.type == "string"
    return _listed(_times(shapes[0].size, shapes[0].size), 2 + (_STRING_FACTOR if has_texts else 0), item)


def _reversed(shapes: list[Shape]) -> tuple[float, Shape]:
    shape = shapes[0]
    is_list = shape.item is not None or (shape.schema is not None and shape.schema.type == "array")
    return _listed(shape.size, 1, shape.items()) if is_list else (1, _UNKNOWN)


def _replaced(nodes: tuple[Node, ...], shapes: list[Shape]) -> tuple[float, Shape]:
    if len(shapes) < 3:
        return 1, _UNKNOWN
    text, by = shapes[0].size, shapes[2].size
    known = nodes[1]
    least = len(known.value) if isinstance(known, Literal) and isinstance(known.value, str) else 0
    if least == 0:
        size = _times(text + 1, by) + text
    elif by <= least:
        size = text
    else:
        size = _times(math.inf if text == math.inf else math.ceil(text / least), by)
    return _scaled(text, 2 * _STRING_FACTOR), Shape(size)


def _searched(shapes: list[Shape]) -> tuple[float, Shape]:
    return (1 if shapes[-1].is_map else shapes[-1].size), _SCALAR


def _indexed(shapes: list[Shape]) -> tuple[float, Shape]:
    return 1, shapes[0].items()


def _doubled(shapes: list[Shape]) -> tuple[float, Shape]:
    return _scaled(shapes[0].size, 2 * _STRING_FACTOR), _SCALAR


def _validated(shapes: list[Shape]) -> tuple[float, Shape]:
    return _times(_scaled(shapes[-1].size, _STRING_FACTOR), _NAME_PATTERN * _REGEX_FACTOR), _UNKNOWN


def _pairs(shapes: list[Shape]) -> tuple[float, Shape]:
    return 1 + _times(shapes[0].size, shapes[-1].size), _SCALAR


def _pairs_twice(shapes: list[Shape]) -> tuple[float, Shape]:
    return 1 + 2 * _times(shapes[0].size, shapes[-1].size), _SCALAR


def _has_address(shapes: list[Shape]) -> tuple[float, Shape]:
    """Two addresses are compared; the other one is read first when it is a text."""
    other = shapes[-1]
    read = 0 if other == _SCALAR else _scaled(other.size, _STRING_FACTOR)
    return _scaled(2 * _ADDRESS, _STRING_FACTOR) + read, _SCALAR


def _has_range(shapes: list[Shape]) -> tuple[float, Shape]:
    return _has_address(shapes)[0] + _scaled(_ADDRESS, _STRING_FACTOR) + 1, _SCALAR


def _checked(shapes: list[Shape]) -> tuple[float, Shape]:
    return _CHECK, _UNKNOWN


_UNBOUNDED = frozenset((
    "orValue", "value", "or", "map", "charAt", "first", "last", "getScheme", "getHostname", "getHost", "getPort",
    "getEscapedPath", "getQuery", "base64.encode", "base64.decode", "optional.of", "optional.ofNonZeroValue",
))  # fmt: skip
"""Functions whose result has a size that nothing here tells."""


def _table() -> Iterator[tuple[str, Callable[[list[Shape]], tuple[float, Shape]]]]:
    yield from ((name, _compare) for name in ("_==_", "_!=_"))
    yield from ((name, _order) for name in ("_<_", "_<=_", "_>_", "_>=_"))
    yield from ((name, _over_items) for name in ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"))
    yield from ((name, _kept) for name in ("lowerAscii", "upperAscii", "substring", "trim", "url"))
    yield from (
        (name, _read) for name in ("ip", "cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver")
    )
    yield from ((name, _begins) for name in ("startsWith", "endsWith"))
    yield from ((name, _matched) for name in ("matches", "find", "findAll"))
    yield from ((name, _pairs) for name in ("sets.contains", "sets.intersects"))
    yield from ((name, _indexed) for name in ("_[_]", "_[?_]"))
    yield "sets.equivalent", _pairs_twice
    yield "distinct", _distinct
    yield "sort", _sorted
    yield "reverse", _reversed
    yield "ip.isCanonical", _doubled
    yield "jsonpatch.escapeKey", _kept
    yield "strings.quote", _quoted
    yield "format", _formatted
    yield "string", _as_text
    yield "bytes", _as_bytes
    yield "containsIP", _has_address
    yield "containsCIDR", _has_range
    yield "contains", _contained
    yield "_+_", _added
    yield "@in", _searched
    yield "join", _joined
    yield "validate", _validated
    yield "check", _checked


_RESULTS = dict(_table())
_OF_LITERALS = {
    "replace": _replaced, "split": _split, "slice": _sliced, "lists.range": _ranged, "flatten": _flattened,
}  # fmt: skip
"""Those for which it matters what is written as an argument."""
