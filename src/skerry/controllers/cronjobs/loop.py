"""CronJob loop: makes the Job that is due, and clears away the ones that are too old."""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from skerry.api.cron import parse_cron
from skerry.api.gvk import CRONJOBS, JOBS, Object
from skerry.api.meta import controller_of
from skerry.api.status import AlreadyExists, ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.controllers.cronjobs.plan import CronPlan, plan, reference, too_old
from skerry.controllers.loop import Loop
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller
from skerry.kube.ports import KubeApi


class CronJobController:
    """Starts Jobs by schedule.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was started and what was not.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._cronjobs = informers.of(CRONJOBS)
        self._jobs = informers.of(JOBS, indexes={"controller": by_controller})
        self._written: dict[Key, int] = {}
        self._loop: Loop[Key] = Loop("cronjobs", self._sync, informers=(self._cronjobs, self._jobs))
        self._loop.follow(self._cronjobs)
        self._jobs.on_event(self._job_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _job_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        job = new or old
        controller = controller_of(job) if job is not None else None
        if job is not None and controller is not None and controller["kind"] == "CronJob":
            self._loop.add((job["metadata"]["namespace"], controller["name"]))

    async def _sync(self, key: Key) -> float | None:
        cronjob = self._cronjobs.get(key[1], key[0])
        if cronjob is None:
            self._written.pop(key, None)
            return None
        if int(cronjob["metadata"]["resourceVersion"]) < self._written.get(key, 0):
            return None  # the cache will show our own write, and wake us
        jobs = self._jobs.by_index("controller", cronjob["metadata"]["uid"])
        zone = self._zone(cronjob)
        if zone is None:
            return None
        try:
            schedule = parse_cron(cronjob["spec"]["schedule"])
        except ValueError as exc:
            text = f"unparseable schedule: {cronjob['spec']['schedule']!r} : {exc}"
            self._events.warning(cronjob, "UnparseableSchedule", text)
            return None
        decided = plan(cronjob, jobs, schedule, zone, self._clock.now_s())
        await self._carry_out(key, cronjob, decided)
        for job in too_old(cronjob, jobs):
            await self._delete(cronjob, job)
        return decided.again_s

    def _zone(self, cronjob: Object) -> tzinfo | None:
        name = cronjob["spec"].get("timeZone")
        if not name:
            return UTC
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            self._events.warning(cronjob, "UnknownTimeZone", f"invalid timeZone: {name!r} : {exc}")
            return None

    async def _carry_out(self, key: Key, cronjob: Object, decided: CronPlan) -> None:
        status = dict(decided.status)
        for kind, reason, message in decided.say:
            (self._events.warning if kind == "Warning" else self._events.normal)(cronjob, reason, message)
        for job in decided.delete:
            await self._delete(cronjob, job)
        if decided.create is not None:
            made = await self._create(cronjob, decided.create)
            if made is not None:
                status["active"] = [*(status.get("active") or ()), reference(made)]
        if status != (cronjob.get("status") or {}):
            fresh = await self._api.update(CRONJOBS, {**cronjob, "status": status}, subresource="status")
            self._written[key] = int(fresh["metadata"]["resourceVersion"])

    async def _create(self, cronjob: Object, job: Object) -> Object | None:
        name = job["metadata"]["name"]
        try:
            made = await self._api.create(JOBS, job, namespace=job["metadata"]["namespace"])
        except AlreadyExists:
            return None
        except ApiError as exc:
            self._events.warning(cronjob, "FailedCreate", f"Error creating job: {exc}")
            raise
        self._events.normal(cronjob, "SuccessfulCreate", f"Created job {name}")
        return made

    async def _delete(self, cronjob: Object, job: Object) -> None:
        meta = job["metadata"]
        try:
            await self._api.delete(
                JOBS, meta["name"], namespace=meta["namespace"], uid=meta["uid"], propagation="Background"
            )
        except NotFound:
            return
        except ApiError as exc:
            self._events.warning(cronjob, "FailedDelete", f"Deleted job: {exc}")
            raise
        self._events.normal(cronjob, "SuccessfulDelete", f"Deleted job {meta['name']}")
