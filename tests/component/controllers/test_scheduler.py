"""Preemption, volumes and priorities against a real API server on disk."""

from __future__ import annotations

from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import (
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    STORAGECLASSES,
    Object,
)
from skerry.controllers.objects import condition_of

PRIORITIES = "scheduling.k8s.io/v1"


def pod(name: str, *, cpu: str = "100m", **spec: Any) -> Object:
    container = {"name": "c", "image": "v1", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [container], **spec},
    }


def bound(cluster: Cluster, name: str) -> str:
    found = cluster.informers.of(PODS).get(name, "default")
    return str((found or {"spec": {}})["spec"].get("nodeName") or "")


async def add_priority(cluster: Cluster, name: str, value: int) -> None:
    await cluster.api.create(PRIORITYCLASSES, {
        "apiVersion": PRIORITIES, "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
    })  # fmt: skip


async def test_an_important_pod_pushes_an_unimportant_one_out(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await add_priority(cluster, "high", 1000)
    await cluster.api.create(PODS, pod("low", cpu="3"), namespace="default")
    await cluster.until(lambda: bound(cluster, "low") == "n1")
    await cluster.api.create(PODS, pod("high", cpu="3", priorityClassName="high"), namespace="default")
    await cluster.until(lambda: bound(cluster, "high") == "n1")
    assert cluster.informers.of(PODS).get("low", "default") is None
    await cluster.until(lambda: bool(cluster.events_of("Preempted")))


async def test_an_important_pod_that_waits_is_not_overtaken(cluster: Cluster) -> None:
    await add_priority(cluster, "high", 1000)
    for number in range(3):
        await cluster.api.create(PODS, pod(f"low{number}", cpu="3"), namespace="default")
    await cluster.api.create(PODS, pod("high", cpu="3", priorityClassName="high"), namespace="default")
    await cluster.until(lambda: len(cluster.events_of("FailedScheduling")) >= 1)
    await cluster.add_node("n1")
    await cluster.until(lambda: bound(cluster, "high") == "n1")


async def test_a_gated_pod_waits_for_its_gates(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(PODS, pod("gated", schedulingGates=[{"name": "x.dev/y"}]), namespace="default")

    def reason() -> str:
        found = cluster.informers.of(PODS).get("gated", "default")
        return str((condition_of(found, "PodScheduled") or {}).get("reason")) if found else ""

    await cluster.until(lambda: reason() == "SchedulingGated")
    await cluster.api.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, namespace="default")
    await cluster.until(lambda: bound(cluster, "gated") == "n1")


def claim(name: str = "data", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec},
    }


def phase(cluster: Cluster, name: str = "data") -> str:
    found = cluster.informers.of(PERSISTENTVOLUMECLAIMS).get(name, "default")
    return str(((found or {}).get("status") or {}).get("phase"))


USING = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}


async def test_a_claim_waits_for_its_pod_and_then_keeps_it_on_one_node(cluster: Cluster) -> None:
    await cluster.until(lambda: cluster.informers.of(STORAGECLASSES).get("node-local") is not None)
    await cluster.api.create(PERSISTENTVOLUMECLAIMS, claim(), namespace="default")
    await cluster.until(lambda: bool(cluster.events_of("WaitForFirstConsumer")))
    await cluster.add_node("n1")
    await cluster.api.create(PODS, pod("first", **USING), namespace="default")
    await cluster.until(lambda: bound(cluster, "first") == "n1" and phase(cluster) == "Bound")
    (volume,) = cluster.informers.of(PERSISTENTVOLUMES).items()
    assert volume["spec"]["hostPath"]["path"] == f"/var/lib/skerry/volumes/{volume['metadata']['name']}"
    await cluster.add_node("n2")
    await cluster.api.patch(NODES, "n1", {"spec": {"unschedulable": True}})
    await cluster.api.create(PODS, pod("second", **USING), namespace="default")
    await cluster.until(lambda: any("node affinity" in text for text in cluster.events_of("FailedScheduling")))
    await cluster.api.patch(NODES, "n1", {"spec": {"unschedulable": None}})
    await cluster.until(lambda: bound(cluster, "second") == "n1")


async def test_a_claim_in_use_is_deleted_only_after_its_pod(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.until(lambda: cluster.informers.of(STORAGECLASSES).get("node-local") is not None)
    await cluster.api.create(PERSISTENTVOLUMECLAIMS, claim(), namespace="default")
    await cluster.api.create(PODS, pod("user", **USING), namespace="default")
    await cluster.until(lambda: bound(cluster, "user") == "n1" and len(cluster.pods()) == 1)
    claims = cluster.informers.of(PERSISTENTVOLUMECLAIMS)
    await cluster.until(lambda: bool((claims.get("data", "default") or {"metadata": {}})["metadata"].get("finalizers")))
    await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", namespace="default")
    live = await cluster.api.get(PERSISTENTVOLUMECLAIMS, "data", namespace="default")
    assert live["metadata"]["deletionTimestamp"]
    await cluster.api.delete(PODS, "user", namespace="default")
    await cluster.until(lambda: claims.get("data", "default") is None)
    (volume,) = cluster.informers.of(PERSISTENTVOLUMES).items()
    await cluster.until(lambda: (cluster.informers.of(PERSISTENTVOLUMES).items()[0]["status"]["phase"]) == "Released")
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def test_volumes_made_by_hand_are_bound_smallest_first(cluster: Cluster) -> None:
    for name, size in (("big", "9Gi"), ("small", "2Gi")):
        volume: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                "storageClassName": "hand",
            },
        }  # fmt: skip
        await cluster.api.create(PERSISTENTVOLUMES, volume)
    volumes = cluster.informers.of(PERSISTENTVOLUMES)
    await cluster.until(lambda: sorted(v["status"].get("phase") for v in volumes.items()) == ["Available"] * 2)
    await cluster.api.create(PERSISTENTVOLUMECLAIMS, claim(storageClassName="hand"), namespace="default")
    await cluster.until(lambda: phase(cluster) == "Bound")
    found = cluster.informers.of(PERSISTENTVOLUMECLAIMS).get("data", "default")
    assert found is not None and found["spec"]["volumeName"] == "small"
    assert found["status"]["capacity"] == {"storage": "2Gi"}


async def test_an_ephemeral_volume_lives_as_long_as_its_pod(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.until(lambda: cluster.informers.of(STORAGECLASSES).get("node-local") is not None)
    template = {"spec": claim()["spec"]}
    volumes = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]
    await cluster.api.create(PODS, pod("scratch", volumes=volumes), namespace="default")
    await cluster.until(lambda: bound(cluster, "scratch") == "n1" and phase(cluster, "scratch-v") == "Bound")
    await cluster.api.delete(PODS, "scratch", namespace="default")
    await cluster.until(lambda: not cluster.informers.of(PERSISTENTVOLUMECLAIMS).items())
