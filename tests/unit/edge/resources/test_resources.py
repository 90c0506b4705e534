"""How much pods may have, who is taken, when the node is short, and who goes first."""

from typing import Any

import pytest

from skerry.edge.resources.admission import Refusal, admit, refused_under_pressure
from skerry.edge.resources.amounts import allocatable, threshold, written
from skerry.edge.resources.pressure import DISK, MEMORY, PID, SETTLE_S, Amount, Pressures, Shortage, is_near, judge
from skerry.edge.resources.ranking import Usage, message, ranked

MIB = 1 << 20
AMOUNTS = {"cpu": 2000, "memory": 1024 * MIB, "pods": 3, "ephemeral-storage": 100 * MIB, "vendor.com/npu": 0}

NODE = {"metadata": {"name": "edge-1"}}


def pod(name: str = "web", *, requests: dict[str, str] | None = None, port: int = 0, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "resources": {"requests": requests or {}}}
    if port:
        container["ports"] = [{"hostPort": port}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}"},
        "spec": {"containers": [container], **spec},
        "status": {"phase": spec.pop("phase", "Running")},
    }


def reason(wanted: dict[str, Any], *others: dict[str, Any], labels: dict[str, str] | None = None) -> str:
    refused = admit(
        wanted, others, amounts=AMOUNTS, node=NODE | {"metadata": {"name": "edge-1", "labels": labels or {}}}
    )
    return refused.reason if refused else ""


def test_allocatable_is_what_system_and_eviction_leave() -> None:
    capacity = {"cpu": 2000, "memory": 1000, "ephemeral-storage": 1000, "pods": 110}
    found = allocatable(
        capacity, {"cpu": "250m", "memory": "100"}, {"memory.available": "5%", "nodefs.available": "10%"}
    )
    assert found == {"cpu": 1750, "memory": 850, "ephemeral-storage": 900, "pods": 110}
    assert allocatable({"memory": 10}, {"memory": "1Gi"}, {}) == {"memory": 0}
    assert written({"cpu": 1750, "memory": 2048, "pods": 110}) == {"cpu": "1750m", "memory": "2Ki", "pods": "110"}
    assert written({"cpu": 2000}) == {"cpu": "2"}


@pytest.mark.parametrize("text", ["much", "120%", "x%"])
def test_a_threshold_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        threshold(text, 100)


def test_a_pod_that_fits_is_taken() -> None:
    assert reason(pod(requests={"cpu": "1", "memory": "512Mi"}), pod("b", requests={"cpu": "1"})) == ""


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ({"cpu": "1500m"}, "OutOfcpu"),
        ({"memory": "900Mi"}, "OutOfmemory"),
        ({"ephemeral-storage": "1Gi"}, "OutOfephemeral-storage"),
        ({"vendor.com/npu": "1"}, "OutOfvendor.com/npu"),
    ],
)
def test_a_pod_that_does_not_fit_is_refused_by_the_amount(requests: dict[str, str], expected: str) -> None:
    other = pod("b", requests={"cpu": "600m", "memory": "200Mi"})
    assert reason(pod(requests=requests), other) == expected
    ended = other | {"status": {"phase": "Succeeded"}}
    assert (reason(pod(requests=requests), ended) == "") == (expected in ("OutOfcpu", "OutOfmemory"))


def test_what_the_runtime_takes_counts() -> None:
    assert reason(pod(requests={"cpu": "1"}, overhead={"cpu": "1"})) == ""
    assert reason(pod(requests={"cpu": "1"}, overhead={"cpu": "1100m"})) == "OutOfcpu"
    assert reason(pod(requests={"cpu": "1"}), pod("b", overhead={"cpu": "1100m"})) == "OutOfcpu"


def affine(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def term(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([term("disk", "In", "ssd", "nvme")], ""),
        ([term("disk", "In", "hdd")], "NodeAffinity"),
        ([term("disk", "NotIn", "ssd")], "NodeAffinity"),
        ([term("zone", "NotIn", "a")], ""),
        ([term("disk", "Exists")], ""),
        ([term("zone", "Exists")], "NodeAffinity"),
        ([term("disk", "DoesNotExist")], "NodeAffinity"),
        ([term("cores", "Gt", "3")], ""),
        ([term("cores", "Gt", "4")], "NodeAffinity"),
        ([term("cores", "Lt", "5")], ""),
        ([term("cores", "Lt", "4")], "NodeAffinity"),
        ([term("zone", "Exists"), term("disk", "Exists")], ""),
        ([{k: v + term("disk", "Exists")[k] for k, v in term("zone", "Exists").items()}], "NodeAffinity"),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["edge-1"]}]}], ""),
        ([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["edge-1"]}]}], "NodeAffinity"),
        ([{}], "NodeAffinity"),
        ([{"matchExpressions": ["nonsense"]}], "NodeAffinity"),
    ],
)  # fmt: skip
def test_required_affinity_is_looked_at_again(terms: list[dict[str, Any]], expected: str) -> None:
    assert reason(affine(*terms), labels={"disk": "ssd", "cores": "4"}) == expected


def test_preferences_and_labels_that_are_not_known_refuse_nothing() -> None:
    preferred = [{"weight": 1, "preference": term("disk", "Exists")}]
    wanted = pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert reason(wanted) == ""
    assert admit(affine(term("disk", "Exists")), [], amounts=AMOUNTS, node=None) is None


def test_resources_that_only_the_cluster_counts_are_no_matter_of_the_node() -> None:
    assert reason(pod(requests={"example.com/license": "1"})) == ""


def test_too_many_pods_a_taken_port_and_a_foreign_selector() -> None:
    assert reason(pod(), pod("a"), pod("b"), pod("c")) == "OutOfpods"
    assert reason(pod(port=80), pod("a", port=80)) == "NodePorts"
    refused = admit(pod(port=80), [pod("a", port=80)], amounts=AMOUNTS, node=NODE)
    assert refused is not None and "host port 80/TCP is taken on this node by pod default/a" in refused.message
    assert reason(pod(port=80), pod("a", port=81)) == ""
    assert reason(pod(nodeSelector={"disk": "ssd"}), labels={"disk": "hdd"}) == "NodeAffinity"
    assert reason(pod(nodeSelector={"disk": "ssd"}), labels={"disk": "ssd"}) == ""


def test_a_newer_version_of_a_pod_does_not_compete_with_itself() -> None:
    assert reason(pod(requests={"cpu": "2"}, port=80), pod(requests={"cpu": "2"}, port=80)) == ""


def test_a_pressure_begins_at_once_and_ends_when_it_has_settled() -> None:
    thresholds = {"memory.available": "100", "nodefs.available": "10%", "pid.available": "5%"}
    fine = {"memory.available": Amount(500, 1000), "nodefs.available": Amount(50, 100)}
    found = judge(fine, thresholds, Pressures(), now_s=0)
    assert not found.shortages and not found.last_s, "a signal that cannot be read holds nothing"
    found = judge(fine | {"memory.available": Amount(99, 1000)}, thresholds, found, now_s=10)
    assert found.shortages == (Shortage("memory.available", 99, 100),) and found.holds(MEMORY)
    found = judge(fine, thresholds, found, now_s=10 + SETTLE_S - 1)
    assert not found.shortages and found.holds(MEMORY) and not found.holds(DISK)
    assert not judge(fine, thresholds, found, now_s=10 + SETTLE_S).holds(MEMORY)
    assert not judge(fine, thresholds, found, now_s=15, settle_s=5).holds(MEMORY)
    assert judge({"nodefs.available": Amount(9, 100)}, thresholds, Pressures(), now_s=0).holds(DISK)
    assert judge({"pid.available": Amount(4, 100)}, thresholds, Pressures(), now_s=0).holds(PID)


def test_best_effort_goes_before_burstable_before_guaranteed() -> None:
    used = {
        f"u-{name}": Usage(memory_bytes=100 * MIB)
        for name in ("best", "burst", "guaranteed", "over", "static", "system")
    }
    pods = [
        pod("guaranteed", requests={"memory": "200Mi"}),
        pod("system", priority=2_000_001_000),
        pod("burst", requests={"memory": "120Mi"}),
        pod("best"),
        pod("over", requests={"memory": "50Mi"}),
        pod("static"),
    ]
    pods[-1]["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    assert [p["metadata"]["name"] for p in ranked(pods, used, MEMORY)] == ["best", "over", "burst", "guaranteed"]


def test_a_lower_priority_goes_first_whatever_it_uses() -> None:
    pods = [pod("low", priority=1), pod("high", priority=100)]
    used = {"u-low": Usage(1, 1, 1), "u-high": Usage(MIB, MIB, 99)}
    for kind in (MEMORY, DISK, PID):
        assert [p["metadata"]["name"] for p in ranked(pods, used, kind)] == ["low", "high"]


def test_the_message_names_amounts() -> None:
    usage = Usage(containers={"c": (2 * MIB, 3 * MIB + 1)})
    text = message(pod(requests={"memory": "1Mi"}), usage, Shortage("memory.available", 10, 20 * MIB))
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 20Mi, available: 10. "
        "Container c was using 2Mi, request is 1Mi, has larger consumption of memory. "
    )
    modest = message(pod(requests={"memory": "3Mi"}), usage, Shortage("memory.available", 10, 20))
    assert modest == "The node was low on resource: memory. Threshold quantity: 20, available: 10. "
    disk = message(pod(), usage, Shortage("nodefs.available", MIB, 2 * MIB))
    assert disk == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 2Mi, available: 1Mi. "
        "Container c was using 3145729, request is 0, has larger consumption of ephemeral-storage. "
    )
    inodes = message(pod(), usage, Shortage("nodefs.inodesFree", 100, 2000))
    assert inodes == "The node was low on resource: inodes. Threshold quantity: 2k, available: 100. "
    pids = message(pod(), usage, Shortage("pid.available", 1024, 3000))
    assert pids == "The node was low on resource: pids. Threshold quantity: 3k, available: 1024. "


def test_a_node_that_runs_short_takes_no_pod_but_for_memory_those_that_ask_for_some() -> None:
    modest, greedy = pod(requests={"memory": "1Mi"}), pod()
    early = pod(initContainers=[{"name": "i", "resources": {"limits": {"cpu": "1"}}}])
    tolerant = pod(tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
    for taken in (modest, early, tolerant):
        assert refused_under_pressure(taken, {MEMORY}) is None
        assert refused_under_pressure(taken, {MEMORY, PID}) is not None
        assert refused_under_pressure(taken, {DISK}) is not None
    refused = refused_under_pressure(greedy, {MEMORY})
    assert refused == Refusal("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. ")
    both = refused_under_pressure(modest, {PID, MEMORY})
    assert both is not None and "[MemoryPressure PIDPressure]" in both.message
    assert refused_under_pressure(greedy, ()) is None


def test_what_goes_quickly_is_looked_at_more_often_when_it_is_near() -> None:
    thresholds = {"memory.available": "5%", "nodefs.available": "5%", "pid.available": "100"}
    calm = {"memory.available": Amount(10, 100), "nodefs.available": Amount(1, 100), "pid.available": Amount(200, 300)}
    assert not is_near(calm, thresholds) and not is_near({}, thresholds)
    assert is_near(calm | {"memory.available": Amount(9, 100)}, thresholds)
    assert is_near(calm | {"pid.available": Amount(199, 300)}, thresholds)


@pytest.mark.parametrize(
    ("os", "expected"), [({"name": "linux"}, ""), ({}, ""), (None, ""), ({"name": "windows"}, "PodOSNotSupported")]
)
def test_a_pod_for_another_operating_system_is_not_taken(os: object, expected: str) -> None:
    assert reason(pod(os=os)) == expected
