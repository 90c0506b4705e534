"""What external mappers are told, with a mapper in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.devices.desk import Desk, device, eventually, model

from skerry.edge.devices.ports import MapperRefused, MapperUnreachable
from skerry.edge.devices.registry import MapperRegistry, NotAllowed, Peer
from skerry.edge.devices.twins import DeviceUnknown
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import dmi
from skerry.wire.kubeedge.dmi import MapperInfo, Message, Report
from skerry.wire.kubeedge.twin import Value

TEMPERATURE = {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}
SETPOINT = {"name": "setpoint", "type": "FLOAT", "accessMode": "ReadWrite"}
OWN, STRANGER = Peer(1000, 1), Peer(2000, 2)


class MapperInMemory:
    """Behaves as a Go mapper does: it refuses devices whose model it does not know."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.models: dict[str, Message] = {}
        self.devices: dict[str, Message] = {}
        self.is_up = True

    async def call(self, address: str, method: str, request: Message) -> Message:
        if not self.is_up:
            raise MapperUnreachable(f"nobody listens on {address}")
        self.calls.append((method, self._name(request)))
        handler = getattr(self, f"_{method}")
        return dict(handler(request) or {})

    async def probe(self, address: str) -> bool:
        return self.is_up

    @staticmethod
    def _name(request: Message) -> str:
        inner = request.get("device") or request.get("model") or {}
        return str(inner.get("name") or request.get("deviceName") or request.get("modelName"))

    def _CreateDeviceModel(self, request: Message) -> None:
        self.models[request["model"]["name"]] = request["model"]

    def _UpdateDeviceModel(self, request: Message) -> None:
        if request["model"]["name"] not in self.models:
            raise MapperRefused("model not found")
        self.models[request["model"]["name"]] = request["model"]

    def _RegisterDevice(self, request: Message) -> None:
        if request["device"]["spec"]["deviceModelReference"] not in self.models:
            raise MapperRefused("model not found")
        if request["device"]["name"] in self.devices:
            raise MapperRefused("device exists")
        self.devices[request["device"]["name"]] = request["device"]

    def _UpdateDevice(self, request: Message) -> None:
        if request["device"]["name"] not in self.devices:
            raise MapperRefused("device not found")
        self.devices[request["device"]["name"]] = request["device"]

    def _RemoveDevice(self, request: Message) -> None:
        self.devices.pop(request["deviceName"])

    def _RemoveDeviceModel(self, request: Message) -> None:
        self.models.pop(request["modelName"])


class Bench:
    """Registry, desk and the mapper."""

    def __init__(self, path: Path) -> None:
        self.desk = Desk(path)
        self.mapper = MapperInMemory()
        self.protocol_changes = 0
        self.registry = self.make_registry()

    def make_registry(self) -> MapperRegistry:
        registry = MapperRegistry(
            store=self.desk.database,
            catalog=self.desk.catalog,
            keeper=self.desk.keeper,
            caller=self.mapper,
            own_uid=1000,
            on_protocols=self._changed,
            retry_first_s=0.01,
            probe_every_s=0.02,
        )
        registry.start()
        return registry

    def _changed(self) -> None:
        self.protocol_changes += 1

    def bind(self, desired: str = "", **spec: Any) -> None:
        self.desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, SETPOINT, protocol="acme"))
        setpoint: dict[str, Any] = {"name": "setpoint"}
        if desired:
            setpoint["desired"] = {"value": desired}
        obj = device({"name": "temperature"}, setpoint, protocol="acme", port=7)
        obj["spec"] |= spec
        self.desk.catalog.apply("default/device/t1", obj)

    async def register(self, *, with_data: bool = True, name: str = "m", peer: Peer = OWN) -> Message:
        request = dmi.register_request(MapperInfo(name, "acme", f"/run/{name}.sock"))
        return await self.registry.map_register(request | {"withData": with_data}, peer)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.registry.aclose()
    await bench.desk.aclose()


async def test_a_mapper_gets_its_devices_with_the_registration(bench: Bench) -> None:
    bench.bind()
    response = await bench.register()
    assert [m["name"] for m in response["modelList"]] == ["thermo"]
    assert [d["name"] for d in response["deviceList"]] == ["t1"]
    assert bench.registry.has_protocol("ACME")
    assert bench.protocol_changes == 1
    bench.mapper.models["thermo"], bench.mapper.devices["t1"] = response["modelList"][0], response["deviceList"][0]
    bench.bind(desired="25")
    await eventually(lambda: bool(bench.mapper.calls))
    assert bench.mapper.calls == [("UpdateDevice", "t1")]
    assert bench.mapper.devices["t1"]["spec"]["properties"][1]["desired"]["value"] == "25"


async def test_a_mapper_without_data_is_driven_too_model_first(bench: Bench) -> None:
    bench.bind()
    assert await bench.register(with_data=False) == {"modelList": [], "deviceList": []}
    await eventually(lambda: "t1" in bench.mapper.devices)
    assert bench.mapper.calls == [("CreateDeviceModel", "thermo"), ("RegisterDevice", "t1")]


async def test_any_order_of_mapper_device_and_model(bench: Bench) -> None:
    await bench.register()
    bench.desk.catalog.apply("default/device/t1", device({"name": "temperature"}, protocol="acme"))
    bench.desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, protocol="acme"))
    await eventually(lambda: "t1" in bench.mapper.devices)
    assert bench.mapper.calls == [("CreateDeviceModel", "thermo"), ("RegisterDevice", "t1")]


async def test_a_mapper_that_is_away_hears_the_newest_when_it_returns(bench: Bench) -> None:
    await bench.register()
    bench.mapper.is_up = False
    bench.bind(desired="20")
    bench.bind(desired="21")
    bench.mapper.is_up = True
    await eventually(lambda: "t1" in bench.mapper.devices)
    assert bench.mapper.devices["t1"]["spec"]["properties"][1]["desired"]["value"] == "21"


async def test_devices_of_a_mapper_that_is_gone_are_unknown_and_told_anew_when_it_is_back(bench: Bench) -> None:
    await bench.register()
    bench.bind()
    await eventually(lambda: "t1" in bench.mapper.devices)
    bench.mapper.is_up = False
    await eventually(lambda: "default/t1" in bench.desk.keeper.devices)
    await eventually(lambda: bench.desk.keeper.devices["default/t1"].state == "unknown")
    bench.mapper.devices.clear()
    bench.mapper.models.clear()
    bench.mapper.is_up = True
    await eventually(lambda: "t1" in bench.mapper.devices)


async def test_status_and_labels_alone_are_not_told(bench: Bench) -> None:
    await bench.register()
    bench.bind()
    await eventually(lambda: "t1" in bench.mapper.devices)
    calls = len(bench.mapper.calls)
    obj = dict(bench.desk.catalog.devices["default/t1"]) | {"status": {"x": 1}}
    bench.desk.catalog.apply("default/device/t1", obj)
    bench.bind(desired="22")
    await eventually(lambda: len(bench.mapper.calls) > calls)
    assert bench.mapper.calls[calls:] == [("UpdateDevice", "t1")]


async def test_a_device_that_goes_is_removed_and_then_its_model(bench: Bench) -> None:
    await bench.register()
    bench.bind()
    await eventually(lambda: "t1" in bench.mapper.devices)
    bench.desk.catalog.apply("default/device/t1", None)
    await eventually(lambda: bench.mapper.models == {})
    assert bench.mapper.calls[-2:] == [("RemoveDevice", "t1"), ("RemoveDeviceModel", "thermo")]


async def test_after_a_restart_the_mapper_is_known_and_keeps_its_devices(bench: Bench) -> None:
    await bench.register()
    bench.bind()
    await eventually(lambda: "t1" in bench.mapper.devices)
    await bench.registry.aclose()
    bench.mapper.calls.clear()
    bench.registry = bench.make_registry()
    assert bench.registry.has_protocol("acme")
    await eventually(lambda: len(bench.mapper.calls) == 3)
    assert [method for method, _ in bench.mapper.calls] == ["CreateDeviceModel", "RegisterDevice", "UpdateDevice"]


async def test_a_report_over_dmi_is_stored_with_time_and_type(bench: Bench) -> None:
    bench.bind()
    await bench.register()
    request = dmi.report_request("default/t1", {"temperature": Report(Value("21.5", 1_700_000_000_000), None)})
    assert await bench.registry.report_status(request, OWN) == {}
    twin = bench.desk.outbox.twin("default/t1", "temperature")
    assert twin is not None and twin.actual == Value("21.5", 1_700_000_000_000) and twin.type == "float"
    await bench.registry.report_states({"deviceName": "t1", "state": "online"}, OWN)
    assert bench.desk.keeper.devices["default/t1"].state == "online"


async def test_strangers_are_refused(bench: Bench) -> None:
    bench.bind()
    await bench.register()
    request = dmi.report_request("default/t1", {"temperature": Report(Value("66"), None)})
    with pytest.raises(NotAllowed):
        await bench.registry.report_status(request, STRANGER)
    with pytest.raises(NotAllowed):
        await bench.register(peer=STRANGER)
    with pytest.raises(DeviceUnknown):
        await bench.registry.report_status(dmi.report_request("default/nobody", {}), OWN)
    with pytest.raises(Malformed):
        await bench.registry.map_register({"mapper": {"name": "x"}}, OWN)
    await bench.register(name="own-of-stranger", peer=STRANGER)
    await bench.registry.report_status(request, STRANGER)


async def test_two_mappers_of_one_protocol_the_last_has_the_devices(bench: Bench) -> None:
    bench.bind()
    await bench.register(with_data=False)
    await eventually(lambda: "t1" in bench.mapper.devices)
    await bench.register(with_data=False, name="m2")
    await eventually(lambda: bench.mapper.calls[-1:] == [("RegisterDevice", "t1")] and len(bench.mapper.calls) > 2)
    assert ("RemoveDevice", "t1") in bench.mapper.calls
    assert [info.name for info in bench.registry.mappers] == ["m", "m2"]
