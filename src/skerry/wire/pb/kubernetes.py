"""Kubernetes API objects: protobuf bodies → the JSON form of the object.

kubectl from 1.32, client-go controllers and the scheduler send them (``application/vnd.kubernetes.protobuf``).
Answers are JSON always: no client requires protobuf answers. The JSON form is what Go's encoder makes of the decoded
object, except that an empty list or map of a required member is absent (protobuf cannot tell it from an empty one).

Source: apimachinery pkg/runtime/serializer/protobuf/protobuf.go (envelope), generated.proto of each group (numbers),
types.go (JSON names, pointers, omitempty); generated table in ``kubernetes_table``.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from skerry.base import json
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.pb.kubernetes_table import TEXTS
from skerry.wire.pb.scan import BYTES, FIXED64, VARINT, Budget, read_varint, scan, signed

MAGIC: Final = b"k8s\x00"
CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
LIMIT_BYTES: Final = 3 * 1024 * 1024
"""Longest body, as kube-apiserver has it."""

_META_KINDS: Final = frozenset(
    {"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "GetOptions", "ListOptions", "Status"}
)
_GROUP_SUFFIXES: Final = (".authorization.k8s.io", ".apiserver.k8s.io", ".k8s.io")
_PACKAGES: Final = {"internal.apiserver.k8s.io": "apiserverinternal"}
_EPOCH: Final = datetime(1970, 1, 1)
_ZERO_TIME_S: Final = -62135596800
_NS: Final = 1_000_000_000


Field = tuple[str, str, str, bool]
"""JSON name ("" for an embedded message), type, cardinality ("", ``repeated``, ``map``), whether a zero is kept."""


class UnknownKind(Malformed):
    """The body names a kind that has no protobuf form here."""


def decode_object(body: bytes, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """Decode a request body to the JSON form of its object, with ``apiVersion`` and ``kind``.

    Args:
        body: ``k8s\\0`` then runtime.Unknown{1 typeMeta{1 apiVersion, 2 kind}, 2 raw}.
        limit_bytes: longest body accepted.

    Raises:
        UnknownKind: no protobuf table for the named kind.
        Malformed: not such a body.
        TooLarge: over ``limit_bytes``, nested too deeply, or too many parts.
    """
    if len(body) > limit_bytes:
        raise TooLarge(f"body of {len(body)} bytes is over the limit of {limit_bytes}")
    return _object(body, 0, len(body), Budget())


def decode_options(body: bytes, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """Decode the DeleteOptions of a request, whatever group its apiVersion names; ``b""`` is no options.

    Raises:
        Malformed: the body holds another kind, or is not protobuf.
        TooLarge: see ``decode_object``.
    """
    if not body:
        return {}
    options = decode_object(body, limit_bytes=limit_bytes)
    if options["kind"] != "DeleteOptions":
        raise Malformed(f"expected DeleteOptions, got {options['kind']}")
    return options


def message_name(api_version: str, kind: str) -> str:
    """The table's name of a kind: ``apps/v1``, ``Deployment`` → ``apps.v1.Deployment``.

    Raises:
        UnknownKind: not in the table.
    """
    group, _, version = api_version.rpartition("/")
    name = f"meta.v1.{kind}" if kind in _META_KINDS else f"{_package(group)}.{version}.{kind}"
    if name not in TEXTS:
        raise UnknownKind(f'no kind "{kind}" in version "{api_version}" has a protobuf form')
    return name


@cache
def fields_of(message: str) -> Mapping[int, Field]:
    """The fields of a message by number; read from the table when first asked for.

    Args:
        message: a name of the table, such as ``core.v1.Pod``.
    """
    found: dict[int, Field] = {}
    for text in filter(None, TEXTS[message].split(";")):
        number, name, kind, label, keeps_zero = text.split(" ")
        found[int(number)] = ("" if name == "@" else name, kind, "" if label == "-" else label, keeps_zero == "1")
    return found


def _package(group: str) -> str:
    if group in _PACKAGES:
        return _PACKAGES[group]
    for suffix in _GROUP_SUFFIXES:
        if group.endswith(suffix):
            return group.removesuffix(suffix)
    return group or "core"


def _object(data: bytes, start: int, end: int, budget: Budget) -> dict[str, Any]:
    if data[start : start + 4] != MAGIC:
        raise Malformed("protobuf body does not begin with the bytes k8s\\0")
    api_version, kind, raw = "", "", (end, end)
    for number, wire_type, a, b in scan(data, start + 4, end):
        if number > 4:
            continue
        if wire_type != BYTES:
            raise Malformed(f"envelope field {number} has wire type {wire_type}")
        if number == 1:
            api_version, kind = _type_meta(data, a, b)
        elif number == 2:
            raw = (a, b)
        elif number == 3 and a != b:
            raise Malformed("encoded protobuf content is not supported")
    if not api_version or not kind:
        raise Malformed("protobuf body names no apiVersion and kind")
    decoded = _Decoder(data, budget).message(message_name(api_version, kind), *raw)
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _type_meta(data: bytes, start: int, end: int) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for number, wire_type, a, b in scan(data, start, end):
        if number in texts and wire_type == BYTES:
            texts[number] = _text(data[a:b])
    return texts[1], texts[2]


class _Decoder:
    """One decode: the bytes and what may still be built."""

    __slots__ = ("_budget", "_data")

    def __init__(self, data: bytes, budget: Budget) -> None:
        self._data = data
        self._budget = budget

    def message(self, name: str, start: int, end: int) -> dict[str, Any]:
        """The JSON object of the message ``name`` in the given range."""
        out: dict[str, Any] = {}
        self._budget.enter()
        fields = fields_of(name)
        for number, wire_type, a, b in scan(self._data, start, end):
            row = fields.get(number)
            if row is not None:
                self._field(row, wire_type, a, b, out)
        self._budget.leave()
        return out

    def _field(self, row: tuple[str, str, str, bool], wire_type: int, a: int, b: int, out: dict[str, Any]) -> None:
        name, kind, label, keeps_zero = row
        if label == "map":
            _expect(name, wire_type, BYTES)
            key, value = self._entry(kind, a, b)
            out.setdefault(name, {})[key] = value
        elif label == "repeated":
            self._repeated(name, kind, wire_type, a, b, out.setdefault(name, []))
        elif name == "":
            _expect(kind, wire_type, BYTES)
            out.update(self.message(kind, a, b))
        else:
            value = self._value(name, kind, wire_type, a, b)
            if keeps_zero or not _is_zero(value):
                out[name] = value

    def _repeated(self, name: str, kind: str, wire_type: int, a: int, b: int, out: list[Any]) -> None:
        if wire_type == BYTES and kind in ("int32", "int64"):
            while a < b:
                value, a = _packed(self._data, a, b)
                out.append(value)
        else:
            out.append(self._value(name, kind, wire_type, a, b))

    def _entry(self, kind: str, start: int, end: int) -> tuple[str, Any]:
        key = ""
        value = self._value("value", kind, BYTES, end, end)
        for number, wire_type, a, b in scan(self._data, start, end):
            if number == 1:
                key = self._value("key", "string", wire_type, a, b)
            elif number == 2:
                value = self._value("value", kind, wire_type, a, b)
        return key, value

    def _value(self, name: str, kind: str, wire_type: int, a: int, b: int) -> Any:
        if kind in ("int32", "int64", "bool"):
            _expect(name, wire_type, VARINT)
            return bool(a) if kind == "bool" else signed(a)
        if kind == "double":
            _expect(name, wire_type, FIXED64)
            return _double(self._data[a:b])
        _expect(name, wire_type, BYTES)
        if kind == "string":
            return _text(self._data[a:b])
        if kind == "bytes":
            return binascii.b2a_base64(self._data[a:b], newline=False).decode()
        special = _SPECIAL.get(kind)
        return special(self, a, b) if special else self.message(kind, a, b)

    def _raw(self, start: int, end: int) -> dict[int, Any]:
        """Fields of a special message: int, or the range of bytes."""
        return {n: (a if t == VARINT else (a, b)) for n, t, a, b in scan(self._data, start, end)}

    def _range(self, fields: Mapping[int, Any], number: int) -> tuple[int, int]:
        found = fields.get(number, (0, 0))
        if not isinstance(found, tuple):
            raise Malformed(f"field {number} of a special message has a wrong wire type")
        return found

    def _seconds(self, start: int, end: int) -> tuple[int, int] | None:
        fields = self._raw(start, end)
        seconds, nanos = fields.get(1, 0), fields.get(2, 0)
        if not isinstance(seconds, int) or not isinstance(nanos, int):
            raise Malformed("a time has a wrong wire type")
        seconds, nanos = signed(seconds), signed(nanos)
        if start == end or seconds == _ZERO_TIME_S:
            return None
        return seconds, nanos

    def time(self, start: int, end: int) -> str | None:
        """meta.v1.Time{seconds=1, nanos=2}; empty and year 1 are null."""
        found = self._seconds(start, end)
        return None if found is None else _moment(*found).isoformat(timespec="seconds") + "Z"

    def micro_time(self, start: int, end: int) -> str | None:
        """meta.v1.MicroTime; six digits."""
        found = self._seconds(start, end)
        return None if found is None else _moment(*found).isoformat(timespec="microseconds") + "Z"

    def duration(self, start: int, end: int) -> str:
        """meta.v1.Duration{nanoseconds=1} in Go's text form."""
        nanoseconds = self._raw(start, end).get(1, 0)
        if not isinstance(nanoseconds, int):
            raise Malformed("a duration has a wrong wire type")
        return go_duration(signed(nanoseconds))

    def quantity(self, start: int, end: int) -> str:
        """resource.Quantity{text=1}; unset is zero."""
        a, b = self._range(self._raw(start, end), 1)
        return _text(self._data[a:b]) or "0"

    def int_or_string(self, start: int, end: int) -> int | str:
        """intstr.IntOrString{type=1 (0 int, 1 string), int=2, text=3}."""
        fields = self._raw(start, end)
        if fields.get(1, 0) == 1:
            a, b = self._range(fields, 3)
            return _text(self._data[a:b])
        number = fields.get(2, 0)
        if not isinstance(number, int):
            raise Malformed("an int-or-string has a wrong wire type")
        return signed(number)

    def raw_json(self, start: int, end: int) -> Any:
        """RawExtension, FieldsV1 and CRD JSON{raw=1}: JSON text, or another enveloped object."""
        a, b = self._range(self._raw(start, end), 1)
        if self._data[a : a + 4] == MAGIC:
            self._budget.enter()
            inner = _object(self._data, a, b, self._budget)
            self._budget.leave()
            return inner
        try:
            return json.loads(self._data[a:b]) if b > a else None
        except json.JsonError as exc:
            raise Malformed(f"embedded JSON cannot be read: {exc}") from exc

    def texts(self, start: int, end: int) -> list[str]:
        """Named list types: {items=1}."""
        return [_text(self._data[a:b]) for n, t, a, b in scan(self._data, start, end) if n == 1 and t == BYTES]

    def schema_or_bool(self, start: int, end: int) -> Any:
        """JSONSchemaPropsOrBool{allows=1, schema=2}."""
        fields = self._raw(start, end)
        if 2 in fields:
            return self.message(_SCHEMA, *self._range(fields, 2))
        return bool(fields.get(1, 0))

    def schema_or_array(self, start: int, end: int) -> Any:
        """JSONSchemaPropsOrArray{schema=1, jSONSchemas=2}."""
        fields = [(n, a, b) for n, t, a, b in scan(self._data, start, end) if t == BYTES]
        schemas = [self.message(_SCHEMA, a, b) for n, a, b in fields if n == 2]
        single = [self.message(_SCHEMA, a, b) for n, a, b in fields if n == 1]
        return schemas or (single[-1] if single else None)

    def schema_or_strings(self, start: int, end: int) -> Any:
        """JSONSchemaPropsOrStringArray{schema=1, property=2}."""
        fields = [(n, a, b) for n, t, a, b in scan(self._data, start, end) if t == BYTES]
        names = [_text(self._data[a:b]) for n, a, b in fields if n == 2]
        single = [self.message(_SCHEMA, a, b) for n, a, b in fields if n == 1]
        return names or (single[-1] if single else None)


_SCHEMA: Final = "apiextensions.v1.JSONSchemaProps"

_SPECIAL: Final[Mapping[str, Callable[[_Decoder, int, int], Any]]] = {
    "meta.v1.Time": _Decoder.time,
    "meta.v1.MicroTime": _Decoder.micro_time,
    "meta.v1.Duration": _Decoder.duration,
    "meta.v1.FieldsV1": _Decoder.raw_json,
    "meta.v1.Verbs": _Decoder.texts,
    "resource.Quantity": _Decoder.quantity,
    "intstr.IntOrString": _Decoder.int_or_string,
    "runtime.RawExtension": _Decoder.raw_json,
    **{
        f"{group}.ExtraValue": _Decoder.texts
        for group in (
            "authentication.v1",
            "authentication.v1beta1",
            "authorization.v1",
            "authorization.v1beta1",
            "certificates.v1",
            "certificates.v1beta1",
        )
    },
    **{
        f"apiextensions.{version}.{name}": decoder
        for version in ("v1", "v1beta1")
        for name, decoder in (
            ("JSON", _Decoder.raw_json),
            ("JSONSchemaPropsOrBool", _Decoder.schema_or_bool),
            ("JSONSchemaPropsOrArray", _Decoder.schema_or_array),
            ("JSONSchemaPropsOrStringArray", _Decoder.schema_or_strings),
        )
    },
}


def go_duration(nanoseconds: int) -> str:
    """Go's text of a duration: ``1h30m0s``, ``1.5s``, ``250ms``, ``0s``."""
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if 0 < left < size * 1_000:
            return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * _NS)
    text = f"{_decimal(rest, _NS)}s"
    if minutes:
        text = f"{minutes % 60}m{text}"
    if minutes >= 60:
        text = f"{minutes // 60}h{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    if not part:
        return str(whole)
    return f"{whole}.{part:0{len(str(unit)) - 1}d}".rstrip("0")


def _moment(seconds: int, nanos: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)
    except OverflowError as exc:
        raise Malformed(f"time of {seconds} s since 1970 is out of range") from exc


def _is_zero(value: Any) -> bool:
    """What Go's ``omitempty`` drops; an empty struct stays, as in Go."""
    return value is None or value == "" or (isinstance(value, int | float) and not value)


def _packed(data: bytes, at: int, end: int) -> tuple[int, int]:
    from_varint, at = read_varint(data, at, end)
    return signed(from_varint), at


def _double(content: bytes) -> float | int:
    value: float = struct.unpack("<d", content)[0]
    return int(value) if value.is_integer() else value


def _expect(name: str, wire_type: int, expected: int) -> None:
    if wire_type != expected:
        raise Malformed(f"field {name} has wire type {wire_type}, not {expected}")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise Malformed("a text is not UTF-8") from exc
