"""When a CronJob starts which Job, and what it keeps."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from skerry.api.cron import parse_cron
from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339, rfc3339
from skerry.controllers.cronjobs.plan import CronPlan, due, plan, too_old

NOON_S = parse_rfc3339("2026-01-01T12:00:00Z") or 0.0

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}


def cronjob(status: dict[str, Any] | None = None, **spec: Any) -> Object:
    return {
        "metadata": {
            "name": "tick", "namespace": "d", "uid": "C", "creationTimestamp": rfc3339(NOON_S - 1800),
        },
        "spec": {"schedule": "0 * * * *", "jobTemplate": TEMPLATE, **spec},
        "status": status or {},
    }  # fmt: skip


def job(name: str, *, ended: str = "", started_s: float = 0.0) -> Object:
    conditions = [{"type": ended, "status": "True"}] if ended else []
    status: dict[str, Any] = {"startTime": rfc3339(NOON_S + started_s), "conditions": conditions}
    if ended == "Complete":
        status["completionTime"] = rfc3339(NOON_S + started_s + 5)
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "7"},
        "spec": {},
        "status": status,
    }


def active(*jobs: Object) -> dict[str, Any]:
    return {"active": [{"name": j["metadata"]["name"], "uid": j["metadata"]["uid"]} for j in jobs]}


def step(a_cronjob: Object, *jobs: Object, now_s: float = NOON_S + 3) -> CronPlan:
    return plan(a_cronjob, jobs, parse_cron(a_cronjob["spec"]["schedule"]), UTC, now_s)


def test_nothing_before_the_time_comes() -> None:
    decided = step(cronjob(), now_s=NOON_S - 60)
    assert decided.create is None and decided.again_s == pytest.approx(60.1)


def test_the_job_of_an_hour_is_named_after_its_minute() -> None:
    decided = step(cronjob())
    assert decided.create is not None
    meta = decided.create["metadata"]
    assert meta["name"] == f"tick-{int(NOON_S) // 60}" and meta["labels"] == {"a": "b"}
    assert meta["annotations"] == {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T12:00:00Z"}
    assert decided.status["lastScheduleTime"] == rfc3339(NOON_S)
    assert step(cronjob(decided.status)).create is None


def test_of_many_missed_times_the_newest_is_served_with_a_warning() -> None:
    old = cronjob({"lastScheduleTime": rfc3339(NOON_S - 7 * 86400)})
    decided = step(old)
    assert decided.create is not None and decided.create["metadata"]["name"].endswith(str(int(NOON_S) // 60))
    assert [reason for _, reason, _ in decided.say] == ["TooManyMissedTimes"]


def test_a_starting_deadline_gives_old_times_up() -> None:
    late = cronjob({"lastScheduleTime": rfc3339(NOON_S - 3600)}, startingDeadlineSeconds=10)
    assert step(late, now_s=NOON_S + 11).create is None
    assert step(late, now_s=NOON_S + 9).create is not None


def test_missed_times_are_found_when_their_gaps_are_uneven() -> None:
    schedule = parse_cron("0,1 0 1 * *")
    found = due(cronjob({"lastScheduleTime": "2025-06-15T00:00:00Z"}), schedule, UTC, NOON_S)
    assert found.at_s == parse_rfc3339("2026-01-01T00:01:00Z")


def test_what_may_run_side_by_side() -> None:
    running = job("tick-1")
    assert step(cronjob(active(running)), running).create is not None
    forbidden = step(cronjob(active(running), concurrencyPolicy="Forbid"), running)
    assert forbidden.create is None and [reason for _, reason, _ in forbidden.say] == ["JobAlreadyActive"]
    replaced = step(cronjob(active(running), concurrencyPolicy="Replace"), running)
    assert replaced.create is not None and replaced.delete == [running] and "active" not in replaced.status


def test_a_suspended_one_starts_nothing_but_keeps_its_books() -> None:
    ended = job("tick-1", ended="Complete")
    decided = step(cronjob(active(ended), suspend=True), ended)
    assert decided.create is None and "active" not in decided.status
    assert decided.status["lastSuccessfulTime"] == rfc3339(NOON_S + 5)
    assert decided.say == [("Normal", "SawCompletedJob", "Saw completed job: tick-1, condition: Complete")]


def test_vanished_jobs_leave_the_list_and_forgotten_ones_enter_it() -> None:
    decided = step(cronjob(active(job("gone"))), job("forgotten"), now_s=NOON_S - 60)
    assert [ref["name"] for ref in decided.status["active"]] == ["forgotten"]
    assert decided.say == [("Normal", "MissingJob", "Active job went missing: gone")]


def test_history_is_kept_within_its_limits() -> None:
    limited = cronjob(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    jobs = [
        job("c2", ended="Complete", started_s=2),
        job("c1", ended="Complete", started_s=1),
        job("f", ended="Failed"),
    ]
    assert [j["metadata"]["name"] for j in too_old(limited, [*jobs, job("running")])] == ["c1", "f"]
