"""Walks over schemas: unknown fields, pruning, defaults; compiling structural schemas."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.schema import SchemaTable, apply_defaults, drop_nulls, find_unknown, prune
from skerry.api.structural import compile_structural, structural_errors

WIDGET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "default": 3},
                "mood": {"type": "string", "nullable": True, "default": "calm"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "parts": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"kind": {"type": "string", "default": "bolt"}}},
                },
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "child": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"spec": {"type": "object"}},
                },
            },
        }
    },
}


@pytest.fixture(scope="module")
def table() -> SchemaTable:
    return SchemaTable()


def test_unknown_fields_come_in_document_order(table: SchemaTable) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "zzz": 1,
        "metadata": {"name": "a", "lables": {}, "labels": {"any": "thing"}},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "imag": "x", "ports": [{"containerport": 1}]}]},
    }
    schema = table.kind("", "v1", "Pod")
    assert schema is not None
    assert find_unknown(pod, schema) == [
        "zzz", "metadata.lables", "spec.containers[1].imag", "spec.containers[1].ports[0].containerport",
    ]  # fmt: skip


def test_free_places_know_no_unknown_field(table: SchemaTable) -> None:
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {"a": {"default": {"x": [1]}}}}}}]}}
    schema = table.kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    assert schema is not None
    assert find_unknown(crd, schema) == []
    assert prune(crd, schema) == crd
    revision = table.kind("apps", "v1", "ControllerRevision")
    assert revision is not None
    assert find_unknown({"data": {"spec": {"template": {}}}}, revision) == []
    slot = {"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:a": {}}}}]}}
    assert find_unknown(slot, revision) == []


def test_pruning_a_built_in_kind_drops_unknown_and_null(table: SchemaTable) -> None:
    schema = table.kind("", "v1", "ConfigMap")
    assert schema is not None
    given = {"kind": "ConfigMap", "bogus": 1, "metadata": {"creationTimestamp": None}, "data": {"a": None, "b": "x"}}
    assert prune(given, schema, drop_null=True) == {"kind": "ConfigMap", "metadata": {}, "data": {"a": "", "b": "x"}}
    assert given["bogus"] == 1


def test_pruning_a_custom_resource() -> None:
    schema = compile_structural(WIDGET)
    given = {
        "apiVersion": "x/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "labels": {"a": "b"}},
        "top": 1,
        "spec": {
            "bogus": 1,
            "free": {"any": {"thing": 1}},
            "labels": {"a": "b"},
            "child": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"drop": 1}, "drop": 1},
        },
    }
    assert sorted(find_unknown(given, schema)) == ["spec.bogus", "spec.child.drop", "spec.child.spec.drop", "top"]
    pruned = prune(given, schema)
    assert pruned["spec"] == {
        "free": {"any": {"thing": 1}},
        "labels": {"a": "b"},
        "child": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}},
    }
    assert pruned["metadata"]["labels"] == {"a": "b"}
    assert "top" not in pruned


def test_defaults_reach_into_lists_and_replace_forbidden_nulls() -> None:
    schema = compile_structural(WIDGET)
    obj = apply_defaults({"spec": {"size": None, "mood": None, "parts": [{}, {"kind": "nut"}]}}, schema)
    assert obj["spec"] == {"size": 3, "mood": None, "parts": [{"kind": "bolt"}, {"kind": "nut"}]}
    assert apply_defaults({}, schema) == {}


def test_defaults_are_copies() -> None:
    schema = compile_structural({"type": "object", "properties": {"list": {"type": "array", "default": []}}})
    first = apply_defaults({}, schema)
    first["list"].append(1)
    assert apply_defaults({}, schema) == {"list": []}


def test_a_structural_schema_has_no_errors() -> None:
    assert structural_errors(WIDGET) == []


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"type": "object", "properties": {"spec": {"type": "object", "properties": {"any": {}}}}},
            "spec.validation.openAPIV3Schema.properties[spec].properties[any].type: Required value: "
            "must not be empty for specified object fields",
        ),
        (
            {"properties": {}},
            "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array"}}},
            "spec.validation.openAPIV3Schema.properties[a].items: Required value: must be specified",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "text"}}},
            'spec.validation.openAPIV3Schema.properties[a].type: Unsupported value: "text": supported values: '
            '"array", "boolean", "integer", "number", "object", "string"',
        ),
        (
            {"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}},
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than "
            "name and generateName, but metadata is implicitly specified",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}},
            "spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Required value: "
            "must not be empty if x-kubernetes-list-type is map",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
            "spec.validation.openAPIV3Schema.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
    ],
)  # fmt: skip
def test_structural_errors(schema: dict[str, Any], text: str) -> None:
    assert [str(error) for error in structural_errors(schema)] == [text]


def test_int_or_string_may_say_anyof() -> None:
    place = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert structural_errors({"type": "object", "properties": {"a": place}}) == []


def test_nulls_go_where_none_is_allowed() -> None:
    schema = compile_structural(WIDGET)
    given = {
        "spec": {"size": None, "mood": None, "free": {"a": None}, "parts": [{"kind": None}], "labels": {"a": None}}
    }
    assert drop_nulls(given, schema) == {"spec": {"mood": None, "free": {"a": None}, "parts": [{}], "labels": {}}}


def test_null_in_a_list_of_structs_is_an_empty_struct(table: SchemaTable) -> None:
    schema = table.kind("", "v1", "Pod")
    assert schema is not None
    pruned = prune({"spec": {"containers": [None, {"name": "a", "args": [None]}]}}, schema, drop_null=True)
    assert pruned == {"spec": {"containers": [{}, {"name": "a", "args": [""]}]}}


def test_schemas_inside_schemas_are_known(table: SchemaTable) -> None:
    schema = table.kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    assert schema is not None
    inner = {"items": {"type": "object", "bogus": 1}, "additionalProperties": True}
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": inner}}]}}
    assert find_unknown(crd, schema) == ["spec.versions[0].schema.openAPIV3Schema.items.bogus"]


def test_a_quantity_that_is_a_number_becomes_a_text(table: SchemaTable) -> None:
    schema = table.kind("", "v1", "Pod")
    assert schema is not None
    limits = {"cpu": 3, "memory": "2000Mi", "example.com/part": 0.5}
    given = {"spec": {"containers": [{"name": "a", "resources": {"limits": limits}}], "overhead": {"cpu": 1}}}
    pruned = prune(given, schema, drop_null=True)
    assert pruned["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "3",
        "memory": "2000Mi",
        "example.com/part": "500m",
    }
    assert pruned["spec"]["overhead"] == {"cpu": "1"}
