"""MQTT 3.1.1 packets: bytes to values and back, for client and broker.

Here: one frozen value per packet, ``encode``, and an incremental ``Decoder``. Not here: what answers what
(``session``), which filter matches (``topics``).

Layout: one byte of type and flags, a length of one to four bytes, seven bits each, then the body. Texts are UTF-8
after a two-byte length.
Source: OASIS MQTT Version 3.1.1 (2014), sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge

MAX_PACKET_BYTES = 1024 * 1024
PROTOCOL_LEVEL = 4
SUBSCRIBE_FAILED = 0x80

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP = range(1, 8)
_SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK, _PINGREQ, _PINGRESP, _DISCONNECT = range(8, 15)


class Connect(Struct, frozen=True):
    """A client introduces itself. ``keep_alive_s`` 0 means no limit."""

    client_id: str
    keep_alive_s: int = 60
    clean_session: bool = True
    user_name: str | None = None
    password: bytes | None = None
    will_topic: str | None = None
    will_payload: bytes = b""
    will_qos: int = 0
    will_retain: bool = False


class ConnAck(Struct, frozen=True):
    """The broker's answer; ``code`` 0 is welcome, 1 to 5 are refusals."""

    code: int = 0
    session_present: bool = False


class Publish(Struct, frozen=True):
    """A message; ``packet_id`` is 0 exactly for quality of service 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    packet_id: int = 0


class PubAck(Struct, frozen=True):
    """Receipt of a message of quality 1."""

    packet_id: int


class PubRec(Struct, frozen=True):
    """First receipt of quality 2."""

    packet_id: int


class PubRel(Struct, frozen=True):
    """Release of quality 2."""

    packet_id: int


class PubComp(Struct, frozen=True):
    """Last receipt of quality 2."""

    packet_id: int


class Subscribe(Struct, frozen=True):
    """Filters with the highest quality of service wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class SubAck(Struct, frozen=True):
    """Per filter the quality granted, or ``SUBSCRIBE_FAILED``."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(Struct, frozen=True):
    """Filters no longer wanted."""

    packet_id: int
    filters: tuple[str, ...]


class UnsubAck(Struct, frozen=True):
    """Receipt of ``Unsubscribe``."""

    packet_id: int


class PingReq(Struct, frozen=True):
    """Are you there?"""


class PingResp(Struct, frozen=True):
    """I am."""


class Disconnect(Struct, frozen=True):
    """The client leaves in good order; its will is dropped."""


class Oversized(Struct, frozen=True):
    """A message over the limit was skipped; topic and packet id are all that was kept of it."""

    topic: str
    length: int
    qos: int
    packet_id: int


Packet = (
    Connect | ConnAck | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | SubAck | Unsubscribe | UnsubAck
    | PingReq | PingResp | Disconnect
)  # fmt: skip

_RECEIPTS: dict[type, tuple[int, int]] = {
    PubAck: (_PUBACK, 0),
    PubRec: (_PUBREC, 0),
    PubRel: (_PUBREL, 2),
    PubComp: (_PUBCOMP, 0),
    UnsubAck: (_UNSUBACK, 0),
}
_RECEIPT_CLASSES: dict[int, type[PubAck] | type[PubRec] | type[PubRel] | type[PubComp] | type[UnsubAck]] = {
    _PUBACK: PubAck,
    _PUBREC: PubRec,
    _PUBREL: PubRel,
    _PUBCOMP: PubComp,
    _UNSUBACK: UnsubAck,
}
_FLAGS = {_PUBREL: 2, _SUBSCRIBE: 2, _UNSUBSCRIBE: 2}


def encode(packet: Packet) -> bytes:
    """The bytes of one packet.

    Raises:
        ValueError: a text over 65,535 bytes, or a body over what the length field can say.
    """
    match packet:
        case Connect():
            return _frame(_CONNECT, 0, _connect_body(packet))
        case ConnAck():
            return _frame(_CONNACK, 0, bytes([int(packet.session_present), packet.code]))
        case Publish():
            flags = packet.duplicate << 3 | packet.qos << 1 | packet.retain
            packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
            return _frame(_PUBLISH, flags, _text(packet.topic) + packet_id + packet.payload)
        case Subscribe():
            body = b"".join(_text(name) + bytes([qos]) for name, qos in packet.filters)
            return _frame(_SUBSCRIBE, 2, packet.packet_id.to_bytes(2, "big") + body)
        case SubAck():
            return _frame(_SUBACK, 0, packet.packet_id.to_bytes(2, "big") + bytes(packet.codes))
        case Unsubscribe():
            body = b"".join(_text(name) for name in packet.filters)
            return _frame(_UNSUBSCRIBE, 2, packet.packet_id.to_bytes(2, "big") + body)
        case PingReq():
            return _frame(_PINGREQ, 0, b"")
        case PingResp():
            return _frame(_PINGRESP, 0, b"")
        case Disconnect():
            return _frame(_DISCONNECT, 0, b"")
        case _:
            kind, flags = _RECEIPTS[type(packet)]
            return _frame(kind, flags, packet.packet_id.to_bytes(2, "big"))


class Decoder:
    """Takes bytes as they come, gives whole packets.

    Args:
        limit_bytes: longest packet accepted. A longer message is skipped, never held, and told as ``Oversized``.
    """

    def __init__(self, *, limit_bytes: int = MAX_PACKET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[Packet | Oversized]:
        """Every packet that is complete with ``data``.

        Raises:
            Malformed: a packet that cannot be read.
            TooLarge: a packet over the limit that is no message, as soon as its length is known.
        """
        self._buffer += data
        while True:
            self._drop_skipped()
            head = self._head()
            if head is None or self._skip:
                return
            start, length = head
            if length > self._limit_bytes:
                oversized = self._oversized(start, length)
                if oversized is None:
                    return
                self._skip = start + length
                yield oversized
                continue
            if len(self._buffer) < start + length:
                return
            first, body = self._buffer[0], bytes(self._buffer[start : start + length])
            del self._buffer[: start + length]
            yield _decode(first >> 4, first & 15, body)

    def _drop_skipped(self) -> None:
        count = min(self._skip, len(self._buffer))
        del self._buffer[:count]
        self._skip -= count

    def _oversized(self, start: int, length: int) -> Oversized | None:
        kind, qos = self._buffer[0] >> 4, self._buffer[0] >> 1 & 3
        if kind != _PUBLISH:
            raise TooLarge(f"MQTT packet of {length} bytes is larger than {self._limit_bytes} bytes")
        if len(self._buffer) < start + 2:
            return None
        topic_end = start + 2 + int.from_bytes(self._buffer[start : start + 2], "big")
        needed = topic_end + (2 if qos else 0)
        if needed > start + length:
            raise Malformed("MQTT packet ends too early")
        if len(self._buffer) < needed:
            return None
        topic = self._buffer[start + 2 : topic_end].decode(errors="replace")
        return Oversized(topic, length, qos, int.from_bytes(self._buffer[topic_end:needed], "big"))

    def _head(self) -> tuple[int, int] | None:
        length = 0
        for index in range(4):
            if len(self._buffer) < index + 2:
                return None
            byte = self._buffer[index + 1]
            length |= (byte & 127) << (7 * index)
            if byte < 128:
                return index + 2, length
        raise Malformed("MQTT packet length takes more than four bytes")


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    if len(body) >= 1 << 28:
        raise ValueError(f"MQTT body of {len(body)} bytes is too long")
    head = bytearray([kind << 4 | flags])
    length = len(body)
    while True:
        length, digit = length >> 7, length & 127
        head.append(digit | 128 if length else digit)
        if not length:
            return bytes(head) + body


def _text(value: str) -> bytes:
    return _binary(value.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > 65535:
        raise ValueError(f"MQTT text of {len(data)} bytes is longer than 65535")
    return len(data).to_bytes(2, "big") + data


def _connect_body(packet: Connect) -> bytes:
    flags = packet.clean_session << 1
    tail = _text(packet.client_id)
    if packet.will_topic is not None:
        flags |= 4 | packet.will_qos << 3 | packet.will_retain << 5
        tail += _text(packet.will_topic) + _binary(packet.will_payload)
    if packet.user_name is not None:
        flags |= 128
        tail += _text(packet.user_name)
        if packet.password is not None:
            flags |= 64
            tail += _binary(packet.password)
    return _text("MQTT") + bytes([PROTOCOL_LEVEL, flags]) + packet.keep_alive_s.to_bytes(2, "big") + tail


def _decode(kind: int, flags: int, body: bytes) -> Packet:
    if kind != _PUBLISH and flags != _FLAGS.get(kind, 0):
        raise Malformed(f"MQTT packet type {kind} with flags {flags}")
    cut = _Cut(body)
    packet = _read(kind, flags, cut)
    cut.end()
    return packet


def _read(kind: int, flags: int, cut: _Cut) -> Packet:
    if kind == _PUBLISH:
        return _publish(flags, cut)
    if kind in _RECEIPT_CLASSES:
        return _RECEIPT_CLASSES[kind](cut.packet_id())
    if kind == _CONNECT:
        return _connect(cut)
    if kind == _CONNACK:
        present, code = cut.byte(), cut.byte()
        return ConnAck(code=code, session_present=bool(present & 1))
    if kind == _SUBSCRIBE:
        return Subscribe(cut.packet_id(), tuple(_filters(cut)))
    if kind == _SUBACK:
        return SubAck(cut.packet_id(), tuple(cut.rest()))
    if kind == _UNSUBSCRIBE:
        packet_id, names = cut.packet_id(), []
        while cut.left:
            names.append(cut.text())
        return Unsubscribe(packet_id, tuple(names))
    if kind == _PINGREQ:
        return PingReq()
    if kind == _PINGRESP:
        return PingResp()
    if kind == _DISCONNECT:
        return Disconnect()
    raise Malformed(f"MQTT packet type {kind} is not known")


def _publish(flags: int, cut: _Cut) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise Malformed("MQTT message of quality 3")
    topic = cut.text()
    if not topic or "+" in topic or "#" in topic:
        raise Malformed("MQTT message with an empty topic or with wildcards in it")
    packet_id = cut.packet_id() if qos else 0
    return Publish(topic, cut.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id)


def _filters(cut: _Cut) -> Iterator[tuple[str, int]]:
    if not cut.left:
        raise Malformed("MQTT subscription without a filter")
    while cut.left:
        name, qos = cut.text(), cut.byte()
        if qos > 2:
            raise Malformed(f"MQTT subscription of quality {qos}")
        yield name, qos


def _connect(cut: _Cut) -> Connect:
    name, level, flags = cut.text(), cut.byte(), cut.byte()
    if name != "MQTT" or level != PROTOCOL_LEVEL or flags & 1:
        raise Malformed(f"MQTT protocol {name!r:.20} level {level} is not 3.1.1")
    if flags & 0x18 == 0x18 or (flags & 0x38 and not flags & 4):
        raise Malformed(f"CONNECT with flags {flags:#04x}: a will of quality 3, or the quality of no will")
    keep_alive_s, client_id = cut.number(), cut.text()
    will_topic, will_payload = (cut.text(), cut.binary()) if flags & 4 else (None, b"")
    user_name = cut.text() if flags & 128 else None
    if flags & 192 == 64:
        raise Malformed("CONNECT has a password without a user name")
    password = cut.binary() if flags & 64 else None
    return Connect(
        client_id, keep_alive_s, bool(flags & 2), user_name, password,
        will_topic, will_payload, flags >> 3 & 3, bool(flags & 32),
    )  # fmt: skip


class _Cut:
    """Takes pieces off the front of a body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        if self.left < count:
            raise Malformed("MQTT packet ends too early")
        self._at += count
        return self._body[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def packet_id(self) -> int:
        number = self.number()
        if not number:
            raise Malformed("MQTT packet id 0")
        return number

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            value = self.binary().decode()
        except UnicodeDecodeError as exc:
            raise Malformed("MQTT text is not UTF-8") from exc
        if "\0" in value:
            raise Malformed("MQTT text holds a null character")
        return value

    def rest(self) -> bytes:
        return self.take(self.left)

    def end(self) -> None:
        if self.left:
            raise Malformed(f"MQTT packet has {self.left} bytes too many")
