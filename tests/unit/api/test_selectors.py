"""Label and field selectors."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.api import gvk
from skerry.api.gvk import Resource
from skerry.api.selectors import (
    escaped_value,
    exact_field,
    label_selector,
    match_labels,
    node_term_requirement,
    parse_fields,
    parse_labels,
)
from skerry.api.status import BadRequest


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c),d", {"a": "c"}, False),
        ("a in (b,c),d", {"a": "c", "d": ""}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a notin (b,c)", {}, True),
        ("a in (,b)", {"a": ""}, True),
        ("!a", {}, True),
        ("! a , b", {"b": "1"}, True),
        ("!a", {"a": "1"}, False),
        ("a>3", {"a": "4"}, True),
        ("a gt 3", {"a": "3"}, False),
        ("a lt 3", {"a": "2"}, True),
        ("a<3", {"a": "x"}, False),
        ("x.io/in=notin", {"x.io/in": "notin"}, True),
    ],
)
def test_label_selectors_match(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse_labels(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in ()", "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
        ("a=!", "unable to parse requirement: found '!', expected: identifier"),
        ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"),
    ],
)  # fmt: skip
def test_label_selector_errors(text: str, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_labels(text)
    assert caught.value.message == error


def test_a_label_selector_reads_back() -> None:
    text = "a=b,c!=d,e in (f,g),h,!i"
    assert str(parse_labels(text)) == text
    assert parse_labels(str(parse_labels("z,b>3"))) == parse_labels("b>3,z")


def test_selectors_of_objects() -> None:
    assert not label_selector(None).matches({"a": "b"})
    assert label_selector({}).is_everything
    selector = label_selector(
        {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]}
    )
    assert selector.matches({"a": "b"}) and not selector.matches({"a": "b", "c": "d"})
    assert not match_labels({}).matches({"a": "b"}) and match_labels({"a": "b"}).matches({"a": "b", "c": "d"})
    with pytest.raises(BadRequest):
        label_selector({"matchExpressions": [{"key": "c", "operator": "Near", "values": ["d"]}]})
    assert node_term_requirement({"key": "n", "operator": "Gt", "values": ["2"]}).matches({"n": "3"})


POD = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"nodeName": "e1", "hostNetwork": True},
    "status": {"phase": "Running", "podIPs": [{"ip": "1.2.3.4"}]},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=p", True),
        ("metadata.name!=p", False),
        ("spec.nodeName==e1,status.phase!=Failed", True),
        ("spec.hostNetwork=true", True),
        ("status.podIPs=1.2.3.4", True),
        ("status.nominatedNodeName=", True),
    ],
)
def test_field_selectors_match(text: str, matches: bool) -> None:
    assert parse_fields(text, gvk.PODS).matches(POD) is matches


def test_absent_flags_and_numbers_have_a_value() -> None:
    assert parse_fields("spec.unschedulable=false", gvk.NODES).matches({"spec": {}})
    assert not parse_fields("spec.unschedulable=true", gvk.NODES).matches({"spec": {}})
    jobs = Resource("batch", "v1", "jobs", "Job")
    assert parse_fields("status.successful=0", jobs).matches({})


def test_events_are_found_under_both_spellings() -> None:
    event = {"involvedObject": {"name": "x"}, "source": {"component": "kubelet"}, "reason": "Started"}
    assert parse_fields("involvedObject.name=x,source=kubelet,reason=Started", gvk.EVENTS).matches(event)
    new = Resource("events.k8s.io", "v1", "events", "Event")
    assert parse_fields("regarding.name=x", new).matches(event)


@pytest.mark.parametrize(
    ("text", "resource", "error"),
    [
        ("data.a=b", gvk.CONFIGMAPS, '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("spec.replicas=1", gvk.PODS, "field label not supported: spec.replicas"),
        ("metadata.name", gvk.PODS, "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ],
)  # fmt: skip
def test_field_selector_errors(text: str, resource: Any, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fields(text, resource)
    assert caught.value.message == error


def test_custom_resources_know_their_selectable_fields() -> None:
    selector = parse_fields("spec.color=red", gvk.DEVICES, selectable=[".spec.color"])
    assert selector.matches({"spec": {"color": "red"}})
    with pytest.raises(BadRequest, match="field label not supported: spec.color"):
        parse_fields("spec.color=red", gvk.DEVICES, selectable=[])


def test_escapes_and_exact_values() -> None:
    selector = parse_fields(r"metadata.name=a\,b\=c,metadata.namespace=n", gvk.PODS)
    assert selector.exact("metadata.name") == "a,b=c"
    assert selector.exact("metadata.namespace") == "n"
    assert selector.exact("spec.nodeName") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metadata.name=a", "a"),
        ("type!=x,metadata.name==a", "a"),
        (r"type!=x\,metadata.name\=a", None),
        ("metadata.name!=a", None),
        (rf"metadata.name={escaped_value('a,b=c')}", "a,b=c"),
    ],
)
def test_what_decides_reads_as_what_selects(text: str, value: str | None) -> None:
    assert exact_field(text, "metadata.name") == value
    assert parse_fields(text, gvk.SECRETS).exact("metadata.name") == value


@pytest.mark.parametrize("text", [r"type!=x\,metadata.name=a", "type=a=b", "metadata.name=a\\"])
def test_values_with_bare_marks_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="invalid field selector"):
        parse_fields(text, gvk.SECRETS)
    with pytest.raises(BadRequest, match="invalid field selector"):
        exact_field(text, "metadata.name")
