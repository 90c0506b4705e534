"""Deleting a Node revokes the node: who removes a machine from the cluster wants it to stay away.

Without this the machine would come back within a second and register again. It is undone by ``skerry node restore``,
or by a join with a new token.
"""

from __future__ import annotations

import asyncio

from skerry.api.gvk import NODES, Object
from skerry.api.status import NotFound
from skerry.base.aio.keyed import KeyedQueue
from skerry.cloud.join.enrolments import Enrolments
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi

REASON = "its Node was deleted from the cluster"


class Removals:
    """Watches for deleted Nodes. Safe on several replicas: all write the same.

    Args:
        api: the cluster.
        enrolments: where revocations go.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, enrolments: Enrolments, informers: InformerSet) -> None:
        self._api = api
        self._enrolments = enrolments
        self._nodes = informers.of(NODES)
        self._queue: KeyedQueue[str, None] | None = None

    async def run(self) -> None:
        """Work; never ends. Nodes that were deleted while no replica ran are not seen."""
        await self._nodes.wait_synced()
        queue = self._queue = KeyedQueue("removed-nodes", self._revoke)
        self._nodes.on_event(self._changed)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._queue = None
            await queue.aclose()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if kind == "DELETED" and old is not None and self._queue is not None:
            self._queue.put(old["metadata"]["name"], None)

    async def _revoke(self, node: str, _: None) -> None:
        try:
            await self._api.get(NODES, node)
        except NotFound:
            if await self._enrolments.get(node) is not None:
                await self._enrolments.revoke(node, reason=REASON)
