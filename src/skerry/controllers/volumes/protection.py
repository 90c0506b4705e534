"""Claims that pods use, and volumes that claims use, are not deleted under them: a finalizer holds them until then.

Source of behaviour: kubernetes pkg/controller/volume/{pvcprotection,pvprotection} (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object, Resource
from skerry.api.meta import is_deleting
from skerry.api.status import NotFound
from skerry.controllers.loop import Loop
from skerry.controllers.objects import phase_of
from skerry.controllers.scheduler.volumes import claim_names
from skerry.kube.informer import InformerSet, Key, by_namespace
from skerry.kube.ports import KubeApi

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def uses(pod: Object, claim: str) -> bool:
    """Whether a pod may still have the claim mounted."""
    if phase_of(pod) in ("Succeeded", "Failed"):
        return False
    return bool(pod["spec"].get("nodeName")) and any(name == claim for name, _ in claim_names(pod))


class VolumeProtection:
    """Adds the finalizers, and takes them away when nothing uses the object any more.

    Args:
        api: the cluster.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet) -> None:
        self._api = api
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._pods = informers.of(PODS, indexes={"namespace": by_namespace})
        caches = (self._claims, self._volumes, self._pods)
        self._loop: Loop[Key] = Loop("volume-protection", self._sync, informers=caches)
        self._loop.follow(self._claims)
        self._loop.follow(self._volumes)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is not None and (new is None or phase_of(new) in ("Succeeded", "Failed")):
            for name, _ in claim_names(pod):
                self._loop.add((pod["metadata"]["namespace"], name))

    async def _sync(self, key: Key) -> float | None:
        if key[0]:
            claim = self._claims.get(key[1], key[0])
            if claim is not None:
                in_use = is_deleting(claim) and await self._is_used(key)
                await self._settle(PERSISTENTVOLUMECLAIMS, claim, CLAIM_FINALIZER, in_use=in_use)
        else:
            volume = self._volumes.get(key[1])
            if volume is not None:
                in_use = (volume.get("status") or {}).get("phase") == "Bound"
                await self._settle(PERSISTENTVOLUMES, volume, VOLUME_FINALIZER, in_use=in_use)
        return None

    async def _is_used(self, key: Key) -> bool:
        """By the cache, and when it says no, by a live look: what is lost here is lost for good."""
        if any(uses(pod, key[1]) for pod in self._pods.by_index("namespace", key[0])):
            return True
        live = await self._api.list(PODS, namespace=key[0])
        return any(uses(pod, key[1]) for pod in live.items)

    async def _settle(self, resource: Resource, obj: Object, finalizer: str, *, in_use: bool) -> None:
        meta = obj["metadata"]
        held = list(meta.get("finalizers") or ())
        if not is_deleting(obj) and finalizer not in held:
            wanted = [*held, finalizer]
        elif is_deleting(obj) and finalizer in held and not in_use:
            wanted = [item for item in held if item != finalizer]
        else:
            return
        guard = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = {"metadata": {**guard, "finalizers": wanted or None}}
        try:
            await self._api.patch(resource, meta["name"], patch, namespace=meta.get("namespace"))
        except NotFound:
            return
