"""Pods that nobody will ever finish: on nodes that are gone, deleted before they were scheduled, finished in masses.

Source: kubernetes pkg/controller/podgc/gc_controller.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import NODES, PODS, Object
from skerry.api.meta import is_deleting
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.controllers.disrupted import mark_disrupted
from skerry.controllers.objects import created_s, phase_of
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi

log = get_log(__name__)

ROUND_S = 20.0
QUARANTINE_S = 40.0
"""A node must have been missing for so long before its pods are removed."""
FINISHED_COUNT = 12_500
"""Finished pods beyond this many are removed, oldest first."""


class PodGarbageCollector:
    """Removes such pods every 20 seconds.

    Args:
        api: the cluster.
        informers: shared caches.
        clock: time source.
        finished_count: how many finished pods may stay.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        clock: Clock | None = None,
        finished_count: int = FINISHED_COUNT,
    ) -> None:
        self._api = api
        self._clock = clock or SystemClock()
        self._finished_count = finished_count
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._missing_since_s: dict[str, float] = {}

    async def run(self) -> None:
        """Work; never ends."""
        for informer in (self._nodes, self._pods):
            await informer.wait_synced()
        while True:
            for pod in await self._doomed():
                await self._remove(pod)
            await self._clock.sleep(ROUND_S)

    async def _doomed(self) -> list[Object]:
        pods = self._pods.items()
        unscheduled = [pod for pod in pods if is_deleting(pod) and not pod["spec"].get("nodeName")]
        return unscheduled + await self._orphaned(pods) + self._surplus(pods)

    async def _orphaned(self, pods: list[Object]) -> list[Object]:
        missing = {name for pod in pods if (name := pod["spec"].get("nodeName")) and self._nodes.get(name) is None}
        now_s = self._clock.monotonic_s()
        self._missing_since_s = {name: self._missing_since_s.get(name, now_s) for name in missing}
        gone = {
            name
            for name, since_s in self._missing_since_s.items()
            if now_s - since_s >= QUARANTINE_S and await self._is_gone(name)
        }
        return [pod for pod in pods if pod["spec"].get("nodeName") in gone]

    async def _is_gone(self, node: str) -> bool:
        try:
            await self._api.get(NODES, node)
        except NotFound:
            return True
        except ApiError:
            return False
        return False

    def _surplus(self, pods: list[Object]) -> list[Object]:
        finished = [pod for pod in pods if phase_of(pod) in ("Succeeded", "Failed") and not is_deleting(pod)]
        surplus = max(0, len(finished) - self._finished_count)
        return sorted(finished, key=created_s)[:surplus]

    async def _remove(self, pod: Object) -> None:
        meta = pod["metadata"]
        try:
            if pod["spec"].get("nodeName") and self._nodes.get(pod["spec"]["nodeName"]) is None:
                await mark_disrupted(
                    self._api, pod, "DeletionByPodGC", "PodGC: node no longer exists", now_s=self._clock.now_s(),
                    fail=True,
                )  # fmt: skip
            await self._api.delete(PODS, meta["name"], namespace=meta["namespace"], uid=meta["uid"], grace_period_s=0)
            log.info("pod.collected", ns=meta["namespace"], name=meta["name"], uid=meta["uid"])
        except NotFound:
            return
        except ApiError as exc:
            log.warning("pod.collection_failed", ns=meta["namespace"], name=meta["name"], error=str(exc))
