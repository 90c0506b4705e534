"""Disruption budgets: how many of a budget's pods are healthy, and how many may be evicted now.

Source of behaviour: kubernetes pkg/controller/disruption/disruption.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import DEPLOYMENTS, PDBS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS, Object, Resource
from skerry.api.meta import controller_of, is_deleting, parse_rfc3339, rfc3339
from skerry.api.status import ApiError
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.loop import Loop
from skerry.controllers.objects import is_ready, labels_of, matches, phase_of, resolve_percent
from skerry.kube.events import EventRecorder
from skerry.kube.informer import Informer, InformerSet, Key, by_namespace
from skerry.kube.ports import KubeApi

GONE_S = 120.0
"""An evicted pod that is still there after this was not evicted after all."""
_SCALABLE = {resource.kind: resource for resource in (DEPLOYMENTS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS)}


def wanted_healthy(spec: Mapping[str, Any], pods_count: int, scale: int) -> tuple[int, int]:
    """How many pods must stay healthy, and of how many.

    Args:
        spec: of the budget.
        pods_count: pods that it selects.
        scale: what their controllers ask for together.
    """
    if (most := spec.get("maxUnavailable")) is not None:
        return max(0, scale - resolve_percent(most, scale, round_up=True, default=0)), scale
    least = spec.get("minAvailable")
    if isinstance(least, str):
        return resolve_percent(least, scale, round_up=True, default=0), scale
    return (int(least) if least is not None else 1), pods_count


def still_disrupted(
    old: Mapping[str, str], pods: Sequence[Object], now_s: float
) -> tuple[dict[str, str], float | None]:
    """Evicted pods that are not seen to go yet, and when to look again because one of them may never."""
    alive = {pod["metadata"]["name"] for pod in pods if not is_deleting(pod)}
    kept = {}
    waits = []
    for name, at in old.items():
        left_s = (parse_rfc3339(at) or 0.0) + GONE_S - now_s
        if name in alive and left_s > 0:
            kept[name] = at
            waits.append(left_s)
    return kept, min(waits, default=None)


def budget_status(
    budget: Object, pods: Sequence[Object], *, scale: int, disrupted: Mapping[str, str], now_s: float
) -> dict[str, Any]:
    """The status of a budget.

    Args:
        budget: as stored.
        pods: those that it selects, finished ones left out.
        scale: what their controllers ask for together.
        disrupted: evicted pods that are not seen to go yet.
        now_s: wall clock.
    """
    desired, expected = wanted_healthy(budget["spec"], len(pods), scale)
    healthy = sum(is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in disrupted for pod in pods)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    word, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    status: dict[str, Any] = {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "conditions": _conditions(budget, word, reason, "", now_s),
    }
    if disrupted:
        status["disruptedPods"] = dict(disrupted)
    return status


def _conditions(budget: Object, word: str, reason: str, message: str, now_s: float) -> list[dict[str, Any]]:
    old = [c for c in (budget.get("status") or {}).get("conditions") or () if c["type"] == "DisruptionAllowed"]
    others = [c for c in (budget.get("status") or {}).get("conditions") or () if c["type"] != "DisruptionAllowed"]
    since = old[0]["lastTransitionTime"] if old and old[0]["status"] == word else rfc3339(now_s)
    fresh = {
        "type": "DisruptionAllowed", "status": word, "reason": reason, "message": message,
        "lastTransitionTime": since, "observedGeneration": budget["metadata"].get("generation", 0),
    }  # fmt: skip
    return [*others, fresh]


class DisruptionController:
    """Keeps the status of every budget.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say why a budget cannot be counted.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._budgets = informers.of(PDBS, indexes={"namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"namespace": by_namespace})
        self._workloads: dict[str, Informer] = {
            kind: informers.of(resource, indexes={"namespace": by_namespace}) for kind, resource in _SCALABLE.items()
        }
        caches = (self._budgets, self._pods, *self._workloads.values())
        self._loop: Loop[Key] = Loop("disruption", self._sync, informers=caches)
        self._loop.follow(self._budgets)
        self._pods.on_event(self._pod_changed)
        for informer in self._workloads.values():
            informer.on_event(self._workload_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for budget in self._budgets.by_index("namespace", pod["metadata"]["namespace"]) if pod is not None else ():
                if matches(budget["spec"].get("selector"), labels_of(pod or {"metadata": {}})):
                    self._loop.add((budget["metadata"]["namespace"], budget["metadata"]["name"]))

    def _workload_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        obj = new or old
        assert obj is not None
        for budget in self._budgets.by_index("namespace", obj["metadata"]["namespace"]):
            self._loop.add((budget["metadata"]["namespace"], budget["metadata"]["name"]))

    async def _sync(self, key: Key) -> float | None:
        budget = self._budgets.get(key[1], key[0])
        if budget is None or is_deleting(budget):
            return None
        selector, now_s = budget["spec"].get("selector"), self._clock.now_s()
        pods = [
            pod
            for pod in self._pods.by_index("namespace", key[0])
            if matches(selector, labels_of(pod)) and phase_of(pod) not in ("Succeeded", "Failed")
        ]
        old = budget.get("status") or {}
        disrupted, again_s = still_disrupted(old.get("disruptedPods") or {}, pods, now_s)
        try:
            scale = await self._scale(budget, pods)
        except ApiError as exc:
            await self._fail(budget, f"found no controller ref for pod: {exc}", now_s)
            return 30.0
        status = budget_status(budget, pods, scale=scale, disrupted=disrupted, now_s=now_s)
        await self._write(budget, status)
        return again_s

    async def _write(self, budget: Object, status: dict[str, Any]) -> None:
        if status != budget.get("status"):
            await self._api.update(PDBS, {**budget, "status": status}, subresource="status")

    async def _fail(self, budget: Object, message: str, now_s: float) -> None:
        """Safe side: nothing may be evicted."""
        self._events.warning(budget, "CalculateExpectedPodCountFailed", message)
        status = {**(budget.get("status") or {}), "disruptionsAllowed": 0}
        status["conditions"] = _conditions(budget, "False", "SyncFailed", message, now_s)
        await self._write(budget, status)

    async def _scale(self, budget: Object, pods: Sequence[Object]) -> int:
        """What the controllers of the pods ask for together; pods without one count for nothing."""
        spec = budget["spec"]
        if spec.get("maxUnavailable") is None and not isinstance(spec.get("minAvailable"), str):
            return len(pods)
        found: dict[str, int] = {}
        for pod in pods:
            owner = controller_of(pod)
            if owner is None:
                continue
            uid, count = await self._replicas_of(pod["metadata"]["namespace"], owner)
            found[uid] = count
        return sum(found.values())

    async def _replicas_of(self, namespace: str, owner: Mapping[str, Any]) -> tuple[str, int]:
        informer = self._workloads.get(owner["kind"])
        workload = informer.get(owner["name"], namespace) if informer is not None else None
        if workload is None or workload["metadata"]["uid"] != owner["uid"]:
            return await self._custom_replicas(namespace, owner)
        upper = controller_of(workload)
        if upper is not None and owner["kind"] == "ReplicaSet" and upper["kind"] == "Deployment":
            return await self._replicas_of(namespace, upper)
        replicas = workload["spec"].get("replicas")
        return workload["metadata"]["uid"], 1 if replicas is None else int(replicas)

    async def _custom_replicas(self, namespace: str, owner: Mapping[str, Any]) -> tuple[str, int]:
        """By the scale subresource, which kinds of others may have, too."""
        group, _, version = owner["apiVersion"].rpartition("/")
        resource = _SCALABLE.get(owner["kind"]) or Resource(
            group, version, _plural(str(owner["kind"])), str(owner["kind"])
        )
        scale = await self._api.get(resource, owner["name"], namespace=namespace, subresource="scale")
        return owner["uid"], int((scale.get("spec") or {}).get("replicas") or 0)


def _plural(kind: str) -> str:
    """The usual plural of a kind; what is named otherwise cannot be counted."""
    word = kind.lower()
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
