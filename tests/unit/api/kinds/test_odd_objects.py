"""Objects that decode but make no sense: rules answer with field errors and never fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.api import gvk
from skerry.api.crds import custom_kinds
from skerry.api.gvk import Object, Resource
from skerry.api.kinds.rules import Rules
from skerry.api.schema import Schema, SchemaTable, prune
from skerry.api.table import table_rows

CUSTOM = {kind.group for kind in custom_kinds()}
MADE = {gvk.NODEMETRICS.group}
"""Groups whose objects nobody writes."""
KINDS = [item for item in vars(gvk).values() if isinstance(item, Resource) and item.group not in CUSTOM | MADE]


@pytest.fixture(scope="module")
def table() -> SchemaTable:
    return SchemaTable()


def draw(data: st.DataObject, schema: Schema, depth: int) -> Any:
    """Some value that decodes into the schema's type."""
    if schema.int_or_string or schema.quantity:
        return data.draw(st.sampled_from([0, 1, -1, "1", "50%" if schema.int_or_string else "1Gi"]))
    if schema.type == "object" or schema.properties:
        names = data.draw(st.lists(st.sampled_from(sorted(schema.properties)), max_size=5)) if schema.properties else []
        found = {name: draw(data, schema.properties[name], depth - 1) for name in names if depth > 0}
        if schema.additional is not None and depth > 0:
            found["key"] = draw(data, schema.additional, depth - 1)
        return found
    if schema.type == "array":
        count = data.draw(st.integers(0, 2)) if depth > 0 else 0
        return [draw(data, schema.items, depth - 1) if schema.items else None for _ in range(count)]
    if schema.type == "integer":
        return data.draw(st.sampled_from([0, 1, -1, 70000]))
    if schema.type == "boolean":
        return data.draw(st.booleans())
    if schema.format == "date-time":
        return "2026-01-02T03:04:05Z"
    return data.draw(st.sampled_from(["", "a", "A b", "None", "Always"])) if schema.type == "string" else {}


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: resource.group_resource)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rules_and_tables_stand_odd_objects(table: SchemaTable, resource: Any, data: st.DataObject) -> None:
    schema = table.kind(resource.group, resource.version, resource.kind)
    assert schema is not None
    rules = Rules()
    obj: Object = prune(draw(data, schema, 6), schema, drop_null=True)
    old: Object = prune(draw(data, schema, 6), schema, drop_null=True)
    table_rows(resource, [obj], now_s=0.0)
    rules.default(resource.group, resource.kind, obj)
    rules.default(resource.group, resource.kind, old)
    for error in rules.validate_create(resource.group, resource.kind, obj):
        assert error.message and error.reason.startswith("FieldValue")
    rules.validate_update(resource.group, resource.kind, obj, old)
    assert table_rows(resource, [obj], now_s=0.0)[0]["cells"]
