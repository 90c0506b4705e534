"""The node parts of the agent: what the machine is, how it is, and who tells the cloud."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from skerry.api.config.edge import EdgeConfig
from skerry.app.edge_resources import ResourceParts
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.edge.link.manifest import Manifest
from skerry.edge.node import machine
from skerry.edge.node.events import NodeEvents
from skerry.edge.node.keeper import NodeKeeper
from skerry.edge.node.podnet import PodNetwork
from skerry.edge.node.status import Vitals, node_images, taint
from skerry.edge.resources.amounts import written
from skerry.edge.sync.remote import Remote
from skerry.runtime.ports import EngineError

log = get_log(__name__)

_IMAGES_EVERY_S = 60.0


class NodeParts:
    """Builds and runs the node duty.

    Raises:
        ConfigError: a taint in the configuration is none.
    """

    def __init__(
        self,
        config: EdgeConfig,
        *,
        node: str,
        address: Callable[[], Awaitable[str]],
        runtime: OpenRuntime,
        resources: ResourceParts,
        remote: Remote,
        events: NodeEvents,
        extended: Callable[[], Mapping[str, tuple[int, int]]],
        clock: Clock,
    ) -> None:
        self._extended = extended
        self._address = address
        self._runtime = runtime
        self._resources = resources
        self._clock = clock
        self._images: Sequence[Mapping[str, Any]] = ()
        self._images_at_s = -_IMAGES_EVERY_S
        facts = machine.read_machine(
            node, labels=config.labels, taints=[taint(text) for text in config.taints],
            capacity=written(resources.capacity), allocatable=written(resources.allocatable),
        )  # fmt: skip
        self._network = None
        if runtime.network is not None and os.geteuid() == 0:
            self._network = PodNetwork(
                node, remote=remote, places=runtime.network, made=Manifest(config.data).add,
                has_masquerade=shutil.which("iptables") is not None, clock=clock,
            )  # fmt: skip
        self.keeper = NodeKeeper(facts, remote=remote, read_vitals=self._vitals, events=events, clock=clock)
        self._announce = partial(events.started, facts.boot_id)

    def start(self, supervisor: Supervisor) -> None:
        """Say that the agent has started; register, report, renew the lease."""
        supervisor.detach("node-started", self._announce())
        supervisor.keep("node-status", self.keeper.run_status)
        supervisor.keep("node-lease", self.keeper.run_lease)
        if self._network is not None:
            supervisor.keep("pod-network", self._network.run)

    async def _vitals(self) -> Vitals:
        name, why = await self._runtime.describe()
        return Vitals(
            address=await self._address(), runtime=name, runtime_message=why, notes=self._runtime.notes,
            pressures=await self._resources.pressures(), extended=self._extended(),
            images=await self._node_images() if name else (), is_shutting_down=self._resources.is_shutting_down(),
        )  # fmt: skip

    async def _node_images(self) -> Sequence[Mapping[str, Any]]:
        """The largest images, asked for once a minute."""
        now_s = self._clock.monotonic_s()
        if now_s - self._images_at_s >= _IMAGES_EVERY_S:
            self._images_at_s = now_s
            try:
                self._images = node_images(await self._runtime.images.list())
            except EngineError as exc:
                log.debug("node.images_unknown", why=str(exc))
        return self._images
