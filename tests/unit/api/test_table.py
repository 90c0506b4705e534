"""Tables: ages, columns, cells."""

# ruff: noqa: E501 - one row per case

from __future__ import annotations

from typing import Any

import pytest

from skerry.api import gvk
from skerry.api.ages import human_duration
from skerry.api.gvk import Resource
from skerry.api.jsonpath import find_values, parse_path
from skerry.api.meta import rfc3339
from skerry.api.status import BadRequest
from skerry.api.table import columns, table_rows, to_table

NOW = 1_800_000_000.0
DAY = 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-0.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (3 * 3600 + 300, "3h5m"), (8 * 3600 + 300, "8h"), (47 * 3600, "47h"), (2 * DAY, "2d"),
        (2 * DAY + 3600, "2d1h"), (8 * DAY + 3600, "8d"), (729 * DAY, "729d"), (730 * DAY, "2y"), (735 * DAY, "2y5d"), (9 * 365 * DAY + DAY, "9y"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def meta(name: str = "a", age_s: float = 65, **more: Any) -> dict[str, Any]:
    return {"name": name, "creationTimestamp": rfc3339(NOW - age_s), **more}


def cells(resource: Resource, obj: dict[str, Any]) -> list[Any]:
    (row,) = table_rows(resource, [{"metadata": meta(), **obj}], now_s=NOW)
    assert len(row["cells"]) == len(columns(resource))
    return list(row["cells"])


def test_the_envelope() -> None:
    obj = {"metadata": meta(), "data": {"a": "b"}}
    table = to_table(gvk.CONFIGMAPS, [obj], now_s=NOW, list_metadata={"resourceVersion": "5"})
    assert table["kind"] == "Table" and table["metadata"] == {"resourceVersion": "5"}
    assert table["columnDefinitions"][0] == {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": "",
        "priority": 0,
    }
    assert table["rows"] == [
        {
            "cells": ["a", 1, "65s"],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]},
        }
    ]
    assert to_table(gvk.CONFIGMAPS, [obj], now_s=NOW, include_object="Object")["rows"][0]["object"] is obj
    assert to_table(gvk.CONFIGMAPS, [obj], now_s=NOW, include_object="None")["rows"][0]["object"] is None
    with pytest.raises(BadRequest):
        to_table(gvk.CONFIGMAPS, [], now_s=NOW, include_object="All")


def container(ready: bool = True, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": "c", "ready": ready, "restartCount": restarts, "state": state or {"running": {}}}


def pod(status: dict[str, Any], spec: dict[str, Any] | None = None, **more: Any) -> list[Any]:
    return cells(
        gvk.PODS, {"metadata": meta(**more), "spec": {"containers": [{"name": "c"}], **(spec or {})}, "status": status}
    )[1:4]


INIT = {"initContainers": [{"name": "i"}, {"name": "j"}]}
SIDECAR = {"initContainers": [{"name": "i", "restartPolicy": "Always"}]}
READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("status", "spec", "want"),
    [
        ({"phase": "Pending"}, {}, ["0/1", "Pending", "0"]),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, {}, ["0/1", "SchedulingGated", "0"]),
        ({"phase": "Running", "containerStatuses": [container()]}, {}, ["1/1", "Running", "0"]),
        ({"phase": "Failed", "reason": "Evicted"}, {}, ["0/1", "Evicted", "0"]),
        ({"phase": "Running", "containerStatuses": [container(False, 3, waiting={"reason": "CrashLoopBackOff"})]}, {}, ["0/1", "CrashLoopBackOff", "3"]),
        ({"phase": "Succeeded", "containerStatuses": [container(False, terminated={"reason": "Completed"})]}, {}, ["0/1", "Completed", "0"]),
        ({"phase": "Failed", "containerStatuses": [container(False, terminated={"exitCode": 3})]}, {}, ["0/1", "ExitCode:3", "0"]),
        ({"phase": "Failed", "containerStatuses": [container(False, terminated={"signal": 9, "exitCode": 137})]}, {}, ["0/1", "Signal:9", "0"]),
        ({"phase": "Running", "conditions": [READY], "containerStatuses": [container(False, terminated={"reason": "Completed"}), container()]}, {}, ["1/1", "Running", "0"]),
        ({"phase": "Running", "containerStatuses": [container(False, terminated={"reason": "Completed"}), container()]}, {}, ["1/1", "NotReady", "0"]),
        ({"phase": "Pending", "initContainerStatuses": [container(False, running={})]}, INIT, ["0/1", "Init:0/2", "0"]),
        ({"phase": "Pending", "initContainerStatuses": [container(terminated={"exitCode": 0}), container(False, 2, waiting={"reason": "ErrImagePull"})]}, INIT, ["0/1", "Init:ErrImagePull", "2"]),
        ({"phase": "Failed", "initContainerStatuses": [container(False, terminated={"exitCode": 1})]}, INIT, ["0/1", "Init:ExitCode:1", "0"]),
        ({"phase": "Running", "initContainerStatuses": [{**container(), "name": "i", "started": True}], "containerStatuses": [container()]}, SIDECAR, ["2/2", "Running", "0"]),
    ],
)  # fmt: skip
def test_pods(status: dict[str, Any], spec: dict[str, Any], want: list[str]) -> None:
    assert pod(status, spec) == want


def test_restarts_have_an_age_and_deletion_shows() -> None:
    last = {"lastState": {"terminated": {"finishedAt": rfc3339(NOW - 300)}}}
    status = {"phase": "Running", "containerStatuses": [{**container(True, 2), **last}]}
    assert pod(status)[2] == "2 (5m ago)"
    assert pod(status, deletionTimestamp="t")[1] == "Terminating"
    assert pod({**status, "reason": "NodeLost"}, deletionTimestamp="t")[1] == "Unknown"


def test_wide_pods_and_row_conditions() -> None:
    spec = {"nodeName": "n", "readinessGates": [{"conditionType": "G"}]}
    assert cells(gvk.PODS, {"spec": spec, "status": {"podIPs": [{"ip": "1.2.3.4"}]}})[5:] == [
        "1.2.3.4",
        "n",
        "<none>",
        "0/1",
    ]
    assert cells(gvk.PODS, {})[5:] == ["<none>"] * 4
    (row,) = table_rows(gvk.PODS, [{"metadata": meta(), "status": {"phase": "Succeeded"}}], now_s=NOW)
    assert row["conditions"][0]["reason"] == "Succeeded"


TEMPLATE = {"spec": {"containers": [{"name": "x", "image": "i1"}, {"name": "y", "image": "i2"}]}}
SELECTOR = {"matchLabels": {"b": "2", "a": "1"}}


@pytest.mark.parametrize(
    ("resource", "obj", "want"),
    [
        (gvk.NAMESPACES, {"status": {"phase": "Active"}}, ["a", "Active", "65s"]),
        (gvk.SECRETS, {"type": "Opaque", "data": {"a": "", "b": ""}}, ["a", "Opaque", 2, "65s"]),
        (gvk.SERVICEACCOUNTS, {}, ["a", "65s"]),
        (gvk.LEASES, {"spec": {"holderIdentity": "n"}}, ["a", "n", "65s"]),
        (gvk.NODES, {"metadata": meta(labels={"node-role.kubernetes.io/edge": "", "kubernetes.io/role": "agent"}), "spec": {"unschedulable": True},
                     "status": {"conditions": [READY], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1"}}},
         ["a", "Ready,SchedulingDisabled", "agent,edge", "65s", "v1", "10.0.0.1", "<none>", "<unknown>", "<unknown>", "<unknown>"]),
        (gvk.SERVICES, {"spec": {"type": "NodePort", "clusterIP": "10.1.1.1", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}},
         ["a", "NodePort", "10.1.1.1", "<none>", "80:30080/TCP,53/UDP", "65s", "a=b"]),
        (gvk.SERVICES, {"spec": {"type": "LoadBalancer", "clusterIP": "10.1.1.1"}}, ["a", "LoadBalancer", "10.1.1.1", "<pending>", "<none>", "65s", "<none>"]),
        (gvk.SERVICES, {"spec": {"type": "ExternalName", "externalName": "x.io"}}, ["a", "ExternalName", "<none>", "x.io", "<none>", "65s", "<none>"]),
        (gvk.DEPLOYMENTS, {"spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR}, "status": {"readyReplicas": 1, "updatedReplicas": 2}},
         ["a", "1/3", "2", "0", "65s", "x,y", "i1,i2", "a=1,b=2"]),
        (gvk.REPLICASETS, {"spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR}, "status": {"replicas": 3}}, ["a", 3, 3, 0, "65s", "x,y", "i1,i2", "a=1,b=2"]),
        (gvk.DAEMONSETS, {"spec": {"template": TEMPLATE, "selector": SELECTOR}, "status": {"desiredNumberScheduled": 2, "numberReady": 1}}, ["a", 2, 0, 1, 0, 0, "<none>", "65s", "x,y", "i1,i2", "a=1,b=2"]),
        (gvk.CONTROLLERREVISIONS, {"metadata": meta(ownerReferences=[{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": True}]), "revision": 2}, ["a", "daemonset.apps/d", "2", "65s"]),
        (gvk.ROLES, {}, ["a", rfc3339(NOW - 65)]),
        (gvk.CLUSTERROLEBINDINGS, {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]},
         ["a", "ClusterRole/r", "65s", "u", "", "n/s"]),
        (gvk.ENDPOINTSLICES, {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(5)]},
         ["a", "IPv4", "80", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...", "65s"]),
        (gvk.ENDPOINTSLICES, {"addressType": "IPv4", "ports": []}, ["a", "IPv4", "<unset>", "<unset>", "65s"]),
        (gvk.PERSISTENTVOLUMES, {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "claimRef": {"namespace": "n", "name": "c"}}, "status": {"phase": "Bound"}},
         ["a", "1Gi", "RWO,RWX", "", "Bound", "n/c", "", "<unset>", "", "65s", "<unset>"]),
        (gvk.EVENTS, {"involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Started", "message": "ok\n", "count": 4, "source": {"component": "kubelet", "host": "n"},
                      "firstTimestamp": rfc3339(NOW - 600), "lastTimestamp": rfc3339(NOW - 30)},
         ["30s", "Normal", "Started", "pod/p", "", "kubelet, n", "ok", "10m", 4, "a"]),
        (gvk.EVENTS, {"regarding": {"kind": "Pod", "name": "p"}, "note": "ok", "eventTime": "2027-01-15T07:59:00.000000Z", "reportingController": "sched"},
         ["60s", "", "", "pod/p", "", "sched", "ok", "60s", 1, "a"]),
    ],
)  # fmt: skip
def test_cells(resource: Resource, obj: dict[str, Any], want: list[Any]) -> None:
    assert cells(resource, obj) == want


def test_custom_resources() -> None:
    given = [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Count", "type": "integer", "jsonPath": ".spec.count", "priority": 1},
        {"name": "Since", "type": "date", "jsonPath": ".spec.since", "description": "since when"},
        {"name": "Names", "type": "string", "jsonPath": ".spec.items[*].name"},
    ]
    obj = {
        "metadata": meta(), "status": {"conditions": [{"type": "X", "status": "x"}, {"type": "Ready", "status": "True"}]},
        "spec": {"count": 3, "since": "yesterday", "items": [{"name": "a"}, {"name": "b"}]},
    }  # fmt: skip
    table = to_table(gvk.DEVICES, [obj, {"metadata": meta()}], now_s=NOW, crd_columns=given)
    assert [row["cells"] for row in table["rows"]] == [
        ["a", "True", 3, "<invalid>", "a b"],
        ["a", None, None, None, None],
    ]
    assert table["columnDefinitions"][2]["priority"] == 1
    assert table["columnDefinitions"][1]["description"].startswith(
        "Custom resource definition column (in JSONPath format): .status"
    )
    plain = to_table(gvk.DEVICES, [obj], now_s=NOW, crd_columns=[])
    assert [column["name"] for column in plain["columnDefinitions"]] == ["Name", "Age"]
    assert plain["rows"][0]["cells"] == ["a", "65s"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]), ("{.a.b}", [1]), ("$.a.b", [1]), (".l[0].n", ["x"]), (".l[-1].n", ["y"]), (".l[*].n", ["x", "y"]),
        (".m.x\\.io/y", ["z"]), (".m['x.io/y']", ["z"]), (".l[?(@.n=='y')].v", [2]), (".l[?(@.n!='y')].v", [1]), (".no.way", []),
    ],
)  # fmt: skip
def test_paths(path: str, found: list[Any]) -> None:
    obj = {"a": {"b": 1}, "l": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "m": {"x.io/y": "z"}}
    assert find_values(parse_path(path), obj) == found


def test_a_path_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="no path"):
        parse_path(".a[")
