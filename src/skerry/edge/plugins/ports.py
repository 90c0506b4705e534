"""What the device plugin duty needs: plugins to ask, and a place to write down who has what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from skerry.base.errors import Retryable, SkerryError


class PluginRefused(SkerryError):
    """A plugin answered that it will not."""


class PluginAway(SkerryError, Retryable):
    """A plugin does not answer now: it has ended, or not registered yet."""


class Plugin(Protocol):
    """One registered plugin: ``edge.plugins.client.PluginClient`` as it is."""

    @property
    def wants_pre_start(self) -> bool:
        """Whether it is to be told of each container's start."""

    @property
    def devices(self) -> Mapping[str, bool]:
        """Whether each device is healthy, by id, in the plugin's order."""

    async def prefer(self, offered: Sequence[str], sure: Sequence[str], count: int) -> Sequence[str]:
        """Which devices it would rather give; empty when it has no opinion. Raises ``PluginRefused, PluginAway``."""

    async def allocate(self, devices: Sequence[str]) -> dict[str, Any]:
        """How a container gets devices: a ContainerAllocateResponse. Raises ``PluginRefused``, ``PluginAway``."""

    async def pre_start(self, devices: Sequence[str]) -> None:
        """A container with devices is about to start. Raises ``PluginRefused``, ``PluginAway``."""


class Allotted(Protocol):
    """One container's devices of one resource: ``edge.store.allotments.Allotment`` as it is."""

    @property
    def resource(self) -> str:
        """Such as ``vendor.example/sensor``."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Ids."""

    @property
    def answer(self) -> dict[str, Any]:
        """ContainerAllocateResponse."""


class Plugins(Protocol):
    """Everything that plugins offer now, and have offered: ``edge.plugins.registrar.Registrar`` as it is."""

    def names(self) -> Collection[str]:
        """Resources that plugins of this node have offered."""

    def get(self, resource: str) -> Plugin | None:
        """The plugin of a resource; None when there is none now."""
