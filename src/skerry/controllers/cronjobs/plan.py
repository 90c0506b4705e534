"""Which Job of a CronJob is due, and which are too old to keep. Pure.

Source of behaviour: kubernetes pkg/controller/cronjob/{cronjob_controllerv2,utils}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from skerry.api.cron import Schedule
from skerry.api.gvk import CRONJOBS, JOBS, Object
from skerry.api.meta import is_deleting, owner_reference, parse_rfc3339, rfc3339
from skerry.base.json import deep_copy
from skerry.base.values import Struct, field
from skerry.controllers.jobs.plan import is_finished
from skerry.controllers.objects import condition_of, created_s

SCHEDULED_NOTE = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY_MISSED = 100
"""More missed times than this are worth a warning, unless a starting deadline bounds them."""


class Due(Struct, frozen=True):
    """The newest time that has come and was not served.

    Args:
        at_s: Unix seconds, None when there is none.
        missed_count: times between the last served one and now.
        next_s: the next time, None when there is none.
    """

    at_s: float | None
    missed_count: int
    next_s: float | None


def due(cronjob: Object, schedule: Schedule, zone: tzinfo, now_s: float) -> Due:
    """Look for the newest unserved time, not further back than the starting deadline."""
    status, spec = cronjob.get("status") or {}, cronjob["spec"]
    since_s = parse_rfc3339(status.get("lastScheduleTime")) or created_s(cronjob)
    deadline_s = spec.get("startingDeadlineSeconds")
    earliest_s = since_s if deadline_s is None else max(since_s, now_s - float(deadline_s))
    first_s = schedule.next_s(earliest_s, zone)
    if first_s is None or first_s > now_s:
        return Due(None, 0, first_s)
    second_s = schedule.next_s(first_s, zone)
    if second_s is None or second_s > now_s:
        return Due(first_s, 1, second_s)
    gap_s = max(1.0, second_s - first_s)
    newest_s = _newest(schedule, zone, first_s, gap_s, now_s)
    return Due(newest_s, int((now_s - first_s) / gap_s) + 1, schedule.next_s(newest_s, zone))


def _newest(schedule: Schedule, zone: tzinfo, first_s: float, gap_s: float, now_s: float) -> float:
    """The newest time up to now, sought in a window before now that doubles until it holds one."""
    if schedule.every_s:
        return first_s + (now_s - first_s) // gap_s * gap_s
    window_s = 2 * gap_s
    while True:
        start_s = max(first_s, now_s - window_s)
        found: float | None = first_s if start_s == first_s else None
        at_s = schedule.next_s(start_s, zone)
        while at_s is not None and at_s <= now_s:
            found = at_s
            at_s = schedule.next_s(at_s, zone)
        if found is not None:
            return found
        window_s *= 2


class CronPlan(Struct, frozen=True):
    """What to do, in this order.

    Args:
        delete: Jobs that a new one replaces.
        create: the Job that is due.
        status: with ``create`` counted in once it is made.
        say: Events: type, reason, message.
        again_s: look again after so many seconds.
    """

    status: dict[str, Any]
    delete: list[Object] = field(default_factory=list)
    create: Object | None = None
    say: list[tuple[str, str, str]] = field(default_factory=list)
    again_s: float | None = None


def plan(cronjob: Object, jobs: Sequence[Object], schedule: Schedule, zone: tzinfo, now_s: float) -> CronPlan:
    """Decide the next step.

    Args:
        cronjob: as stored.
        jobs: those that it controls.
        schedule: its schedule, read.
        zone: its time zone.
        now_s: wall clock.
    """
    say: list[tuple[str, str, str]] = []
    status = _reconciled(cronjob, jobs, say)
    if is_deleting(cronjob) or cronjob["spec"].get("suspend"):
        return CronPlan(status, say=say)
    found = due(cronjob, schedule, zone, now_s)
    again_s = max(0.1, found.next_s - now_s + 0.1) if found.next_s is not None else None
    if found.missed_count > MANY_MISSED and cronjob["spec"].get("startingDeadlineSeconds") is None:
        text = (
            f"too many missed start times: {found.missed_count}. Set or decrease .spec.startingDeadlineSeconds or "
            "check clock skew"
        )
        say.append(("Warning", "TooManyMissedTimes", text))
    if found.at_s is None:
        return CronPlan(status, say=say, again_s=again_s)
    new = cron_job(cronjob, found.at_s, zone)
    running = [job for job in jobs if not is_finished(job) and not is_deleting(job)]
    if any(job["metadata"]["name"] == new["metadata"]["name"] for job in jobs):
        status["lastScheduleTime"] = rfc3339(found.at_s)  # made, but the status was not written any more
        return CronPlan(status, say=say, again_s=again_s)
    policy = cronjob["spec"].get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and running:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        say.append(("Normal", "JobAlreadyActive", text))
        return CronPlan(status, say=say, again_s=again_s)
    delete = running if policy == "Replace" else []
    gone = {job["metadata"]["uid"] for job in delete}
    _keep_active(status, [ref for ref in status.get("active") or () if ref["uid"] not in gone])
    status["lastScheduleTime"] = rfc3339(found.at_s)
    return CronPlan(status, delete, new, say, again_s)


def _reconciled(cronjob: Object, jobs: Sequence[Object], say: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The status with the active list put right: finished and vanished Jobs out, forgotten ones in."""
    status = dict(cronjob.get("status") or {})
    by_uid = {job["metadata"]["uid"]: job for job in jobs}
    active = []
    for ref in status.get("active") or ():
        job = by_uid.get(ref["uid"])
        if job is None:
            say.append(("Normal", "MissingJob", f"Active job went missing: {ref['name']}"))
        elif is_finished(job):
            kind = "Complete" if _is_complete(job) else "Failed"
            say.append(("Normal", "SawCompletedJob", f"Saw completed job: {ref['name']}, condition: {kind}"))
        else:
            active.append(ref)
    known = {ref["uid"] for ref in active}
    active += [reference(job) for uid, job in by_uid.items() if uid not in known and not is_finished(job)]
    _keep_active(status, active)
    ends = [parse_rfc3339((job.get("status") or {}).get("completionTime")) for job in jobs if _is_complete(job)]
    last_s = max((end for end in ends if end is not None), default=None)
    if last_s is not None and last_s > (parse_rfc3339(status.get("lastSuccessfulTime")) or 0.0):
        status["lastSuccessfulTime"] = rfc3339(last_s)
    return status


def _keep_active(status: dict[str, Any], active: list[dict[str, Any]]) -> None:
    status.pop("active", None)
    if active:
        status["active"] = active


def _is_complete(job: Object) -> bool:
    return (condition_of(job, "Complete") or {}).get("status") == "True"


def reference(job: Object) -> dict[str, Any]:
    """The Job as the list of active ones names it."""
    meta = job["metadata"]
    return {
        "kind": JOBS.kind, "apiVersion": JOBS.api_version, "namespace": meta["namespace"], "name": meta["name"],
        "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
    }  # fmt: skip


def cron_job(cronjob: Object, at_s: float, zone: tzinfo) -> Object:
    """The Job of one time; its name says the minute, so that one time never has two."""
    meta, template = cronjob["metadata"], cronjob["spec"]["jobTemplate"]
    own = template.get("metadata") or {}
    moment = datetime.fromtimestamp(at_s, UTC).astimezone(zone).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": f"{meta['name']}-{int(at_s) // 60}",
            "namespace": meta["namespace"],
            "labels": dict(own.get("labels") or {}),
            "annotations": {**(own.get("annotations") or {}), SCHEDULED_NOTE: moment},
            "ownerReferences": [owner_reference(cronjob, CRONJOBS)],
        },
        "spec": deep_copy(template["spec"]),
    }


def too_old(cronjob: Object, jobs: Sequence[Object]) -> list[Object]:
    """Finished Jobs beyond the history limits, oldest first."""
    spec = cronjob["spec"]
    finished = sorted((job for job in jobs if is_finished(job) and not is_deleting(job)), key=_started)
    complete = [job for job in finished if _is_complete(job)]
    failed = [job for job in finished if not _is_complete(job)]
    doomed = []
    for group, limit in (
        (complete, spec.get("successfulJobsHistoryLimit")),
        (failed, spec.get("failedJobsHistoryLimit")),
    ):
        if limit is not None:
            doomed += group[: max(0, len(group) - int(limit))]
    return doomed


def _started(job: Object) -> tuple[float, str]:
    started_s = parse_rfc3339((job.get("status") or {}).get("startTime"))
    return started_s if started_s is not None else created_s(job), str(job["metadata"]["name"])
