"""JSON Patch, merge patch, strategic merge patch."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.api.patch import MOST_OF_ONE_KEY, json_equal, json_patch, merge_patch, strategic_merge_patch
from skerry.api.schema import Schema, SchemaTable
from skerry.api.status import BadRequest, Invalid, TooLargeBody

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~", max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), children, max_size=3),
    max_leaves=8,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text("ab/~", max_size=2), JSON, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return value


@pytest.fixture(scope="module")
def table() -> SchemaTable:
    return SchemaTable()


@pytest.fixture(scope="module")
def pod_spec(table: SchemaTable) -> Schema:
    return table.definition("io.k8s.api.core.v1.PodSpec")


@pytest.mark.parametrize(
    ("obj", "patch", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": {"b/c": 1}}, [{"op": "remove", "path": "/a/b~1c"}], {"a": {}}),
        ({"a": {"b~c": 1}}, [{"op": "replace", "path": "/a/b~0c", "value": 2}], {"a": {"b~c": 2}}),
        ({}, [{"op": "replace", "path": "/metadata", "value": {"a": "b"}}], {"metadata": {"a": "b"}}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}),
        ({"a": 1}, [{"op": "add", "path": "", "value": {"b": 1}}], {"b": 1}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], {"a": [1]}),
    ],
)
def test_json_patch(obj: Any, patch: Any, result: Any) -> None:
    assert json_patch(obj, patch) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
        {"op": "remove", "path": "/b"},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/l/5", "value": 1},
        {"op": "add", "path": "/l/01", "value": 1},
        {"op": "replace", "path": "/l/1", "value": 1},
        {"op": "move", "from": "/a", "path": "/a/b"},
        {"op": "copy", "from": "/none", "path": "/b"},
        {"op": "jump", "path": "/a"},
        {"op": "add", "path": "b", "value": 1},
        {"op": "add", "path": "/b"},
        {"path": "/b"},
    ],
)
def test_a_json_patch_that_does_not_apply(operation: dict[str, Any]) -> None:
    obj = {"a": 1, "l": [1]}
    with pytest.raises(Invalid) as caught:
        json_patch(obj, [operation])
    assert caught.value.message == "the server rejected our request due to an error in our request"
    assert obj == {"a": 1, "l": [1]}


def test_json_patch_bounds() -> None:
    with pytest.raises(BadRequest):
        json_patch({}, {"op": "add"})
    with pytest.raises(TooLargeBody):
        json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_a_root_replacement_gives_the_value(left: Any, right: Any) -> None:
    assert json_equal(json_patch(left, [{"op": "replace", "path": "", "value": right}]), right)


@settings(max_examples=100)
@given(OBJECTS, st.text("ab/~", max_size=2), JSON)
def test_what_is_added_can_be_tested_and_removed(obj: Any, key: str, value: Any) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch(obj, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}])
    assert json_equal(added[key], value)
    removed = json_patch(added, [{"op": "remove", "path": path}])
    assert json_equal(removed, {name: child for name, child in obj.items() if name != key})


@settings(max_examples=100)
@given(OBJECTS, OBJECTS)
def test_merge_patch_is_idempotent_and_leaves_its_arguments(obj: Any, patch: Any) -> None:
    before = (repr(obj), repr(patch))
    once = merge_patch(obj, patch)
    assert json_equal(merge_patch(once, patch), once)
    assert (repr(obj), repr(patch)) == before


@settings(max_examples=100)
@given(OBJECTS)
def test_merging_into_nothing_gives_the_patch_without_nulls(patch: Any) -> None:
    assert json_equal(merge_patch({}, patch), without_nulls(patch))


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_without_a_schema_strategic_merge_is_a_merge(obj: Any, patch: Any) -> None:
    maps = {key: value for key, value in obj.items() if not isinstance(value, list)}
    merged = strategic_merge_patch(maps, patch, Schema())
    for key, value in patch.items():
        if not isinstance(value, (dict, list)):
            assert (key not in merged) if value is None else json_equal(merged[key], value)


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


def test_lists_of_objects_merge_by_key(pod_spec: Schema) -> None:
    spec = {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]}
    patch = {"containers": [{"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}]}]}
    merged = strategic_merge_patch(spec, patch, pod_spec)
    assert merged["containers"][0]["image"] == "y"
    assert names(merged["containers"][0]["env"]) == ["F", "E"]
    assert names(merged["containers"]) == ["a", "b"]
    assert spec["containers"][0]["image"] == "x"


def test_items_that_are_new_come_before_untouched_ones(pod_spec: Schema) -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    merged = strategic_merge_patch(spec, {"containers": [{"name": "n"}, {"name": "b", "image": "y"}]}, pod_spec)
    assert names(merged["containers"]) == ["n", "a", "b", "c"]


def test_the_order_directive_rules(pod_spec: Schema) -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}, {"name": "s"}]}
    patch = {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}],
        "containers": [{"name": "n"}],
    }
    merged = strategic_merge_patch(spec, patch, pod_spec)
    assert names(merged["containers"]) == ["b", "n", "a", "s"]
    bad = {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "n"}]}
    with pytest.raises(BadRequest, match="setElementOrder"):
        strategic_merge_patch(spec, bad, pod_spec)


def test_item_directives(pod_spec: Schema) -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}]}
    delete = {"containers": [{"name": "a", "$patch": "delete"}]}
    assert names(strategic_merge_patch(spec, delete, pod_spec)["containers"]) == ["b"]
    replace = {"containers": [{"$patch": "replace"}, {"name": "z"}]}
    assert names(strategic_merge_patch(spec, replace, pod_spec)["containers"]) == ["z"]
    with pytest.raises(BadRequest, match="does not contain declared merge key: name"):
        strategic_merge_patch(spec, {"containers": [{"image": "x"}]}, pod_spec)
    with pytest.raises(BadRequest, match="unknown patch type"):
        strategic_merge_patch(spec, {"containers": [{"name": "a", "$patch": "swap"}]}, pod_spec)


def test_map_directives(pod_spec: Schema) -> None:
    spec = {"securityContext": {"runAsUser": 1, "runAsGroup": 2}}
    patched = strategic_merge_patch(spec, {"securityContext": {"$patch": "replace", "runAsUser": 3}}, pod_spec)
    assert patched == {"securityContext": {"runAsUser": 3}}
    assert strategic_merge_patch(spec, {"securityContext": {"$patch": "delete"}}, pod_spec) == {"securityContext": {}}
    assert strategic_merge_patch(spec, {"securityContext": None}, pod_spec) == {}


def test_retain_keys(table: SchemaTable) -> None:
    schema = table.definition("io.k8s.api.apps.v1.DeploymentSpec")
    spec = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_merge_patch(spec, patch, schema) == {"strategy": {"type": "Recreate"}}
    with pytest.raises(BadRequest, match="retainKeys"):
        strategic_merge_patch(spec, {"strategy": {"$retainKeys": [], "type": "Recreate"}}, schema)


def test_volumes_retain_keys_inside_merged_items(pod_spec: Schema) -> None:
    spec = {"volumes": [{"name": "v", "emptyDir": {}}]}
    patch = {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}
    assert strategic_merge_patch(spec, patch, pod_spec) == {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}


def test_primitive_lists(table: SchemaTable) -> None:
    meta = table.metadata()
    obj = {"finalizers": ["a", "b"]}
    assert strategic_merge_patch(obj, {"finalizers": ["c", "a"]}, meta)["finalizers"] == ["c", "a", "b"]
    assert strategic_merge_patch(obj, {"$deleteFromPrimitiveList/finalizers": ["a"]}, meta)["finalizers"] == ["b"]
    both = {
        "$setElementOrder/finalizers": ["d", "b"],
        "$deleteFromPrimitiveList/finalizers": ["a"],
        "finalizers": ["d"],
    }
    assert strategic_merge_patch(obj, both, meta)["finalizers"] == ["d", "b"]


def test_atomic_lists_are_replaced(pod_spec: Schema) -> None:
    spec = {"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["x"]}]}
    patch = {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["y"]}]}
    assert strategic_merge_patch(spec, patch, pod_spec) == patch


def test_directives_never_reach_the_object(pod_spec: Schema) -> None:
    patch = {
        "volumes": [{"name": "v", "$retainKeys": ["name"]}],
        "nodeSelector": {"$patch": "replace", "a": "b", "$money": "kept"},
        "$setElementOrder/containers": [],
    }
    assert strategic_merge_patch({}, patch, pod_spec) == {
        "volumes": [{"name": "v"}],
        "nodeSelector": {"a": "b", "$money": "kept"},
    }


@settings(max_examples=100)
@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_merged_lists_hold_everything_once_in_both_orders(have: list[str], change: list[str]) -> None:
    schema = Schema(
        type="object",
        properties={
            "l": Schema(type="array", merge_key="name", merge_strategy=("merge",), items=Schema(type="object"))
        },
    )
    obj = {"l": [{"name": name} for name in have]}
    merged = names(strategic_merge_patch(obj, {"l": [{"name": name} for name in change]}, schema)["l"])
    assert sorted(merged) == sorted({*have, *change})
    assert [name for name in merged if name in change] == change
    assert [name for name in merged if name not in change] == [name for name in have if name not in change]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": 1, "value": 2},
        {"op": "move", "path": "/a", "from": 7},
        {"op": "copy", "path": "/a", "from": None},
    ],
)
def test_a_pointer_that_is_no_text_is_refused(operation: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        json_patch({"a": 1}, [operation])


def calls_of(obj: dict[str, Any], patch: dict[str, Any], schema: Schema) -> int:
    """How many functions run while a patch is applied."""
    count = 0

    def note(_frame: FrameType, _event: str, _argument: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        strategic_merge_patch(obj, patch, schema)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("case", ["new", "same", "reversed", "delete", "order", "primitives", "delete primitives"])
def test_the_work_of_a_merge_grows_with_the_patch_and_not_with_its_square(case: str, table: SchemaTable) -> None:
    status, meta = table.definition("io.k8s.api.core.v1.PodStatus"), table.metadata()

    def work(size: int) -> int:
        items = [{"type": f"t{number}", "status": "True"} for number in range(size)]
        texts = [f"f{number}" for number in range(size)]
        obj: dict[str, Any] = {"conditions": items}
        match case:
            case "new":
                return calls_of({}, {"conditions": items}, status) + calls_of({"conditions": []}, obj, status)
            case "same":
                return calls_of(obj, {"conditions": items}, status)
            case "reversed":
                return calls_of(obj, {"conditions": items[::-1]}, status)
            case "delete":
                gone = [{"type": item["type"], "$patch": "delete"} for item in items]
                return calls_of(obj, {"conditions": gone}, status)
            case "order":
                order = [{"type": item["type"]} for item in items]
                return calls_of(obj, {"$setElementOrder/conditions": order, "conditions": items[::2]}, status)
            case "primitives":
                return calls_of({"finalizers": texts}, {"finalizers": texts[::-1]}, meta)
            case _:
                return calls_of({"finalizers": texts}, {"$deleteFromPrimitiveList/finalizers": texts}, meta)

    assert work(400) < 2.5 * work(200)


def test_an_item_named_twice_is_merged_twice(table: SchemaTable) -> None:
    status = table.definition("io.k8s.api.core.v1.PodStatus")
    twice = [{"type": "a", "status": "True"}, {"type": "b"}, {"type": "a", "reason": "R"}]
    merged = strategic_merge_patch(
        {"conditions": [{"type": "b"}, {"type": "b", "x": 1}]}, {"conditions": twice}, status
    )
    both = {"type": "a", "status": "True", "reason": "R"}
    assert merged == {"conditions": [both, {"type": "b"}, {"type": "b", "x": 1}]}


def test_an_item_named_all_over_again_is_refused(table: SchemaTable) -> None:
    status = table.definition("io.k8s.api.core.v1.PodStatus")
    again = [{"type": "a"}] * (MOST_OF_ONE_KEY + 2)
    with pytest.raises(Invalid, match='at most 16 times: type "a"'):
        strategic_merge_patch({"conditions": []}, {"conditions": again}, status)
