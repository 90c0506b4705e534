"""A whole cloud side on loopback, for tests: authority, tokens, join server, hub, sync over any ``KubeApi``."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from skerry import __version__
from skerry.api.gvk import NODES
from skerry.base import x509
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.certificates import Credential
from skerry.base.net.http_server import HttpLimits, HttpServer, server_tls
from skerry.base.values import Struct, field
from skerry.base.x509 import LocalCertifier
from skerry.cloud.hub.listener import Hub, HubLimits, system_stamp
from skerry.cloud.hub.ports import RouteEntry
from skerry.cloud.hub.routes import RouteTable
from skerry.cloud.join.bulletin import Bulletin
from skerry.cloud.join.ca import Authority, AuthorityStore, TlsFiles
from skerry.cloud.join.enrolments import Enrolments
from skerry.cloud.join.removal import Removals
from skerry.cloud.join.rollover import AuthorityKeeper
from skerry.cloud.join.server import JoinServer
from skerry.cloud.join.tokens import JoinTokens
from skerry.cloud.sync.applications import Applications
from skerry.cloud.sync.down import Downstream
from skerry.cloud.sync.leases import LeaseKeeper
from skerry.cloud.sync.legacy import LegacyStatuses
from skerry.cloud.sync.node_objects import AsNode, NodeObjects
from skerry.cloud.sync.presence import NodePresence
from skerry.cloud.sync.record import SyncRecord, store_id
from skerry.cloud.sync.up import Upstream
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi
from skerry.testing.hollow import client_tls, enrol
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join


class CloudKit(Struct):
    """The parts and their addresses."""

    api: KubeApi
    folder: Path
    authority: Authority
    tokens: JoinTokens
    enrolments: Enrolments
    join_server: JoinServer
    hub: Hub
    record: SyncRecord
    downstream: Downstream
    store: AuthorityStore
    keeper: AuthorityKeeper
    join_url: str = ""
    hub_url: str = ""
    servers: list[HttpServer] = field(default_factory=list)
    advertise: list[str] = field(default_factory=list)
    credentials: dict[str, Credential] = field(default_factory=dict)

    @property
    def ca_pem(self) -> bytes:
        """The CA that clients trust."""
        return self.authority.ca.cert_pem

    def tls(self, credential: Credential | None = None) -> ssl.SSLContext:
        """A client's TLS."""
        return client_tls(self.folder, credential, self.ca_pem)

    def node_credential(self, node: str) -> Credential:
        """A certificate of our CA for a node, as a Go cloud would have issued it (in no record); one per node."""
        if node not in self.credentials:
            name = join.common_name(node)
            self.credentials[node] = x509.issue_client(self.authority.ca, name, organizations=(c.CERT_ORGANIZATION,))
        return self.credentials[node]

    async def join(self, node: str, token: str = "") -> Credential:
        """Join as an agent would."""
        text = token or (await self.tokens.create(node=node))[1]
        return await enrol(self.join_url, text, node, ca_der=self.authority.ca.cert_der, folder=self.folder)


@asynccontextmanager
async def cloud(
    api: KubeApi,
    folder: Path,
    *,
    clock: Clock | None = None,
    hub_limits: HubLimits | None = None,
    http_limits: HttpLimits | None = None,
    extra_routes: Sequence[RouteEntry] = (),
    folds_leases: bool = True,
    as_node: AsNode | None = None,
    version: str = __version__,
    has_replicas: bool = False,
) -> AsyncIterator[CloudKit]:
    """Everything running on free ports of 127.0.0.1; stopped when left.

    Args:
        folds_leases: renew the Leases of Skerry nodes; without it days of virtual time pass quickly.
        version: that its join server tells.
        has_replicas: others serve the same nodes, over the same ``api``.
    """
    clock, certs = clock or SystemClock(), LocalCertifier()
    store = AuthorityStore(api, ["127.0.0.1", "localhost"], certs=certs, clock=clock)
    authority = await store.load()
    files = authority.write_files(folder / "tls")
    tokens = JoinTokens(api, ca_der=authority.ca.cert_der, clock=clock)
    await tokens.load()
    informers = InformerSet(api)
    enrolments = Enrolments(api, tokens=tokens, informers=informers, clock=clock)
    keeper = AuthorityKeeper(store, authority, clock=clock)
    join_server = JoinServer(
        api,
        authority=lambda: keeper.authority,
        tokens=tokens,
        enrolments=enrolments,
        greeting=lambda: {"version": version},
        certs=certs,
        clock=clock,
    )
    downstream = Downstream(informers)
    upstream = Upstream(api, placement=downstream, stamp=system_stamp, cluster_ca=lambda: "PEM")
    own = NodeObjects(api, as_node=as_node or (lambda node: api), stamp=system_stamp)
    legacy = LegacyStatuses(api, stamp=system_stamp)
    applications = Applications(as_node=as_node or (lambda node: api), is_needed=downstream.needs, stamp=system_stamp)
    history = await store_id(api)
    record = SyncRecord(api, clock=clock, store_id=history)
    presence = NodePresence(api, nodes=informers.of(NODES), clock=clock)
    ports: dict[str, int] = {}
    hub = Hub(
        routes=RouteTable(
            system_stamp,
            [*upstream.routes(), *own.routes(), *legacy.routes(), *applications.routes(), *extra_routes],
        ),
        gate=enrolments,
        cursor=record,
        resync=downstream,
        presence=presence,
        limits=hub_limits,
        clock=clock,
        store_id=history,
    )
    upstream.start(hub)
    legacy.start(hub.send)
    applications.start(hub)
    kit = CloudKit(api, folder, authority, tokens, enrolments, join_server, hub, record, downstream, store, keeper)
    bulletin = Bulletin(
        hub, authority=lambda: keeper.authority, enrolments=enrolments, ports=ports, advertise=lambda: kit.advertise
    )
    if has_replicas:
        record.follow(informers)
        record.on_heard(hub.learn)
        presence.on_disconnected(lambda link: record.left(link.node))
    presence.on_connected(bulletin.tell)
    leases = LeaseKeeper(api, last_seen_s=hub.last_seen_s, clock=clock)
    presence.on_connected(leases.connected)
    presence.on_disconnected(leases.disconnected)
    presence.on_connected(applications.connected)
    join_http = HttpServer(join_server.handle, name="join", limits=http_limits)
    hub_http = HttpServer(hub.handle, name="hub", limits=http_limits)
    kit.servers = [join_http, hub_http]
    async with Supervisor("cloudkit") as supervisor:
        supervisor.keep("informers", informers.run)
        supervisor.keep("cursor", record.run)
        await downstream.wait_synced()
        downstream.start(hub)

        def authority_changed(now: Authority) -> None:
            kit.authority = now
            files = now.write_files(folder / "tls")
            tokens.pin(now.ca.cert_der)
            join_http.use_tls(_tls(files))
            hub_http.use_tls(_tls(files, require_client=True))
            bulletin.tell_all()

        keeper.on_change(authority_changed)
        keeper.follow(informers)
        if folds_leases:
            supervisor.keep("leases", leases.run)
        supervisor.keep("authority", keeper.run)
        supervisor.keep("removed-nodes", Removals(api, enrolments=enrolments, informers=informers).run)
        try:
            ports["join"] = await join_http.listen("127.0.0.1", 0, tls=_tls(files))
            kit.join_url = f"https://127.0.0.1:{ports['join']}"
            ports["hub"] = ports["tunnel"] = await hub_http.listen("127.0.0.1", 0, tls=_tls(files, require_client=True))
            kit.hub_url = f"wss://127.0.0.1:{ports['hub']}"
            yield kit
        finally:
            await applications.aclose()
            for server in kit.servers:
                await server.aclose()
            await record.aclose()


def _tls(files: TlsFiles, *, require_client: bool = False) -> ssl.SSLContext:
    return server_tls(
        cert_file=files.cert_file, key_file=files.key_file, client_ca_file=files.ca_file,
        require_client=require_client, check_client_dates=False,
    )  # fmt: skip
