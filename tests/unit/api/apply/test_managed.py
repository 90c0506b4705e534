"""Server-side apply on objects of real kinds: ownership, conflicts, pruning, and the way from client-side apply."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.apply.managed import (
    LAST_APPLIED,
    ApplyConflict,
    Writer,
    apply_config,
    base_entries,
    track_create,
    track_update,
)
from skerry.api.apply.typed import NotTyped, all_fields, compare, merge
from skerry.api.schema import SchemaTable
from skerry.api.structural import compile_structural
from skerry.base import json

TABLE = SchemaTable()
MAP = TABLE.kind("", "v1", "ConfigMap")
SERVICE = TABLE.kind("", "v1", "Service")
DEPLOYMENT = TABLE.kind("apps", "v1", "Deployment")
assert MAP is not None and SERVICE is not None and DEPLOYMENT is not None
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def applier(name: str = "a", version: str = "v1") -> Writer:
    return Writer(name, "Apply", version)


def updater(name: str, version: str = "v1", subresource: str = "") -> Writer:
    return Writer(name, "Update", version, subresource)


def data(**values: str) -> dict[str, Any]:
    return {"metadata": {"name": "m"}, "data": values}


def fields(entries: list[dict[str, Any]], manager: str) -> Any:
    found = [entry["fieldsV1"] for entry in entries if entry["manager"] == manager]
    return found[0] if found else None


def web(image: str = "nginx:1", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image, **more}]}}},
    }


def test_an_applied_object_is_owned_field_by_field() -> None:
    applied = apply_config({}, web(), DEPLOYMENT, applier(version="apps/v1"), entries=[], now=NOW)
    assert applied.obj == web()
    assert applied.managed == [
        {
            "manager": "a",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:template": {
                        "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:name": {}}}}
                    }
                },
            },
        }
    ]


def test_what_is_no_longer_applied_goes() -> None:
    first = apply_config({}, data(a="1", b="2"), MAP, applier(), entries=[], now=NOW)
    second = apply_config(first.obj, data(a="1"), MAP, applier(), entries=first.managed, now=LATER)
    assert second.obj["data"] == {"a": "1"}
    assert fields(second.managed, "a") == {"f:data": {"f:a": {}}}
    assert second.managed[0]["time"] == LATER
    third = apply_config(second.obj, data(a="1"), MAP, applier(), entries=second.managed, now="x")
    assert (third.obj, third.managed) == (second.obj, second.managed)


def test_what_others_own_or_nobody_owns_stays() -> None:
    first = apply_config({}, data(a="1", b="2"), MAP, applier(), entries=[], now=NOW)
    shared = apply_config(first.obj, data(b="2"), MAP, applier("b"), entries=first.managed, now=NOW)
    live = {**shared.obj, "data": {**shared.obj["data"], "c": "unowned"}}
    last = apply_config(live, data(), MAP, applier(), entries=shared.managed, now=LATER)
    assert last.obj["data"] == {"b": "2", "c": "unowned"}
    assert [entry["manager"] for entry in last.managed] == ["b", "a"]


def test_a_conflict_names_the_manager_and_the_field() -> None:
    created = track_create(data(a="1", b="2"), MAP, updater("curl"), now=NOW)
    with pytest.raises(ApplyConflict) as one:
        apply_config(data(a="1", b="2"), data(a="9"), MAP, applier(), entries=created, now=LATER)
    assert one.value.message == 'Apply failed with 1 conflict: conflict with "curl" using v1: .data.a'
    assert one.value.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "curl" using v1', "field": ".data.a"}]
    }
    assert (one.value.code, one.value.reason) == (409, "Conflict")
    with pytest.raises(ApplyConflict) as two:
        apply_config(data(a="1", b="2"), data(a="9", b="9"), MAP, applier(), entries=created, now=LATER)
    assert two.value.message == ('Apply failed with 2 conflicts: conflicts with "curl" using v1:\n- .data.a\n- .data.b')


def test_force_takes_the_field_and_the_same_value_shares_it() -> None:
    created = track_create(data(a="1", b="2"), MAP, updater("curl"), now=NOW)
    shared = apply_config(data(a="1", b="2"), data(a="1"), MAP, applier(), entries=created, now=LATER)
    assert fields(shared.managed, "curl")["f:data"] == {".": {}, "f:a": {}, "f:b": {}}
    taken = apply_config(shared.obj, data(a="9"), MAP, applier("b"), entries=shared.managed, now=LATER, force=True)
    assert taken.obj["data"] == {"a": "9", "b": "2"}
    assert fields(taken.managed, "a") is None
    assert fields(taken.managed, "curl")["f:data"] == {".": {}, "f:b": {}}


def test_items_of_keyed_lists_are_owned_one_by_one() -> None:
    first = apply_config({}, web(), DEPLOYMENT, applier(), entries=[], now=NOW)
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:1"}]}}}, "metadata": {}}
    both = apply_config(first.obj, sidecar, DEPLOYMENT, applier("mesh"), entries=first.managed, now=NOW)
    names = [item["name"] for item in both.obj["spec"]["template"]["spec"]["containers"]]
    assert names == ["web", "log"]
    less = apply_config(both.obj, {"metadata": {}}, DEPLOYMENT, applier("mesh"), entries=both.managed, now=NOW)
    assert less.obj == first.obj
    assert less.managed == first.managed


def test_a_default_of_a_list_key_makes_the_same_item() -> None:
    def service(**port: Any) -> dict[str, Any]:
        return {"metadata": {}, "spec": {"ports": [port]}}

    first = apply_config({}, service(port=80, targetPort=8080), SERVICE, applier(), entries=[], now=NOW)
    stored = service(port=80, targetPort=8080, protocol="TCP")
    second = apply_config(stored, service(port=80, targetPort=9090), SERVICE, applier(), entries=first.managed, now=NOW)
    assert second.obj["spec"]["ports"] == [{"port": 80, "targetPort": 9090, "protocol": "TCP"}]


def test_two_items_of_one_key_are_refused() -> None:
    config = {"metadata": {}, "spec": {"ports": [{"port": 80}, {"port": 80, "name": "b"}]}}
    with pytest.raises(NotTyped, match="duplicate entries for key"):
        apply_config({"metadata": {}, "spec": {"ports": [{"port": 1}]}}, config, SERVICE, applier(), entries=[], now="")


def test_sets_and_atomic_lists() -> None:
    first = apply_config({}, {"metadata": {"finalizers": ["x/a"]}}, MAP, applier(), entries=[], now=NOW)
    more = apply_config(
        first.obj, {"metadata": {"finalizers": ["x/b"]}}, MAP, applier("b"), entries=first.managed, now=NOW
    )
    assert more.obj["metadata"]["finalizers"] == ["x/a", "x/b"]
    less = apply_config(more.obj, {"metadata": {}}, MAP, applier(), entries=more.managed, now=NOW)
    assert less.obj["metadata"]["finalizers"] == ["x/b"]
    commands = apply_config({}, web(command=["a", "b"]), DEPLOYMENT, applier(), entries=[], now=NOW)
    with pytest.raises(ApplyConflict, match="command"):
        apply_config(commands.obj, web(command=["c"]), DEPLOYMENT, applier("b"), entries=commands.managed, now=NOW)


def test_custom_resources_follow_the_list_types_of_their_schema() -> None:
    item = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "v": {"type": "string"}}}
    keyed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    raw = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {
                    "keyed": keyed,
                    "plain": {"type": "array", "items": {"type": "string"}},
                    "whole": {
                        "type": "object",
                        "x-kubernetes-map-type": "atomic",
                        "additionalProperties": {"type": "string"},
                    },
                },
            }
        },
    }
    schema = compile_structural(raw)

    def obj(**spec: Any) -> dict[str, Any]:
        return {"metadata": {}, "spec": spec}

    config = obj(keyed=[{"name": "x", "v": "1"}], plain=["p"], whole={"a": "1"}, free={"deep": {"er": 1}})
    first = apply_config({}, config, schema, applier(), entries=[], now=NOW)
    assert fields(first.managed, "a") == {
        "f:spec": {
            "f:keyed": {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:v": {}}},
            "f:plain": {},
            "f:whole": {},
            "f:free": {".": {}, "f:deep": {".": {}, "f:er": {}}},
        }
    }
    other = obj(keyed=[{"name": "y", "v": "2"}], whole={"b": "2"})
    with pytest.raises(ApplyConflict, match=r"\.spec\.whole"):
        apply_config(first.obj, other, schema, applier("b"), entries=first.managed, now=NOW)
    forced = apply_config(first.obj, other, schema, applier("b"), entries=first.managed, now=NOW, force=True)
    assert forced.obj["spec"]["whole"] == {"b": "2"}
    assert [one["name"] for one in forced.obj["spec"]["keyed"]] == ["x", "y"]


def test_an_update_takes_what_it_changes_and_frees_what_it_removes() -> None:
    created = track_create(data(a="1", b="2"), MAP, updater("one"), now=NOW)
    old, new = data(a="1", b="2"), data(a="9", c="3")
    entries = track_update(old, new, MAP, updater("two"), entries=created, now=LATER)
    assert fields(entries, "one") == {"f:data": {}}
    assert fields(entries, "two") == {"f:data": {"f:a": {}, "f:c": {}}}
    assert track_update(new, new, MAP, updater("three"), entries=entries, now="x") == entries


def test_a_write_to_status_has_its_own_entry() -> None:
    created = track_create(web(), DEPLOYMENT, updater("kubectl", "apps/v1"), now=NOW, hidden=("status",))
    status = {**web(), "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}
    entries = track_update(
        web(), status, DEPLOYMENT, updater("loop", "apps/v1", "status"), entries=created, now=LATER, hidden=("spec",)
    )
    assert entries[-1]["subresource"] == "status"
    assert entries[-1]["fieldsV1"]["f:status"] == {
        "f:conditions": {".": {}, 'k:{"type":"Available"}': {".": {}, "f:status": {}, "f:type": {}}},
        "f:replicas": {},
    }
    config = {"metadata": {}, "status": {"replicas": 5}}
    with pytest.raises(ApplyConflict, match='conflict with "loop" with subresource "status" using apps/v1'):
        apply_config(status, config, DEPLOYMENT, Writer("x", "Apply", "apps/v1", "status"), entries=entries, now=LATER)


def test_objects_from_before_ownership_get_an_entry_at_their_first_apply() -> None:
    live = data(a="1", b="2")
    assert track_update(live, data(a="2"), MAP, updater("x"), entries=[], now=NOW) == []
    applied = apply_config(live, data(a="1"), MAP, applier(), entries=[], now=NOW)
    assert [entry["manager"] for entry in applied.managed] == ["a", "before-first-apply"]
    with pytest.raises(ApplyConflict, match='"before-first-apply" using v1'):
        apply_config(live, data(a="7"), MAP, applier(), entries=[], now=NOW)


def test_kubectl_takes_over_what_client_side_apply_wrote() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", **data(a="1", b="2")}
    live = data(a="1", b="2")
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(config).decode()}
    created = track_create(live, MAP, updater("kubectl-client-side-apply"), now=NOW)
    with pytest.raises(ApplyConflict):
        apply_config(live, data(a="9", b="2"), MAP, applier("other"), entries=created, now=LATER)
    taken = apply_config(live, data(a="9", b="2"), MAP, applier("kubectl"), entries=created, now=LATER)
    assert taken.obj["data"] == {"a": "9", "b": "2"}
    assert json.loads(taken.obj["metadata"]["annotations"][LAST_APPLIED])["data"] == {"a": "9", "b": "2"}
    changed = {**live, "data": {"a": "by hand", "b": "2"}}
    entries = track_update(live, changed, MAP, updater("hand"), entries=created, now=LATER)
    with pytest.raises(ApplyConflict, match='"hand"'):
        apply_config(changed, data(a="9"), MAP, applier("kubectl"), entries=entries, now=LATER)


def test_the_oldest_updaters_share_one_entry() -> None:
    obj: dict[str, Any] = data()
    entries = track_create(obj | {"data": {"k": "v"}}, MAP, updater("m00"), now="2026-01-01T00:00:00Z")
    for number in range(1, 15):
        new = {**obj, "data": {**obj["data"], f"k{number}": "v"}}
        moment = f"2026-01-01T00:00:{number:02}Z"
        entries = track_update(obj, new, MAP, updater(f"m{number:02}"), entries=entries, now=moment)
        obj = new
    assert len(entries) == 10
    assert {"f:k1", "f:k2"} <= set(fields(entries, "ancient-changes")["f:data"])
    assert fields(entries, "m14") == {"f:data": {"f:k14": {}}}


def test_clients_may_set_or_drop_the_entries_but_not_break_them() -> None:
    stored = track_create(data(a="1"), MAP, updater("one"), now=NOW)
    sent = [{**stored[0], "manager": "two"}]
    assert base_entries(sent, stored, is_subresource=False) == sent
    assert base_entries(sent, stored, is_subresource=True) == stored
    assert base_entries(None, stored, is_subresource=False) == stored
    for reset in ([], [{}]):
        assert base_entries(reset, stored, is_subresource=False) == []
    for bad in ([{**stored[0], "fieldsV1": {"x": 1}}], [{"manager": "x"}], "text", [{**stored[0], "fieldsType": ""}]):
        assert base_entries(bad, stored, is_subresource=False) == stored


def test_merging_keeps_the_order_of_the_configuration_and_the_place_of_others() -> None:
    finalizers = TABLE.metadata().properties["finalizers"]
    assert merge(["a", "b", "c"], ["c", "a"], finalizers) == ["b", "c", "a"]
    assert merge(["a", "b", "c"], ["d", "c"], finalizers) == ["a", "b", "d", "c"]
    assert merge(["a", "b"], ["a", "b", "c"], finalizers) == ["a", "b", "c"]
    assert merge([], ["x"], finalizers) == ["x"]


def test_a_change_of_type_or_to_empty_is_seen() -> None:
    old: dict[str, Any] = {"spec": {"a": {"b": 1}}}
    assert compare(old, {"spec": {"a": 3}}, None).changed == {"f:spec": {"f:a": {}}}
    assert compare(old, {"spec": {"a": 3}}, None).removed == {"f:spec": {"f:a": {"f:b": {}}}}
    assert compare(old, {"spec": {}}, None).changed == {}
    assert compare({"spec": {}}, old, None).changed == {"f:spec": {"f:a": {".": {}, "f:b": {}}}}


VALUES = st.recursive(
    st.sampled_from([1, "x", True, {}, []]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "spec", "name"]), below),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "data", "x"]), VALUES))
def test_the_short_walk_over_new_objects_finds_what_comparing_finds(obj: dict[str, Any]) -> None:
    for schema in (None, MAP, DEPLOYMENT):
        assert all_fields(obj, schema) == compare({}, obj, schema).changed
    assert all_fields(web(), DEPLOYMENT) == compare({}, web(), DEPLOYMENT).changed
