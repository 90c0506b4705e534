"""Deployment loop: reads caches, asks ``plan``, carries its actions out."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import DEPLOYMENTS, PODS, REPLICASETS, Object
from skerry.api.meta import controller_of, is_deleting, owner_reference
from skerry.api.status import AlreadyExists, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.deployments.plan import (
    Action,
    Annotate,
    ChangeSet,
    CreateSet,
    DeleteSet,
    SetStatus,
    find_new_set,
    plan,
)
from skerry.controllers.loop import Loop
from skerry.controllers.objects import labels_of, matches, phase_of
from skerry.controllers.ownership import concerned
from skerry.controllers.templates import same_template
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller, by_namespace
from skerry.kube.ports import KubeApi


class DeploymentController:
    """Rolls Deployments out.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was scaled.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._deployments = informers.of(DEPLOYMENTS, indexes={"namespace": by_namespace})
        self._sets = informers.of(REPLICASETS, indexes={"controller": by_controller, "namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"controller": by_controller, "namespace": by_namespace})
        self._loop: Loop[Key] = Loop("deployments", self._sync, informers=(self._deployments, self._sets, self._pods))
        self._loop.follow(self._deployments)
        self._sets.on_event(self._set_changed)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _set_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for rs in (old, new):
            if rs is not None:
                self._wake_owner(rs)

    def _wake_owner(self, rs: Object) -> None:
        for key in concerned(rs, self._deployments, "Deployment"):
            self._loop.add(key)

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Recreate waits for the last old pod to go; everything else comes through ReplicaSet status."""
        if kind != "DELETED" or old is None:
            return
        controller = controller_of(old)
        if controller is not None and controller["kind"] == "ReplicaSet":
            rs = self._sets.get(controller["name"], old["metadata"]["namespace"])
            if rs is not None:
                self._wake_owner(rs)

    async def _sync(self, key: Key) -> float | None:
        namespace, name = key
        deployment = self._deployments.get(name, namespace)
        if deployment is None or not (deployment["spec"].get("selector") or {}):
            return None
        sets = await self._claimed(deployment)
        decided = plan(
            deployment, sets, old_pods_count=self._old_pods_count(deployment, sets), now_s=self._clock.now_s()
        )
        by_name = {rs["metadata"]["name"]: rs for rs in sets}
        for action in decided.actions:
            deployment = await self._do(action, deployment, by_name)
        return decided.again_s

    async def _claimed(self, deployment: Object) -> list[Object]:
        meta = deployment["metadata"]
        owned = self._sets.by_index("controller", meta["uid"])
        if is_deleting(deployment):
            return owned
        selector = deployment["spec"]["selector"]
        for rs in self._sets.by_index("namespace", meta["namespace"]):
            if controller_of(rs) is None and matches(selector, labels_of(rs)) and not is_deleting(rs):
                owned.append(await self._adopt(deployment, rs))
        return owned

    async def _adopt(self, deployment: Object, rs: Object) -> Object:
        meta = rs["metadata"]
        owners = [*(meta.get("ownerReferences") or []), owner_reference(deployment, DEPLOYMENTS)]
        patch = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "ownerReferences": owners}
        }
        return await self._api.patch(REPLICASETS, meta["name"], patch, namespace=meta["namespace"])

    def _old_pods_count(self, deployment: Object, sets: list[Object]) -> int:
        new = find_new_set(deployment, sets)
        old = [rs for rs in sets if rs is not new]
        pods = [pod for rs in old for pod in self._pods.by_index("controller", rs["metadata"]["uid"])]
        return sum(phase_of(pod) not in ("Succeeded", "Failed") for pod in pods)

    async def _do(self, action: Action, deployment: Object, sets: dict[str, Object]) -> Object:
        """Carry one action out; returns the Deployment as it is now."""
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        match action:
            case CreateSet():
                await self._create(deployment, action.replica_set)
            case ChangeSet():
                await self._change(deployment, action, sets[action.name])
            case DeleteSet():
                await self._delete(namespace, action)
            case Annotate():
                patch = {"metadata": {"annotations": action.annotations}}
                return await self._api.patch(DEPLOYMENTS, name, patch, namespace=namespace)
            case SetStatus():
                return await self._api.update(
                    DEPLOYMENTS, {**deployment, "status": action.status}, subresource="status"
                )
        return deployment

    async def _create(self, deployment: Object, rs: Object) -> None:
        namespace, name = rs["metadata"]["namespace"], rs["metadata"]["name"]
        try:
            await self._api.create(REPLICASETS, rs, namespace=namespace)
        except AlreadyExists:
            if await self._is_ours(deployment, rs):  # the cache is behind
                return
            await self._count_collision(deployment)
            raise
        if rs["spec"]["replicas"]:
            text = f"Scaled up replica set {name} from 0 to {rs['spec']['replicas']}"
            self._events.normal(deployment, "ScalingReplicaSet", text)

    async def _is_ours(self, deployment: Object, rs: Object) -> bool:
        meta = deployment["metadata"]
        live = await self._api.get(REPLICASETS, rs["metadata"]["name"], namespace=meta["namespace"])
        controller = controller_of(live)
        ours = controller is not None and controller["uid"] == meta["uid"]
        return ours and same_template(live["spec"]["template"], deployment["spec"]["template"])

    async def _count_collision(self, deployment: Object) -> None:
        """Another template has this hash: the count goes into the next hash, so the name changes."""
        status: dict[str, Any] = dict(deployment.get("status") or {})
        status["collisionCount"] = (status.get("collisionCount") or 0) + 1
        await self._api.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")

    async def _change(self, deployment: Object, action: ChangeSet, rs: Object) -> None:
        meta = rs["metadata"]
        patch: dict[str, Any] = {"metadata": {"resourceVersion": meta["resourceVersion"]}}
        if action.annotations:
            patch["metadata"]["annotations"] = action.annotations
        if action.event:
            patch["spec"] = {"replicas": action.replicas}
        await self._api.patch(REPLICASETS, action.name, patch, namespace=meta["namespace"])
        if action.event:
            self._events.normal(deployment, "ScalingReplicaSet", action.event)

    async def _delete(self, namespace: str, action: DeleteSet) -> None:
        try:
            await self._api.delete(REPLICASETS, action.name, namespace=namespace, uid=action.uid)
        except NotFound:
            pass
