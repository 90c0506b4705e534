"""HorizontalPodAutoscaler loop: looks at each every 15 seconds.

Source of behaviour: kubernetes pkg/controller/podautoscaler/horizontal.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skerry.api.gvk import HPAS, PODS, Object, Resource
from skerry.api.meta import is_deleting, rfc3339
from skerry.api.selectors import LabelSelector, parse_labels
from skerry.api.status import ApiError, BadRequest
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.values import Struct, field
from skerry.controllers.autoscaling.behaviour import Bounded, Memory, bound, remember_change
from skerry.controllers.autoscaling.metrics import PodMetrics
from skerry.controllers.autoscaling.replicas import (
    NoMetric,
    Proposal,
    by_utilization,
    by_value,
    group,
    milli,
    requests_milli,
)
from skerry.controllers.loop import Loop
from skerry.controllers.objects import labels_of, set_condition
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_namespace
from skerry.kube.ports import KubeApi

SYNC_S = 15.0


class _Look(Struct):
    """One look at one autoscaler."""

    hpa: Object
    now_s: float
    conditions: list[dict[str, Any]]
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def say(self, kind: str, status: str, reason: str, message: str) -> None:
        self.conditions = set_condition(self.conditions, kind, status, reason, message, now_s=self.now_s)


class PodAutoscaler:
    """Sets the scale of what HorizontalPodAutoscalers name.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was scaled and what could not be.
        metrics: values of pods.
        served: every resource that the server stores, to find the one that a kind means.
        clock: time source.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        events: EventRecorder,
        metrics: PodMetrics,
        served: Callable[[], Sequence[Resource]],
        clock: Clock | None = None,
    ) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._served = served
        self._clock = clock or SystemClock()
        self._hpas = informers.of(HPAS)
        self._pods = informers.of(PODS, indexes={"namespace": by_namespace})
        self._memory: dict[str, Memory] = {}
        self._loop: Loop[Key] = Loop("autoscaling", self._sync, informers=(self._hpas, self._pods))
        self._hpas.on_event(self._hpa_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _hpa_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Own writes of the status wake nobody: the next look is a matter of time."""
        if new is None:
            assert old is not None
            self._memory.pop(old["metadata"]["uid"], None)
        elif old is None or old["spec"] != new["spec"]:
            self._loop.add((new["metadata"]["namespace"], new["metadata"]["name"]))

    async def _sync(self, key: Key) -> float | None:
        hpa = self._hpas.get(key[1], key[0])
        if hpa is None or is_deleting(hpa):
            return None
        status = hpa.get("status") or {}
        look = _Look(hpa, self._clock.now_s(), list(status.get("conditions") or ()))
        written = await self._look_at(look)
        fresh = {**status, **written, "observedGeneration": hpa["metadata"].get("generation", 0)}
        fresh["conditions"] = look.conditions
        if fresh != status:
            await self._api.update(HPAS, {**hpa, "status": fresh}, subresource="status")
        return SYNC_S

    async def _look_at(self, look: _Look) -> dict[str, Any]:
        hpa, spec = look.hpa, look.hpa["spec"]
        namespace, target = hpa["metadata"]["namespace"], spec["scaleTargetRef"]
        try:
            resource = self._resource(target)
            scale = await self._api.get(resource, target["name"], namespace=namespace, subresource="scale")
        except (ApiError, NoMetric) as exc:
            text = f"the HPA controller was unable to get the target's current scale: {exc}"
            look.say("AbleToScale", "False", "FailedGetScale", text)
            self._events.warning(hpa, "FailedGetScale", str(exc))
            return {}
        look.say(
            "AbleToScale", "True", "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        )  # fmt: skip
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        memory = self._memory.setdefault(hpa["metadata"]["uid"], Memory.beginning(current, now_s=look.now_s))
        least = spec.get("minReplicas")
        least, most = 1 if least is None else int(least), int(spec["maxReplicas"])
        if current == 0 and least != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            look.say("ScalingActive", "False", "ScalingDisabled", text)
            return {"currentReplicas": 0, "desiredReplicas": 0}
        wished, reason = await self._wish(look, scale, current, least, most)
        if wished is None:
            return {"currentReplicas": current, "desiredReplicas": current}
        bounded = bound(
            current, wished, memory, least=least, most=most, behavior=spec.get("behavior"), now_s=look.now_s
        )
        self._show(look, bounded)
        written: dict[str, Any] = {"currentReplicas": current, "desiredReplicas": bounded.replicas}
        if look.metrics:
            written["currentMetrics"] = look.metrics
        if bounded.replicas != current:
            await self._rescale(look, resource, scale, bounded.replicas, reason)
            remember_change(memory, bounded.replicas - current, now_s=look.now_s)
            written["lastScaleTime"] = rfc3339(look.now_s)
        return written

    def _resource(self, target: Mapping[str, Any]) -> Resource:
        group_name = str(target.get("apiVersion") or "").rpartition("/")[0]
        for resource in self._served():
            if (resource.group, resource.kind) == (group_name, target["kind"]):
                return resource
        raise NoMetric("FailedGetScale", f'no matches for kind "{target["kind"]}" in group "{group_name}"')

    async def _wish(self, look: _Look, scale: Object, current: int, least: int, most: int) -> tuple[int | None, str]:
        if current > most:
            return most, "Current number of replicas above Spec.MaxReplicas"
        if current < least:
            return least, "Current number of replicas below Spec.MinReplicas"
        selector = str((scale.get("status") or {}).get("selector") or "")
        if not selector:
            text = "the HPA target's scale is missing a selector"
            look.say("ScalingActive", "False", "InvalidSelector", text)
            return None, ""
        try:
            pods = self._selected(look.hpa["metadata"]["namespace"], parse_labels(selector))
        except BadRequest as exc:
            look.say("ScalingActive", "False", "InvalidSelector", str(exc))
            return None, ""
        return await self._best(look, pods, selector, current)

    def _selected(self, namespace: str, selector: LabelSelector) -> list[Object]:
        return [pod for pod in self._pods.by_index("namespace", namespace) if selector.matches(labels_of(pod))]

    async def _best(self, look: _Look, pods: Sequence[Object], selector: str, current: int) -> tuple[int | None, str]:
        """The highest number that any metric asks for; with a metric missing never fewer than there are."""
        best: tuple[int, str] | None = None
        failure: NoMetric | None = None
        for metric in look.hpa["spec"].get("metrics") or ():
            try:
                proposal, name, shown = await self._propose(look, metric, pods, selector, current)
            except NoMetric as exc:
                failure = exc
                continue
            look.metrics.append(shown)
            if best is None or proposal.replicas > best[0]:
                best = (proposal.replicas, name)
        if failure is not None and (best is None or best[0] < current):
            text = f"the HPA was unable to compute the replica count: {failure}"
            look.say("ScalingActive", "False", failure.reason, text)
            self._events.warning(look.hpa, failure.reason, str(failure))
            return None, ""
        assert best is not None
        text = f"the HPA was able to successfully calculate a replica count from {best[1]}"
        look.say("ScalingActive", "True", "ValidMetricFound", text)
        reason = f"{best[1]} above target" if best[0] > current else "All metrics below target"
        return best[0], reason

    async def _propose(
        self, look: _Look, metric: Mapping[str, Any], pods: Sequence[Object], selector: str, current: int
    ) -> tuple[Proposal, str, dict[str, Any]]:
        kind = metric["type"]
        namespace = look.hpa["metadata"]["namespace"]
        if kind in ("Resource", "ContainerResource"):
            asked = metric["resource" if kind == "Resource" else "containerResource"]
            name, container = asked["name"], asked.get("container") or ""
            values = await self._metrics.resource(namespace, selector, name, container)
            groups = group(pods, values, is_cpu=name == "cpu", now_s=look.now_s)
            proposal = self._by_target(asked, pods, values, groups, current, container)
            title = f"{name} {'container ' if container else ''}resource"
            if proposal.utilization is not None:
                title += " utilization (percentage of request)"
            return proposal, title, _shown(metric, kind, asked, proposal)
        if kind == "Pods":
            asked = metric["pods"]
            name = asked["metric"]["name"]
            values = await self._metrics.custom(namespace, selector, name)
            groups = group(pods, values, is_cpu=False, now_s=look.now_s)
            proposal = by_value(current, groups, values, milli(asked["target"].get("averageValue")) or 1)
            return proposal, f"pods metric {name}", _shown(metric, kind, asked, proposal)
        raise NoMetric(f"FailedGet{kind}Metric", f"metrics of type {kind} are not supported")

    @staticmethod
    def _by_target(
        asked: Mapping[str, Any],
        pods: Sequence[Object],
        values: Mapping[str, int],
        groups: Any,
        current: int,
        container: str,
    ) -> Proposal:
        target = asked["target"]
        if target.get("averageUtilization") is None:
            return by_value(current, groups, values, milli(target.get("averageValue")) or 1)
        known = groups.counted | groups.unready | groups.missing
        alive = [pod for pod in pods if pod["metadata"]["name"] in known]
        requests = requests_milli(alive, asked["name"], container)
        return by_utilization(current, groups, values, requests, int(target["averageUtilization"]))

    @staticmethod
    def _show(look: _Look, bounded: Bounded) -> None:
        reason, text = bounded.stabilized
        if not reason:
            reason, text = "ReadyForNewScale", "recommended size matches current size"
        look.say("AbleToScale", "True", reason, text)
        look.say("ScalingLimited", "True" if bounded.is_limited else "False", *bounded.limited)

    async def _rescale(self, look: _Look, resource: Resource, scale: Object, replicas: int, reason: str) -> None:
        fresh = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": replicas}}
        try:
            await self._api.update(resource, fresh, subresource="scale")
        except ApiError as exc:
            text = f"the HPA controller was unable to update the target scale: {exc}"
            look.say("AbleToScale", "False", "FailedUpdateScale", text)
            self._events.warning(look.hpa, "FailedRescale", f"New size: {replicas}; reason: {reason}; error: {exc}")
            raise
        text = f"the HPA controller was able to update the target scale to {replicas}"
        look.say("AbleToScale", "True", "SucceededRescale", text)
        self._events.normal(look.hpa, "SuccessfulRescale", f"New size: {replicas}; reason: {reason}")


def _shown(metric: Mapping[str, Any], kind: str, asked: Mapping[str, Any], proposal: Proposal) -> dict[str, Any]:
    """The entry of ``status.currentMetrics``."""
    current: dict[str, Any] = {"averageValue": f"{proposal.average_milli}m"}
    if proposal.utilization is not None:
        current["averageUtilization"] = proposal.utilization
    key = kind[0].lower() + kind[1:]
    named = {name: asked[name] for name in ("name", "container", "metric") if name in asked}
    return {"type": kind, key: {**named, "current": current}}
