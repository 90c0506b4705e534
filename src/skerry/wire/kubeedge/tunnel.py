"""One message of the stream tunnel (port 10004) and the request that opens a stream.

A WebSocket message of opcode Text carries one frame: connection id (unsigned LEB128), message type (unsigned LEB128),
then raw bytes to the end of the message, mostly not UTF-8.
Source: kubeedge pkg/stream/{constants,message,tunnel}.go (v1.23).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from skerry.base import json
from skerry.base.values import Struct, field
from skerry.wire.errors import Malformed, TooLarge

MAX_DATA_BYTES = 1 << 20
"""Go peers drop what is longer without a word, so nothing longer is ever sent."""

CONNECT_PATH = "/v1/kubeedge/connect"
KUBELET_HOST = "127.0.0.1:10350"
HEADER_NODE = "SessionHostNameOverride"
HEADER_ADDRESS = "SessionInternalIP"
HEADER_WINDOW = "Skerry-Stream-Window"
"""Ours: bytes per stream that may be under way unread. Both sides name it at the handshake, or it is not used.

Where it is used the cloud alone pings, every ``CALM_PING_S``; its silence tells the edge that the path is broken."""
CALM_PING_S = 30.0
"""Between peers that both named ``HEADER_WINDOW``. A ping costs about 200 bytes with all below it."""
PLAIN_EDGE_PING_S = 5.0
"""What KubeEdge's edge does."""
PLAIN_CLOUD_PING_S = 10.0


class FrameType(IntEnum):
    LOGS_CONNECT = 0
    EXEC_CONNECT = 1
    METRIC_CONNECT = 2
    DATA = 3
    REMOVE_CONNECT = 4
    CLOSE_CONNECT = 5
    ATTACH_CONNECT = 6
    WINDOW = 32
    """Ours, only between peers that both named ``HEADER_WINDOW``: data is a LEB128 count of bytes consumed."""


class Frame(Struct, frozen=True):
    """One message. ``type`` may be a number that we do not know; such frames are ignored."""

    connection_id: int
    type: int
    data: bytes = b""


class StreamRequest(Struct, frozen=True):
    """What a stream asks of the node's kubelet interface.

    Args:
        host: ``url.Host``; both implementations always put ``127.0.0.1:10350``.
        path: decoded path.
        query: raw query.
        headers: all values per name.
        method: GET for logs and metrics.
    """

    path: str
    query: str = ""
    host: str = KUBELET_HOST
    method: str = "GET"
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def encode(frame: Frame) -> bytes:
    """The bytes of one WebSocket message.

    Raises:
        TooLarge: data over ``MAX_DATA_BYTES``.
    """
    if len(frame.data) > MAX_DATA_BYTES:
        raise TooLarge(f"tunnel data of {len(frame.data)} bytes is larger than {MAX_DATA_BYTES} bytes")
    return encode_varint(frame.connection_id) + encode_varint(frame.type) + frame.data


def decode(message: bytes) -> Frame:
    """Read one WebSocket message.

    Raises:
        Malformed: a number that is cut off or longer than 64 bits.
        TooLarge: data over ``MAX_DATA_BYTES``.
    """
    connection_id, at = decode_varint(message, 0)
    kind, at = decode_varint(message, at)
    if len(message) - at > MAX_DATA_BYTES:
        raise TooLarge(f"tunnel data of {len(message) - at} bytes is larger than {MAX_DATA_BYTES} bytes")
    return Frame(connection_id, kind, message[at:])


def encode_varint(number: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """Unsigned LEB128 of at most 64 bits; returns the number and the place after it.

    Raises:
        Malformed: cut off, or over 64 bits.
    """
    number = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, at
        shift += 7
        if shift > 63:
            break
    raise Malformed("tunnel message begins with a number that is cut off or longer than 64 bits")


def encode_request(connection_id: int, request: StreamRequest, *, with_method: bool) -> bytes:
    """The JSON body of a ``…_CONNECT`` frame: Go's ``url.URL`` as a struct."""
    body: dict[str, Any] = {
        "MessID": connection_id,
        "url": {
            "Scheme": "http", "Opaque": "", "User": None, "Host": request.host, "Path": request.path, "RawPath": "",
            "OmitHost": False, "ForceQuery": False, "RawQuery": request.query, "Fragment": "", "RawFragment": "",
        },
        "header": {name: list(values) for name, values in request.headers.items()},
    }  # fmt: skip
    if with_method:
        body["method"] = request.method
    return json.dumps(body)


def decode_request(data: bytes) -> StreamRequest:
    """Read the body of a ``…_CONNECT`` frame; names match without case, as in Go.

    Raises:
        Malformed: not JSON, or members of the wrong type.
    """
    try:
        body = json.loads(data)
    except json.JsonError as exc:
        raise Malformed(f"stream request is not JSON: {exc}") from exc
    body = _lowered(body)
    url = _lowered(body.get("url"))
    header = body.get("header") or {}
    texts = (url.get("host", ""), url.get("path", ""), url.get("rawquery", ""), body.get("method") or "GET")
    if not all(isinstance(text, str) for text in texts) or not isinstance(header, dict):
        raise Malformed("stream request has members of the wrong type")
    host, path, query, method = texts
    headers = {str(name): tuple(str(v) for v in (values or ())) for name, values in header.items()}
    return StreamRequest(path=path, query=query, host=host, method=method, headers=headers)


def _lowered(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("stream request is not an object with a url")
    return {str(key).lower(): item for key, item in value.items()}
