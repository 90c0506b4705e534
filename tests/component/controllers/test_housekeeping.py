"""Events, pod garbage collection, and owners that cannot be judged."""

from __future__ import annotations

from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import CONFIGMAPS, EVENTS, PODS, SECRETS, Object
from skerry.base.aio.supervise import Supervisor
from skerry.controllers.objects import condition_of
from skerry.controllers.pod_gc import PodGarbageCollector
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet
from skerry.testing.clock import VirtualClock


def owned(name: str, *owners: dict[str, Any]) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": list(owners)}}


def owner(kind: str, name: str, uid: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid}


async def test_equal_events_are_counted(cluster: Cluster) -> None:
    about = await cluster.api.create(
        CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}}, namespace="default"
    )
    recorder = EventRecorder(cluster.api, "tester")
    for _ in range(3):
        recorder.normal(about, "Happened", "it did")
        await recorder.flush()
    recorder.warning(about, "Happened", "something else")
    await recorder.flush()
    await recorder.aclose()
    found = (await cluster.api.list(EVENTS, namespace="default")).items
    counts = {event["message"]: event["count"] for event in found if event["reason"] == "Happened"}
    assert counts == {"it did": 3, "something else": 1}


async def test_an_event_for_a_namespace_that_is_not_there_harms_nobody(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.api, "tester")
    recorder.normal({"kind": "Pod", "metadata": {"name": "p", "namespace": "nowhere"}}, "Happened", "x")
    await recorder.flush()
    assert recorder.dropped_count == 1
    await recorder.aclose()
    recorder.normal({"kind": "Pod", "metadata": {"name": "p"}}, "Happened", "after the end")


async def test_a_dependent_goes_when_its_owner_is_absent_but_not_when_the_kind_is_unknown(cluster: Cluster) -> None:
    await cluster.api.create(CONFIGMAPS, owned("stays", owner("Gizmo", "g", "1", "x.io/v1")), namespace="default")
    await cluster.api.create(CONFIGMAPS, owned("goes", owner("Secret", "ghost", "2")), namespace="default")
    await cluster.until(lambda: cluster.informers.of(CONFIGMAPS).get("goes", "default") is None)
    assert (await cluster.api.get(CONFIGMAPS, "stays", namespace="default"))["metadata"]["name"] == "stays"


async def test_one_living_owner_is_enough(cluster: Cluster) -> None:
    secret = await cluster.api.create(SECRETS, {"metadata": {"name": "s", "namespace": "default"}}, namespace="default")
    both = owned("c", owner("Secret", "s", secret["metadata"]["uid"]), owner("Secret", "ghost", "2"))
    await cluster.api.create(CONFIGMAPS, both, namespace="default")

    def owners() -> list[str]:
        found = cluster.informers.of(CONFIGMAPS).get("c", "default") or {"metadata": {}}
        return [item["name"] for item in found["metadata"].get("ownerReferences") or ()]

    await cluster.until(lambda: owners() == ["s"])
    await cluster.api.delete(SECRETS, "s", namespace="default")
    await cluster.until(lambda: cluster.informers.of(CONFIGMAPS).get("c", "default") is None)


async def test_pods_of_a_vanished_node_are_removed_after_quarantine(cluster: Cluster) -> None:
    cluster.kubelet.offline.add("gone")
    spec = {"nodeName": "gone", "containers": [{"name": "c", "image": "i"}]}
    pod = {"metadata": {"name": "p", "namespace": "default", "labels": {"app": "web"}}, "spec": spec}
    await cluster.api.create(PODS, pod, namespace="default")
    await cluster.until(lambda: len(cluster.pods(ready=False)) == 1)
    clock = VirtualClock()
    async with Supervisor("t") as tasks:
        informers = InformerSet(cluster.api)
        tasks.keep("gc", PodGarbageCollector(cluster.api, informers=informers, clock=clock).run)
        tasks.keep("informers", informers.run)
        await clock.wait_sleepers(1)
        await clock.advance(20)
        await clock.wait_sleepers(1)
        assert len((await cluster.api.list(PODS, namespace="default")).items) == 1
        await clock.advance(20)
        await clock.wait_sleepers(1)
        assert (await cluster.api.list(PODS, namespace="default")).items == []


async def test_a_pod_of_a_vanished_node_says_that_it_was_not_its_fault(cluster: Cluster) -> None:
    cluster.kubelet.offline.add("gone")
    spec = {"nodeName": "gone", "containers": [{"name": "c", "image": "i"}]}
    meta = {"name": "held", "namespace": "default", "finalizers": ["tests.dev/hold"]}
    await cluster.api.create(PODS, {"metadata": meta, "spec": spec}, namespace="default")
    clock = VirtualClock()
    async with Supervisor("t") as tasks:
        informers = InformerSet(cluster.api)
        tasks.keep("gc", PodGarbageCollector(cluster.api, informers=informers, clock=clock).run)
        tasks.keep("informers", informers.run)
        for _ in range(3):
            await clock.wait_sleepers(1)
            await clock.advance(20)
        await clock.wait_sleepers(1)
    pod = await cluster.api.get(PODS, "held", namespace="default")
    assert pod["status"]["phase"] == "Failed" and pod["metadata"]["deletionTimestamp"]
    assert (condition_of(pod, "DisruptionTarget") or {})["reason"] == "DeletionByPodGC"
