"""The pod parts of the agent: volumes, workers, roster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.edge_resources import ResourceParts
from skerry.app.places import data_root
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.files import make_private_dir
from skerry.edge.images.collector import ImageCollector
from skerry.edge.images.keeper import ImageKeeper
from skerry.edge.images.ledger import ImageLedger
from skerry.edge.pods.classes import RuntimeClasses
from skerry.edge.pods.dns import NodeDns
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.ports import PodDevices
from skerry.edge.pods.resolvconf import PLACES, node_resolver
from skerry.edge.pods.roster import Observer, Roster
from skerry.edge.pods.static import Ask, StaticPods
from skerry.edge.pods.status import NodeView
from skerry.edge.pods.worker import Tools
from skerry.edge.resources.amounts import written
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.sync.events import Tell
from skerry.edge.sync.remote import ObjectSource, TokenSource
from skerry.runtime.volumes import Volumes
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route

SETTLED = "settled"
"""Fact of the store: the cloud has told it all that belongs to this node."""


class PodParts:
    """Builds and runs the pod duty."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        node: str,
        node_ip: Callable[[], str],
        engine: str,
        runtime: OpenRuntime,
        objects: EdgeObjects,
        outbox: EdgeOutbox,
        sources: ObjectSource,
        tokens: TokenSource,
        is_offline: Callable[[], bool],
        ask: Ask,
        tell: Tell,
        api_server: Callable[[], tuple[str, int] | None],
        devices: PodDevices,
        carried: Callable[[], int] | None,
        clock: Clock,
    ) -> None:
        ledger = ImageLedger(objects, directory=config.data, clock=clock)
        credentials = Path(config.registry_credentials or config.data / "registry.json")
        images = ImageKeeper(
            runtime.images, ledger=ledger, credentials=credentials, is_offline=is_offline, clock=clock, carried=carried
        )
        self._collector = ImageCollector(
            runtime.images, ledger=ledger, known=lambda: _images_of(objects), is_offline=is_offline, tell=tell,
            clock=clock, high_percent=config.image_gc_high_percent, low_percent=config.image_gc_low_percent,
        )  # fmt: skip
        own = partial(objects.get, route.build("", c.TYPE_NODE, node))
        self.resources = ResourceParts(config, runtime=runtime, collector=self._collector, node=own, clock=clock)
        observer = Observer(runtime.pods)
        classes = RuntimeClasses(sources, own=config.runtime_handlers, is_answered=sources.is_answered)
        tools = Tools(
            runtime=runtime.pods, io=runtime.io, images=images,
            volumes=Volumes(sources, tokens, own=data_root() / "volumes"),
            objects=objects, tokens=tokens,
            outbox=outbox, events=PodEvents(outbox, node=node, clock=clock), clock=clock,
            node=lambda: NodeView(node_ip(), engine), directory=make_private_dir(config.data / "pods"),
            log_directory=config.data / "pod-logs", observe=observer.pod,
            allocatable=written(self.resources.allocatable),
            dns=lambda: _dns(config),
            classes=classes, api_server=api_server, devices=devices,
            limits_cpu="cpu" in runtime.keeps,
        )  # fmt: skip
        self._roster = Roster(
            node, objects=objects, observer=observer, tools=tools, knows_all=lambda: bool(objects.fact(SETTLED)),
            admit=self.resources.admit,
        )  # fmt: skip
        self._warden = self.resources.watch(self._roster, tell=tell)
        manifests = Path(config.static_pods or config.data / "static-pods")
        self._static = StaticPods(manifests, node=node, keeper=self._roster, objects=objects, ask=ask, clock=clock)

    @property
    def node_pods(self) -> Roster:
        """For the kubelet interface."""
        return self._roster

    async def start(self, stack: AsyncExitStack, supervisor: Supervisor) -> None:
        """Adopt what runs, run what is wanted."""
        self._static.look()  # before the roster ends whatever it does not know
        await self._roster.start()
        supervisor.keep("static-pods", self._static.run)
        supervisor.keep("images", self._collector.run)
        supervisor.keep("warden", self._warden.run)
        supervisor.keep("disk-budget", self.resources.budget.run)
        stack.push_async_callback(self._roster.aclose)

    def pods(self) -> list[Object]:
        """Every pod with its newest status."""
        return list(self._roster.pods())

    def reconnected(self) -> None:
        """A new session with the cloud began."""
        self._roster.reconnected()

    async def stop_all(self) -> None:
        """End every pod of this node."""
        await self._roster.stop_all()

    def summary(self) -> list[dict[str, Any]]:
        """The pods for ``skerry edge status``."""
        return self._roster.summary()


def _images_of(objects: EdgeObjects) -> set[str]:
    """Names of the images of every pod that this node knows."""
    specs = [pod.get("spec") or {} for pod in objects.list("pod").values()]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    found = [c for spec in specs for kind in kinds for c in spec.get(kind) or []]
    return {str(c.get("image") or "") for c in found if isinstance(c, dict)}


def _dns(config: EdgeConfig) -> NodeDns:
    resolver = node_resolver([Path(config.resolv_conf)] if config.resolv_conf else PLACES)
    return NodeDns(resolver, config.cluster_dns, config.cluster_domain)
