"""Whose pods are whose: matching orphans are adopted, own pods that no longer match are let go.

Source of behaviour: kubernetes pkg/controller/controller_ref_manager.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from skerry.api.gvk import PODS, Object, Resource
from skerry.api.meta import controller_of, is_deleting, owner_reference
from skerry.base.values import Struct, field
from skerry.controllers.objects import labels_of, matches, pod_selector
from skerry.kube.informer import Informer, Key
from skerry.kube.ports import KubeApi


def concerned(obj: Object, owners: Informer, kind: str) -> Iterator[Key]:
    """The owners that must look again because ``obj`` changed: its controller; of an orphan, all that select it.

    Args:
        obj: what changed.
        owners: cache with the index ``namespace``.
        kind: of the owners.
    """
    namespace, controller = obj["metadata"]["namespace"], controller_of(obj)
    if controller is not None:
        if controller["kind"] == kind:
            yield namespace, controller["name"]
        return
    for owner in owners.by_index("namespace", namespace):
        if matches(pod_selector(owner), labels_of(obj)):
            yield namespace, owner["metadata"]["name"]


class Claim(Struct, frozen=True):
    """Which pods belong to a set, and what ownership has to change."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(owner: Object, candidates: Sequence[Object]) -> Claim:
    """Sort pods into owned, to adopt (matching orphans) and to release (owned, but no longer matching).

    Args:
        owner: with ``spec.selector``.
        candidates: pods of the namespace that are owned by it or by nobody.
    """
    uid, selector = owner["metadata"]["uid"], pod_selector(owner)
    found = Claim()
    for pod in candidates:
        controller, fits = controller_of(pod), matches(selector, labels_of(pod))
        if controller is not None and controller["uid"] == uid:
            (found.owned if fits or is_deleting(owner) else found.release).append(pod)
        elif controller is None and fits and not is_deleting(owner) and not is_deleting(pod):
            found.adopt.append(pod)
    return found


class PodClaims:
    """Takes and releases pods for owners of one kind.

    Args:
        api: the cluster.
        resource: the kind of the owners.
        pods: cache with the indexes ``controller`` and ``namespace``.
        may_adopt: whether an owner may take this orphan; for kinds whose pods have given names.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        pods: Informer,
        *,
        may_adopt: Callable[[Object, Object], bool] = lambda owner, pod: True,
    ) -> None:
        self._api = api
        self._resource = resource
        self._pods = pods
        self._may_adopt = may_adopt

    async def of(self, owner: Object) -> list[Object]:
        """The owner's pods, after adopting and releasing what has to be."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        owned = self._pods.by_index("controller", uid)
        orphans = [
            pod
            for pod in self._pods.by_index("namespace", namespace)
            if controller_of(pod) is None and self._may_adopt(owner, pod)
        ]
        found = claim(owner, owned + orphans)
        if found.adopt and not await self._still_there(owner):
            return found.owned
        adopted = [await self._adopt(owner, pod) for pod in found.adopt]
        for pod in found.release:
            await self._set_owners(pod, [o for o in pod["metadata"]["ownerReferences"] if o["uid"] != uid])
        return found.owned + adopted

    async def _still_there(self, owner: Object) -> bool:
        meta = owner["metadata"]
        live = await self._api.get(self._resource, meta["name"], namespace=meta["namespace"])
        return bool(live["metadata"]["uid"] == meta["uid"] and not is_deleting(live))

    async def _adopt(self, owner: Object, pod: Object) -> Object:
        owners = pod["metadata"].get("ownerReferences") or []
        return await self._set_owners(pod, [*owners, owner_reference(owner, self._resource)])

    async def _set_owners(self, pod: Object, owners: list[dict[str, Any]]) -> Object:
        meta = pod["metadata"]
        patch = {
            "metadata": {
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
                "ownerReferences": owners or None,
            }
        }
        return await self._api.patch(PODS, meta["name"], patch, namespace=meta["namespace"])
