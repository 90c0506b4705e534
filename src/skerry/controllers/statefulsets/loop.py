"""StatefulSet loop: claims first, then pods, then the status."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import (
    CONTROLLERREVISIONS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STATEFULSETS,
    Object,
)
from skerry.api.meta import is_deleting, owners_of
from skerry.api.status import AlreadyExists, ApiError
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.expectations import Expectations
from skerry.controllers.loop import Loop
from skerry.controllers.objects import labels_of, phase_of
from skerry.controllers.ownership import PodClaims, concerned
from skerry.controllers.pod_writes import PodWrites
from skerry.controllers.revisions import HASH_LABEL, REVISION_LABEL, Revision, RevisionHistory, read
from skerry.controllers.statefulsets.claims import wanted_claims, wanted_owners
from skerry.controllers.statefulsets.plan import (
    POD_INDEX_LABEL,
    POD_NAME_LABEL,
    StatefulPlan,
    is_member,
    ordinal_of,
    plan,
    status_of,
)
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller, by_namespace
from skerry.kube.ports import KubeApi


class StatefulSetController:
    """Keeps the pods of StatefulSets, by ordinal.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was created and deleted.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._sets = informers.of(STATEFULSETS, indexes={"namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"controller": by_controller, "namespace": by_namespace})
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        revisions = informers.of(CONTROLLERREVISIONS, indexes={"controller": by_controller})
        self._history = RevisionHistory(api, STATEFULSETS, revisions, label=HASH_LABEL)
        self._expected = Expectations(self._pods, self._clock)
        self._writes = PodWrites(api, events, self._expected)
        self._owned = PodClaims(api, STATEFULSETS, self._pods, may_adopt=is_member)
        caches = (self._sets, self._pods, self._claims, revisions)
        self._loop: Loop[Key] = Loop("statefulsets", self._sync, informers=caches)
        self._loop.follow(self._sets)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            for key in concerned(pod, self._sets, "StatefulSet"):
                self._loop.add(key)

    async def _sync(self, key: Key) -> float | None:
        stateful_set = self._sets.get(key[1], key[0])
        if stateful_set is None:
            self._expected.forget(key)
            return None
        pods = await self._owned.of(stateful_set)
        update = await self._history.keep(stateful_set)
        current = self._current(stateful_set, update)
        now_s, again_s = self._clock.now_s(), None
        if self._expected.are_met(key):
            decided = plan(stateful_set, pods, current=current, update=update, now_s=now_s)
            again_s = decided.again_s
            await self._keep_claims(stateful_set, pods)
            await self._carry_out(key, stateful_set, decided)
        await self._write_status(
            stateful_set, status_of(stateful_set, pods, current=current, update=update, now_s=now_s)
        )
        await self._trim(stateful_set, pods, current, update)
        return again_s

    def _current(self, stateful_set: Object, update: Revision) -> Revision:
        name = (stateful_set.get("status") or {}).get("currentRevision")
        found = [item for item in self._history.of(stateful_set) if item["metadata"]["name"] == name]
        return read(found[0]) if found else update

    async def _carry_out(self, key: Key, stateful_set: Object, decided: StatefulPlan) -> None:
        for pod in decided.relabel:
            await self._relabel(stateful_set, pod)
        for pod in decided.create:
            await self._create_claims(stateful_set, pod)
            await self._writes.create(key, stateful_set, pod)
        for pod in decided.delete:
            if phase_of(pod) in ("Failed", "Succeeded"):
                text = f"StatefulSet {'/'.join(key)} is recreating failed Pod {pod['metadata']['name']}"
                self._events.warning(stateful_set, "RecreatingFailedPod", text)
            await self._writes.delete(key, stateful_set, pod)

    async def _relabel(self, stateful_set: Object, pod: Object) -> None:
        meta = pod["metadata"]
        ordinal = ordinal_of(stateful_set["metadata"]["name"], meta["name"])
        labels = {POD_NAME_LABEL: meta["name"], POD_INDEX_LABEL: str(ordinal)}
        patch = {"metadata": {"uid": meta["uid"], "labels": labels}}
        await self._api.patch(PODS, meta["name"], patch, namespace=meta["namespace"])

    # -- claims

    async def _create_claims(self, stateful_set: Object, pod: Object) -> None:
        ordinal = ordinal_of(stateful_set["metadata"]["name"], pod["metadata"]["name"])
        assert ordinal is not None
        for claim in wanted_claims(stateful_set, ordinal):
            meta = claim["metadata"]
            there = self._claims.get(meta["name"], meta["namespace"])
            if there is None:
                await self._create_claim(stateful_set, pod, claim)
            elif is_deleting(there):
                text = f"pvc {meta['name']} is being deleted"
                self._events.warning(stateful_set, "FailedCreate", f"Pod {pod['metadata']['name']} waits: {text}")
                raise AlreadyExists(f"persistentvolumeclaims {meta['name']!r} is being deleted")

    async def _create_claim(self, stateful_set: Object, pod: Object, claim: Object) -> None:
        name, set_name = claim["metadata"]["name"], stateful_set["metadata"]["name"]
        what = f"Claim {name} Pod {pod['metadata']['name']} in StatefulSet {set_name}"
        try:
            await self._api.create(PERSISTENTVOLUMECLAIMS, claim, namespace=claim["metadata"]["namespace"])
        except AlreadyExists:
            return
        except ApiError as exc:
            self._events.warning(stateful_set, "FailedCreate", f"create {what} failed error: {exc}")
            raise
        self._events.normal(stateful_set, "SuccessfulCreate", f"create {what} success")

    async def _keep_claims(self, stateful_set: Object, pods: list[Object]) -> None:
        """Set the owners of claims as the retention policy says; make again what is missing under pending pods."""
        set_name = stateful_set["metadata"]["name"]
        for pod in pods:
            ordinal = ordinal_of(set_name, pod["metadata"]["name"])
            if ordinal is None or is_deleting(stateful_set):
                continue
            for wanted in wanted_claims(stateful_set, ordinal):
                claim = self._claims.get(wanted["metadata"]["name"], wanted["metadata"]["namespace"])
                if claim is not None:
                    await self._own(claim, wanted_owners(claim, stateful_set, pod))
                elif phase_of(pod) == "Pending" and not is_deleting(pod):
                    await self._create_claim(stateful_set, pod, wanted)

    async def _own(self, claim: Object, owners: list[dict[str, Any]]) -> None:
        if owners == owners_of(claim):
            return
        meta = claim["metadata"]
        guard = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = {"metadata": {**guard, "ownerReferences": owners or None}}
        await self._api.patch(PERSISTENTVOLUMECLAIMS, meta["name"], patch, namespace=meta["namespace"])

    # -- status and history

    async def _write_status(self, stateful_set: Object, status: dict[str, Any]) -> None:
        if status != stateful_set.get("status"):
            await self._api.update(STATEFULSETS, {**stateful_set, "status": status}, subresource="status")

    async def _trim(self, stateful_set: Object, pods: list[Object], current: Revision, update: Revision) -> None:
        used = {labels_of(pod).get(REVISION_LABEL, "") for pod in pods}
        await self._history.trim(stateful_set, in_use={current.name, update.name, *used})
