"""How Jobs count, end, wait, and hand out indexes."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.jobs.indexes import INDEX_NOTE, format_indexes, parse_indexes
from skerry.controllers.jobs.plan import JobPlan, expires_in_s, plan

NOW_S = 1_750_000_000.0
TRACKED = ["batch.kubernetes.io/job-tracking"]
INDEXED: dict[str, Any] = {"completionMode": "Indexed", "completions": 3, "parallelism": 3}


def job(status: dict[str, Any] | None = None, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    return {
        "metadata": {"name": "sum", "namespace": "d", "uid": "J"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template, **spec},
        "status": {"startTime": rfc3339(NOW_S - 60), **(status or {})},
    }


def pod(
    uid: str, phase: str = "Running", *, ended_s: float = 3600, code: int = 1, index: int | None = None,
    tracked: bool = True, notes: dict[str, str] | None = None, **meta: Any,
) -> Object:  # fmt: skip
    annotations = {**({INDEX_NOTE: str(index)} if index is not None else {}), **(notes or {})}
    state = {"terminated": {"exitCode": code, "finishedAt": rfc3339(NOW_S - ended_s)}}
    statuses = [{"name": "c", "state": state}] if phase in ("Succeeded", "Failed") else []
    return {
        "metadata": {
            "name": uid, "namespace": "d", "uid": uid, "annotations": annotations,
            "finalizers": TRACKED if tracked else [], "creationTimestamp": rfc3339(NOW_S - 4000), **meta,
        },
        "spec": {},
        "status": {"phase": phase, "containerStatuses": statuses},
    }  # fmt: skip


def step(a_job: Object, *pods: Object, may_create: bool = True, now_s: float = NOW_S) -> JobPlan:
    return plan(a_job, pods, may_create=may_create, now_s=now_s)


def conditions(decided: JobPlan) -> dict[str, str]:
    return {c["type"]: c["reason"] for c in decided.status.get("conditions", ()) if c["status"] == "True"}


def indexes(decided: JobPlan) -> list[int]:
    return [int(p["metadata"]["annotations"][INDEX_NOTE]) for p in decided.create]


def run(a_job: Object, *pods: Object, rounds: int = 6) -> JobPlan:
    """Look again and again, with the writes of each look done: deletions end pods, stripped pods are untracked."""
    world = {p["metadata"]["uid"]: p for p in pods}
    for _ in range(rounds):
        decided = step(a_job, *world.values())
        a_job = {**a_job, "status": decided.status}
        for gone in decided.delete:
            world[gone["metadata"]["uid"]] = {**gone, "status": {**gone["status"], "phase": "Failed"}}
        for gone in decided.drop:
            del world[gone["metadata"]["uid"]]
        for free in decided.strip:
            uid = free["metadata"]["uid"]
            world[uid] = {**world[uid], "metadata": {**world[uid]["metadata"], "finalizers": []}}
    return decided


@pytest.mark.parametrize(
    ("text", "found"), [("", set()), ("1,3-5,7", {1, 3, 4, 5, 7}), ("0-2", {0, 1, 2}), ("8-99", {8, 9}), ("x,2", {2})]
)
def test_index_lists_are_read(text: str, found: set[int]) -> None:
    assert parse_indexes(text, limit=10) == found


def test_index_lists_are_written_short() -> None:
    assert format_indexes({7, 1, 2, 4, 5, 6, 9}) == "1,2,4-7,9"
    assert format_indexes([]) == ""


def test_as_many_pods_as_parallelism_allows_and_completions_need() -> None:
    assert len(step(job(parallelism=3, completions=5)).create) == 3
    assert len(step(job({"succeeded": 4}, parallelism=3, completions=5)).create) == 1
    assert len(step(job(parallelism=2, completions=None)).create) == 2
    made = step(job()).create[0]
    assert made["metadata"]["finalizers"] == TRACKED and made["metadata"]["generateName"] == "sum-"
    assert step(job(), may_create=False).create == []


def test_surplus_pods_go_without_being_counted() -> None:
    decided = step(job(parallelism=1, completions=5), pod("a"), pod("b"))
    assert (len(decided.drop), decided.delete) == (1, [])


def test_a_pod_is_counted_exactly_once() -> None:
    first = step(job(), pod("a", "Succeeded"))
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["a"]} and "succeeded" not in first.status
    assert [p["metadata"]["uid"] for p in first.strip] == ["a"] and first.create == []
    again = step(job(first.status), pod("a", "Succeeded"))  # the cache lags: the same answer
    assert again.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    counted = step(job(first.status), pod("a", "Succeeded", tracked=False))
    assert (counted.status["succeeded"], counted.status["uncountedTerminatedPods"]) == (1, {})
    deleted = step(job(first.status))  # or it is gone altogether
    assert deleted.status["succeeded"] == 1


def test_a_job_completes() -> None:
    done = run(job(), pod("a", "Succeeded"))
    assert conditions(done) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert (done.status["succeeded"], done.status["completionTime"]) == (1, rfc3339(NOW_S))


def test_a_work_queue_is_done_when_one_succeeded_and_none_runs() -> None:
    queue = job(parallelism=2, completions=None)
    assert conditions(run(queue, pod("a", "Succeeded"), pod("b"))) == {}
    assert "Complete" in conditions(run(queue, pod("a", "Succeeded"), pod("b", "Failed")))


def test_failures_delay_the_next_pod_more_and_more() -> None:
    one = step(job(), pod("a", "Failed", ended_s=4))
    assert (one.create, one.again_s) == ([], 6.0)
    two = step(job({"failed": 1}), pod("a", "Failed", ended_s=30, tracked=False), pod("b", "Failed", ended_s=4))
    assert two.again_s == 16.0
    assert len(step(job(), pod("a", "Failed", ended_s=10)).create) == 1


def test_too_many_failures_end_the_job_and_its_pods() -> None:
    limited = job(backoffLimit=1, parallelism=2, completions=4)
    pods = [pod("a", "Failed"), pod("b", "Failed"), pod("c")]
    first = step(limited, *pods)
    assert conditions(first) == {"FailureTarget": "BackoffLimitExceeded"}
    assert [p["metadata"]["uid"] for p in first.delete] == ["c"]
    done = run(limited, *pods)
    assert conditions(done) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert done.status["failed"] == 3
    assert done.say == [("Warning", "BackoffLimitExceeded", "Job has reached the specified backoff limit")]


def test_restarts_in_place_count_against_the_limit() -> None:
    restarting = job(backoffLimit=3)
    restarting["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    running = pod("a")
    running["status"]["containerStatuses"] = [{"name": "c", "restartCount": 3}]
    assert conditions(step(restarting, running)) == {"FailureTarget": "BackoffLimitExceeded"}


def test_the_deadline_is_waited_for_and_kept() -> None:
    slow = job(activeDeadlineSeconds=100)
    assert step(slow, pod("a")).again_s == 40.0
    assert conditions(step(slow, pod("a"), now_s=NOW_S + 40)) == {"FailureTarget": "DeadlineExceeded"}


def test_suspending_takes_the_pods_away_and_resuming_starts_the_clock_anew() -> None:
    paused = step(job(suspend=True), pod("a"))
    assert [p["metadata"]["uid"] for p in paused.drop] == ["a"]
    assert conditions(paused) == {"Suspended": "JobSuspended"} and "startTime" not in paused.status
    resumed = step(job(paused.status), now_s=NOW_S + 5)
    assert resumed.status["startTime"] == rfc3339(NOW_S + 5) and len(resumed.create) == 1
    assert conditions(resumed) == {}


def test_indexes_are_handed_out_once_each() -> None:
    decided = step(job(**INDEXED), pod("a", index=1), pod("b", "Succeeded", index=0))
    assert indexes(decided) == [2] and decided.status["completedIndexes"] == "0"
    made = decided.create[0]
    assert made["metadata"]["generateName"] == "sum-2-" and made["spec"]["hostname"] == "sum-2"
    (variable,) = made["spec"]["containers"][0]["env"]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    doubled = step(job(**INDEXED), pod("a", index=1), pod("b", index=1), pod("c", index=2), pod("d", index=9))
    assert {p["metadata"]["uid"] for p in doubled.drop} == {"b", "d"}


def test_an_indexed_job_completes_with_all_its_indexes() -> None:
    done = run(job(**INDEXED), *(pod(f"p{n}", "Succeeded", index=n) for n in range(3)))
    assert done.status["completedIndexes"] == "0-2" and done.status["succeeded"] == 3
    assert "Complete" in conditions(done)


def test_an_index_fails_for_itself_with_a_limit_of_its_own() -> None:
    own = job(**INDEXED, backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    once = step(own, pod("a", "Failed", index=0), pod("b", "Succeeded", index=1), pod("c", index=2))
    assert indexes(once) == [0] and once.status["failedIndexes"] == ""
    assert once.create[0]["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "1"
    assert "a" not in [p["metadata"]["uid"] for p in once.strip]  # it remembers the failure until its follower is seen
    failures = {"batch.kubernetes.io/job-index-failure-count": "1"}
    again = pod("d", "Failed", index=0, notes=failures)
    twice = step(own, pod("a", "Failed", index=0), again, pod("b", "Succeeded", index=1), pod("c", index=2))
    assert twice.status["failedIndexes"] == "0" and indexes(twice) == []
    done = run(own, again, pod("b", "Succeeded", index=1), pod("c", "Succeeded", index=2))
    assert conditions(done)["Failed"] == "FailedIndexes" and done.status["completedIndexes"] == "1,2"


def test_the_most_failed_indexes() -> None:
    strict = job(**INDEXED, backoffLimitPerIndex=0, maxFailedIndexes=0, backoffLimit=99)
    assert conditions(step(strict, pod("a", "Failed", index=0))) == {"FailureTarget": "MaxFailedIndexesExceeded"}


def test_the_success_policy_ends_a_job_early() -> None:
    led = job(**INDEXED, successPolicy={"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]})
    decided = step(led, pod("a", "Succeeded", index=2), pod("b", index=0))
    assert conditions(decided) == {"SuccessCriteriaMet": "SuccessPolicy"}
    assert decided.status["conditions"][0]["message"] == "Matched rules at index 0"
    assert [p["metadata"]["uid"] for p in decided.delete] == ["b"]
    assert conditions(step(led, pod("a", "Succeeded", index=0))) == {}


def exit_rule(action: str, *values: int, operator: str = "In") -> dict[str, Any]:
    return {"rules": [{"action": action, "onExitCodes": {"operator": operator, "values": list(values)}}]}


def test_the_failure_policy_fails_the_job() -> None:
    decided = step(job(podFailurePolicy=exit_rule("FailJob", 42)), pod("a", "Failed", code=42))
    assert conditions(decided) == {"FailureTarget": "PodFailurePolicy"}
    text = "Container c for pod d/a failed with exit code 42 matching FailJob rule at index 0"
    assert decided.status["conditions"][0]["message"] == text
    assert conditions(step(job(podFailurePolicy=exit_rule("FailJob", 42)), pod("a", "Failed", code=1))) == {}


def test_the_failure_policy_ignores() -> None:
    rule = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    evicted = pod("a", "Failed")
    evicted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    decided = step(job(podFailurePolicy=rule, backoffLimit=0), evicted)
    assert len(decided.strip) == 1 and decided.status["uncountedTerminatedPods"] == {} and conditions(decided) == {}


def test_the_failure_policy_fails_one_index() -> None:
    picky = job(**INDEXED, backoffLimitPerIndex=5, podFailurePolicy=exit_rule("FailIndex", 0, operator="NotIn"))
    decided = step(picky, pod("a", "Failed", code=3, index=1))
    assert decided.status["failedIndexes"] == "1" and indexes(decided) == [0, 2]


def test_replacements_may_wait_for_the_end_of_their_predecessor() -> None:
    dying = pod("a", deletionTimestamp="2026-01-01T00:00:00Z")
    assert step(job(podReplacementPolicy="Failed"), dying).create == []
    assert len(step(job(podReplacementPolicy="Failed"), pod("a", "Failed", tracked=False)).create) == 1


def test_a_finished_job_expires() -> None:
    ended = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": rfc3339(NOW_S - 7)}]}
    assert expires_in_s(job(ended, ttlSecondsAfterFinished=10), NOW_S) == 3.0
    assert expires_in_s(job(ended), NOW_S) is None
    assert expires_in_s(job(ttlSecondsAfterFinished=0), NOW_S) is None
