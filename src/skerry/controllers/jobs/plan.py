"""What a Job needs next, and its status. Pure.

Every ended pod is counted exactly once: its uid goes into ``uncountedTerminatedPods`` in one write, then its finalizer
is taken away, then the uid becomes one more in ``succeeded`` or ``failed``. A crash between any two leaves enough to
go on. Indexed Jobs count successes by index.

Source of behaviour: kubernetes pkg/controller/job/{job_controller,indexed_job_utils}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import JOBS, Object
from skerry.api.meta import is_deleting, parse_rfc3339, rfc3339
from skerry.base.values import Struct, field
from skerry.controllers.jobs.indexes import (
    FAILURES_NOTE,
    IGNORED_NOTE,
    INDEX_NOTE,
    failures_of,
    format_indexes,
    ignored_of,
    index_of,
    parse_indexes,
)
from skerry.controllers.jobs.policies import (
    FAIL_INDEX,
    FAIL_JOB,
    IGNORE,
    backoff_s,
    exceeds_restarts,
    index_backoff_s,
    is_failed,
    success_message,
    verdict,
    waits_for_failure,
)
from skerry.controllers.objects import condition_of, is_active, is_ready, phase_of, pod_from_template, set_condition
from skerry.controllers.replicasets import BURST_COUNT, deletion_order

TRACKING = "batch.kubernetes.io/job-tracking"
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
_INTERIM = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}


def is_finished(job: Object) -> bool:
    """Whether the Job is complete or has failed for good."""
    return any((condition_of(job, kind) or {}).get("status") == "True" for kind in _INTERIM)


def is_indexed(job: Object) -> bool:
    """Whether its pods have indexes."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_tracked(pod: Object) -> bool:
    """Whether the pod has still to be counted before it may go."""
    return TRACKING in (pod["metadata"].get("finalizers") or ())


class Outcome(Struct, frozen=True):
    """How the Job ends: a condition, its reason and message."""

    kind: str
    reason: str
    message: str


class JobPlan(Struct, frozen=True):
    """What to do, in this order.

    Args:
        delete: pods to delete and to count.
        drop: pods to delete that count neither way, because they are only too many: their finalizer goes first.
        create: pods to make.
        status: the new status.
        strip: pods whose finalizer goes once the status is written.
        say: Events: type, reason, message.
        again_s: look again after so many seconds.
    """

    status: dict[str, Any]
    delete: list[Object] = field(default_factory=list)
    drop: list[Object] = field(default_factory=list)
    create: list[Object] = field(default_factory=list)
    strip: list[Object] = field(default_factory=list)
    say: list[tuple[str, str, str]] = field(default_factory=list)
    again_s: float | None = None


class _Tally(Struct):
    """The pods of a Job sorted, and the counts with everything that is known."""

    active: list[Object]
    terminating: list[Object]
    succeeded: int = 0
    failed: int = 0
    uncounted: dict[str, list[str]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    strip: list[Object] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    fail_job: str = ""


def _tally(job: Object, pods: Sequence[Object], *, is_ending: bool) -> _Tally:
    status, spec = job.get("status") or {}, job["spec"]
    completions = int(spec.get("completions") or 0)
    tally = _Tally(
        active=[pod for pod in pods if is_active(pod)],
        terminating=[pod for pod in pods if is_deleting(pod) and phase_of(pod) not in ("Succeeded", "Failed")],
        counted={key: int(status.get(key) or 0) for key in ("succeeded", "failed")},
    )
    if is_indexed(job):
        tally.done = parse_indexes(status.get("completedIndexes"), limit=completions)
        tally.lost = parse_indexes(status.get("failedIndexes"), limit=completions)
    tracked = {pod["metadata"]["uid"] for pod in pods if is_tracked(pod)}
    old = status.get("uncountedTerminatedPods") or {}
    for key in ("succeeded", "failed"):
        still = [uid for uid in old.get(key) or () if uid in tracked]
        tally.counted[key] += len(old.get(key) or ()) - len(still)
        tally.uncounted[key] = still
    held = _held_back(job, pods, is_ending=is_ending) if _per_index(job) is not None else set()
    for pod in pods:
        _count(job, pod, tally, held=held, completions=completions, is_ending=is_ending)
    tally.succeeded = (
        len(tally.done) if is_indexed(job) else tally.counted["succeeded"] + len(tally.uncounted["succeeded"])
    )
    tally.failed = tally.counted["failed"] + len(tally.uncounted["failed"])
    return tally


def _count(job: Object, pod: Object, tally: _Tally, *, held: set[str], completions: int, is_ending: bool) -> None:
    uid = pod["metadata"]["uid"]
    if not is_tracked(pod):
        return
    if uid in tally.uncounted["succeeded"] or uid in tally.uncounted["failed"]:
        tally.strip.append(pod)
    elif phase_of(pod) == "Succeeded":
        index = index_of(pod)
        if not is_indexed(job):
            tally.uncounted["succeeded"].append(uid)
        elif index is not None and index < completions:
            tally.done.add(index)
        tally.strip.append(pod)
    elif is_failed(job, pod) or (is_ending and is_deleting(pod)):
        found = verdict(job, pod)
        if found.action == FAIL_JOB and not tally.fail_job:
            tally.fail_job = found.message
        if uid in held:
            return
        _lose_index(job, pod, tally, fails_index=found.action == FAIL_INDEX)
        if found.action != IGNORE:
            tally.uncounted["failed"].append(uid)
        tally.strip.append(pod)


def _per_index(job: Object) -> int | None:
    limit = job["spec"].get("backoffLimitPerIndex")
    return int(limit) if limit is not None and is_indexed(job) else None


def _lose_index(job: Object, pod: Object, tally: _Tally, *, fails_index: bool) -> None:
    limit, index = _per_index(job), index_of(pod)
    if limit is None or index is None or index in tally.done:
        return
    if fails_index or (verdict(job, pod).action != IGNORE and failures_of(pod) >= limit):
        tally.lost.add(index)


def _held_back(job: Object, pods: Sequence[Object], *, is_ending: bool) -> set[str]:
    """Failed pods that remember how often their index failed: they stay until a newer pod of the index knows it."""
    if is_ending:
        return set()
    newest: dict[int, Object] = {}
    for pod in pods:
        index = index_of(pod)
        if index is not None and (index not in newest or _attempt(pod) > _attempt(newest[index])):
            newest[index] = pod
    limit = _per_index(job)
    assert limit is not None
    held = set()
    for pod in newest.values():
        found = verdict(job, pod)
        is_last = found.action == FAIL_INDEX or (found.action != IGNORE and failures_of(pod) >= limit)
        if is_failed(job, pod) and not is_last:
            held.add(pod["metadata"]["uid"])
    return held


def _attempt(pod: Object) -> tuple[int, str]:
    return failures_of(pod) + ignored_of(pod), str(pod["metadata"].get("creationTimestamp") or "")


def plan(job: Object, pods: Sequence[Object], *, may_create: bool, now_s: float) -> JobPlan:
    """Decide the next step of a Job that is not finished.

    Args:
        job: as stored.
        pods: those that it controls.
        may_create: False while the cache does not show earlier writes: then pods are only counted.
        now_s: wall clock.
    """
    status, spec = dict(job.get("status") or {}), job["spec"]
    is_suspended = bool(spec.get("suspend"))
    conditions = list(status.get("conditions") or ())
    if not status.get("startTime") and not is_suspended:
        status["startTime"] = rfc3339(now_s)
    known = _known_outcome(job)
    tally = _tally(job, pods, is_ending=known is not None)
    outcome = known or _judge(job, pods, tally, started_s=parse_rfc3339(status.get("startTime")), now_s=now_s)
    draft = JobPlan(status=status, strip=tally.strip)
    delete: list[Object] = []
    drop: list[Object] = []
    create: list[Object] = []
    again_s: float | None = None
    if outcome is not None:
        delete = list(tally.active)
        if known is None:
            conditions = _with(conditions, _INTERIM[outcome.kind], outcome, now_s=now_s)
    elif is_suspended:
        drop = deletion_order(tally.active)
    elif may_create and not is_deleting(job):
        drop, create, again_s = _manage(job, pods, tally, now_s=now_s)
    conditions = _suspension(job, status, conditions, draft, is_over=outcome is not None, now_s=now_s)
    is_over = outcome is not None and may_create and not tally.active and not tally.terminating and not tally.strip
    if is_over and not any(tally.uncounted.values()):
        assert outcome is not None
        conditions = _with(conditions, outcome.kind, outcome, now_s=now_s)
        if outcome.kind == "Complete":
            status["completionTime"] = rfc3339(now_s)
            draft.say.append(("Normal", "Completed", "Job completed"))
        else:
            draft.say.append(("Warning", outcome.reason, outcome.message))
    _fill_status(job, status, tally, conditions, pods)
    deadline_s = _deadline_in_s(job, status, now_s) if outcome is None and not is_suspended else None
    waits = [wait for wait in (again_s, deadline_s) if wait is not None]
    return JobPlan(
        status=status,
        delete=delete[:BURST_COUNT],
        drop=drop[:BURST_COUNT],
        create=create[:BURST_COUNT],
        strip=tally.strip,
        say=draft.say,
        again_s=min(waits, default=None),
    )


def _with(conditions: list[dict[str, Any]], kind: str, outcome: Outcome, *, now_s: float) -> list[dict[str, Any]]:
    return [
        {**c, "lastProbeTime": c.get("lastProbeTime") or rfc3339(now_s)}
        for c in set_condition(conditions, kind, "True", outcome.reason, outcome.message, now_s=now_s)
    ]


def _known_outcome(job: Object) -> Outcome | None:
    """What an earlier look decided and said in an interim condition."""
    for kind, interim in _INTERIM.items():
        found = condition_of(job, interim)
        if found is not None and found.get("status") == "True":
            return Outcome(kind, found.get("reason") or "", found.get("message") or "")
    return None


def _judge(
    job: Object, pods: Sequence[Object], tally: _Tally, *, started_s: float | None, now_s: float
) -> Outcome | None:
    spec = job["spec"]
    if tally.fail_job:
        return Outcome("Failed", "PodFailurePolicy", tally.fail_job)
    if tally.failed > int(spec.get("backoffLimit", 6)) or exceeds_restarts(job, pods):
        return Outcome("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline_s = spec.get("activeDeadlineSeconds")
    if deadline_s is not None and started_s is not None and not spec.get("suspend") and now_s - started_s >= deadline_s:
        return Outcome("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    completions = spec.get("completions")
    if _per_index(job) is not None:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(tally.lost) > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return Outcome("Failed", "MaxFailedIndexesExceeded", text)
        if tally.lost and len(tally.lost) + len(tally.done) >= int(completions or 0):
            return Outcome("Failed", "FailedIndexes", "Job has failed indexes")
    if is_indexed(job) and (text := success_message(job, tally.done)):
        return Outcome("Complete", "SuccessPolicy", text)
    return _completion(job, tally)


def _completion(job: Object, tally: _Tally) -> Outcome | None:
    completions = job["spec"].get("completions")
    if tally.active or (job["spec"].get("suspend") and completions is None):
        return None
    reached = tally.succeeded > 0 if completions is None else tally.succeeded >= int(completions)
    if completions is None and tally.terminating:
        return None
    return Outcome("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if reached else None


def _manage(
    job: Object, pods: Sequence[Object], tally: _Tally, *, now_s: float
) -> tuple[list[Object], list[Object], float | None]:
    """Pods to delete and to make, and when to look again because of a delay after failures."""
    spec = job["spec"]
    parallelism = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    active_count = len(tally.active)
    if completions is None:
        wanted = active_count if tally.succeeded > 0 else parallelism
        wanted = min(wanted, parallelism)
    else:
        wanted = max(0, min(int(completions) - tally.succeeded - len(tally.lost), parallelism))
    doomed = _surplus(job, tally, wanted)
    if doomed:
        return doomed, [], None
    missing = wanted - active_count
    if waits_for_failure(job):
        missing -= len(tally.terminating)
    if missing <= 0:
        return [], [], None
    if is_indexed(job):
        return [], *_make_indexed(job, pods, tally, missing, now_s=now_s)
    wait_s = _job_backoff_s(job, pods, now_s)
    if wait_s > 0:
        return [], [], wait_s
    return [], [job_pod(job) for _ in range(min(missing, BURST_COUNT))], None


def _job_backoff_s(job: Object, pods: Sequence[Object], now_s: float) -> float:
    failed = [pod for pod in pods if is_failed(job, pod)]
    return backoff_s(failed, [pod for pod in pods if phase_of(pod) == "Succeeded"], now_s)


def _surplus(job: Object, tally: _Tally, wanted: int) -> list[Object]:
    """Active pods to give up: of indexes that are done, doubled or out of range first, then the cheapest."""
    doomed: list[Object] = []
    if is_indexed(job):
        seen: set[int] = set()
        for pod in sorted(tally.active, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or "")):
            index = index_of(pod)
            is_useful = index is not None and index < int(job["spec"].get("completions") or 0)
            if index is None or not is_useful or index in seen or index in tally.done or index in tally.lost:
                doomed.append(pod)
            else:
                seen.add(index)
    rest = [pod for pod in tally.active if pod not in doomed]
    excess = len(rest) - wanted
    return doomed + (deletion_order(rest)[:excess] if excess > 0 else [])


def _make_indexed(
    job: Object, pods: Sequence[Object], tally: _Tally, missing: int, *, now_s: float
) -> tuple[list[Object], float | None]:
    completions = int(job["spec"].get("completions") or 0)
    busy = {index_of(pod) for pod in tally.active}
    if waits_for_failure(job):
        busy |= {index_of(pod) for pod in tally.terminating}
    free = [i for i in range(completions) if i not in busy and i not in tally.done and i not in tally.lost]
    if _per_index(job) is None:
        wait_s = _job_backoff_s(job, pods, now_s)
        return ([], wait_s) if wait_s > 0 else ([job_pod(job, index=i) for i in free[:missing]], None)
    made: list[Object] = []
    waits: list[float] = []
    for index in free:
        if len(made) == missing:
            break
        before = [pod for pod in pods if index_of(pod) == index and is_failed(job, pod)]
        last = max(before, key=_attempt, default=None)
        wait_s = index_backoff_s(last, now_s) if last is not None else 0.0
        if wait_s > 0:
            waits.append(wait_s)
        else:
            made.append(job_pod(job, index=index, last=last))
    return made, min(waits, default=None)


def job_pod(job: Object, *, index: int | None = None, last: Object | None = None) -> Object:
    """A new pod of the Job.

    Args:
        index: of an Indexed Job.
        last: the failed pod that it replaces, whose count it carries on.
    """
    pod = pod_from_template(job["spec"]["template"], job, JOBS)
    meta, spec = pod["metadata"], pod["spec"]
    meta["finalizers"] = [*(meta.get("finalizers") or ()), TRACKING]
    if index is None:
        return pod
    name = job["metadata"]["name"]
    meta["generateName"] = f"{name[: 57 - len(str(index))]}-{index}-"
    meta["annotations"][INDEX_NOTE] = meta["labels"][INDEX_NOTE] = str(index)
    if _per_index(job) is not None:
        failures, ignored = (failures_of(last), ignored_of(last)) if last is not None else (0, 0)
        is_ignored = last is not None and verdict(job, last).action == IGNORE
        meta["annotations"][FAILURES_NOTE] = str(failures + (1 if last is not None and not is_ignored else 0))
        if ignored or is_ignored:
            meta["annotations"][IGNORED_NOTE] = str(ignored + (1 if is_ignored else 0))
    spec["hostname"] = f"{name[: 62 - len(str(index))]}-{index}"
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_NOTE}']"}}
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        variables = container.setdefault("env", [])
        if all(variable["name"] != _INDEX_VARIABLE for variable in variables):
            variables.append({"name": _INDEX_VARIABLE, "valueFrom": source})
    return pod


def _suspension(
    job: Object,
    status: dict[str, Any],
    conditions: list[dict[str, Any]],
    draft: JobPlan,
    *,
    is_over: bool,
    now_s: float,
) -> list[dict[str, Any]]:
    """The condition Suspended; a resumed Job starts its clock anew."""
    if is_over:
        return conditions
    was = (condition_of(job, "Suspended") or {}).get("status") == "True"
    if job["spec"].get("suspend"):
        status.pop("startTime", None)
        if not was:
            draft.say.append(("Normal", "Suspended", "Job suspended"))
        outcome, word = Outcome("Suspended", "JobSuspended", "Job suspended"), "True"
    elif was:
        status["startTime"] = rfc3339(now_s)
        draft.say.append(("Normal", "Resumed", "Job resumed"))
        outcome, word = Outcome("Suspended", "JobResumed", "Job resumed"), "False"
    else:
        return conditions
    return set_condition(conditions, "Suspended", word, outcome.reason, outcome.message, now_s=now_s)


def _fill_status(
    job: Object,
    status: dict[str, Any],
    tally: _Tally,
    conditions: list[dict[str, Any]],
    pods: Sequence[Object],
) -> None:
    numbers = {
        "active": len(tally.active),
        "succeeded": len(tally.done) if is_indexed(job) else tally.counted["succeeded"],
        "failed": tally.counted["failed"],
    }
    for key, value in numbers.items():
        status.pop(key, None)
        if value:
            status[key] = value
    status["terminating"] = len(tally.terminating)
    status["ready"] = sum(is_ready(pod) for pod in tally.active)
    status["uncountedTerminatedPods"] = {key: uids for key, uids in tally.uncounted.items() if uids}
    if is_indexed(job):
        status.pop("completedIndexes", None)
        if tally.done:
            status["completedIndexes"] = format_indexes(tally.done)
        if _per_index(job) is not None:
            status["failedIndexes"] = format_indexes(tally.lost)
    if conditions:
        status["conditions"] = conditions


def _deadline_in_s(job: Object, status: Mapping[str, Any], now_s: float) -> float | None:
    deadline_s, started_s = job["spec"].get("activeDeadlineSeconds"), parse_rfc3339(status.get("startTime"))
    if deadline_s is None or started_s is None:
        return None
    return max(0.1, started_s + float(deadline_s) - now_s)


def expires_in_s(job: Object, now_s: float) -> float | None:
    """Seconds until a finished Job is deleted by its ``ttlSecondsAfterFinished``; None when it is not."""
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    if ttl_s is None or not is_finished(job):
        return None
    ends = [
        parse_rfc3339(condition.get("lastTransitionTime"))
        for condition in (job.get("status") or {}).get("conditions") or ()
        if condition["type"] in _INTERIM and condition["status"] == "True"
    ]
    finished_s = next((end for end in ends if end is not None), None)
    return None if finished_s is None else max(0.0, finished_s + float(ttl_s) - now_s)
