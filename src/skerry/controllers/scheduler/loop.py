"""Scheduler loop: the most important waiting pod first, bound through POST binding.

A pod that was bound a moment ago and that the cache does not show yet counts as being on its node, and so does one
that waits for its volumes. A pod that pushed others out counts on the node that it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import (
    NAMESPACES,
    NODES,
    PDBS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
    Object,
)
from skerry.api.meta import is_deleting, rfc3339
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.controllers.disrupted import mark_disrupted
from skerry.controllers.loop import Loop
from skerry.controllers.objects import condition_of, labels_of, phase_of
from skerry.controllers.scheduler.plan import Choice, World, choose
from skerry.controllers.scheduler.preemption import Victims, preempt, why_not
from skerry.controllers.scheduler.queue import SchedulingQueue
from skerry.controllers.scheduler.views import NodeView, priority_of, view, with_pods
from skerry.controllers.scheduler.volumes import SELECTED_NODE, Binding, Storage, claim_names, claims_of
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_node, key_of
from skerry.kube.ports import KubeApi

log = get_log(__name__)

SCHEDULER_NAME = "default-scheduler"
RETRY_S = 60.0
"""An unschedulable pod is looked at again after this, and whenever something changes that may help it."""
VOLUMES_S = 600.0
"""So long a pod waits for its volumes on the node that was chosen."""
_NEXT = "next"


class _Place(Struct, frozen=True):
    """Where a pod counts that the cache does not show there.

    Args:
        node: name.
        pod: as it was when it was placed.
        until_s: when the wait for its volumes is given up; None when it is bound.
    """

    node: str
    pod: Object
    until_s: float | None = None


class Scheduler:
    """Binds pods to nodes.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was scheduled and what could not be.
        clock: time source.
        name: pods with this ``spec.schedulerName`` are ours.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        events: EventRecorder,
        clock: Clock | None = None,
        name: str = SCHEDULER_NAME,
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._name = name
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS, indexes={"node": by_node})
        self._namespaces = informers.of(NAMESPACES)
        self._budgets = informers.of(PDBS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(STORAGECLASSES)
        self._views: dict[str, NodeView] = {}
        self._places: dict[str, _Place] = {}
        self._nominated: dict[str, tuple[str, Object]] = {}
        self._queue = SchedulingQueue()
        storage = (self._claims, self._volumes, self._classes)
        caches = (self._nodes, self._pods, self._namespaces, self._budgets, *storage)
        self._arrivals: Loop[Key] = Loop("scheduler-arrivals", self._arrive, informers=caches)
        self._turns: Loop[str] = Loop("scheduler", self._turn, informers=caches, workers=1)
        self._nodes.on_event(self._node_changed)
        self._pods.on_event(self._pod_changed)
        for informer in storage:
            informer.on_event(self._storage_changed)

    async def run(self) -> None:
        """Work; never ends."""
        async with Supervisor("scheduler", clock=self._clock) as tasks:
            tasks.keep("arrivals", self._arrivals.run)
            tasks.keep("turns", self._turns.run)
            await tasks.wait()

    # -- what changed

    def _node_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        node = new or old
        assert node is not None
        self._views.pop(node["metadata"]["name"], None)
        if new is not None and (old is None or _matter(old) != _matter(new)):
            self._try_again()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is not None:
                self._views.pop(pod["spec"].get("nodeName") or "", None)
        pod = new or old
        assert pod is not None
        if new is None or new["spec"].get("nodeName") or _is_finished(new):
            self._forget(pod)
            self._queue.drop(key_of(pod))
            if new is not None and (old is None or not old["spec"].get("nodeName")):
                self._try_again(neighbours_only=True)
        else:
            self._note_nomination(new)
            if self._is_ours(new) and (old is None or _demands(old) != _demands(new)):
                self._arrivals.add(key_of(new))
        if old is not None and old["spec"].get("nodeName") and (new is None or _is_finished(new)):
            self._try_again()

    def _storage_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for place in self._places.values():
            if place.until_s is not None:
                self._arrivals.add(key_of(place.pod))
        self._try_again(claims_only=True)

    def _note_nomination(self, pod: Object) -> None:
        uid, node = pod["metadata"]["uid"], (pod.get("status") or {}).get("nominatedNodeName")
        if node:
            self._nominated[uid] = (node, pod)
        else:
            self._nominated.pop(uid, None)

    def _forget(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        place = self._places.pop(uid, None)
        if place is not None:
            self._views.pop(place.node, None)
        self._nominated.pop(uid, None)

    def _try_again(self, *, neighbours_only: bool = False, claims_only: bool = False) -> None:
        """Look at parked pods again, those only that the change may help."""

        def is_helped(key: Key) -> bool:
            pod = self._pods.get(key[1], key[0])
            if pod is None:
                return False
            if neighbours_only:
                return bool(pod["spec"].get("affinity") or pod["spec"].get("topologySpreadConstraints"))
            return not claims_only or any(True for _ in claim_names(pod))

        for key, wait_s in self._queue.wake(self._clock.monotonic_s(), only=is_helped):
            self._arrivals.add_after(key, wait_s)

    def _is_ours(self, pod: Object) -> bool:
        return (pod["spec"].get("schedulerName") or SCHEDULER_NAME) == self._name and not is_deleting(pod)

    # -- one pod

    async def _arrive(self, key: Key) -> float | None:
        pod = self._pods.get(key[1], key[0])
        if pod is not None:
            self._queue.put(key, priority_of(pod))
            self._turns.add(_NEXT)
        return None

    async def _turn(self, _: str) -> float | None:
        key = self._queue.pop()
        if key is None:
            return None
        try:
            again_s = await self._schedule(key)
        except ApiError as exc:
            log.warning("scheduler.retries", ns=key[0], name=key[1], error=str(exc))
            self._queue.park(key, self._clock.monotonic_s())
            again_s = 1.0
        if again_s is not None:
            self._arrivals.add_after(key, again_s)
        if len(self._queue):
            self._turns.add(_NEXT)
        return None

    async def _schedule(self, key: Key) -> float | None:
        pod = self._pods.get(key[1], key[0])
        if pod is None or pod["spec"].get("nodeName") or not self._is_ours(pod) or _is_finished(pod):
            self._queue.drop(key)
            return None
        place = self._places.get(pod["metadata"]["uid"])
        if place is not None:
            return await self._await_volumes(key, pod, place)
        if pod["spec"].get("schedulingGates"):
            await self._report(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return None
        world = self._world(pod)
        views = self._views_for(pod)
        choice = choose(pod, views, world)
        if choice.node and choice.bindings:
            return await self._reserve_volumes(pod, choice)
        if choice.node:
            await self._bind(pod, choice.node)
            return None
        return await self._give_up_for_now(key, pod, choice, views, world)

    def _world(self, pod: Object) -> World:
        namespaces = {item["metadata"]["name"]: labels_of(item) for item in self._namespaces.items()}
        if not any(True for _ in claim_names(pod)):
            return World(namespaces)
        storage = Storage(
            claims={key_of(claim): claim for claim in self._claims.items()},
            volumes={volume["metadata"]["name"]: volume for volume in self._volumes.items()},
            classes={item["metadata"]["name"]: item for item in self._classes.items()},
        )
        return World(namespaces, storage)

    def _views_for(self, pod: Object) -> list[NodeView]:
        """Every node; on those that equally important pods wait for, these count already."""
        views = [self._view(node) for node in self._nodes.items() if not is_deleting(node)]
        own, uid = priority_of(pod), pod["metadata"]["uid"]
        rivals: dict[str, list[Object]] = {}
        for other_uid, (node, other) in self._nominated.items():
            if other_uid != uid and priority_of(other) >= own and other_uid not in self._places:
                rivals.setdefault(node, []).append(other)
        if not rivals:
            return views
        return [with_pods(v, [*v.pods, *rivals[v.name]]) if v.name in rivals else v for v in views]

    def _view(self, node: Object) -> NodeView:
        name = node["metadata"]["name"]
        found = self._views.get(name)
        if found is None:
            placed = [place.pod for place in self._places.values() if place.node == name]
            found = self._views[name] = view(node, [*self._pods.by_index("node", name), *placed])
        return found

    # -- binding

    def _count_on(self, pod: Object, node: str, *, until_s: float | None = None) -> None:
        self._places[pod["metadata"]["uid"]] = _Place(node, pod, until_s)
        self._views.pop(node, None)

    async def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        self._count_on(pod, node)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._api.create(PODS, binding, namespace=meta["namespace"], name=meta["name"], subresource="binding")
        except NotFound:
            self._forget(pod)
            return
        except BaseException:
            self._forget(pod)
            raise
        self._queue.drop(key_of(pod))
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self._events.normal(pod, "Scheduled", text)

    async def _reserve_volumes(self, pod: Object, choice: Choice) -> float:
        """Say which volumes and which node; the binder does the rest, and then the pod is bound."""
        self._count_on(pod, choice.node, until_s=self._clock.monotonic_s() + VOLUMES_S)
        try:
            for binding in choice.bindings:
                await self._reserve(binding, choice.node)
        except BaseException:
            self._forget(pod)
            raise
        return VOLUMES_S

    async def _reserve(self, binding: Binding, node: str) -> None:
        claim = binding.claim["metadata"]
        if binding.volume is None:
            patch: dict[str, Any] = {"metadata": {"uid": claim["uid"], "annotations": {SELECTED_NODE: node}}}
            await self._api.patch(PERSISTENTVOLUMECLAIMS, claim["name"], patch, namespace=claim["namespace"])
            return
        meta = binding.volume["metadata"]
        reference = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim["namespace"],
            "name": claim["name"], "uid": claim["uid"],
        }  # fmt: skip
        guard = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        await self._api.patch(PERSISTENTVOLUMES, meta["name"], {"metadata": guard, "spec": {"claimRef": reference}})

    async def _await_volumes(self, key: Key, pod: Object, place: _Place) -> float | None:
        if place.until_s is None:
            return None  # bound; the cache will show it
        claims = claims_of(pod, self._world(pod).storage)
        if not claims.waiting and not claims.problem:
            self._forget(pod)
            choice = choose(pod, self._views_for(pod), self._world(pod))
            if choice.node and not choice.bindings:
                await self._bind(pod, choice.node)
                return None
            return 1.0
        if self._clock.monotonic_s() >= place.until_s or self._nodes.get(place.node) is None:
            self._forget(pod)
            self._events.warning(pod, "FailedScheduling", f"volumes were not bound in time on {place.node}")
            return 1.0
        return place.until_s - self._clock.monotonic_s()

    # -- nowhere to go

    async def _give_up_for_now(
        self, key: Key, pod: Object, choice: Choice, views: list[NodeView], world: World
    ) -> float:
        self._queue.park(key, self._clock.monotonic_s())
        verdict = preempt(pod, views, choice.curable, self._budgets.items(), world)
        message = f"{choice.message} {verdict.message}".strip() if verdict.message else choice.message
        nominated: str | None = (pod.get("status") or {}).get("nominatedNodeName") or None
        if verdict.victims is not None:
            await self._evict(pod, verdict.victims)
            nominated = verdict.victims.node
        elif not why_not(pod, views):
            nominated = None
        self._events.warning(pod, "FailedScheduling", message)
        await self._report(pod, "Unschedulable", message, nominated=nominated)
        return RETRY_S

    async def _evict(self, pod: Object, victims: Victims) -> None:
        for victim in victims.pods:
            if is_deleting(victim):
                continue
            meta = victim["metadata"]
            try:
                await mark_disrupted(
                    self._api, victim, "PreemptionByScheduler",
                    f"{self._name}: preempting to accommodate a higher priority pod", now_s=self._clock.now_s(),
                )  # fmt: skip
                await self._api.delete(PODS, meta["name"], namespace=meta["namespace"], uid=meta["uid"])
            except NotFound:
                continue
            log.info("pod.preempted", ns=meta["namespace"], name=meta["name"], uid=meta["uid"], node=victims.node)
            text = f"Preempted by pod {pod['metadata']['uid']} on node {victims.node}"
            self._events.normal(victim, "Preempted", text)

    async def _report(self, pod: Object, reason: str, message: str, *, nominated: str | None = None) -> None:
        old = condition_of(pod, "PodScheduled") or {}
        was = (pod.get("status") or {}).get("nominatedNodeName") or None
        if (old.get("reason"), old.get("message")) == (reason, message) and was == nominated:
            return
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": old.get("lastTransitionTime") or rfc3339(self._clock.now_s()),
        }
        status: dict[str, Any] = {"conditions": [condition]}
        if was != nominated:
            status["nominatedNodeName"] = nominated
        try:
            await self._patch_status(pod, status)
        except NotFound:
            return

    async def _patch_status(self, pod: Object, status: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        await self._api.patch(
            PODS, meta["name"], patch, patch_type="strategic", namespace=meta["namespace"], subresource="status"
        )


def _matter(node: Object) -> tuple[Any, ...]:
    """What of a node decides whether a pod fits; heartbeats change none of it."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return spec.get("taints"), spec.get("unschedulable"), labels_of(node), status.get("allocatable")


def _demands(pod: Object) -> tuple[Any, ...]:
    return pod["spec"], labels_of(pod)


def _is_finished(pod: Object) -> bool:
    return phase_of(pod) in ("Succeeded", "Failed")
