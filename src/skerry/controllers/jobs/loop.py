"""Job loop: deletes and creates pods, writes the status, then lets counted pods go; removes expired Jobs."""

from __future__ import annotations

from skerry.api.gvk import JOBS, PODS, Object
from skerry.api.meta import controller_of, is_deleting
from skerry.api.status import NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.expectations import Expectations
from skerry.controllers.jobs.plan import TRACKING, JobPlan, expires_in_s, is_finished, is_tracked, plan
from skerry.controllers.loop import Loop
from skerry.controllers.ownership import PodClaims, concerned
from skerry.controllers.pod_writes import PodWrites
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller, by_namespace
from skerry.kube.ports import KubeApi

_OURS = "kubernetes.io/job-controller"
LOOK_AGAIN_S = 1.0


class JobController:
    """Runs Jobs to their end.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was created, deleted and finished.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._jobs = informers.of(JOBS, indexes={"namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"controller": by_controller, "namespace": by_namespace})
        self._expected = Expectations(self._pods, self._clock)
        self._writes = PodWrites(api, events, self._expected)
        self._owned = PodClaims(api, JOBS, self._pods)
        self._written: dict[Key, int] = {}
        self._loop: Loop[Key] = Loop("jobs", self._sync, informers=(self._jobs, self._pods))
        self._loop.follow(self._jobs)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            if controller_of(pod) is None and is_tracked(pod) and new is pod:
                self._loop.add((pod["metadata"]["namespace"], f"/{pod['metadata']['name']}"))
            for key in concerned(pod, self._jobs, "Job"):
                self._loop.add(key)

    async def _sync(self, key: Key) -> float | None:
        namespace, name = key
        if name.startswith("/"):
            await self._free_orphan(namespace, name[1:])
            return None
        job = self._jobs.get(name, namespace)
        if job is None:
            self._expected.forget(key)
            self._written.pop(key, None)
            await self._free_all(key)
            return None
        if (job["spec"].get("managedBy") or _OURS) != _OURS:
            return None
        if _number(job) < self._written.get(key, 0):
            return None  # the cache will show our own write, and wake us
        if is_finished(job) or is_deleting(job):
            return await self._after_end(key, job)
        pods = await self._owned.of(job)
        is_fresh = self._expected.are_met(key)
        decided = plan(job, pods, may_create=is_fresh, now_s=self._clock.now_s())
        await self._carry_out(key, job, decided)
        return decided.again_s if is_fresh else LOOK_AGAIN_S

    async def _carry_out(self, key: Key, job: Object, decided: JobPlan) -> None:
        """The status last but for the finalizers: a write that failed before it is made again."""
        for pod in decided.drop:
            await self._free(pod)
        for pod in decided.delete + decided.drop:
            await self._writes.delete(key, job, pod)
        try:
            for pod in decided.create:
                await self._writes.create(key, job, pod)
        finally:
            if decided.status != (job.get("status") or {}):
                fresh = await self._api.update(JOBS, {**job, "status": decided.status}, subresource="status")
                self._written[key] = _number(fresh)
        for kind, reason, message in decided.say:
            say = self._events.warning if kind == "Warning" else self._events.normal
            say(job, reason, message)
        for pod in decided.strip:
            await self._free(pod)

    async def _after_end(self, key: Key, job: Object) -> float | None:
        for pod in self._pods.by_index("controller", job["metadata"]["uid"]):
            if is_tracked(pod):
                await self._free(pod)
        left_s = expires_in_s(job, self._clock.now_s())
        if left_s is None or is_deleting(job):
            return None
        if left_s > 0:
            return left_s
        meta = job["metadata"]
        try:
            await self._api.delete(
                JOBS, meta["name"], namespace=key[0], uid=meta["uid"], resource_version=meta["resourceVersion"],
                propagation="Foreground",
            )  # fmt: skip
        except NotFound:
            pass
        return None

    # -- finalizers

    async def _free(self, pod: Object) -> None:
        meta = pod["metadata"]
        left = [name for name in meta.get("finalizers") or () if name != TRACKING]
        guard = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        try:
            await self._api.patch(
                PODS, meta["name"], {"metadata": {**guard, "finalizers": left or None}}, namespace=meta["namespace"]
            )
        except NotFound:
            return

    async def _free_all(self, key: Key) -> None:
        """The Job is gone: nobody counts its pods any more."""
        for pod in self._pods.by_index("namespace", key[0]):
            controller = controller_of(pod)
            if (
                is_tracked(pod)
                and controller is not None
                and (controller["kind"], controller["name"]) == ("Job", key[1])
            ):
                await self._free(pod)

    async def _free_orphan(self, namespace: str, name: str) -> None:
        pod = self._pods.get(name, namespace)
        if pod is not None and is_tracked(pod) and controller_of(pod) is None:
            await self._free(pod)


def _number(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)
