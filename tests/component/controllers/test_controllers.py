"""Workloads from manifest to pods, on a real embedded API server."""

from __future__ import annotations

from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICEACCOUNTS,
    SERVICES,
    Object,
)
from skerry.controllers.endpoints import ENDPOINTS

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "v1"}]},
}


def deployment(replicas: int = 3, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec},
    }


def daemon_set(**spec: Any) -> Object:
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], **spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


def is_rolled_out(cluster: Cluster, count: int) -> bool:
    found = cluster.informers.of(DEPLOYMENTS).get("web", "default")
    status = (found or {}).get("status") or {}
    return bool(
        found
        and status.get("observedGeneration") == found["metadata"]["generation"]
        and all(status.get(name, 0) == count for name in ("replicas", "updatedReplicas", "availableReplicas"))
    )


async def test_roll_out_scale_and_roll_back(cluster: Cluster) -> None:
    for name in ("n1", "n2"):
        await cluster.add_node(name)
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    assert cluster.images() == ["v1"] * 3
    assert {pod["spec"]["nodeName"] for pod in cluster.pods()} == {"n1", "n2"}

    await cluster.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 5))

    await cluster.api.patch(DEPLOYMENTS, "web", image("v2"), patch_type="strategic", namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 5) and cluster.images() == ["v2"] * 5)

    sets = {rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: rs
            for rs in cluster.informers.of(REPLICASETS).items()}  # fmt: skip
    assert sorted(sets) == ["1", "2"]
    template = sets["1"]["spec"]["template"]
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != "pod-template-hash"}
    undo = [{"op": "replace", "path": "/spec/template", "value": {**template, "metadata": {"labels": labels}}}]
    await cluster.api.patch(DEPLOYMENTS, "web", undo, patch_type="json", namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 5) and cluster.images() == ["v1"] * 5)
    assert len(cluster.informers.of(REPLICASETS)) == 2
    found = await cluster.api.get(DEPLOYMENTS, "web", namespace="default")
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_a_broken_image_keeps_the_old_pods_serving(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(4), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 4))
    await cluster.api.patch(DEPLOYMENTS, "web", image("broken"), patch_type="strategic", namespace="default")
    await cluster.until(lambda: len(cluster.pods(ready=False)) == 5 and len(cluster.pods()) == 3)
    assert cluster.images() == ["v1"] * 3


async def test_recreate_never_mixes_templates(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    mixed: list[set[str]] = []

    def note(kind: str, old: Object | None, new: Object | None) -> None:
        found = {p["spec"]["containers"][0]["image"] for p in cluster.informers.of(PODS).items()}
        if len(found) > 1:
            mixed.append(found)

    cluster.informers.of(PODS).on_event(note)
    await cluster.api.create(DEPLOYMENTS, deployment(strategy={"type": "Recreate"}), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    await cluster.api.patch(DEPLOYMENTS, "web", image("v2"), patch_type="strategic", namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3) and cluster.images() == ["v2"] * 3)
    assert mixed == []


async def test_deleting_a_deployment_takes_everything_along(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    await cluster.api.delete(DEPLOYMENTS, "web", namespace="default")
    await cluster.until(
        lambda: not cluster.informers.of(REPLICASETS).items() and not cluster.informers.of(PODS).items()
    )


async def test_foreground_deletion_removes_the_owner_last(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    left: list[int] = []
    cluster.informers.of(DEPLOYMENTS).on_event(
        lambda kind, old, new: left.append(len(cluster.informers.of(REPLICASETS))) if kind == "DELETED" else None
    )
    await cluster.api.delete(DEPLOYMENTS, "web", namespace="default", propagation="Foreground")
    await cluster.until(lambda: bool(left))
    remaining = await cluster.api.list(REPLICASETS, namespace="default")
    assert remaining.items == []


async def test_orphaned_pods_stay_and_are_adopted_again(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    (rs,) = cluster.informers.of(REPLICASETS).items()
    uids = {pod["metadata"]["uid"] for pod in cluster.pods()}
    await cluster.api.delete(DEPLOYMENTS, "web", namespace="default", propagation="Orphan")
    await cluster.until(lambda: not cluster.informers.of(DEPLOYMENTS).items())
    live = await cluster.api.get(REPLICASETS, rs["metadata"]["name"], namespace="default")
    assert not live["metadata"].get("ownerReferences")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 3))
    assert {pod["metadata"]["uid"] for pod in cluster.pods()} == uids


async def test_an_unschedulable_pod_says_why_and_goes_when_it_can(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment(1), namespace="default")
    await cluster.until(lambda: "no nodes available to schedule pods" in cluster.events_of("FailedScheduling"))
    (pod,) = cluster.pods(ready=False)
    live = await cluster.api.get(PODS, pod["metadata"]["name"], namespace="default")
    conditions = {c["type"]: c for c in live.get("status", {}).get("conditions", [])}
    assert conditions["PodScheduled"]["reason"] == "Unschedulable"
    await cluster.add_node("n1")
    await cluster.until(lambda: is_rolled_out(cluster, 1))


async def test_a_plain_deployment_runs_on_a_tainted_edge_with_nothing_typed(cluster: Cluster) -> None:
    await cluster.add_node("edge", {"node-role.kubernetes.io/edge": ""})
    taints = [{"key": "node-role.kubernetes.io/edge", "effect": "NoSchedule"}]
    await cluster.api.patch(NODES, "edge", {"spec": {"taints": taints}})
    await cluster.api.create(DEPLOYMENTS, deployment(2), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 2))
    assert {pod["spec"]["nodeName"] for pod in cluster.pods()} == {"edge"}


async def test_a_daemon_set_that_wants_no_edges_is_not_told_about_them(cluster: Cluster) -> None:
    await cluster.add_node("central")
    await cluster.add_node("edge", {"node-role.kubernetes.io/edge": ""})
    terms = [{"matchExpressions": [{"key": "node-role.kubernetes.io/edge", "operator": "DoesNotExist"}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    more = {"tolerations": [{"operator": "Exists"}], "affinity": affinity}
    await cluster.api.create(DAEMONSETS, daemon_set(**more), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1)
    await cluster.events.flush()
    assert not cluster.events_of("EdgeNodesLeftOut")


async def test_daemon_pods_follow_nodes_and_templates_and_avoid_edges(cluster: Cluster) -> None:
    await cluster.add_node("central")
    await cluster.add_node("edge", {"node-role.kubernetes.io/edge": ""})
    everything = {"tolerations": [{"operator": "Exists"}]}
    await cluster.api.create(DAEMONSETS, daemon_set(**everything), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1 and bool(cluster.events_of("EdgeNodesLeftOut")))
    assert cluster.pods()[0]["spec"]["nodeName"] == "central"

    opt_in = {"metadata": {"annotations": {"skerry.dev/edge": "true"}}}
    await cluster.api.patch(DAEMONSETS, "agent", opt_in, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 2)
    await cluster.api.patch(DAEMONSETS, "agent", image("v2"), patch_type="strategic", namespace="default")
    await cluster.until(lambda: cluster.images() == ["v2", "v2"])

    def is_reported() -> bool:
        found = cluster.informers.of(DAEMONSETS).get("agent", "default") or {}
        status = found.get("status") or {}
        return bool(status.get("updatedNumberScheduled") == status.get("numberAvailable") == 2)

    await cluster.until(is_reported)


async def test_every_namespace_gets_its_basics_and_is_emptied_when_it_goes(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(NAMESPACES, {"metadata": {"name": "team"}})
    await cluster.until(lambda: cluster.informers.of(SERVICEACCOUNTS).get("default", "team") is not None)
    await cluster.until(lambda: cluster.informers.of(CONFIGMAPS).get("kube-root-ca.crt", "team") is not None)
    in_team = {**deployment(2), "metadata": {"name": "web", "namespace": "team"}}
    await cluster.api.create(DEPLOYMENTS, in_team, namespace="team")
    await cluster.until(lambda: len(cluster.pods()) == 2)
    await cluster.api.delete(NAMESPACES, "team")
    await cluster.until(lambda: cluster.informers.of(NAMESPACES).get("team") is None)
    for resource in (PODS, DEPLOYMENTS, REPLICASETS, CONFIGMAPS, SERVICEACCOUNTS):
        assert (await cluster.api.list(resource, namespace="team")).items == []


async def test_a_namespace_says_what_it_waits_for(cluster: Cluster) -> None:
    await cluster.api.create(NAMESPACES, {"metadata": {"name": "team"}})
    kept = {"metadata": {"name": "kept", "namespace": "team", "finalizers": ["example.com/hold"]}}
    await cluster.api.create(CONFIGMAPS, kept, namespace="team")
    await cluster.api.delete(NAMESPACES, "team")

    def says() -> str:
        found = cluster.informers.of(NAMESPACES).get("team") or {}
        conditions = {c["type"]: c["message"] for c in (found.get("status") or {}).get("conditions") or ()}
        return str(conditions.get("NamespaceFinalizersRemaining", ""))

    await cluster.until(lambda: says() == "example.com/hold in 1 resource instances")
    await cluster.api.patch(CONFIGMAPS, "kept", {"metadata": {"finalizers": None}}, namespace="team")
    await cluster.until(lambda: cluster.informers.of(NAMESPACES).get("team") is None)


async def test_services_have_endpoints(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    await cluster.api.create(SERVICES, service, namespace="default")
    await cluster.api.create(DEPLOYMENTS, deployment(2), namespace="default")

    def ready_count() -> int:
        slices = [s for s in cluster.informers.of(ENDPOINTSLICES).items() if s["metadata"]["name"].startswith("web-")]
        return sum(e["conditions"]["ready"] for s in slices for e in s.get("endpoints") or ())

    await cluster.until(lambda: ready_count() == 2)

    def older_count() -> int:
        found = cluster.informers.of(ENDPOINTS).get("web", "default") or {}
        return sum(len(subset.get("addresses") or ()) for subset in found.get("subsets") or ())

    await cluster.until(lambda: older_count() == 2)
    await cluster.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, namespace="default")
    await cluster.until(lambda: ready_count() == 0)


async def test_a_node_that_is_deleted_frees_the_pods_that_waited_for_it(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(1), namespace="default")
    await cluster.until(lambda: is_rolled_out(cluster, 1))
    await cluster.api.patch(NODES, "n1", {"spec": {"unschedulable": True}})
    await cluster.api.delete(PODS, cluster.pods()[0]["metadata"]["name"], namespace="default")
    await cluster.until(lambda: any("were unschedulable" in text for text in cluster.events_of("FailedScheduling")))
    await cluster.add_node("n2")
    await cluster.until(lambda: is_rolled_out(cluster, 1))
    assert cluster.pods()[0]["spec"]["nodeName"] == "n2"
