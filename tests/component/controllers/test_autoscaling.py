"""An autoscaler that follows the metrics API, against a real API server on disk."""

from __future__ import annotations

from typing import Any

import pytest
from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import DEPLOYMENTS, HPAS, PODMETRICS, Object
from skerry.api.status import NotFound
from skerry.controllers.objects import condition_of


def deployment() -> Object:
    container = {"name": "c", "image": "v1", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


def autoscaler(**spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    utilization = {"type": "Utilization", "averageUtilization": 50}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}]
    return {
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": metrics, **spec},
    }


async def test_busy_pods_get_company_up_to_the_limit(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1)
    (pod,) = cluster.pods()
    cluster.summaries.use(pod, "c", cpu_nanocores=400_000_000)
    await cluster.api.create(HPAS, autoscaler(), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 3)
    hpa = await cluster.api.get(HPAS, "web", namespace="default")
    assert hpa["status"]["desiredReplicas"] == 3
    assert hpa["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 400
    assert (condition_of(hpa, "ScalingLimited") or {})["reason"] == "TooManyReplicas"
    await cluster.until(lambda: bool(cluster.events_of("SuccessfulRescale")))
    (told,) = (await cluster.api.list(PODMETRICS, namespace="default", label_selector="app=web")).items
    assert told["metadata"]["name"] == pod["metadata"]["name"]
    assert told["containers"] == [{"name": "c", "usage": {"cpu": "400000000n", "memory": "1024Ki"}}]
    assert (await cluster.api.list(PODMETRICS, namespace="default", label_selector="app=other")).items == []
    assert (await cluster.api.get(PODMETRICS, pod["metadata"]["name"], namespace="default"))["window"]
    with pytest.raises(NotFound, match='pods.metrics.k8s.io "nobody" not found'):
        await cluster.api.get(PODMETRICS, "nobody", namespace="default")


async def test_without_metrics_nothing_changes_and_the_condition_says_why(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(DEPLOYMENTS, deployment(), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 1)
    await cluster.api.create(HPAS, autoscaler(), namespace="default")
    hpas = cluster.informers.of(HPAS)

    def reason() -> str:
        found = hpas.get("web", "default")
        return str((condition_of(found, "ScalingActive") or {}).get("reason")) if found else ""

    await cluster.until(lambda: reason() == "FailedGetResourceMetric")
    assert len(cluster.pods()) == 1


async def test_a_new_autoscaler_takes_nothing_away_at_once(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    idle = deployment()
    idle["spec"]["replicas"] = 2
    await cluster.api.create(DEPLOYMENTS, idle, namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 2)
    for pod in cluster.pods():
        cluster.summaries.use(pod, "c", cpu_nanocores=0)
    await cluster.api.create(HPAS, autoscaler(), namespace="default")
    hpas = cluster.informers.of(HPAS)

    def reason() -> str:
        found = hpas.get("web", "default")
        return str((condition_of(found, "AbleToScale") or {}).get("reason")) if found else ""

    await cluster.until(lambda: reason() == "ScaleDownStabilized")
    assert len(cluster.pods()) == 2
