"""The twin keeper on a database on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.devices.desk import Desk, device, eventually, model

from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.edge.devices.catalog import Catalog
from skerry.edge.devices.reduce import Device, Reading
from skerry.edge.devices.twins import DeviceUnknown
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.twin import Member, Value

TEMPERATURE = {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}
SETPOINT = {"name": "setpoint", "type": "FLOAT", "accessMode": "ReadWrite"}
DEVICE = "default/t1"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await bind(desk)
    yield desk
    await desk.aclose()


async def bind(desk: Desk, **desired: Any) -> None:
    desk.catalog.apply("default/devicemodel/thermo", model(TEMPERATURE, SETPOINT))
    setpoint = {"name": "setpoint"} | ({"desired": desired} if desired else {})
    desk.catalog.apply("default/device/t1", device({"name": "temperature"}, setpoint))
    await eventually(lambda: "setpoint" in desk.keeper.devices.get(DEVICE, Device(DEVICE)).twins)


def says(value: str, at_ms: int = 0) -> Reading:
    return Reading(actual=Value(value, at_ms))


async def test_a_reading_is_on_disk_with_its_report_when_the_mapper_has_its_answer(desk: Desk, tmp_path: Path) -> None:
    await desk.keeper.report(DEVICE, {"temperature": says("21.5", 1_700_000_000_123)})
    twin = desk.outbox.twin(DEVICE, "temperature")
    assert twin is not None and twin.actual == Value("21.5", 1_700_000_000_123)
    assert twin.type == "float"
    envelope = desk.outbox.envelopes()["device/default/t1/twin/edge_updated"]
    assert (envelope.source, envelope.group, envelope.operation) == ("twin", "resource", "update")
    assert desk.topics()[-1] == "$hw/events/device/default/t1/twin/update/document"
    await desk.keeper.aclose()
    again = Desk(tmp_path)
    assert again.keeper.devices[DEVICE].twins["temperature"].actual == Value("21.5", 1_700_000_000_123)
    await again.aclose()


async def test_unconfirmed_properties_stay_in_the_report_and_confirmed_ones_leave_it(desk: Desk) -> None:
    await desk.keeper.report(DEVICE, {"temperature": says("1")})
    await desk.keeper.report(DEVICE, {"setpoint": says("2")})
    await desk.keeper.report(DEVICE, {"temperature": says("3")})
    first, second = (desk.outbox.twin(DEVICE, name) for name in ("temperature", "setpoint"))
    assert first is not None and first.actual is not None and first.actual.value == "3"
    assert second is not None and second.actual is not None and second.actual.value == "2"
    await desk.outbox.settle_key(docs.twin_resource(DEVICE))
    await desk.keeper.report(DEVICE, {"temperature": says("4")})
    assert desk.outbox.twin(DEVICE, "setpoint") is None


async def test_every_reading_is_accounted_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, gather_s=0.02)
    await bind(desk)
    for burst in range(5):
        reports = [desk.keeper.report(DEVICE, {"temperature": says(str(burst * 10 + n))}) for n in range(10)]
        await asyncio.gather(*reports)
    await desk.keeper.report(DEVICE, {"temperature": says("49")})
    counts = desk.keeper.counts
    assert counts.accepted == 51
    assert counts.superseded == 45
    assert counts.unchanged == 1
    assert counts.stored == 5
    assert counts.accepted == counts.superseded + counts.unchanged + counts.stored + counts.dropped
    twin = desk.outbox.twin(DEVICE, "temperature")
    assert twin is not None and twin.actual is not None and twin.actual.value == "49"
    await desk.aclose()


async def test_readings_of_strangers_are_refused(desk: Desk) -> None:
    with pytest.raises(DeviceUnknown):
        await desk.keeper.report("default/other", {"p": says("1")})


async def test_a_desired_value_becomes_a_delta_for_local_devices(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await bind(desk, value="25")
    topic, body = desk.published[-1]
    assert topic == "$hw/events/device/default/t1/twin/update/delta"
    assert body["delta"] == {"setpoint": "25"}
    await desk.keeper.report(DEVICE, {"setpoint": says("25.0")})
    twin = desk.outbox.twin(DEVICE, "setpoint")
    assert twin is not None and twin.expected is not None and twin.expected.value == "25"
    await desk.aclose()


async def test_an_mqtt_update_is_answered_and_reported(desk: Desk) -> None:
    body = {"event_id": "x", "timestamp": 1, "twin": {"temperature": {"actual": {"value": "20"}}}}
    await desk.keeper.on_message("$hw/events/device/default/t1/twin/update", json.dumps(body))
    topics = [topic.removeprefix("$hw/events/device/default/t1/") for topic in desk.topics()]
    assert topics[-2:] == ["twin/update/result", "twin/update/document"]
    assert desk.published[-2][1]["event_id"] == "x"
    twin = desk.outbox.twin(DEVICE, "temperature")
    assert twin is not None and twin.actual is not None and twin.actual.value == "20"


async def test_properties_that_the_device_does_not_have_stay_on_the_node(desk: Desk) -> None:
    body = {"event_id": "x", "timestamp": 1, "twin": {"extra": {"actual": {"value": "1"}}}}
    await desk.keeper.on_message("$hw/events/device/default/t1/twin/update", json.dumps(body))
    assert desk.keeper.devices[DEVICE].twins["extra"].actual is not None
    assert desk.topics()[-1].endswith("twin/update/document")
    assert desk.outbox.envelopes() == {}


@pytest.mark.parametrize(
    ("topic", "body", "code"),
    [
        ("default/t1/twin/update", b"junk", 400),
        ("default/t1/twin/update", b'{"event_id":"x","twin":{"temperature":{"actual":{"value":"warm"}}}}', 400),
        ("default/other/twin/update", b'{"twin":{}}', 404),
        ("default/other/twin/get", b"{}", 404),
        ("default/t1/state/update", b'{"state":"asleep"}', 400),
    ],
)
async def test_bad_questions_get_an_error_document(desk: Desk, topic: str, body: bytes, code: int) -> None:
    await desk.keeper.on_message(f"$hw/events/device/{topic}", body)
    at, answer = desk.published[-1]
    assert at == f"$hw/events/device/{topic}/result"
    assert answer["code"] == code
    assert desk.outbox.envelopes() == {}


async def test_nobody_injects_what_only_the_cloud_may_say(desk: Desk) -> None:
    body = b'{"twin":{"temperature":{"actual":{"value":"99"}}}}'
    await desk.keeper.on_message("$hw/events/device/default/t1/twin/cloud_updated", body)
    assert desk.outbox.envelopes() == {}


async def test_the_catalog_follows_the_object_store(desk: Desk) -> None:
    objects = EdgeObjects(desk.database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    await objects.put("default/devicemodel/thermo", model(TEMPERATURE, SETPOINT))
    await objects.put("default/configmap/x", {"metadata": {}})
    catalog = Catalog()
    catalog.follow(objects)
    assert set(catalog.models) == {"default/thermo"}
    await objects.put("default/device/t9", device({"name": "temperature"}, name="t9"))
    assert [view.device_id for view in catalog.views()] == ["default/t9"]
    await objects.delete("default/device/t9")
    assert catalog.views() == []


async def test_questions_about_twins_and_members(desk: Desk) -> None:
    await desk.keeper.report(DEVICE, {"temperature": says("7")})
    await desk.keeper.on_message("$hw/events/device/default/t1/twin/get", b'{"event_id":"q"}')
    assert desk.published[-1][1]["twin"]["temperature"]["actual"]["value"] == "7"
    await desk.keeper.on_message("$hw/events/node/edge-1/membership/get", b'{"event_id":"m"}')
    assert [d["id"] for d in desk.published[-1][1]["devices"]] == [DEVICE]
    count = len(desk.published)
    await desk.keeper.on_message("$hw/events/node/other/membership/get", b"{}")
    assert len(desk.published) == count


async def test_state_goes_up_only_when_it_changes(desk: Desk) -> None:
    await desk.keeper.state(DEVICE, "online")
    key = docs.state_resource(DEVICE)
    said = docs.parse_state_update(desk.outbox.envelopes()[key].content)
    assert said.state == "online" and said.last_online.endswith("Z")
    await desk.outbox.settle_key(key)
    await desk.keeper.state(DEVICE, "ONLINE")
    assert key not in desk.outbox.envelopes()


async def test_a_device_that_is_gone_takes_its_rows_along(desk: Desk) -> None:
    await desk.keeper.report(DEVICE, {"temperature": says("7")})
    desk.catalog.apply("default/device/t1", None)
    await eventually(lambda: DEVICE not in desk.keeper.devices)
    await eventually(lambda: desk.database.read("SELECT count(*) FROM device_twin") == [(0,)])


async def test_membership_of_a_foreign_cloud(desk: Desk) -> None:
    change = docs.MembershipChange("e", 1, added=(Member("default/m1", "m1"),), removed=(Member(DEVICE, "t1"),))
    await desk.keeper.membership(change)
    assert set(desk.keeper.devices) == {DEVICE, "default/m1"}
    assert desk.topics()[-1] == "$hw/events/node/edge-1/membership/updated"
    await desk.keeper.membership_detail((Member("default/m2", "m2"),))
    assert set(desk.keeper.devices) == {DEVICE, "default/m2"}
