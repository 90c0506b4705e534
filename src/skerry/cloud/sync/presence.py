"""Sessions as the cluster sees them: the condition ``IdentityClash`` on a Node. Implements the hub's ``Presence``.

Whether a node is Ready is not decided here: its lease says that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from skerry.api.gvk import NODES, Object
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import Clone, NodeLink, NodeName
from skerry.kube.informer import Informer
from skerry.kube.ports import KubeApi

log = get_log(__name__)

CONDITION = "IdentityClash"


class NodePresence:
    """Writes what the hub sees of a node into its conditions.

    Args:
        api: the cluster.
        nodes: their cache.
        clock: time source for transition times.
    """

    def __init__(self, api: KubeApi, *, nodes: Informer, clock: Clock | None = None) -> None:
        self._api = api
        self._nodes = nodes
        self._clock = clock or SystemClock()
        self._listeners: list[Callable[[NodeLink], None]] = []
        self._leavers: list[Callable[[NodeLink], None]] = []

    def on_connected(self, listener: Callable[[NodeLink], None]) -> None:
        """Call ``listener`` when a node has connected; it must not block."""
        self._listeners.append(listener)

    def on_disconnected(self, listener: Callable[[NodeLink], None]) -> None:
        """Call ``listener`` when a node's session has ended; it must not block."""
        self._leavers.append(listener)

    async def connected(self, link: NodeLink) -> None:
        """A node that came in alone has no clash any more."""
        for listener in self._listeners:
            listener(link)
        node = self._nodes.get(link.node)
        if node is not None and _clash_of(node) == "True":
            await self._set(link.node, "False", "OneConnection", "one machine uses this identity")

    async def disconnected(self, link: NodeLink, reason: str) -> None:
        """Nothing to write: the lease will not be renewed."""
        for listener in self._leavers:
            listener(link)

    async def cloned(self, node: NodeName, clone: Clone) -> None:
        """Two living machines with one identity."""
        await self._set(
            node,
            "True",
            "TwoConnections",
            f"connected from {clone.first_address} (certificate {clone.first_fingerprint[:16]}), and a second machine "
            f"at {clone.second_address} (certificate {clone.second_fingerprint[:16]}) was refused; "
            "join the second one under its own name",
        )

    async def _set(self, node: NodeName, status: str, reason: str, message: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now_s()))
        condition = {
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now, "lastHeartbeatTime": now,
        }  # fmt: skip
        patch = {"status": {"conditions": [condition]}}
        try:
            await self._api.patch(NODES, node, patch, patch_type="strategic", subresource="status")
        except NotFound:
            return
        except ApiError as exc:
            log.warning("node.condition_not_written", node=node, condition=CONDITION, error=exc.message)


def _clash_of(node: Object) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((str(c.get("status")) for c in conditions if c.get("type") == CONDITION), "")
