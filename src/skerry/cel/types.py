"""Static types: what the checker knows of a value before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.cel.values import (
    Duration,
    Optional,
    Timestamp,
    TypeValue,
    Uint,
    type_name,
)


@dataclass(frozen=True, slots=True)
class Type:
    """A type with its parameters: ``list<string>`` is ``Type("list", (STRING,))``. One capital letter is a variable."""

    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name

    @property
    def is_variable(self) -> bool:
        return len(self.name) == 1

    def field(self, name: str) -> Type | None:
        """The type of a member, None when there is none. Of ``dyn`` everything is a member."""
        if self.name == "map":
            return self.params[1]
        return DYN if self.name in ("dyn", "A") else None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType(Type):
    """An object whose members are known.

    Args:
        members: makes the type of a member, or None; called as often as needed, so schemas may refer to themselves.
    """

    members: Callable[[str], Type | None] = lambda name: None

    def field(self, name: str) -> Type | None:
        return self.members(name)


def object_type(name: str, members: Mapping[str, Type]) -> ObjectType:
    """An object type with a fixed table of members."""
    return ObjectType(name, (), members.get)


DYN = Type("dyn")
NULL = Type("null")
BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
TIMESTAMP = Type("timestamp")
DURATION = Type("duration")


def list_of(item: Type) -> Type:
    """``list<item>``."""
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """``map<key, value>``."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """``optional<value>``."""
    return Type("optional_type", (value,))


_WORD = re.compile(r"\s*([A-Za-z_.0-9]+|[<>,])")
_SIMPLE = {"optional": "optional_type"}


def parse_type(text: str) -> Type:
    """Read ``map<string, list<A>>``."""
    words = _WORD.findall(text)
    found, rest = _read(words)
    assert not rest, text
    return found


def _read(words: list[str]) -> tuple[Type, list[str]]:
    name, rest = _SIMPLE.get(words[0], words[0]), words[1:]
    params: list[Type] = []
    if rest[:1] == ["<"]:
        while rest[0] != ">":
            param, rest = _read(rest[1:])
            params.append(param)
        rest = rest[1:]
    return Type(name, tuple(params)), rest


_PYTHON: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "uint": (Uint,),
    "double": (float,),
    "string": (str,),
    "bytes": (bytes,),
    "list": (list,),
    "map": (dict,),
    "timestamp": (Timestamp,),
    "duration": (Duration,),
    "optional_type": (Optional,),
    "type": (TypeValue,),
}


def fits(value: Any, wanted: Type) -> bool:
    """Whether a value at run time may stand where a type is wanted; parameters are not looked into."""
    name = wanted.name
    if name == "dyn" or wanted.is_variable:
        return True
    if name == "int":
        return isinstance(value, int) and not isinstance(value, (bool, Uint))
    if name == "null":
        return value is None
    kinds = _PYTHON.get(name)
    if kinds is not None:
        return isinstance(value, kinds)
    return type_name(value) == name


def unify(wanted: Type, given: Type, bound: dict[str, Type]) -> bool:
    """Whether a given type may stand where ``wanted`` does; variables are bound on the way."""
    if wanted.is_variable:
        known = bound.get(wanted.name)
        if known is None or known.name == "dyn":
            bound[wanted.name] = given
            return True
        if unify(known, given, {}):
            return True
        if unify(given, known, {}):
            bound[wanted.name] = given
            return True
        return False
    if wanted.name == "dyn" or given.name == "dyn" or given.is_variable:
        return True
    if isinstance(wanted, ObjectType) or isinstance(given, ObjectType):
        if wanted.name == given.name:
            return True
        other = given if isinstance(wanted, ObjectType) else wanted
        return other.name in ("null", "map")
    if given.name == "null":
        return wanted.name in ("null", "timestamp", "duration", "optional_type") or "." in wanted.name
    if wanted.name == "null":
        return given.name in ("timestamp", "duration", "optional_type") or "." in given.name
    if wanted.name != given.name:
        return False
    if not wanted.params or not given.params:
        return True
    return all(unify(w, g, bound) for w, g in zip(wanted.params, given.params, strict=True))


def substitute(result: Type, bound: Mapping[str, Type]) -> Type:
    """A type with its variables replaced; unbound ones become ``dyn``."""
    if result.is_variable:
        return bound.get(result.name, DYN)
    if not result.params:
        return result
    return Type(result.name, tuple(substitute(param, bound) for param in result.params))
