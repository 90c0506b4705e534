"""What two Skerry peers agree on in the handshake, on top of KubeEdge's wire. Nothing of it is assumed.

The agent sends ``Skerry-Version: 0.1.0`` and ``Skerry-Features: acks,deflate,lease``; the hub answers with its version
and the features of these that it knows, and both use exactly those. Go peers ignore the headers and send none.

``acks``     the edge may acknowledge several deliveries with one message: operation ``response``, resource
             ``skerry/acks``, content the list of message ids.
``deflate``  a message may travel packed, as a binary message: byte 1, then a zlib stream of the JSON. Only above 1 KiB,
             each for itself, and never when it carries a secret (a length would tell of its content).
``lease``    WebSocket pings are the keepalive, one every 20 s, and the cloud renews the node's Lease while they come.
             The session ends 45 s after the last sign of life: one ping may be lost and the next one late.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.route import resource_type

ACKS, DEFLATE, LEASE = "acks", "deflate", "lease"
FEATURES = frozenset({ACKS, DEFLATE, LEASE})
PING_EVERY_S = 20.0
SILENCE_LIMIT_S = 45.0
"""With ``lease``; on KubeEdge's wire it is ``KEEPALIVE_EVERY_S`` and ``KEEPALIVE_LIMIT_S``."""
OLDER_ACCEPTED = 2
"""Minor versions apart that still work together, either way; the major one must be the same."""
PACK_ABOVE_BYTES = 1024
_PACKED = b"\x01"
_LEVEL = 6
_SECRET_TYPES = frozenset({c.TYPE_SECRET, c.TYPE_TOKEN, c.RESOURCE_APPLICATION})


def to_header(features: frozenset[str]) -> str:
    """The value of ``Skerry-Features``."""
    return ",".join(sorted(features))


def from_header(text: str) -> frozenset[str]:
    """Those features of a header that we know; one object for the same text, since thousands of links keep it."""
    return _known(text[:200])


@lru_cache(maxsize=64)
def _known(text: str) -> frozenset[str]:
    return FEATURES & {part.strip() for part in text.split(",")}


def version_problem(ours: str, theirs: str) -> str:
    """Why two versions do not work together; empty when they do."""
    mine, other = _numbers(ours), _numbers(theirs)
    if mine is not None and other is not None and mine[0] == other[0] and abs(mine[1] - other[1]) <= OLDER_ACCEPTED:
        return ""
    return f"version {theirs[:40]!r} of the node's agent does not work with version {ours!r} of this cloud"


def is_packed(frame: bytes) -> bool:
    """Whether a frame is packed, and so travels as a binary message."""
    return frame[:1] == _PACKED


def may_pack(envelope: Envelope, frame: bytes) -> bool:
    """Whether a message is large enough, and carries no secret."""
    if len(frame) <= PACK_ABOVE_BYTES or resource_type(envelope.resource) in _SECRET_TYPES:
        return False
    content = envelope.content
    return not (isinstance(content, dict) and content.get("kind") == "Secret")


def pack(frame: bytes) -> bytes:
    """The packed form."""
    return _PACKED + zlib.compress(frame, _LEVEL)


def unpack(frame: bytes, *, limit_bytes: int) -> bytes:
    """The message in a packed frame.

    Raises:
        TooLarge: it is over ``limit_bytes``.
        Malformed: it is no complete zlib stream.
    """
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(memoryview(frame)[1:], limit_bytes + 1)
    except zlib.error as exc:
        raise Malformed(f"packed message cannot be read: {exc}") from exc
    if len(data) > limit_bytes:
        raise TooLarge(f"packed message is larger than {limit_bytes} bytes")
    if not inflater.eof or inflater.unused_data:
        raise Malformed("packed message is cut short, or followed by other bytes")
    return data


def _numbers(text: str) -> tuple[int, int] | None:
    """Major and minor of ``1.2``, ``1.2.3`` or ``1.2.3rc1``."""
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts[:2]):
        return None
    return int(parts[0]), int(parts[1])
