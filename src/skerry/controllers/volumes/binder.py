"""Pairs claims with volumes, has missing ones made, and lets released ones go.

Delayed claims (``WaitForFirstConsumer``) are left to the scheduler, which names a volume or a node for them.
Source of behaviour: kubernetes pkg/controller/volume/persistentvolume/pv_controller.go (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, Object
from skerry.api.meta import is_deleting
from skerry.api.status import AlreadyExists, NotFound
from skerry.controllers.loop import Loop
from skerry.controllers.objects import annotations_of
from skerry.controllers.volumes.matching import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    class_of,
    find_volume,
    fits,
    is_bound,
    is_delayed,
    is_reserved_for,
)
from skerry.controllers.volumes.node_local import PROVISIONER, Refused, default_class, local_volume
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, key_of
from skerry.kube.ports import KubeApi

SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
AGAIN_S = 15.0
"""A claim that found nothing is looked at again after this, and whenever volumes change."""


def claim_key(volume: Object) -> Key | None:
    """The claim that a volume is reserved for."""
    ref = volume["spec"].get("claimRef")
    return (ref.get("namespace") or "", ref["name"]) if ref else None


class VolumeBinder:
    """Keeps claims and volumes in step.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what a claim waits for.
        makes_class: whether to create the default StorageClass ``node-local`` when there is no class at all.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, makes_class: bool = True
    ) -> None:
        self._api = api
        self._events = events
        self._makes_class = makes_class
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(STORAGECLASSES)
        self._nodes = informers.of(NODES)
        caches = (self._claims, self._volumes, self._classes, self._nodes)
        self._loop: Loop[tuple[str, Key]] = Loop("volumes", self._sync, informers=caches, workers=1)
        self._claims.on_event(self._claim_changed)
        self._volumes.on_event(self._volume_changed)
        self._classes.on_event(lambda kind, old, new: self._wake_pending())
        self._loop.add(("class", ("", "")))

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _claim_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        claim = new or old
        assert claim is not None
        if new is not None:
            self._loop.add(("claim", key_of(new)))
        if name := claim["spec"].get("volumeName"):
            self._loop.add(("volume", ("", name)))
        if new is None:
            for volume in self._volumes.items():
                if claim_key(volume) == key_of(claim):
                    self._loop.add(("volume", key_of(volume)))

    def _volume_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        volume = new or old
        assert volume is not None
        if new is not None:
            self._loop.add(("volume", key_of(new)))
        key = claim_key(volume)
        if key is not None:
            self._loop.add(("claim", key))
        else:
            self._wake_pending()

    def _wake_pending(self) -> None:
        for claim in self._claims.items():
            if not is_bound(claim):
                self._loop.add(("claim", key_of(claim)))

    async def _sync(self, key: tuple[str, Key]) -> float | None:
        what, place = key
        if what == "class":
            await self._make_class()
        elif what == "claim":
            claim = self._claims.get(place[1], place[0])
            if claim is not None:
                return await self._sync_claim(claim)
        else:
            volume = self._volumes.get(place[1])
            if volume is not None:
                await self._sync_volume(volume)
        return None

    async def _make_class(self) -> None:
        if not self._makes_class or self._classes.items():
            return
        try:
            await self._api.create(STORAGECLASSES, default_class())
        except AlreadyExists:
            return

    # -- claims

    async def _sync_claim(self, claim: Object) -> float | None:
        if is_bound(claim):
            await self._check_bound(claim)
            return None
        if is_deleting(claim):
            return None
        name = claim["spec"].get("volumeName")
        if name:
            return await self._bind_named(claim, name)
        classes = {item["metadata"]["name"]: item for item in self._classes.items()}
        is_waiting = is_delayed(claim, classes)
        volumes = self._volumes.items()
        found = find_volume(claim, [v for v in volumes if not is_waiting or is_reserved_for(v, claim)])
        if found is not None:
            await self._bind(found, claim)
            return None
        if is_waiting and SELECTED_NODE not in annotations_of(claim):
            text = "waiting for first consumer to be created before binding"
            self._events.normal(claim, "WaitForFirstConsumer", text)
            return None
        return await self._provision(claim, classes.get(class_of(claim)))

    async def _bind_named(self, claim: Object, name: str) -> float | None:
        volume = self._volumes.get(name)
        if volume is None:
            return AGAIN_S
        if volume["spec"].get("claimRef") and not is_reserved_for(volume, claim):
            text = f'volume "{name}" already bound to a different claim.'
            self._events.warning(claim, "FailedBinding", text)
            return AGAIN_S
        if not volume["spec"].get("claimRef") and not fits(volume, claim):
            text = f'Cannot bind to requested volume "{name}": size, access modes, mode or class differ'
            self._events.warning(claim, "VolumeMismatch", text)
            return AGAIN_S
        await self._bind(volume, claim)
        return None

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Volume first: it can be taken only once; then the claim follows, also after a crash in between."""
        meta = claim["metadata"]
        ref = volume["spec"].get("claimRef") or {}
        reference = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"],
            "name": meta["name"], "uid": meta["uid"],
        }  # fmt: skip
        if ref.get("uid") != meta["uid"]:
            notes = {} if ref else {BOUND_BY_CONTROLLER: "yes"}
            patch = {"metadata": {**_guard(volume), "annotations": notes}, "spec": {"claimRef": reference}}
            volume = await self._api.patch(PERSISTENTVOLUMES, volume["metadata"]["name"], patch)
        await self._set_phase(volume, "Bound")
        notes = {BIND_COMPLETED: "yes"}
        if not claim["spec"].get("volumeName"):
            notes[BOUND_BY_CONTROLLER] = "yes"
        patch = {
            "metadata": {**_guard(claim), "annotations": notes},
            "spec": {"volumeName": volume["metadata"]["name"]},
        }
        claim = await self._api.patch(PERSISTENTVOLUMECLAIMS, meta["name"], patch, namespace=meta["namespace"])
        await self._show_bound(claim, volume)

    async def _check_bound(self, claim: Object) -> None:
        name = claim["spec"]["volumeName"]
        volume = self._volumes.get(name)
        if volume is None:
            try:
                volume = await self._api.get(PERSISTENTVOLUMES, name)
            except NotFound:
                text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                await self._lose(claim, "ClaimLost", text)
                return
        if is_reserved_for(volume, claim) or not volume["spec"].get("claimRef"):
            if (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
                await self._bind(volume, claim)
            else:
                await self._set_phase(volume, "Bound")
                await self._show_bound(claim, volume)
            return
        text = "Two claims are bound to the same volume, this one is bound incorrectly"
        await self._lose(claim, "ClaimMisbound", text)

    async def _lose(self, claim: Object, reason: str, text: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            await self._claim_status(claim, {"phase": "Lost"})
            self._events.warning(claim, reason, text)

    async def _show_bound(self, claim: Object, volume: Object) -> None:
        wanted = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"].get("capacity") or {},
        }
        old = claim.get("status") or {}
        if any(old.get(key) != value for key, value in wanted.items()):
            await self._claim_status(claim, wanted)

    async def _claim_status(self, claim: Object, status: dict[str, Any]) -> None:
        meta = claim["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        await self._api.patch(
            PERSISTENTVOLUMECLAIMS, meta["name"], patch, namespace=meta["namespace"], subresource="status"
        )

    # -- making volumes

    async def _provision(self, claim: Object, storage_class: Object | None) -> float | None:
        provisioner = (storage_class or {}).get("provisioner")
        if storage_class is None or provisioner in (None, "", NO_PROVISIONER):
            text = "no persistent volumes available for this claim and no storage class is set"
            if class_of(claim):
                text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
            if storage_class is not None:
                text = "no volume plugin matched: the class has no provisioner, and no volume fits"
            kind = self._events.warning if class_of(claim) else self._events.normal
            kind(claim, "ProvisioningFailed" if class_of(claim) else "FailedBinding", text)
            return AGAIN_S
        if provisioner != PROVISIONER:
            await self._ask_outsider(claim, str(provisioner))
            return AGAIN_S
        node = self._nodes.get(annotations_of(claim).get(SELECTED_NODE) or "")
        try:
            volume = local_volume(claim, storage_class, node)
        except Refused as exc:
            self._events.warning(claim, "ProvisioningFailed", exc.explained())
            return AGAIN_S
        name = volume["metadata"]["name"]
        try:
            await self._api.create(PERSISTENTVOLUMES, volume)
        except AlreadyExists:
            return None  # made before a crash; its event binds it
        self._events.normal(claim, "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
        return None

    async def _ask_outsider(self, claim: Object, provisioner: str) -> None:
        meta = claim["metadata"]
        if annotations_of(claim).get(STORAGE_PROVISIONER) != provisioner:
            notes = {STORAGE_PROVISIONER: provisioner, "volume.beta.kubernetes.io/storage-provisioner": provisioner}
            patch = {"metadata": {**_guard(claim), "annotations": notes}}
            await self._api.patch(PERSISTENTVOLUMECLAIMS, meta["name"], patch, namespace=meta["namespace"])
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
            "the system administrator."
        )
        self._events.normal(claim, "ExternalProvisioning", text)

    # -- volumes

    async def _sync_volume(self, volume: Object) -> None:
        if is_deleting(volume):
            return
        key = claim_key(volume)
        if key is None or not volume["spec"]["claimRef"].get("uid"):
            await self._set_phase(volume, "Available")
            return
        claim = await self._live_claim(key, volume["spec"]["claimRef"]["uid"])
        if claim is None:
            await self._release(volume)
        elif claim["spec"].get("volumeName") == volume["metadata"]["name"]:
            await self._set_phase(volume, "Bound")
        elif claim["spec"].get("volumeName"):  # the claim has another: this one was reserved in vain
            await self._free(volume)

    async def _live_claim(self, key: Key, uid: str) -> Object | None:
        """The claim by a live look when the cache has it not: a stale cache releases nothing."""
        claim = self._claims.get(key[1], key[0])
        if claim is None or claim["metadata"]["uid"] != uid:
            try:
                claim = await self._api.get(PERSISTENTVOLUMECLAIMS, key[1], namespace=key[0])
            except NotFound:
                return None
        return claim if claim["metadata"]["uid"] == uid else None

    async def _release(self, volume: Object) -> None:
        await self._set_phase(volume, "Released")
        is_ours = annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete" or not is_ours:
            return
        meta = volume["metadata"]
        try:
            await self._api.delete(PERSISTENTVOLUMES, meta["name"], uid=meta["uid"])
        except NotFound:
            return

    async def _free(self, volume: Object) -> None:
        if annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER:
            await self._release(volume)
            return
        meta = volume["metadata"]
        if BOUND_BY_CONTROLLER not in annotations_of(volume):
            return
        patch = {
            "metadata": {**_guard(volume), "annotations": {BOUND_BY_CONTROLLER: None}},
            "spec": {"claimRef": None},
        }
        await self._api.patch(PERSISTENTVOLUMES, meta["name"], patch)

    async def _set_phase(self, volume: Object, phase: str) -> None:
        meta = volume["metadata"]
        if (volume.get("status") or {}).get("phase") != phase:
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"phase": phase}}
            await self._api.patch(PERSISTENTVOLUMES, meta["name"], patch, subresource="status")


def _guard(obj: Object) -> dict[str, str]:
    return {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
