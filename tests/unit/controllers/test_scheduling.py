"""Which node a pod goes to, and the words when it goes nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.podrequests import amount, ports_clash, requests_of
from skerry.api.tolerations import tolerates
from skerry.controllers.scheduler.plan import choose
from skerry.controllers.scheduler.views import NodeView, view


def node(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
    }


def pod(
    name: str = "p", *, cpu: str = "", owner: str = "", labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    container: dict[str, Any] = {"name": "c"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    owners = [{"uid": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": labels or {}, "ownerReferences": owners},
        "spec": {"containers": [container], **spec},
    }


def on(what: Object, *pods: Object) -> NodeView:
    return view(what, pods)


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "j", "operator": "Exists"}, False),
        ({}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], covers: bool) -> None:
    assert tolerates(toleration, TAINT) is covers


@pytest.mark.parametrize(
    ("resource", "text", "expected"),
    [
        ("cpu", "250m", 250),
        ("cpu", "2", 2000),
        ("cpu", 0.5, 500),
        ("cpu", "100u", 1),
        ("memory", "1Gi", 2**30),
        ("memory", "1500M", 1_500_000_000),
        ("memory", "1e3", 1000),
        ("pods", "110", 110),
        ("memory", "lots", 0),
    ],
)
def test_amounts(resource: str, text: str, expected: int) -> None:
    assert amount(resource, text) == expected


def test_requests_take_the_larger_of_init_and_main_and_add_sidecars() -> None:
    def container(cpu: str, **more: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    assert requests_of({"containers": [container("1"), container("500m")]}) == {"cpu": 1500}
    spec = {"containers": [container("1")], "initContainers": [container("3")]}
    assert requests_of(spec) == {"cpu": 3000}
    spec = {
        "containers": [container("1")],
        "initContainers": [container("200m", restartPolicy="Always"), container("900m")],
        "overhead": {"cpu": "50m"},
    }
    assert requests_of(spec) == {"cpu": 1250}


def test_host_ports_clash_across_the_any_address() -> None:
    any_tcp = ("0.0.0.0", "TCP", 80)
    assert ports_clash([any_tcp], [("10.0.0.1", "TCP", 80)])
    assert not ports_clash([("10.0.0.2", "TCP", 80)], [("10.0.0.1", "TCP", 80)])
    assert not ports_clash([any_tcp], [("0.0.0.0", "UDP", 80)])


def test_no_nodes() -> None:
    assert choose(pod(), []).message == "no nodes available to schedule pods"


def test_every_reason_is_counted_in_upstreams_words() -> None:
    busy = {"containers": [{"ports": [{"hostPort": 80}]}]}
    views = [
        on(node("tainted", taints=[TAINT])),
        on(node("cordoned", unschedulable=True)),
        on(node("small"), pod("x", cpu="1900m")),
        on(node("full"), pod("1"), pod("2"), pod("3")),
        on(node("taken"), {**pod("y"), "spec": busy}),
        on(node("wrong", labels={"zone": "b"})),
    ]
    wanting = pod(cpu="500m", nodeSelector={"zone": "a"})
    wanting["spec"]["containers"][0]["ports"] = [{"hostPort": 80}]
    for found in views[:5]:
        found.node["metadata"]["labels"]["zone"] = "a"
    assert choose(wanting, views).message == (
        "0/6 nodes are available: 1 Insufficient cpu, 1 Too many pods, "
        "1 node(s) didn't have free ports for the requested pod ports, "
        "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {k: v}, "
        "1 node(s) were unschedulable."
    )


def test_finished_pods_take_nothing() -> None:
    done = pod("x", cpu="2") | {"status": {"phase": "Succeeded"}}
    assert choose(pod(cpu="2"), [on(node("n"), done)]).node == "n"


def test_a_cordoned_node_takes_pods_that_tolerate_it() -> None:
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert choose(pod(tolerations=[toleration]), [on(node("n", unschedulable=True))]).node == "n"


def test_the_emptier_node_wins() -> None:
    assert choose(pod(cpu="100m"), [on(node("a"), pod("x", cpu="1")), on(node("b"))]).node == "b"


def test_pods_of_one_owner_spread() -> None:
    views = [on(node("a"), pod("x", owner="R")), on(node("b"), pod("y", cpu="500m", owner="S"))]
    assert choose(pod(owner="R"), views).node == "b"


def test_prefer_no_schedule_is_a_last_resort() -> None:
    soft = node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    assert choose(pod(), [on(soft), on(node("b"), pod("x", cpu="1900m"))]).node == "b"
    assert choose(pod(), [on(soft)]).node == "a"


def affinity(kind: str, value: Any) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {f"{kind}DuringSchedulingIgnoredDuringExecution": value}}}


def test_node_affinity_by_field_expression_and_weight() -> None:
    views = [on(node(name, labels={"disk": disk, "size": size})) for name, disk, size in
             (("a", "ssd", "4"), ("b", "hdd", "9"), ("c", "ssd", "1"))]  # fmt: skip
    by_name = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}]}
    assert choose(pod(**affinity("required", by_name)), views).node == "c"
    bigger = {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["5"]}]}
    assert choose(pod(**affinity("required", {"nodeSelectorTerms": [{}, bigger]})), views).node == "b"
    likes = [{"weight": 80, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}}]
    assert choose(pod(**affinity("preferred", likes)), views).node == "b"
    nothing = {"nodeSelectorTerms": [{}]}
    assert choose(pod(**affinity("required", nothing)), views).node == ""


def anti(labels: dict[str, str], kind: str = "podAntiAffinity", key: str = "kubernetes.io/hostname") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": key}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_pod_anti_affinity_in_both_directions() -> None:
    a, b = node("a"), node("b")
    web = pod("x", labels={"app": "web"})
    assert choose(pod(**anti({"app": "web"})), [on(a, web), on(b, pod("y", cpu="1"))]).node == "b"
    hermit = pod("h", labels={"app": "h"}, **anti({"app": "web"}))
    message = choose(pod(labels={"app": "web"}), [on(a, hermit)]).message
    assert message == "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."


def test_pod_affinity_lets_the_first_one_in() -> None:
    wants_own_kind = pod(labels={"app": "web"}, **anti({"app": "web"}, "podAffinity"))
    assert choose(wants_own_kind, [on(node("a"))]).node == "a"
    views = [on(node("a"), pod("x", labels={"app": "web"})), on(node("b"))]
    assert choose(wants_own_kind, views).node == "a"
    assert choose(pod(**anti({"app": "db"}, "podAffinity")), views).node == ""
