"""Renews the Leases of connected Skerry nodes, whose pings stand for heartbeats (feature ``lease``).

A node that is not heard any more is not renewed, also while its connection has not been given up yet.
Bound: one entry per connected node; writes of at most ``WORKERS`` nodes at once.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime

from skerry.api.gvk import LEASES, Object
from skerry.api.status import AlreadyExists, ApiError, NotFound
from skerry.base.aio.clock import Clock
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import NodeLink, NodeName
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge.peers import LEASE, PING_EVERY_S

log = get_log(__name__)

NAMESPACE = "kube-node-lease"
DURATION_S = 40
RENEW_EVERY_S = 30.0
"""Nodes count as gone 40 to 50 s after their last renewal. Each costs a request: most of what an idle node costs us."""
HEARD_S = PING_EVERY_S + 5.0
LOOK_AGAIN_S = 5.0
"""A ping that is only late must not cost a whole turn: the Lease would run out before the next one."""
WORKERS = 8
TOGETHER_S = 0.25
"""Those that are due within so long are renewed together, which costs less than one by one."""


class LeaseKeeper:
    """One per cloud process.

    Args:
        api: the cluster.
        last_seen_s: when a node was last heard, wall-clock seconds; 0 without a session.
        clock: time source.
    """

    def __init__(self, api: KubeApi, *, last_seen_s: Callable[[NodeName], float], clock: Clock) -> None:
        self._api = api
        self._last_seen_s = last_seen_s
        self._clock = clock
        self._sessions: dict[NodeName, int] = {}
        self._due: list[tuple[float, int, NodeName]] = []
        self._count = 0
        self._queue: KeyedQueue[NodeName, None] | None = None
        self._has_some = asyncio.Event()

    def connected(self, link: NodeLink) -> None:
        """A node has come; its Lease is renewed at once, and from now on."""
        if LEASE in link.features:
            self._count += 1
            self._sessions[link.node] = self._count
            heapq.heappush(self._due, (self._clock.monotonic_s() + RENEW_EVERY_S, self._count, link.node))
            if self._queue is not None:
                self._queue.put(link.node, None)
            self._has_some.set()

    def disconnected(self, link: NodeLink) -> None:
        """A node has left."""
        if not self._last_seen_s(link.node):
            self._sessions.pop(link.node, None)

    async def run(self) -> None:
        """Renew what is due; never ends."""
        queue = self._queue = KeyedQueue(
            "leases", self._renew, workers=WORKERS, on_error=self._failed, retry_first_s=LOOK_AGAIN_S,
            retry_cap_s=2 * LOOK_AGAIN_S,
        )  # fmt: skip
        try:
            while True:
                self._put_due(queue)
                if not self._due:
                    self._has_some.clear()
                    await self._has_some.wait()
                # Nobody waits longer than who comes meanwhile, so that one is due later than the first one.
                await self._clock.sleep(max(TOGETHER_S, self._due[0][0] - self._clock.monotonic_s()))
        finally:
            self._queue = None
            await queue.aclose()

    def _put_due(self, queue: KeyedQueue[NodeName, None]) -> None:
        now_s = self._clock.monotonic_s()
        while self._due and self._due[0][0] <= now_s:
            _, session, node = heapq.heappop(self._due)
            if self._sessions.get(node) != session:
                continue
            is_heard = self._is_heard(node)
            heapq.heappush(self._due, (now_s + (RENEW_EVERY_S if is_heard else LOOK_AGAIN_S), session, node))
            if is_heard:
                queue.put(node, None)

    def _is_heard(self, node: NodeName) -> bool:
        return self._clock.now_s() - self._last_seen_s(node) < HEARD_S

    async def _renew(self, node: NodeName, _: None) -> None:
        if not self._is_heard(node):
            return  # it has left since this was wanted
        now = datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": node, "leaseDurationSeconds": DURATION_S, "renewTime": now}
        try:
            await self._api.patch(LEASES, node, {"spec": spec}, namespace=NAMESPACE)
        except NotFound:
            lease: Object = {"metadata": {"name": node, "namespace": NAMESPACE}, "spec": spec}
            try:
                await self._api.create(LEASES, lease, namespace=NAMESPACE)
            except AlreadyExists:
                return

    def _failed(self, node: NodeName, exc: Exception) -> bool:
        """Tried again soon when the cluster did not take it: the next turn would come too late."""
        if not isinstance(exc, ApiError):
            log.exception("lease.failed", exc, node=node)
            return False
        log.warning("lease.not_renewed", node=node, error=exc.message)
        return True
