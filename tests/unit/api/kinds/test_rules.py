"""Validation per kind."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.kinds.rules import Rules
from skerry.base.json import deep_copy

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules()


def texts(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    obj = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}}
    Rules().default("apps", "Deployment", obj)
    return obj


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"image": "i"}]}, "spec.containers[0].name: Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image: Required value"),
        ({"containers": [{"name": "c", "image": "i"}] * 2}, 'spec.containers[1].name: Duplicate value: "c"'),
        ({"restartPolicy": "Maybe"}, 'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"'),
        ({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 70000}]}]}, "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
        ({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}, 'spec.containers[0].volumeMounts[0].name: Not found: "v"'),
        ({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]}, 'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'),
        ({"containers": [{"name": "c", "image": "i", "livenessProbe": {}}]}, "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}, "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"),
        ({"volumes": [{"name": "v", "configMap": {}}]}, "spec.volumes[0].configMap.name: Required value"),
        ({"tolerations": [{"operator": "Equal"}]}, 'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"'),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"),
    ],
)  # fmt: skip
def test_pods(rules: Rules, spec: dict[str, Any], text: str) -> None:
    assert texts(rules.validate_create("", "Pod", pod(**spec))) == [text]


def env(**source: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": source}]}]}


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (env(fieldRef={"fieldPath": "metadata.myPath"}), 'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.myPath": error converting fieldPath: field label not supported: metadata.myPath'),
        (env(fieldRef={"apiVersion": "v2", "fieldPath": "metadata.name"}), 'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2'),
        (env(fieldRef={"fieldPath": "status.phase"}), 'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'),
        (env(fieldRef={"fieldPath": "spec.nodeName['a']"}), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": error converting fieldPath: field label does not support subscript: spec.nodeName['a']"),
        (env(fieldRef={}), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Required value"),
        (env(resourceFieldRef={"resource": "limits.disk"}), 'spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.disk": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"'),
        (env(resourceFieldRef={}), "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Required value"),
        (volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "status.podIP"}}]}), 'spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"'),
        (volume(downwardAPI={"items": [{"path": "../a", "fieldRef": {"fieldPath": "metadata.name"}}]}), "spec.volumes[0].downwardAPI.items[0].path: Invalid value: \"../a\": must not contain '..'"),
        (volume(downwardAPI={"items": [{"path": "a"}]}), "spec.volumes[0].downwardAPI.items[0].fieldRef: Required value: one of fieldRef and resourceFieldRef is required"),
        (volume(downwardAPI={"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}), "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: Required value"),
        (volume(configMap={"name": "x", "items": [{"key": "k", "path": "/abs"}]}), 'spec.volumes[0].configMap.items[0].path: Invalid value: "/abs": must be a relative path'),
        (volume(configMap={"name": "x", "items": [{"path": "a"}]}), "spec.volumes[0].configMap.items[0].key: Required value"),
        (volume(secret={"secretName": "x", "items": [{"key": "k", "path": "..x"}]}), "spec.volumes[0].secret.items[0].path: Invalid value: \"..x\": must not start with '..'"),
        (volume(secret={"secretName": "x", "defaultMode": 1000}), "spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive"),
        (volume(hostPath={"path": "/a/../b"}), "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
        (volume(hostPath={"path": "/a", "type": "Dir"}), 'spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"'),
        (volume(emptyDir={"sizeLimit": "-1"}), "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"),
        (volume(projected={"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 10}}]}), "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"),
        (volume(projected={"sources": [{"configMap": {"name": "x"}, "secret": {"name": "y"}}]}), "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"),
    ],
)  # fmt: skip
def test_what_pods_are_told_and_mount(rules: Rules, spec: dict[str, Any], text: str) -> None:
    obj = pod(**spec)
    rules.default("", "Pod", obj)
    assert texts(rules.validate_create("", "Pod", obj)) == [text]


def test_labels_and_annotations_by_name(rules: Rules) -> None:
    obj = pod(**env(fieldRef={"fieldPath": "metadata.annotations['example.com/Key']"}))
    rules.default("", "Pod", obj)
    assert rules.validate_create("", "Pod", obj) == []
    assert obj["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"


def test_a_right_pod(rules: Rules) -> None:
    obj = pod(volumes=[{"name": "v", "emptyDir": {}}], tolerations=[{"operator": "Exists"}])
    rules.default("", "Pod", obj)
    assert rules.validate_create("", "Pod", obj) == []


def test_what_may_change_in_a_pod(rules: Rules) -> None:
    old = pod(tolerations=[{"key": "a", "operator": "Exists"}], nodeName="n")
    new = deep_copy(old)
    new["spec"]["containers"][0]["image"] = "other"
    new["spec"]["tolerations"].append({"key": "b", "operator": "Exists"})
    new["spec"]["activeDeadlineSeconds"] = 5
    assert rules.validate_update("", "Pod", new, old) == []
    new["spec"]["nodeName"] = "m"
    new["spec"]["tolerations"] = []
    found = texts(rules.validate_update("", "Pod", new, old))
    assert (
        found[0] == "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    )
    assert found[1].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ({"selector": None}, "spec.selector: Required value"),
        ({"selector": {}}, "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
        ({"selector": {"matchLabels": {"x": "y"}}}, 'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'),
        ({"strategy": {"type": "Fast"}}, 'spec.strategy.type: Unsupported value: "Fast": supported values: "Recreate", "RollingUpdate"'),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"),
        ({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}, "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"),
    ],
)  # fmt: skip
def test_deployments(rules: Rules, spec: dict[str, Any], text: str) -> None:
    assert texts(rules.validate_create("apps", "Deployment", deployment(**spec))) == [text]


def test_a_template_always_restarts(rules: Rules) -> None:
    obj = deployment()
    obj["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    assert texts(rules.validate_create("apps", "Deployment", obj)) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]


def test_a_selector_is_immutable(rules: Rules) -> None:
    old, new = deployment(), deployment()
    new["spec"]["template"]["metadata"]["labels"]["c"] = "d"
    new["spec"]["selector"]["matchLabels"]["c"] = "d"
    assert texts(rules.validate_update("apps", "Deployment", new, old)) == [
        'spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable'
    ]


@pytest.mark.parametrize(
    ("group", "kind", "obj", "text"),
    [
        ("", "Service", {"spec": {}}, "spec.ports: Required value"),
        ("", "Service", {"spec": {"ports": [{"port": 0}]}}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ("", "Service", {"spec": {"ports": [{"port": 1, "name": "a"}, {"port": 2}]}}, "spec.ports[1].name: Required value"),
        ("", "Service", {"spec": {"ports": [{"port": 1}], "ipFamilyPolicy": "RequireDualStack"}}, 'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'),
        ("", "Service", {"spec": {"ports": [{"port": 1}], "ipFamilies": ["IPv4", "IPv6"]}}, 'spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster'),
        ("", "Service", {"spec": {"type": "Magic", "ports": [{"port": 1}]}}, 'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
        ("", "Service", {"spec": {"type": "ExternalName"}}, "spec.externalName: Required value"),
        ("", "ConfigMap", {"data": {"a": "x"}, "binaryData": {"a": "eA=="}}, 'data[a]: Invalid value: "a": duplicate of key present in binaryData'),
        ("", "ConfigMap", {"data": {"a": "x" * (2**20 + 1)}}, ": Too long: may not be more than 1048576 bytes"),
        ("", "Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, "data[tls.key]: Required value"),
        ("", "Node", {"spec": {"taints": [{"key": "a", "effect": "Never"}]}}, 'spec.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'),
        ("", "Event", {"metadata": {"name": "a", "namespace": "n"}, "involvedObject": {"namespace": "m"}}, 'involvedObject.namespace: Invalid value: "m": does not match event.namespace'),
        ("coordination.k8s.io", "Lease", {"spec": {"leaseDurationSeconds": 0}}, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
        ("discovery.k8s.io", "EndpointSlice", {"endpoints": []}, "addressType: Required value"),
        (RBAC, "Role", {"rules": [{"apiGroups": [""], "resources": ["pods"]}]}, "rules[0].verbs: Required value: verbs must contain at least one value"),
        (RBAC, "ClusterRoleBinding", {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "A", "namespace": "n"}]}, """subjects[0].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"""),
        (RBAC, "ClusterRoleBinding", {"roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "r"}}, 'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"'),
    ],
)  # fmt: skip
def test_other_kinds(rules: Rules, group: str, kind: str, obj: dict[str, Any], text: str) -> None:
    assert texts(rules.validate_create(group, kind, {"metadata": {"name": "a"}, **obj})) == [text]


@pytest.mark.parametrize(
    ("group", "kind", "old", "new", "field"),
    [
        ("", "ConfigMap", {"immutable": True, "data": {"a": "x"}}, {"immutable": True, "data": {"a": "y"}}, "data"),
        ("", "ConfigMap", {"immutable": True}, {}, "immutable"),
        ("", "Secret", {"type": "Opaque"}, {"type": "other"}, "type"),
        ("", "Service", {"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}}, {"spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 1}]}}, "spec.clusterIPs[0]"),
        (RBAC, "RoleBinding", {"roleRef": {"name": "a"}}, {"roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "b"}}, "roleRef"),
        ("discovery.k8s.io", "EndpointSlice", {"addressType": "IPv4"}, {"addressType": "IPv6"}, "addressType"),
        ("apps", "ControllerRevision", {"data": {"a": 1}}, {"data": {"a": 2}}, "data"),
        ("scheduling.k8s.io", "PriorityClass", {"value": 1}, {"value": 2}, "value"),
    ],
)  # fmt: skip
def test_what_never_changes(rules: Rules, group: str, kind: str, old: Any, new: Any, field: str) -> None:
    meta = {"metadata": {"name": "a"}}
    assert [error.field for error in rules.validate_update(group, kind, {**meta, **new}, {**meta, **old})] == [field]


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "A"}, 'metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain'),
        ({"name": "a", "labels": {"a": "no way"}}, 'metadata.labels: Invalid value: "no way": a valid label must be'),
        ({"name": "a", "finalizers": ["x y"]}, 'metadata.finalizers: Invalid value: "x y": name part must consist'),
        ({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": ""}]}, "metadata.ownerReferences[0].uid: Invalid value"),
    ],
)  # fmt: skip
def test_metadata(rules: Rules, meta: dict[str, Any], text: str) -> None:
    found = texts(rules.validate_create("x.io", "Widget", {"metadata": meta}))
    assert len(found) == 1 and found[0].startswith(text)


def test_only_one_controller(rules: Rules) -> None:
    owner = {"apiVersion": "v1", "kind": "K", "uid": "u", "controller": True}
    meta = {"name": "a", "ownerReferences": [{**owner, "name": "n"}, {**owner, "name": "m"}]}
    (error,) = rules.validate_create("x.io", "Widget", {"metadata": meta})
    assert error.message.endswith('Found "true" in references for n and m')


def test_finalizers_only_go_while_an_object_is_being_deleted(rules: Rules) -> None:
    old = {"metadata": {"name": "a", "deletionTimestamp": "t", "finalizers": ["x/a", "x/b"]}}
    new = {"metadata": {"name": "a", "finalizers": ["x/b", "x/c"]}}
    assert texts(rules.validate_update("", "ConfigMap", new, old)) == [
        'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/c"}'
    ]


def crd(**version: Any) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object"}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema, **version}]
    return {
        "metadata": {"name": "widgets.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": names, "versions": versions},
    }


def test_custom_resource_definitions(rules: Rules) -> None:
    group, kind = "apiextensions.k8s.io", "CustomResourceDefinition"
    assert rules.validate_create(group, kind, crd()) == []
    assert texts(
        rules.validate_create(group, kind, crd(schema={"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}))
    ) == [
        "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields"
    ]
    (error,) = rules.validate_create(group, kind, crd(storage=False))
    assert error.field == "spec.versions" and error.message.endswith(
        "must have exactly one version marked as storage version"
    )
    wrong = crd()
    wrong["metadata"]["name"] = "gadgets.x.io"
    assert texts(rules.validate_create(group, kind, wrong)) == [
        'metadata.name: Invalid value: "gadgets.x.io": must be spec.names.plural+"."+spec.group'
    ]
    cluster = crd()
    cluster["spec"]["scope"] = "Cluster"
    assert texts(rules.validate_update(group, kind, cluster, crd())) == [
        'spec.scope: Invalid value: "Cluster": field is immutable'
    ]


def stateful(**spec: Any) -> dict[str, Any]:
    mounts = [{"name": "data", "mountPath": "/data"}]
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]},
    }
    obj = {
        "metadata": {"name": "s"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "serviceName": "s", "template": template, **spec},
    }
    Rules().default("apps", "StatefulSet", obj)
    return obj


def test_a_claim_template_is_a_volume_of_the_pods(rules: Rules) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    assert texts(rules.validate_create("apps", "StatefulSet", stateful(volumeClaimTemplates=[claim]))) == []
    missing = texts(rules.validate_create("apps", "StatefulSet", stateful()))
    assert missing == ['spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"']


@pytest.mark.parametrize(
    ("family", "address", "text"),
    [
        ("IPv4", "169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("IPv4", "0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("IPv4", "224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ("IPv4", "fd00::1", "must be an IPv4 address"),
        ("IPv6", "fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("IPv4", "web", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ],
)
def test_addresses_of_endpoints(rules: Rules, family: str, address: str, text: str) -> None:
    sliced = {"metadata": {"name": "a"}, "addressType": family, "endpoints": [{"addresses": [address]}]}
    expected = f'endpoints[0].addresses[0]: Invalid value: "{address}": {text}'
    assert texts(rules.validate_create("discovery.k8s.io", "EndpointSlice", sliced)) == [expected]
    if address != "fd00::1":
        whole = {"metadata": {"name": "a"}, "subsets": [{"notReadyAddresses": [{"ip": address}]}]}
        expected = f'subsets[0].notReadyAddresses[0].ip: Invalid value: "{address}": {text}'
        assert texts(rules.validate_create("", "Endpoints", whole)) == [expected]
