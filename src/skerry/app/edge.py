"""``skerry edge run``: the composition root of the edge agent, top to bottom in start order."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from skerry.api.config.edge import EdgeConfig
from skerry.app import output
from skerry.app.edge_duties import open_devices, open_plugins, open_pull_proxy, shutdown_job, tunnel_job
from skerry.app.edge_node import NodeParts
from skerry.app.edge_pods import SETTLED, PodParts
from skerry.app.edge_settings import NODE_FILE, load_config, read_node
from skerry.app.ending import end_former
from skerry.app.places import socket_directory, split_address
from skerry.app.runtimes import claim_engine, open_runtime, refuse_rivals
from skerry.app.status_file import StatusFile
from skerry.base import json, memory
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import StoreError
from skerry.base.files import DirectoryLock, write_atomic, write_secret
from skerry.base.net.edge_tls import small_tls_buffers
from skerry.base.net.http_edge import EdgeHttpServer
from skerry.base.obs.log import get_log, setup
from skerry.base.obs.metrics import Registry
from skerry.edge.kubelet.server import KubeletServer
from skerry.edge.kubelet.stats import Summary
from skerry.edge.kubelet.streams import Streams
from skerry.edge.link import metrics as link_metrics
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.places import Address, Places
from skerry.edge.node.address import NodeAddress
from skerry.edge.node.events import NodeEvents
from skerry.edge.node.keeper import NodeKeeper
from skerry.edge.resources.budget import remove_old_logs
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.store.rowkey import row_keys
from skerry.edge.store.space import StoreSpace
from skerry.edge.sync.asked import UnusedClaims
from skerry.edge.sync.drain import Drain
from skerry.edge.sync.holdings import Holdings
from skerry.edge.sync.inbox import Inbox
from skerry.edge.sync.remote import ObjectSource, Remote, TokenSource
from skerry.runtime.logs import read_log
from skerry.wire.kubeedge.constants import RESOURCE_CLOUD
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)

RUN_FILE = "run.json"
_ENGINE = "engine"
_API_PORT = 6443
_QUIET_S = 20.0
_STATUS_AT_LEAST_S = 20.0


def main(*, config_file: Path | None, flags: Mapping[str, Any], as_json: bool) -> int:
    """Run until a signal comes. Returns the exit code."""
    config = load_config(config_file, flags)
    setup(level=config.log_level, form=config.log_format)
    joined = read_node(config.data)
    small_tls_buffers()
    with DirectoryLock(config.data):
        return asyncio.run(run_edge(config, joined, as_json=as_json))


async def run_edge(config: EdgeConfig, joined: Mapping[str, Any], *, as_json: bool) -> int:
    """Build the parts, serve, and stop in reverse order."""
    stop = _on_signals()
    async with AsyncExitStack() as stack:
        agent = EdgeAgent(config, joined)
        facts = await agent.start(stack)
        try:
            write_atomic(config.data / RUN_FILE, json.dumps(facts), mode=0o600)
        except OSError as exc:  # a full disk: pods are what counts
            log.warning("agent.run_file_not_written", why=str(exc))
        stack.callback((config.data / RUN_FILE).unlink, missing_ok=True)
        output.emit(facts, as_json=as_json, text=f"edge node {agent.node} serves; data in {config.data}")
        memory.settle()
        await stop.wait()
        log.info("agent.stopping", stop_pods=config.stop_pods)
        if config.stop_pods:
            await agent.pods.stop_all()
    return 0


class EdgeAgent:
    """Every part of the agent; ``start`` brings them up in order."""

    def __init__(self, config: EdgeConfig, joined: Mapping[str, Any]) -> None:
        self.config = config
        self.node = str(joined["node"])
        self._joined = joined
        self._sockets = socket_directory(config.data)
        self._status = StatusFile(config.data)
        self._clock = SystemClock()
        self._files = CertificateFiles(config.data / "certs")
        self.metrics = Registry()
        self.space = StoreSpace(config.data, clock=self._clock)
        self.space.hold()
        self.database = open_database(config.data, relieve=self._make_room)
        self._keys = row_keys(config.data, wanted=config.store_key)
        codec = SealingCodec(self._keys.key, self._keys.former)
        self.objects = EdgeObjects(self.database, codec=codec, clock=self._clock, keeps_unread=self._keys.is_stopgap)
        self._keys.retire_former()
        self.outbox = EdgeOutbox(self.database, clock=self._clock, is_tight=self.space.is_tight)
        self.places = Places(config.data / NODE_FILE, joined)
        self.link = DialledLink(
            self.places.hubs, node=self.node, files=self._files, clock=self._clock, greeter=Holdings(self.objects)
        )
        self.remote = Remote(self.link)
        self.drain = Drain(self.outbox, self.link, clock=self._clock)
        link_metrics.register(
            self.metrics, is_up=lambda: self.link.is_up, backlog=self._backlog, now_s=self._clock.now_s
        )
        self.events = NodeEvents(self.outbox, node=self.node, facts=self.objects, clock=self._clock)
        self._address = NodeAddress(config.node_ip, towards=lambda: self.places.hubs[0])

    def _make_room(self) -> bool:
        """On a full disk: the reserve, and without one container logs that nobody writes any more."""
        return self.space.give_up() or remove_old_logs(self.config.data, of_bytes=self.space.size_bytes) > 0

    async def start(self, stack: AsyncExitStack) -> dict[str, Any]:
        """Bring everything up; ``stack`` takes it down again. Returns the facts that say so."""
        stack.callback(self.database.close)
        stack.callback(self._status.keep)
        if self._sockets != self.config.data:
            stack.callback(shutil.rmtree, self._sockets, ignore_errors=True)
        supervisor = await stack.enter_async_context(Supervisor("agent", clock=self._clock))
        self.runtime = await open_runtime(self.config, self._joined)
        refuse_rivals(self.runtime)
        stack.enter_context(claim_engine(self.runtime, self._joined))
        stack.push_async_callback(self.runtime.pods.aclose)
        await end_former(self.objects, self.config, self._joined, self.runtime)
        engine = await self._engine_name()
        self.plugins = open_plugins(
            self.config, runtime=self.runtime.kind, database=self.database, objects=self.objects, clock=self._clock
        )
        proxy = open_pull_proxy(self.config, runtime=self.runtime.kind, clock=self._clock)
        if proxy is not None:
            supervisor.keep("pull-proxy", proxy.run)
        unused = UnusedClaims(self.objects)
        supervisor.keep("unused-claims", unused.run)
        self.pods = PodParts(
            self.config, engine=engine, node=self.node, node_ip=lambda: self._address.known, runtime=self.runtime,
            objects=self.objects, outbox=self.outbox, tell=self.events.tell,
            sources=ObjectSource(self.objects, self.remote, unused=unused),
            tokens=TokenSource(self.objects, self.remote, clock=self._clock),
            is_offline=lambda: not self.link.is_up, ask=self.remote.ask, clock=self._clock,
            api_server=self._api_server(),
            devices=self.plugins.desk, carried=(lambda: proxy.carried_bytes) if proxy is not None else None,
        )  # fmt: skip
        self.devices = open_devices(
            self.config, node=self.node, sockets=self._sockets, database=self.database, objects=self.objects,
            outbox=self.outbox, link=self.link, clock=self._clock,
        )  # fmt: skip
        handlers = {**self.devices.handlers(), RESOURCE_CLOUD: self._learn}
        inbox = Inbox(self.objects, link=self.link, handlers=handlers)
        self.link.on_envelope(inbox.take)
        await self.plugins.start(stack, supervisor, self.pods)
        await self.pods.start(stack, supervisor)
        await self.devices.start(stack)
        kubelet_socket = await self._serve_kubelet(stack)
        keeper = self._start_node(supervisor)
        self._start_tunnel(supervisor, kubelet_socket)
        for name, job in self.runtime.upkeep.items():
            supervisor.keep(name, job)
        supervisor.keep("reserve", self.space.run)
        supervisor.keep("drain", self.drain.run)
        supervisor.keep("outbox", self.outbox.run)
        supervisor.keep("link", self.link.run)
        supervisor.keep("certificate", self._keep_certificate)
        supervisor.keep("status-file", self._tell_status)
        supervisor.keep("memory", lambda: memory.keep_settled(self._clock))
        supervisor.detach("settle", self._settle(keeper))
        return {
            "ready": True,
            "node": self.node,
            "pids": {"edge": os.getpid()},
            "runtime": self.runtime.kind,
            "data": str(self.config.data),
            "sockets": {"kubelet": str(kubelet_socket), "dmi": str(self.devices.dmi_socket or "")},
        }

    def _api_server(self) -> Callable[[], Address | None]:
        """Where pods find the API server: as configured, else as the cloud has told."""
        if not self.config.api_server:
            return lambda: self.places.api
        configured = split_address(self.config.api_server, _API_PORT)
        return lambda: configured

    def _backlog(self) -> link_metrics.Backlog:
        return link_metrics.Backlog(self.outbox.depth(), self.outbox.oldest_s() or 0.0, self.outbox.dropped)

    async def _serve_kubelet(self, stack: AsyncExitStack) -> Path:
        token_file = self.config.data / "kubelet.token"
        if not token_file.exists():
            write_secret(token_file, secrets.token_urlsafe(32).encode())
        server = KubeletServer(
            self.pods.node_pods,
            read_log=read_log,
            token=token_file.read_text().strip(),
            clock=self._clock,
            metrics=self.metrics,
            streams=Streams(self.pods.node_pods, self.runtime.io),
            summary=Summary(
                self.node, read_node=self.pods.resources.usage, observe=self.runtime.pods.observe,
                stats=self.runtime.pods.stats, clock=self._clock,
            ),
        )  # fmt: skip
        door = EdgeHttpServer(server.handle, name="kubelet")
        stack.push_async_callback(door.aclose)
        path = self._sockets / "kubelet.sock"
        await door.listen_unix(path)
        if self.config.kubelet_port:
            await door.listen_tcp("127.0.0.1", self.config.kubelet_port)
        return path

    async def _engine_name(self) -> str:
        """Prefix of container ids; remembered, for an engine that comes up after the agent."""
        name = (await self.runtime.describe())[0].partition("://")[0]
        if name and name != self.objects.fact(_ENGINE):
            try:
                await self.objects.remember(_ENGINE, name)
            except StoreError as exc:  # a full disk; the next start remembers it
                log.warning("engine.not_remembered", why=str(exc))
        return name or self.objects.fact(_ENGINE) or ("containerd" if self.runtime.kind == "cri" else "process")

    async def _settle(self, keeper: NodeKeeper) -> None:
        """Find out when a new store holds all that belongs to this node: registered, and a while nothing new came."""
        if self.objects.fact(SETTLED):
            return
        changed_s = self._clock.monotonic_s()

        def changed(_: object = None) -> None:
            nonlocal changed_s
            changed_s = self._clock.monotonic_s()

        self.objects.subscribe(changed)
        self.link.on_state(changed)
        while not keeper.is_registered or self._clock.monotonic_s() - changed_s < _QUIET_S:
            await self._clock.sleep(1.0)
        await self.objects.remember(SETTLED, "yes")
        log.info("store.settled", objects=self.objects.count())

    def _start_node(self, supervisor: Supervisor) -> NodeKeeper:
        parts = NodeParts(
            self.config, node=self.node, address=self._address.now, runtime=self.runtime, resources=self.pods.resources,
            remote=self.remote, events=self.events, extended=self.plugins.amounts, clock=self._clock,
        )  # fmt: skip
        self.plugins.on_change(parts.keeper.look)
        self.pods.resources.pressure_changed = parts.keeper.look
        job = shutdown_job(
            self.config, pods=self.pods, is_offline=lambda: not self.link.is_up, changed=parts.keeper.look,
            tell=self.events.tell, clock=self._clock,
        )  # fmt: skip
        if job is not None:
            supervisor.keep("shutdown", job)

        def changed(is_up: bool) -> None:
            if is_up:
                parts.keeper.reconnected()
                self.pods.reconnected()

        self.link.on_state(changed)
        parts.start(supervisor)
        return parts.keeper

    def _start_tunnel(self, supervisor: Supervisor, kubelet_socket: Path) -> None:
        job = tunnel_job(
            self.config, node=self.node, address=lambda: self._address.known, places=self.places, files=self._files,
            kubelet_socket=kubelet_socket, clock=self._clock,
        )  # fmt: skip
        if job is not None:
            supervisor.keep("tunnel", job)

    async def _keep_certificate(self) -> None:
        await self.link.keep_certificate(lambda: self.places.joins)

    async def _learn(self, envelope: Envelope) -> None:
        """News of the cloud about itself: ``cloud/join/bulletin.py``."""
        content = envelope.content if isinstance(envelope.content, dict) else {}
        if self.places.learn(content):
            self.link.use_addresses(self.places.hubs)
        if self._files.trust(str(content.get("authorities") or "").encode()):
            self.link.forget_servers()
            log.info("cloud.authorities_learnt")
        if content.get("renew") is True:
            self.link.renew_soon()

    async def _tell_status(self) -> None:
        """Keep a file for ``skerry edge status``, which must work with the agent busy and the cloud gone.

        Written when something changed, else seldom.
        """
        told, told_s = b"", 0.0
        while True:
            facts = {
                "node": self.node, "pid": os.getpid(), "link_up": self.link.is_up,
                "down_since_s": self.link.down_since_s, "why": self.link.why_down, "waiting": self.outbox.depth(),
                "oldest_waiting_s": self.outbox.oldest_s(), "dropped": self.outbox.dropped,
                "runtime": self.runtime.kind, "readings": self.devices.counts(), "devices": self.devices.values(),
                "pods": self.pods.summary(), "store_key": self._keys.source,
            }  # fmt: skip
            now, now_s = json.dumps(facts), self._clock.monotonic_s()
            if now != told or now_s - told_s >= _STATUS_AT_LEAST_S:
                told, told_s = now, now_s
                text = json.dumps(facts | {"written_s": self._clock.now_s()})
                self._status.write(text)
            await self._clock.sleep(2.0)


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
