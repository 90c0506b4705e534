"""The status of ResourceQuotas: what is used of them, counted from the objects. Admission refuses by its own sum.

Only kinds that some quota counts are watched.

Source: kubernetes pkg/controller/resourcequota/resource_quota_controller.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from skerry.api.gvk import RESOURCEQUOTAS, Object, Resource
from skerry.api.kinds import quota as rules
from skerry.controllers.loop import Loop
from skerry.kube.informer import Informer, InformerSet, Key, by_namespace
from skerry.kube.ports import KubeApi

SETTLE_S = 0.1
"""Changes in this time after the first are counted together."""

RECOUNT_S = 300.0


class ResourceQuotaController:
    """Counts what the quotas of each namespace bound.

    Args:
        api: the cluster.
        informers: shared caches.
        served: every resource that the cluster has now.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, served: Callable[[], Sequence[Resource]]) -> None:
        self._api = api
        self._informers = informers
        self._served = served
        self._quotas = informers.of(RESOURCEQUOTAS, indexes={"namespace": by_namespace})
        self._counted: dict[str, Informer] = {}
        self._loop: Loop[Key] = Loop("resourcequota", self._sync, informers=(self._quotas,))
        self._loop.follow(self._quotas)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    async def _sync(self, key: Key) -> float | None:
        quota = self._quotas.get(key[1], key[0])
        if quota is None:
            return None
        hard = rules.hard_amounts(quota)
        used = await self._used(quota, key[0])
        status = {
            "hard": dict((quota.get("spec") or {}).get("hard") or {}),
            "used": {name: rules.text_of(name, amount, hard) for name, amount in sorted(used.items())},
        }
        if status != {name: dict((quota.get("status") or {}).get(name) or {}) for name in status}:
            await self._api.update(RESOURCEQUOTAS, {**quota, "status": status}, subresource="status")
        return RECOUNT_S

    async def _used(self, quota: Object, namespace: str) -> rules.Usage:
        names = (quota.get("spec") or {}).get("hard") or {}
        used: rules.Usage = dict.fromkeys(names, 0)
        for storage in rules.storages(names):
            informer = await self._of(storage)
            if informer is None:
                continue
            for obj in informer.by_index("namespace", namespace):
                if rules.covers(quota, storage, obj):
                    _add(used, rules.usage(storage, obj))
        return used

    async def _of(self, storage: str) -> Informer | None:
        """The cache of a kind, None for one that the cluster does not have."""
        informer = self._counted.get(storage)
        if informer is None:
            resource = next((each for each in self._served() if each.group_resource == storage), None)
            if resource is None:
                return None
            informer = self._informers.of(resource, indexes={"namespace": by_namespace})
            await informer.wait_synced()
            self._counted[storage] = informer
            informer.on_event(lambda kind, old, new: self._changed(storage, old, new))
        return informer

    def _changed(self, storage: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        namespace = obj["metadata"].get("namespace", "")
        for quota in self._quotas.by_index("namespace", namespace):
            if _part_of(quota, storage, old) != _part_of(quota, storage, new):
                self._loop.add_after((namespace, quota["metadata"]["name"]), SETTLE_S)


def _part_of(quota: Object, storage: str, obj: Object | None) -> rules.Usage | None:
    """What an object adds to a quota, None for nothing."""
    return rules.usage(storage, obj) if obj is not None and rules.covers(quota, storage, obj) else None


def _add(used: rules.Usage, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        if name in used:
            used[name] += amount
