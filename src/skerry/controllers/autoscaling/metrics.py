"""Where metrics of pods come from: a port, and its adapter to the metrics APIs of the cluster.

The embedded API server serves ``metrics.k8s.io`` from what its nodes tell; ``custom.metrics.k8s.io`` is served by
whoever registered it (an APIService, such as that of an adapter for Prometheus).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from skerry.api.gvk import PODMETRICS, Resource
from skerry.api.status import ApiError
from skerry.controllers.autoscaling.replicas import NoMetric, milli
from skerry.kube.ports import KubeApi

CUSTOM_PODS = Resource("custom.metrics.k8s.io", "v1beta2", "pods", "MetricValueList")


class PodMetrics(Protocol):
    """Values of pods by name, in thousandths. Raises ``NoMetric``."""

    async def resource(self, namespace: str, selector: str, resource: str, container: str) -> Mapping[str, int]:
        """Usage of a resource; of one container when it is named."""

    async def custom(self, namespace: str, selector: str, name: str) -> Mapping[str, int]:
        """A metric that the pods have themselves."""


class ApiPodMetrics:
    """Reads the metrics APIs.

    Args:
        api: the cluster.
    """

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def resource(self, namespace: str, selector: str, resource: str, container: str) -> Mapping[str, int]:
        """See ``PodMetrics``."""
        try:
            found = await self._api.list(PODMETRICS, namespace=namespace, label_selector=selector)
        except ApiError as exc:
            text = f"unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API"
            raise NoMetric("FailedGetResourceMetric", f"{text}: {exc}") from exc
        values = {}
        for item in found.items:
            used = [
                (c.get("usage") or {}).get(resource)
                for c in item.get("containers") or ()
                if not container or c["name"] == container
            ]
            if used and all(value is not None for value in used):
                values[item["metadata"]["name"]] = sum(milli(value) for value in used)
        if not values:
            text = f"unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
            raise NoMetric("FailedGetResourceMetric", text)
        return values

    async def custom(self, namespace: str, selector: str, name: str) -> Mapping[str, int]:
        """See ``PodMetrics``."""
        try:
            found = await self._api.get(CUSTOM_PODS, "*", namespace=namespace, subresource=name)
        except ApiError as exc:
            text = f"unable to get metric {name}: unable to fetch metrics from custom metrics API: {exc}"
            raise NoMetric("FailedGetPodsMetric", text) from exc
        return {item["describedObject"]["name"]: milli(item.get("value")) for item in found.get("items") or ()}
