"""Owner garbage collection: dependents go when all their owners are gone; foreground and orphan deletion.

An owner counts as gone only after a live GET said so, with its uid: a stale cache never deletes anything.
Source: kubernetes pkg/controller/garbagecollector/garbagecollector.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.gvk import CRDS, Object, Resource
from skerry.api.meta import is_deleting
from skerry.api.status import NotFound
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.controllers.loop import Loop
from skerry.kube.informer import Informer, InformerSet, by_owner
from skerry.kube.ports import KubeApi

log = get_log(__name__)

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
RETRY_S = 5.0
NOT_COLLECTED = frozenset({"events", "leases.coordination.k8s.io"})
"""Too many and too short-lived to be worth a cache; nobody owns through them."""


class Item(Struct, frozen=True):
    """One object in the graph."""

    resource: Resource
    namespace: str
    name: str
    uid: str


class Owners(Struct, frozen=True):
    """Owner references by what their owner is doing."""

    solid: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    absent: list[dict[str, Any]]


def finalizers_of(obj: Object) -> list[str]:
    """The finalizers; may be empty."""
    return obj["metadata"].get("finalizers") or []


def is_waiting(obj: Object) -> bool:
    """Whether the object waits for its dependents to go (foreground deletion)."""
    return is_deleting(obj) and FOREGROUND in finalizers_of(obj)


def blocks(obj: Object, owner_uid: str) -> bool:
    """Whether the owner must wait for this dependent."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == owner_uid and owner.get("blockOwnerDeletion") for owner in owners)


class GarbageCollector:
    """Watches everything that can be deleted.

    Args:
        api: the cluster.
        informers: shared caches; one is asked for per served resource.
        served: every resource that the server stores now; asked again when a CRD changes.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, served: Callable[[], Sequence[Resource]]) -> None:
        self._api = api
        self._informers = informers
        self._served = served
        self._followed: dict[str, tuple[Resource, Informer]] = {}
        self._absent: dict[str, None] = {}
        self._crds = informers.of(CRDS)
        self._loop: Loop[Item] = Loop("gc", self._sync, informers=(self._crds,))
        self._crds.on_event(lambda kind, old, new: self._follow_all())

    async def run(self) -> None:
        """Work; never ends."""
        self._follow_all()
        await self._loop.run()

    def _follow_all(self) -> None:
        for resource in self._served():
            name = resource.group_resource
            if name not in self._followed and name not in NOT_COLLECTED:
                informer = self._informers.of(resource, indexes={"owner": by_owner})
                self._followed[name] = (resource, informer)
                informer.on_event(self._handler(resource))

    def _handler(self, resource: Resource) -> Callable[[str, Object | None, Object | None], None]:
        def changed(kind: str, old: Object | None, new: Object | None) -> None:
            if new is None:
                assert old is not None
                self._gone(old)
                return
            if self._is_interesting(new):
                self._loop.add(_item(resource, new))
            before = (old or new)["metadata"].get("ownerReferences") or ()
            if before != (new["metadata"].get("ownerReferences") or ()):
                self._look_at_owners(new, before)  # one of them may no longer have to wait

        return changed

    @staticmethod
    def _is_interesting(obj: Object) -> bool:
        waits = is_deleting(obj) and any(item in (FOREGROUND, ORPHAN) for item in finalizers_of(obj))
        return waits or bool(obj["metadata"].get("ownerReferences"))

    def _gone(self, obj: Object) -> None:
        """Look at its dependents, and at owners that may have waited for it."""
        for resource, dependent in self._dependents(obj["metadata"]["uid"]):
            self._loop.add(_item(resource, dependent))
        self._look_at_owners(obj, obj["metadata"].get("ownerReferences") or ())

    def _look_at_owners(self, obj: Object, owners: Sequence[dict[str, Any]]) -> None:
        for owner in owners:
            self._look_at_owner(owner, obj["metadata"].get("namespace") or "")

    def _look_at_owner(self, owner: dict[str, Any], namespace: str) -> None:
        resource = self._resource(owner)
        if resource is None:
            return
        found = self._cached(resource, namespace if resource.namespaced else "", owner["name"])
        if found is not None and is_waiting(found):
            self._loop.add(_item(resource, found))

    def _dependents(self, uid: str) -> list[tuple[Resource, Object]]:
        return [
            (resource, obj) for resource, informer in self._followed.values() for obj in informer.by_index("owner", uid)
        ]

    def _cached(self, resource: Resource, namespace: str, name: str) -> Object | None:
        followed = self._followed.get(resource.group_resource)
        return followed[1].get(name, namespace) if followed is not None else None

    def _resource(self, owner: dict[str, Any]) -> Resource | None:
        """The served resource that an owner reference means; any version of its group will do."""
        group = owner["apiVersion"].rpartition("/")[0]
        for resource, _ in self._followed.values():
            if (resource.group, resource.kind) == (group, owner["kind"]):
                return resource
        return None

    @property
    def _has_synced(self) -> bool:
        return all(informer.has_synced for _, informer in self._followed.values())

    async def _sync(self, item: Item) -> float | None:
        obj = self._cached(item.resource, item.namespace, item.name)
        if obj is None or obj["metadata"]["uid"] != item.uid:
            return None
        if is_deleting(obj) and any(name in (FOREGROUND, ORPHAN) for name in finalizers_of(obj)):
            if not self._has_synced:
                return 0.2
            return await (self._release_dependents if ORPHAN in finalizers_of(obj) else self._wait)(item, obj)
        if is_deleting(obj) or not obj["metadata"].get("ownerReferences"):
            return None
        return await self._judge(item, obj)

    # -- owners

    async def _wait(self, item: Item, obj: Object) -> float | None:
        """Foreground: delete dependents; when none blocks any more, let the owner go."""
        dependents = self._dependents(item.uid)
        for resource, dependent in dependents:
            if not is_deleting(dependent):
                self._loop.add(_item(resource, dependent))
        if not any(blocks(dependent, item.uid) for _, dependent in dependents):
            await self._drop_finalizer(item, obj, FOREGROUND)
        return None

    async def _release_dependents(self, item: Item, obj: Object) -> float | None:
        for resource, dependent in self._dependents(item.uid):
            await self._drop_owners(_item(resource, dependent), dependent, {item.uid})
        await self._drop_finalizer(item, obj, ORPHAN)
        return None

    async def _drop_finalizer(self, item: Item, obj: Object, finalizer: str) -> None:
        left = [name for name in finalizers_of(obj) if name != finalizer]
        await self._patch(item, obj, {"finalizers": left or None})

    # -- dependents

    async def _judge(self, item: Item, obj: Object) -> float | None:
        owners = await self._classify(item, obj)
        if owners is None:
            return RETRY_S * 12
        if owners.solid:
            if owners.absent or owners.waiting:
                await self._drop_owners(item, obj, {owner["uid"] for owner in owners.absent + owners.waiting})
            return None
        dependents = self._dependents(item.uid) if owners.waiting else []
        if dependents:
            if any(is_waiting(dependent) for _, dependent in dependents):
                await self._unblock(item, obj)
            await self._delete(item, "Foreground")
            return None
        await self._delete(item, _propagation(obj))
        return None

    async def _unblock(self, item: Item, obj: Object) -> None:
        """Objects that own each other in a circle would wait for ever; this one no longer holds its owners back."""
        owners = [{**owner, "blockOwnerDeletion": False} for owner in obj["metadata"]["ownerReferences"]]
        if owners != obj["metadata"]["ownerReferences"]:
            await self._patch(item, obj, {"ownerReferences": owners})

    async def _classify(self, item: Item, obj: Object) -> Owners | None:
        """None when an owner's kind is not served here: then nothing is known, and nothing is deleted."""
        found = Owners([], [], [])
        for owner in obj["metadata"]["ownerReferences"]:
            resource = self._resource(owner)
            if resource is None or (resource.namespaced and not item.namespace):
                log.debug("gc.unknown_owner", owner=owner["kind"], name=item.name)
                return None
            live = await self._owner(resource, owner, item.namespace)
            if live is None:
                found.absent.append(owner)
            elif is_waiting(live):
                found.waiting.append(owner)
            else:
                found.solid.append(owner)
        return found

    async def _owner(self, resource: Resource, owner: dict[str, Any], namespace: str) -> Object | None:
        namespace = namespace if resource.namespaced else ""
        cached = self._cached(resource, namespace, owner["name"])
        if cached is not None and cached["metadata"]["uid"] == owner["uid"]:
            return cached
        if owner["uid"] in self._absent:
            return None
        try:
            live = await self._api.get(resource, owner["name"], namespace=namespace or None)
        except NotFound:
            live = None
        if live is not None and live["metadata"]["uid"] == owner["uid"]:
            return live
        self._remember_absent(owner["uid"])
        return None

    def _remember_absent(self, uid: str) -> None:
        """A uid never comes back, so its absence may be remembered; the 500 newest are."""
        self._absent[uid] = None
        while len(self._absent) > 500:
            self._absent.pop(next(iter(self._absent)))

    async def _drop_owners(self, item: Item, obj: Object, uids: set[str]) -> None:
        left = [owner for owner in obj["metadata"].get("ownerReferences") or () if owner["uid"] not in uids]
        await self._patch(item, obj, {"ownerReferences": left or None})

    async def _patch(self, item: Item, obj: Object, metadata: dict[str, Any]) -> None:
        guard = {"uid": item.uid, "resourceVersion": obj["metadata"]["resourceVersion"]}
        patch = {"metadata": {**guard, **metadata}}
        try:
            await self._api.patch(item.resource, item.name, patch, namespace=item.namespace or None)
        except NotFound:
            pass

    async def _delete(self, item: Item, propagation: str) -> None:
        try:
            await self._api.delete(
                item.resource, item.name, namespace=item.namespace or None, uid=item.uid, propagation=propagation
            )
        except NotFound:
            pass


def _propagation(obj: Object) -> str:
    if ORPHAN in finalizers_of(obj):
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers_of(obj) else "Background"


def _item(resource: Resource, obj: Object) -> Item:
    meta = obj["metadata"]
    return Item(resource, meta.get("namespace") or "", meta["name"], meta["uid"])
