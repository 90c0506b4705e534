"""The mapper interface over real unix sockets, with a mapper of the SDK on the other side."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.component.devices.desk import Desk, device, eventually, model

from skerry.base.aio.supervise import Supervisor
from skerry.base.grpc import Caller, GrpcClient, GrpcError, GrpcServer, Status
from skerry.edge.devices.dmi import DmiServer, GrpcMappers
from skerry.edge.devices.registry import MapperRegistry
from skerry.sdk.mapper import DeviceError, Driver, Mapper, Point, Sample, Scalar
from skerry.wire.kubeedge import dmi
from skerry.wire.pb.codec import DMI

TEMPERATURE = {
    "name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly", "visitors": {"configData": {"register": "t"}},
}  # fmt: skip
SETPOINT = {
    "name": "setpoint", "type": "FLOAT", "accessMode": "ReadWrite", "visitors": {"configData": {"register": "s"}},
}  # fmt: skip
DEVICE = "default/t1"


class Machine:
    """What the driver talks to."""

    def __init__(self) -> None:
        self.registers: dict[str, float] = {"t": 20.5, "s": 19.0}
        self.is_on = True
        self.writes = 0
        self.configs: list[Mapping[str, Any]] = []


class Edge:
    """The agent's side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "dmi.sock"
        self.desk = Desk(path)
        self.mappers = GrpcMappers(timeout_s=5)
        self.open()

    def open(self) -> None:
        self.registry = MapperRegistry(
            store=self.desk.database,
            catalog=self.desk.catalog,
            keeper=self.desk.keeper,
            caller=self.mappers,
            own_uid=os.getuid(),
            retry_first_s=0.05,
            probe_every_s=0.1,
        )
        self.server = DmiServer(self.registry, paths=[self.socket])

    async def start(self) -> None:
        self.registry.start()
        await self.server.start()

    async def stop_serving(self) -> None:
        await self.server.aclose()
        await self.registry.aclose()

    async def aclose(self) -> None:
        await self.stop_serving()
        await self.mappers.aclose()
        await self.desk.aclose()

    def bind(self, desired: str = "", *, only_model: bool = False) -> None:
        self.desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, SETPOINT, protocol="acme", port=0.1))
        if only_model:
            return
        setpoint: dict[str, Any] = {"name": "setpoint", "collectCycle": 50}
        if desired:
            setpoint["desired"] = {"value": desired}
        obj = device({"name": "temperature", "collectCycle": 50}, setpoint, protocol="acme", host="h", unit=3)
        self.desk.catalog.apply("default/device/t1", obj)

    def value(self, name: str) -> str | None:
        twin = self.desk.outbox.twin(DEVICE, name)
        return twin.actual.value if twin is not None and twin.actual is not None else None

    def observed(self, name: str) -> str | None:
        twin = self.desk.outbox.twin(DEVICE, name)
        return twin.expected.value if twin is not None and twin.expected is not None else None

    def state(self) -> str:
        found = self.desk.keeper.devices.get(DEVICE)
        return found.state if found is not None else ""


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    edge = Edge(tmp_path)
    await edge.start()
    yield edge
    await edge.aclose()


@asynccontextmanager
async def foreign_mapper(edge: Edge, machine: Machine) -> AsyncIterator[Mapper]:
    mapper = Mapper("thermo-mapper", "acme", edge_socket=str(edge.socket), reports_per_s=50)

    @mapper.driver
    class Thermo(Driver):
        async def connect(self) -> None:
            machine.configs.append(self.config)
            self.check()

        def check(self) -> None:
            if not machine.is_on:
                raise DeviceError("the machine is off")

        async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
            self.check()
            return {p.name: Sample(machine.registers[p.visitor["register"]]) for p in points}

        async def write(self, point: Point, value: Scalar) -> Scalar:
            assert isinstance(value, int | float)
            machine.writes += 1
            machine.registers[point.visitor["register"]] = value
            return value

    async with Supervisor("test") as supervisor:
        supervisor.run("mapper", mapper.serve())
        yield mapper


async def test_a_foreign_mapper_is_given_its_device_and_reports(edge: Edge) -> None:
    edge.bind()
    machine = Machine()
    async with foreign_mapper(edge, machine):
        await eventually(lambda: edge.value("temperature") == "20.5" and edge.value("setpoint") == "19")
        assert machine.configs[0] == {"host": "h", "unit": 3, "port": 0.1}
        twin = edge.desk.outbox.twin(DEVICE, "temperature")
        assert twin is not None and twin.type == "float"
        assert twin.actual is not None and twin.actual.timestamp_ms > 1_600_000_000_000
        await eventually(lambda: edge.state() == "online")
        machine.registers["t"] = 21.25
        await eventually(lambda: edge.value("temperature") == "21.25")


async def test_a_desired_value_travels_down_is_written_and_comes_back(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.bind()
    machine = Machine()
    async with foreign_mapper(edge, machine):
        await eventually(lambda: edge.value("setpoint") == "19")
        edge.bind(desired="24.5")
        await eventually(lambda: edge.observed("setpoint") == "24.5" and edge.value("setpoint") == "24.5")
        assert machine.registers["s"] == 24.5
        assert (machine.writes, len(machine.configs)) == (1, 1)
    assert "call_failed" not in caplog.text


async def test_mapper_first_then_model_then_device_and_away_again(edge: Edge) -> None:
    machine = Machine()
    async with foreign_mapper(edge, machine):
        await eventually(lambda: edge.registry.has_protocol("acme"))
        edge.bind(only_model=True)
        edge.bind()
        await eventually(lambda: edge.value("temperature") == "20.5")
        edge.desk.catalog.apply("default/device/t1", None)
        await eventually(lambda: DEVICE not in edge.desk.keeper.devices)
        edge.bind()
        await eventually(lambda: edge.state() == "online")


async def test_states_of_the_device_and_of_the_mapper(edge: Edge) -> None:
    edge.bind()
    machine = Machine()
    async with foreign_mapper(edge, machine):
        await eventually(lambda: edge.state() == "online")
        machine.is_on = False
        await eventually(lambda: edge.state() == "offline")
        machine.is_on = True
        await eventually(lambda: edge.state() == "online")
    await eventually(lambda: edge.state() == "unknown")


async def test_the_mapper_survives_a_restart_of_the_agent_and_registers_again(edge: Edge) -> None:
    edge.bind()
    machine = Machine()
    async with foreign_mapper(edge, machine):
        await eventually(lambda: edge.value("temperature") == "20.5")
        await edge.stop_serving()
        machine.registers["t"] = 30.5
        edge.open()
        await edge.start()
        await eventually(lambda: edge.value("temperature") == "30.5")


async def test_the_socket_is_closed_to_others_and_missing_parts_harm_nobody(edge: Edge) -> None:
    assert stat.S_IMODE(edge.socket.stat().st_mode) == 0o660
    edge.bind()
    client = GrpcClient(edge.socket, DMI)
    report = f"/{dmi.EDGE_SERVICE}/ReportDeviceStatus"

    async def refused(method: str, request: dict[str, Any]) -> Status:
        with pytest.raises(GrpcError) as caught:
            await client.call(f"/{dmi.EDGE_SERVICE}/{method}", request, timeout_s=5)
        status: Status = caught.value.status
        return status

    twins = [{"propertyName": "setpoint"}]
    bare = {"deviceName": "t1", "deviceNamespace": "default", "reportedDevice": {"twins": twins}}
    assert await client.call(report, bare, timeout_s=5) == {}
    assert await client.call(report, {"deviceName": "t1"}, timeout_s=5) == {}
    assert await refused("ReportDeviceStatus", {"deviceName": "nobody"}) is Status.NOT_FOUND
    assert await refused("ReportDeviceStatus", {}) is Status.INVALID_ARGUMENT
    assert await refused("ReportDeviceStates", {"deviceName": "t1", "state": "asleep"}) is Status.INVALID_ARGUMENT
    assert await refused("MapperRegister", {}) is Status.INVALID_ARGUMENT
    await client.aclose()


async def test_many_short_connections_as_go_mappers_make_them(edge: Edge) -> None:
    edge.bind()
    await eventually(lambda: DEVICE in edge.desk.keeper.devices)

    async def report(number: int) -> None:
        client = GrpcClient(edge.socket, DMI)
        twins = [{"propertyName": "temperature", "observedDesired": {}, "reported": {"value": str(number)}}]
        request = {"deviceName": "t1", "reportedDevice": {"twins": twins}}
        await client.call(f"/{dmi.EDGE_SERVICE}/ReportDeviceStatus", request, timeout_s=1)
        await client.aclose()

    await asyncio.gather(*(report(number) for number in range(40)))
    assert edge.desk.keeper.counts.accepted == 40


async def test_reports_of_several_devices_are_under_way_at_once(tmp_path: Path) -> None:
    under_way: set[str] = set()
    together: set[str] = set()

    async def register(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        known = model(TEMPERATURE)
        devices = [device({"name": "temperature", "collectCycle": 50}, name=f"t{n}") for n in range(3)]
        return {
            "modelList": [dmi.model_message(known)],
            "deviceList": [dmi.device_message(found, known) for found in devices],
        }

    async def states(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return {}

    async def status(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        nonlocal together
        under_way.add(request["deviceName"])
        together = max(together, set(under_way), key=len)
        await asyncio.sleep(0.2)  # as an agent that commits the reports of some time together
        under_way.discard(request["deviceName"])
        return {}

    prefix = f"/{dmi.EDGE_SERVICE}"
    calls = {"MapperRegister": register, "ReportDeviceStates": states, "ReportDeviceStatus": status}
    server = GrpcServer(DMI, {f"{prefix}/{name}": call for name, call in calls.items()})
    await server.start(tmp_path / "dmi.sock")
    mapper = Mapper("quick", "acme", edge_socket=str(tmp_path / "dmi.sock"), reports_per_s=100)

    @mapper.driver
    class Constant(Driver):
        async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
            return {point.name: Sample(1.0) for point in points}

    async with Supervisor("test") as supervisor:
        supervisor.run("mapper", mapper.serve())
        await eventually(lambda: together == {"t0", "t1", "t2"})
    await server.aclose()


async def test_the_sdk_slows_down_where_the_agent_says_so(tmp_path: Path) -> None:
    calls: list[str] = []

    async def register(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return {
            "modelList": [dmi.model_message(model(TEMPERATURE))],
            "deviceList": [dmi.device_message(device({"name": "temperature", "collectCycle": 50}), model(TEMPERATURE))],
        }

    async def states(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        calls.append("state")
        if len(calls) == 1:
            raise GrpcError(Status.UNKNOWN, "fail to report device states because of too many request")
        return {}

    async def status(request: dict[str, Any], caller: Caller) -> dict[str, Any]:
        twins = request["reportedDevice"]["twins"]
        assert all("reported" in twin and "observedDesired" in twin for twin in twins)
        calls.append("status")
        return {}

    prefix = f"/{dmi.EDGE_SERVICE}"
    server = GrpcServer(
        DMI,
        {
            f"{prefix}/MapperRegister": register,
            f"{prefix}/ReportDeviceStates": states,
            f"{prefix}/ReportDeviceStatus": status,
        },
    )
    await server.start(tmp_path / "dmi.sock")
    mapper = Mapper("slow", "acme", edge_socket=str(tmp_path / "dmi.sock"), reports_per_s=100)

    @mapper.driver
    class Constant(Driver):
        async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
            return {point.name: Sample(1.0) for point in points}

    started_s = asyncio.get_running_loop().time()
    async with Supervisor("test") as supervisor:
        supervisor.run("mapper", mapper.serve())
        await eventually(lambda: calls.count("status") >= 1)
    assert calls[:3] == ["state", "state", "status"]
    assert asyncio.get_running_loop().time() - started_s >= 3.5
    await server.aclose()
