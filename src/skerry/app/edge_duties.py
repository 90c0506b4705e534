"""Duties of the agent that may be off, and what stands in their place: a duty that is off is not even loaded.

So the modules of such a duty are imported here, in the function that opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.edge_resources import ResourceParts
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import ConfigError
from skerry.base.sqlite import Database
from skerry.edge.pods.ports import NoDevices, PodDevices
from skerry.edge.store.objects import EdgeObjects


class NodePods(Protocol):
    """What duties ask of the pod duty."""

    @property
    def resources(self) -> ResourceParts:
        """Where pods are admitted."""

    def pods(self) -> list[Object]:
        """Every pod with its newest status."""


class PluginDuty(Protocol):
    """Device plugins: ``app.edge_plugins.PluginParts``, or ``NoPlugins``."""

    @property
    def desk(self) -> PodDevices:
        """Gives devices to pods."""

    async def start(self, stack: AsyncExitStack, supervisor: Supervisor, pods: NodePods) -> None:
        """Serve plugins. Raises ``ConfigError``."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when there are other devices."""

    def amounts(self) -> Mapping[str, tuple[int, int]]:
        """Devices of each resource: how many there are, and how many of them are healthy."""


class NoPlugins:
    """A node that serves no device plugins."""

    def __init__(self) -> None:
        self.desk: PodDevices = NoDevices()

    async def start(self, stack: AsyncExitStack, supervisor: Supervisor, pods: NodePods) -> None:
        """Nothing to serve."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Nothing changes."""

    def amounts(self) -> Mapping[str, tuple[int, int]]:
        """None."""
        return {}


def open_plugins(
    config: EdgeConfig, *, runtime: str, database: Database, objects: EdgeObjects, clock: Clock
) -> PluginDuty:
    """Device plugins where ``devicePlugins`` names a directory.

    Args:
        runtime: cri or process.

    Raises:
        ConfigError: the node's pods are processes, to which plugins cannot give anything.
    """
    if not config.device_plugins:
        return NoPlugins()
    if runtime != "cri":
        raise ConfigError(
            "devicePlugins needs a container engine, and this node runs its pods as processes",
            hint="start containerd and set runtime to cri, or leave devicePlugins empty",
        )
    from skerry.app.edge_plugins import PluginParts

    return PluginParts(config, database=database, objects=objects, clock=clock)
