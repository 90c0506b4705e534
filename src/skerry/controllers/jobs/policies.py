"""What a Job's policies say: whether a failed pod counts, fails its index or the Job; when enough has succeeded. Pure.

Source of behaviour: kubernetes pkg/controller/job/{pod_failure_policy,success_policy,backoff_utils}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import is_deleting, namespaced_name, parse_rfc3339
from skerry.base.values import Struct
from skerry.controllers.jobs.indexes import failures_of, ignored_of, parse_indexes
from skerry.controllers.objects import created_s, phase_of

FIRST_DELAY_S, LAST_DELAY_S = 10.0, 600.0
"""A failed pod is replaced after the first delay; each further failure doubles it, up to the last."""
FAIL_JOB, FAIL_INDEX, IGNORE, COUNT = "FailJob", "FailIndex", "Ignore", "Count"


class Verdict(Struct, frozen=True):
    """What the failure policy says of one failed pod.

    Args:
        action: Count, Ignore, FailIndex or FailJob.
        message: which rule matched what; empty when none did.
    """

    action: str = COUNT
    message: str = ""


def verdict(job: Object, pod: Object) -> Verdict:
    """Apply the first rule of ``podFailurePolicy`` that matches a failed pod."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        text = ""
        if rule.get("onExitCodes"):
            text = _exit_code_text(rule, pod)
        elif rule.get("onPodConditions"):
            text = _condition_text(rule, pod)
        if text:
            return Verdict(rule["action"], f"{text} matching {rule['action']} rule at index {number}")
    return Verdict()


def _exit_code_text(rule: Mapping[str, Any], pod: Object) -> str:
    asked = rule["onExitCodes"]
    status = pod.get("status") or {}
    for found in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        code = int(((found.get("state") or {}).get("terminated") or {}).get("exitCode") or 0)
        named = asked.get("containerName")
        if code == 0 or (named and named != found["name"]):
            continue
        if (code in asked["values"]) == (asked["operator"] == "In"):
            return f"Container {found['name']} for pod {namespaced_name(pod)} failed with exit code {code}"
    return ""


def _condition_text(rule: Mapping[str, Any], pod: Object) -> str:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    for asked in rule["onPodConditions"]:
        for found in conditions:
            if (found["type"], found["status"]) == (asked["type"], asked.get("status") or "True"):
                return f"Pod {namespaced_name(pod)} has condition {found['type']}"
    return ""


def waits_for_failure(job: Object) -> bool:
    """Whether a pod is replaced only after it has ended, not already while it ends."""
    return job["spec"].get("podReplacementPolicy") == "Failed" or bool(job["spec"].get("podFailurePolicy"))


def is_failed(job: Object, pod: Object) -> bool:
    """Whether a pod counts as failed; one that is deleted before it could end counts, too."""
    phase = phase_of(pod)
    if phase == "Failed":
        return True
    if waits_for_failure(job):
        return is_deleting(pod) and phase == "Pending"
    return is_deleting(pod) and phase != "Succeeded"


def success_message(job: Object, succeeded: Collection[int]) -> str:
    """Why ``successPolicy`` is fulfilled; empty when it is not."""
    completions = int(job["spec"].get("completions") or 0)
    rules = (job["spec"].get("successPolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        named = rule.get("succeededIndexes")
        wanted = parse_indexes(named, limit=completions) if named is not None else set(range(completions))
        done = len(wanted.intersection(succeeded))
        count = rule.get("succeededCount")
        if done >= (len(wanted) if count is None else int(count)):
            return f"Matched rules at index {number}"
    return ""


def ended_s(pod: Object) -> float:
    """When the pod's last container ended; when nothing says so, the last change of its Ready condition or its start.

    Source: job/backoff_utils.go:getFinishedTime.
    """
    status = pod.get("status") or {}
    found = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    ends = [parse_rfc3339(((item.get("state") or {}).get("terminated") or {}).get("finishedAt")) for item in found]
    if ends and all(end is not None for end in ends):
        return max(end for end in ends if end is not None)
    changed = [
        parse_rfc3339(condition.get("lastTransitionTime"))
        for condition in status.get("conditions") or ()
        if condition["type"] == "Ready" and condition["status"] != "True"
    ]
    deleted = parse_rfc3339(pod["metadata"].get("deletionTimestamp"))
    return (changed[0] if changed else None) or deleted or created_s(pod)


def delay_s(failures_count: int, last_s: float, now_s: float) -> float:
    """Seconds until a replacement may be made."""
    if failures_count <= 0:
        return 0.0
    delay = min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures_count - 1, 16))
    return max(0.0, last_s + delay - now_s)


def backoff_s(failed: Sequence[Object], succeeded: Sequence[Object], now_s: float) -> float:
    """Seconds until a Job may make new pods: grows with every failure since the last success."""
    success_s = max((ended_s(pod) for pod in succeeded), default=0.0)
    ends = [end for end in map(ended_s, failed) if end > success_s]
    return delay_s(len(ends), max(ends, default=0.0), now_s)


def index_backoff_s(last_failed: Object, now_s: float) -> float:
    """Seconds until one index may be tried again."""
    count = failures_of(last_failed) + ignored_of(last_failed) + 1
    return delay_s(count, ended_s(last_failed), now_s)


def exceeds_restarts(job: Object, pods: Sequence[Object]) -> bool:
    """Whether containers that are restarted in place failed more often than ``backoffLimit`` allows."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    limit = int(job["spec"].get("backoffLimit", 6))
    count = 0
    for pod in pods:
        if phase_of(pod) not in ("Running", "Pending"):
            continue
        status = pod.get("status") or {}
        found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        count += sum(int(item.get("restartCount") or 0) for item in found)
    return count > 0 if limit == 0 else count >= limit
