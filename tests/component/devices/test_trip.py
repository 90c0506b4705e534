"""The whole trip of a reading and of a desired value: API server, device duties, agent's store, register, and back.

The link between cloud and agent is a function call that can be cut; everything else is the real thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.component.devices.desk import Desk, device, eventually, model
from tests.component.devices.test_modbus import SEQUENCE, SETPOINT, TEMPERATURE, Simulator, start_simulator

from skerry.api import crds
from skerry.api.gvk import DEVICEMODELS, DEVICES, DEVICESTATUSES
from skerry.api.status import NotFound
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.devices.down import DeviceDown
from skerry.cloud.devices.up import DeviceUp
from skerry.cloud.hub.ports import Delivery, NodeLink, NodeName, Request
from skerry.edge.devices.mapper import BuiltinMappers, KeeperSink
from skerry.edge.devices.mappers.modbus import ModbusDrivers
from skerry.edge.link.ports import Offline
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.drain import Drain
from skerry.kube.informer import Informer
from skerry.wire.kubeedge.envelope import Envelope, decode, encode

NODE = NodeName("edge-1")


class CutLink:
    """A link that is a function call; both ways go through the wire's bytes."""

    def __init__(self, answer: Callable[[Request], Awaitable[Envelope | None]]) -> None:
        self._answer = answer
        self._listeners: list[Callable[[bool], None]] = []
        self.is_up = True
        self.is_to_skerry = True
        self.down_since_s = 0.0
        self.why_down = ""
        self.requests = 0

    def turn(self, *, on: bool) -> None:
        self.is_up = on
        for listener in self._listeners:
            listener(on)

    async def send(self, envelope: Envelope) -> None:
        await self.request(envelope)

    async def request(self, envelope: Envelope, *, timeout_s: float = 20.0) -> Envelope:
        if not self.is_up:
            raise Offline("the cable is out")
        self.requests += 1
        answer = await self._answer(Request(NODE, decode(encode(envelope))))
        if answer is None:
            raise TimeoutError
        return decode(encode(answer))

    def on_envelope(self, handler: Callable[[Envelope], Awaitable[None]]) -> None:
        raise AssertionError("deliveries go another way here")

    def on_state(self, handler: Callable[[bool], None]) -> None:
        self._listeners.append(handler)


class Downward:
    """An outbox that puts deliveries into the agent's store."""

    def __init__(self, objects: EdgeObjects, tasks: Supervisor) -> None:
        self._objects = objects
        self._tasks = tasks

    def put(self, node: NodeName, delivery: Delivery) -> None:
        assert node == NODE
        content = json.deep_copy(delivery.content)
        if delivery.operation == "delete":
            self._tasks.run("delete", self._delete(delivery.key))
        else:
            self._tasks.run("put", self._put(delivery.key, content))

    async def _put(self, key: str, content: dict[str, Any]) -> None:
        await self._objects.put(key, content)

    async def _delete(self, key: str) -> None:
        await self._objects.delete(key)

    def advance(self, node: NodeName, delivery: Delivery, *, from_version: str) -> None:
        self.put(node, delivery)

    def resync(self, node: NodeName, *, force: bool = False) -> None:
        raise AssertionError("not asked for here")

    def disconnect(self, node: NodeName, reason: str) -> None:
        raise AssertionError("not asked for here")

    def send(self, node: NodeName, envelope: Envelope) -> bool:
        return False

    def connected(self) -> Sequence[NodeLink]:
        return []


class Trip:
    """Both ends."""

    def __init__(
        self, desk: Desk, api: LocalKubeApi, simulator: Simulator, link: CutLink, mappers: BuiltinMappers
    ) -> None:
        self.desk = desk
        self.mappers = mappers
        self.api = api
        self.simulator = simulator
        self.link = link

    async def status(self) -> dict[str, Any]:
        try:
            return (await self.api.get(DEVICESTATUSES, "t1", namespace="default")).get("status") or {}
        except NotFound:
            return {}

    async def reported(self, name: str, side: str = "reported") -> str:
        twins = (await self.status()).get("twins") or []
        return next((str(t[side]["value"]) for t in twins if t["propertyName"] == name), "")

    def kept(self, name: str) -> int:
        """What the node holds."""
        actual = self.desk.keeper.devices["default/t1"].twins[name].actual
        return int(actual.value) if actual is not None else 0

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            await eventually(lambda seen=self.link.requests: self.link.requests != seen)


@pytest.fixture
async def trip(tmp_path: Path) -> AsyncIterator[Trip]:
    async with AsyncExitStack() as stack:
        core = ApiCore(
            database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL", crds=crds.crd_manifests()
        )
        await core.start()
        stack.push_async_callback(core.aclose)
        api = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
        tasks = await stack.enter_async_context(Supervisor("trip"))
        desk = Desk(tmp_path, gather_s=0.02)
        stack.push_async_callback(desk.aclose)
        objects = EdgeObjects(desk.database, codec=SealingCodec(bytes(32)), clock=SystemClock())
        desk.catalog.follow(objects)
        devices, models = Informer(api, DEVICES), Informer(api, DEVICEMODELS)
        up = DeviceUp(api=api, devices=devices)
        stack.push_async_callback(up.aclose)
        down = DeviceDown(devices=devices, models=models, outbox=Downward(objects, tasks))
        up.start()
        down.start()
        tasks.keep("devices", devices.run)
        tasks.keep("models", models.run)
        link = CutLink(up.handle)
        tasks.keep("drain", Drain(desk.outbox, link, clock=SystemClock()).run)
        simulator = await start_simulator()
        mappers = BuiltinMappers(
            catalog=desk.catalog, sink=KeeperSink(desk.keeper), drivers={"modbus": ModbusDrivers().factory}
        )
        mappers.start()
        stack.push_async_callback(mappers.aclose)
        yield Trip(desk, api, simulator, link, mappers)
        if simulator.process.returncode is None:
            await simulator.stop()


async def bind(trip: Trip) -> None:
    properties = [
        {"name": "temperature", "collectCycle": 50},
        {"name": "sequence", "collectCycle": 50},
        {"name": "setpoint", "collectCycle": 50},
    ]
    port = trip.simulator.port
    await trip.api.create(DEVICES, fresh(device(*properties, host="127.0.0.1", port=port)), namespace="default")
    await trip.api.create(DEVICEMODELS, fresh(model(TEMPERATURE, SEQUENCE, SETPOINT)), namespace="default")


def fresh(obj: dict[str, Any]) -> dict[str, Any]:
    """As a person writes it."""
    return obj | {"metadata": {"name": obj["metadata"]["name"]}}


async def test_a_reading_reaches_the_device_status(trip: Trip) -> None:
    await bind(trip)

    async def is_there() -> bool:
        return bool(await trip.reported("temperature")) and (await trip.status()).get("state") == "online"

    await trip.until(is_there)
    status = await trip.api.get(DEVICESTATUSES, "t1", namespace="default")
    owner = status["metadata"]["ownerReferences"][0]
    assert owner["uid"] == (await trip.api.get(DEVICES, "t1", namespace="default"))["metadata"]["uid"]
    assert [t["propertyName"] for t in status["status"]["twins"]] == ["temperature", "sequence", "setpoint"]


async def test_a_desired_value_set_by_a_person_is_answered_by_the_register(trip: Trip) -> None:
    await bind(trip)

    async def is_first() -> bool:
        return await trip.reported("setpoint") == "21"

    await trip.until(is_first)
    change = [{"op": "add", "path": "/spec/properties/2/desired", "value": {"value": "24.5"}}]
    await trip.api.patch(DEVICES, "t1", change, patch_type="json", namespace="default")

    async def is_taken() -> bool:
        return await trip.reported("setpoint", "observedDesired") == await trip.reported("setpoint") == "24.5"

    await trip.until(is_taken)
    assert (await trip.simulator.stop())["writes"] == 1


async def test_with_the_plug_pulled_nothing_is_lost(trip: Trip) -> None:
    await bind(trip)

    async def has_begun() -> bool:
        return int(await trip.reported("sequence") or 0) >= 3

    await trip.until(has_begun)
    trip.link.turn(on=False)
    before = int(await trip.reported("sequence"))
    await eventually(lambda: trip.kept("sequence") >= before + 10)
    assert trip.desk.outbox.depth() <= 2, "one report and one state, however long the cloud is away"
    await trip.mappers.aclose()
    await eventually(lambda: trip.desk.keeper.waiting == 0)
    trip.link.turn(on=True)
    await eventually(lambda: trip.desk.outbox.depth() == 0)
    served = (await trip.simulator.stop())["served"]
    # one request may have been on its way when the readings stopped
    assert served - int(await trip.reported("sequence")) in (0, 1)
    counts = trip.desk.keeper.counts
    assert counts.accepted == counts.superseded + counts.unchanged + counts.stored
