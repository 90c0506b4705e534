"""A cache of one collection, kept fresh by a reflector; with indexes and handlers.

Handlers are called on the loop, after the cache was changed, and must not block. Objects are shared: nobody may change
them in place. A packed cache holds JSON, without ``managedFields``, and makes an object anew each time it is asked for:
a fifth of the memory, for collections with thousands of objects that are looked at one at a time. A delete that happens
while the connection is broken is told after the next list. Bound: as many objects as the collection has; nothing is
queued here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object, Resource
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.kube.ports import KubeApi, WatchEvent
from skerry.kube.watch import Reflector, Scope

log = get_log(__name__)

Handler = Callable[[str, Object | None, Object | None], None]
"""``(type, old, new)``: ADDED has no old, DELETED has no new; its old is the last state known."""
IndexFunction = Callable[[Object], Iterable[str]]
Key = tuple[str, str]
"""``(namespace, name)``; the namespace of a cluster-wide object is empty."""


def key_of(obj: Object) -> Key:
    """Where the object is found in the cache."""
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta["name"]


def by_node(pod: Object) -> Iterable[str]:
    """Index of pods by the node that they are bound to."""
    node = (pod.get("spec") or {}).get("nodeName")
    return (node,) if node else ()


def by_owner(obj: Object) -> Iterable[str]:
    """Index by the uid of every owner."""
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()]


def by_controller(obj: Object) -> Iterable[str]:
    """Index by the uid of the controlling owner."""
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or () if owner.get("controller")]


def by_namespace(obj: Object) -> Iterable[str]:
    """Index by namespace."""
    return (obj["metadata"].get("namespace") or "",)


class _Index:
    """One index: index key → objects."""

    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self._found: dict[str, dict[Key, Object]] = {}

    def put(self, key: Key, obj: Object) -> None:
        for value in self._function(obj):
            self._found.setdefault(value, {})[key] = obj

    def drop(self, key: Key, obj: Object) -> None:
        for value in self._function(obj):
            found = self._found.get(value)
            if found is not None and found.pop(key, None) is not None and not found:
                del self._found[value]

    def get(self, value: str) -> list[Object]:
        return list(self._found.get(value, {}).values())


class Informer:
    """Cache of one collection.

    Args:
        api: the cluster.
        resource: what to keep.
        namespace: only this one; None means all.
        label_selector: only what matches.
        field_selector: only what matches.
        indexes: name → function from an object to its index keys.
        name: for logs and task names.
        clock: for delays and ages.
        is_packed: keep JSON instead of objects; no indexes then.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexes: Mapping[str, IndexFunction] | None = None,
        name: str = "",
        clock: Clock | None = None,
        is_packed: bool = False,
    ) -> None:
        self.resource = resource
        self.name = name or resource.group_resource
        self._synced = asyncio.Event()
        self._objects: dict[Key, Any] = {}
        self._pack: Callable[[Object], Any] = _packed if is_packed else _same
        self._unpack: Callable[[Any], Object] = json.loads if is_packed else _same
        self._is_packed = is_packed
        self._indexes = {index: _Index(function) for index, function in (indexes or {}).items()}
        self._handlers: list[Handler] = []
        self._reflector = Reflector(
            api,
            Scope(resource, namespace, label_selector, field_selector),
            on_list=self._take_list,
            on_change=self._take_change,
            clock=clock or SystemClock(),
        )

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the cache."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    @property
    def resource_version(self) -> str:
        """The newest revision that the cache has seen; empty before the first list."""
        return self._reflector.resource_version

    def stale_s(self) -> float:
        """How old the cache may be: seconds since the connection broke, 0 while it stands."""
        return self._reflector.stale_s()

    async def run(self) -> None:
        """Keep the cache fresh; never ends. Run it in a ``Supervisor.keep``."""
        await self._reflector.run()

    def on_event(self, handler: Handler) -> None:
        """Call ``handler`` for every change from now on, and at once with ADDED for what is there already."""
        self._handlers.append(handler)
        for kept in list(self._objects.values()):
            self._call(handler, "ADDED", None, self._unpack(kept))

    def add_index(self, index: str, function: IndexFunction) -> None:
        """Add an index; one of the same name stays."""
        if index in self._indexes:
            return
        if self._is_packed:
            raise ValueError(f"the cache of {self.name} is packed: it has no indexes")
        self._indexes[index] = made = _Index(function)
        for key, obj in self._objects.items():
            made.put(key, obj)

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None."""
        kept = self._objects.get((namespace or "", name))
        return None if kept is None else self._unpack(kept)

    def items(self) -> list[Object]:
        """Every object."""
        return [self._unpack(kept) for kept in self._objects.values()]

    def by_index(self, index: str, key: str) -> list[Object]:
        """Objects that an index files under ``key``."""
        return self._indexes[index].get(key)

    def __len__(self) -> int:
        return len(self._objects)

    def _take_list(self, items: list[Object]) -> None:
        fresh = {key_of(obj): obj for obj in items}
        for key in [key for key in self._objects if key not in fresh]:
            self._remove(key)
        for key, obj in fresh.items():
            self._store(key, obj)
        self._synced.set()

    def _take_change(self, event: WatchEvent) -> None:
        key = key_of(event.object)
        if event.type == "DELETED":
            self._remove(key, last=event.object)
        else:
            self._store(key, event.object)

    def _store(self, key: Key, obj: Object) -> None:
        old = self.get(key[1], key[0])
        if old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._remove(key)  # deleted and made again while we did not look: two objects, so two events
            old = None
        if old is not None and _version(old) == _version(obj):
            return
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = self._pack(obj)
        for index in self._indexes.values():
            index.put(key, obj)
        self._tell("MODIFIED" if old is not None else "ADDED", old, obj)

    def _remove(self, key: Key, *, last: Object | None = None) -> None:
        kept = self._objects.pop(key, None)
        if kept is None:
            return
        old = self._unpack(kept)
        self._unindex(key, old)
        self._tell("DELETED", last or old, None)

    def _unindex(self, key: Key, old: Object) -> None:
        for index in self._indexes.values():
            index.drop(key, old)

    def _tell(self, kind: str, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            self._call(handler, kind, old, new)

    def _call(self, handler: Handler, kind: str, old: Object | None, new: Object | None) -> None:
        try:
            handler(kind, old, new)
        except Exception as exc:
            log.exception("informer.handler_failed", exc, informer=self.name)


def _same(obj: Object) -> Object:
    return obj


def _packed(obj: Object) -> bytes:
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return json.dumps(obj | {"metadata": meta})


def _version(obj: Object) -> str | None:
    version: str | None = obj["metadata"].get("resourceVersion")
    return version


class InformerSet:
    """Informers that several parts share: one watch per collection.

    Args:
        api: the cluster.
        clock: handed to every informer.
        packed: collections whose caches are packed (see ``Informer``).
    """

    def __init__(self, api: KubeApi, *, clock: Clock | None = None, packed: Collection[Resource] = ()) -> None:
        self._api = api
        self._clock = clock or SystemClock()
        self._packed = packed
        self._informers: dict[Scope, Informer] = {}
        self._supervisor: Supervisor | None = None

    def of(
        self,
        resource: Resource,
        *,
        indexes: Mapping[str, IndexFunction] | None = None,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer:
        """The shared informer of a collection, made when nobody asked before; indexes are added to it."""
        scope = Scope(resource, namespace, label_selector, field_selector)
        informer = self._informers.get(scope)
        if informer is None:
            informer = self._informers[scope] = Informer(
                self._api,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                name=str(scope),
                clock=self._clock,
                is_packed=resource in self._packed,
            )
            self._start(informer)
        for index, function in (indexes or {}).items():
            informer.add_index(index, function)
        return informer

    async def wait_synced(self) -> None:
        """Wait until every informer asked for so far has its first list."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    async def run(self) -> None:
        """Keep all of them fresh, also those asked for later; never ends."""
        async with Supervisor("informers", clock=self._clock) as supervisor:
            self._supervisor = supervisor
            try:
                for informer in self._informers.values():
                    self._start(informer)
                await supervisor.wait()
            finally:
                self._supervisor = None

    def _start(self, informer: Informer) -> None:
        if self._supervisor is not None:
            self._supervisor.keep(informer.name, informer.run)
