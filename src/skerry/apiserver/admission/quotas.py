"""ResourceQuotas: nothing is stored that would exceed one.

Usage is summed from the store at each write, never read from a status that may lag. A lock for each namespace is held
from the sum until the write is stored, so that writes at the same moment cannot exceed a quota together.

Source: kubernetes apiserver/pkg/admission/plugin/resourcequota/controller.go (v1.36).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from skerry.api.gvk import Object
from skerry.api.kinds import quota as rules
from skerry.api.quantity import Quantity
from skerry.apiserver.admission.request import AdmissionRequest, Collect
from skerry.apiserver.store.watch import Collection
from skerry.base import json

QUOTAS = "resourcequotas"
_SIZED = ("pods", "services", "persistentvolumeclaims")
"""Kinds whose updates can change what they use."""


class ResourceQuotas:
    """Refuses what exceeds a quota."""

    def __init__(self, collection: Collect) -> None:
        self._collection = collection
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, request: AdmissionRequest) -> AsyncIterator[None]:
        """Check, and keep others of the namespace out until the block has stored the object.

        Raises:
            Forbidden: a quota would be exceeded, or a pod does not state what a quota counts.
        """
        if not self._is_counted(request):
            yield
            return
        lock = self._locks.setdefault(request.namespace, asyncio.Lock())
        async with lock:
            self._check(request)
            yield

    def _is_counted(self, request: AdmissionRequest) -> bool:
        if request.subresource or not request.namespace:
            return False
        if request.operation not in ("create", "update"):
            return False
        if request.operation == "update" and request.kind.storage not in _SIZED:
            return False
        return next(iter(self._collection(QUOTAS).entries(request.namespace)), None) is not None

    def _check(self, request: AdmissionRequest) -> None:
        storage = request.kind.storage
        wanted = rules.usage(storage, request.obj)
        for entry in self._collection(QUOTAS).entries(request.namespace):
            quota = entry.content()
            if rules.covers(quota, storage, request.obj):
                self._check_quota(request, entry.key.name, quota, wanted)

    def _check_quota(self, request: AdmissionRequest, name: str, quota: Object, wanted: Mapping[str, int]) -> None:
        storage, hard = request.kind.storage, rules.hard_amounts(quota)
        if request.is_new_pod:
            lack = rules.lacking(hard, request.obj)
            if lack:
                raise request.forbidden(f"failed quota: {name}: {lack}")
        before: Mapping[str, int] = {}
        if request.old is not None and rules.covers(quota, storage, request.old):
            before = rules.usage(storage, request.old)
        more = {key: wanted[key] - before.get(key, 0) for key in hard if wanted.get(key, 0) > before.get(key, 0)}
        if not more:
            return
        used = used_of(quota, self._collection, only=more)
        over = sorted(key for key, amount in more.items() if used.get(key, 0) + amount > hard[key].nano)
        if over:
            raise request.forbidden(
                f"exceeded quota: {name}, requested: {_listed(over, more, hard)}, "
                f"used: {_listed(over, used, hard)}, limited: {','.join(f'{key}={hard[key]}' for key in over)}"
            )


def used_of(quota: Object, collection: Collect, *, only: Iterable[str] | None = None) -> rules.Usage:
    """What the objects in the store use of a quota, in nano units by name."""
    namespace = quota["metadata"]["namespace"]
    names = set(only if only is not None else (quota.get("spec") or {}).get("hard") or ())
    used: rules.Usage = dict.fromkeys(names, 0)
    for storage in rules.storages(names):
        has_scopes = (quota.get("spec") or {}).keys() & {"scopes", "scopeSelector"}
        _count(collection(storage), namespace, storage, used, quota if has_scopes else None)
    return used


def _count(objects: Collection, namespace: str, storage: str, used: rules.Usage, scoped: Object | None) -> None:
    for entry in objects.entries(namespace):
        if scoped is not None and not rules.covers(scoped, storage, entry.content()):
            continue
        text = entry.field("quota.usage", lambda obj: json.dumps(rules.usage(storage, obj)).decode())
        for name, amount in json.loads(text).items():
            if name in used:
                used[name] += amount


def _listed(names: Iterable[str], amounts: Mapping[str, int], hard: Mapping[str, Quantity]) -> str:
    return ",".join(f"{name}={rules.text_of(name, amounts.get(name, 0), hard)}" for name in names)
