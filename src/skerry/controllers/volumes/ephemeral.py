"""Makes the claims of ephemeral volumes: one per pod and volume, owned by the pod.

Source of behaviour: kubernetes pkg/controller/volume/ephemeral/controller.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import PERSISTENTVOLUMECLAIMS, PODS, Object
from skerry.api.meta import controller_of, is_deleting, owner_reference
from skerry.api.status import AlreadyExists, ApiError
from skerry.base.json import deep_copy
from skerry.controllers.loop import Loop
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, key_of
from skerry.kube.ports import KubeApi


def ephemeral_claims(pod: Object) -> list[Object]:
    """The claims that a pod's ephemeral volumes need."""
    meta = pod["metadata"]
    made = []
    for volume in pod["spec"].get("volumes") or ():
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template is None:
            continue
        own = template.get("metadata") or {}
        made.append(
            {
                "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": f"{meta['name']}-{volume['name']}",
                    "namespace": meta["namespace"],
                    "labels": dict(own.get("labels") or {}),
                    "annotations": dict(own.get("annotations") or {}),
                    "ownerReferences": [owner_reference(pod, PODS)],
                },
                "spec": deep_copy(template["spec"]),
            }
        )
    return made


class EphemeralVolumes:
    """Keeps those claims.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say why a claim cannot be made.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._loop: Loop[Key] = Loop("ephemeral-volumes", self._sync, informers=(self._pods, self._claims))
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is not None and any("ephemeral" in volume for volume in new["spec"].get("volumes") or ()):
            self._loop.add(key_of(new))

    async def _sync(self, key: Key) -> float | None:
        pod = self._pods.get(key[1], key[0])
        if pod is None or is_deleting(pod):
            return None
        for claim in ephemeral_claims(pod):
            name = claim["metadata"]["name"]
            found = self._claims.get(name, key[0])
            if found is None:
                await self._create(pod, claim)
            elif (controller_of(found) or {}).get("uid") != pod["metadata"]["uid"]:
                text = f'PVC "{name}" was not created for the pod: a claim of this name belongs to somebody else'
                self._events.warning(pod, "FailedBinding", text)
        return None

    async def _create(self, pod: Object, claim: Object) -> None:
        try:
            await self._api.create(PERSISTENTVOLUMECLAIMS, claim, namespace=pod["metadata"]["namespace"])
        except AlreadyExists:
            return
        except ApiError as exc:
            self._events.warning(pod, "FailedBinding", f"ephemeral volume: {exc}")
            raise
