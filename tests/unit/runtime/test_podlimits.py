"""What a pod's and a container's control groups get."""

from typing import Any

import pytest

from skerry.runtime.cgroups import GroupLimits
from skerry.runtime.podlimits import contained_limits, container_limits, cpu_shares, overhead_limits, pod_limits

_MI = 1 << 20


def with_resources(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}}


def test_a_pod_weighs_what_its_containers_ask_for_together() -> None:
    spec = {"containers": [with_resources({"cpu": "250m"}), with_resources({"cpu": "750m"}), with_resources()]}
    assert pod_limits(spec, process_count=0) == GroupLimits(cpu_shares=1024)


def test_a_pod_has_a_limit_where_each_container_has_one() -> None:
    both = with_resources(limits={"cpu": "100m", "memory": "10Mi"})
    only_memory = with_resources(limits={"memory": "20Mi"})
    found = pod_limits({"containers": [both, only_memory]}, process_count=100)
    assert (found.cpu_milli, found.memory_bytes, found.process_count) == (0, 30 * _MI, 100)


def test_an_init_container_may_need_more_than_the_others() -> None:
    spec = {
        "initContainers": [with_resources(limits={"memory": "100Mi"})],
        "containers": [with_resources(limits={"memory": "10Mi"})],
        "overhead": {"memory": "5Mi"},
    }
    assert pod_limits(spec, process_count=0).memory_bytes == 105 * _MI


def test_what_the_runtime_takes_comes_on_top() -> None:
    container = with_resources({"cpu": "250m"}, {"cpu": "500m", "memory": "10Mi"})
    spec = {"containers": [container], "overhead": {"cpu": "250m", "memory": "20Mi"}}
    assert pod_limits(spec, process_count=0) == GroupLimits(512, 750, 30 * _MI)
    assert overhead_limits(spec) == GroupLimits(256, 250, 20 * _MI)
    assert contained_limits(spec) == GroupLimits(256, 500, 10 * _MI)
    assert overhead_limits({"containers": [container]}) == GroupLimits()


def test_it_makes_no_limit_where_the_containers_have_none_and_no_weight_for_best_effort() -> None:
    spec = {"containers": [{"name": "c"}], "overhead": {"cpu": "250m", "memory": "20Mi"}}
    assert pod_limits(spec, process_count=0) == GroupLimits(cpu_shares=2)


def test_a_tiny_cpu_limit_is_what_the_containers_get_in_any_case() -> None:
    tiny = with_resources(limits={"cpu": "1m"})
    assert pod_limits({"containers": [tiny, tiny]}, process_count=0).cpu_milli == 20
    assert container_limits(tiny).cpu_milli == 10


def test_a_pod_that_asks_for_nothing_weighs_least() -> None:
    assert pod_limits({"containers": [{"name": "c"}]}, process_count=0) == GroupLimits(cpu_shares=2)
    assert container_limits({"name": "c"}) == GroupLimits(cpu_shares=2)


def test_a_limit_is_also_the_request_where_there_is_none() -> None:
    assert container_limits(with_resources(limits={"cpu": "2"})).cpu_shares == 2048


@pytest.mark.parametrize(("milli", "shares"), [(0, 2), (1, 2), (500, 512), (1_000_000, 262_144)])
def test_shares(milli: int, shares: int) -> None:
    assert cpu_shares(milli) == shares
