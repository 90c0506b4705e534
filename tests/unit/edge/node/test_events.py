"""What is told about the node, and that it is told once."""

from __future__ import annotations

from typing import Any

from skerry.base.errors import StoreError
from skerry.edge.node.events import NodeEvents, changes
from skerry.edge.node.status import Vitals, conditions
from skerry.testing.clock import VirtualClock
from skerry.wire.kubeedge.envelope import Envelope

SHORT = Vitals("192.0.2.1", "fake://1", pressures={"DiskPressure": "nodefs.available is 1Gi, below 2Gi"})
FINE = Vitals("192.0.2.1", "fake://1")
ENGINE_AWAY = Vitals("192.0.2.1", "", runtime_message="containerd does not answer")


class Store:
    """Facts and outbox of one node; agents come and go."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.facts: dict[str, str] = {}
        self.left: list[dict[str, Any]] = []
        self.is_full = False

    def fact(self, name: str) -> str:
        return self.facts.get(name, "")

    async def remember(self, name: str, value: str) -> None:
        self.facts[name] = value

    async def leave(self, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        if self.is_full:
            raise StoreError("the disk is full")
        assert is_sequence and key == envelope.resource
        self.left.append(envelope.content)

    def agent(self) -> NodeEvents:
        return NodeEvents(self, node="edge-1", facts=self, clock=self.clock)

    def told(self) -> list[str]:
        reasons = [event["reason"] for event in self.left]
        self.left.clear()
        return reasons


def seen(vitals: Vitals) -> list[dict[str, Any]]:
    return conditions(vitals, "2026-01-01T00:00:00Z", {})


async def test_the_conditions_of_a_new_node_are_told_once() -> None:
    store = Store()
    agent = store.agent()
    await agent.conditions(seen(FINE))
    assert store.told() == ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
    await agent.conditions(seen(FINE))
    await store.agent().conditions(seen(FINE))
    assert store.told() == [], "nothing has changed, also for the next agent"


async def test_changes_are_told_with_their_evidence() -> None:
    store = Store()
    agent = store.agent()
    await agent.conditions(seen(FINE))
    store.told()
    await agent.conditions(seen(SHORT))
    [event] = store.left
    assert (event["type"], event["reason"]) == ("Normal", "NodeHasDiskPressure")
    assert event["message"].startswith("Node edge-1 status is now: NodeHasDiskPressure: ")
    assert "nodefs.available is 1Gi, below 2Gi" in event["message"]
    assert event["involvedObject"] == {"kind": "Node", "apiVersion": "v1", "name": "edge-1", "uid": "edge-1"}
    assert event["metadata"]["namespace"] == "default" and event["source"]["host"] == "edge-1"
    store.told()
    await store.clock.advance(60)
    await agent.conditions(seen(ENGINE_AWAY))
    assert store.told() == ["NodeHasNoDiskPressure", "NodeNotReady"]


async def test_a_node_that_flaps_is_told_less_and_less_often() -> None:
    store = Store()
    agent = store.agent()
    for _ in range(180):  # half an hour
        for vitals in (FINE, ENGINE_AWAY):
            await agent.conditions(seen(vitals))
            await store.clock.advance(5)
    by_name = {event["metadata"]["name"]: event for event in store.left if event["reason"] == "NodeNotReady"}
    [event] = by_name.values()
    assert event["count"] > 100, "one event, counted"
    assert len(store.told()) < 30


async def test_a_condition_that_the_cloud_gave_up_on_is_told_again() -> None:
    store = Store()
    agent = store.agent()
    await agent.conditions(seen(FINE))
    store.told()
    await store.clock.advance(60)
    agent.seen([{"type": "Ready", "status": "Unknown"}, {"type": "DiskPressure", "status": "False"}])
    await agent.conditions(seen(FINE))
    assert store.told() == ["NodeReady"]


async def test_a_start_after_a_boot_is_a_reboot() -> None:
    store = Store()
    for boot_id, expected in (
        ("one", ["Starting"]),
        ("one", ["Starting"]),
        ("two", ["Starting", "Rebooted"]),
        ("two", ["Starting"]),
        ("", ["Starting"]),
    ):
        await store.agent().started(boot_id)
        rebooted = [event for event in store.left if event["reason"] == "Rebooted"]
        assert all((e["type"], e["message"]) == ("Warning", _REBOOTED) for e in rebooted)
        assert store.told() == expected


_REBOOTED = "Node edge-1 has been rebooted, boot id: two"


async def test_a_full_disk_costs_the_event_only() -> None:
    store = Store()
    store.is_full = True
    agent = store.agent()
    await agent.started("one")
    await agent.conditions(seen(FINE))
    assert store.told() == [] and store.fact("boot") == "one"


def test_what_cannot_be_read_of_the_past_is_told_anew() -> None:
    store = Store()
    store.facts["conditions"] = "{"
    store.agent()
    store.facts["conditions"] = "[]"
    store.agent()
    assert [reason for reason, _ in changes({}, seen(FINE))][-1] == "NodeReady"
