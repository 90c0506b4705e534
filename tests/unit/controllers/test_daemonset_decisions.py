"""Where daemon pods run, the edge rule, and the rolling update."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import DAEMONSETS, Object
from skerry.api.meta import rfc3339
from skerry.controllers.daemonsets import (
    daemon_pod,
    daemonset_status,
    is_eligible,
    keeps_off_edges,
    node_of,
    plan,
)
from skerry.controllers.revisions import REVISION_LABEL, revision_object

NOW_S = 1_750_000_000.0
EVERYTHING = [{"operator": "Exists"}]
EDGE = {"node-role.kubernetes.io/edge": ""}


def daemon_set(*, annotations: dict[str, str] | None = None, update: Any = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "ds", "namespace": "d", "uid": "S", "generation": 2, "annotations": annotations or {}},
        "spec": {
            "template": {"metadata": {"labels": {"app": "ds"}}, "spec": {"containers": [{"name": "c"}], **spec}},
            "updateStrategy": update or {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        },
    }


def node(name: str, labels: dict[str, str] | None = None, *taints: dict[str, str], **spec: Any) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": list(taints), **spec}}


def pod(at: str, *, revision: str = "new", ready: bool = True, phase: str = "Running", **meta: Any) -> Object:
    found = daemon_pod(daemon_set(), at, revision)
    since = rfc3339(NOW_S - 60)
    found["metadata"] |= {"name": f"on-{at}", "uid": f"on-{at}", "creationTimestamp": since, **meta}
    found["spec"]["nodeName"] = at
    found["status"] = {"phase": phase}
    if ready:
        found["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    return found


def decide(ds: Object, nodes: list[Object], pods: list[Object]) -> tuple[list[str], list[str]]:
    decided = plan(ds, nodes, pods, revision="new", now_s=NOW_S)
    return decided.create, [p["metadata"]["name"] for p in decided.delete]


def test_one_pod_per_node() -> None:
    nodes = [node("a"), node("b"), node("c")]
    assert decide(daemon_set(), nodes, [pod("b")]) == (["a", "c"], [])


def test_a_pod_on_its_way_out_is_waited_for() -> None:
    assert decide(daemon_set(), [node("a")], [pod("a", deletionTimestamp=rfc3339(NOW_S))]) == ([], [])


def test_the_pod_is_bound_by_name_and_keeps_the_templates_terms() -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x"]}]}
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]}}
    made = daemon_pod(daemon_set(affinity={"nodeAffinity": terms}), "n1", "r1")
    (term,) = made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == zone["matchExpressions"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
    assert node_of(made) == "n1"
    assert made["metadata"]["labels"] == {"app": "ds", REVISION_LABEL: "r1"}
    assert {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"} in (
        made["spec"]["tolerations"]
    )


@pytest.mark.parametrize(
    ("taint", "expected"),
    [
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, (True, True)),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, (True, True)),
        ({"key": "gpu", "effect": "NoSchedule"}, (False, True)),
        ({"key": "gpu", "effect": "NoExecute"}, (False, False)),
    ],
)
def test_taints(taint: dict[str, str], expected: tuple[bool, bool]) -> None:
    assert is_eligible(daemon_set(), node("a", {}, taint)) == expected


def test_node_selector() -> None:
    ds = daemon_set(nodeSelector={"disk": "ssd"})
    assert decide(ds, [node("a", {"disk": "ssd"}), node("b")], [pod("b")]) == (["a"], ["on-b"])


@pytest.mark.parametrize(
    "tolerations",
    [
        EVERYTHING,
        [{"operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists", "effect": "NoExecute"}],
        [{"key": "CriticalAddonsOnly", "operator": "Exists"}, {"operator": "Exists"}],
    ],
)
def test_tolerating_everything_keeps_off_edges(tolerations: list[dict[str, str]]) -> None:
    ds = daemon_set(tolerations=tolerations)
    assert keeps_off_edges(ds)
    assert decide(ds, [node("edge", EDGE), node("central")], []) == (["central"], [])


@pytest.mark.parametrize(
    "opted_in",
    [
        daemon_set(tolerations=EVERYTHING, annotations={"skerry.dev/edge": "true"}),
        daemon_set(tolerations=EVERYTHING, nodeSelector=EDGE),
        daemon_set(tolerations=[*EVERYTHING, {"key": "node-role.kubernetes.io/edge", "operator": "Exists"}]),
        daemon_set(
            tolerations=EVERYTHING,
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "node-role.kubernetes.io/edge", "operator": "Exists"}]}
                        ]
                    }
                }
            },
        ),
        daemon_set(),
        daemon_set(tolerations=[{"operator": "Exists", "effect": "NoSchedule"}]),
        daemon_set(tolerations=[{"key": "x", "operator": "Exists"}]),
    ],
)
def test_others_run_on_edges(opted_in: Object) -> None:
    assert not keeps_off_edges(opted_in)
    assert decide(opted_in, [node("edge", EDGE)], []) == (["edge"], [])


def test_wanting_no_edges_is_not_an_opt_in() -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": next(iter(EDGE)), "operator": "DoesNotExist"}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert keeps_off_edges(daemon_set(tolerations=EVERYTHING, affinity=affinity))


def test_doubles_and_failed_pods_go() -> None:
    double = pod("a", name="second", creationTimestamp=rfc3339(NOW_S))
    assert decide(daemon_set(), [node("a")], [pod("a"), double]) == ([], ["second"])
    assert decide(daemon_set(), [node("a")], [pod("a", phase="Failed", ready=False)]) == ([], ["on-a"])
    fresh = pod("a", phase="Failed", ready=False, creationTimestamp=rfc3339(NOW_S - 1))
    decided = plan(daemon_set(), [node("a")], [fresh], revision="new", now_s=NOW_S)
    assert decided.delete == [] and decided.again_s == 4


def test_pods_of_vanished_nodes_are_left_to_pod_gc_unless_unbound() -> None:
    unbound = pod("gone2", name="unbound")
    del unbound["spec"]["nodeName"]
    assert decide(daemon_set(), [], [pod("gone"), unbound]) == ([], ["unbound"])


def test_rolling_update_one_at_a_time_and_broken_ones_at_once() -> None:
    nodes = [node(name) for name in "abcd"]
    old = [pod(name, revision="old") for name in "abcd"]
    assert decide(daemon_set(), nodes, old) == ([], ["on-a"])
    broken = [pod("a", revision="old", ready=False), *old[1:]]
    assert decide(daemon_set(), nodes, broken) == ([], ["on-a"])
    two = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}
    assert decide(daemon_set(update=two), nodes, old) == ([], ["on-a", "on-b"])
    assert decide(daemon_set(update={"type": "OnDelete"}), nodes, old) == ([], [])
    waiting = [pod("a", ready=False), *old[1:]]
    assert decide(daemon_set(), nodes, waiting) == ([], [])


def test_status() -> None:
    nodes = [node("a"), node("b"), node("c"), node("edge", {}, {"key": "gpu", "effect": "NoSchedule"})]
    pods = [pod("a"), pod("b", revision="old", ready=False), pod("edge")]
    assert daemonset_status(daemon_set(), nodes, pods, revision="new", now_s=NOW_S) == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 1,
        "observedGeneration": 2,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "numberUnavailable": 2,
    }


def test_the_revision_replaces_the_template_when_kubectl_goes_back() -> None:
    made = revision_object(daemon_set(), DAEMONSETS, number=3, label=REVISION_LABEL)
    assert made["revision"] == 3
    assert made["data"]["spec"]["template"]["$patch"] == "replace"
    assert made["metadata"]["labels"][REVISION_LABEL] == made["metadata"]["name"][3:]


def test_with_surge_the_new_pod_comes_before_the_old_one_goes() -> None:
    surge = daemon_set(update={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    nodes = [node("a"), node("b")]
    old = [pod("a", revision="old"), pod("b", revision="old")]
    assert decide(surge, nodes, old) == (["a"], [])
    coming = pod("a", ready=False, name="new-a", uid="new-a")
    assert decide(surge, nodes, [*old, coming]) == ([], [])
    assert decide(surge, nodes, [*old, pod("a", name="new-a", uid="new-a")]) == (["b"], ["on-a"])
    broken = [pod("a", revision="old", ready=False), pod("b", revision="old", ready=False)]
    assert decide(surge, nodes, broken) == (["a", "b"], [])
