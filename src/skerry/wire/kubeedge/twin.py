"""Device topics and documents: what mappers, local applications and the cloud say about devices.

Here: MQTT topics below ``$hw/events``, the JSON bodies on them, and the contents of the device envelopes between cloud
and edge, both to build and to read. Not here: what to do with them (``edge.devices.reduce``, ``cloud.devices``).
A device id is ``<namespace>/<name>`` and takes two topic levels. Times are whole milliseconds since 1970.

Source: kubeedge edge/pkg/devicetwin/dttype, edge/pkg/devicetwin/dtcommon, cloud/pkg/devicecontroller/types (v1.23).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.base import json
from skerry.base.values import Struct, field
from skerry.wire.errors import Malformed, TooLarge

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_VALUE_BYTES = 16 * 1024
STATES = frozenset({"online", "offline", "ok", "unknown", "unhealthy"})

BAD_REQUEST = 400
DEVICE_UNKNOWN = 404
INTERNAL_ERROR = 500

SUBSCRIPTIONS = (
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
)
"""What an agent reads from the broker for every device; the membership question is per node."""

MEMBERSHIP = "membership"
MEMBERSHIP_DETAIL = "membership/detail"
TWIN_ANSWER = "twin"

_KEY = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,128}")
_DEVICE_PREFIX = ("$hw", "events", "device")
_NODE_PREFIX = ("$hw", "events", "node")


class DeviceTopic(Struct, frozen=True):
    """A topic of one device; ``leaf`` is such as ``twin/update``."""

    device_id: str
    leaf: str


class NodeTopic(Struct, frozen=True):
    """A topic of one node; ``leaf`` is such as ``membership/get``."""

    node: str
    leaf: str


class Value(Struct, frozen=True):
    """A value as text, and when it was true. ``timestamp_ms`` is 0 when the writer gave none."""

    value: str
    timestamp_ms: int = 0


class Version(Struct, frozen=True):
    """Change counters of the two sides."""

    cloud: int = 0
    edge: int = 0


class MsgTwin(Struct, frozen=True):
    """One property in a document; every member is optional."""

    expected: Value | None = None
    actual: Value | None = None
    optional: bool | None = None
    type: str = ""
    expected_version: Version | None = None
    actual_version: Version | None = None


class TwinMessage(Struct, frozen=True):
    """A twin document that was read; None as a twin asks for the property's removal."""

    event_id: str
    timestamp_ms: int
    twin: Mapping[str, MsgTwin | None] = field(default_factory=dict)


class StateMessage(Struct, frozen=True):
    """A device's state that was read; ``last_online`` is RFC 3339 or empty."""

    event_id: str
    timestamp_ms: int
    state: str
    last_online: str = ""


class Member(Struct, frozen=True):
    """A device as membership messages name it."""

    device_id: str
    name: str
    description: str = ""
    state: str = ""
    last_online: str = ""


class MembershipChange(Struct, frozen=True):
    """Devices that joined and left a node."""

    event_id: str
    timestamp_ms: int
    added: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()


# --- topics and resources ---------------------------------------------------------------------------------------


def device_topic(device_id: str, leaf: str) -> str:
    """``$hw/events/device/<namespace>/<name>/<leaf>``."""
    return f"$hw/events/device/{device_id}/{leaf}"


def node_topic(node: str, leaf: str) -> str:
    """``$hw/events/node/<node>/<leaf>``."""
    return f"$hw/events/node/{node}/{leaf}"


def parse_topic(topic: str) -> DeviceTopic | NodeTopic | None:
    """The device or node that a topic belongs to, by position only; None for any other topic."""
    levels = topic.split("/")
    head = tuple(levels[:3])
    if head == _DEVICE_PREFIX and len(levels) >= 6 and levels[3] and levels[4]:
        return DeviceTopic(f"{levels[3]}/{levels[4]}", "/".join(levels[5:]))
    if head == _NODE_PREFIX and len(levels) >= 5 and levels[3]:
        return NodeTopic(levels[3], "/".join(levels[4:]))
    return None


def twin_resource(device_id: str) -> str:
    """Route of a twin report to the cloud."""
    return f"device/{device_id}/twin/edge_updated"


def state_resource(device_id: str) -> str:
    """Route of a state report to the cloud."""
    return f"device/{device_id}/state/update"


def parse_resource(resource: str) -> DeviceTopic | None:
    """The device and leaf of ``device/<namespace>/<name>/<leaf>``; None for another route."""
    parts = resource.split("/")
    if len(parts) < 5 or parts[0] != "device" or not parts[1] or not parts[2]:
        return None
    return DeviceTopic(f"{parts[1]}/{parts[2]}", "/".join(parts[3:]))


# --- reading ----------------------------------------------------------------------------------------------------


def parse_twin_message(document: Any) -> TwinMessage:
    """Read a ``twin/update`` body or the content of ``twin/edge_updated``.

    Args:
        document: bytes or text of JSON, or the decoded value (an envelope's content may be either).

    Raises:
        Malformed: not an object, no ``twin`` object, a key outside the allowed alphabet, a member of the wrong type.
        TooLarge: the document or a value is over its limit.
    """
    body = _object(document)
    twin = body.get("twin")
    if not isinstance(twin, dict):
        raise Malformed('document has no object "twin"')
    return TwinMessage(
        event_id=_text(body, "event_id"),
        timestamp_ms=_whole(body, "timestamp"),
        twin={_key(name): _msg_twin(name, value) for name, value in twin.items()},
    )


def parse_base(document: Any) -> tuple[str, int]:
    """Event id and timestamp of a body that carries nothing else (``twin/get``, ``membership/get``)."""
    body = _object(document)
    return _text(body, "event_id"), _whole(body, "timestamp")


def parse_state_update(document: Any) -> StateMessage:
    """Read a ``state/update`` body of MQTT (``state``, in any case) or of the link (``device``).

    Raises:
        Malformed: not an object, or no state in it.
    """
    body = _object(document)
    device = body.get("device")
    inner = device if isinstance(device, dict) else body
    state = inner.get("state", inner.get("State"))
    if not isinstance(state, str) or not state:
        raise Malformed('document has no text "state"')
    last_online = inner.get("lastOnlineTime", inner.get("last_online", ""))
    return StateMessage(
        event_id=_text(body, "event_id"),
        timestamp_ms=_whole(body, "timestamp"),
        state=state.lower(),
        last_online=last_online if isinstance(last_online, str) else "",
    )


def parse_membership(document: Any) -> MembershipChange:
    """Read the content of a ``membership`` message."""
    body = _object(document)
    return MembershipChange(
        event_id=_text(body, "event_id"),
        timestamp_ms=_whole(body, "timestamp"),
        added=_members(body, "added_devices"),
        removed=_members(body, "removed_devices"),
    )


def parse_membership_detail(document: Any) -> tuple[Member, ...]:
    """Read the cloud's list of every device of a node."""
    return _members(_object(document), "devices")


# --- bodies on MQTT ---------------------------------------------------------------------------------------------


def result(event_id: str, now_ms: int, twin: Mapping[str, MsgTwin]) -> bytes:
    """``twin/update/result`` and ``twin/get/result`` after a success: twins without versions."""
    return json.dumps(_base(event_id, now_ms) | {"twin": _plain(twin)})


def error_result(event_id: str, now_ms: int, code: int, reason: str) -> bytes:
    """A failure on any result topic."""
    return json.dumps(_base(event_id, now_ms) | {"code": code, "reason": reason})


def document(event_id: str, now_ms: int, changes: Mapping[str, tuple[MsgTwin | None, MsgTwin | None]]) -> bytes:
    """``twin/update/document``: each changed property before and after."""
    twin = {
        name: {"last": _member_of(last, versions=False), "current": _member_of(current, versions=False)}
        for name, (last, current) in changes.items()
    }
    return json.dumps(_base(event_id, now_ms) | {"twin": twin})


def delta(event_id: str, now_ms: int, twin: Mapping[str, MsgTwin], wanted: Mapping[str, str]) -> bytes:
    """``twin/update/delta``: every property with an expected value, and those whose actual value differs."""
    return json.dumps(_base(event_id, now_ms) | {"twin": _plain(twin), "delta": dict(wanted)})


def state_result(event_id: str, now_ms: int, name: str, state: str, last_online: str) -> bytes:
    """``state/update/result``."""
    device = {"name": name, "state": state, "lastOnlineTime": last_online}
    return json.dumps(_base(event_id, now_ms) | {"device": device})


def membership_get_result(event_id: str, now_ms: int, members: Iterable[Member]) -> bytes:
    """``membership/get/result``."""
    devices = [
        {
            "id": member.device_id,
            "name": member.name,
            "description": member.description,
            "state": member.state,
            "last_online": member.last_online,
            "attributes": {},
        }
        for member in members
    ]
    return json.dumps(_base(event_id, now_ms) | {"devices": devices})


def membership_updated(event_id: str, now_ms: int, change: MembershipChange) -> bytes:
    """``membership/updated``."""
    return json.dumps(membership(event_id, now_ms, added=change.added, removed=change.removed))


# --- contents of envelopes --------------------------------------------------------------------------------------


def edge_updated(event_id: str, now_ms: int, twin: Mapping[str, MsgTwin]) -> dict[str, Any]:
    """Content of ``twin/edge_updated``: one message for all changed properties of one device, with versions."""
    return _base(event_id, now_ms) | {"twin": {name: _member_of(t, versions=True) for name, t in twin.items()}}


def state_update(event_id: str, now_ms: int, name: str, state: str, last_online: str) -> str:
    """Content of ``state/update``: upstream sends this one as text that holds JSON."""
    return state_result(event_id, now_ms, name, state, last_online).decode()


def membership(
    event_id: str, now_ms: int, *, added: Iterable[Member] = (), removed: Iterable[Member] = ()
) -> dict[str, Any]:
    """Content of the cloud's ``membership`` message; an empty side is null."""
    return _base(event_id, now_ms) | {
        "added_devices": [_named(member) for member in added] or None,
        "removed_devices": [_named(member) for member in removed] or None,
    }


def membership_detail_request(event_id: str, now_ms: int, node: str) -> str:
    """Content of the edge's question on each connect: text that holds JSON."""
    body = {
        "event_type": "group_membership_event",
        "event_id": event_id,
        "group_id": node,
        "operation": "detail",
        "timestamp": now_ms,
    }
    return json.dumps(body).decode()


def membership_detail(event_id: str, now_ms: int, members: Iterable[Member]) -> dict[str, Any]:
    """Content of the cloud's list. The empty ``twin`` keeps Go agents from answering each known device with 400."""
    return _base(event_id, now_ms) | {"devices": [_named(member) | {"twin": {}} for member in members]}


# --- inside -----------------------------------------------------------------------------------------------------


def _base(event_id: str, now_ms: int) -> dict[str, Any]:
    return {"event_id": event_id, "timestamp": now_ms}


def _named(member: Member) -> dict[str, Any]:
    return {"id": member.device_id, "name": member.name, "description": member.description}


def _plain(twin: Mapping[str, MsgTwin]) -> dict[str, Any]:
    return {name: _member_of(value, versions=False) for name, value in twin.items()}


def _member_of(twin: MsgTwin | None, *, versions: bool) -> dict[str, Any] | None:
    if twin is None:
        return None
    body: dict[str, Any] = {}
    for name, value in (("expected", twin.expected), ("actual", twin.actual)):
        if value is not None:
            body[name] = {"value": value.value, "metadata": {"timestamp": value.timestamp_ms}}
    if twin.optional is not None:
        body["optional"] = twin.optional
    if twin.type:
        body["metadata"] = {"type": twin.type}
    if versions:
        for name, version in (("expected_version", twin.expected_version), ("actual_version", twin.actual_version)):
            if version is not None:
                body[name] = {"cloud": version.cloud, "edge": version.edge}
    return body


def _object(document: Any) -> dict[str, Any]:
    if isinstance(document, bytes | str):
        if len(document) > MAX_DOCUMENT_BYTES:
            raise TooLarge(f"document of {len(document)} bytes is larger than {MAX_DOCUMENT_BYTES} bytes")
        try:
            document = json.loads(document)
        except json.JsonError as exc:
            raise Malformed(f"document is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise Malformed("document is not an object")
    return document


def _key(name: Any) -> str:
    if not isinstance(name, str) or _KEY.fullmatch(name) is None:
        raise Malformed(f"property name {name!r:.140} is not 1 to 128 of letters, digits and -_.,:/@#")
    return name


def _msg_twin(name: str, body: Any) -> MsgTwin | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        raise Malformed(f"twin {name} is not an object")
    metadata = body.get("metadata")
    kind = metadata.get("type", "") if isinstance(metadata, dict) else ""
    optional = body.get("optional")
    return MsgTwin(
        expected=_value(name, body.get("expected")),
        actual=_value(name, body.get("actual")),
        optional=optional if isinstance(optional, bool) else None,
        type=kind if isinstance(kind, str) else "",
        expected_version=_version(body.get("expected_version")),
        actual_version=_version(body.get("actual_version")),
    )


def _value(name: str, body: Any) -> Value | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        raise Malformed(f"value of twin {name} is not an object")
    raw = body.get("value")
    if raw is None:
        return None
    text = raw if isinstance(raw, str) else _scalar(name, raw)
    if len(text.encode(errors="surrogatepass")) > MAX_VALUE_BYTES:
        raise TooLarge(f"value of twin {name} is larger than {MAX_VALUE_BYTES} bytes")
    metadata = body.get("metadata")
    return Value(text, _whole(metadata, "timestamp") if isinstance(metadata, dict) else 0)


def _scalar(name: str, raw: Any) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return str(raw)
    raise Malformed(f"value of twin {name} is neither text, number nor boolean")


def _version(body: Any) -> Version | None:
    if not isinstance(body, dict):
        return None
    return Version(_whole(body, "cloud"), _whole(body, "edge"))


def _members(body: dict[str, Any], name: str) -> tuple[Member, ...]:
    devices = body.get(name)
    if devices is None:
        return ()
    if not isinstance(devices, list):
        raise Malformed(f'"{name}" is not a list')
    return tuple(_member(device) for device in devices)


def _member(device: Any) -> Member:
    if not isinstance(device, dict) or not isinstance(device.get("id"), str):
        raise Malformed("a device of the membership has no id")
    return Member(device["id"], _text(device, "name"), _text(device, "description"))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _whole(body: dict[str, Any], name: str) -> int:
    value = body.get(name, 0)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63 else 0
