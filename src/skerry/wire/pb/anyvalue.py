"""google.protobuf.Any with wrapper messages ↔ Python values, as device configuration carries them through DMI.

An Any is the dict ``{"type_url": "type.googleapis.com/google.protobuf.<X>Value", "value": bytes}``. Go mappers read
Int32, Int64, String, Float (32 bit) and Bool wrappers only and drop everything else without a word, so that is what
``pack_any`` writes; nested values become JSON text, or Struct and ListValue for a peer that announced them.

Source: kubeedge edge/pkg/devicetwin/dtcommon/util.go:dataToAny, mapper-framework pkg/common/dataconverter.go (v1.23).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from skerry.base import json
from skerry.wire.errors import Malformed
from skerry.wire.pb.codec import DMI, decode, default_of, encode

PREFIX: Final = "type.googleapis.com/google.protobuf."
_WRAPPERS: Final = {
    "BoolValue": "bool",
    "StringValue": "string",
    "BytesValue": "bytes",
    "Int32Value": "int32",
    "Int64Value": "int64",
    "UInt32Value": "uint32",
    "UInt64Value": "uint64",
    "FloatValue": "float",
    "DoubleValue": "double",
}
_INT64: Final = range(-(1 << 63), 1 << 63)


def pack_any(value: Any, *, has_nested: bool = False) -> dict[str, Any]:
    """The Any that carries ``value``.

    Args:
        value: a JSON value. A float goes as FloatValue whatever it loses (see ``is_float32``): Go mappers read no
            DoubleValue. An integer beyond 64 bit and, without ``has_nested``, lists, objects and null go as JSON text.
        has_nested: the peer reads Struct and ListValue.
    """
    if isinstance(value, bool):
        return _wrapped("BoolValue", value)
    if isinstance(value, int) and value in _INT64:
        return _wrapped("Int64Value", value)
    if isinstance(value, float):
        return _wrapped("FloatValue", value)
    if isinstance(value, str):
        return _wrapped("StringValue", value)
    if has_nested and isinstance(value, Mapping):
        return _any("Struct", {"fields": {key: _to_value(item) for key, item in value.items()}})
    if has_nested and isinstance(value, list):
        return _any("ListValue", {"values": [_to_value(item) for item in value]})
    return _wrapped("StringValue", json.dumps(value).decode())


def unpack_any(packed: Mapping[str, Any]) -> Any:
    """The Python value in an Any: wrappers, Struct, ListValue, Value.

    A FloatValue comes back as the shortest decimal that names the same 32-bit number (0.1, not 0.10000000149).

    Raises:
        Malformed: another type, or content that cannot be read.
    """
    name = str(packed.get("type_url", "")).rpartition("/")[2].removeprefix("google.protobuf.")
    content = packed.get("value", b"")
    if name in _WRAPPERS:
        kind = _WRAPPERS[name]
        value = decode(DMI, f"google.protobuf.{name}", content).get("value", default_of(kind))
        return shortest_float32(value) if kind == "float" else value
    if name == "Struct":
        return _from_struct(decode(DMI, "google.protobuf.Struct", content))
    if name == "ListValue":
        return _from_list(decode(DMI, "google.protobuf.ListValue", content))
    if name == "Value":
        return _from_value(decode(DMI, "google.protobuf.Value", content))
    raise Malformed(f"cannot read a google.protobuf.Any of type {packed.get('type_url', '')!r}")


def is_float32(value: float) -> bool:
    """Whether a 32-bit float holds ``value`` closely enough that its shortest decimal is ``value`` again."""
    try:
        return shortest_float32(struct.unpack("<f", struct.pack("<f", value))[0]) == value
    except OverflowError:
        return False


def shortest_float32(value: float) -> float:
    """The shortest decimal that rounds to the same 32-bit float."""
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", short) == struct.pack("<f", value):
                return short
        except OverflowError:
            continue
    return value


def _wrapped(name: str, value: Any) -> dict[str, Any]:
    try:
        return _any(name, {"value": value})
    except OverflowError:
        return _wrapped("StringValue", json.dumps(value).decode())


def _any(name: str, message: Mapping[str, Any]) -> dict[str, Any]:
    return {"type_url": f"{PREFIX}{name}", "value": encode(DMI, f"google.protobuf.{name}", message)}


def _to_value(value: Any) -> dict[str, Any]:
    if value is None:
        return {"null_value": 0}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, int | float):
        return {"number_value": float(value)}
    if isinstance(value, str):
        return {"string_value": value}
    if isinstance(value, Mapping):
        return {"struct_value": {"fields": {key: _to_value(item) for key, item in value.items()}}}
    return {"list_value": {"values": [_to_value(item) for item in value]}}


def _from_value(value: Mapping[str, Any]) -> Any:
    for name, item in value.items():
        if name == "struct_value":
            return _from_struct(item)
        if name == "list_value":
            return _from_list(item)
        if name == "number_value":
            return int(item) if item.is_integer() else item
        if name != "null_value":
            return item
    return None


def _from_struct(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _from_value(item) for key, item in message.get("fields", {}).items()}


def _from_list(message: Mapping[str, Any]) -> list[Any]:
    return [_from_value(item) for item in message.get("values", [])]
