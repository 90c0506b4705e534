"""ResourceQuotas and LimitRanges: counted, enforced, and never exceeded by writes at the same moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import CONFIGMAPS, DEPLOYMENTS, LIMITRANGES, PODS, RESOURCEQUOTAS, SERVICES, Object
from skerry.api.status import Forbidden


def quota(name: str = "q", *, hard: dict[str, str], **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"hard": hard, **spec}}


def pod(name: str, cpu: str = "", **spec: Any) -> Object:
    container: Object = {"name": "c", "image": "busybox"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container], **spec}}


def used(cluster: Cluster, name: str = "q") -> dict[str, str]:
    found = cluster.informers.of(RESOURCEQUOTAS).get(name, "default") or {}
    return dict((found.get("status") or {}).get("used") or {})


async def test_a_quota_follows_the_life_of_what_it_counts(cluster: Cluster) -> None:
    hard = {"pods": "2", "requests.cpu": "1", "count/configmaps": "10", "count/deployments.apps": "1", "services": "5"}
    made = await cluster.api.create(RESOURCEQUOTAS, quota(hard=hard))
    assert made["spec"]["hard"] == hard
    await cluster.until(lambda: used(cluster).get("pods") == "0")
    before = int(used(cluster)["count/configmaps"])
    await cluster.api.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}})
    await cluster.api.create(PODS, pod("p", "300m"))
    await cluster.until(
        lambda: (
            (used(cluster)["count/configmaps"], used(cluster)["pods"], used(cluster)["requests.cpu"])
            == (str(before + 1), "1", "300m")
        )
    )
    await cluster.api.delete(CONFIGMAPS, "c", namespace="default")
    await cluster.api.delete(PODS, "p", namespace="default", grace_period_s=0)
    await cluster.until(lambda: (used(cluster)["count/configmaps"], used(cluster)["pods"]) == (str(before), "0"))


async def test_what_exceeds_a_quota_is_refused_in_words(cluster: Cluster) -> None:
    await cluster.api.create(RESOURCEQUOTAS, quota(hard={"pods": "2", "requests.cpu": "1"}))
    with pytest.raises(Forbidden) as caught:
        await cluster.api.create(PODS, pod("silent"))
    assert caught.value.message == ('pods "silent" is forbidden: failed quota: q: must specify requests.cpu for: c')
    await cluster.api.create(PODS, pod("a", "600m"))
    with pytest.raises(Forbidden) as caught:
        await cluster.api.create(PODS, pod("b", "600m"))
    assert caught.value.message == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, '
        "limited: requests.cpu=1"
    )
    await cluster.api.create(PODS, pod("b", "400m"))
    with pytest.raises(Forbidden, match="exceeded quota: q, requested: pods=1,requests.cpu=1m"):
        await cluster.api.create(PODS, pod("c", "1m"))


async def test_writes_at_the_same_moment_exceed_nothing(cluster: Cluster) -> None:
    await cluster.api.create(RESOURCEQUOTAS, quota(hard={"count/configmaps": "10"}))
    names = [f"c{number}" for number in range(30)]
    bodies = [{"metadata": {"name": name, "namespace": "default"}} for name in names]
    results = await asyncio.gather(*(cluster.api.create(CONFIGMAPS, b) for b in bodies), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Forbidden)]
    found = (await cluster.api.list(CONFIGMAPS, namespace="default")).items
    assert len(found) == 10
    assert len(refused) == 30 - sum(item["metadata"]["name"] in names for item in found)


async def test_scopes_choose_pods(cluster: Cluster) -> None:
    await cluster.api.create(RESOURCEQUOTAS, quota("best", hard={"pods": "1"}, scopes=["BestEffort"]))
    await cluster.api.create(RESOURCEQUOTAS, quota("ends", hard={"pods": "1"}, scopes=["Terminating"]))
    await cluster.api.create(PODS, pod("a"))
    await cluster.api.create(PODS, pod("b", "1m", activeDeadlineSeconds=3600))
    await cluster.until(lambda: (used(cluster, "best").get("pods"), used(cluster, "ends").get("pods")) == ("1", "1"))
    with pytest.raises(Forbidden, match="exceeded quota: best"):
        await cluster.api.create(PODS, pod("c"))
    with pytest.raises(Forbidden, match="exceeded quota: ends"):
        await cluster.api.create(PODS, pod("d", "1m", activeDeadlineSeconds=3600))
    await cluster.api.create(PODS, pod("e", "1m"))


async def test_services_count_their_node_ports(cluster: Cluster) -> None:
    await cluster.api.create(RESOURCEQUOTAS, quota(hard={"services.nodeports": "1", "services": "3"}))
    service = {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    made = await cluster.api.create(SERVICES, service)
    made["spec"]["type"] = "NodePort"
    made = await cluster.api.update(SERVICES, made)
    await cluster.until(lambda: used(cluster).get("services.nodeports") == "1")
    second = {"metadata": {"name": "t", "namespace": "default"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    with pytest.raises(Forbidden, match="exceeded quota: q, requested: services.nodeports=1"):
        await cluster.api.create(SERVICES, second)


async def test_limit_ranges_fill_and_bound(cluster: Cluster) -> None:
    limits = [{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]
    await cluster.api.create(
        LIMITRANGES, {"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": limits}}
    )
    made = await cluster.api.create(PODS, pod("p"))
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    assert made["status"]["qosClass"] == "Burstable"
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].startswith(
        "LimitRanger plugin set: cpu request"
    )
    big = pod("big")
    big["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}, "requests": {"cpu": "1500m"}}
    with pytest.raises(Forbidden) as caught:
        await cluster.api.create(PODS, big)
    assert caught.value.message == ('pods "big" is forbidden: maximum cpu usage per Container is 1, but limit is 2')


async def test_a_deployment_stops_at_its_quota(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(RESOURCEQUOTAS, quota(hard={"pods": "2"}))
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    spec = {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    await cluster.api.create(DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    await cluster.until(lambda: len(cluster.pods()) == 2 and bool(cluster.events_of("FailedCreate")))
    assert "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in cluster.events_of("FailedCreate")[0]


async def test_scopes_by_selector_follow_pods(cluster: Cluster) -> None:
    def scoped(name: str, scope: str) -> Object:
        selector = {"matchExpressions": [{"scopeName": scope, "operator": "Exists"}]}
        hard = {"pods": "5", "requests.cpu": "1", "limits.cpu": "2"}
        return quota(name, hard=hard, scopeSelector=selector)

    def both() -> tuple[str | None, str | None]:
        return used(cluster, "ends").get("pods"), used(cluster, "stays").get("pods")

    await cluster.api.create(RESOURCEQUOTAS, scoped("ends", "Terminating"))
    await cluster.api.create(RESOURCEQUOTAS, scoped("stays", "NotTerminating"))
    await cluster.until(lambda: both() == ("0", "0"))
    for deadline in (None, 3600, None, 3600):
        more = {} if deadline is None else {"activeDeadlineSeconds": deadline}
        body = pod("p", **more)
        body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}
        await cluster.api.create(PODS, body)
        await cluster.until(lambda: both() == (("0", "1") if deadline is None else ("1", "0")))  # noqa: B023
        if deadline is None:
            await cluster.api.patch(PODS, "p", {"spec": {"activeDeadlineSeconds": 60}}, namespace="default")
            await cluster.until(lambda: both() == ("1", "0"))
        await cluster.api.delete(PODS, "p", namespace="default", grace_period_s=0)
        await cluster.until(lambda: both() == ("0", "0"))
