"""The bus on a real mosquitto, with gmqtt as the foreign client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gmqtt
import pytest
from tests.component.devices.desk import Desk, device, eventually, model
from tests.parts import Part, PartMissing, fetch

from skerry.base import json
from skerry.base.net.listening import free_port
from skerry.edge.bus.external import ExternalBus, Route

DEVICE = "$hw/events/device/default/t1"
TEMPERATURE = {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}
SETPOINT = {"name": "setpoint", "type": "FLOAT", "accessMode": "ReadWrite"}


def find_mosquitto() -> Part:
    try:
        return fetch("mosquitto", "mosquitto")
    except PartMissing as exc:
        pytest.skip(str(exc))


class Broker:
    """A mosquitto process of our own."""

    def __init__(self, program: Part, directory: Path) -> None:
        self._program = program
        self._config = directory / "mosquitto.conf"
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process = await asyncio.create_subprocess_exec(
            str(self._program.path),
            "-c",
            str(self._config),
            stderr=asyncio.subprocess.DEVNULL,
            env=self._program.env(),
        )
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(find_mosquitto(), tmp_path)
    await broker.start()
    yield broker
    await broker.kill()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, SETPOINT))
    setpoint = {"name": "setpoint", "desired": {"value": "25"}}
    desk.catalog.apply("default/device/t1", device({"name": "temperature"}, setpoint))
    await eventually(lambda: "default/t1" in desk.keeper.devices)
    yield desk
    await desk.aclose()


@asynccontextmanager
async def bus_of(desk: Desk, port: int, *, queue_limit: int = 1000) -> AsyncIterator[ExternalBus]:
    patterns = (
        "$hw/events/device/+/+/twin/+",
        "$hw/events/device/+/+/state/update",
        "$hw/events/node/+/membership/get",
    )
    bus = ExternalBus(
        port=port,
        client_id="skerry-edge-1",
        routes=[Route(pattern, desk.keeper.on_message) for pattern in patterns],
        queue_limit=queue_limit,
    )
    desk.listeners.append(bus.publish)
    bus.start()
    await eventually(lambda: not bus.why_down)
    try:
        yield bus
    finally:
        await bus.aclose()


class Foreign:
    """A program of somebody else."""

    def __init__(self) -> None:
        self.client = gmqtt.Client("foreign")
        self.received: list[tuple[str, Any]] = []
        self._subscribed = asyncio.Event()

    async def connect(self, port: int, *topics: str) -> None:
        self.client.on_message = self._message
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        await self.client.connect("127.0.0.1", port, version=gmqtt.constants.MQTTv311)
        for topic in topics:
            self._subscribed.clear()
            self.client.subscribe(topic, qos=1)
            await self._subscribed.wait()

    async def _message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        self.received.append((topic, json.loads(payload)))
        return 0

    def said(self, leaf: str) -> list[Any]:
        return [body for topic, body in self.received if topic == f"{DEVICE}/{leaf}"]


@asynccontextmanager
async def foreign(port: int, *topics: str) -> AsyncIterator[Foreign]:
    program = Foreign()
    await program.connect(port, *topics)
    try:
        yield program
    finally:
        await program.client.disconnect()


async def test_an_mqtt_device_reports_and_hears_its_desired_value(broker: Broker, desk: Desk) -> None:
    async with bus_of(desk, broker.port), foreign(broker.port, f"{DEVICE}/#") as program:
        body = {"event_id": "x1", "timestamp": 1, "twin": {"temperature": {"actual": {"value": "20.5"}}}}
        program.client.publish(f"{DEVICE}/twin/update", json.dumps(body), qos=1)
        await eventually(lambda: bool(program.said("twin/update/delta")))
        assert program.said("twin/update/result")[0]["event_id"] == "x1"
        document = program.said("twin/update/document")[0]["twin"]["temperature"]
        assert document["current"]["actual"]["value"] == "20.5"
        assert program.said("twin/update/delta")[-1]["delta"] == {"setpoint": "25"}
        twin = desk.outbox.twin("default/t1", "temperature")
        assert twin is not None and twin.actual is not None and twin.actual.value == "20.5"


async def test_errors_and_questions_are_answered(broker: Broker, desk: Desk) -> None:
    async with bus_of(desk, broker.port), foreign(broker.port, "$hw/events/#") as program:
        program.client.publish("$hw/events/device/default/nobody/twin/update", b'{"event_id":"e","twin":{}}', qos=1)
        program.client.publish("$hw/events/node/edge-1/membership/get", b'{"event_id":"m"}', qos=1)
        await eventually(lambda: len([t for t, _ in program.received if t.endswith("/result")]) == 2)
        answers = {body["event_id"]: body for topic, body in program.received if topic.endswith("/result")}
        assert answers["e"]["code"] == 404
        assert [d["id"] for d in answers["m"]["devices"]] == ["default/t1"]


async def test_the_bus_comes_back_with_the_broker_and_keeps_what_waited(broker: Broker, desk: Desk) -> None:
    async with bus_of(desk, broker.port) as bus:
        await broker.kill()
        await eventually(lambda: bool(bus.why_down))
        bus.publish(f"{DEVICE}/twin/update/document", b'{"n":1}')
        assert bus.waiting == 1
        await broker.start()
        async with foreign(broker.port, f"{DEVICE}/#") as program:
            await eventually(lambda: not bus.why_down)
            bus.publish(f"{DEVICE}/twin/update/document", b'{"n":2}')
            await eventually(lambda: {"n": 2} in program.said("twin/update/document"))
            program.client.publish(f"{DEVICE}/twin/get", b'{"event_id":"again"}', qos=1)
            await eventually(lambda: bool(program.said("twin/get/result")))
        assert bus.waiting == 0


async def test_a_full_queue_drops_the_oldest_and_counts(desk: Desk) -> None:
    bus = ExternalBus(port=1, client_id="x", routes=[], queue_limit=3)
    for number in range(5):
        bus.publish("t", str(number).encode())
    assert (bus.waiting, bus.counts.dropped) == (3, 2)


async def test_many_messages_in_a_burst_are_all_handled(broker: Broker, desk: Desk) -> None:
    async with bus_of(desk, broker.port) as bus, foreign(broker.port, f"{DEVICE}/twin/get/result") as program:
        for number in range(200):
            program.client.publish(f"{DEVICE}/twin/get", b'{"event_id":"%d"}' % number, qos=1)
        await eventually(lambda: len(program.said("twin/get/result")) >= 200)
        assert {body["event_id"] for body in program.said("twin/get/result")} == {str(n) for n in range(200)}
        assert bus.counts.dropped == 0


async def test_a_huge_message_harms_nobody(broker: Broker, desk: Desk) -> None:
    async with bus_of(desk, broker.port) as bus, foreign(broker.port, f"{DEVICE}/twin/get/result") as program:
        for _ in range(25):  # more than the broker leaves unacknowledged
            program.client.publish(f"{DEVICE}/twin/update", b"x" * 1_500_000, qos=1)
        program.client.publish(f"{DEVICE}/twin/get", b'{"event_id":"after"}', qos=1)
        await eventually(lambda: bool(program.said("twin/get/result")))
        assert not bus.why_down
