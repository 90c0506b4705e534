"""Modbus TCP, declared in Device and DeviceModel, no code needed.

Connection keys: ``mode`` (tcp), ``host`` (``ip``), ``port`` 502, ``unitId`` (``slaveID``) 1, ``timeoutMs``
(``timeout``) 1000, ``gapMs`` 0 between requests, ``maxBlock`` 120 registers in one request.
Visitor keys: ``table`` (``register``) coil, discrete, input, holding; ``address`` (``offset``); ``kind``;
``count`` (``limit``); ``bit``; ``wordOrder`` (``isRegisterSwap``), ``byteOrder`` (``isSwap``); ``scale``; ``add``;
``writeMode`` auto, single, multiple. Keys match in any case; KubeEdge's spellings are in brackets.
Devices behind one gateway share its connection; requests on it never overlap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from skerry.api.devices import DeviceView, Point, Scalar, option
from skerry.base.errors import DeviceError
from skerry.base.values import Struct
from skerry.runtime.drivers import PointRefused, Sample
from skerry.wire import modbus
from skerry.wire.errors import ProtocolError
from skerry.wire.modbus import ModbusRefused

_TABLES = {
    "coil": modbus.READ_COILS,
    "coils": modbus.READ_COILS,
    "coilregister": modbus.READ_COILS,
    "discrete": modbus.READ_DISCRETE,
    "discreteinput": modbus.READ_DISCRETE,
    "discreteinputregister": modbus.READ_DISCRETE,
    "input": modbus.READ_INPUT,
    "inputregister": modbus.READ_INPUT,
    "holding": modbus.READ_HOLDING,
    "holdingregister": modbus.READ_HOLDING,
}
_BITS = (modbus.READ_COILS, modbus.READ_DISCRETE)
_ALIASES = {"int": "int16", "uint": "uint16", "float": "float32", "double": "float64", "boolean": "bool"}
_BY_COUNT = {1: "uint16", 2: "uint32", 4: "uint64"}


class ModbusConfigError(DeviceError):
    """A key of a Device or DeviceModel is wrong."""


class Register(Struct, frozen=True):
    """Where a point lives and how its number is written there."""

    function: int
    address: int
    count: int
    kind: str
    bit: int | None = None
    word_order: str = "big"
    byte_order: str = "big"
    scale: float = 1.0
    add: float = 0.0
    write_mode: str = "auto"

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address + self.count


class ModbusBus:
    """One TCP connection, shared by the units behind it."""

    def __init__(self, host: str, port: int, *, timeout_s: float, gap_s: float) -> None:
        self.name = f"{host}:{port}"
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._gap_s = gap_s
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._decoder = modbus.Decoder()
        self._transaction = 0
        self._silences = 0
        self.users = 0

    async def connect(self) -> None:
        """Reach the other side, unless that is done already."""
        async with self._lock:
            await self._open()

    async def request(self, unit: int, pdu: bytes) -> bytes:
        """One exchange; returns the answer's data. Opens the connection again when another unit's failure closed it.

        Raises:
            ModbusRefused: the unit answered with an exception code.
            DeviceError: no connection, no answer in time, or no Modbus. The connection is closed then; after a unit's
                silence only the second time in a row, because the other units behind a gateway may be well.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._exchange(unit, pdu)
                self._silences = 0
                data = modbus.check_answer(pdu, answer)
            except TimeoutError as exc:
                self._silences += 1
                if self._silences > 1:
                    self.close()
                raise DeviceError(f"modbus {self.name} unit {unit}: no answer within {self._timeout_s:g} s") from exc
            except (OSError, ProtocolError) as exc:
                self.close()
                raise DeviceError(f"modbus {self.name} unit {unit}: {str(exc) or type(exc).__name__}") from exc
            if self._gap_s:
                await asyncio.sleep(self._gap_s)
            return data

    def close(self) -> None:
        """Close the connection; the next ``connect`` or request opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        self._silences = 0

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self._decoder = modbus.Decoder()
        return self._reader, self._writer

    async def _exchange(self, unit: int, pdu: bytes) -> bytes:
        reader, writer = await self._open()
        self._transaction = self._transaction % 65535 + 1
        writer.write(modbus.encode(modbus.Frame(self._transaction, unit, pdu)))
        await writer.drain()
        while True:
            data = await reader.read(4096)
            if not data:
                raise ConnectionError("connection closed by the device")
            answer = None
            for frame in self._decoder.feed(data):
                if frame.transaction == self._transaction:  # others answer a request that we gave up
                    answer = frame.pdu
            if answer is not None:
                return answer


class ModbusDrivers:
    """Makes drivers and shares connections between them; ``factory`` is the table entry for protocol ``modbus``."""

    def __init__(self) -> None:
        self._buses: dict[tuple[str, int], ModbusBus] = {}

    def factory(self, view: DeviceView) -> ModbusDriver:
        """The driver of a device.

        Raises:
            ModbusConfigError: a key is missing or wrong.
        """
        config, where = view.config, f"Device {view.device_id} protocol.configData"
        mode = str(option(config, "mode", default="tcp")).lower()
        if mode != "tcp":
            raise ModbusConfigError(f"{where}: mode {mode!r} is not built in", hint="use mode tcp, or a mapper")
        host = option(config, "host", "ip")
        if not isinstance(host, str) or not host:
            raise ModbusConfigError(f"{where}: host is missing", hint="set host to the device's address")
        port = _number(config, where, "port", default=502, low=1, high=65535)
        bus = self._buses.get((host, port))
        if bus is None:
            timeout_ms = _number(config, where, "timeoutMs", "timeout", default=1000, low=10, high=120_000)
            gap_ms = _number(config, where, "gapMs", default=0, low=0, high=10_000)
            bus = self._buses[host, port] = ModbusBus(host, port, timeout_s=timeout_ms / 1000, gap_s=gap_ms / 1000)
        return ModbusDriver(
            bus,
            unit=_number(config, where, "unitId", "slaveID", default=1, low=0, high=255),
            registers={point.name: register(point, where=f"Device {view.device_id}") for point in view.points},
            max_block=_number(config, where, "maxBlock", default=120, low=1, high=modbus.MAX_READ_REGISTERS),
            release=self._release,
        )

    def _release(self, bus: ModbusBus) -> None:
        if bus.users == 0:
            bus.close()
            self._buses = {key: other for key, other in self._buses.items() if other is not bus}


class ModbusDriver:
    """Drives one unit; a ``runtime.drivers.Driver``."""

    def __init__(
        self,
        bus: ModbusBus,
        *,
        unit: int,
        registers: Mapping[str, Register],
        max_block: int = 120,
        release: Callable[[ModbusBus], None] = lambda bus: bus.close(),
    ) -> None:
        self._bus = bus
        self._unit = unit
        self._registers = registers
        self._max_block = max_block
        self._release = release
        self._is_user = False

    async def connect(self) -> None:
        """As ``Driver``."""
        if not self._is_user:
            self._is_user = True
            self._bus.users += 1
        await self._bus.connect()

    async def close(self) -> None:
        """As ``Driver``."""
        if self._is_user:
            self._is_user = False
            self._bus.users -= 1
            self._release(self._bus)

    async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
        """As ``Driver``: adjacent registers in one request; a refused block is read point by point."""
        samples: dict[str, Sample] = {}
        named = [(point.name, self._registers[point.name]) for point in points]
        for block in blocks(named, max_block=self._max_block):
            try:
                samples |= await self._read_block(block)
            except ModbusRefused as refused:
                if len(block) == 1:
                    samples[block[0][0]] = Sample(error=str(refused))
                    continue
                for single in block:
                    samples |= await self._read_single(single)
        return samples

    async def write(self, point: Point, value: Scalar) -> Scalar:
        """As ``Driver``."""
        register = self._registers[point.name]
        try:
            if register.function == modbus.READ_COILS:
                await self._request(modbus.write_request(modbus.WRITE_COIL, register.address, [int(bool(value))]))
                return bool(value)
            if register.function != modbus.READ_HOLDING:
                raise PointRefused(f"property {point.name}: only coils and holding registers can be written")
            words = await self._words_for(register, value)
            await self._request(_write_pdu(register, words))
            return _decoded(register, words)
        except ValueError as exc:
            raise PointRefused(f"property {point.name}: {exc}") from exc
        except ModbusRefused as exc:
            raise PointRefused(f"property {point.name}: {exc}") from exc

    async def _words_for(self, register: Register, value: Scalar) -> list[int]:
        if register.bit is None:
            return modbus.encode_registers(
                value if not isinstance(value, bytes) else value.decode("latin-1"),
                register.kind,
                count=register.count,
                word_order=register.word_order,
                byte_order=register.byte_order,
                scale=register.scale,
                add=register.add,
            )
        pdu = modbus.read_request(register.function, register.address, 1)
        word = modbus.unpack_registers(await self._request(pdu))[0]
        mask = 1 << register.bit
        return [word | mask if value else word & ~mask]

    async def _read_single(self, single: tuple[str, Register]) -> dict[str, Sample]:
        try:
            return await self._read_block([single])
        except ModbusRefused as refused:
            return {single[0]: Sample(error=str(refused))}

    async def _read_block(self, block: Sequence[tuple[str, Register]]) -> dict[str, Sample]:
        first, last = block[0][1], max(register.end for _, register in block)
        count = last - first.address
        data = await self._request(modbus.read_request(first.function, first.address, count))
        if first.function in _BITS:
            bits = modbus.unpack_bits(data, count)
            return {name: Sample(bits[r.address - first.address]) for name, r in block}
        words = modbus.unpack_registers(data)
        return {
            name: Sample(_decoded(r, words[r.address - first.address : r.end - first.address])) for name, r in block
        }

    async def _request(self, pdu: bytes) -> bytes:
        return await self._bus.request(self._unit, pdu)


def blocks(named: Iterable[tuple[str, Register]], *, max_block: int) -> list[list[tuple[str, Register]]]:
    """Group registers of one table that touch each other into requests of at most ``max_block`` addresses."""
    result: list[list[tuple[str, Register]]] = []
    end = -1
    for name, register in sorted(named, key=lambda item: (item[1].function, item[1].address)):
        if result:
            first = result[-1][0][1]
            fits = register.end - first.address <= max_block
            if first.function == register.function and register.address <= end and fits:
                result[-1].append((name, register))
                end = max(end, register.end)
                continue
        result.append([(name, register)])
        end = register.end
    return result


def register(point: Point, *, where: str) -> Register:
    """Read the visitor keys of a point.

    Raises:
        ModbusConfigError: a key is missing or wrong; the text begins with ``where``.
    """
    visitor, where = point.visitor, f"{where} property {point.name} visitors.configData"
    table = str(option(visitor, "table", "register", default="holding")).lower()
    if table not in _TABLES:
        raise ModbusConfigError(f"{where}: table {table!r} is none of coil, discrete, input, holding")
    function = _TABLES[table]
    count = _number(visitor, where, "count", "limit", default=0, low=0, high=modbus.MAX_READ_REGISTERS)
    kind = "bool" if function in _BITS else _kind(point, visitor, where, count)
    if function in _BITS:
        count = 1
    elif kind not in ("string", "bits", "bool"):
        count = modbus.register_count(kind)
    count = count or 1
    bit = option(visitor, "bit")
    return Register(
        function=function,
        address=_number(visitor, where, "address", "offset", default=None, low=0, high=65536 - count),
        count=count,
        kind=kind,
        bit=None if bit is None else _number(visitor, where, "bit", default=0, low=0, high=15),
        word_order=_order(visitor, where, "wordOrder", "isRegisterSwap"),
        byte_order=_order(visitor, where, "byteOrder", "isSwap"),
        scale=_real(visitor, where, "scale", 1.0) or 1.0,
        add=_real(visitor, where, "add", 0.0),
        write_mode=str(option(visitor, "writeMode", default="auto")).lower(),
    )


def _kind(point: Point, visitor: Mapping[str, Any], where: str, count: int) -> str:
    named = option(visitor, "kind")
    if named is None:
        named = _kind_by_type(point.type, count)
    kind = _ALIASES.get(str(named).lower(), str(named).lower())
    if kind not in modbus.KINDS:
        raise ModbusConfigError(f"{where}: kind {named!r} is none of {', '.join(sorted(modbus.KINDS))}")
    return kind


def _kind_by_type(kind: str, count: int) -> str:
    if kind == "BOOLEAN":
        return "bool"
    if kind in ("STRING", "BYTES"):
        return "string"
    if kind in ("FLOAT", "DOUBLE") and count != 1:
        return "float64" if count == 4 or (not count and kind == "DOUBLE") else "float32"
    return "int16" if kind in ("FLOAT", "DOUBLE") else _BY_COUNT.get(count, "uint16")


def _decoded(register: Register, words: Sequence[int]) -> Scalar:
    if register.bit is not None:
        return bool(words[0] >> register.bit & 1)
    return modbus.decode_registers(
        words,
        register.kind,
        word_order=register.word_order,
        byte_order=register.byte_order,
        scale=register.scale,
        add=register.add,
    )


def _write_pdu(register: Register, words: Sequence[int]) -> bytes:
    is_single = len(words) == 1 and register.write_mode != "multiple"
    function = modbus.WRITE_REGISTER if is_single else modbus.WRITE_REGISTERS
    return modbus.write_request(function, register.address, words)


def _number(config: Mapping[str, Any], where: str, *names: str, default: int | None, low: int, high: int) -> int:
    raw = option(config, *names, default=default)
    if raw is None:
        raise ModbusConfigError(f"{where}: {names[0]} is missing")
    try:
        number = int(raw)
    except (TypeError, ValueError):
        raise ModbusConfigError(f"{where}: {names[0]} {raw!r:.40} is not a number") from None
    if not low <= number <= high:
        raise ModbusConfigError(f"{where}: {names[0]} {number} is not within {low} to {high}")
    return number


def _real(config: Mapping[str, Any], where: str, name: str, default: float) -> float:
    raw = option(config, name, default=default)
    try:
        return float(raw)
    except (TypeError, ValueError):
        raise ModbusConfigError(f"{where}: {name} {raw!r:.40} is not a number") from None


def _order(visitor: Mapping[str, Any], where: str, name: str, swap: str) -> str:
    named = option(visitor, name)
    if named is None:
        return "little" if option(visitor, swap) in (True, "true", 1) else "big"
    if str(named).lower() not in ("big", "little"):
        raise ModbusConfigError(f"{where}: {name} {named!r:.40} is neither big nor little")
    return str(named).lower()
