"""Modbus TCP: frames, requests, answers, and numbers in registers. No sockets.

Frame (MBAP): transaction id, protocol id 0, length of what follows, unit id, then the PDU: function code and data;
all numbers big-endian. An answer with the function's top bit set is a refusal with one code byte.
Source: Modbus Application Protocol V1.1b3 and Modbus Messaging on TCP/IP Implementation Guide V1.0b (modbus.org).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from skerry.base.errors import DeviceError
from skerry.base.values import Struct
from skerry.wire.errors import Malformed

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16

MAX_READ_REGISTERS = 125
MAX_READ_BITS = 2000
MAX_WRITE_REGISTERS = 123

REFUSALS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge, still working",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}

_INTEGERS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
_FLOATS = {"float32": "f", "float64": "d"}
_FORMATS = _INTEGERS | _FLOATS

KINDS = frozenset({*_FORMATS, "string", "bool", "bits"})


class ModbusRefused(DeviceError):
    """The device answered with an exception code."""

    def __init__(self, function: int, code: int) -> None:
        super().__init__(f"modbus function {function} refused: {REFUSALS.get(code, f'code {code}')}")
        self.code = code


class Frame(Struct, frozen=True):
    """One request or answer."""

    transaction: int
    unit: int
    pdu: bytes


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    return struct.pack(">HHHB", frame.transaction, 0, len(frame.pdu) + 1, frame.unit) + frame.pdu


class Decoder:
    """Takes bytes as they come, gives whole frames. A frame is at most 260 bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that is complete with ``data``.

        Raises:
            Malformed: another protocol, or an impossible length.
        """
        self._buffer += data
        while len(self._buffer) >= 7:
            transaction, protocol, length, unit = struct.unpack_from(">HHHB", self._buffer)
            if protocol or not 2 <= length <= 254:
                raise Malformed(f"not a Modbus TCP frame: protocol {protocol}, length {length}")
            if len(self._buffer) < 6 + length:
                return
            pdu = bytes(self._buffer[7 : 6 + length])
            del self._buffer[: 6 + length]
            yield Frame(transaction, unit, pdu)


def read_request(function: int, address: int, count: int) -> bytes:
    """PDU that reads ``count`` bits or registers."""
    limit = MAX_READ_BITS if function in (READ_COILS, READ_DISCRETE) else MAX_READ_REGISTERS
    if not 1 <= count <= limit or not 0 <= address <= 65536 - count:
        raise ValueError(f"cannot read {count} from address {address}")
    return struct.pack(">BHH", function, address, count)


def write_request(function: int, address: int, values: Sequence[int]) -> bytes:
    """PDU that writes coils (0 or 1) or registers."""
    if function == WRITE_COIL:
        return struct.pack(">BHH", function, address, 0xFF00 if values[0] else 0)
    if function == WRITE_REGISTER:
        return struct.pack(">BHH", function, address, values[0])
    if function == WRITE_COILS:
        data = bytes(
            sum(bool(bit) << place for place, bit in enumerate(values[at : at + 8])) for at in range(0, len(values), 8)
        )
    else:
        if len(values) > MAX_WRITE_REGISTERS:
            raise ValueError(f"cannot write {len(values)} registers at once")
        data = struct.pack(f">{len(values)}H", *values)
    return struct.pack(">BHHB", function, address, len(values), len(data)) + data


def check_answer(request: bytes, answer: bytes) -> bytes:
    """The data of an answer, without function and byte count.

    Raises:
        ModbusRefused: an exception code.
        Malformed: not an answer to this request.
    """
    function = request[0]
    if len(answer) >= 2 and answer[0] == function | 0x80:
        raise ModbusRefused(function, answer[1])
    if not answer or answer[0] != function:
        raise Malformed(f"modbus answer of function {answer[:1].hex() or 'none'} to {function:02x}")
    if function > READ_INPUT:
        if answer[1:3] != request[1:3]:
            raise Malformed("modbus answer names another address")
        return answer[1:]
    count = int.from_bytes(request[3:5], "big")
    wanted = -(-count // 8) if function in (READ_COILS, READ_DISCRETE) else 2 * count
    if len(answer) != 2 + wanted or answer[1] != wanted:
        raise Malformed(f"modbus answer of {len(answer) - 2} bytes, {wanted} wanted")
    return answer[2:]


def unpack_bits(data: bytes, count: int) -> list[bool]:
    """Bits of an answer, lowest first."""
    return [bool(data[at // 8] >> at % 8 & 1) for at in range(count)]


def unpack_registers(data: bytes) -> list[int]:
    """Registers of an answer."""
    return list(struct.unpack(f">{len(data) // 2}H", data))


def register_count(kind: str, default: int = 1) -> int:
    """How many registers a kind takes; texts take ``default``."""
    return struct.calcsize(_FORMATS[kind]) // 2 if kind in _FORMATS else default


def decode_registers(
    words: Sequence[int],
    kind: str,
    *,
    word_order: str = "big",
    byte_order: str = "big",
    scale: float = 1.0,
    add: float = 0.0,
) -> bool | int | float | str:
    """The value in some registers.

    Args:
        words: as read, 0 to 65535 each.
        kind: one of ``KINDS``; ``bits`` gives the registers as one unsigned number.
        word_order, byte_order: ``big`` or ``little``: of registers, and of the bytes in each.
        scale, add: value = number × scale + add; integers stay integers when both say nothing.

    Raises:
        ValueError: unknown kind, or the wrong number of registers.
    """
    data = _arranged(words, word_order=word_order, byte_order=byte_order)
    if kind == "string":
        return data.rstrip(b"\0 ").decode("latin-1")
    if kind == "bool":
        return any(words)
    if kind == "bits":
        return int.from_bytes(data, "big")
    if kind not in _FORMATS or len(data) != struct.calcsize(_FORMATS[kind]):
        raise ValueError(f"{len(words)} registers do not hold one {kind}")
    number: int | float = struct.unpack(">" + _FORMATS[kind], data)[0]
    if kind == "float32":
        number = shortest_float32(number)
    return number if scale == 1.0 and add == 0.0 else round(number * scale + add, 9)


def encode_registers(
    value: bool | int | float | str,
    kind: str,
    *,
    count: int = 1,
    word_order: str = "big",
    byte_order: str = "big",
    scale: float = 1.0,
    add: float = 0.0,
) -> list[int]:
    """The registers of a value, the inverse of ``decode_registers``; ``count`` is for texts and ``bits``.

    Raises:
        ValueError: unknown kind, or a value that does not fit.
    """
    if kind == "string":
        data = str(value).encode("latin-1", errors="replace").ljust(2 * count, b"\0")
        if len(data) > 2 * count:
            raise ValueError(f"text of {len(data)} bytes does not fit {count} registers")
    elif kind == "bool":
        data = bool(value).to_bytes(2, "big")
    else:
        data = _packed_number(value, kind, count, scale, add)
    words = list(struct.unpack(f">{len(data) // 2}H", data))
    return unpack_registers(_arranged(words, word_order=word_order, byte_order=byte_order))


def shortest_float32(number: float) -> float:
    """The shortest decimal that is the same 32-bit float: 21.3 instead of 21.299999237060547."""
    for digits in range(6, 10):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.pack(">f", short) == struct.pack(">f", number):
                return short
        except OverflowError:
            continue
    return number


def _packed_number(value: bool | int | float | str, kind: str, count: int, scale: float, add: float) -> bytes:
    number = (float(value) - add) / scale if scale != 1.0 or add else value
    try:
        if kind == "bits":
            return int(number).to_bytes(2 * count, "big")
        if kind in _INTEGERS:
            return struct.pack(
                ">" + _INTEGERS[kind], round(float(number)) if isinstance(number, float) else int(number)
            )
        if kind in _FLOATS:
            return struct.pack(">" + _FLOATS[kind], float(number))
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"{value} does not fit {kind}") from exc
    raise ValueError(f"unknown register kind {kind!r}")


def _arranged(words: Sequence[int], *, word_order: str, byte_order: str) -> bytes:
    ordered = reversed(words) if word_order == "little" else words
    return b"".join(word.to_bytes(2, "little" if byte_order == "little" else "big") for word in ordered)
