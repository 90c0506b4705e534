"""Protocol-buffer primitives: varints and a walk over the fields of one encoded message.

What the fields mean is not known here: ``codec`` (interfaces) and ``kubernetes`` (API objects) bring the tables.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.wire.errors import Malformed, TooLarge

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. 3 and 4 (groups) appear in none of our interfaces and are refused."""

_SIGN_BIT = 1 << 63
_WRAP = 1 << 64


class Budget:
    """How much one decode may build, so that a small body cannot become a huge object.

    Args:
        depth: deepest nesting of messages.
        messages: nested messages altogether.
    """

    __slots__ = ("_depth_left", "_messages_left")

    def __init__(self, *, depth: int = 100, messages: int = 250_000) -> None:
        self._depth_left = depth
        self._messages_left = messages

    def enter(self) -> None:
        """One more nested message begins.

        Raises:
            TooLarge: over one of the limits.
        """
        self._depth_left -= 1
        self._messages_left -= 1
        if self._depth_left < 0:
            raise TooLarge("protobuf message is nested too deeply")
        if self._messages_left < 0:
            raise TooLarge("protobuf message has too many parts")

    def leave(self) -> None:
        """The nested message ended."""
        self._depth_left += 1


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit varint at ``at`` and the position after it.

    Raises:
        Malformed: cut off, or longer than ten bytes.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % _WRAP, at
        shift += 7
        if shift >= 70:
            raise Malformed("protobuf varint is longer than ten bytes")
    raise Malformed("protobuf varint is cut off")


def varint(value: int) -> bytes:
    """Encode an integer; negative ones take ten bytes, as int32 and int64 do."""
    if value < 0:
        value += _WRAP
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> int:
    """An unsigned 64-bit value read as two's complement."""
    return value - _WRAP if value & _SIGN_BIT else value


def scan(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Walk over the fields of the message in ``data[start:end]``.

    Yields:
        (field number, wire type, a, b): for a varint ``a`` is the value; otherwise ``data[a:b]`` is the content
        (eight or four bytes for fixed types).

    Raises:
        Malformed: cut off, field number 0, a group or an unknown wire type.
    """
    at = start
    while at < end:
        key, at = read_varint(data, at, end)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise Malformed("protobuf field number is 0")
        if wire_type == VARINT:
            value, at = read_varint(data, at, end)
            yield number, wire_type, value, at
            continue
        size, at = _size(wire_type, data, at, end)
        if size > end - at:
            raise Malformed(f"protobuf field {number} is cut off")
        yield number, wire_type, at, at + size
        at += size


def _size(wire_type: int, data: bytes, at: int, end: int) -> tuple[int, int]:
    if wire_type == BYTES:
        return read_varint(data, at, end)
    if wire_type == FIXED64:
        return 8, at
    if wire_type == FIXED32:
        return 4, at
    raise Malformed(f"protobuf wire type {wire_type} is not supported")
