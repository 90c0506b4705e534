"""KubeEdge's custom kinds: manifests, and the objects that they take."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from skerry.api.crds import crd_manifests, custom_kinds
from skerry.api.field import FieldError
from skerry.api.kinds.fields import schema_of
from skerry.api.kinds.rules import Rules
from skerry.api.schema import Schema, apply_defaults, find_unknown, prune
from skerry.api.structural import compile_structural
from skerry.api.validation import validate

ROOT = Path(__file__).parents[3]


def schema(plural: str, version: str) -> Schema:
    for kind in custom_kinds():
        for item in kind.versions:
            if (kind.plural, item.name) == (plural, version):
                return compile_structural(schema_of(item.fields))
    raise KeyError(plural, version)


def errors(obj: Any, node: Schema) -> list[FieldError]:
    return validate(obj, node, match=lambda pattern, text: re.search(pattern, text) is not None)


def test_the_committed_files_are_what_the_code_renders() -> None:
    spec = importlib.util.spec_from_file_location("gen_crds", ROOT / "tools/gen_crds.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    committed = {path.name: path.read_text() for path in (ROOT / "deploy/crds").glob("*.yaml")}
    assert committed == module.documents()


def test_all_are_valid_definitions() -> None:
    rules, found = Rules(), crd_manifests()
    assert len(found) == 14
    for crd in found:
        problems = rules.validate_create("apiextensions.k8s.io", "CustomResourceDefinition", crd)
        assert [str(error) for error in problems] == []
        before = {**crd, "spec": dict(crd["spec"])}
        rules.default("apiextensions.k8s.io", "CustomResourceDefinition", crd)
        assert crd == before


@pytest.mark.parametrize(
    ("plural", "scope", "versions", "status", "short"),
    [
        ("clusterobjectsyncs", "Cluster", ["v1alpha1"], True, None),
        ("configupdatejobs", "Cluster", ["v1alpha2"], True, None),
        ("devicemodels", "Namespaced", ["v1beta1", "v1alpha2"], False, None),
        ("devices", "Namespaced", ["v1beta1", "v1alpha2"], False, None),
        ("devicestatuses", "Namespaced", ["v1beta1", "v1alpha2"], False, None),
        ("edgeapplications", "Namespaced", ["v1alpha1"], True, ["eapp"]),
        ("imageprepulljobs", "Cluster", ["v1alpha2", "v1alpha1"], True, None),
        ("nodegroups", "Cluster", ["v1alpha1"], True, ["ng"]),
        ("nodeupgradejobs", "Cluster", ["v1alpha2", "v1alpha1"], True, None),
        ("objectsyncs", "Namespaced", ["v1alpha1"], True, None),
        ("ruleendpoints", "Namespaced", ["v1"], False, ["re"]),
        ("rules", "Namespaced", ["v1"], False, None),
        ("serviceaccountaccesses", "Namespaced", ["v1alpha1"], True, ["saaccess"]),
    ],
)
def test_scope_versions_and_subresources(
    plural: str, scope: str, versions: list[str], status: bool, short: list[str] | None
) -> None:
    (crd,) = (item for item in crd_manifests() if item["spec"]["names"]["plural"] == plural)
    spec = crd["spec"]
    assert spec["scope"] == scope and spec["names"].get("shortNames") == short
    assert [item["name"] for item in spec["versions"]] == versions
    assert [item["storage"] for item in spec["versions"]] == [True] + [False] * (len(versions) - 1)
    assert all(("subresources" in item) is status for item in spec["versions"])


def test_a_device() -> None:
    node = schema("devices", "v1beta1")
    device: dict[str, Any] = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "d"},
        "spec": {
            "deviceModelRef": {},
            "nodeName": "e1",
            "protocol": {"protocolName": "modbus-tcp", "configData": {"ip": "10.0.0.1", "deep": {"port": 502}}},
            "properties": [
                {
                    "name": "t",
                    "desired": {"value": "1", "metadata": {"type": "int"}},
                    "reportCycle": 1000,
                    "visitors": {"protocolName": "modbus-tcp", "configData": {"register": "HoldingRegister"}},
                    "typo": 1,
                }
            ],
        },
    }
    assert find_unknown(device, node) == ["spec.properties[0].typo"]
    pruned = apply_defaults(prune(device, node), node)
    assert pruned["spec"]["deviceModelRef"] == {"name": ""}
    assert pruned["spec"]["protocol"]["configData"]["deep"] == {"port": 502}
    assert errors(pruned, node) == []
    del pruned["spec"]["properties"][0]["desired"]["value"]
    assert [str(error) for error in errors(pruned, node)] == ["spec.properties[0].desired.value: Required value"]


def test_a_device_model() -> None:
    node = schema("devicemodels", "v1beta1")
    model = {"spec": {"properties": [{"name": "t", "type": "TEMPERATURE", "accessMode": "ReadOnly"}]}}
    (error,) = errors(model, node)
    assert str(error).startswith('spec.properties[0].type: Unsupported value: "TEMPERATURE": supported values: "INT"')


def test_an_edge_application() -> None:
    node = schema("edgeapplications", "v1alpha1")
    variable = {"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}
    overriders = {
        "replicas": 2,
        "imageOverriders": [{"component": "Tag", "operator": "replace", "value": "1"}],
        "resourcesOverriders": [{"containerName": "c", "value": {"limits": {"cpu": "1", "memory": 5}}}],
        "envOverriders": [{"containerName": "c", "operator": "add", "value": [variable]}],
    }
    targets = {
        "targetNodeGroups": [{"name": "g", "overriders": overriders}],
        "targetNodeLabels": [{"overriders": overriders}],
    }
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}}
    app = {"spec": {"workloadScope": targets, "workloadTemplate": {"manifests": [manifest]}}}
    assert find_unknown(app, node) == []
    assert errors(app, node) == []
    assert prune(app, node) == app
    overriders["resourcesOverriders"][0]["value"]["limits"]["cpu"] = "much"  # type: ignore[index]
    assert {error.reason for error in errors(app, node)} == {"FieldValueInvalid"}


def test_required_parts() -> None:
    assert [error.field for error in errors({}, schema("nodegroups", "v1alpha1"))] == ["spec"]
    assert errors({}, schema("devices", "v1beta1")) == []
    rule = {"spec": {"source": "a", "target": "b", "sourceResource": {}}}
    assert [error.field for error in errors(rule, schema("rules", "v1"))] == ["spec.targetResource"]


def test_the_old_form_of_a_device_is_still_read() -> None:
    node = schema("devices", "v1alpha2")
    old = {"spec": {"protocol": {"common": {"com": {"baudRate": 9600}}}, "nodeSelector": {"nodeSelectorTerms": []}}}
    assert find_unknown(old, node) == [] and errors(old, node) == []
    old["spec"]["protocol"]["common"]["com"]["baudRate"] = 1
    assert [error.reason for error in errors(old, node)] == ["FieldValueNotSupported"]


def test_a_word_that_the_field_form_does_not_know() -> None:
    with pytest.raises(ValueError, match="no word"):
        schema_of("spec object colour=red")
