"""What each node has acknowledged, as ObjectSync and ClusterObjectSync. Implements the hub's ``Cursor``.

One object ``<node>.<uid>`` per node and object, in the object's namespace; ``status.objectResourceVersion`` is the last
version acknowledged. Read once, then kept in memory; written behind, newest value only. A crash loses at most the last
second: the node then gets some objects again, and keeps what it has, for it applies by uid and version.

Bound: one entry per node and object; not written yet: as many. Source: kubeedge cloud/pkg/synccontroller (v1.23).
"""

from __future__ import annotations

import asyncio
import contextlib

from skerry.api.gvk import CLUSTEROBJECTSYNCS, OBJECTSYNCS, Object, Resource
from skerry.api.status import AlreadyExists, ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import Acked, Delivery, NodeName
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

FLUSH_EVERY_S = 1.0
LAZY_EVERY_S = 60.0
_Entry = tuple[NodeName, str]


class SyncRecord:
    """Cursors of all nodes.

    Args:
        api: the cluster.
        clock: time source for the pause between flushes.
    """

    def __init__(self, api: KubeApi, *, clock: Clock | None = None) -> None:
        self._api = api
        self._clock = clock or SystemClock()
        self._held: dict[NodeName, dict[str, Acked]] = {}
        self._written: set[_Entry] = set()
        self._dirty: dict[_Entry, Acked | None] = {}
        self._gone: dict[_Entry, Acked] = {}
        self._lazy: dict[_Entry, Acked | None] = {}
        self._lazy_s = self._clock.monotonic_s()
        self._has_read = False
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()

    async def load(self, node: NodeName) -> dict[str, Acked]:
        """What the node holds, by uid.

        Raises:
            ApiError: the first reading failed.
        """
        async with self._reading:
            if not self._has_read:
                await self._read_all()
                self._has_read = True
        return dict(self._held.get(node, {}))

    def acked(self, node: NodeName, delivery: Delivery, *, can_wait: bool = False) -> None:
        """The node has stored this version, or the removal; written within a second, or a minute if it can wait."""
        held = self._held.setdefault(node, {})
        if delivery.operation == c.OP_DELETE:
            entry = held.pop(delivery.uid, None)
            if entry is None:
                return
            self._gone[(node, delivery.uid)] = entry
            self._dirty[(node, delivery.uid)] = None
        else:
            entry = _entry_of(delivery)
            held[delivery.uid] = entry
            if can_wait:
                self._lazy[(node, delivery.uid)] = entry
                return
            self._dirty[(node, delivery.uid)] = entry
        self._lazy.pop((node, delivery.uid), None)
        self._changed.set()

    def forget_node(self, node: NodeName) -> None:
        """The node was deleted: drop all its cursors."""
        for uid, entry in self._held.pop(node, {}).items():
            self._gone[(node, uid)] = entry
            self._dirty[(node, uid)] = None
            self._lazy.pop((node, uid), None)
        self._changed.set()

    async def run(self) -> None:
        """Write behind, at most once a second; never ends. Run it in a ``Supervisor.keep``."""
        while True:
            await self._changed.wait()
            await self._clock.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet. What fails is tried again at the next flush."""
        self._changed.clear()
        if self._clock.monotonic_s() - self._lazy_s >= LAZY_EVERY_S:
            self._dirty, self._lazy = self._lazy | self._dirty, {}
            self._lazy_s = self._clock.monotonic_s()
        batch, self._dirty = self._dirty, {}
        try:
            while batch:
                key, entry = next(iter(batch.items()))
                await self._write(key, entry)
                del batch[key]
        except ApiError as exc:
            log.warning("sync.cursor_not_written", waiting=len(batch), error=exc.message)
        finally:
            if batch:
                self._dirty = batch | self._dirty
                self._changed.set()

    async def _read_all(self) -> None:
        for resource in (OBJECTSYNCS, CLUSTEROBJECTSYNCS):
            token = ""
            while True:
                page = await self._api.list(resource, limit=500, continue_token=token)
                for obj in page.items:
                    self._take(obj)
                token = page.continue_token
                if not token:
                    break

    def _take(self, obj: Object) -> None:
        node, _, uid = obj["metadata"]["name"].rpartition(".")
        version = (obj.get("status") or {}).get("objectResourceVersion") or "0"
        spec = obj.get("spec") or {}
        entry = Acked(
            uid=uid,
            kind=spec.get("objectKind", ""),
            api_version=spec.get("objectAPIVersion", ""),
            namespace=obj["metadata"].get("namespace") or "",
            name=spec.get("objectName", ""),
            resource_version=version,
        )
        self._written.add((NodeName(node), uid))
        if version != "0":
            self._held.setdefault(NodeName(node), {})[uid] = entry

    async def _write(self, key: _Entry, entry: Acked | None) -> None:
        if entry is None:
            await self._remove(key)
            return
        resource, name = _resource_of(entry), f"{key[0]}.{key[1]}"
        namespace = entry.namespace or None
        if key not in self._written:
            with contextlib.suppress(AlreadyExists):
                await self._api.create(resource, _object_of(entry, name), namespace=namespace)
            self._written.add(key)
        status = {"status": {"objectResourceVersion": entry.resource_version}}
        try:
            await self._api.patch(resource, name, status, namespace=namespace, subresource="status")
        except NotFound:
            # Its namespace is going away, or somebody removed it by hand: made anew with the next version.
            self._written.discard(key)

    async def _remove(self, key: _Entry) -> None:
        gone = self._gone.pop(key, None)
        if gone is None or key not in self._written:
            return
        try:
            await self._api.delete(_resource_of(gone), f"{key[0]}.{key[1]}", namespace=gone.namespace or None)
        except NotFound:
            pass
        except ApiError:
            self._gone[key] = gone
            raise
        self._written.discard(key)


def _resource_of(entry: Acked) -> Resource:
    return OBJECTSYNCS if entry.namespace else CLUSTEROBJECTSYNCS


def _object_of(entry: Acked, name: str) -> Object:
    resource = _resource_of(entry)
    meta = {"name": name} | ({"namespace": entry.namespace} if entry.namespace else {})
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": meta,
        "spec": {
            "objectAPIVersion": entry.api_version,
            "objectKind": entry.kind,
            "objectName": entry.name,
        },
    }


def _entry_of(delivery: Delivery) -> Acked:
    meta = delivery.content.get("metadata") or {}
    return Acked(
        uid=delivery.uid,
        kind=delivery.content.get("kind", ""),
        api_version=delivery.content.get("apiVersion", ""),
        namespace=meta.get("namespace") or "",
        name=meta.get("name", ""),
        resource_version=delivery.resource_version,
    )
