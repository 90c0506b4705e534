"""Taints, conditions and eviction of silent nodes; endpoints of Services."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339, rfc3339
from skerry.controllers.endpoints import wanted_endpoints, wanted_slices
from skerry.controllers.node_lifecycle import EDGE_LABEL, evict_in_s, heartbeat_of, silent_conditions, wanted_taints
from skerry.controllers.objects import matches, resolve_percent, set_condition

NOW_S = 1_750_000_000.0


def node(ready: str, *, edge: bool = False, taints: list[dict[str, str]] | None = None, **spec: Any) -> Object:
    labels = {EDGE_LABEL: ""} if edge else {}
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": rfc3339(NOW_S - 9)}]
    return {
        "metadata": {"name": "n", "labels": labels},
        "spec": {"taints": taints or [], **spec},
        "status": {"conditions": conditions},
    }


def keys(taints: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(taint["key"].rpartition("/")[2], taint["effect"]) for taint in taints]


@pytest.mark.parametrize(
    ("ready", "edge", "expected"),
    [
        ("True", False, []),
        ("Unknown", False, [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")]),
        ("False", False, [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]),
        ("Unknown", True, [("unreachable", "NoSchedule")]),
        ("False", True, [("not-ready", "NoSchedule")]),
    ],
)
def test_taints_of_a_silent_node(ready: str, edge: bool, expected: list[tuple[str, str]]) -> None:
    assert keys(wanted_taints(node(ready, edge=edge), may_evict=True, now_s=NOW_S)) == expected


def test_in_a_full_outage_nothing_is_evicted() -> None:
    assert keys(wanted_taints(node("Unknown"), may_evict=False, now_s=NOW_S)) == [("unreachable", "NoSchedule")]


def test_other_taints_and_old_times_stay() -> None:
    mine = {"key": "gpu", "effect": "NoExecute", "value": "x"}
    old = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": rfc3339(NOW_S - 500)}
    taints = wanted_taints(node("Unknown", taints=[mine, old]), may_evict=True, now_s=NOW_S)
    assert taints[0] == mine and old in taints
    back = wanted_taints(node("True", taints=[mine, old]), may_evict=True, now_s=NOW_S)
    assert back == [mine]


def test_cordon_and_pressure_become_taints() -> None:
    found = node("True", unschedulable=True)
    found["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    assert keys(wanted_taints(found, may_evict=True, now_s=NOW_S)) == [
        ("disk-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
    ]  # fmt: skip


def test_silence_makes_conditions_unknown_and_keeps_the_heartbeat() -> None:
    quiet = node("True")
    quiet["status"]["conditions"] = silent_conditions(quiet, now_s=NOW_S)
    by_type = {c["type"]: c for c in quiet["status"]["conditions"]}
    assert set(by_type) == {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}
    assert by_type["Ready"]["reason"] == "NodeStatusUnknown"
    assert by_type["MemoryPressure"]["reason"] == "NodeStatusNeverUpdated"
    assert heartbeat_of(quiet, None) == heartbeat_of(node("True"), None)
    assert silent_conditions(quiet, now_s=NOW_S + 60) == quiet["status"]["conditions"]


def test_eviction_waits_for_the_shortest_toleration() -> None:
    taints = [{"key": "k", "effect": "NoExecute", "timeAdded": rfc3339(NOW_S - 100)}]

    def left(*tolerations: dict[str, Any]) -> float | None:
        return evict_in_s({"spec": {"tolerations": list(tolerations)}}, taints, now_s=NOW_S)

    assert left() == 0
    assert left({"key": "k", "operator": "Exists"}) is None
    assert left({"key": "k", "operator": "Exists", "tolerationSeconds": 300}) == 200
    assert left({"key": "k", "operator": "Exists", "tolerationSeconds": 30}) == 0
    assert evict_in_s({"spec": {}}, [{"key": "k", "effect": "NoSchedule"}], now_s=NOW_S) is None


def service(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "d", "uid": "V"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "name": "p"}], **spec},
    }


def backend(name: str, ip: str, *, ready: bool = True, port: int = 8080, **meta: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, **meta},
        "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def test_a_slice_and_its_endpoints() -> None:
    pods = [
        backend("a", "10.0.0.1"),
        backend("b", "10.0.0.2", ready=False),
        backend("c", "10.0.0.3", deletionTimestamp="2026-01-01T00:00:00Z"),
        backend("d", ""),
    ]
    (piece,) = wanted_slices(service(), pods, {"n1": "z1"})
    assert piece["ports"] == [{"name": "p", "port": 8080, "protocol": "TCP"}]
    states = {e["addresses"][0]: tuple(e["conditions"].values()) for e in piece["endpoints"]}
    assert states == {
        "10.0.0.1": (True, True, False), "10.0.0.2": (False, False, False), "10.0.0.3": (False, True, True),
    }  # fmt: skip
    assert piece["endpoints"][0]["zone"] == "z1" and piece["endpoints"][0]["nodeName"] == "n1"
    assert piece["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    (subset,) = wanted_endpoints(service(), [piece])["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.1"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.2"]


def test_not_ready_addresses_can_be_published() -> None:
    (piece,) = wanted_slices(service(publishNotReadyAddresses=True), [backend("b", "10.0.0.2", ready=False)], {})
    assert piece["endpoints"][0]["conditions"]["ready"] is True


def test_pods_with_other_ports_get_another_slice_and_big_sets_are_split() -> None:
    pods = [backend("a", "10.0.0.1"), backend("b", "10.0.0.2", port=9090)]
    assert sorted(piece["ports"][0]["port"] for piece in wanted_slices(service(), pods, {})) == [8080, 9090]
    many = [backend(f"p{i}", f"10.0.1.{i}") for i in range(150)]
    assert [len(piece["endpoints"]) for piece in wanted_slices(service(), many, {})] == [100, 50]


def test_a_service_without_pods_has_one_empty_slice() -> None:
    (piece,) = wanted_slices(service(), [], {})
    assert piece["endpoints"] == [] and wanted_endpoints(service(), [piece])["subsets"] == []


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {"a": "b"}, False),
        ({}, {}, True),
        ({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"}, True),
        ({"matchLabels": {"a": "b"}}, {"a": "x"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_label_selectors(selector: Any, labels: dict[str, str], expected: bool) -> None:
    assert matches(selector, labels) is expected


def test_conditions_move_their_time_only_with_their_status() -> None:
    first = set_condition([], "T", "True", "A", "a", now_s=NOW_S)
    second = set_condition(first, "T", "True", "B", "b", now_s=NOW_S + 60)
    assert second[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] and second[0]["reason"] == "B"
    third = set_condition(second, "T", "False", "C", "c", now_s=NOW_S + 60)
    assert parse_rfc3339(third[0]["lastTransitionTime"]) == NOW_S + 60


def test_percentages() -> None:
    assert resolve_percent("25%", 3, round_up=True, default=0) == 1
    assert resolve_percent("25%", 3, round_up=False, default=0) == 0
    assert resolve_percent(None, 10, round_up=True, default="25%") == 3
