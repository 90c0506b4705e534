"""The cloud's device duty on a cluster in memory, with real informers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.component.devices.desk import device, eventually, model

from skerry.api.gvk import DEVICEMODELS, DEVICES, DEVICESTATUSES, Resource
from skerry.api.status import NotFound, Unavailable
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.devices.down import DeviceDown
from skerry.cloud.devices.up import DeviceUp
from skerry.cloud.hub.ports import Delivery, NodeLink, NodeName, Request
from skerry.kube.informer import Informer
from skerry.testing.fakekube import FakeKubeApi
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.twin import MsgTwin, Value, Version

EDGE = NodeName("edge-1")


class Outbox:
    """Records what was left for nodes."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[str, Delivery]] = []
        self.sent: list[tuple[str, Envelope]] = []
        self.advanced: list[tuple[str, str]] = []

    def put(self, node: NodeName, delivery: Delivery) -> None:
        self.deliveries.append((node, delivery))

    def advance(self, node: NodeName, delivery: Delivery, *, from_version: str) -> None:
        self.advanced.append((node, delivery.key))

    def resync(self, node: NodeName, *, force: bool = False) -> None:
        raise AssertionError("not asked for here")

    def disconnect(self, node: NodeName, reason: str) -> None:
        raise AssertionError("not asked for here")

    def send(self, node: NodeName, envelope: Envelope) -> bool:
        self.sent.append((node, envelope))
        return True

    def connected(self) -> list[NodeLink]:
        return []

    def brief(self) -> list[tuple[str, str, str]]:
        return [(node, d.operation, d.key) for node, d in self.deliveries]


class Duty:
    """Everything of the duty."""

    def __init__(self) -> None:
        self.failures: dict[tuple[str, str], int] = {}
        self.calls: list[tuple[str, str]] = []
        self.api = FakeKubeApi(on_call=self._on_call)
        self.devices = Informer(self.api, DEVICES)
        self.models = Informer(self.api, DEVICEMODELS)
        self.outbox = Outbox()
        self.down = DeviceDown(devices=self.devices, models=self.models, outbox=self.outbox)
        self.up = DeviceUp(api=self.api, devices=self.devices, answer_within_s=5.0)
        self.supervisor = Supervisor("test")

    def _on_call(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append((verb, resource.plural))
        left = self.failures.get((verb, resource.plural), 0)
        if left:
            self.failures[verb, resource.plural] = left - 1
            raise Unavailable("the API server is not there")

    def start(self) -> None:
        self.down.start()
        self.up.start()
        self.supervisor.keep("devices", self.devices.run)
        self.supervisor.keep("models", self.models.run)

    async def report(self, *, node: NodeName = EDGE, name: str = "t1", **twins: MsgTwin) -> Envelope | None:
        content = docs.edge_updated("e", 1, twins)
        resource = docs.twin_resource(f"default/{name}")
        return await self.up.handle(Request(node, Envelope("m1", "twin", "resource", "update", resource, content)))

    async def status(self, name: str = "t1") -> dict[str, Any]:
        return await self.api.get(DEVICESTATUSES, name, namespace="default")


@pytest.fixture
async def duty() -> AsyncIterator[Duty]:
    duty = Duty()
    duty.start()
    yield duty
    await duty.up.aclose()
    await duty.supervisor.aclose()


def says(value: str, version: int = 1) -> MsgTwin:
    return MsgTwin(actual=Value(value, version), type="float", actual_version=Version(0, version))


TEMPERATURE = {"name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"}


async def bind(duty: Duty, name: str = "t1", *properties: str) -> None:
    names = properties or ("temperature", "setpoint")
    await duty.api.create(DEVICES, device(*({"name": n} for n in names), name=name), namespace="default")


async def test_model_goes_before_the_device_whichever_came_first(duty: Duty) -> None:
    await bind(duty)
    await eventually(lambda: len(duty.outbox.sent) == 1)
    assert duty.outbox.deliveries == []
    await duty.api.create(DEVICEMODELS, model(TEMPERATURE), namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 2)
    assert duty.outbox.brief() == [
        ("edge-1", "insert", "default/devicemodel/thermo"),
        ("edge-1", "insert", "default/device/t1"),
    ]
    (_, first), (_, second) = duty.outbox.deliveries
    assert first.order < second.order
    assert second.source == "devicecontroller"
    assert second.content["kind"] == "Device"
    node, membership = duty.outbox.sent[0]
    assert (node, membership.group, membership.resource) == ("edge-1", "twin", "membership")
    assert [m.device_id for m in docs.parse_membership(membership.content).added] == ["default/t1"]


async def test_only_a_new_spec_is_sent(duty: Duty) -> None:
    await duty.api.create(DEVICEMODELS, model(TEMPERATURE), namespace="default")
    await bind(duty)
    await eventually(lambda: len(duty.outbox.deliveries) == 2)
    await duty.api.patch(DEVICES, "t1", {"metadata": {"labels": {"x": "y"}}}, namespace="default")
    await duty.api.patch(DEVICES, "t1", {"spec": {"properties": []}}, namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 4)
    assert duty.outbox.brief()[2:] == [
        ("edge-1", "update", "default/devicemodel/thermo"),
        ("edge-1", "update", "default/device/t1"),
    ]
    assert duty.outbox.advanced == [("edge-1", "default/device/t1")]
    await duty.api.patch(DEVICEMODELS, "thermo", {"spec": {"protocol": "opcua"}}, namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 5)
    assert duty.outbox.brief()[4] == ("edge-1", "update", "default/devicemodel/thermo")


async def test_a_node_change_is_a_removal_and_an_insertion(duty: Duty) -> None:
    await duty.api.create(DEVICEMODELS, model(TEMPERATURE), namespace="default")
    await bind(duty)
    await eventually(lambda: len(duty.outbox.deliveries) == 2)
    await duty.api.patch(DEVICES, "t1", {"spec": {"nodeName": "edge-2"}}, namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 6)
    assert duty.outbox.brief()[2:] == [
        ("edge-1", "delete", "default/device/t1"),
        ("edge-1", "delete", "default/devicemodel/thermo"),
        ("edge-2", "insert", "default/devicemodel/thermo"),
        ("edge-2", "insert", "default/device/t1"),
    ]
    removed = docs.parse_membership(duty.outbox.sent[1][1].content).removed
    assert [m.device_id for m in removed] == ["default/t1"]
    await duty.api.delete(DEVICES, "t1", namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 8)
    assert duty.outbox.brief()[6] == ("edge-2", "delete", "default/device/t1")


async def test_a_model_in_use_stays_on_the_node(duty: Duty) -> None:
    await duty.api.create(DEVICEMODELS, model(TEMPERATURE), namespace="default")
    await bind(duty)
    await bind(duty, "t2")
    await eventually(lambda: len(duty.outbox.deliveries) == 4)
    await duty.api.delete(DEVICES, "t1", namespace="default")
    await eventually(lambda: len(duty.outbox.deliveries) == 5)
    assert duty.outbox.brief()[4] == ("edge-1", "delete", "default/device/t1")


async def test_the_resync_and_the_membership_question(duty: Duty) -> None:
    await duty.api.create(DEVICEMODELS, model(TEMPERATURE), namespace="default")
    await bind(duty)
    await bind(duty, "t2")
    await eventually(lambda: len(duty.devices) == 2 and len(duty.models) == 1)
    wanted = [d.key for d in await duty.down.desired(EDGE)]
    assert wanted == ["default/devicemodel/thermo", "default/device/t1", "default/device/t2"]
    assert await duty.down.desired(NodeName("edge-2")) == []
    question = Envelope("q1", "twin", "resource", "get", "membership/detail")
    answer = await duty.down.membership_detail(Request(EDGE, question))
    assert answer is not None
    assert (answer.parent_id, answer.group, answer.operation) == ("q1", "twin", "response")
    _, detail = duty.outbox.sent[-1]
    assert (detail.parent_id, detail.resource) == ("", "membership/detail")
    assert [m.device_id for m in docs.parse_membership_detail(detail.content)] == ["default/t1", "default/t2"]


async def test_a_report_becomes_a_status_owned_by_the_device(duty: Duty) -> None:
    await bind(duty)
    answer = await duty.report(temperature=says("21.5"))
    assert answer is not None
    assert (answer.parent_id, answer.source, answer.group) == ("m1", "devicecontroller", "twin")
    assert (answer.operation, answer.resource, answer.content) == ("response", "twin", "OK")
    status = await duty.status()
    owner = status["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Device", "t1", True)
    (twin,) = status["status"]["twins"]
    assert twin["reported"] == {"value": "21.5", "metadata": {"timestamp": "1", "type": "float", "version": "1"}}


async def test_a_repeated_report_writes_nothing(duty: Duty) -> None:
    await bind(duty)
    await duty.report(temperature=says("21.5"))
    first = await duty.status()
    assert await duty.report(temperature=says("21.5")) is not None
    assert await duty.report(temperature=says("20", version=0)) is not None
    assert await duty.status() == first
    assert duty.up.counts.patches == 1
    assert duty.up.counts.stale == 1


async def test_reports_that_gather_are_one_patch(duty: Duty) -> None:
    await bind(duty)
    await duty.report(temperature=says("0"))
    reports = [duty.report(temperature=says(str(n), version=n)) for n in range(1, 51)]
    answers = await asyncio.gather(*reports, duty.report(setpoint=says("5")))
    assert all(answer is not None for answer in answers)
    assert duty.up.counts.patches <= 4
    values = [t["reported"]["value"] for t in (await duty.status())["status"]["twins"]]
    assert values == ["50", "5"]


async def test_states(duty: Duty) -> None:
    await bind(duty)
    content = docs.state_update("e", 1, "t1", "online", "2026-01-01T00:00:00Z")
    envelope = Envelope("m2", "twin", "resource", "update", docs.state_resource("default/t1"), content)
    assert await duty.up.handle(Request(EDGE, envelope)) is not None
    assert (await duty.status())["status"] == {"state": "online", "lastOnlineTime": "2026-01-01T00:00:00Z"}


async def test_a_node_reports_only_about_its_own_devices(duty: Duty) -> None:
    await bind(duty)
    await eventually(lambda: len(duty.devices) == 1)
    assert await duty.report(node=NodeName("edge-2"), temperature=says("66")) is not None
    with pytest.raises(NotFound):
        await duty.status()
    assert duty.up.counts.refused == 1


async def test_a_report_may_come_before_its_device(duty: Duty) -> None:
    assert await duty.report(temperature=says("21.5")) is not None
    await bind(duty)
    await eventually(lambda: duty.up.counts.patches == 1)
    await duty.report(setpoint=says("1"))  # waits its turn behind the first
    assert (await duty.status())["status"]["twins"][0]["reported"]["value"] == "21.5"


async def test_a_report_that_nobody_can_judge_is_not_confirmed(duty: Duty) -> None:
    await eventually(lambda: duty.devices.has_synced)
    duty.failures["get", "devices"] = 1
    assert await duty.report(temperature=says("1")) is None
    await bind(duty)
    assert await duty.report(temperature=says("1")) is not None


async def test_reports_wait_for_the_cluster_and_foreign_changes_are_kept(duty: Duty) -> None:
    await bind(duty)
    await duty.report(temperature=says("1"))
    await duty.api.patch(DEVICESTATUSES, "t1", {"status": {"extensions": {"a": 1}}}, namespace="default")
    duty.failures["patch", "devicestatuses"] = 2
    assert await duty.report(temperature=says("2", version=2)) is not None
    status = (await duty.status())["status"]
    assert status["twins"][0]["reported"]["value"] == "2"
    assert status["extensions"] == {"a": 1}


async def test_a_new_device_of_an_old_name_starts_afresh(duty: Duty) -> None:
    await bind(duty)
    await duty.report(temperature=says("1", version=99))
    await duty.api.delete(DEVICES, "t1", namespace="default")
    await bind(duty)
    await duty.report(temperature=says("2"))
    assert (await duty.status())["status"]["twins"][0]["reported"]["value"] == "2"


async def test_unreadable_reports_are_answered_too(duty: Duty) -> None:
    envelope = Envelope("m3", "twin", "resource", "update", docs.twin_resource("default/t1"), "junk")
    assert await duty.up.handle(Request(EDGE, envelope)) is not None
    assert duty.up.counts.refused == 1
