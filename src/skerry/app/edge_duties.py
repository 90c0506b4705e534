"""Duties of the agent that may be off, and what stands in their place: a duty that is off is not even loaded.

So the modules of such a duty are imported here, in the function that opens it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.edge_resources import ResourceParts
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import ConfigError
from skerry.base.sqlite import Database
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.places import Places
from skerry.edge.pods.ports import NoDevices, PodDevices
from skerry.edge.pods.roster import Roster
from skerry.edge.pods.static import is_static
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.sync.events import Tell
from skerry.edge.sync.inbox import Handler
from skerry.wire.kubeedge.envelope import Envelope


class NodePods(Protocol):
    """What duties ask of the pod duty."""

    @property
    def resources(self) -> ResourceParts:
        """Where pods are admitted."""

    def pods(self) -> list[Object]:
        """Every pod with its newest status."""


class NodeDuty(Protocol):
    """What the shutdown asks of the pod duty."""

    @property
    def resources(self) -> ResourceParts:
        """Where pods are admitted."""

    @property
    def node_pods(self) -> Roster:
        """Who ends pods."""


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


class DeviceDuty(Protocol):
    """Devices: ``app.edge_devices.DeviceParts``, or ``NoDeviceParts``."""

    dmi_socket: Path | None

    def handlers(self) -> Mapping[str, Handler]:
        """Messages of the cloud that are no objects."""

    async def start(self, stack: AsyncExitStack) -> None:
        """Bring it up."""

    def counts(self) -> dict[str, int]:
        """What became of readings since the start."""

    def values(self) -> dict[str, dict[str, str]]:
        """The newest reported value of each property by device id."""


class NoDeviceParts:
    """A node without devices. What the cloud tells of them is stored, and nobody looks at it."""

    dmi_socket: Path | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """They are taken, so that the cloud does not send them again."""
        return dict.fromkeys(("membership", "membership/detail", "twin"), _ignore)

    async def start(self, stack: AsyncExitStack) -> None:
        """Nothing to bring up."""

    def counts(self) -> dict[str, int]:
        """None."""
        return {}

    def values(self) -> dict[str, dict[str, str]]:
        """None."""
        return {}


class Bus(Protocol):
    """Where device topics go: ``edge.bus.external.ExternalBus``."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to whoever listens."""

    async def run(self) -> None:
        """Stay connected; never ends."""


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


def open_devices(
    config: EdgeConfig, *, node: str, sockets: Path, database: Database, objects: EdgeObjects, outbox: EdgeOutbox,
    link: DialledLink, clock: Clock,
) -> DeviceDuty:  # fmt: skip
    """Devices, unless ``devices`` is off."""
    if not config.devices:
        return NoDeviceParts()
    from skerry.app.edge_devices import DeviceParts

    return DeviceParts(
        config, node=node, sockets=sockets, database=database, objects=objects, outbox=outbox, link=link, clock=clock
    )


def open_bus(
    config: EdgeConfig, *, node: str, routes: Mapping[str, Callable[[str, bytes], Awaitable[None]]], clock: Clock
) -> Bus | None:
    """The MQTT bus where ``mqtt`` names a broker and ``bus`` is on; None else.

    Args:
        routes: what takes the messages of each topic filter.
    """
    if not config.bus or not config.mqtt:
        return None
    from skerry.edge.bus.external import ExternalBus, Route

    host, _, port = config.mqtt.partition(":")
    return ExternalBus(
        host=host, port=int(port or 1883), client_id=f"skerry-{node}",
        routes=[Route(topic, take) for topic, take in routes.items()], clock=clock,
    )  # fmt: skip


class Pulls(Protocol):
    """What caps the rate of pulls: ``edge.images.pullproxy.PullProxy``."""

    carried_bytes: int

    async def run(self) -> None:
        """Serve; never ends."""


def open_pull_proxy(config: EdgeConfig, *, runtime: str, clock: Clock) -> Pulls | None:
    """The proxy for pulls where ``imagePullBytesPerS`` caps their rate; None else.

    Args:
        runtime: cri or process.

    Raises:
        ConfigError: its place is none, or is not on loopback.
    """
    if config.image_pull_bytes_per_s <= 0 or runtime != "cri":
        return None
    from skerry.edge.images.pullproxy import PullProxy

    host, _, port = config.image_pull_proxy.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdecimal():
        raise ConfigError(
            f"imagePullProxy is {config.image_pull_proxy!r}", hint="it serves this machine only: 127.0.0.1:PORT"
        )
    return PullProxy(host.strip("[]"), int(port), bytes_per_s=config.image_pull_bytes_per_s, clock=clock)


def tunnel_job(
    config: EdgeConfig, *, node: str, address: Callable[[], str], places: Places, files: CertificateFiles,
    kubelet_socket: Path, clock: Clock,
) -> Callable[[], Coroutine[Any, Any, None]] | None:  # fmt: skip
    """What keeps the tunnel to the cloud; None where ``tunnel`` is off."""
    if not config.tunnel:
        return None
    from skerry.app.edge_tunnel import TunnelParts

    dialler = TunnelParts(node=node, address=address, places=places, files=files)
    return dialler.client(kubelet_socket, clock=clock).run


def shutdown_job(
    config: EdgeConfig, *, pods: NodeDuty, is_offline: Callable[[], bool], changed: Callable[[], None], tell: Tell,
    clock: Clock,
) -> Callable[[], Coroutine[Any, Any, None]] | None:  # fmt: skip
    """What holds up shutdowns of the machine; None where ``shutdownGraceS`` is 0.

    Raises:
        ConfigError: the share of critical pods is more than the whole.
    """
    if config.shutdown_grace_s <= 0:
        return None
    if not 0 <= config.shutdown_grace_critical_s <= config.shutdown_grace_s:
        raise ConfigError(
            f"shutdownGraceCriticalS is {config.shutdown_grace_critical_s}, of {config.shutdown_grace_s} in all",
            hint="it is a part of shutdownGraceS: give it a smaller number",
        )
    from skerry.edge.node.logind import Logind
    from skerry.edge.node.shutdown import NodeShutdown

    shutdown = NodeShutdown(
        Logind(Path(config.system_bus)), pods.node_pods, grace_s=config.shutdown_grace_s,
        critical_s=config.shutdown_grace_critical_s, returns=lambda pod: is_static(pod) or is_offline(),
        changed=changed, tell=tell, clock=clock,
    )  # fmt: skip
    pods.resources.is_shutting_down = lambda: shutdown.is_shutting_down
    return shutdown.run


async def _ignore(envelope: Envelope) -> None:
    """Nobody asked."""
