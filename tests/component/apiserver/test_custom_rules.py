"""Rules of custom resources: refused at the definition, run at every write."""

from __future__ import annotations

from typing import Any

import pytest
from tests.component.apiserver.custom_kit import CRDS, define, definition

GIZMOS = "/apis/q.io/v1/namespaces/default/gizmos"
MERGE = "application/merge-patch+json"


def schema(*rules: dict[str, Any], **properties: Any) -> dict[str, Any]:
    spec = {"type": "object", "x-kubernetes-validations": list(rules), "properties": properties}
    return {"type": "object", "properties": {"spec": spec}}


def gizmo(called: str = "g", /, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "q.io/v1", "kind": "Gizmo", "metadata": {"name": called}, "spec": spec}


INT, TEXT = {"type": "integer"}, {"type": "string"}


async def test_rules_run_on_every_write(site: Any, api: Any) -> None:
    far = "self.high > 150 ? 'high is far too high' : 'high is too high'"
    rules = (
        {"rule": "self.low <= self.high", "message": "low must not be above high", "fieldPath": ".low"},
        {"rule": "self.high < 100", "messageExpression": far, "reason": "FieldValueForbidden"},
        {"rule": "!has(self.name) || self.name == oldSelf.name", "message": "name is immutable"},
        {"rule": "oldSelf.hasValue() || self.low == 0", "optionalOldSelf": True, "message": "must start at 0"},
    )  # fmt: skip
    name = TEXT | {"x-kubernetes-validations": [{"rule": "self.startsWith('g')"}]}
    await define(site, api, definition(schema(*rules, low=INT, high=INT, name=name)))
    status, answer = await api.ask("POST", GIZMOS, gizmo(low=5, high=3, name="x"))
    assert status == 422
    assert [(c["field"], c["reason"], c["message"]) for c in answer["details"]["causes"]] == [
        ("spec.low", "FieldValueInvalid", "Invalid value: low must not be above high"),
        ("spec", "FieldValueInvalid", "Invalid value: must start at 0"),
        ("spec.name", "FieldValueInvalid", "Invalid value: \"x\": failed rule: self.startsWith('g')"),
    ]
    status, answer = await api.ask("POST", GIZMOS, gizmo(low=0, high=200))
    assert (status, answer["details"]["causes"][0]["message"]) == (422, "Forbidden: high is far too high")
    assert (await api.ask("POST", GIZMOS, gizmo(low=0, high=3, name="g1")))[0] == 201
    status, answer = await api.ask("PATCH", f"{GIZMOS}/g", {"spec": {"name": "g2"}}, kind=MERGE)
    assert (status, answer["details"]["causes"][0]["message"]) == (422, "Invalid value: name is immutable")
    assert (await api.ask("PATCH", f"{GIZMOS}/g", {"spec": {"low": 2}}, kind=MERGE))[0] == 200


async def test_a_rule_that_fails_while_running_says_so(site: Any, api: Any) -> None:
    await define(site, api, definition(schema({"rule": "self.a / self.b > 1"}, a=INT, b=INT)))
    status, answer = await api.ask("POST", GIZMOS, gizmo(a=1, b=0))
    assert status == 422
    assert answer["details"]["causes"][0]["message"] == (
        'Invalid value: "object": division by zero evaluating rule: self.a / self.b > 1'
    )


async def test_a_rule_that_costs_too_much_is_stopped(site: Any, api: Any) -> None:
    items = {"type": "array", "items": INT}
    rule = {"rule": "self.items.all(a, self.items.all(b, self.items.all(c, a + b + c > 0)))"}
    status, answer = await api.ask("POST", CRDS, definition(schema(rule, items=items)))
    assert status == 422
    cause = answer["details"]["causes"][0]
    assert cause["field"] == "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    assert cause["message"].startswith("Forbidden: estimated rule cost exceeds budget by factor of more than 100x")
    await define(site, api, definition(schema(rule, items=items | {"maxItems": 85})))
    status, answer = await api.ask("POST", GIZMOS, gizmo(items=[1] * 85))
    assert status == 422
    assert "no further validation rules will be run due to call cost exceeds limit" in answer["message"]


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"rule": "self.nope > 1"}, "rule", "undefined field 'nope'"),
        ({"rule": "self.a"}, "rule", "must evaluate to bool"),
        ({"rule": "self.a > 'x'"}, "rule", "found no matching overload for '_>_' applied to '(int, string)'"),
        ({"rule": "math.greatest(self.a, 1) > 1"}, "rule", "undeclared reference to 'math.greatest'"),
        ({"rule": ""}, "rule", "rule is not specified"),
        ({"rule": "self.a > 1", "messageExpression": "self.a"}, "messageExpression", "must evaluate to string"),
        ({"rule": "self.a > 1", "fieldPath": ".nope"}, "fieldPath", "does not refer to a valid field"),
        ({"rule": "self.a > 1", "reason": "Because"}, "reason", "Unsupported value"),
        ({"rule": "self.a > 1", "optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used"),
        ({"rule": "self.a > 1 &&\nself.a < 3"}, "message", "must be specified if rule contains line breaks"),
    ],
)
async def test_rules_that_cannot_run_are_refused_with_the_definition(
    api: Any, rule: dict[str, Any], field: str, text: str
) -> None:
    status, answer = await api.ask("POST", CRDS, definition(schema(rule, a=INT)))
    assert status == 422, answer
    cause = answer["details"]["causes"][0]
    path = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]"
    assert (cause["field"], text in cause["message"]) == (f"{path}.{field}", True), cause


async def test_old_values_are_unknown_inside_of_plain_lists(site: Any, api: Any) -> None:
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": TEXT, "size": INT},
        "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "may only grow"}],
    }
    plain = definition(schema(list={"type": "array", "items": item}))
    status, answer = await api.ask("POST", CRDS, plain)
    assert status == 422
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema" in answer["message"]
    keyed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    await define(site, api, definition(schema(list=keyed)))
    assert (await api.ask("POST", GIZMOS, gizmo(list=[{"name": "a", "size": 2}])))[0] == 201
    both = {"spec": {"list": [{"name": "b", "size": 0}, {"name": "a", "size": 1}]}}
    status, answer = await api.ask("PATCH", f"{GIZMOS}/g", both, kind=MERGE)
    assert [c["field"] for c in answer["details"]["causes"]] == ["spec.list[1]"]


async def test_a_tightened_schema_leaves_what_does_not_change(site: Any, api: Any) -> None:
    await define(site, api, definition(schema(color=TEXT, size=INT)))
    assert (await api.ask("POST", GIZMOS, gizmo(color="green", size=1)))[0] == 201
    colors = TEXT | {"enum": ["red"], "x-kubernetes-validations": [{"rule": "self.size() == 3"}]}
    await define(site, api, definition(schema(color=colors, size=INT | {"maximum": 5})), is_new=False)
    assert (await api.ask("PATCH", f"{GIZMOS}/g", {"spec": {"size": 2}}, kind=MERGE))[0] == 200
    status, answer = await api.ask("PATCH", f"{GIZMOS}/g", {"spec": {"color": "blue"}}, kind=MERGE)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.color")


async def test_defaults_must_be_valid(api: Any) -> None:
    broken = schema(size=INT | {"default": 9, "maximum": 5}, part={"type": "object", "default": {"x": 1}})
    status, answer = await api.ask("POST", CRDS, definition(broken))
    assert status == 422
    path = "spec.validation.openAPIV3Schema.properties[spec].properties"
    assert {c["field"] for c in answer["details"]["causes"]} == {f"{path}[size].default", f"{path}[part].default"}


async def test_formats_are_read_and_odd_names_are_escaped(site: Any, api: Any) -> None:
    rules = (
        {"rule": "self.until > self.since && self.wait < duration('1h')"},
        {"rule": "self.__dash__x == 1 && self.__in__ == 2 && self.a__dot__b == 3"},
        {"rule": "self.ratio > 0.5 && self.port == 80 || self.port == 'http'"},
        {"rule": "self.tags == ['b', 'a']"},
    )
    properties = {
        "since": TEXT | {"format": "date-time"},
        "until": TEXT | {"format": "date-time"},
        "wait": TEXT | {"format": "duration"},
        "-x": INT,
        "in": INT,
        "a.b": INT,
        "ratio": {"type": "number"},
        "port": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
    }
    status, answer = await api.ask("POST", CRDS, definition(schema({"rule": "self.__dash__x == 1"}, **properties)))
    assert status == 422, answer  # a name that starts with a dash cannot be written in an expression
    del properties["-x"]
    properties["x-y"] = INT
    rules[1]["rule"] = "self.x__dash__y == 1 && self.__in__ == 2 && self.a__dot__b == 3"
    await define(site, api, definition(schema(*rules, **properties)))
    spec = {
        "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00+00:00", "wait": "59m", "x-y": 1, "in": 2,
        "a.b": 3, "ratio": 1, "port": 80, "tags": ["a", "b"],
    }  # fmt: skip
    status, answer = await api.ask("POST", GIZMOS, gizmo(**spec))
    assert status == 201, answer
    status, answer = await api.ask("POST", GIZMOS, gizmo("h", **{**spec, "wait": "2h", "tags": ["a"]}))
    assert len(answer["details"]["causes"]) == 2
