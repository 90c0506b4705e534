"""Device Mapper Interface v1beta1: Kubernetes objects to its messages and back, and its rules.

Messages are dicts by field name, as ``wire.pb`` decodes them; a field that is missing has its default. Not here: bytes
(``wire.pb``), sockets (``base.grpc``), what to do (``edge.devices.dmi``, ``sdk.mapper``).

Rules for Go mappers: ``configData``, ``desired`` and ``status`` are always there, possibly empty, because Go mappers
follow these pointers without looking; a property that the model lacks is left out; ``configData`` holds only
``StringValue``, ``BoolValue``, ``Int64Value`` and ``FloatValue``, because their decoder drops every other type without
a word. What they send is read with every sub-message missing.

Source: kubeedge edge/pkg/devicetwin/dtcommon/util.go, edge/pkg/devicetwin/dmiserver/server.go,
staging/src/github.com/kubeedge/mapper-framework/pkg/common/dataconverter.go (v1.23).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge.twin import Value
from skerry.wire.modbus import shortest_float32

Message = dict[str, Any]

EDGE_SERVICE = "v1beta1.DeviceManagerService"
MAPPER_SERVICE = "v1beta1.DeviceMapperService"
SOCKET_NAME = "dmi.sock"

TYPE_PREFIX = "type.googleapis.com/google.protobuf."
TYPE_URL, ANY_VALUE = "type_url", "value"
"""Field names of ``google.protobuf.Any``."""


class MapperInfo(Struct, frozen=True):
    """A mapper that registers. ``address`` is the plain path of its unix socket."""

    name: str
    protocol: str
    address: str
    version: str = ""
    api_version: str = ""
    state: str = ""


class Report(Struct, frozen=True):
    """One property of a status report; a side that the mapper left out or empty is None."""

    actual: Value | None
    observed: Value | None
    type: str = ""


# --- values -----------------------------------------------------------------------------------------------------


def to_any(value: Any) -> Message:
    """A ``configData`` value. Numbers with a fraction lose what 32 bits cannot hold; structures become JSON text."""
    if isinstance(value, bool):
        return _any("BoolValue", b"\x08\x01" if value else b"")
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _any("Int64Value", b"\x08" + _varint(value & (2**64 - 1)) if value else b"")
    if isinstance(value, int | float):
        return _any("FloatValue", b"\x0d" + struct.pack("<f", value) if value else b"")
    text = value if isinstance(value, str) else json.dumps(value).decode()
    data = text.encode()
    return _any("StringValue", b"\x0a" + _varint(len(data)) + data if data else b"")


def from_any(message: Mapping[str, Any]) -> Any:
    """The value of an ``Any`` of every wrapper type.

    Raises:
        Malformed: another type, or bytes that do not fit it.
    """
    url, data = str(message.get(TYPE_URL, "")), bytes(message.get(ANY_VALUE, b""))
    kind = url.removeprefix(TYPE_PREFIX)
    try:
        if kind == "StringValue":
            return _delimited(data).decode()
        if kind == "BytesValue":
            return _delimited(data)
        if kind == "BoolValue":
            return bool(_number(data))
        if kind in ("Int32Value", "Int64Value"):
            number = _number(data)
            return number - 2**64 if number >= 2**63 else number
        if kind in ("UInt32Value", "UInt64Value"):
            return _number(data)
        if kind == "FloatValue":
            return shortest_float32(struct.unpack("<f", data[1:5])[0]) if data else 0.0
        if kind == "DoubleValue":
            return struct.unpack("<d", data[1:9])[0] if data else 0.0
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise Malformed(f"configData value of type {kind} cannot be read") from exc
    raise Malformed(f"configData value of type {url!r:.120} is not known")


# --- objects to messages ----------------------------------------------------------------------------------------


def device_message(device: Mapping[str, Any], model: Mapping[str, Any]) -> Message:
    """A Device as mappers get it.

    Args:
        device: with the model already merged in.
        model: says which properties exist.
    """
    metadata, spec = _part(device, "metadata"), _part(device, "spec")
    known = {p.get("name") for p in _items(_part(model, "spec"), "properties")}
    status = _part(device, "status")
    report = _part(spec, "stateReport") or status
    return {
        "name": str(metadata.get("name", "")),
        "namespace": str(metadata.get("namespace") or "default"),
        "spec": {
            "deviceModelReference": str(_part(spec, "deviceModelRef").get("name", "")),
            "protocol": _protocol(_part(spec, "protocol")),
            "properties": [_property(p) for p in _items(spec, "properties") if p.get("name") in known],
            "methods": [
                {
                    "name": str(m.get("name", "")),
                    "description": str(m.get("description", "")),
                    "propertyNames": [str(name) for name in m.get("propertyNames") or []],
                }
                for m in _items(spec, "methods")
            ],
        },
        "status": {
            "twins": [],
            "reportToCloud": report.get("reportToCloud") is True,
            "reportCycle": _whole(report.get("reportCycle")),
        },
    }


def model_message(model: Mapping[str, Any]) -> Message:
    """A DeviceModel as mappers get it."""
    metadata, spec = _part(model, "metadata"), _part(model, "spec")
    names = ("name", "description", "type", "accessMode", "minimum", "maximum", "unit")
    return {
        "name": str(metadata.get("name", "")),
        "namespace": str(metadata.get("namespace") or "default"),
        "spec": {"properties": [{name: str(p.get(name) or "") for name in names} for p in _items(spec, "properties")]},
    }


# --- messages to objects ----------------------------------------------------------------------------------------


def device_object(message: Mapping[str, Any]) -> dict[str, Any]:
    """The Device in a message. A ``configData`` value that cannot be read is left out."""
    spec = _part(message, "spec")
    properties = [_property_object(p) for p in _items(spec, "properties")]
    status = _part(message, "status")
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": message.get("name", ""), "namespace": message.get("namespace") or "default"},
        "spec": {
            "deviceModelRef": {"name": spec.get("deviceModelReference", "")},
            "protocol": _visitor_object(_part(spec, "protocol")),
            "properties": properties,
            "methods": [dict(m) for m in _items(spec, "methods")],
        },
        "status": {
            "reportToCloud": bool(status.get("reportToCloud")),
            "reportCycle": _whole(status.get("reportCycle")),
        },
    }


def model_object(message: Mapping[str, Any]) -> dict[str, Any]:
    """The DeviceModel in a message."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": message.get("name", ""), "namespace": message.get("namespace") or "default"},
        "spec": {"properties": [dict(p) for p in _items(_part(message, "spec"), "properties")]},
    }


def id_of(message: Mapping[str, Any], *, name: str = "deviceName", namespace: str = "deviceNamespace") -> str:
    """``<namespace>/<name>``; an empty namespace is ``default``.

    Raises:
        Malformed: no name.
    """
    if not message.get(name):
        raise Malformed(f"request has no {name}")
    return f"{message.get(namespace) or 'default'}/{message[name]}"


def parse_mapper(request: Mapping[str, Any]) -> tuple[MapperInfo, bool]:
    """Who registers, and whether it wants its devices at once.

    Raises:
        Malformed: no mapper, name or protocol, or an address that is no absolute path.
    """
    mapper = _part(request, "mapper")
    name, protocol = str(mapper.get("name", "")), str(mapper.get("protocol", ""))
    if not name or not protocol:
        raise Malformed("mapper without a name or protocol")
    try:
        address = bytes(mapper.get("address", b"")).decode().removeprefix("unix://")
    except UnicodeDecodeError as exc:
        raise Malformed("mapper address is not UTF-8") from exc
    if not address.startswith("/") or "\0" in address:
        raise Malformed(f"mapper address {address!r:.120} is not the absolute path of a unix socket")
    info = MapperInfo(
        name,
        protocol,
        address,
        str(mapper.get("version", "")),
        str(mapper.get("api_version", "")),
        str(mapper.get("state", "")),
    )
    return info, bool(request.get("withData"))


def register_request(info: MapperInfo) -> Message:
    """The request of a mapper that wants its devices at once."""
    return {
        "withData": True,
        "mapper": {
            "name": info.name,
            "version": info.version,
            "api_version": info.api_version,
            "protocol": info.protocol,
            "address": info.address.encode(),
            "state": info.state,
        },
    }


def parse_report(request: Mapping[str, Any]) -> tuple[str, dict[str, Report]]:
    """Device id and what is reported by property.

    Raises:
        Malformed: no device name, or a twin without a property name.
    """
    device_id = id_of(request)
    result: dict[str, Report] = {}
    for twin in _items(_part(request, "reportedDevice"), "twins"):
        name = str(twin.get("propertyName", ""))
        if not name:
            raise Malformed("twin without a property name")
        reported, observed = _part(twin, "reported"), _part(twin, "observedDesired")
        metadata = _part(reported, "metadata")
        result[name] = Report(
            actual=_value(reported) if "reported" in twin and twin["reported"] is not None else None,
            observed=_value(observed) if observed.get("value") else None,
            type=str(metadata.get("type", "")).lower(),
        )
    return device_id, result


def report_request(device_id: str, reports: Mapping[str, Report]) -> Message:
    """A status report; both sides of each twin are present, because a Go agent crashes where one is missing."""
    namespace, _, name = device_id.partition("/")
    twins = []
    for prop, report in reports.items():
        twin: Message = {"propertyName": prop, "observedDesired": {}, "reported": {}}
        if report.observed is not None:
            twin["observedDesired"] = {"value": report.observed.value}
        if report.actual is not None:
            metadata = {"timestamp": str(report.actual.timestamp_ms)}
            if report.type:
                metadata["type"] = report.type
            twin["reported"] = {"value": report.actual.value, "metadata": metadata}
        twins.append(twin)
    return {"deviceName": name, "deviceNamespace": namespace, "reportedDevice": {"twins": twins}}


# --- inside -----------------------------------------------------------------------------------------------------


def _value(side: Mapping[str, Any]) -> Value:
    stamp = str(_part(side, "metadata").get("timestamp", ""))
    return Value(str(side.get("value", "")), int(stamp) if stamp.isdecimal() and len(stamp) < 17 else 0)


def _protocol(protocol: Mapping[str, Any]) -> Message:
    return {"protocolName": str(protocol.get("protocolName", "")), "configData": _config(protocol)}


def _config(owner: Mapping[str, Any]) -> Message:
    data = _part(owner, "configData")
    return {"data": {str(key): to_any(value) for key, value in data.items() if value is not None}}


def _property(prop: Mapping[str, Any]) -> Message:
    desired = _part(prop, "desired")
    message: Message = {
        "name": str(prop.get("name", "")),
        "desired": {
            "value": str(desired.get("value", "")),
            "metadata": {str(k): str(v) for k, v in _part(desired, "metadata").items()},
        },
        "visitors": _protocol(_part(prop, "visitors")),
        "reportCycle": _whole(prop.get("reportCycle")),
        "collectCycle": _whole(prop.get("collectCycle")),
        "reportToCloud": prop.get("reportToCloud") is not False,
    }
    if push := _push(_part(prop, "pushMethod")):
        message["pushMethod"] = push
    return message


def _push(method: Mapping[str, Any]) -> Message:
    lowered = {str(key).lower(): value for key, value in method.items() if isinstance(value, dict)}
    result: Message = {}
    if http := lowered.get("http"):
        result["http"] = {
            "hostname": str(http.get("hostName", "")),
            "port": _whole(http.get("port")),
            "requestpath": str(http.get("requestPath", "")),
            "timeout": _whole(http.get("timeout")),
        }
    if mqtt := lowered.get("mqtt"):
        result["mqtt"] = {
            "address": str(mqtt.get("address", "")),
            "topic": str(mqtt.get("topic", "")),
            "qos": _whole(mqtt.get("qos")),
            "retained": mqtt.get("retained") is True,
        }
    if otel := lowered.get("otel"):
        result["otel"] = {"endpointURL": str(otel.get("endpointURL", ""))}
    return result


def _property_object(message: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": message.get("name", ""),
        "visitors": _visitor_object(_part(message, "visitors")),
        "reportCycle": _whole(message.get("reportCycle")),
        "collectCycle": _whole(message.get("collectCycle")),
        "reportToCloud": bool(message.get("reportToCloud")),
    }
    desired = _part(message, "desired")
    if desired.get("value"):
        result["desired"] = {"value": desired["value"], "metadata": dict(_part(desired, "metadata"))}
    return result


def _visitor_object(message: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, value in _part(_part(message, "configData"), "data").items():
        try:
            config[key] = from_any(value)
        except Malformed:
            continue
    return {"protocolName": message.get("protocolName", ""), "configData": config}


def _any(kind: str, data: bytes) -> Message:
    return {TYPE_URL: TYPE_PREFIX + kind, ANY_VALUE: data}


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    result.append(number)
    return bytes(result)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number & (2**64 - 1), at
        if shift > 63:
            raise IndexError("varint too long")


def _number(data: bytes) -> int:
    return _read_varint(data, 1)[0] if data else 0


def _delimited(data: bytes) -> bytes:
    if not data:
        return b""
    length, at = _read_varint(data, 1)
    if len(data) < at + length:
        raise IndexError("text ends too early")
    return data[at : at + length]


def _part(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = obj.get(name)
    return value if isinstance(value, dict) else {}


def _items(obj: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = obj.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63 else 0
