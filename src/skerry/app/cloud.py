"""``skerry cloud run``: the composition root of the cloud, top to bottom in start order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from skerry import __version__
from skerry.api import crds
from skerry.api.config import advertise, cloudcore
from skerry.api.config import cloud as kind
from skerry.api.config.cloud import CloudConfig, port_plan
from skerry.api.gvk import (
    CLUSTEROBJECTSYNCS,
    DEVICEMODELS,
    DEVICES,
    ENROLMENTS,
    LEASES,
    NODES,
    OBJECTSYNCS,
    Resource,
)
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.apiserver.local import LocalKubeApi
from skerry.app import cluster_backend, output, pki
from skerry.app.backup import DATABASE, ScheduledBackups
from skerry.app.cloud_access import audit_log, token_checks
from skerry.app.cloud_controllers import start_controllers
from skerry.app.config_files import read_any
from skerry.app.live_settings import LiveSettings
from skerry.app.places import cloud_data
from skerry.base import conf, json, memory
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.certifier import ChildCertifier
from skerry.base.errors import ConfigError, Refused
from skerry.base.files import DirectoryLock, lock_holder, make_private_dir, write_atomic
from skerry.base.net.hosts import in_url
from skerry.base.net.http_server import (
    HttpLimits,
    HttpServer,
    PeerCertificate,
    server_tls,
    tune_tls_buffers,
)
from skerry.base.net.listening import check_bindable
from skerry.base.netif import is_loopback
from skerry.base.obs.log import get_log, setup
from skerry.base.obs.metrics import Registry
from skerry.cloud.devices.down import DeviceDown
from skerry.cloud.devices.up import DeviceUp
from skerry.cloud.hub import metrics as hub_metrics
from skerry.cloud.hub.listener import Hub, system_stamp
from skerry.cloud.hub.metrics import NodeState, node_state
from skerry.cloud.hub.ports import Delivery, NodeName, RouteEntry
from skerry.cloud.hub.routes import RouteTable
from skerry.cloud.join.bulletin import Bulletin
from skerry.cloud.join.ca import Authority, AuthorityStore, TlsFiles, host_of
from skerry.cloud.join.enrolments import Enrolments
from skerry.cloud.join.removal import Removals
from skerry.cloud.join.rollover import AuthorityKeeper
from skerry.cloud.join.server import JoinServer
from skerry.cloud.join.tokens import JoinTokens
from skerry.cloud.sync.applications import Applications
from skerry.cloud.sync.down import Downstream
from skerry.cloud.sync.leases import LeaseKeeper
from skerry.cloud.sync.legacy import LegacyStatuses
from skerry.cloud.sync.link_state import LinkStates
from skerry.cloud.sync.node_objects import AsNode, NodeObjects
from skerry.cloud.sync.presence import NodePresence
from skerry.cloud.sync.record import SyncRecord, store_id
from skerry.cloud.sync.silence import SilentNodes
from skerry.cloud.sync.up import Upstream
from skerry.cloud.tunnel.connector import TunnelConnector
from skerry.cloud.tunnel.edge_server import TunnelServer
from skerry.cloud.tunnel.sessions import Tunnels
from skerry.kube.http import HttpKubeApi, Impersonating
from skerry.kube.informer import InformerSet
from skerry.kube.kubeconfig import Credentials
from skerry.kube.leader import Election
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge.constants import CERT_NAME_PREFIX, CERT_ORGANIZATION, NAMESPACE

log = get_log(__name__)

RUN_FILE = "run.json"
PORTS_FILE = "ports.json"
_WILDCARDS = ("", "0.0.0.0", "::")
"""What a server listens on to be reached at every address of its machine."""
KUBECONFIG = "admin.kubeconfig"
LEASE_NAMESPACE = "kube-node-lease"
LEADER = "skerry-cloud-leader"
"""Lease of the replica that does what one does for all."""


def main(*, config_file: Path | None, flags: Mapping[str, Any], as_json: bool) -> int:
    """Run until a signal comes. Returns the exit code."""
    config = load_config(config_file, flags)
    setup(level=config.log_level, form=config.log_format)
    if not lock_holder(config.data):  # else that is what is said
        is_beside = cluster_backend.find(config) is not None
        wanted = {name: port for name, port in port_plan(config.ports).items() if name != "api" or not is_beside}
        check_bindable(config.listen, wanted.values())
    make_private_dir(config.data)
    tune_tls_buffers()
    with DirectoryLock(config.data), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        settings = LiveSettings(config_file, lambda: load_config(config_file, flags))
        return runner.run(run_cloud(config, as_json=as_json, settings=settings))


def load_config(config_file: Path | None, flags: Mapping[str, Any]) -> CloudConfig:
    """Defaults, the file, the environment, the flags."""
    found: dict[str, Any] = {}
    if config_file:
        found = read_any(config_file, kind=kind.KIND, api_version=kind.API_VERSION, table=cloudcore)
    found.setdefault("data", str(cloud_data(flags.get("data"))))
    config = conf.build(
        CloudConfig, file=found, file_name=str(config_file or "defaults"), environment=os.environ,
        prefix=kind.ENVIRONMENT_PREFIX, flags=flags,
    )  # fmt: skip
    try:
        port_plan(config.ports)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    for entry in config.advertise:
        advertise.parse(entry)
    return config


async def run_cloud(config: CloudConfig, *, as_json: bool, settings: LiveSettings | None = None) -> int:
    """Build the parts, serve, and stop in reverse order."""
    started_s = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        facts = await Cloud(config, settings=settings).start(stack)
        facts["took_s"] = round(time.monotonic() - started_s, 2)
        write_atomic(config.data / RUN_FILE, json.dumps(facts), mode=0o600)
        stack.callback((config.data / RUN_FILE).unlink, missing_ok=True)
        output.emit(facts, as_json=as_json, text=_text(facts))
        memory.settle()
        gc.set_threshold(50_000, 20, 50)
        gc.enable()
        await stop.wait()
        log.info("cloud.stopping")
    return 0


class Cloud:
    """Every part of the cloud; ``start`` brings them up in order."""

    def __init__(self, config: CloudConfig, *, settings: LiveSettings | None = None) -> None:
        self.config = config
        self._settings = settings
        self._clock = SystemClock()
        self._ports = _wanted_ports(config)
        self._advertise = config.advertise
        self._certs = ChildCertifier()
        self._readvertise: Callable[[], None] = lambda: None

    async def start(self, stack: AsyncExitStack) -> dict[str, Any]:
        """Bring everything up; ``stack`` takes it down again. Returns the facts that say so."""
        self.metrics = Registry()
        stack.push_async_callback(self._certs.aclose)
        await self._certs.start()
        credentials = cluster_backend.find(self.config)
        facts = await (self._start_beside(stack, credentials) if credentials else self._start_embedded(stack))
        if self._settings is not None:
            settings, config = self._settings, self.config
            settings.on_change(self._reconfigure)
            supervisor = await stack.enter_async_context(Supervisor("settings", clock=self._clock))
            supervisor.keep("watch", lambda: settings.run(config, self._clock))
        write_atomic(self.config.data / PORTS_FILE, json.dumps(self._ports))
        return facts

    async def _start_beside(self, stack: AsyncExitStack, credentials: Credentials) -> dict[str, Any]:
        """Over a cluster that somebody else runs: its API server, its controllers."""
        config = self.config
        del self._ports["api"]
        cluster = await cluster_backend.open_cluster(credentials, config)
        stack.push_async_callback(cluster.transport.aclose)
        supervisor = await stack.enter_async_context(Supervisor("cloud", clock=self._clock))
        informers = InformerSet(
            cluster.api, clock=self._clock, packed=(NODES, ENROLMENTS, OBJECTSYNCS, CLUSTEROBJECTSYNCS)
        )
        supervisor.keep("informers", informers.run)
        hosts = reachable_hosts(config.advertise, config.listen)
        tunnels = Tunnels(clock=self._clock)

        def as_node(node: NodeName) -> KubeApi:
            name = CERT_NAME_PREFIX + node
            return HttpKubeApi(Impersonating(cluster.transport, user=name, group=CERT_ORGANIZATION))

        root_ca = credentials.ca_pem
        await self._start_edge_side(stack, supervisor, cluster.api, as_node, informers, tunnels, hosts, root_ca)
        return self._facts(hosts, kubeconfig=cluster.kubeconfig) | {"cluster": credentials.server}

    def _facts(self, hosts: Sequence[str], *, kubeconfig: Path | None) -> dict[str, Any]:
        host = in_url(self._own_host())
        schemes = {"api": "https", "hub": "wss", "join": "https", "tunnel": "wss"}
        return {
            "ready": True, "kubeconfig": str(kubeconfig or ""), "pids": {"cloud": os.getpid()},
            "data": str(self.config.data), "advertise": list(self._advertise) or [_first_address(hosts)],
            "joins": self._joins(hosts),
            "endpoints": {name: f"{schemes[name]}://{host}:{port}" for name, port in self._ports.items()},
        }  # fmt: skip

    def _own_host(self) -> str:
        listen = self.config.listen
        return "127.0.0.1" if listen in (*_WILDCARDS, "127.0.0.1", "localhost") else listen

    async def _start_embedded(self, stack: AsyncExitStack) -> dict[str, Any]:
        """With our own API server and control loops."""
        config = self.config
        hosts = reachable_hosts(config.advertise, config.listen)
        keys = pki.ApiFiles(make_private_dir(config.data / "pki"))
        tunnels = Tunnels(clock=self._clock)
        connector = TunnelConnector(tunnels)
        core = ApiCore(
            database=config.data / DATABASE, token_key=keys.token_key, clock=self._clock, crds=crds.crd_manifests(),
            token_checks=token_checks(config, clock=self._clock), event_ttl_s=config.event_ttl_s,
            nodes=connector, certs=self._certs,
        )  # fmt: skip
        await core.start()
        stack.push_async_callback(core.aclose)
        files = await pki.prepare(keys.directory, hosts=hosts, certs=self._certs)  # meanwhile its process has started
        api = LocalKubeApi(core, user=User("skerry-cloud", (MASTERS,)))
        audit = audit_log(config, clock=self._clock)
        if audit is not None:
            audit.start()
            stack.push_async_callback(audit.aclose)
        server = ApiServer(core, nodes=connector, metrics=self.metrics, audit=audit)
        stack.push_async_callback(server.aclose)
        self._ports["api"] = await _listen(
            self._ports["api"],
            lambda port: server.listen(
                config.listen, port, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert
            ),
        )
        await core.publish(_first_address(hosts), self._ports["api"], client_ca_pem=files.ca_cert.read_text())
        supervisor = await stack.enter_async_context(Supervisor("cloud", clock=self._clock))
        informers = InformerSet(api, clock=self._clock)
        supervisor.keep("informers", informers.run)
        if config.backup_every_s > 0:
            directory = config.backup_directory or config.data / "backups"
            backups = ScheduledBackups(
                config.data, directory=directory, every_s=config.backup_every_s, keep=config.backup_keep,
                clock=self._clock,
            )  # fmt: skip
            supervisor.keep("backups", backups.run)
        root_ca = files.ca_cert.read_text()
        recorders = start_controllers(
            supervisor, api, config, informers=informers, served=lambda: _served(core), root_ca_pem=root_ca,
            authority=lambda: pki.authority(files, self._certs), certs=self._certs,
            clock=self._clock,
        )  # fmt: skip
        for recorder in recorders:
            stack.push_async_callback(recorder.aclose)

        def as_node(node: NodeName) -> KubeApi:
            name = CERT_NAME_PREFIX + node
            return LocalKubeApi(core, user=User(name, (CERT_ORGANIZATION, "system:authenticated")))

        await self._start_edge_side(stack, supervisor, api, as_node, informers, tunnels, hosts, root_ca)
        kubeconfig = config.data / KUBECONFIG
        pki.write_kubeconfig(kubeconfig, files, server=f"https://{in_url(self._own_host())}:{self._ports['api']}")
        return self._facts(hosts, kubeconfig=kubeconfig)

    async def _start_edge_side(
        self, stack: AsyncExitStack, supervisor: Supervisor, api: KubeApi, as_node: AsNode, informers: InformerSet,
        tunnels: Tunnels, hosts: Sequence[str], root_ca: str,
    ) -> None:  # fmt: skip
        clock, config = self._clock, self.config
        store = AuthorityStore(api, hosts, certs=self._certs, clock=clock)
        authority = await store.load()
        keeper = AuthorityKeeper(store, authority, clock=clock)
        tls_files = authority.write_files(config.data / "tls")
        tokens = JoinTokens(api, ca_der=authority.ca.cert_der, clock=clock)
        await tokens.load()
        enrolments = Enrolments(api, tokens=tokens, informers=informers, clock=clock)
        join = JoinServer(
            api, authority=lambda: keeper.authority, tokens=tokens, enrolments=enrolments, greeting=self._greeting,
            certs=self._certs, clock=clock,
        )  # fmt: skip
        downstream = Downstream(informers)
        upstream = Upstream(api, placement=downstream, stamp=system_stamp, cluster_ca=lambda: root_ca)
        history = await store_id(api)
        record = SyncRecord(api, clock=clock, store_id=history)
        stack.push_async_callback(record.aclose)
        devices, models = informers.of(DEVICES), informers.of(DEVICEMODELS)
        device_up = DeviceUp(api=api, devices=devices, clock=clock)
        everything = _Everything(downstream)
        own = NodeObjects(api, as_node=as_node, stamp=system_stamp)
        legacy = LegacyStatuses(api, stamp=system_stamp)
        applications = Applications(as_node=as_node, is_needed=downstream.needs, stamp=system_stamp)
        stack.push_async_callback(applications.aclose)
        routes = RouteTable(system_stamp, [*upstream.routes(), *own.routes(), *legacy.routes(), *applications.routes()])
        presence = NodePresence(api, nodes=informers.of(NODES), clock=clock)
        hub = Hub(
            routes=routes, gate=enrolments, cursor=record, resync=everything, presence=presence, clock=clock,
            store_id=history,
        )  # fmt: skip
        bulletin = Bulletin(
            hub, authority=lambda: keeper.authority, enrolments=enrolments, ports=self._ports,
            advertise=lambda: self._advertise,
        )  # fmt: skip
        if "api" in self._ports:
            self._measure(hub, informers, enrolments)
        else:  # others may serve the same nodes
            record.follow(informers)
            record.on_heard(hub.learn)
            presence.on_disconnected(lambda link: record.left(link.node))
        states = LinkStates(
            api, nodes=informers.of(NODES), links=hub.connected, is_connected=hub.is_connected,
            replica=lambda: "" if "api" in self._ports else f"{socket.gethostname()}:{self._ports['hub']}", clock=clock,
        )  # fmt: skip
        presence.on_connected(states.connected)
        presence.on_disconnected(states.disconnected)
        supervisor.keep("link-states", states.run)
        presence.on_connected(bulletin.tell)
        leases_of = LeaseKeeper(api, last_seen_s=hub.last_seen_s, clock=clock)
        presence.on_connected(leases_of.connected)
        presence.on_disconnected(leases_of.disconnected)
        supervisor.keep("leases", leases_of.run)
        presence.on_connected(applications.connected)
        device_down = DeviceDown(devices=devices, models=models, outbox=hub, clock=clock)
        everything.devices = device_down
        for entry in _device_routes(device_up, device_down):
            routes.add(entry)
        upstream.start(hub)
        legacy.start(hub.send)
        applications.start(hub)
        device_up.start()
        device_down.start()
        stack.push_async_callback(device_up.aclose)
        supervisor.keep("cursor", record.run)
        silence = SilentNodes(api, informers, clock=clock)
        if "api" in self._ports:
            supervisor.keep("silence", silence.run)
        else:
            await self._lead(stack, api, silence.run)
        await downstream.wait_synced()
        downstream.start(hub)

        async def judge(node: str, certificate: PeerCertificate) -> str:
            try:
                await enrolments.admit(node, certificate)
            except Refused as exc:
                return exc.explained()
            return ""

        tunnel = TunnelServer(tunnels, judge=judge, watch=enrolments.watch)
        handlers = {"join": (join.handle, False), "hub": (hub.handle, True), "tunnel": (tunnel.handle, True)}
        doors: dict[str, tuple[HttpServer, bool]] = {}
        for name, (handle, require_client) in handlers.items():
            door = HttpServer(handle, name=name, limits=HttpLimits(per_address=2_000))
            doors[name] = door, require_client
            stack.push_async_callback(door.aclose)
            tls = _door_tls(tls_files, require_client=require_client)
            self._ports[name] = await _listen(
                self._ports[name],
                lambda port, door=door, tls=tls: door.listen(config.listen, port, tls=tls),
            )

        def authority_changed(authority: Authority) -> None:
            files = authority.write_files(config.data / "tls")
            tokens.pin(authority.ca.cert_der)
            for door, require_client in doors.values():
                door.use_tls(_door_tls(files, require_client=require_client))
            bulletin.tell_all()

        keeper.on_change(authority_changed)
        keeper.follow(informers)
        supervisor.keep("authority", keeper.run)
        supervisor.keep("authority-timer", keeper.run_timer)
        if config.revoke_deleted_nodes:
            removals = Removals(api, enrolments=enrolments, informers=informers)
            supervisor.keep("removed-nodes", removals.run)

        def readvertise() -> None:
            keeper.set_hosts(reachable_hosts(self._advertise, config.listen))
            bulletin.tell_all()

        self._readvertise = readvertise

    async def _lead(self, stack: AsyncExitStack, api: KubeApi, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A duty that one replica does for all; at our end it stops first, then another may begin."""
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        election = Election(api, LEADER, namespace=NAMESPACE, identity=identity, clock=self._clock)
        stack.push_async_callback(election.release)
        supervisor = await stack.enter_async_context(Supervisor("leader", clock=self._clock))
        supervisor.keep("election", lambda: election.run(duty))

    def _measure(self, hub: Hub, informers: InformerSet, enrolments: Enrolments) -> None:
        """Metrics are served by our API server. Beside a cluster nobody could read them, and to follow every Lease
        costs as much as renewing it."""
        nodes, leases = informers.of(NODES), informers.of(LEASES, namespace=LEASE_NAMESPACE)

        def states() -> list[NodeState]:
            ends_s = {record.node: record.expires_s for record in enrolments.known() if not record.is_revoked}
            named = [(node["metadata"]["name"], node) for node in nodes.items()]
            return [
                node_state(node, leases.get(name, LEASE_NAMESPACE), certificate_ends_s=ends_s.get(name, 0.0))
                for name, node in named
            ]

        hub_metrics.register(self.metrics, links=hub.connected, nodes=states, now_s=self._clock.now_s)

    def _reconfigure(self, config: CloudConfig) -> None:
        """The configuration file says something else: addresses take effect now."""
        if config.advertise != self._advertise:
            self._advertise = config.advertise
            log.info("cloud.advertise_changed", advertise=list(config.advertise))
            self._readvertise()

    def _greeting(self) -> dict[str, Any]:
        places = {
            name: advertise.places(self._advertise, server, self._ports)
            for name, server in (("hubs", "hub"), ("joins", "join"), ("tunnels", "tunnel"))
        }
        return {"version": __version__, "ports": dict(self._ports), "advertise": list(self._advertise), **places}

    def _joins(self, hosts: Sequence[str]) -> list[advertise.Place]:
        """Where nodes join, the best place first: as advertised, else an address of this machine."""
        far = [host for host in hosts if not is_loopback(host)]
        own = far or [self._own_host()]
        return advertise.places(self._advertise, "join", self._ports) or [(own[0], self._ports["join"])]


class _Everything:
    """What a node should hold: the objects of every duty."""

    def __init__(self, objects: Downstream) -> None:
        self._objects = objects
        self.devices: DeviceDown | None = None

    async def desired(self, node: NodeName) -> Sequence[Delivery]:
        found = list(await self._objects.desired(node))
        if self.devices is not None:
            found += await self.devices.desired(node)
        return found


def reachable_hosts(advertised: Sequence[str], listen: str) -> list[str]:
    """Names and addresses for server certificates: those advertised, the one listened on, and this machine's own."""
    named = [host_of(entry) for entry in advertised] + ([] if listen in _WILDCARDS else [listen])
    own = [] if listen in ("127.0.0.1", "localhost") else [socket.gethostname(), *_own_addresses()]
    return list(dict.fromkeys([*named, *own, "127.0.0.1", "localhost"]))


def _own_addresses() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(item[4][0]) for item in found if not str(item[4][0]).startswith("fe80")]


def _first_address(hosts: Sequence[str]) -> str:
    """An IP address among ``hosts``: the API server behind the Service ``kubernetes`` must be one."""
    for host in hosts:
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        except OSError:
            continue
        return host
    return "127.0.0.1"


def _wanted_ports(config: CloudConfig) -> dict[str, int]:
    """The plan; with ``any`` the ports of the last run, so that nodes find the cloud again."""
    plan = port_plan(config.ports)
    try:
        last: dict[str, int] = json.loads((config.data / PORTS_FILE).read_bytes())
    except (OSError, json.JsonError):
        return plan
    return {name: port or int(last.get(name, 0)) for name, port in plan.items()} if config.ports == "any" else plan


async def _listen(port: int, listen: Any) -> int:
    bound: int = await listen(port)
    return bound


def _door_tls(files: TlsFiles, *, require_client: bool) -> ssl.SSLContext:
    """The gate looks at the dates of client certificates, and says what is wrong with them."""
    return server_tls(
        cert_file=files.cert_file, key_file=files.key_file, client_ca_file=files.ca_file,
        require_client=require_client, check_client_dates=False,
    )  # fmt: skip


def _served(core: ApiCore) -> list[Resource]:
    """Every stored resource once, in its preferred version."""
    return list({row.storage: row.resource for row in reversed(list(core.registry)) if row.is_watchable}.values())


def _device_routes(up: DeviceUp, down: DeviceDown) -> list[RouteEntry]:
    return [
        RouteEntry("device/twin/edge_updated", "*", up.handle),
        RouteEntry("device/state/update", "*", up.handle),
        RouteEntry("membership/detail", "*", down.membership_detail),
    ]


def _text(facts: Mapping[str, Any]) -> str:
    lines = [f"  {name:<8} {url}" for name, url in facts["endpoints"].items()]
    return (
        "The cloud serves.\n" + "\n".join(lines) + f"\n  export KUBECONFIG={facts['kubeconfig']}\n"
        f"Add a node: {Path(sys.argv[0]).name} token create --node NAME"
    )
