"""ReplicationControllers, owners in a circle, and roles that are made of others."""

from __future__ import annotations

from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import CLUSTERROLES, PODS, REPLICATIONCONTROLLERS

TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}


async def test_a_replication_controller_keeps_its_number(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    body = {"metadata": {"name": "web"}, "spec": {"replicas": 2, "template": TEMPLATE}}
    await cluster.api.create(REPLICATIONCONTROLLERS, body, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 2)
    assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in cluster.pods()} == {"ReplicationController"}
    await cluster.api.patch(REPLICATIONCONTROLLERS, "web", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1)

    def status() -> dict[str, Any]:
        found = cluster.informers.of(REPLICATIONCONTROLLERS).get("web", "default") or {}
        told: dict[str, Any] = found.get("status") or {}
        return told

    await cluster.until(lambda: (status().get("replicas"), status().get("readyReplicas")) == (1, 1))
    name = cluster.pods()[0]["metadata"]["name"]
    await cluster.api.patch(PODS, name, {"metadata": {"labels": {"app": "other"}}}, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1 and cluster.pods()[0]["metadata"]["name"] != name)
    released = await cluster.api.get(PODS, name, namespace="default")
    assert not released["metadata"].get("ownerReferences")


async def test_pods_that_own_each_other_in_a_circle_are_collected(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    uids = {}
    for name in ("a", "b", "c"):
        body = {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": TEMPLATE["spec"]}
        uids[name] = (await cluster.api.create(PODS, body, namespace="default"))["metadata"]["uid"]
    for name, owner in (("a", "c"), ("b", "a"), ("c", "b")):
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": uids[owner], "controller": True,
                     "blockOwnerDeletion": True}  # fmt: skip
        await cluster.api.patch(PODS, name, {"metadata": {"ownerReferences": [reference]}}, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 3)
    await cluster.api.delete(PODS, "a", namespace="default", propagation="Foreground")
    await cluster.until(lambda: not cluster.informers.of(PODS).items())


async def test_aggregates_follow_their_parts(cluster: Cluster) -> None:
    rule = {"verbs": ["get"], "apiGroups": ["devices.kubeedge.io"], "resources": ["devices"]}
    part = {
        "metadata": {"name": "devices", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [rule],
    }
    await cluster.api.create(CLUSTERROLES, part)

    def rules(name: str) -> list[Any]:
        return list((cluster.informers.of(CLUSTERROLES).get(name) or {}).get("rules") or [])

    await cluster.until(lambda: all(rule in rules(name) for name in ("view", "edit", "admin")))
    await cluster.api.delete(CLUSTERROLES, "devices")
    await cluster.until(lambda: not any(rule in rules(name) for name in ("view", "edit", "admin")))
