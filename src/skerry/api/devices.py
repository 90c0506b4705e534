"""What Device and DeviceModel objects mean to whoever drives the device: a connection, points, cycles, typed values.

Here: merging a model into an instance, cycles, and values as text and back. Not here: the wire (``wire.kubeedge``),
reading devices (``runtime.drivers``).

Source: kubeedge edge/pkg/devicetwin/dmicache/dmicache.go:overrideDeviceInstanceConfig,
staging/src/github.com/kubeedge/api/apis/devices/v1beta1 (v1.23).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct, field

Scalar = bool | int | float | str | bytes
"""A value of a property. Reading ``None`` instead means that there is none."""

DEFAULT_CYCLE_MS = 1000
SHORTEST_CYCLE_MS = 50
NANOSECONDS_FROM = 10_000_000
"""Cycles from here on are nanoseconds: old samples say 10000000000 for ten seconds; as milliseconds this is 2.8 h."""

READ_WRITE = "ReadWrite"
READ_ONLY = "ReadOnly"

_INT_TYPES = frozenset({"INT"})
_FLOAT_TYPES = frozenset({"FLOAT", "DOUBLE"})


class Point(Struct, frozen=True):
    """One property of a device: how to reach it and what its values look like.

    Args:
        name: property name, unique in the device.
        type: ``INT FLOAT DOUBLE STRING BOOLEAN BYTES STREAM``.
        access: ``ReadWrite`` or ``ReadOnly``.
        visitor: flat protocol configuration, model defaults overlaid by the instance.
        cycle_ms: how often to read.
        report: whether readings go to the twin; only an explicit ``reportToCloud: false`` says no.
        desired: wanted value as text; None when the Device asks for none.
        minimum, maximum: bounds as the model says them, empty for none.
    """

    name: str
    type: str = "STRING"
    access: str = READ_ONLY
    visitor: Mapping[str, Any] = field(default_factory=dict)
    cycle_ms: int = DEFAULT_CYCLE_MS
    report: bool = True
    desired: str | None = None
    unit: str = ""
    minimum: str = ""
    maximum: str = ""

    @property
    def is_writable(self) -> bool:
        """Whether a desired value may be written."""
        return self.access == READ_WRITE


class DeviceView(Struct, frozen=True):
    """A Device with its model merged in. ``problems`` are properties that cannot be driven, with the reason."""

    namespace: str
    name: str
    uid: str
    model: str
    protocol: str
    config: Mapping[str, Any]
    points: tuple[Point, ...]
    description: str = ""
    report_state: bool = True
    problems: tuple[str, ...] = ()

    @property
    def device_id(self) -> str:
        """``<namespace>/<name>``."""
        return f"{self.namespace}/{self.name}"

    def point(self, name: str) -> Point | None:
        """The point of a property."""
        return next((point for point in self.points if point.name == name), None)

    def same_wiring(self, other: DeviceView) -> bool:
        """Whether only desired values (or texts for people) differ, so that a connection may stay."""
        return _wiring(self) == _wiring(other)


def device_id(obj: Object) -> str:
    """``<namespace>/<name>`` of an object."""
    metadata = obj.get("metadata") or {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name', '')}"


def model_id(device: Object) -> str:
    """``<namespace>/<name>`` of a Device's model; the name part is empty when it names none."""
    metadata, reference = device.get("metadata") or {}, _part(_part(device, "spec"), "deviceModelRef")
    return f"{metadata.get('namespace') or 'default'}/{reference.get('name', '')}"


def view(device: Object, model: Object) -> DeviceView:
    """Merge a model into an instance.

    For each property the model's visitors come first and the instance's ``configData`` keys are laid over them, one
    level deep; a model that has visitors also decides their protocol name. ``protocol.configData`` is merged the
    same way.
    """
    merged = merge(device, model)
    metadata, spec = merged.get("metadata") or {}, _part(merged, "spec")
    protocol = _part(spec, "protocol")
    known = {p.get("name"): p for p in _items(_part(model, "spec"), "properties")}
    points: list[Point] = []
    problems: list[str] = []
    for prop in _items(spec, "properties"):
        if prop.get("name") in known:
            points.append(_point(prop, known[prop["name"]]))
        else:
            problems.append(f"property {prop.get('name')!r} is not in model {model_id(device)}")
    return DeviceView(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        model=_part(spec, "deviceModelRef").get("name", ""),
        protocol=protocol.get("protocolName") or _part(model, "spec").get("protocol") or "",
        config=_part(protocol, "configData"),
        points=tuple(points),
        description=description(device),
        report_state=_part(spec, "stateReport").get("reportToCloud") is not False,
        problems=tuple(problems),
    )


def merge(device: Object, model: Object) -> Object:
    """The Device as mappers receive it; neither argument is changed."""
    spec, model_spec = dict(_part(device, "spec")), _part(model, "spec")
    protocol = dict(_part(spec, "protocol"))
    config = dict(_part(model_spec, "protocolConfigData")) | dict(_part(protocol, "configData"))
    if config:
        protocol["configData"] = config
    spec["protocol"] = protocol
    known = {p.get("name"): p for p in _items(model_spec, "properties")}
    spec["properties"] = [_merged_property(p, known.get(p.get("name"))) for p in _items(spec, "properties")]
    return dict(device) | {"spec": spec}


def same_spec(old: Object, new: Object) -> bool:
    """Whether two versions of an object ask for the same; the order of properties and methods does not count."""
    return _sorted_spec(old) == _sorted_spec(new)


def description(device: Object) -> str:
    """The text that membership messages carry: the label ``description``."""
    labels = (device.get("metadata") or {}).get("labels") or {}
    return str(labels.get("description", ""))


def cycle_ms(raw: Any) -> int:
    """A cycle in milliseconds: 0 or nothing means one second, very large numbers are nanoseconds, the floor is 50."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or raw <= 0:
        return DEFAULT_CYCLE_MS
    number = raw / 1_000_000 if raw >= NANOSECONDS_FROM else raw
    return max(SHORTEST_CYCLE_MS, int(number))


def option(config: Mapping[str, Any], *names: str, default: Any = None) -> Any:
    """The first of several spellings of a key that ``config`` has, upper and lower case alike."""
    lowered = {str(key).lower(): value for key, value in config.items()}
    return next((lowered[name.lower()] for name in names if lowered.get(name.lower()) is not None), default)


def parse_value(text: str, kind: str) -> Scalar:
    """The typed value of a text.

    Raises:
        ValueError: the text is not a value of ``kind``.
    """
    if kind in _INT_TYPES:
        return int(text, 10)
    if kind in _FLOAT_TYPES:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is not a finite number")
        return number
    if kind == "BOOLEAN":
        if text.lower() in ("true", "1"):
            return True
        if text.lower() in ("false", "0"):
            return False
        raise ValueError(f"{text!r} is neither true nor false")
    if kind == "BYTES":
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error as exc:
            raise ValueError(f"not base64url: {exc}") from exc
    return text


def format_value(value: Scalar, kind: str = "STRING") -> str:
    """The text of a value: no exponents, ``true``/``false``, base64url without padding. Every peer can read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    if isinstance(value, str):
        return value
    if kind in _INT_TYPES:
        return str(int(value))
    return _fixed(value)


def check_bounds(value: Scalar, point: Point) -> str:
    """Why a value may not be written, empty when it may."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    minimum, maximum = _number(point.minimum), _number(point.maximum)
    if minimum is not None and value < minimum:
        return f"{format_value(value)} is below the minimum {point.minimum}"
    if maximum is not None and value > maximum:
        return f"{format_value(value)} is above the maximum {point.maximum}"
    return ""


def desired_problem(text: str, point: Point) -> str:
    """Why a desired value can never reach the device, empty when it can: access, type, bounds."""
    if not point.is_writable:
        return f'"{point.name}" can only be read: its DeviceModel says {READ_ONLY}'
    try:
        return check_bounds(parse_value(text, point.type), point)
    except ValueError as exc:
        return f"{text!r:.80} is not a {point.type}: {exc}"


def same_value(left: str, right: str, kind: str = "") -> bool:
    """Whether two texts say the same value; numbers are compared as numbers where the kind is one."""
    if left == right:
        return True
    if kind.upper() in {"INT", "INTEGER", "FLOAT", "DOUBLE"}:
        first, second = _number(left), _number(right)
        return first is not None and first == second
    if kind.upper() == "BOOLEAN":
        return left.lower() == right.lower()
    return False


def _point(prop: Mapping[str, Any], model: Mapping[str, Any]) -> Point:
    desired = prop.get("desired")
    value = desired.get("value") if isinstance(desired, dict) else None
    raw = prop.get("collectCycle") or prop.get("reportCycle")
    return Point(
        name=prop["name"],
        type=str(model.get("type") or "STRING").upper(),
        access=model.get("accessMode") or READ_ONLY,
        visitor=_part(_part(prop, "visitors"), "configData"),
        cycle_ms=cycle_ms(raw),
        report=prop.get("reportToCloud") is not False,
        desired=value if isinstance(value, str) and value else None,
        unit=model.get("unit") or "",
        minimum=str(model.get("minimum") or ""),
        maximum=str(model.get("maximum") or ""),
    )


def _merged_property(prop: Mapping[str, Any], model: Mapping[str, Any] | None) -> dict[str, Any]:
    defaults = _part(model or {}, "visitors")
    if not defaults:
        return dict(prop)
    visitors = dict(defaults)
    config = dict(_part(defaults, "configData")) | dict(_part(_part(prop, "visitors"), "configData"))
    if config:
        visitors["configData"] = config
    return dict(prop) | {"visitors": visitors}


def _wiring(device: DeviceView) -> tuple[Any, ...]:
    points = tuple((p.name, p.type, p.access, dict(p.visitor), p.cycle_ms, p.report) for p in device.points)
    return device.protocol, dict(device.config), points


def _sorted_spec(obj: Object) -> dict[str, Any]:
    spec = dict(_part(obj, "spec"))
    for name in ("properties", "methods"):
        if name in spec:
            spec[name] = sorted(_items(spec, name), key=lambda item: str(item.get("name")))
    return spec


def _part(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = obj.get(name)
    return value if isinstance(value, dict) else {}


def _items(obj: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = obj.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _fixed(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    text = repr(value)
    if "e" in text:
        text = f"{value:.17f}" if abs(value) < 1 else f"{value:f}"
        text = text.rstrip("0")
    return text.removesuffix(".0").rstrip(".") or "0"
