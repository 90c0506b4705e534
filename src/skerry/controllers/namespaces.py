"""Namespace deletion: empty it, pods first, then take the finalizer off.

Source: kubernetes pkg/controller/namespace/deletion/namespaced_resources_deleter.go (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.gvk import NAMESPACES, PODS, Object, Resource
from skerry.api.meta import is_deleting
from skerry.api.status import ApiError, MethodNotAllowed, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.values import Struct, field
from skerry.controllers.loop import Loop
from skerry.controllers.objects import set_condition
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeApi

Served = Callable[[], Sequence[Resource]]
"""Every resource that the server stores now, CRDs included; asked again each time."""
FINALIZER = "kubernetes"
RETRY_S = 2.0


class _Rest(Struct):
    """What is still there after a round."""

    counts: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.counts and not self.failures


def deletion_conditions(old: list[dict[str, Any]], rest: _Rest, *, now_s: float) -> list[dict[str, Any]]:
    """The conditions by which ``kubectl describe namespace`` explains what it waits for."""

    def judged(kind: str, bad: str, good: str, texts: list[str], fine: str) -> None:
        nonlocal old
        status = "True" if texts else "False"
        old = set_condition(old, kind, status, bad if texts else good, "; ".join(texts) or fine, now_s=now_s)

    failure, remaining = "NamespaceDeletionContentFailure", "NamespaceContentRemaining"
    judged(failure, "ContentDeletionFailed", "ContentDeleted", rest.failures,
           "All content successfully deleted, may be waiting on finalization")  # fmt: skip
    texts = [f"{name} has {count} resource instances" for name, count in sorted(rest.counts.items())]
    judged(remaining, "SomeResourcesRemain", "ContentRemoved", texts, "All content successfully removed")
    texts = [f"{name} in {count} resource instances" for name, count in sorted(rest.finalizers.items())]
    judged("NamespaceFinalizersRemaining", "SomeFinalizersRemain", "ContentHasNoFinalizers", texts,
           "All content-preserving finalizers finished")  # fmt: skip
    return old


class NamespaceController:
    """Empties namespaces that are being deleted.

    Args:
        api: the cluster.
        informers: shared caches.
        served: what a namespace may contain.
        clock: time source.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, served: Served, clock: Clock | None = None) -> None:
        self._api = api
        self._served = served
        self._clock = clock or SystemClock()
        self._namespaces = informers.of(NAMESPACES)
        self._loop: Loop[Key] = Loop("namespaces", self._sync, informers=(self._namespaces,))
        self._loop.follow(self._namespaces)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    async def _sync(self, key: Key) -> float | None:
        name = key[1]
        namespace = self._namespaces.get(name)
        if namespace is None or not is_deleting(namespace):
            return None
        if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        rest = await self._empty(name)
        if rest.is_empty:
            await self._finalize(name)
            return None
        await self._report(name, rest)
        return RETRY_S

    async def _empty(self, namespace: str) -> _Rest:
        rest = _Rest()
        await self._empty_of(PODS, namespace, rest)
        if rest.counts:  # pods may need their ConfigMaps and Secrets until they have ended
            return rest
        seen = {PODS.group_resource}
        for resource in self._served():
            if resource.namespaced and resource.group_resource not in seen:
                seen.add(resource.group_resource)
                await self._empty_of(resource, namespace, rest)
        return rest

    async def _empty_of(self, resource: Resource, namespace: str, rest: _Rest) -> None:
        try:
            found = await self._api.list(resource, namespace=namespace)
        except (MethodNotAllowed, NotFound):
            return
        except ApiError as exc:
            rest.failures.append(f"{resource.group_resource}: {exc}")
            return
        for obj in found.items:
            await self._delete(resource, namespace, obj, rest)
        if found.items:
            await self._count(resource, namespace, rest)

    async def _delete(self, resource: Resource, namespace: str, obj: Object, rest: _Rest) -> None:
        if is_deleting(obj):
            return
        meta = obj["metadata"]
        try:
            await self._api.delete(
                resource, meta["name"], namespace=namespace, uid=meta["uid"], propagation="Background"
            )
        except NotFound:
            return
        except ApiError as exc:
            rest.failures.append(f"{resource.group_resource} {meta['name']}: {exc}")

    async def _count(self, resource: Resource, namespace: str, rest: _Rest) -> None:
        left = await self._api.list(resource, namespace=namespace)
        if left.items:
            rest.counts[resource.group_resource] += len(left.items)
        for obj in left.items:
            rest.finalizers.update(obj["metadata"].get("finalizers") or ())

    async def _finalize(self, name: str) -> None:
        namespace = await self._api.get(NAMESPACES, name)
        keep = [item for item in namespace["spec"].get("finalizers") or () if item != FINALIZER]
        bare = {**namespace, "spec": {**namespace["spec"], "finalizers": keep}}
        await self._api.update(NAMESPACES, bare, subresource="finalize")

    async def _report(self, name: str, rest: _Rest) -> None:
        namespace = await self._api.get(NAMESPACES, name)
        status = namespace.get("status") or {}
        conditions = deletion_conditions(list(status.get("conditions") or ()), rest, now_s=self._clock.now_s())
        if conditions != status.get("conditions"):
            fresh = {**namespace, "status": {**status, "conditions": conditions}}
            await self._api.update(NAMESPACES, fresh, subresource="status")
