"""Schemas as expressions see them: types for the checker, and values with their formats read.

Source: kubernetes apiserver/pkg/cel/common/{schemas,values}.go, apiserver/pkg/cel/escaping.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from skerry.api.schema import Schema
from skerry.cel.errors import EvalError
from skerry.cel.library.standard import parse_duration, parse_timestamp
from skerry.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    ObjectType,
    Type,
    list_of,
    map_of,
    object_type,
)
from skerry.cel.values import KeyedList, SetList

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z", re.ASCII)
_WORDS = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_SIGNS = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_STRINGS = {"byte": BYTES, "date": TIMESTAMP, "date-time": TIMESTAMP, "duration": DURATION}
_METADATA = object_type("object", {"name": STRING, "generateName": STRING})


def escape(name: str) -> str | None:
    """A property's name as expressions write it; None when they cannot."""
    if name in _WORDS:
        return f"__{name}__"
    if not _NAME.match(name):
        return None
    for sign, word in _SIGNS:
        name = name.replace(sign, word) if sign != "__" else name.replace("__", word)
    return name


def type_of(schema: Schema, *, is_root: bool = False) -> Type:
    """The static type of a place in an object."""
    if schema.int_or_string or schema.quantity:
        return DYN
    match schema.type:
        case "array":
            return list_of(type_of(schema.items)) if schema.items is not None else DYN
        case "object":
            return _object(schema, is_root=is_root or schema.embedded)
        case "string":
            return _STRINGS.get(schema.format, STRING)
        case "integer":
            return INT
        case "number":
            return DOUBLE
        case "boolean":
            return BOOL
    return DYN


def built_in_type(schema: Schema) -> Type:
    """The static type of a built-in kind: definitions may refer to themselves, so members are made when asked for."""
    if schema.type == "object" and schema.properties:
        return ObjectType(schema.definition or "object", (), lambda name: _member(schema, name, built_in_type))
    if schema.type == "object":
        return map_of(STRING, built_in_type(schema.additional)) if schema.additional is not None else DYN
    if schema.type == "array" and schema.items is not None:
        return list_of(built_in_type(schema.items))
    if schema.type == "string" and not schema.int_or_string and not schema.quantity:
        return STRING
    return {"integer": INT, "number": DOUBLE, "boolean": BOOL}.get(schema.type, DYN)


def _object(schema: Schema, *, is_root: bool) -> Type:
    if schema.additional is not None and not schema.properties:
        return map_of(STRING, type_of(schema.additional))

    def member(name: str) -> Type | None:
        if is_root and name == "metadata":
            return _METADATA
        return _member(schema, name, type_of)

    return ObjectType("object", (), member)


def _member(schema: Schema, name: str, make: Callable[[Schema], Type]) -> Type | None:
    child = schema.properties.get(name)
    if child is not None and escape(name) == name:
        return make(child)
    return next((make(each) for raw, each in schema.properties.items() if escape(raw) == name), None)


class Values:
    """Turns JSON values into values of expressions, by schema. Places that need nothing are given as they are."""

    def __init__(self) -> None:
        self._plain: dict[int, tuple[Schema, bool]] = {}

    def of(self, value: Any, schema: Schema) -> Any:
        """The value as expressions see it."""
        if value is None or self._is_plain(schema):
            return value
        if isinstance(value, dict):
            return self._members(value, schema)
        if isinstance(value, list) and schema.items is not None:
            items = [self.of(item, schema.items) for item in value]
            if schema.list_type == "set":
                return SetList(items)
            return KeyedList(items, schema.list_map_keys) if schema.list_type == "map" else items
        if isinstance(value, str):
            return _read(value, schema.format)
        if schema.type == "number" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if schema.type == "integer" and isinstance(value, float):
            return int(value)
        return value

    def _members(self, value: dict[str, Any], schema: Schema) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, member in value.items():
            child = schema.properties.get(name)
            if child is not None:
                found[escape(name) or name] = self.of(member, child)
            else:
                found[name] = self.of(member, schema.additional) if schema.additional is not None else member
        return found

    def _is_plain(self, schema: Schema) -> bool:
        known = self._plain.get(id(schema))
        if known is None:
            known = self._plain[id(schema)] = (schema, _is_plain(schema, self._is_plain))
        return known[1]


def _is_plain(schema: Schema, below: Callable[[Schema], bool]) -> bool:
    if schema.list_type in ("set", "map") or schema.type in ("number", "integer"):
        return False
    if schema.type == "string":
        return schema.format not in _STRINGS
    if any(escape(name) != name for name in schema.properties):
        return False
    children = [*schema.properties.values(), schema.additional, schema.items]
    return all(below(child) for child in children if child is not None)


def _read(text: str, form: str) -> Any:
    """A text in its format; one that validation will refuse stays a text."""
    try:
        match form:
            case "byte":
                return base64.b64decode(text, validate=True)
            case "date":
                return parse_timestamp(f"{text}T00:00:00Z")
            case "date-time":
                return parse_timestamp(text)
            case "duration":
                return parse_duration(text)
    except (EvalError, binascii.Error, ValueError):
        return text
    return text
