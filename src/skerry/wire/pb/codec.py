"""Plain proto3 by table: messages ↔ dicts, for CRI, DMI and device plugins.

A message is a dict by field name (as in the interface's definition). Fields with their default value are absent;
maps are dicts, repeated fields lists, enums ints (names in ``Interface.enums``), bytes ``bytes``. A message field is
present if and only if it was on the wire, so an empty one is ``{}``. Unknown fields are skipped.
Kubernetes API objects have their own JSON form and live in ``kubernetes``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.pb import cri_table, deviceplugin_table, dmi_table
from skerry.wire.pb.scan import BYTES, FIXED32, FIXED64, VARINT, Budget, read_varint, scan, signed, varint

Fields = Mapping[int, tuple[str, str, str, str]]
"""Field number → (name, kind, name of the message or enum, "" | repeated | map | oneof)."""

LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Longest message accepted by default; the kubelet uses the same for CRI."""

_WIRE_TYPES: Final = {"string": BYTES, "bytes": BYTES, "message": BYTES, "double": FIXED64, "float": FIXED32}
_MAP_KEY: Final = b"\x0a"


class Interface(Struct, frozen=True):
    """The generated tables of one gRPC interface.

    Args:
        messages: fields by message name.
        enums: names by value, by enum name.
        methods: (request message, response message, "" | "server") by path ``/package.Service/Method``.
    """

    messages: Mapping[str, Fields]
    enums: Mapping[str, Mapping[int, str]]
    methods: Mapping[str, tuple[str, str, str]]

    def value_of(self, enum: str, name: str) -> int:
        """The number of an enum value. Raises ``KeyError`` for an unknown name."""
        for value, known in self.enums[enum].items():
            if known == name:
                return value
        raise KeyError(f"{enum}.{name}")

    def encode(self, message: str, value: Mapping[str, Any]) -> bytes:
        """``codec.encode`` with these tables."""
        return encode(self, message, value)

    def decode(self, message: str, data: bytes) -> dict[str, Any]:
        """``codec.decode`` with these tables and the default limits."""
        return decode(self, message, data)


CRI: Final = Interface(cri_table.MESSAGES, cri_table.ENUMS, cri_table.METHODS)
DMI: Final = Interface(dmi_table.MESSAGES, dmi_table.ENUMS, dmi_table.METHODS)
DEVICE_PLUGIN: Final = Interface(deviceplugin_table.MESSAGES, deviceplugin_table.ENUMS, deviceplugin_table.METHODS)


def encode(interface: Interface, message: str, value: Mapping[str, Any]) -> bytes:
    """Encode a dict as ``message``. Members that are None, or scalars with their default, are left out.

    Raises:
        ValueError: a member that the message does not have, or a value that does not fit its kind.
    """
    out = bytearray()
    fields = interface.messages[message]
    left = len(value)
    for number, (name, kind, ref, label) in fields.items():
        if name not in value:
            continue
        left -= 1
        item = value[name]
        if item is not None:
            _put_field(interface, out, number, kind, ref, label, item)
    if left:
        unknown = sorted(set(value) - {row[0] for row in fields.values()})
        raise ValueError(f"{message} has no field {', '.join(unknown)}")
    return bytes(out)


def decode(
    interface: Interface, message: str, data: bytes, *, limit_bytes: int = LIMIT_BYTES, limit_depth: int = 100
) -> dict[str, Any]:
    """Decode ``data`` as ``message``.

    Raises:
        Malformed: cut off, a wrong wire type for a field, text that is not UTF-8.
        TooLarge: over ``limit_bytes`` or ``limit_depth``, or too many parts.
    """
    if len(data) > limit_bytes:
        raise TooLarge(f"{message} of {len(data)} bytes is over the limit of {limit_bytes}")
    out: dict[str, Any] = {}
    _Decoder(interface, data, Budget(depth=limit_depth)).message(message, 0, len(data), out)
    return out


def _put_field(interface: Interface, out: bytearray, number: int, kind: str, ref: str, label: str, item: Any) -> None:
    if label == "map":
        for key, inner in item.items():
            entry = _map_entry(interface, kind, ref, key, inner)
            out += varint(number << 3 | BYTES) + varint(len(entry)) + entry
    elif label == "repeated" and kind not in ("string", "bytes", "message"):
        if packed := b"".join(_scalar(kind, inner) for inner in item):
            out += varint(number << 3 | BYTES) + varint(len(packed)) + packed
    elif label == "repeated":
        for inner in item:
            _put(interface, out, number, kind, ref, inner)
    elif kind == "message" or label == "oneof" or item:
        _put(interface, out, number, kind, ref, item)


def _map_entry(interface: Interface, kind: str, ref: str, key: str, value: Any) -> bytes:
    name = key.encode()
    entry = bytearray(_MAP_KEY + varint(len(name)) + name)
    _put(interface, entry, 2, kind, ref, value)
    return bytes(entry)


def _put(interface: Interface, out: bytearray, number: int, kind: str, ref: str, item: Any) -> None:
    out += varint(number << 3 | _WIRE_TYPES.get(kind, VARINT))
    if kind == "message":
        content = encode(interface, ref, item)
    elif kind == "string":
        content = item.encode()
    elif kind == "bytes":
        content = bytes(item)
    else:
        out += _scalar(kind, item)
        return
    out += varint(len(content)) + content


def _scalar(kind: str, item: Any) -> bytes:
    if kind in ("double", "float"):
        return struct.pack("<d" if kind == "double" else "<f", item)
    low, high = _RANGES[kind]
    if not low <= int(item) <= high:
        raise ValueError(f"{item} does not fit {kind}")
    return varint(int(item))


_RANGES: Final = {
    "bool": (0, 1),
    "enum": (-(1 << 31), (1 << 31) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


_FROM_VARINT: Final[Mapping[str, Callable[[int], Any]]] = {
    "bool": bool,
    "enum": _int32,
    "int32": _int32,
    "int64": signed,
    "uint32": lambda value: value & 0xFFFFFFFF,
    "uint64": lambda value: value,
}


def default_of(kind: str) -> Any:
    """The proto3 default of a scalar kind."""
    if kind == "string":
        return ""
    if kind == "bytes":
        return b""
    if kind in ("double", "float"):
        return 0.0
    return False if kind == "bool" else 0


class _Decoder:
    """One decode: the bytes, the tables and what may still be built."""

    __slots__ = ("_budget", "_data", "_interface")

    def __init__(self, interface: Interface, data: bytes, budget: Budget) -> None:
        self._interface = interface
        self._data = data
        self._budget = budget

    def message(self, name: str, start: int, end: int, out: dict[str, Any]) -> None:
        """Decode into ``out``; a singular message that comes twice is merged, as proto3 says."""
        self._budget.enter()
        fields = self._interface.messages[name]
        for number, wire_type, a, b in scan(self._data, start, end):
            row = fields.get(number)
            if row is None:
                continue
            field, kind, ref, label = row
            if label == "map":
                self._expect(field, wire_type, BYTES)
                self._entry(kind, ref, a, b, out.setdefault(field, {}))
            elif label == "repeated":
                self._repeated(field, kind, ref, wire_type, a, b, out.setdefault(field, []))
            elif kind == "message":
                self._expect(field, wire_type, BYTES)
                self.message(ref, a, b, out.setdefault(field, {}))
            else:
                self._singular(field, kind, label, wire_type, a, b, out)
        self._budget.leave()

    def _singular(self, field: str, kind: str, label: str, wire_type: int, a: int, b: int, out: dict[str, Any]) -> None:
        value = self._value(field, kind, wire_type, a, b)
        if value or label == "oneof":
            out[field] = value
        else:
            out.pop(field, None)

    def _repeated(self, field: str, kind: str, ref: str, wire_type: int, a: int, b: int, out: list[Any]) -> None:
        if kind == "message":
            self._expect(field, wire_type, BYTES)
            inner: dict[str, Any] = {}
            out.append(inner)
            self.message(ref, a, b, inner)
        elif wire_type == BYTES and kind not in ("string", "bytes"):
            self._packed(field, kind, a, b, out)
        else:
            out.append(self._value(field, kind, wire_type, a, b))

    def _packed(self, field: str, kind: str, a: int, b: int, out: list[Any]) -> None:
        width = {"double": 8, "float": 4}.get(kind, 0)
        if width and (b - a) % width:
            raise Malformed(f"packed field {field} is cut off")
        while a < b:
            if width:
                out.append(self._value(field, kind, _WIRE_TYPES[kind], a, a + width))
                a += width
            else:
                value, a = read_varint(self._data, a, b)
                out.append(_FROM_VARINT[kind](value))

    def _entry(self, kind: str, ref: str, start: int, end: int, out: dict[str, Any]) -> None:
        key = ""
        value: Any = {} if kind == "message" else default_of(kind)
        self._budget.enter()
        for number, wire_type, a, b in scan(self._data, start, end):
            if number == 1:
                key = self._value("key", "string", wire_type, a, b)
            elif number == 2 and kind == "message":
                self._expect("value", wire_type, BYTES)
                self.message(ref, a, b, value)
            elif number == 2:
                value = self._value("value", kind, wire_type, a, b)
        self._budget.leave()
        out[key] = value

    def _value(self, field: str, kind: str, wire_type: int, a: int, b: int) -> Any:
        self._expect(field, wire_type, _WIRE_TYPES.get(kind, VARINT))
        if wire_type == VARINT:
            return _FROM_VARINT[kind](a)
        content = self._data[a:b]
        if kind == "string":
            return _text(field, content)
        if kind == "bytes":
            return content
        return struct.unpack("<d" if kind == "double" else "<f", content)[0]

    @staticmethod
    def _expect(field: str, wire_type: int, expected: int) -> None:
        if wire_type != expected:
            raise Malformed(f"field {field} has wire type {wire_type}, not {expected}")


def _text(field: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise Malformed(f"field {field} is not UTF-8") from exc
