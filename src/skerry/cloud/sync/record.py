"""What each node has acknowledged, as ObjectSync and ClusterObjectSync. Implements the hub's ``Cursor``.

One object ``<node>.<uid>`` per node and object, in the object's namespace; ``status.objectResourceVersion`` is the last
version acknowledged. Read once, then kept in memory; written behind, newest value only. A crash loses at most the last
second: the node then gets some objects again, and keeps what it has, for it applies by uid and version.

Replicas hear each other's cursors. What a node got at one replica is written at once when it leaves it, and told to the
session that it may have at another one by then.

Bound: one entry per node and object; not written yet: as many. Source: kubeedge cloud/pkg/synccontroller (v1.23).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from skerry.api.gvk import CLUSTEROBJECTSYNCS, CONFIGMAPS, NAMESPACES, OBJECTSYNCS, Object, Resource
from skerry.api.meta import STORE_GENERATION
from skerry.api.status import AlreadyExists, ApiError, Forbidden, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import race, together
from skerry.base.obs.log import get_log
from skerry.base.values import replace
from skerry.cloud.hub.ports import Acked, NodeName
from skerry.kube.informer import Informer, InformerSet
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

FLUSH_EVERY_S = 1.0
LAZY_EVERY_S = 60.0
LAST_WITHIN_S = 5.0
WRITERS = 8
_NEVER = "0"
"""Upstream: created, never acknowledged. The node may hold it or not."""
_MARKER = "skerry-sync"
_Entry = tuple[NodeName, str]


class SyncRecord:
    """Cursors of all nodes.

    Args:
        api: the cluster.
        clock: time source for the pause between flushes.
        store_id: of the cluster's store, as ``store_id`` says it; empty when unknown.
    """

    def __init__(self, api: KubeApi, *, clock: Clock | None = None, store_id: str = "") -> None:
        self._api = api
        self._store_id = store_id
        self._clock = clock or SystemClock()
        self._held: dict[NodeName, dict[str, Acked]] = {}
        self._written: set[_Entry] = set()
        self._dirty: dict[_Entry, Acked | None] = {}
        self._gone: dict[_Entry, Acked] = {}
        self._lazy: dict[_Entry, Acked | None] = {}
        self._lazy_s = self._clock.monotonic_s()
        self._has_read = False
        self._others: list[Informer] = []
        self._listeners: list[Callable[[NodeName, Acked], None]] = []
        self._reading = asyncio.Lock()
        self._flushing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._hurries = asyncio.Event()

    async def load(self, node: NodeName) -> dict[str, Acked]:
        """What the node holds, by uid.

        Raises:
            ApiError: the first reading failed.
        """
        for informer in self._others:
            await informer.wait_synced()
        async with self._reading:
            if not self._has_read:
                await self._read_all()
                await self._check_history()
                self._has_read = True
        return dict(self._held.get(node, {}))

    def follow(self, informers: InformerSet) -> None:
        """Hear what other replicas write."""
        for resource in (OBJECTSYNCS, CLUSTEROBJECTSYNCS):
            informer = informers.of(resource)
            informer.on_event(self._heard)
            self._others.append(informer)

    def on_heard(self, listener: Callable[[NodeName, Acked], None]) -> None:
        """Call ``listener`` with what another replica has brought to a node, or may have; it must not block."""
        self._listeners.append(listener)

    def left(self, node: NodeName) -> None:
        """The node's session is over: it may come back at another replica, so nothing of it waits any longer."""
        for key in [key for key in self._lazy if key[0] == node]:
            self._dirty.setdefault(key, self._lazy.pop(key))
        if any(key[0] == node for key in self._dirty):
            self._changed.set()
            self._hurries.set()

    def acked(self, node: NodeName, entry: Acked, *, can_wait: bool = False) -> None:
        """The node needs nothing of this version any more; written within a second, or a minute if it can wait."""
        key = (node, entry.uid)
        self._held.setdefault(node, {})[entry.uid] = entry
        if can_wait:
            self._lazy[key] = entry
            return
        self._dirty[key] = entry
        self._lazy.pop(key, None)
        self._changed.set()

    def noted(self, node: NodeName, entry: Acked) -> None:
        """As ``acked``, in memory only: the node will say itself what it holds, and in which version."""
        self._held.setdefault(node, {})[entry.uid] = entry

    def removed(self, node: NodeName, uid: str) -> None:
        """The node has removed the object: its cursor goes, too."""
        entry = self._held.get(node, {}).pop(uid, None)
        if entry is None:
            return
        self._gone[(node, uid)] = entry
        self._dirty[(node, uid)] = None
        self._lazy.pop((node, uid), None)
        self._changed.set()

    async def run(self) -> None:
        """Write behind, once a second, or when a node has left; never ends. Run it in a ``Supervisor.keep``."""
        while True:
            await self._changed.wait()
            await race(self._clock.sleep(FLUSH_EVERY_S), self._hurries.wait())
            await self.flush()

    async def aclose(self) -> None:
        """Write everything, also what can wait; gives up after ``LAST_WITHIN_S``. Sessions are over by now."""
        self._dirty, self._lazy = self._lazy | self._dirty, {}
        try:
            async with asyncio.timeout(LAST_WITHIN_S):
                await self.flush()
        except TimeoutError:
            log.warning("sync.cursor_not_written", waiting=len(self._dirty), error="the cluster did not answer in time")

    async def flush(self) -> None:
        """Write what is not written yet. What fails is tried again at the next flush."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        self._changed.clear()
        self._hurries.clear()
        if self._clock.monotonic_s() - self._lazy_s >= LAZY_EVERY_S:
            self._dirty, self._lazy = self._lazy | self._dirty, {}
            self._lazy_s = self._clock.monotonic_s()
        batch, self._dirty = self._dirty, {}
        entries = iter(list(batch.items()))

        async def write() -> None:
            for key, entry in entries:
                await self._write(key, entry)
                del batch[key]

        try:
            await together([write() for _ in range(min(WRITERS, len(batch)))])
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

    async def _check_history(self) -> None:
        """Set every cursor back when the store has another history than the one they were written in."""
        if not self._store_id:
            return
        try:
            marker = await self._api.get(CONFIGMAPS, _MARKER, namespace=c.NAMESPACE)
        except NotFound:
            await self._create_marker()
            return
        if (marker.get("data") or {}).get("store") == self._store_id:
            return
        log.warning("sync.store_restored", hint="every node is compared anew", nodes=len(self._held))
        for node, held in self._held.items():
            for uid, entry in held.items():
                held[uid] = replace(entry, resource_version="")
                await self._write((node, uid), held[uid])
        await self._api.patch(CONFIGMAPS, _MARKER, {"data": {"store": self._store_id}}, namespace=c.NAMESPACE)

    async def _create_marker(self) -> None:
        marker = {"metadata": {"name": _MARKER, "namespace": c.NAMESPACE}, "data": {"store": self._store_id}}
        try:
            await self._api.create(CONFIGMAPS, marker, namespace=c.NAMESPACE)
        except (AlreadyExists, NotFound):
            return  # another replica was first, or nothing has joined yet

    def _heard(self, kind: str, old: Object | None, new: Object | None) -> None:
        """A cursor was written: by another replica, or by us. What is older than what we know says nothing."""
        obj = new or old or {}
        node, _, uid = obj["metadata"]["name"].rpartition(".")
        key = (NodeName(node), uid)
        held = self._held.get(key[0], {}).get(uid)
        if new is None:
            self._held.get(key[0], {}).pop(uid, None)
            self._written.discard(key)
        elif key in self._gone or (held is not None and not _is_later(_version_in(obj), held.resource_version)):
            return
        else:
            self._take(obj)
            for listener in self._listeners:
                listener(key[0], self._held[key[0]][uid])
        self._dirty.pop(key, None)
        self._lazy.pop(key, None)

    def _take(self, obj: Object) -> None:
        node, _, uid = obj["metadata"]["name"].rpartition(".")
        spec = obj.get("spec") or {}
        entry = Acked(
            uid=uid,
            kind=spec.get("objectKind", ""),
            api_version=spec.get("objectAPIVersion", ""),
            namespace=obj["metadata"].get("namespace") or "",
            name=spec.get("objectName", ""),
            resource_version=_version_in(obj),
        )
        self._written.add((NodeName(node), uid))
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
        status = {"status": {"objectResourceVersion": entry.resource_version or _NEVER}}
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


def _version_in(obj: Object) -> str:
    version = str((obj.get("status") or {}).get("objectResourceVersion") or _NEVER)
    return "" if version == _NEVER else version


def _is_later(version: str, known: str) -> bool:
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return bool(version) and not known


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


async def store_id(api: KubeApi) -> str:
    """``<cluster uid>/<generation>`` of the cluster's store; empty when it cannot be known.

    The generation changes when the store was restored from a backup; clusters other than ours have none.
    """
    try:
        namespace = await api.get(NAMESPACES, "kube-system")
    except (NotFound, Forbidden):
        return ""
    meta = namespace["metadata"]
    return f"{meta.get('uid', '')}/{(meta.get('annotations') or {}).get(STORE_GENERATION, '')}"
