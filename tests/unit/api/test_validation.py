"""Field errors of custom resources, decoding errors of built-in kinds."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.field import invalid_object
from skerry.api.schema import SchemaTable, find_unknown, prune
from skerry.api.status import BadRequest
from skerry.api.structural import compile_structural
from skerry.api.validation import check_types, is_plain, validate

SCHEMA = compile_structural(
    {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["replicas"],
                "properties": {
                    "replicas": {"type": "integer", "minimum": 1, "maximum": 5},
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "code": {"type": "string", "pattern": "^a+$", "maxLength": 4, "minLength": 2},
                    "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 2, "items": {"type": "string"}},
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "proto"],
                        "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "proto": {"type": "string", "default": "TCP"}}},
                    },
                    "size": {"x-kubernetes-int-or-string": True},
                    "maybe": {"type": "string", "nullable": True},
                    "count": {"type": "integer", "format": "int32"},
                    "when": {"type": "string", "format": "date-time"},
                    "child": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
                    "either": {"x-kubernetes-preserve-unknown-fields": True, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
                },
            }
        },
    }
)  # fmt: skip


def find(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"replicas": 9}, "spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5"),
        ({"replicas": 0}, "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"),
        ({"replicas": "x"}, 'spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"'),
        ({"replicas": None}, 'spec.replicas: Invalid value: "null": spec.replicas in body must be of type integer: "null"'),
        ({"replicas": True}, 'spec.replicas: Invalid value: "boolean": spec.replicas in body must be of type integer: "boolean"'),
        ({}, "spec.replicas: Required value"),
        ({"color": "green"}, 'spec.color: Unsupported value: "green": supported values: "red", "blue"'),
        ({"code": "ab"}, 'spec.code: Invalid value: "ab": spec.code in body should match \'^a+$\''),
        ({"code": "a"}, 'spec.code: Invalid value: "a": spec.code in body should be at least 2 chars long'),
        ({"code": "aaaaa"}, "spec.code: Too long: may not be more than 4 bytes"),
        ({"ratio": 0}, "spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"),
        ({"ratio": 0.7}, "spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5"),
        ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
        ({"tags": ["a", "b", "c"]}, "spec.tags: Too many: 3: must have at most 2 items"),
        ({"ports": [{"port": 1}, {"port": 1, "proto": "TCP"}]}, 'spec.ports[1]: Duplicate value: {"port":1,"proto":"TCP"}'),
        ({"ports": [{"proto": "TCP"}]}, "spec.ports[0].port: Required value"),
        ({"size": 1.5}, 'spec.size: Invalid value: "number": spec.size in body must be of type integer,string: "number"'),
        ({"count": 2**31}, "spec.count: Invalid value: 2147483648: spec.count in body must be of type int32: 2147483648"),
        ({"when": "noon"}, 'spec.when: Invalid value: "noon": spec.when in body must be of type date-time: "noon"'),
        ({"child": {"kind": "Pod"}}, "spec.child.apiVersion: Required value: must not be empty"),
        ({"either": {"c": 1}}, 'spec.either: Invalid value: {"c":1}: spec.either in body must validate at least one schema (anyOf)'),
    ],
)  # fmt: skip
def test_field_errors(spec: dict[str, Any], text: str) -> None:
    given = spec if spec == {} else {"replicas": 1, **spec}
    assert [str(error) for error in validate({"spec": given}, SCHEMA, match=find)] == [text]


def test_a_right_object_has_no_errors() -> None:
    spec = {
        "replicas": 5, "color": "red", "code": "aaa", "ratio": 1.5, "tags": ["a"], "ports": [{"port": 1}, {"port": 1, "proto": "UDP"}],
        "size": "10%", "maybe": None, "when": "2026-01-02T03:04:05Z", "child": {"apiVersion": "v1", "kind": "Pod"}, "either": {"b": 1},
    }  # fmt: skip
    assert validate({"spec": spec, "metadata": {"name": "x"}}, SCHEMA, match=find) == []


def test_the_answer_made_of_field_errors() -> None:
    errors = validate({"spec": {"color": "green"}}, SCHEMA, match=find)
    answer = invalid_object("Widget", "x.io", "w", errors)
    assert answer.message == (
        'Widget.x.io "w" is invalid: [spec.replicas: Required value, '
        'spec.color: Unsupported value: "green": supported values: "red", "blue"]'
    )
    assert answer.to_status()["details"] == {
        "name": "w", "group": "x.io", "kind": "Widget",
        "causes": [
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.replicas"},
            {"reason": "FieldValueNotSupported", "message": 'Unsupported value: "green": supported values: "red", "blue"', "field": "spec.color"},
        ],
    }  # fmt: skip
    assert invalid_object("Pod", "", "p", errors[:1]).message == 'Pod "p" is invalid: spec.replicas: Required value'


@pytest.fixture(scope="module")
def table() -> SchemaTable:
    return SchemaTable()


@pytest.mark.parametrize(
    ("group", "kind", "obj", "text"),
    [
        ("", "ConfigMap", {"data": {"a": 1}}, "json: cannot unmarshal number into Go struct field ConfigMap.data.a of type string"),
        ("", "ConfigMap", {"data": ["a"]}, "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string"),
        ("", "ConfigMap", {"binaryData": {"a": "*"}}, "illegal base64 data at input byte 0"),
        ("apps", "Deployment", {"spec": {"replicas": "3"}}, "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ("apps", "Deployment", {"spec": {"replicas": 1.5}}, "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ("apps", "Deployment", {"spec": "x"}, "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec"),
        ("", "Pod", {"spec": {"containers": {}}}, "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ("", "Pod", {"spec": {"hostNetwork": "yes"}}, "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ("", "Pod", {"metadata": {"deletionTimestamp": "soon"}}, 'parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"'),
        ("", "Pod", {"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    ],
)  # fmt: skip
def test_type_errors_of_built_in_kinds(table: SchemaTable, group: str, kind: str, obj: Any, text: str) -> None:
    schema = table.kind(group, "v1", kind)
    assert schema is not None
    with pytest.raises(BadRequest) as caught:
        check_types(obj, schema, kind=kind, version=f"{group}/v1" if group else "v1")
    assert caught.value.message == f'{kind} in version "v1" cannot be handled as a {kind}: {text}'


def test_what_decodes_passes(table: SchemaTable) -> None:
    schema = table.kind("", "v1", "Pod")
    assert schema is not None
    pod = {
        "metadata": {"creationTimestamp": None, "labels": None},
        "spec": {
            "containers": [
                {
                    "name": "a",
                    "livenessProbe": {"httpGet": {"port": "http"}, "timeoutSeconds": 1},
                    "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                }
            ]
        },
        "status": {"startTime": "2026-01-02T03:04:05Z"},
    }
    check_types(pod, schema, kind="Pod", version="v1")


@pytest.mark.parametrize(
    "inner", [{"items": {"properties": {"a": 5}}}, {"items": {"required": 5}}, {"additionalProperties": {"type": 1}}]
)
def test_a_broken_schema_inside_a_schema_does_not_decode(table: SchemaTable, inner: dict[str, Any]) -> None:
    kind = "CustomResourceDefinition"
    schema = table.kind("apiextensions.k8s.io", "v1", kind)
    assert schema is not None
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": inner}}]}}
    with pytest.raises(BadRequest, match="cannot unmarshal"):
        check_types(crd, schema, kind=kind, version="apiextensions.k8s.io/v1")


POD = SchemaTable().kind("", "v1", "Pod")
ODD = st.sampled_from(
    [None, 1, -(2**40), 1.5, True, "x", "10m", "2026-01-01T00:00:00Z", {}, [], {"a": None}, ["x", None]]
)


@given(st.sampled_from(["metadata", "spec", "status", "kind"]), st.text("abcn", max_size=3), ODD)
def test_what_the_short_check_calls_plain_is_what_the_long_ones_leave_alone(part: str, name: str, odd: Any) -> None:
    pod = POD
    assert pod is not None
    container: dict[str, Any] = {"name": "c", "resources": {"limits": {"cpu": odd}}, "ports": [{"containerPort": odd}]}
    objects: list[dict[str, Any]] = [
        {"metadata": {"creationTimestamp": odd, "labels": {"a": odd}}},
        {"metadata": {"managedFields": [{"fieldsV1": {"f:x": odd}}]}, "spec": {"containers": [container]}},
        {"metadata": {}, part: {name: odd}},
        {"metadata": {}, "spec": {"containers": odd, "hostNetwork": odd, "nodeName": odd}},
    ]
    for obj in objects:
        if is_plain(obj, pod):
            check_types(obj, pod, kind="Pod", version="v1")
            assert find_unknown(obj, pod) == []
            assert prune(obj, pod, drop_null=True) == obj


def test_ordinary_objects_are_plain() -> None:
    pod = POD
    assert pod is not None
    spec = {
        "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "5"}}, "ports": [{"containerPort": 1}]}
        ]
    }
    assert is_plain({"kind": "Pod", "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}, pod)
    assert not is_plain({"metadata": {}, "spec": {"bogus": 1}}, pod)
    assert not is_plain({"metadata": {}, "spec": {"overhead": {"cpu": 1}}}, pod), "clients read a text"
