"""Scheduler loop: one pod at a time, bound through POST binding.

A pod that was bound a moment ago and that the cache does not show yet counts as being on its node.
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import NODES, PODS, Object
from skerry.api.meta import is_deleting, rfc3339
from skerry.api.status import NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.loop import Loop
from skerry.controllers.objects import condition_of, labels_of, phase_of
from skerry.controllers.scheduler.plan import Choice, NodeView, choose, view
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_node, key_of
from skerry.kube.ports import KubeApi

SCHEDULER_NAME = "default-scheduler"
RETRY_S = 60.0
"""An unschedulable pod is looked at again after this, and whenever nodes or pods change so that it may fit."""


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
        self._views: dict[str, NodeView] = {}
        self._assumed: dict[str, tuple[str, Object]] = {}
        self._unschedulable: set[Key] = set()
        self._loop: Loop[Key] = Loop("scheduler", self._sync, informers=(self._nodes, self._pods), workers=1)
        self._nodes.on_event(self._node_changed)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

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
        if new is None or new["spec"].get("nodeName"):
            self._forget(pod)
        elif self._is_ours(new) and (old is None or _demands(old) != _demands(new)):
            self._loop.add(key_of(new))
        if old is not None and old["spec"].get("nodeName") and (new is None or _is_finished(new)):
            self._try_again()

    def _forget(self, pod: Object) -> None:
        assumed = self._assumed.pop(pod["metadata"]["uid"], None)
        if assumed is not None:
            self._views.pop(assumed[0], None)
        self._unschedulable.discard(key_of(pod))

    def _try_again(self) -> None:
        for key in self._unschedulable:
            self._loop.add(key)

    def _is_ours(self, pod: Object) -> bool:
        return (pod["spec"].get("schedulerName") or SCHEDULER_NAME) == self._name and not is_deleting(pod)

    async def _sync(self, key: Key) -> float | None:
        pod = self._pods.get(key[1], key[0])
        if pod is None or pod["spec"].get("nodeName") or not self._is_ours(pod) or _is_finished(pod):
            return None
        if pod["metadata"]["uid"] in self._assumed:
            return None
        if pod["spec"].get("schedulingGates"):
            await self._report(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return None
        choice = choose(pod, [self._view(node) for node in self._nodes.items() if not is_deleting(node)])
        if choice.node:
            await self._bind(pod, choice.node)
            return None
        return await self._give_up_for_now(key, pod, choice)

    def _view(self, node: Object) -> NodeView:
        name = node["metadata"]["name"]
        found = self._views.get(name)
        if found is None:
            assumed = [pod for at, pod in self._assumed.values() if at == name]
            found = self._views[name] = view(node, [*self._pods.by_index("node", name), *assumed])
        return found

    async def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        self._assumed[meta["uid"]] = (node, pod)
        self._views.pop(node, None)
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
        self._unschedulable.discard(key_of(pod))
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self._events.normal(pod, "Scheduled", text)

    async def _give_up_for_now(self, key: Key, pod: Object, choice: Choice) -> float:
        self._unschedulable.add(key)
        self._events.warning(pod, "FailedScheduling", choice.message)
        await self._report(pod, "Unschedulable", choice.message)
        return RETRY_S

    async def _report(self, pod: Object, reason: str, message: str) -> None:
        old = condition_of(pod, "PodScheduled") or {}
        if (old.get("reason"), old.get("message")) == (reason, message):
            return
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": old.get("lastTransitionTime") or rfc3339(self._clock.now_s()),
        }
        patch = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
        meta = pod["metadata"]
        try:
            await self._api.patch(
                PODS, meta["name"], patch, patch_type="strategic", namespace=meta["namespace"], subresource="status"
            )
        except NotFound:
            return


def _matter(node: Object) -> tuple[Any, ...]:
    """What of a node decides whether a pod fits; heartbeats change none of it."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return spec.get("taints"), spec.get("unschedulable"), labels_of(node), status.get("allocatable")


def _demands(pod: Object) -> tuple[Any, ...]:
    return pod["spec"], labels_of(pod)


def _is_finished(pod: Object) -> bool:
    return phase_of(pod) in ("Succeeded", "Failed")
