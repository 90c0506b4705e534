"""Between Skerry peers, over real connections: versions, packed messages, batched acknowledgements, folded leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry import __version__
from skerry.api.gvk import LEASES, NODES, PODS
from skerry.api.meta import parse_rfc3339
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.hub.listener import HubLimits
from skerry.cloud.hub.ports import NodeLink, NodeName
from skerry.cloud.sync import leases
from skerry.cloud.sync.leases import LeaseKeeper
from skerry.edge.link.session import CALM
from skerry.testing.clock import VirtualClock
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import Refusal, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope


@pytest.fixture
async def api() -> FakeKubeApi:
    return FakeKubeApi()


@pytest.fixture
async def kit(api: FakeKubeApi, tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(api, tmp_path) as kit:
        yield kit


async def test_an_agent_of_a_far_version_is_refused_before_the_upgrade_with_both_named(
    kit: CloudKit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    tls = kit.tls(kit.node_credential("edge-1"))
    with pytest.raises(Refusal) as caught:
        async with connect(kit.hub_url, "edge-1", tls, headers={c.HEADER_SKERRY: "7.0.0"}):
            pass
    assert caught.value.status == 426
    causes = [r.__dict__["fields"]["cause"] for r in caplog.records if r.getMessage() == "hub.refused"]
    assert "7.0.0" in causes[0] and __version__ in causes[0]


async def test_pods_travel_packed_and_acknowledgements_together(kit: CloudKit, api: FakeKubeApi) -> None:
    tls = kit.tls(kit.node_credential("edge-1"))
    spec = {"nodeName": "edge-1", "containers": [{"name": "a", "image": "i", "args": ["x" * 3000]}]}
    async with connect(kit.hub_url, "edge-1", tls, features=peers.FEATURES) as node:
        assert node.features == peers.FEATURES
        for number in range(8):
            await api.create(PODS, {"metadata": {"name": f"p{number}", "namespace": "default"}, "spec": spec})
        await node.until(lambda n: len(n.objects) == 8)
        assert node.packed_count >= 8
        async with asyncio.timeout(5):
            while kit.hub.connected()[0].waiting:
                await asyncio.sleep(0.01)


async def test_a_peer_without_features_gets_plain_kubeedge_wire(kit: CloudKit, api: FakeKubeApi) -> None:
    tls = kit.tls(kit.node_credential("edge-1"))
    spec = {"nodeName": "edge-1", "containers": [{"name": "a", "image": "i", "args": ["x" * 3000]}]}
    async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
        await api.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
        await node.until(lambda n: len(n.objects) == 1)
        assert (node.packed_count, node.features, node.others) == (0, frozenset(), [])


async def test_the_cloud_renews_the_lease_of_a_connected_node(kit: CloudKit, api: FakeKubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-1"}})
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1")), features=peers.FEATURES):
        async with asyncio.timeout(5):
            while not (found := (await api.list(LEASES, namespace="kube-node-lease")).items):
                await asyncio.sleep(0.01)
    assert found[0]["metadata"]["name"] == "edge-1"
    assert found[0]["spec"]["leaseDurationSeconds"] == 40
    assert found[0]["spec"]["holderIdentity"] == "edge-1"


async def test_a_silent_node_is_not_renewed_and_one_that_left_neither(api: FakeKubeApi) -> None:
    clock, seen = VirtualClock(), {"a": 0.0, "b": 0.0, "c": 0.0}
    keeper = LeaseKeeper(api, last_seen_s=lambda node: seen[node], clock=clock)

    def link(node: str, features: frozenset[str] = peers.FEATURES) -> NodeLink:
        return NodeLink(NodeName(node), 0.0, 0.0, "", "", 0, 0.0, features=features)

    async def renewed(node: str) -> str:
        found = {o["metadata"]["name"]: o for o in (await api.list(LEASES)).items}
        return str(found[node]["spec"]["renewTime"]) if node in found else ""

    async with Supervisor("test", clock=clock) as supervisor:
        supervisor.keep("leases", keeper.run)
        await clock.advance(0)
        for node in seen:
            seen[node] = clock.now_s()
        keeper.connected(link("a"))
        keeper.connected(link("b"))
        keeper.connected(link("c", frozenset()))
        await clock.advance(1)
        first = {node: await renewed(node) for node in seen}
        assert first["a"] and first["b"] and not first["c"]
        for _ in range(6):
            seen["a"] = clock.now_s()
            await clock.advance(10)
        second = {node: await renewed(node) for node in seen}
        assert second["a"] > first["a"] and second["b"] == first["b"]
        seen["a"] = 0.0
        keeper.disconnected(link("a"))
        await clock.advance(60)
        assert await renewed("a") == second["a"]


async def test_a_ping_that_is_only_late_does_not_let_the_lease_run_out(api: FakeKubeApi) -> None:
    clock, seen = VirtualClock(), {"a": 0.0}
    keeper = LeaseKeeper(api, last_seen_s=lambda node: seen[node], clock=clock)

    async def renewed_s() -> float:
        lease = await api.get(LEASES, "a", namespace="kube-node-lease")
        return parse_rfc3339(lease["spec"]["renewTime"]) or 0.0

    async with Supervisor("test", clock=clock) as supervisor:
        supervisor.keep("leases", keeper.run)
        await clock.advance(0)
        seen["a"] = clock.now_s()
        keeper.connected(NodeLink(NodeName("a"), 0.0, 0.0, "", "", 0, 0.0, features=peers.FEATURES))
        await clock.advance(1)
        first_s = await renewed_s()
        await clock.advance(leases.RENEW_EVERY_S)
        assert await renewed_s() == first_s
        seen["a"] = clock.now_s()
        await clock.advance(5)
        assert first_s < await renewed_s() < first_s + 40


def test_the_times_of_both_ends_fit_together() -> None:
    every_s = peers.PING_EVERY_S
    assert (CALM.ping_every_s, every_s < CALM.silence_s < 2 * every_s) == (every_s, True)
    assert 2 * every_s + 5 <= peers.SILENCE_LIMIT_S, "a ping may be lost and the next one late"
    assert every_s + 5 <= leases.HEARD_S
    assert leases.RENEW_EVERY_S + leases.LOOK_AGAIN_S < leases.DURATION_S, "a ping may come just after a look"


async def test_a_node_that_floods_is_read_more_slowly_and_the_others_are_not(api: FakeKubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path, hub_limits=HubLimits(messages_per_s=5.0)) as kit:
        loud = connect(kit.hub_url, "loud", kit.tls(kit.node_credential("loud")))
        calm = connect(kit.hub_url, "calm", kit.tls(kit.node_credential("calm")))
        async with loud as flood, calm as other:
            for number in range(55):
                await flood.send(Envelope("", c.SOURCE_EDGED, c.GROUP_META, c.OP_QUERY, f"null/node/c{number}"))
            started_s = asyncio.get_running_loop().time()
            assert not (await other.request("query", "default/configmap/x")).is_ok
            fast_s = asyncio.get_running_loop().time() - started_s
            assert not (await flood.request("query", "null/node/x")).is_ok
            assert asyncio.get_running_loop().time() - started_s > fast_s
            assert not flood.ended.is_set()


async def test_large_messages_count_for_many(
    api: FakeKubeApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with cloud(api, tmp_path, hub_limits=HubLimits(messages_per_s=5.0)) as kit:
        loud = connect(kit.hub_url, "loud", kit.tls(kit.node_credential("loud")))
        calm = connect(kit.hub_url, "calm", kit.tls(kit.node_credential("calm")))
        async with loud as flood, calm as other:
            text = {"text": "x" * 51 * 16 * 1024}  # one message that costs more than ten seconds' worth
            await flood.send(Envelope("", c.SOURCE_EDGED, c.GROUP_META, c.OP_QUERY, "null/node/c", text))
            assert not (await other.request("query", "default/configmap/x")).is_ok
            assert not (await flood.request("query", "null/node/x")).is_ok
            assert not flood.ended.is_set()
    slowed = [r.__dict__["fields"]["node"] for r in caplog.records if r.getMessage() == "hub.node_slowed"]
    assert slowed == ["loud"]
