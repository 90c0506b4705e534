"""How many pods metrics ask for, and how fast the number may change."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.autoscaling.behaviour import Memory, bound, remember_change
from skerry.controllers.autoscaling.replicas import (
    NoMetric,
    by_utilization,
    by_value,
    group,
    requests_milli,
)

NOW_S = 1_750_000_000.0


def pod(name: str, *, phase: str = "Running", ready: bool = True, age_s: float = 900, **meta: Any) -> Object:
    at = rfc3339(NOW_S - age_s)
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at}
    container = {"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}
    return {
        "metadata": {"name": name, **meta},
        "spec": {"containers": [container]},
        "status": {"phase": phase, "startTime": at, "conditions": [condition]},
    }


def cpu(pods: list[Object], values: dict[str, int], target: int = 50, *, current: int | None = None) -> int:
    groups = group(pods, values, is_cpu=True, now_s=NOW_S)
    count = len(pods) if current is None else current
    return by_utilization(count, groups, values, requests_milli(pods, "cpu"), target).replicas


PODS = [pod("a"), pod("b")]


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        ({"a": 50, "b": 50}, 2),
        ({"a": 54, "b": 54}, 2),  # within the tolerance
        ({"a": 100, "b": 100}, 4),
        ({"a": 20, "b": 20}, 1),
        ({"a": 100}, 2),  # b says nothing: it may be idle, then twice the target is for two pods
        ({"a": 10}, 2),  # b says nothing: it may be busy
    ],
)
def test_pods_for_a_share_of_their_requests(values: dict[str, int], replicas: int) -> None:
    assert cpu(PODS, values) == replicas


def test_pods_that_start_do_not_count_as_busy() -> None:
    starting = [pod("a"), pod("b", ready=False, age_s=10), pod("c", phase="Pending")]
    assert cpu(starting, {"a": 100, "b": 900}, 50) == 3  # a alone would ask for more, b and c will take their part
    groups = group(
        [*starting, pod("d", deletionTimestamp="x"), pod("e", phase="Failed")], {"a": 1}, is_cpu=True, now_s=NOW_S
    )
    assert (groups.counted, groups.unready, groups.missing) == ({"a"}, {"c"}, {"b"})


def test_a_value_per_pod() -> None:
    groups = group(PODS, {"a": 3000, "b": 5000}, is_cpu=False, now_s=NOW_S)
    assert by_value(2, groups, {"a": 3000, "b": 5000}, 2000).replicas == 4


def test_what_cannot_be_computed_says_why() -> None:
    greedy = pod("a")
    del greedy["spec"]["containers"][0]["resources"]
    with pytest.raises(NoMetric, match="missing request for cpu in container c of Pod a"):
        requests_milli([greedy], "cpu")
    with pytest.raises(NoMetric, match="did not receive metrics"):
        cpu([pod("a", phase="Pending")], {})


def limited(
    current: int, wished: int, memory: Memory | None = None, *, now_s: float = NOW_S, **more: Any
) -> tuple[int, str]:
    options = {"least": 1, "most": 100, "behavior": None, **more}
    found = bound(current, wished, memory or Memory(), now_s=now_s, **options)
    return found.replicas, found.limited[0]


def test_limits_of_number_and_speed() -> None:
    assert limited(10, 15) == (15, "DesiredWithinRange")
    assert limited(10, 99) == (20, "ScaleUpLimit")
    assert limited(1, 99) == (5, "ScaleUpLimit")
    assert limited(10, 15, most=12) == (12, "TooManyReplicas")
    assert limited(10, 1, least=3) == (3, "TooFewReplicas")


def test_policies_of_ones_own() -> None:
    slow = {"scaleDown": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}}
    assert limited(10, 1, behavior=slow) == (8, "ScaleDownLimit")
    memory = Memory()
    remember_change(memory, -2, now_s=NOW_S - 30)
    assert limited(8, 1, memory, behavior=slow) == (8, "ScaleDownLimit")
    assert limited(8, 1, memory, behavior=slow, now_s=NOW_S + 31) == (6, "ScaleDownLimit")
    never = {"scaleUp": {"selectPolicy": "Disabled"}}
    assert limited(10, 20, behavior=never) == (10, "ScaleUpLimit")
    both = [{"type": "Pods", "value": 1, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]
    assert limited(10, 20, behavior={"scaleUp": {"policies": both, "selectPolicy": "Min"}})[0] == 11


def test_the_number_falls_only_when_nothing_higher_was_wished_for_a_while() -> None:
    memory = Memory()
    for second, wished in ((0, 10), (60, 4), (299, 4)):
        found = bound(10, wished, memory, least=1, most=20, behavior=None, now_s=NOW_S + second)
        assert found.replicas == 10
    assert found.stabilized[0] == "ScaleDownStabilized"
    assert bound(10, 4, memory, least=1, most=20, behavior=None, now_s=NOW_S + 301).replicas == 4


def test_at_the_first_look_nothing_is_taken_away_at_once_and_added_what_is_needed() -> None:
    memory = Memory.beginning(4, now_s=NOW_S)
    assert bound(4, 1, memory, least=1, most=20, behavior=None, now_s=NOW_S).replicas == 4
    assert bound(4, 1, memory, least=1, most=20, behavior=None, now_s=NOW_S + 301).replicas == 1
    assert bound(4, 6, Memory.beginning(4, now_s=NOW_S), least=1, most=20, behavior=None, now_s=NOW_S).replicas == 6
