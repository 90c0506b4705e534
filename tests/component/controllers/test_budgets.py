"""Disruption budgets, evictions and ReplicationControllers against a real API server on disk."""

from __future__ import annotations

import pytest
from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import PDBS, PODS, REPLICATIONCONTROLLERS, Object
from skerry.api.status import TooManyRequests

EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction"}


def replication(replicas: int = 3) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"app": "web"},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    }


async def test_a_replication_controller_keeps_its_number(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(REPLICATIONCONTROLLERS, replication(), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 3)
    await cluster.api.patch(REPLICATIONCONTROLLERS, "web", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1)
    (left,) = cluster.pods()
    name = left["metadata"]["name"]
    await cluster.api.patch(PODS, name, {"metadata": {"labels": {"app": "other"}}}, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1 and cluster.pods()[0]["metadata"]["name"] != name)
    released = await cluster.api.get(PODS, name, namespace="default")
    assert not released["metadata"].get("ownerReferences")


async def test_an_eviction_waits_for_the_budget(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(REPLICATIONCONTROLLERS, replication(), namespace="default")
    budget = {"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}
    await cluster.api.create(PDBS, budget, namespace="default")
    budgets = cluster.informers.of(PDBS)

    def allowed() -> int:
        return int(((budgets.get("b", "default") or {}).get("status") or {}).get("disruptionsAllowed") or 0)

    await cluster.until(lambda: len(cluster.pods()) == 3 and allowed() == 1)
    cluster.kubelet.offline.add("n1")
    first, second = (pod["metadata"]["name"] for pod in cluster.pods()[:2])
    body = {**EVICTION, "metadata": {"name": first}}
    await cluster.api.create(PODS, body, namespace="default", name=first, subresource="eviction")
    with pytest.raises(TooManyRequests):
        body = {**EVICTION, "metadata": {"name": second}}
        await cluster.api.create(PODS, body, namespace="default", name=second, subresource="eviction")
