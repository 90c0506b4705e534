"""How long nodes may keep ConfigMaps and Secrets before asking again: the more nodes there are, the longer.

Source: kubernetes pkg/controller/ttl/ttl_controller.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import NODES, Object
from skerry.api.meta import is_deleting
from skerry.controllers.loop import Loop
from skerry.controllers.objects import annotations_of
from skerry.kube.informer import InformerSet, Key, key_of
from skerry.kube.ports import KubeApi

TTL_NOTE = "node.alpha.kubernetes.io/ttl"
_STEPS = ((100, 0), (500, 15), (1000, 30), (2000, 60))
_LAST_S = 300
_SLACK_SHARE = 0.9
"""A step is taken back only when the count has fallen clearly below it."""


def ttl_s(node_count: int, now_s: int | None = None) -> int:
    """Seconds for a cluster of this size.

    Args:
        node_count: how many nodes there are.
        now_s: what holds at present, None when nothing does.
    """
    wanted = next((seconds for most, seconds in _STEPS if node_count <= most), _LAST_S)
    if now_s is None or wanted >= now_s:
        return wanted
    careful = next((seconds for most, seconds in _STEPS if node_count <= most * _SLACK_SHARE), _LAST_S)
    return min(now_s, careful)


class NodeTtl:
    """Writes the annotation on every node.

    Args:
        api: the cluster.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet) -> None:
        self._api = api
        self._nodes = informers.of(NODES)
        self._ttl_s: int | None = None
        self._loop: Loop[Key] = Loop("node-ttl", self._sync, informers=(self._nodes,))
        self._nodes.on_event(self._changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        """A node that comes is looked at; all are when their number asks for another value."""
        if kind == "MODIFIED":
            return
        before, self._ttl_s = self._ttl_s, ttl_s(len(self._nodes), self._ttl_s)
        for node in self._nodes.items() if self._ttl_s != before else [new] if new else []:
            if annotations_of(node).get(TTL_NOTE) != str(self._ttl_s):
                self._loop.add(key_of(node))

    async def _sync(self, key: Key) -> float | None:
        node = self._nodes.get(key[1])
        wanted = str(self._ttl_s or 0)
        if node is None or is_deleting(node) or annotations_of(node).get(TTL_NOTE) == wanted:
            return None
        patch = {"metadata": {"uid": node["metadata"]["uid"], "annotations": {TTL_NOTE: wanted}}}
        await self._api.patch(NODES, key[1], patch)
        return None
