"""Defaults per kind, as a v1.36 server fills them."""

# ruff: noqa: E501 - one row per case

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.kinds.rules import Rules
from skerry.api.qos import qos_class
from skerry.base.json import deep_copy


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules()


def pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx", **container}]}}


def test_a_pod_as_a_go_client_sends_it(rules: Rules) -> None:
    obj = pod(resources={}, terminationMessagePath="", ports=[{"containerPort": 80, "protocol": ""}])
    obj["metadata"]["creationTimestamp"] = None
    obj["spec"]["restartPolicy"] = ""
    obj["status"] = {}
    rules.default("", "Pod", obj)
    assert obj["spec"] == {
        "containers": [
            {
                "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
            }
        ],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("h:5000/a", "Always"),
        ("h:5000/a:1", "IfNotPresent"), ("a@sha256:00", "IfNotPresent"),
    ],
)  # fmt: skip
def test_the_pull_policy_follows_the_tag(rules: Rules, image: str, policy: str) -> None:
    obj = pod()
    obj["spec"]["containers"][0]["image"] = image
    rules.default("", "Pod", obj)
    assert obj["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_probes_env_and_volumes(rules: Rules) -> None:
    obj = pod(
        livenessProbe={"httpGet": {"port": 80}, "timeoutSeconds": 0, "periodSeconds": 5},
        env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    )
    obj["spec"]["volumes"] = [
        {"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "hostPath": {"path": "/x"}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]  # fmt: skip
    rules.default("", "Pod", obj)
    container, volumes = obj["spec"]["containers"][0], obj["spec"]["volumes"]
    assert container["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 5,
        "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert volumes[0] == {"name": "a", "emptyDir": {}}
    assert volumes[1]["configMap"]["defaultMode"] == 420
    assert volumes[2]["hostPath"]["type"] == ""
    assert volumes[3]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600


def test_host_network_and_limits(rules: Rules) -> None:
    obj = pod(ports=[{"containerPort": 80}], resources={"limits": {"cpu": "1"}})
    obj["spec"]["hostNetwork"] = True
    rules.default("", "Pod", obj)
    container = obj["spec"]["containers"][0]
    assert container["ports"][0]["hostPort"] == 80
    assert container["resources"]["requests"] == {"cpu": "1"}


def test_a_deployment_with_empty_structs(rules: Rules) -> None:
    obj = {
        "spec": {"strategy": {}, "replicas": None, "template": {"metadata": {"creationTimestamp": None}, "spec": {"containers": []}}},
        "status": {},
    }  # fmt: skip
    rules.default("apps", "Deployment", obj)
    spec = obj["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    template: Any = spec["template"]
    assert template["spec"]["restartPolicy"] == "Always" and "enableServiceLinks" not in template["spec"]


def test_zero_replicas_stay(rules: Rules) -> None:
    for kind in ("Deployment", "ReplicaSet"):
        obj: dict[str, Any] = {"spec": {"replicas": 0}}
        rules.default("apps", kind, obj)
        assert obj["spec"]["replicas"] == 0


def test_services(rules: Rules) -> None:
    obj: dict[str, Any] = {
        "spec": {"ports": [{"port": 80, "targetPort": 0}], "type": "NodePort", "sessionAffinity": "ClientIP"}
    }
    rules.default("", "Service", obj)
    assert obj["spec"] == {
        "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}], "type": "NodePort", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "internalTrafficPolicy": "Cluster",
        "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "externalTrafficPolicy": "Cluster",
    }  # fmt: skip


def test_secrets_fold_their_text(rules: Rules) -> None:
    obj = {"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}}
    rules.default("", "Secret", obj)
    assert obj == {"data": {"a": "eQ==", "b": "eg=="}, "type": "Opaque"}


def test_bindings_slices_and_crds(rules: Rules) -> None:
    group = "rbac.authorization.k8s.io"
    binding: dict[str, Any] = {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}],
    }
    rules.default(group, "RoleBinding", binding)
    assert binding["roleRef"]["apiGroup"] == group
    assert binding["subjects"] == [{"kind": "User", "apiGroup": group}, {"kind": "ServiceAccount"}]
    endpoints: dict[str, Any] = {"ports": [{"port": 1}], "endpoints": [{"conditions": {}}]}
    rules.default("discovery.k8s.io", "EndpointSlice", endpoints)
    assert endpoints == {"ports": [{"port": 1, "name": "", "protocol": "TCP"}], "endpoints": [{"conditions": {}}]}
    crd: dict[str, Any] = {"spec": {"names": {"kind": "Widget", "plural": "widgets"}}}
    rules.default("apiextensions.k8s.io", "CustomResourceDefinition", crd)
    assert crd["spec"]["names"] == {
        "kind": "Widget",
        "plural": "widgets",
        "singular": "widget",
        "listKind": "WidgetList",
    }
    assert crd["spec"]["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("", "Pod"),
        ("", "Service"),
        ("", "Secret"),
        ("apps", "Deployment"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
    ],
)
def test_defaults_are_idempotent(rules: Rules, group: str, kind: str) -> None:
    obj: dict[str, Any] = {"spec": {"containers": [{"name": "a", "image": "b"}], "template": {"spec": {}}}}
    rules.default(group, kind, obj)
    once = deep_copy(obj)
    rules.default(group, kind, obj)
    assert obj == once


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "0"}}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], qos: str) -> None:
    assert qos_class(pod(resources=resources)) == qos
