"""The built-in Modbus mapper against a real Modbus TCP server process."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.component.devices.desk import Desk, device, eventually, model

from skerry.base import json
from skerry.edge.devices.mapper import BuiltinMappers, KeeperSink
from skerry.edge.devices.mappers.modbus import ModbusDrivers
from skerry.wire import modbus
from skerry.wire.kubeedge import twin as docs

DEVICE = "default/t1"

TEMPERATURE = {
    "name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly",
    "visitors": {"configData": {"table": "holding", "address": 0, "kind": "int16", "scale": 0.1}},
}  # fmt: skip
SEQUENCE = {
    "name": "sequence", "type": "INT", "accessMode": "ReadOnly",
    "visitors": {"configData": {"register": "HoldingRegister", "offset": 1, "limit": 2, "isRegisterSwap": True}},
}  # fmt: skip
SETPOINT = {
    "name": "setpoint", "type": "FLOAT", "accessMode": "ReadWrite", "minimum": "5", "maximum": "40",
    "visitors": {"configData": {"table": "holding", "address": 10, "kind": "int16", "scale": 0.1}},
}  # fmt: skip


class Simulator:
    """The thermometer in its own process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def stop(self) -> dict[str, Any]:
        """End it; what it says about its life."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        await self.process.wait()
        return json.loads(line) if line else {}


async def start_simulator(port: int = 0) -> Simulator:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.sdk.simulate", "--port", str(port), "--period", "2",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    return Simulator(process, ready["port"])


@asynccontextmanager
async def simulator(port: int = 0) -> AsyncIterator[Simulator]:
    simulated = await start_simulator(port)
    try:
        yield simulated
    finally:
        if simulated.process.returncode is None:
            await simulated.stop()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    await desk.aclose()


@asynccontextmanager
async def mappers(desk: Desk, external: set[str] | None = None) -> AsyncIterator[BuiltinMappers]:
    built_in = BuiltinMappers(
        catalog=desk.catalog,
        sink=KeeperSink(desk.keeper),
        drivers={"modbus": ModbusDrivers().factory},
        has_external=(external or set()).__contains__,
    )
    built_in.start()
    try:
        yield built_in
    finally:
        await built_in.aclose()


def bind(desk: Desk, port: int, *, desired: str | None = None, name: str = "t1") -> None:
    desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, SEQUENCE, SETPOINT, unitId=1))
    setpoint: dict[str, Any] = {"name": "setpoint", "collectCycle": 50}
    if desired is not None:
        setpoint["desired"] = {"value": desired}
    properties = [{"name": "temperature", "collectCycle": 50}, {"name": "sequence", "collectCycle": 50}, setpoint]
    desk.catalog.apply(f"default/device/{name}", device(*properties, name=name, host="127.0.0.1", port=port))


def value(desk: Desk, name: str) -> str | None:
    twin = desk.outbox.twin(DEVICE, name)
    return twin.actual.value if twin is not None and twin.actual is not None else None


def observed(desk: Desk, name: str) -> str | None:
    twin = desk.outbox.twin(DEVICE, name)
    return twin.expected.value if twin is not None and twin.expected is not None else None


async def test_a_device_in_a_reading_in_the_outbox(desk: Desk) -> None:
    async with simulator() as thermometer, mappers(desk):
        bind(desk, thermometer.port)
        await eventually(lambda: value(desk, "temperature") is not None and value(desk, "setpoint") == "21")
        assert 17.9 <= float(value(desk, "temperature") or 0) <= 24.1
        twin = desk.outbox.twin(DEVICE, "temperature")
        assert twin is not None and twin.actual is not None and twin.actual.timestamp_ms > 1_600_000_000_000
        await eventually(lambda: docs.state_resource(DEVICE) in desk.outbox.envelopes())
        state = docs.parse_state_update(desk.outbox.envelopes()[docs.state_resource(DEVICE)].content)
        assert state.state == "online"


async def test_readings_out_equal_readings_in(desk: Desk) -> None:
    async with simulator() as thermometer:
        async with mappers(desk):
            bind(desk, thermometer.port)
            await eventually(lambda: int(value(desk, "sequence") or 0) >= 20)
        last = value(desk, "sequence")
        served = (await thermometer.stop())["served"]
        # a request that was cut by the end of the mapper may have been served without anybody listening
        assert served - int(last or 0) in (0, 1)
        counts = desk.keeper.counts
        assert counts.accepted == counts.superseded + counts.unchanged + counts.stored + counts.dropped
        assert counts.dropped == 0


async def test_a_desired_value_reaches_the_register_and_comes_back(desk: Desk) -> None:
    async with simulator() as thermometer:
        async with mappers(desk):
            bind(desk, thermometer.port)
            await eventually(lambda: value(desk, "setpoint") == "21")
            assert observed(desk, "setpoint") is None
            bind(desk, thermometer.port, desired="24.5")
            await eventually(lambda: observed(desk, "setpoint") == "24.5" and value(desk, "setpoint") == "24.5")
        assert (await thermometer.stop())["writes"] == 1


async def test_values_that_cannot_be_are_neither_written_nor_observed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async with simulator() as thermometer:
        async with mappers(desk):
            bind(desk, thermometer.port, desired="50")
            await eventually(lambda: "device.desired_impossible" in caplog.text)
            bind(desk, thermometer.port, desired="35")  # within the model's bounds, refused by the device itself
            await eventually(lambda: "device.write_failed" in caplog.text)
            await eventually(lambda: value(desk, "setpoint") == "21")
            assert observed(desk, "setpoint") is None
        assert (await thermometer.stop())["writes"] == 0


async def test_a_device_that_goes_away_is_offline_and_comes_back(desk: Desk) -> None:
    async with mappers(desk):
        async with simulator() as thermometer:
            bind(desk, thermometer.port)
            await eventually(lambda: DEVICE in desk.keeper.devices and desk.keeper.devices[DEVICE].state == "online")
        await eventually(lambda: desk.keeper.devices[DEVICE].state == "offline")
        async with simulator(thermometer.port):
            await eventually(lambda: desk.keeper.devices[DEVICE].state == "online")
            before = desk.keeper.counts.stored
            await eventually(lambda: desk.keeper.counts.stored > before)


async def test_an_external_mapper_has_the_protocol(desk: Desk) -> None:
    external = {"modbus"}
    async with simulator() as thermometer, mappers(desk, external) as built_in:
        bind(desk, thermometer.port)
        await eventually(lambda: DEVICE in desk.keeper.devices)
        assert built_in.running == []
        external.clear()
        built_in.reconsider()
        await eventually(lambda: value(desk, "temperature") is not None)
        external.add("modbus")
        built_in.reconsider()
        await eventually(lambda: built_in.running == [])


async def test_two_devices_share_one_connection(desk: Desk) -> None:
    async with simulator() as thermometer, mappers(desk) as built_in:
        bind(desk, thermometer.port)
        bind(desk, thermometer.port, name="t2")
        await eventually(lambda: built_in.running == ["default/t1", "default/t2"])
        await eventually(lambda: desk.outbox.twin("default/t2", "temperature") is not None)
        desk.catalog.apply("default/device/t1", None)
        await eventually(lambda: built_in.running == ["default/t2"])
        before = desk.keeper.devices["default/t2"].twins["sequence"].actual
        await eventually(lambda: desk.keeper.devices["default/t2"].twins["sequence"].actual != before)


async def test_a_silent_unit_does_not_take_its_neighbours_along(desk: Desk) -> None:
    """A gateway: unit 1 answers, unit 9 never does."""
    silent = 9

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = modbus.Decoder()
        while data := await reader.read(4096):
            for frame in decoder.feed(data):
                if frame.unit != silent:
                    count = int.from_bytes(frame.pdu[3:5], "big")
                    answer = bytes([frame.pdu[0], 2 * count]) + b"\x00\x07" * count
                    writer.write(modbus.encode(modbus.Frame(frame.transaction, frame.unit, answer)))
        writer.close()

    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    states: list[tuple[str, str]] = []
    desk.listeners.append(
        lambda topic, body: (
            states.append((topic.split("/")[4], json.loads(body)["device"]["state"]))
            if topic.endswith("state/update/result")
            else None
        )
    )
    async with mappers(desk):
        desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE))
        for name, unit in (("good", 1), ("dead", silent)):
            config = {"host": "127.0.0.1", "port": port, "unitId": unit, "timeoutMs": 100}
            obj = device({"name": "temperature", "collectCycle": 50}, name=name, **config)
            desk.catalog.apply(f"default/device/{name}", obj)
        await eventually(lambda: ("dead", "offline") in states and ("good", "online") in states)
        before = desk.keeper.counts.accepted
        await eventually(lambda: desk.keeper.counts.accepted > before + 10)
    assert ("good", "offline") not in states
    server.close()


async def test_a_wrong_device_says_which_key(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    async with mappers(desk):
        desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE))
        desk.catalog.apply("default/device/t1", device({"name": "temperature"}, port=502))
        await eventually(
            lambda: desk.keeper.devices.get(DEVICE) is not None and bool(desk.keeper.devices[DEVICE].state)
        )
        assert desk.keeper.devices[DEVICE].state == "unhealthy"
        record = next(r for r in caplog.records if r.getMessage() == "device.invalid")
        assert "default/t1 protocol.configData: host is missing" in record.fields["error"]  # type: ignore[attr-defined]
