"""The device plugin parts of the agent; loaded only where ``devicePlugins`` names a directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.edge_duties import NodePods
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.sqlite import Database
from skerry.edge.plugins.desk import DeviceDesk
from skerry.edge.plugins.registrar import Registrar
from skerry.edge.pods.ports import PodDevices
from skerry.edge.resources.admission import has_ended
from skerry.edge.store.allotments import Allotments
from skerry.edge.store.objects import EdgeObjects

_KNOWN = "device-resources"


class PluginParts:
    """Builds and runs the device plugin duty."""

    def __init__(self, config: EdgeConfig, *, database: Database, objects: EdgeObjects, clock: Clock) -> None:
        self._objects = objects
        book = Allotments(database)
        text = objects.fact(_KNOWN)
        self._remembered: frozenset[str] = frozenset(json.loads(text) if text else ()) | book.resources()
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._pods: Callable[[], list[Object]] = list
        self._registrar = Registrar(
            Path(config.device_plugins), known=self._remembered, changed=self._changed.set, clock=clock
        )
        self._desk = DeviceDesk(self._registrar, book, live=self._live)
        self.desk: PodDevices = self._desk

    async def start(self, stack: AsyncExitStack, supervisor: Supervisor, pods: NodePods) -> None:
        """Serve plugins; call it before the first pod is run.

        Raises:
            ConfigError: the socket cannot be made.
        """
        self._pods = pods.pods
        pods.resources.device_shortage = self._desk.shortage
        await self._registrar.start()
        stack.push_async_callback(self._registrar.aclose)
        supervisor.keep("device-plugins", self._tell)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when there are other devices."""
        self._listeners.append(listener)

    def amounts(self) -> Mapping[str, tuple[int, int]]:
        """Devices of each resource: how many there are, and how many of them are healthy."""
        return self._registrar.amounts()

    async def _tell(self) -> None:
        """Pass changes on, and remember the names: a node says 0 of what it had, it does not leave it out."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            names = frozenset(self._registrar.names())
            if names != self._remembered:
                self._remembered = names
                await self._objects.remember(_KNOWN, json.dumps(sorted(names)).decode())
            for listener in self._listeners:
                listener()

    def _live(self) -> set[str]:
        return {str(pod["metadata"]["uid"]) for pod in self._pods() if not has_ended(pod)}
