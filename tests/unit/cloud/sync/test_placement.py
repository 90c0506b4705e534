"""Which node needs which object."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.cloud.sync.placement import (
    ConfigKey,
    claims_of,
    configs_of,
    is_status_only,
    node_of,
    service_accounts_of,
    stripped,
)


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}


def test_every_way_to_name_a_config_is_found() -> None:
    found = configs_of(
        pod(
            volumes=[
                {"configMap": {"name": "v-cm"}},
                {"secret": {"secretName": "v-s", "optional": True}},
                {"projected": {"sources": [{"configMap": {"name": "p-cm"}}, {"secret": {"name": "p-s"}}]}},
                {"emptyDir": {}},
                {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {}}]}},
            ],
            initContainers=[{"envFrom": [{"configMapRef": {"name": "i-cm"}}, {"secretRef": {"name": "i-s"}}]}],
            containers=[
                {
                    "env": [
                        {"name": "A", "value": "1"},
                        {"valueFrom": {"configMapKeyRef": {"name": "e-cm", "optional": True}}},
                        {"valueFrom": {"secretKeyRef": {"name": "e-s"}}},
                        {"valueFrom": {"fieldRef": {}}},
                    ]
                }
            ],
            imagePullSecrets=[{"name": "pull"}],
        )
    )
    assert {(key.type, key.name): required for key, required in found.items()} == {
        ("configmap", "v-cm"): True,
        ("secret", "v-s"): False,
        ("configmap", "p-cm"): True,
        ("secret", "p-s"): True,
        ("configmap", "i-cm"): True,
        ("secret", "i-s"): True,
        ("configmap", "e-cm"): False,
        ("secret", "e-s"): True,
        ("secret", "pull"): False,
    }
    assert {key.namespace for key in found} == {"ns"}
    assert ConfigKey("secret", "ns", "pull").path == "ns/secret/pull"


def test_one_required_reference_is_enough() -> None:
    optional = {"configMap": {"name": "c", "optional": True}}
    required = {"configMap": {"name": "c"}}
    for volumes in ([optional, required], [required, optional]):
        assert list(configs_of(pod(volumes=volumes)).values()) == [True]


@pytest.mark.parametrize("spec", [{}, {"volumes": None, "containers": None}, {"volumes": [{"configMap": {}}]}])
def test_pods_that_name_nothing(spec: dict[str, Any]) -> None:
    assert configs_of(pod(**spec)) == {}


def test_nodes_and_service_accounts() -> None:
    assert node_of(pod(nodeName="e")) == "e"
    assert node_of(pod()) == ""
    assert node_of({}) == ""
    assert service_accounts_of([pod(), pod(serviceAccountName="sa")]) == {("ns", "default"), ("ns", "sa")}


def test_what_no_node_needs_is_taken_away_without_touching_the_original() -> None:
    last = "kubectl.kubernetes.io/last-applied-configuration"
    obj = {"metadata": {"name": "p", "managedFields": [1], "annotations": {last: "{}", "a": "b"}}, "spec": {}}
    assert stripped(obj) == {"metadata": {"name": "p", "annotations": {"a": "b"}}, "spec": {}}
    assert obj["metadata"]["managedFields"] == [1]
    assert stripped({"metadata": {"name": "p"}}) == {"metadata": {"name": "p"}}


@pytest.mark.parametrize(
    ("change", "is_quiet"),
    [
        ({"status": {"phase": "Running"}}, True),
        ({"metadata": {"uid": "u", "resourceVersion": "2", "managedFields": [2]}}, True),
        ({"metadata": {"uid": "u", "labels": {"a": "b"}}}, False),
        ({"metadata": {"uid": "u", "deletionTimestamp": "t"}}, False),
        ({"metadata": {"uid": "v"}}, False),
        ({"spec": {"nodeName": "f"}}, False),
        ({"data": {"k": "v"}}, False),
    ],
)
def test_status_changes_are_told_from_others(change: dict[str, Any], is_quiet: bool) -> None:
    old = {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {"nodeName": "e"}}
    assert is_status_only(old, old | change) is is_quiet


def test_readiness_gates_are_acted_on() -> None:
    def gated(status: str, *, kind: str = "x/y") -> dict[str, Any]:
        found = pod(readinessGates=[{"conditionType": "x/y"}])
        return found | {"status": {"conditions": [{"type": kind, "status": status}]}}

    assert is_status_only(gated("True"), gated("True"))
    assert not is_status_only(gated("False"), gated("True"))
    assert is_status_only(gated("False", kind="Ready"), gated("True", kind="Ready"))


def test_claims_of_a_pod() -> None:
    found = claims_of(
        pod(volumes=[{"persistentVolumeClaim": {"claimName": "a"}}, {"name": "s", "ephemeral": {}}, {"emptyDir": {}}])
    )
    assert found == {("ns", "a"), ("ns", "p-s")}
