"""Pods of a node that is not heard say so: the condition ``skerry.dev/NodeSilent``, with the time of the last word.

An edge node that is offline keeps its pods and the status that they had, so that what ``kubectl get pods`` shows of
them is old. The condition goes when the node is Ready again. Nodes that are no edge nodes are left to the cluster.
Bound: one entry per edge node; at most ``WORKERS`` nodes at once.
"""

from __future__ import annotations

import asyncio

from skerry.api.gvk import LEASES, NODES, PODS, Object
from skerry.api.meta import rfc3339
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.obs.log import get_log
from skerry.kube.informer import InformerSet, by_node
from skerry.kube.ports import KubeApi

log = get_log(__name__)

CONDITION = "skerry.dev/NodeSilent"
EDGE_LABEL = "node-role.kubernetes.io/edge"
LEASE_NAMESPACE = "kube-node-lease"
WORKERS = 4


def silence_patch(pod: Object, *, silent_since: str | None, node: str, now: str) -> Object | None:
    """The strategic patch of a pod's status, or None when nothing must change.

    Args:
        silent_since: when the node was last heard, RFC 3339, empty when never; None when the node is heard.
        now: RFC 3339.
    """
    conditions = (pod.get("status") or {}).get("conditions") or ()
    has = any(c.get("type") == CONDITION and c.get("status") == "True" for c in conditions)
    if has == (silent_since is not None):
        return None
    if silent_since is None:
        return {"status": {"conditions": [{"$patch": "delete", "type": CONDITION}]}}
    heard = f"was last heard at {silent_since}" if silent_since else "has never been heard"
    message = f"node {node} {heard}; what is shown of this pod is what the node said until then"
    condition = {
        "type": CONDITION, "status": "True", "reason": "NodeUnreachable", "message": message, "lastTransitionTime": now,
    }  # fmt: skip
    return {"status": {"conditions": [condition]}}


class SilentNodes:
    """Watches nodes and marks their pods.

    Args:
        api: the cluster.
        informers: shared; nodes and pods are asked of it. Leases are read one by one, when their node has fallen
            silent: to follow the Leases of thousands of nodes would cost more than all the rest.
        clock: time source for transition times.
    """

    def __init__(self, api: KubeApi, informers: InformerSet, *, clock: Clock | None = None) -> None:
        self._api = api
        self._clock = clock or SystemClock()
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS, indexes={"node": by_node})
        self._queue: KeyedQueue[str, None] | None = None
        self._nodes.on_event(self._on_node)
        self._pods.on_event(self._on_pod)

    async def run(self) -> None:
        """Work; never ends."""
        for informer in (self._nodes, self._pods):
            await informer.wait_synced()
        queue = self._queue = KeyedQueue("silence", self._mark, workers=WORKERS, on_error=self._failed)
        try:
            for node in self._nodes.items():
                queue.put(node["metadata"]["name"], None)
            await asyncio.Event().wait()
        finally:
            self._queue = None
            await queue.aclose()

    def _on_node(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or is_silent(old) != is_silent(new)):
            self._put(new["metadata"]["name"])

    def _on_pod(self, kind: str, old: Object | None, new: Object | None) -> None:
        """A pod that is bound to, or deleted on, a silent node."""
        name = str(((new or {}).get("spec") or {}).get("nodeName") or "")
        node = self._nodes.get(name) if name else None
        if node is not None and is_silent(node):
            self._put(name)

    def _put(self, node: str) -> None:
        if self._queue is not None:
            self._queue.put(node, None)

    async def _mark(self, name: str, _: None) -> None:
        node = self._nodes.get(name)
        if node is None or EDGE_LABEL not in (node["metadata"].get("labels") or {}):
            return
        since = None
        if is_silent(node):
            since = await self._last_heard(name)
        now = rfc3339(self._clock.now_s())
        for pod in self._pods.by_index("node", name):
            patch = silence_patch(pod, silent_since=since, node=name, now=now)
            if patch is not None:
                await self._patch(pod, patch)

    async def _last_heard(self, node: str) -> str:
        try:
            lease = await self._api.get(LEASES, node, namespace=LEASE_NAMESPACE)
        except NotFound:
            return ""
        return str((lease.get("spec") or {}).get("renewTime") or "")

    async def _patch(self, pod: Object, patch: Object) -> None:
        meta = pod["metadata"]
        try:
            await self._api.patch(
                PODS, meta["name"], {**patch, "metadata": {"uid": meta["uid"]}}, namespace=meta["namespace"],
                patch_type="strategic", subresource="status",
            )  # fmt: skip
        except NotFound:
            return

    @staticmethod
    def _failed(node: str, error: Exception) -> bool:
        if not isinstance(error, ApiError):
            raise error
        log.warning("pods.not_marked", node=node, error=str(error))
        return True


def is_silent(node: Object) -> bool:
    """Whether the cluster has given up hearing the node: Ready is Unknown."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "Unknown" for c in conditions)
