"""The tree of an expression. ``at`` is an offset in the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Any node."""

    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Node):
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Ident(Node):
    """A name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Select(Node):
    """``operand.field``, ``operand.?field``, or ``has(operand.field)``."""

    operand: Node
    field: str
    is_optional: bool = False
    is_test: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    """A function, an operator (``_+_``), or a method when ``target`` is given."""

    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ListOf(Node):
    """``[a, ?b]``; ``optional`` has the places of items with a question mark."""

    items: tuple[Node, ...]
    optional: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class MapOf(Node):
    """``{k: v, ?k: v}``."""

    entries: tuple[tuple[Node, Node, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Struct(Node):
    """``Name{field: value}``."""

    name: str
    entries: tuple[tuple[str, Node, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Macro(Node):
    """A loop or a binding over ``operand``: ``all exists existsOne map filter transformList bind optMap …``."""

    name: str
    operand: Node
    variables: tuple[str, ...]
    body: tuple[Node, ...]
