"""Silent nodes, in virtual time, on a real embedded API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.controllers.conftest import ADMIN

from skerry.api.gvk import LEASES, NODES, PODS, SERVICEACCOUNTS, Object
from skerry.api.meta import rfc3339
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base.aio.supervise import Supervisor
from skerry.controllers.node_lifecycle import EDGE_LABEL, POLICY_LABEL, NodeLifecycle, Patience
from skerry.controllers.objects import condition_of
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet
from skerry.testing.clock import VirtualClock

PATIENCE = Patience(grace_s=50, start_s=600, first_s=60, monitor_s=5)


class World:
    """Nodes, one pod on each, and the part under test."""

    def __init__(self, core: ApiCore, tasks: Supervisor) -> None:
        self.api = LocalKubeApi(core, user=ADMIN)
        self.clock = VirtualClock()
        self._tasks = tasks
        self._beats = 0

    async def add_node(self, name: str, *, edge: bool) -> None:
        labels = {EDGE_LABEL: ""} if edge else {}
        await self.api.create(NODES, {"metadata": {"name": name, "labels": labels}})
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(1e9)}
        await self.api.patch(NODES, name, {"status": {"conditions": [ready]}}, subresource="status")
        pod: Object = {
            "metadata": {"name": f"on-{name}", "namespace": "default"},
            "spec": {
                "nodeName": name,
                "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "c", "image": "i"}],
            },
        }
        await self.api.create(PODS, pod, namespace="default")
        running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await self.api.patch(PODS, f"on-{name}", {"status": running}, namespace="default", subresource="status")
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": name}}
        await self.api.create(LEASES, lease, namespace="kube-node-lease")

    async def beat(self, name: str) -> None:
        self._beats += 1
        renewed = {"spec": {"renewTime": f"2026-01-01T00:{self._beats // 60:02d}:{self._beats % 60:02d}.000000Z"}}
        await self.api.patch(LEASES, name, renewed, namespace="kube-node-lease")

    async def start(self, patience: Patience = PATIENCE) -> None:
        informers = self.informers = InformerSet(self.api)
        self.events = EventRecorder(self.api, "node-controller", clock=self.clock)
        self.part = NodeLifecycle(
            self.api, informers=informers, events=self.events, clock=self.clock, patience=patience
        )
        self._tasks.keep("informers", informers.run)
        self._tasks.keep("part", self.part.run)
        await self.clock.wait_sleepers(1)

    async def pass_time(
        self, seconds: int, *, beating: tuple[str, ...] = (), every_s: int = 10, step_s: int = 5
    ) -> None:
        for second in range(0, seconds, step_s):
            for name in beating if second % every_s == 0 else ():
                await self.beat(name)
            await self.clock.advance(step_s)
            await self.clock.wait_sleepers(1)

    async def state(self, name: str) -> tuple[str, list[tuple[str, str]]]:
        node = await self.api.get(NODES, name)
        taints = [(t["key"].rpartition("/")[2], t["effect"]) for t in node["spec"].get("taints") or ()]
        return (condition_of(node, "Ready") or {})["status"], sorted(taints)

    async def pod(self, node: str) -> tuple[bool, str]:
        """Whether the pod on a node is being deleted, and its Ready condition."""
        pod: dict[str, Any] = await self.api.get(PODS, f"on-{node}", namespace="default")
        return "deletionTimestamp" in pod["metadata"], (condition_of(pod, "Ready") or {})["status"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="OFF")
    await core.start()
    async with Supervisor("test") as tasks:
        made = World(core, tasks)
        account = {"metadata": {"name": "default", "namespace": "default"}}
        await made.api.create(SERVICEACCOUNTS, account, namespace="default")
        for name in ("steady", "central", "edge"):
            await made.add_node(name, edge=name == "edge")
        yield made
        await made.events.aclose()
    await core.aclose()


async def test_a_silent_central_node_is_evicted_and_a_silent_edge_is_not(world: World) -> None:
    await world.start()
    await world.pass_time(610, beating=("steady", "central", "edge"))
    assert await world.state("central") == ("True", [])
    await world.pass_time(80, beating=("steady",))
    assert await world.state("steady") == ("True", [])
    assert await world.state("central") == ("Unknown", [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")])
    assert await world.state("edge") == ("Unknown", [("unreachable", "NoSchedule")])
    assert await world.pod("central") == (False, "False")
    assert await world.pod("edge") == (False, "True")
    await world.pass_time(320, beating=("steady",))
    assert await world.pod("central") == (True, "False")
    assert await world.pod("edge") == (False, "True")


async def test_after_a_start_of_the_cloud_nodes_have_ten_minutes_to_return(world: World) -> None:
    for name in ("steady", "central", "edge"):
        await world.beat(name)
    await world.start()
    await world.pass_time(590)
    for name in ("steady", "central", "edge"):
        assert (await world.state(name))[0] == "True"
        assert await world.pod(name) == (False, "True")
    await world.pass_time(20, beating=("steady", "central"))
    assert (await world.state("central"))[0] == "True"
    assert (await world.state("edge"))[0] == "Unknown"


async def test_a_node_that_comes_back_is_freed_of_its_taints(world: World) -> None:
    await world.start()
    await world.pass_time(10, beating=("steady", "edge"))
    await world.pass_time(80, beating=("steady",))
    assert (await world.state("edge"))[0] == "Unknown"
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(2e9)}
    await world.api.patch(
        NODES, "edge", {"status": {"conditions": [ready]}}, patch_type="strategic", subresource="status"
    )
    await world.pass_time(15, beating=("steady", "edge"))
    assert await world.state("edge") == ("True", [])


async def test_when_every_central_node_is_silent_nobody_is_evicted(world: World) -> None:
    await world.start()
    await world.pass_time(10, beating=("steady", "central", "edge"))
    await world.pass_time(400)
    for name in ("steady", "central"):
        assert await world.state(name) == ("Unknown", [("unreachable", "NoSchedule")])
        assert (await world.pod(name))[0] is False


async def test_a_label_says_otherwise_for_a_node(world: World) -> None:
    await world.api.patch(NODES, "edge", {"metadata": {"labels": {POLICY_LABEL: "evict"}}})
    await world.api.patch(NODES, "central", {"metadata": {"labels": {POLICY_LABEL: "keep"}}})
    await world.start()
    await world.pass_time(610, beating=("steady", "central", "edge"))
    await world.pass_time(400, beating=("steady",))
    assert (await world.pod("edge"))[0] is True
    assert await world.pod("central") == (False, "True")


async def test_no_eviction_while_the_cloud_has_just_started(world: World) -> None:
    await world.start()
    await world.pass_time(30, beating=("steady", "central", "edge"))
    await world.pass_time(400, beating=("steady",))
    assert await world.state("central") == ("Unknown", [("unreachable", "NoSchedule")])
    assert (await world.pod("central"))[0] is False
    await world.pass_time(540, beating=("steady",))
    assert (await world.pod("central"))[0] is True


async def test_an_hour_without_the_cloud_moves_nothing(world: World) -> None:
    """Fifty nodes, ten of them central, lose the cloud for an hour and come back one after the other."""
    names = [f"n{number}" for number in range(47)]
    for number, name in enumerate(names):
        await world.add_node(name, edge=number >= 8)
    names += ["steady", "central", "edge"]
    await world.start(Patience(grace_s=300, start_s=600, monitor_s=60))
    turns: dict[str, list[str]] = {name: [] for name in names}
    deleted: list[str] = []

    def note_node(kind: str, old: Object | None, new: Object | None) -> None:
        words = [str((condition_of(node, "Ready") or {}).get("status")) for node in (old, new) if node is not None]
        if new is not None and len(words) == 2 and words[0] != words[1]:
            turns[new["metadata"]["name"]].append(words[1])

    def note_pod(kind: str, old: Object | None, new: Object | None) -> None:
        if new is None or "deletionTimestamp" in new["metadata"]:
            deleted.append((new or old or {})["metadata"]["name"])

    world.informers.of(NODES).on_event(note_node)
    world.informers.of(PODS).on_event(note_pod)
    await world.pass_time(240, beating=tuple(names), every_s=240, step_s=60)
    await world.pass_time(3600, step_s=60)
    assert turns == {name: ["Unknown"] for name in names}
    for number, name in enumerate(names):
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(2e9)}
        await world.api.patch(
            NODES, name, {"status": {"conditions": [ready]}}, patch_type="strategic", subresource="status"
        )
        if number % 10 == 9:
            await world.pass_time(60, beating=tuple(names[: number + 1]), every_s=240, step_s=60)
    await world.pass_time(720, beating=tuple(names), every_s=240, step_s=60)
    assert turns == {name: ["Unknown", "True"] for name in names}
    assert deleted == []
    for name in names:
        assert await world.state(name) == ("True", [])
