"""The generated table of built-in definitions."""

from __future__ import annotations

import base64
import importlib.util
import json
import zlib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skerry.api.schema import SchemaTable
from skerry.api.schema_table import DEFINITIONS, RELEASE


@pytest.fixture(scope="module")
def table() -> SchemaTable:
    return SchemaTable()


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = Path(__file__).parents[3] / "tools/gen_schema.py"
    spec = importlib.util.spec_from_file_location("gen_schema", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_table_is_what_the_generator_writes(generator: ModuleType) -> None:
    assert generator.RELEASE == RELEASE
    committed = json.loads(zlib.decompress(base64.b64decode(DEFINITIONS)))
    assert committed == generator.definitions()


def test_nothing_that_matters_was_lost(table: SchemaTable) -> None:
    counts: Counter[str] = Counter()

    def count(value: Any) -> None:
        if isinstance(value, dict):
            counts.update(value.keys())
            for child in value.values():
                count(child)

    count(table.raw())
    assert len(table.raw()) == 771
    assert counts["x-kubernetes-list-type"] == 408  # one of them is a property of JSONSchemaProps
    assert counts["x-kubernetes-list-map-keys"] == 81
    assert counts["x-kubernetes-patch-merge-key"] == 68
    assert counts["x-kubernetes-group-version-kind"] == 193


def test_a_kind_is_found_by_its_names(table: SchemaTable) -> None:
    pod = table.kind("", "v1", "Pod")
    assert pod is not None and pod.definition == "io.k8s.api.core.v1.Pod"
    assert table.kind("", "v1", "Pot") is None
    assert table.name_of("apps", "v1", "Deployment") == "io.k8s.api.apps.v1.Deployment"


def test_lists_know_how_they_merge(table: SchemaTable) -> None:
    container = table.definition("io.k8s.api.core.v1.Container")
    ports = container.properties["ports"]
    assert ports.merge_key == "containerPort" and "merge" in ports.merge_strategy
    assert ports.list_map_keys == ("containerPort", "protocol")
    spec = table.definition("io.k8s.api.apps.v1.DeploymentSpec")
    assert spec.properties["strategy"].merge_strategy == ("retainKeys",)
    assert spec.properties["strategy"].properties["rollingUpdate"].type == "object"
    assert table.definition("io.k8s.api.apps.v1.DeploymentStrategy").merge_strategy == ()


def test_a_definition_may_contain_itself(table: SchemaTable) -> None:
    props = table.definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    assert props.properties["not"] is props
    assert props.properties["properties"].additional is props


def test_the_closure_is_complete_and_points_at_components(table: SchemaTable) -> None:
    closure = table.definitions_closure(["io.k8s.api.apps.v1.Deployment"])
    text = json.dumps(closure)
    refs = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert refs <= closure.keys()
    assert closure["io.k8s.api.core.v1.Container"]["properties"]["name"] == {"type": "string"}
    assert closure["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
    assert '"null"' not in text
