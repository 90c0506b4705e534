"""An autoscaler that follows the metrics API, against a real API server on disk."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import CRDS, DEPLOYMENTS, HPAS, Object
from skerry.controllers.autoscaling.metrics import PODMETRICS
from skerry.controllers.objects import condition_of

METRICS_API: Object = {
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/metrics"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "pods", "singular": "podmetrics", "kind": "PodMetrics", "listKind": "PodMetricsList"},
        "versions": [
            {
                "name": "v1beta1", "served": True, "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}  # fmt: skip


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
    await cluster.api.create(CRDS, METRICS_API)
    async with asyncio.timeout(10):
        while cluster.core.registry.find("metrics.k8s.io", "v1beta1", "pods") is None:
            await asyncio.sleep(0)
    (pod,) = cluster.pods()
    usage = {
        "metadata": {"name": pod["metadata"]["name"], "labels": {"app": "web"}},
        "containers": [{"name": "c", "usage": {"cpu": "400m", "memory": "1Mi"}}],
    }
    await cluster.api.create(PODMETRICS, usage, namespace="default")
    await cluster.api.create(HPAS, autoscaler(), namespace="default")
    await cluster.until(lambda: len(cluster.pods()) == 3)
    hpa = await cluster.api.get(HPAS, "web", namespace="default")
    assert hpa["status"]["desiredReplicas"] == 3
    assert hpa["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 400
    assert (condition_of(hpa, "ScalingLimited") or {})["reason"] == "TooManyReplicas"
    await cluster.until(lambda: bool(cluster.events_of("SuccessfulRescale")))


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
