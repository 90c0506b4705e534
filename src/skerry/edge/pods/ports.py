"""What the pod duty needs of the agent: the node's objects, a durable way up, tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from skerry.api.gvk import Object
from skerry.runtime.ports import DeviceGrant
from skerry.wire.kubeedge.envelope import Envelope


class ObjectChange(Protocol):
    """One committed change of an object: ``edge.store.objects.Change`` as it is."""

    @property
    def key(self) -> str:
        """``<namespace>/<type>/<name>``."""

    @property
    def type(self) -> str:
        """Such as ``pod``."""

    @property
    def old(self) -> Object | None:
        """None when it was not there."""

    @property
    def new(self) -> Object | None:
        """None when it was removed."""


class NodeObjects(Protocol):
    """The objects on this node: ``edge.store.objects.EdgeObjects`` as it is."""

    def list(self, kind: str) -> dict[str, Object]:
        """Every object of a type, by key."""

    def get(self, key: str) -> Object | None:
        """One object."""

    def subscribe(self, handler: Callable[[ObjectChange], None]) -> None:
        """Tell of every change after its commit. ``handler`` must not block."""


class Outbox(Protocol):
    """The durable queue to the cloud: ``edge.store.outbox.EdgeOutbox`` as it is."""

    async def leave(self, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        """Returns after the commit; a newer envelope of a key replaces the older."""

    async def drop(self, key: str) -> None:
        """Forget what waits under a key."""


class Images(Protocol):
    """Images for containers: ``edge.images.keeper.ImageKeeper`` as it is."""

    async def reference(
        self,
        image: str,
        policy: str,
        secrets: Callable[[], Awaitable[Sequence[dict[str, object]]]],
        tell: Callable[[str, str, bool], Awaitable[None]],
    ) -> str:
        """What to create a container with; ``tell`` takes (reason, message, is a warning). Raises ``EngineError``."""


class TokenKeeper(Protocol):
    """Service account tokens; also ``runtime.volumes.Tokens``."""

    async def forget(self, pod_uid: str) -> None:
        """Remove the tokens of a pod that is gone."""


class PodDevices(Protocol):
    """Devices of the node for pods: ``edge.plugins.desk.DeviceDesk`` as it is."""

    async def allot(self, pod: Object) -> None:
        """Choose devices for every container. Raises ``EngineError``; ``PodUnfit`` when the pod has to fail."""

    async def grant(self, pod: Object, container: str) -> DeviceGrant:
        """What a container that is about to start gets. Raises ``EngineError``."""

    async def forget(self, uid: str) -> None:
        """Free the devices of a pod that is gone."""


class NoDevices:
    """``PodDevices`` of a node without device plugins."""

    async def allot(self, pod: Object) -> None:
        """Nothing to choose."""

    async def grant(self, pod: Object, container: str) -> DeviceGrant:
        """Nothing to get."""
        return DeviceGrant()

    async def forget(self, uid: str) -> None:
        """Nothing to free."""
