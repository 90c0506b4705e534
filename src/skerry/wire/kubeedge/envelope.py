"""One message of the cloud-edge link: header, route and content, as JSON and back.

On a WebSocket each text frame holds one JSON object followed by one line feed.
Source: kubeedge staging/src/github.com/kubeedge/beehive/pkg/core/model/message.go (v1.23).
"""

from __future__ import annotations

from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge

MAX_FRAME_BYTES = 64 * 1024 * 1024


class Envelope(Struct, frozen=True):
    """One message.

    Args:
        msg_id: UUID text, made by the sender; kept over retransmissions. Empty only in Go's shutdown message.
        parent_id: id of the request, or of the message that is being acknowledged; empty for spontaneous ones.
        timestamp_ms: creation, Unix milliseconds; never checked.
        resource_version: set by the cloud on messages that carry an object; else empty.
        source, group, operation, resource: the route; empty when absent.
        content: decoded JSON; patches are strings that hold JSON.
    """

    msg_id: str
    source: str
    group: str
    operation: str
    resource: str
    content: Any = None
    parent_id: str = ""
    timestamp_ms: int = 0
    resource_version: str = ""


def encode(envelope: Envelope) -> bytes:
    """One frame: compact JSON and a line feed; empty members are left out, ``content`` never is."""
    header: dict[str, Any] = {"msg_id": envelope.msg_id}
    if envelope.parent_id:
        header["parent_msg_id"] = envelope.parent_id
    header["timestamp"] = envelope.timestamp_ms
    if envelope.resource_version:
        header["resourceversion"] = envelope.resource_version
    names = ("source", "group", "operation", "resource")
    route = {name: value for name in names if (value := getattr(envelope, name))}
    return json.dumps({"header": header, "route": route, "content": envelope.content}) + b"\n"


def decode(frame: bytes | str, *, limit_bytes: int = MAX_FRAME_BYTES) -> Envelope:
    """Read one frame; unknown members are ignored.

    Raises:
        TooLarge: over ``limit_bytes``.
        Malformed: not JSON, not an object, or a member of the wrong type.
    """
    if len(frame) > limit_bytes:
        raise TooLarge(f"frame of {len(frame)} bytes is larger than {limit_bytes} bytes")
    try:
        message = json.loads(frame)
    except json.JsonError as exc:
        raise Malformed(f"frame is not JSON: {exc}") from exc
    header, route = _member(message, "header"), _member(message, "route")
    return Envelope(
        msg_id=_text(header, "msg_id"),
        parent_id=_text(header, "parent_msg_id"),
        timestamp_ms=_number(header, "timestamp"),
        resource_version=_text(header, "resourceversion"),
        source=_text(route, "source"),
        group=_text(route, "group"),
        operation=_text(route, "operation"),
        resource=_text(route, "resource"),
        content=message.get("content"),
    )


def _member(message: Any, name: str) -> dict[str, Any]:
    value = message.get(name) if isinstance(message, dict) else None
    if not isinstance(value, dict):
        raise Malformed(f'frame has no object "{name}"')
    return value


def _text(part: dict[str, Any], name: str) -> str:
    value = part.get(name, "")
    if not isinstance(value, str):
        raise Malformed(f'"{name}" is not a string')
    return value


def _number(part: dict[str, Any], name: str) -> int:
    value = part.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f'"{name}" is not a whole number')
    return value
