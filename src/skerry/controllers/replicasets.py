"""ReplicaSets and ReplicationControllers: as many pods as asked for, those that match or made from the template.

Source of behaviour: kubernetes pkg/controller/replicaset/replica_set.go and controller_utils.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skerry.api.gvk import PODS, REPLICASETS, Object, Resource
from skerry.api.meta import controller_of, is_deleting
from skerry.api.status import ApiError
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.expectations import Expectations
from skerry.controllers.loop import Loop
from skerry.controllers.objects import (
    annotations_of,
    available_in_s,
    created_s,
    is_active,
    is_available,
    is_ready,
    labels_of,
    phase_of,
    pod_from_template,
    ready_since_s,
    set_condition,
    without_condition,
)
from skerry.controllers.ownership import PodClaims, concerned
from skerry.controllers.pod_writes import PodWrites
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller, by_namespace
from skerry.kube.ports import KubeApi

BURST_COUNT = 500
"""Pods created or deleted in one go."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def deletion_order(pods: Sequence[Object], *, related: Sequence[Object] = ()) -> list[Object]:
    """Pods in the order in which they are given up.

    Unassigned before assigned, pending before running, not ready before ready, cheaper deletion cost first, nodes
    with more related pods first, ready for a shorter time first, more restarts first, younger first.

    Args:
        pods: active pods of one set.
        related: active pods of the same Deployment, for the rank by node.
    """
    on_node: dict[str, int] = {}
    for pod in related or pods:
        node = pod["spec"].get("nodeName") or ""
        on_node[node] = on_node.get(node, 0) + 1

    def rank(pod: Object) -> tuple[Any, ...]:
        node = pod["spec"].get("nodeName") or ""
        return (
            bool(node),
            _PHASE_RANK.get(phase_of(pod), 2),
            is_ready(pod),
            _deletion_cost(pod),
            -on_node.get(node, 0),
            -(ready_since_s(pod) or 0.0),
            -_restarts(pod),
            -created_s(pod),
            pod["metadata"]["name"],
        )

    return sorted(pods, key=rank)


def _deletion_cost(pod: Object) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _restarts(pod: Object) -> int:
    return max((s.get("restartCount", 0) for s in (pod.get("status") or {}).get("containerStatuses") or ()), default=0)


def replicaset_status(
    rs: Object, active: Sequence[Object], *, terminating: int = 0, failure: str | None = "", now_s: float
) -> dict[str, Any]:
    """The status that a set's pods add up to.

    Args:
        rs: the ReplicaSet.
        active: its pods that neither finished nor are being deleted.
        terminating: how many of its pods are being deleted.
        failure: why pods could not be created or deleted, empty when they could, None when nothing was tried.
        now_s: wall clock.
    """
    min_ready_s = rs["spec"].get("minReadySeconds") or 0
    template_labels = ((rs["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    conditions = (rs.get("status") or {}).get("conditions") or []
    if failure is None:
        pass
    elif failure:
        conditions = set_condition(conditions, "ReplicaFailure", "True", "FailedCreate", failure, now_s=now_s)
    else:
        conditions = without_condition(conditions, "ReplicaFailure")
    status: dict[str, Any] = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(template_labels.items() <= labels_of(pod).items() for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(is_available(pod, min_ready_s, now_s) for pod in active),
        "observedGeneration": rs["metadata"].get("generation", 0),
    }
    status = {key: value for key, value in status.items() if value or key in ("replicas", "observedGeneration")}
    if rs.get("kind") != "ReplicationController":
        status["terminatingReplicas"] = terminating
    if conditions:
        status["conditions"] = conditions
    return status


def next_available_s(pods: Sequence[Object], min_ready_s: int, now_s: float) -> float | None:
    """Seconds until the next ready pod becomes available; None when none will by waiting."""
    waits = [available_in_s(pod, min_ready_s, now_s) for pod in pods]
    return min((wait for wait in waits if wait), default=None)


class ReplicaSetController:
    """Keeps ReplicaSets at their number.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was created and deleted.
        clock: time source.
        resource: ReplicaSets, or the older ReplicationControllers, which do the same.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        events: EventRecorder,
        clock: Clock | None = None,
        resource: Resource = REPLICASETS,
    ) -> None:
        self._api = api
        self._resource = resource
        self._clock = clock or SystemClock()
        self._sets = informers.of(resource, indexes={"controller": by_controller, "namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"controller": by_controller, "namespace": by_namespace})
        self._expected = Expectations(self._pods, self._clock)
        self._writes = PodWrites(api, events, self._expected)
        self._claims = PodClaims(api, resource, self._pods)
        self._loop: Loop[Key] = Loop(resource.plural, self._sync, informers=(self._sets, self._pods))
        self._loop.follow(self._sets)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for key in concerned(pod, self._sets, self._resource.kind) if pod is not None else ():
                self._loop.add(key)

    async def _sync(self, key: Key) -> float | None:
        namespace, name = key
        rs = self._sets.get(name, namespace)
        if rs is None:
            self._expected.forget(key)
            return None
        pods = await self._claims.of(rs)
        active = [pod for pod in pods if is_active(pod)]
        failure: str | None = None
        if not is_deleting(rs) and self._expected.are_met(key):
            active, failure = await self._scale(key, rs, active)
        terminating = sum(is_deleting(pod) and phase_of(pod) not in ("Succeeded", "Failed") for pod in pods)
        status = replicaset_status(rs, active, terminating=terminating, failure=failure, now_s=self._clock.now_s())
        if status != rs.get("status"):
            await self._api.update(self._resource, {**rs, "status": status}, subresource="status")
        if failure:
            return 5.0
        return next_available_s(active, rs["spec"].get("minReadySeconds") or 0, self._clock.now_s())

    async def _scale(self, key: Key, rs: Object, active: list[Object]) -> tuple[list[Object], str]:
        missing = rs["spec"].get("replicas", 1) - len(active)
        try:
            if missing > 0:
                created = [
                    await self._writes.create(key, rs, self._pod_of(rs)) for _ in range(min(missing, BURST_COUNT))
                ]
                return active + created, ""
            if missing < 0:
                gone = deletion_order(active, related=self._related(rs))[: min(-missing, BURST_COUNT)]
                for pod in gone:
                    await self._writes.delete(key, rs, pod)
                return [pod for pod in active if pod not in gone], ""
        except ApiError as exc:
            return active, str(exc)
        return active, ""

    def _pod_of(self, rs: Object) -> Object:
        return pod_from_template(rs["spec"]["template"], rs, self._resource)

    def _related(self, rs: Object) -> list[Object]:
        controller = controller_of(rs)
        if controller is None:
            return []
        siblings = self._sets.by_index("controller", controller["uid"])
        pods = [pod for rs in siblings for pod in self._pods.by_index("controller", rs["metadata"]["uid"])]
        return [pod for pod in pods if is_active(pod)]
