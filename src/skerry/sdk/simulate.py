"""A simulated Modbus thermometer: a real Modbus TCP server that other programs read and write.

    python -m skerry.sdk.simulate --port 0

Holding registers of unit 1:

    0       temperature, int16, tenths of a degree; a sine around the setpoint
    1, 2    number of this reading, uint32, low word first; each request that reads register 1 counts one further
    10      setpoint, int16, tenths of a degree; may be written, 5.0 to 30.0 degrees
    20, 21  readings served so far, uint32, low word first; reading it does not count

The counter tells whether every reading that left the device has reached the reader. Needs the extra ``simulate``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
import time
from typing import Any

from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.net.listening import free_port

TEMPERATURE, SEQUENCE, SETPOINT, SERVED = 0, 1, 10, 20
READ_HOLDING = 3
LOWEST_TENTHS, HIGHEST_TENTHS = 50, 300


class Thermometer:
    """The registers behind the server."""

    def __init__(self, *, setpoint_tenths: int = 210, period_s: float = 60.0, swing_tenths: int = 30) -> None:
        self.setpoint_tenths = setpoint_tenths
        self.served = 0
        self.writes = 0
        self._period_s = period_s
        self._swing_tenths = swing_tenths
        self._started_s = time.monotonic()

    def temperature_tenths(self) -> int:
        """The temperature now."""
        phase = (time.monotonic() - self._started_s) / self._period_s * 2 * math.pi
        return self.setpoint_tenths + round(self._swing_tenths * math.sin(phase))

    def read(self, address: int, count: int) -> dict[int, int]:
        """The registers of a request; counts one reading when it covers the number of the reading."""
        if address <= SEQUENCE < address + count:
            self.served = (self.served + 1) & 0xFFFFFFFF
        high, low = self.served >> 16, self.served & 0xFFFF
        return {
            TEMPERATURE: self.temperature_tenths() & 0xFFFF,
            SEQUENCE: low,
            SEQUENCE + 1: high,
            SETPOINT: self.setpoint_tenths & 0xFFFF,
            SERVED: low,
            SERVED + 1: high,
        }

    def write(self, address: int, values: list[int]) -> bool:
        """Take new values; False when the device refuses."""
        if address != SETPOINT or len(values) != 1 or not LOWEST_TENTHS <= values[0] <= HIGHEST_TENTHS:
            return False
        self.setpoint_tenths = values[0]
        self.writes += 1
        return True


class ThermometerServer:
    """Serves a thermometer over Modbus TCP; an async context manager. ``port`` 0 becomes a free one.

    Raises (on enter):
        ConfigError: pymodbus is not installed, or the address is taken.
    """

    def __init__(self, thermometer: Thermometer, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._thermometer = thermometer
        self._host = host
        self.port = port
        self._server: Any = None

    async def __aenter__(self) -> ThermometerServer:
        try:
            from pymodbus.constants import ExcCodes
            from pymodbus.server import ModbusTcpServer
            from pymodbus.simulator import DataType, SimData, SimDevice
        except ImportError as exc:
            raise ConfigError(
                "the simulated thermometer needs pymodbus", hint="pip install 'skerry[simulate]'"
            ) from exc
        thermometer = self._thermometer

        async def action(
            function: int,
            start: int,
            address: int,
            count: int,
            registers: list[int],
            values: list[int] | list[bool] | None,
        ) -> Any:
            if values is not None:
                return None if thermometer.write(address, [int(value) for value in values]) else ExcCodes.ILLEGAL_VALUE
            if function == READ_HOLDING:
                for at, value in thermometer.read(address, count).items():
                    registers[at - start] = value
            return None

        data = [SimData(0, count=32, values=0, datatype=DataType.REGISTERS)]
        self.port = self.port or free_port(self._host)
        self._server = ModbusTcpServer(SimDevice(id=1, simdata=data, action=action), address=(self._host, self.port))
        try:
            listening = await self._server.listen()
        except OSError as exc:
            raise ConfigError(f"cannot listen on {self._host}:{self.port}: {exc}") from exc
        if not listening:
            raise ConfigError(
                f"cannot listen on {self._host}:{self.port}", hint="choose another port, 0 takes a free one"
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.shutdown()


async def run_modbus_thermometer(*, host: str = "127.0.0.1", port: int = 0, period_s: float = 60.0) -> None:
    """Serve until SIGTERM or Ctrl-C; says where on stdout, as one line of JSON."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    thermometer = Thermometer(period_s=period_s)
    async with ThermometerServer(thermometer, host=host, port=port) as server:
        _say({"ready": True, "host": host, "port": server.port})
        await stop.wait()
    _say({"ready": False, "served": thermometer.served, "writes": thermometer.writes})


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m skerry.sdk.simulate``."""
    parser = argparse.ArgumentParser(prog="python -m skerry.sdk.simulate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--period", type=float, default=60.0, help="seconds of one swing of the temperature")
    chosen = parser.parse_args(arguments)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run_modbus_thermometer(host=chosen.host, port=chosen.port, period_s=chosen.period))
    except ConfigError as exc:
        sys.stderr.write(f"{exc.explained()}\n")
        return 2
    return 0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
