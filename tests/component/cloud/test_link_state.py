"""Nodes say of their links what has lasted: whether there is one, and whether much waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import LEASES, NODES
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.hub.ports import NodeLink, NodeName
from skerry.cloud.sync.link_state import BACKLOG, LINK, LOOK_EVERY_S, MANY, SETTLES_S, LinkStates
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi
from skerry.testing.clock import VirtualClock
from skerry.testing.site import until

NODE = NodeName("edge-1")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApi]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
    await core.start()
    yield LocalKubeApi(core, user=User("cloud", (MASTERS,)))
    await core.aclose()


class Replica:
    """A cloud process as far as links go: those it has are set by the test."""

    def __init__(self, api: KubeApi, clock: VirtualClock, name: str = "") -> None:
        self.api, self.clock = api, clock
        self.links: dict[NodeName, NodeLink] = {}
        self.informers = InformerSet(api)
        self.nodes = self.informers.of(NODES)
        self.states = LinkStates(
            api, nodes=self.nodes, links=lambda: list(self.links.values()),
            is_connected=lambda node: node in self.links, replica=lambda: name, clock=clock,
        )  # fmt: skip

    def connect(self, address: str = "10.0.0.7") -> None:
        now_s = self.clock.now_s()
        self.links[NODE] = NodeLink(NODE, now_s, now_s, address, "", 0, 0.0)
        self.states.connected(self.links[NODE])

    def waits(self, count: int) -> None:
        link = self.links[NODE]
        self.links[NODE] = NodeLink(NODE, link.connected_since_s, self.clock.now_s(), link.address, "", count, 0.0)

    def lose(self) -> None:
        self.states.disconnected(self.links.pop(NODE))

    async def knows(self) -> None:
        """Wait until the cache has what was written."""

        async def look() -> str:
            written, cached = await self.api.get(NODES, NODE), self.nodes.get(NODE) or {"metadata": {}}
            versions = [obj["metadata"].get("resourceVersion") for obj in (written, cached)]
            return "" if versions[0] == versions[1] else f"versions {versions}"

        await until(look, within_s=10)


class World:
    def __init__(self, api: KubeApi, clock: VirtualClock, stack: AsyncExitStack) -> None:
        self.api, self.clock, self._stack = api, clock, stack
        self.replicas: list[Replica] = []

    async def replica(self, name: str = "") -> Replica:
        made = Replica(self.api, self.clock, name)
        supervisor = await self._stack.enter_async_context(Supervisor(f"test-{name}", clock=self.clock))
        supervisor.keep("informers", made.informers.run)
        supervisor.keep("states", made.states.run)
        self.replicas.append(made)
        await made.nodes.wait_synced()
        await self.clock.wait_sleepers(len(self.replicas))
        return made

    async def passes(self, seconds: float) -> None:
        """Time goes on; after each look what it wrote is in every cache."""
        left_s = seconds
        while left_s > 0:
            step_s = min(left_s, LOOK_EVERY_S)
            await self.clock.advance(step_s)
            await self.clock.wait_sleepers(len(self.replicas))
            for replica in self.replicas:
                await replica.knows()
            left_s -= step_s

    async def said(self) -> dict[str, tuple[str, str]]:
        """Type → status and message."""
        node = await self.api.get(NODES, NODE)
        found = (node.get("status") or {}).get("conditions") or ()
        return {c["type"]: (c["status"], c.get("message", "")) for c in found}

    async def version(self) -> str:
        return str((await self.api.get(NODES, NODE))["metadata"]["resourceVersion"])

    async def report(self, *conditions: dict[str, Any], patch_type: Any = "strategic") -> None:
        """As an agent does, or the node's controller."""
        patch = {"status": {"conditions": list(conditions)}}
        await self.api.patch(NODES, NODE, patch, patch_type=patch_type, subresource="status")


@pytest.fixture
async def world(api: KubeApi) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        await api.create(NODES, {"metadata": {"name": NODE}})
        yield World(api, VirtualClock(), stack)


async def test_a_link_is_told_once_it_has_lasted_and_its_end_with_the_time_of_the_last_word(world: World) -> None:
    cloud = await world.replica()
    cloud.connect()
    await world.passes(LOOK_EVERY_S)
    assert LINK not in await world.said()
    await world.passes(SETTLES_S)
    assert (await world.said())[LINK] == ("True", "connected from 10.0.0.7")
    before = await world.version()
    await world.passes(600)
    cloud.lose()
    await world.passes(LOOK_EVERY_S)
    cloud.connect()
    await world.passes(100)
    assert await world.version() == before, "a reconnect cost a write"
    cloud.waits(0)
    heard = cloud.links[NODE].last_seen_s
    cloud.lose()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    found = (await world.api.get(NODES, NODE))["status"]["conditions"][0]
    assert (found["status"], found["reason"]) == ("False", "Disconnected")
    assert found["message"].startswith("last heard at 20") and found["message"].endswith("Z")
    assert heard < world.clock.now_s()
    before = await world.version()
    await world.passes(600)
    assert await world.version() == before


async def test_a_backlog_is_told_when_it_lasts_and_when_it_is_gone_and_not_how_it_grows(world: World) -> None:
    cloud = await world.replica()
    cloud.connect()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    assert BACKLOG not in await world.said()
    cloud.waits(MANY)
    await world.passes(50)
    status, message = (await world.said())[BACKLOG]
    assert status == "True" and message.startswith(f"{MANY} deliveries wait")
    before = await world.version()
    for count in range(MANY, MANY * 3, 20):
        cloud.waits(count)
        await world.passes(LOOK_EVERY_S)
    assert await world.version() == before
    cloud.waits(0)
    await world.passes(LOOK_EVERY_S)
    assert (await world.said())[BACKLOG][0] == "False"
    cloud.waits(MANY)
    await world.passes(50)
    cloud.lose()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    said = await world.said()
    assert (said[BACKLOG][0], said[LINK][0]) == ("Unknown", "False")


async def test_an_agent_that_replaces_all_conditions_does_not_silence_the_cloud(world: World) -> None:
    cloud = await world.replica()
    cloud.connect()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    await world.report({"type": "Ready", "status": "True"}, patch_type="merge")
    await cloud.knows()
    assert LINK not in await world.said()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    assert (await world.said())[LINK][0] == "True"


async def test_a_node_that_moved_is_told_of_by_the_replica_where_it_is(world: World) -> None:
    one, two = await world.replica("one:10000"), await world.replica("two:10000")
    one.connect()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    assert (await world.said())[LINK][1] == "connected from 10.0.0.7 to one:10000"
    one.lose()
    two.connect()
    await world.passes(SETTLES_S + 3 * LOOK_EVERY_S)
    assert (await world.said())[LINK] == ("True", "connected from 10.0.0.7 to two:10000")
    before = await world.version()
    await world.passes(300)
    assert await world.version() == before


async def test_of_a_node_whose_replica_died_another_one_says_so_when_it_is_silent(world: World) -> None:
    renewed = {"holderIdentity": NODE, "renewTime": "2026-01-02T03:04:05.000000Z"}
    await world.api.create(LEASES, {"metadata": {"name": NODE}, "spec": renewed}, namespace="kube-node-lease")
    lost = {"type": LINK, "status": "True", "reason": "Connected", "message": "connected from 10.0.0.7 to one:10000"}
    await world.report(lost, {"type": "Ready", "status": "True"})
    two = await world.replica("two:10000")
    await world.passes(100)
    assert (await world.said())[LINK][0] == "True", "nobody can know yet"
    await world.report({"type": "Ready", "status": "Unknown"})
    await two.knows()
    await world.passes(SETTLES_S + LOOK_EVERY_S)
    assert (await world.said())[LINK] == ("False", "last heard at 2026-01-02T03:04:05.000000Z")
