"""What objects use of a quota."""

# ruff: noqa: E501 - cases stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.kinds.amounts import pod_amounts
from skerry.api.kinds.quota import ONE, covers, lacking, storage_of, text_of, usage
from skerry.api.quantity import parse_quantity


def container(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> Any:
    return {"name": "c", "image": "i", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def pod(*containers: Any, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": list(containers), **spec}}


def test_a_pod_asks_for_the_greater_of_start_and_run() -> None:
    spec = {
        "initContainers": [
            container({"cpu": "200m"}, restartPolicy="Always"),
            container({"cpu": "1", "memory": "1Mi"}),
        ],
        "containers": [container({"cpu": "500m"}), container({"cpu": "100m", "memory": "2Mi"})],
        "overhead": {"cpu": "10m"},
    }
    found = {name: str(amount) for name, amount in pod_amounts(spec, "requests").items()}
    assert found == {"cpu": "1210m", "memory": "2Mi"}
    assert pod_amounts(spec, "limits") == {}
    spec["resources"] = {"requests": {"cpu": "3"}}
    assert str(pod_amounts(spec, "requests")["cpu"]) == "3010m"


def test_a_pod_counts_until_it_has_ended() -> None:
    running = pod(container({"cpu": "100m", "example.com/gpu": "2"}, {"memory": "1Gi"}))
    assert usage("pods", running) == {
        "count/pods": ONE,
        "pods": ONE,
        "cpu": ONE // 10,
        "requests.cpu": ONE // 10,
        "requests.example.com/gpu": 2 * ONE,
        "limits.memory": 2**30 * ONE,
    }
    assert usage("pods", running | {"status": {"phase": "Failed"}}) == {"count/pods": ONE}


def test_services_count_by_their_type() -> None:
    ports = [{"port": 80}, {"port": 81}]
    balanced = {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": ports}}
    assert usage("services", balanced) == {
        "count/services": ONE,
        "services": ONE,
        "services.loadbalancers": ONE,
        "services.nodeports": 2 * ONE,
    }
    balanced["spec"]["allocateLoadBalancerNodePorts"] = False
    assert usage("services", balanced)["services.nodeports"] == 0


def test_claims_count_by_their_class() -> None:
    claim = {
        "metadata": {},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
    }
    found = usage("persistentvolumeclaims", claim)
    assert found["gold.storageclass.storage.k8s.io/requests.storage"] == found["requests.storage"] == 2**30 * ONE
    assert found["gold.storageclass.storage.k8s.io/persistentvolumeclaims"] == ONE


def test_claims_of_devices_count_by_class() -> None:
    parts = [{"deviceClassName": "gold", "count": 2}, {"deviceClassName": "tin"}]
    requests = [{"name": "a", "exactly": {"deviceClassName": "gold"}}, {"name": "b", "firstAvailable": parts}]
    found = usage("resourceclaims.resource.k8s.io", {"metadata": {}, "spec": {"devices": {"requests": requests}}})
    assert found["gold.deviceclass.resource.k8s.io/devices"] == 3 * ONE
    assert found["tin.deviceclass.resource.k8s.io/devices"] == ONE
    assert storage_of("gold.deviceclass.resource.k8s.io/devices") == "resourceclaims.resource.k8s.io"


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("count/deployments.apps", "deployments.apps"),
        ("pods", "pods"),
        ("limits.cpu", "pods"),
        ("requests.storage", "persistentvolumeclaims"),
        ("gold.storageclass.storage.k8s.io/requests.storage", "persistentvolumeclaims"),
        ("services.nodeports", "services"),
        ("secrets", "secrets"),
    ],
)
def test_whose_objects_count_for_a_name(name: str, storage: str) -> None:
    assert storage_of(name) == storage


@pytest.mark.parametrize(
    ("quota", "obj", "is_covered"),
    [
        ({"scopes": ["BestEffort"]}, pod(container()), True),
        ({"scopes": ["BestEffort"]}, pod(container({"cpu": "1"})), False),
        ({"scopes": ["NotBestEffort", "Terminating"]}, pod(container({"cpu": "1"}), activeDeadlineSeconds=5), True),
        ({"scopes": ["NotTerminating"]}, pod(container(), activeDeadlineSeconds=5), False),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}},
            pod(container(), priorityClassName="a"),
            True,
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["a"]}]}},
            pod(container(), priorityClassName="a"),
            False,
        ),
        (
            {"scopes": ["CrossNamespacePodAffinity"]},
            pod(
                container(),
                affinity={
                    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["other"]}]}
                },
            ),
            True,
        ),
    ],
)  # fmt: skip
def test_scopes(quota: dict[str, Any], obj: dict[str, Any], is_covered: bool) -> None:
    assert covers({"spec": {"hard": {"pods": "1"}, **quota}}, "pods", obj) is is_covered


def test_what_a_pod_must_state() -> None:
    hard = ["limits.cpu", "requests.memory", "pods"]
    assert lacking(hard, pod(container({"memory": "1"}))) == "must specify limits.cpu for: c"
    assert lacking(hard, pod(container())) == "must specify limits.cpu for: c; requests.memory for: c"
    assert lacking(["pods"], pod(container())) == ""


def test_amounts_are_written_as_the_bound_is() -> None:
    hard = {"requests.memory": parse_quantity("1Gi")}
    assert text_of("requests.memory", 2**20 * ONE, hard) == "1Mi"
    assert text_of("pods", 3 * ONE, hard) == "3"
