"""How many pods a budget lets go."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.disruption import budget_status, still_disrupted, wanted_healthy

NOW_S = 1_750_000_000.0


def pod(name: str, *, ready: bool = True, **meta: Any) -> Object:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": name, **meta}, "status": {"phase": "Running", "conditions": conditions}}


@pytest.mark.parametrize(
    ("spec", "count", "scale", "expected"),
    [
        ({"minAvailable": 2}, 3, 5, (2, 3)),
        ({"minAvailable": "50%"}, 3, 5, (3, 5)),
        ({"maxUnavailable": 1}, 3, 5, (4, 5)),
        ({"maxUnavailable": "30%"}, 5, 5, (3, 5)),
        ({"maxUnavailable": 9}, 3, 5, (0, 5)),
        ({}, 3, 5, (1, 3)),
    ],
)
def test_how_many_must_stay(spec: dict[str, Any], count: int, scale: int, expected: tuple[int, int]) -> None:
    assert wanted_healthy(spec, count, scale) == expected


def test_the_status_counts_ready_pods_that_are_not_on_their_way_out() -> None:
    budget = {"metadata": {"generation": 2}, "spec": {"minAvailable": 1}}
    pods = [pod("a"), pod("b"), pod("c", ready=False), pod("d", deletionTimestamp="x"), pod("e")]
    status = budget_status(budget, pods, scale=5, disrupted={"e": rfc3339(NOW_S)}, now_s=NOW_S)
    assert (status["currentHealthy"], status["disruptionsAllowed"], status["expectedPods"]) == (2, 1, 5)
    assert status["conditions"][0]["reason"] == "SufficientPods" and status["disruptedPods"] == {"e": rfc3339(NOW_S)}
    none = budget_status(budget, [], scale=0, disrupted={}, now_s=NOW_S)
    assert (none["disruptionsAllowed"], none["conditions"][0]["reason"]) == (0, "InsufficientPods")


def test_an_eviction_counts_until_the_pod_goes_or_two_minutes_have_passed() -> None:
    at = rfc3339(NOW_S - 100)
    pods = [pod("there"), pod("going", deletionTimestamp="x"), pod("late")]
    old = {"there": at, "going": at, "gone": at, "late": rfc3339(NOW_S - 130)}
    assert still_disrupted(old, pods, NOW_S) == ({"there": at}, 20.0)
