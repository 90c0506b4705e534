"""Which pods a ReplicaSet claims, which it gives up first, and what its status says."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.ownership import claim
from skerry.controllers.replicasets import DELETION_COST, deletion_order, next_available_s, replicaset_status

NOW_S = 1_750_000_000.0


def rs(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "d", "uid": "R", "generation": 4},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "tier": "x"}}},
            **spec,
        },
    }


def pod(name: str, *, node: str = "n", phase: str = "Running", ready_s: float | None = None, **meta: Any) -> Object:
    conditions = []
    if ready_s is not None:
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(NOW_S - ready_s)}]
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}, **meta},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions},
    }


def owned(name: str, **options: Any) -> Object:
    return pod(name, ownerReferences=[{"uid": "R", "controller": True, "kind": "ReplicaSet", "name": "web"}], **options)


def names(pods: list[Object]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


def test_claim_sorts_owned_orphans_and_strangers() -> None:
    found = claim(
        rs(),
        [
            owned("mine"),
            owned("strayed") | {"metadata": owned("strayed")["metadata"] | {"labels": {"app": "other"}}},
            pod("orphan"),
            pod("dying-orphan", deletionTimestamp="2026-01-01T00:00:00Z"),
            pod("unrelated", labels={"app": "x"}),
            pod("foreign", ownerReferences=[{"uid": "Z", "controller": True}]),
        ],
    )
    assert (names(found.owned), names(found.adopt), names(found.release)) == (["mine"], ["orphan"], ["strayed"])


def test_a_set_being_deleted_adopts_and_releases_nothing() -> None:
    owner = rs()
    owner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    stray = owned("strayed")
    stray["metadata"]["labels"] = {}
    found = claim(owner, [stray, pod("orphan")])
    assert (names(found.owned), found.adopt, found.release) == (["strayed"], [], [])


def test_deletion_order() -> None:
    pods = [
        owned("ready-long", ready_s=900),
        owned("ready-short", ready_s=10),
        owned("cheap", ready_s=900, annotations={DELETION_COST: "-5"}),
        owned("not-ready"),
        owned("pending", phase="Pending"),
        owned("unassigned", node="", phase="Pending"),
    ]
    assert names(deletion_order(pods)) == ["unassigned", "pending", "not-ready", "cheap", "ready-short", "ready-long"]


def test_crowded_nodes_are_thinned_first_and_younger_pods_go_first() -> None:
    pods = [
        owned("alone", node="n1", ready_s=5),
        owned("old", node="n2", ready_s=5, creationTimestamp=rfc3339(NOW_S - 100)),
        owned("young", node="n2", ready_s=5, creationTimestamp=rfc3339(NOW_S - 10)),
    ]
    assert names(deletion_order(pods)) == ["young", "old", "alone"]


def test_related_pods_of_the_deployment_count_for_the_node_rank() -> None:
    pods = [owned("a", node="n1", ready_s=5), owned("b", node="n2", ready_s=5)]
    related = [*pods, owned("other", node="n2", ready_s=5)]
    assert names(deletion_order(pods, related=related)) == ["b", "a"]


def test_status_counts() -> None:
    full = owned("full", ready_s=20)
    full["metadata"]["labels"] = {"app": "web", "tier": "x"}
    pods = [full, owned("fresh", ready_s=3), owned("unready")]
    status = replicaset_status(rs(minReadySeconds=10), pods, terminating=2, now_s=NOW_S)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 2,
        "observedGeneration": 4,
    }


def test_status_of_nothing_keeps_the_required_members() -> None:
    found = replicaset_status(rs(), [], now_s=NOW_S)
    assert found == {"replicas": 0, "terminatingReplicas": 0, "observedGeneration": 4}
    older = replicaset_status({**rs(), "kind": "ReplicationController"}, [], now_s=NOW_S)
    assert older == {"replicas": 0, "observedGeneration": 4}


def test_a_failure_comes_stays_and_goes() -> None:
    owner = rs()
    owner["status"] = replicaset_status(owner, [], failure="quota", now_s=NOW_S)
    (condition,) = owner["status"]["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == ("ReplicaFailure", "FailedCreate", "quota")
    assert replicaset_status(owner, [], failure="quota", now_s=NOW_S + 9) == owner["status"]
    assert replicaset_status(owner, [], failure=None, now_s=NOW_S) == owner["status"]
    assert "conditions" not in replicaset_status(owner, [], failure="", now_s=NOW_S)


def test_next_available() -> None:
    pods = [owned("done", ready_s=50), owned("soon", ready_s=4), owned("never")]
    assert next_available_s(pods, 10, NOW_S) == 6
    assert next_available_s(pods, 0, NOW_S) is None
