"""The agent's link against a real hub over TLS, and over a path that breaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skerry.api.gvk import CONFIGMAPS, NODES, PODS
from skerry.base import certificates, x509
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.net.edge_tls import PeerNotTrusted
from skerry.base.net.http_server import server_tls
from skerry.base.net.ws_client import ConnectFailed, Target, UpgradeRefused, connect, server_certificate
from skerry.cloud.hub.listener import HubLimits
from skerry.edge.link import enrol
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.ports import Offline
from skerry.edge.link.session import Liveness
from skerry.edge.node import machine
from skerry.edge.node.events import NodeEvents
from skerry.edge.node.keeper import NodeKeeper
from skerry.edge.node.status import Vitals
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.drain import Drain
from skerry.edge.sync.holdings import Holdings
from skerry.edge.sync.inbox import Inbox
from skerry.edge.sync.remote import Remote
from skerry.testing.clock import VirtualClock
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hubkit import CloudKit, cloud
from skerry.testing.netproxy import NetProxy, net_proxy
from skerry.wire.kubeedge import join
from skerry.wire.kubeedge.envelope import Envelope

NODE = "edge-1"


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


class Agent:
    """Store, link and sync, without pods and devices."""

    def __init__(
        self, folder: Path, files: CertificateFiles, port: int, *, liveness: Liveness | None = None,
        greeter: type[Holdings] | None = None,
    ) -> None:  # fmt: skip
        folder.mkdir(exist_ok=True)
        clock = SystemClock()
        self.database = open_database(folder)
        self.objects = EdgeObjects(self.database, codec=SealingCodec(bytes(32)), clock=clock)
        self.outbox = EdgeOutbox(self.database, clock=clock)
        self.link = DialledLink(
            [("127.0.0.1", port)], node=NODE, files=files, clock=clock, liveness=liveness,
            greeter=greeter(self.objects) if greeter else None,
        )  # fmt: skip
        self.link.on_envelope(Inbox(self.objects, link=self.link, handlers={}).take)
        self.drain = Drain(self.outbox, self.link, clock=clock)
        self.remote = Remote(self.link)
        self.changed = asyncio.Event()
        self.link.on_state(lambda is_up: self.changed.set())
        self.objects.subscribe(lambda change: self.changed.set())

    async def until_up(self, *, is_up: bool = True) -> None:
        while self.link.is_up is not is_up:
            self.changed.clear()
            await self.changed.wait()

    async def until_holds(self, key: str) -> None:
        while self.objects.get(key) is None:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    async with Supervisor("agent") as supervisor:
        supervisor.keep("link", agent.link.run)
        supervisor.keep("drain", agent.drain.run)
        yield agent
    agent.database.close()


@pytest.fixture
async def api() -> FakeKubeApi:
    return FakeKubeApi()


@pytest.fixture
async def kit(api: FakeKubeApi, tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(api, tmp_path / "cloud") as kit:
        yield kit


@pytest.fixture
async def proxy(kit: CloudKit) -> AsyncIterator[NetProxy]:
    async with net_proxy("127.0.0.1", port_of(kit.hub_url)) as proxy:
        yield proxy


@pytest.fixture
def files(kit: CloudKit, tmp_path: Path) -> CertificateFiles:
    found = CertificateFiles(tmp_path / "certs")
    found.directory.mkdir()
    found.ca.write_bytes(kit.ca_pem)
    certificates.save(kit.node_credential(NODE), found.cert, found.key)
    return found


async def test_enrolment_gives_files_that_open_a_session(kit: CloudKit, tmp_path: Path) -> None:
    token = join.parse_token((await kit.tokens.create(node=NODE))[1])
    files = CertificateFiles(tmp_path / "joined")
    await enrol.enrol("127.0.0.1", port_of(kit.join_url), token=token, node=NODE, files=files)
    assert files.key.stat().st_mode & 0o777 == 0o600
    async with running(Agent(tmp_path / "data", files, port_of(kit.hub_url))) as agent:
        await agent.until_up()
    before = files.cert.read_bytes()
    await enrol.renew("127.0.0.1", port_of(kit.join_url), node=NODE, files=files)
    assert files.cert.read_bytes() != before
    files.context()


async def test_an_object_is_stored_acknowledged_and_not_sent_again(
    kit: CloudKit, api: FakeKubeApi, files: CertificateFiles, proxy: NetProxy, tmp_path: Path
) -> None:
    volumes = [{"name": "c", "configMap": {"name": "cm"}}]
    await api.create(NODES, {"metadata": {"name": NODE}})
    await api.create(CONFIGMAPS, {"metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "1"}})
    spec = {"nodeName": NODE, "containers": [{"name": "a", "image": "i"}], "volumes": volumes}
    await api.create(PODS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    async with running(Agent(tmp_path / "data", files, proxy.port)) as agent:
        await agent.until_holds("default/pod/web")
        assert agent.objects.get("default/configmap/cm") is not None
        while any(link.waiting for link in kit.hub.connected()):
            await asyncio.sleep(0)
    again = open_database(tmp_path / "data")
    kept = EdgeObjects(again, codec=SealingCodec(bytes(32)), clock=SystemClock())
    assert set(kept.list("pod")) == {"default/pod/web"}
    again.close()


class SilentAtFirst(Holdings):
    """Its first greeting is lost."""

    is_lost = True

    async def greet(self, store_id: str) -> Envelope | None:
        if self.is_lost:
            self.is_lost = False
            return None
        return await super().greet(store_id)


async def test_a_cloud_that_missed_the_holdings_gets_them_when_it_asks(
    files: CertificateFiles, api: FakeKubeApi, tmp_path: Path
) -> None:
    async with cloud(api, tmp_path / "cloud", hub_limits=HubLimits(holdings_within_s=0.2)) as kit:
        agent = Agent(tmp_path / "edge", files, port_of(kit.hub_url), greeter=SilentAtFirst)
        foreign = {
            "kind": "Pod",
            "metadata": {"name": "old", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        }
        await agent.objects.put("default/pod/old", foreign)
        async with running(agent):
            await agent.until_up()
            while agent.objects.get("default/pod/old") is not None:
                agent.changed.clear()
                await agent.changed.wait()


async def test_a_cut_link_stands_again_within_two_seconds(
    files: CertificateFiles, proxy: NetProxy, tmp_path: Path
) -> None:
    async with running(Agent(tmp_path / "data", files, proxy.port)) as agent:
        await agent.until_up()
        proxy.cut()
        started_s = time.monotonic()
        await agent.until_up(is_up=False)
        with pytest.raises(Offline):
            await agent.link.send(Envelope("", "edged", "meta", "query", "default/configmap/a"))
        await agent.until_up()
        assert time.monotonic() - started_s < 2.0


async def test_a_silent_path_is_noticed(files: CertificateFiles, proxy: NetProxy, tmp_path: Path) -> None:
    liveness = Liveness(ping_every_s=0.1, silence_s=0.5)
    async with running(Agent(tmp_path / "data", files, proxy.port, liveness=liveness)) as agent:
        await agent.until_up()
        proxy.black_hole()
        await agent.until_up(is_up=False)
        proxy.black_hole(swallows=False)
        proxy.cut()
        await agent.until_up()


async def test_pings_keep_an_idle_session(files: CertificateFiles, proxy: NetProxy, tmp_path: Path) -> None:
    liveness = Liveness(ping_every_s=0.1, silence_s=0.5)
    async with running(Agent(tmp_path / "data", files, proxy.port, liveness=liveness)) as agent:
        await agent.until_up()
        agent.changed.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await agent.until_up(is_up=False)


async def test_what_was_left_offline_arrives_later_in_its_newest_form(
    api: FakeKubeApi, files: CertificateFiles, proxy: NetProxy, tmp_path: Path
) -> None:
    spec = {"nodeName": NODE, "containers": [{"name": "a", "image": "i"}]}
    made = await api.create(PODS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    proxy.refuse()
    async with running(Agent(tmp_path / "data", files, proxy.port)) as agent:
        for phase in ("Pending", "Running"):
            patch = {"metadata": {"uid": made["metadata"]["uid"]}, "status": {"phase": phase}}
            await agent.outbox.leave("default/podpatch/web", _patch("default/podpatch/web", patch))
        gone = {"metadata": {"uid": "u"}, "status": {"phase": "Failed"}}
        await agent.outbox.leave("default/podpatch/gone", _patch("default/podpatch/gone", gone))
        assert agent.outbox.depth() == 2
        proxy.refuse(refuses=False)
        while agent.outbox.depth():
            await asyncio.sleep(0.01)
        found = await api.get(PODS, "web", namespace="default")
        assert found["status"]["phase"] == "Running"
        assert agent.drain.refused == 1


async def test_a_node_registers_and_reports_at_once_after_a_reconnect(
    api: FakeKubeApi, files: CertificateFiles, proxy: NetProxy, tmp_path: Path
) -> None:
    async def vitals() -> Vitals:
        return Vitals("127.0.0.1", "fake://1")

    agent = Agent(tmp_path / "data", files, proxy.port)
    facts = machine.read_machine(NODE, labels={"site": "a"}, taints=(), capacity={}, allocatable={})
    events = NodeEvents(agent.outbox, node=NODE, facts=agent.objects, clock=SystemClock())
    keeper = NodeKeeper(facts, remote=agent.remote, read_vitals=vitals, events=events, clock=SystemClock())
    agent.link.on_state(lambda is_up: keeper.reconnected() if is_up else None)
    async with running(agent), Supervisor("node") as supervisor:
        supervisor.keep("status", keeper.run_status)
        supervisor.keep("lease", keeper.run_lease)
        await agent.until_holds(f"null/node/{NODE}")
        node = await api.get(NODES, NODE)
        assert node["metadata"]["labels"]["site"] == "a"
        assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10350
        await api.patch(NODES, NODE, {"status": {"daemonEndpoints": None}}, subresource="status")
        proxy.cut()
        started_s = time.monotonic()
        while not (await api.get(NODES, NODE))["status"].get("daemonEndpoints"):
            await asyncio.sleep(0.01)
        assert time.monotonic() - started_s < 3.0


async def test_exactly_one_certificate_is_sent(kit: CloudKit, files: CertificateFiles) -> None:
    plain = files.context()
    server = server_tls(
        cert_file=kit.folder / "tls" / "server.crt",
        key_file=kit.folder / "tls" / "server.key",
        client_ca_file=files.ca,
        require_client=True,
    )
    chain = await asyncio.to_thread(_handshake, server, plain)
    assert len(chain) == 2, "the quirk that pinning works around is gone"
    async with net_proxy("127.0.0.1", port_of(kit.hub_url)) as proxy:
        der = await server_certificate("127.0.0.1", proxy.port, tls=plain)
    assert len(await asyncio.to_thread(_handshake, server, files.pinned(der))) == 1


async def test_another_server_of_our_authority_is_looked_at_again(kit: CloudKit, files: CertificateFiles) -> None:
    other = x509.issue_server(kit.authority.ca, ["127.0.0.1"])
    with pytest.raises(PeerNotTrusted):
        async with connect(
            Target("127.0.0.1", port_of(kit.hub_url), "/"), tls=files.pinned(other.cert_der), limit_bytes=1024
        ):
            pass


async def test_refusals_and_unreachable_servers_are_told_in_words(kit: CloudKit, files: CertificateFiles) -> None:
    headers = {"node_id": "somebody-else", "project_id": "p", "ConnectionUse": "msg"}
    target = Target("127.0.0.1", port_of(kit.hub_url), "/p/somebody-else/events", headers)
    with pytest.raises(UpgradeRefused, match="answered 4") as refused:
        async with connect(target, tls=files.context(), limit_bytes=1024):
            pass
    assert refused.value.status in (401, 403)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed, match="refused the connection"):
            async with connect(Target("127.0.0.1", unused.getsockname()[1], "/"), tls=files.context(), limit_bytes=1):
                pass
    async with net_proxy("127.0.0.1", port_of(kit.hub_url), bind="127.0.0.2") as proxy:
        with pytest.raises(PeerNotTrusted, match='not for "127.0.0.2"'):
            async with connect(Target("127.0.0.2", proxy.port, "/"), tls=files.context(), limit_bytes=1):
                pass


def test_a_renewal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    files.key.write_text("old key")
    files.cert.write_text("old cert")
    (tmp_path / "node.key.next").write_text("new key")
    files.recover()
    assert files.key.read_text() == "old key"
    (tmp_path / "node.crt.next").write_text("new cert")
    files.recover()
    assert (files.key.read_text(), files.cert.read_text()) == ("new key", "new cert")


def _patch(resource: str, content: object) -> Envelope:
    return Envelope("", "edged", "meta", "patch", resource, content)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> list[object]:
    """The chain that the server receives, from a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
    ]
    waiting = set(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.discard(end)
    chain: list[object] = ends[0]._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return chain


async def test_dials_at_least_every_five_seconds_in_a_short_outage(files: CertificateFiles) -> None:
    clock, dials = VirtualClock(), 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dials
        dials += 1
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    link = DialledLink([server.sockets[0].getsockname()], node=NODE, files=files, clock=clock)
    async with server, Supervisor("test") as supervisor:
        supervisor.run("link", link.run())
        for _ in range(100):
            await clock.wait_sleepers(1)
            await clock.advance(5)
    assert dials >= 100
