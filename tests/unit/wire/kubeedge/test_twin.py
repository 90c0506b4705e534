"""Topics and documents of devices."""

from __future__ import annotations

import pytest

from skerry.base import json
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import twin
from skerry.wire.kubeedge.twin import DeviceTopic, Member, MsgTwin, NodeTopic, Value, Version


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("$hw/events/device/default/t1/twin/update", DeviceTopic("default/t1", "twin/update")),
        ("$hw/events/device/device/events/twin/update/result", DeviceTopic("device/events", "twin/update/result")),
        ("$hw/events/node/edge-1/membership/get", NodeTopic("edge-1", "membership/get")),
        ("$hw/events/device/default//twin/update", None),
        ("$hw/events/device/default/t1", None),
        ("$hw/events/upload/x", None),
        ("hello", None),
    ],
)
def test_topics_are_read_by_position(topic: str, found: object) -> None:
    assert twin.parse_topic(topic) == found


def test_topics_round_trip() -> None:
    assert twin.parse_topic(twin.device_topic("a/b", "twin/get")) == DeviceTopic("a/b", "twin/get")
    assert twin.parse_topic(twin.node_topic("n", "membership/get")) == NodeTopic("n", "membership/get")


def test_routes_of_reports() -> None:
    assert twin.twin_resource("ns/d") == "device/ns/d/twin/edge_updated"
    assert twin.parse_resource(twin.twin_resource("ns/d")) == DeviceTopic("ns/d", "twin/edge_updated")
    assert twin.parse_resource(twin.state_resource("ns/d")) == DeviceTopic("ns/d", "state/update")
    assert twin.parse_resource("ns/pod/p/x/y") is None
    assert twin.parse_resource("device/ns") is None


def test_reading_an_update_keeps_value_time_type_and_removal() -> None:
    body = b"""{"event_id":"e","timestamp":5,"twin":{
        "temp":{"actual":{"value":"21.5","metadata":{"timestamp":1700000000000}},"metadata":{"type":"float"}},
        "gone":null,
        "on":{"expected":{"value":true},"optional":true,"expected_version":{"cloud":1,"edge":2}}}}"""
    message = twin.parse_twin_message(body)
    assert (message.event_id, message.timestamp_ms) == ("e", 5)
    assert message.twin["temp"] == MsgTwin(actual=Value("21.5", 1700000000000), type="float")
    assert message.twin["gone"] is None
    assert message.twin["on"] == MsgTwin(
        expected=Value("true"), optional=True, expected_version=Version(cloud=1, edge=2)
    )


def test_values_may_hold_any_text() -> None:
    message = twin.parse_twin_message({"twin": {"p": {"actual": {"value": '{"a b": "ü+%"}'}}}})
    assert message.twin["p"] == MsgTwin(actual=Value('{"a b": "ü+%"}'))


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"twin":[]}',
        b'{"twin":{"a b":{}}}',
        b'{"twin":{"p":1}}',
        b'{"twin":{"p":{"actual":1}}}',
        b'{"twin":{"p":{"actual":{"value":[]}}}}',
        b'{"twin":{"' + b"p" * 129 + b'":{}}}',
    ],
)
def test_unreadable_updates_are_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        twin.parse_twin_message(body)


def test_limits() -> None:
    with pytest.raises(TooLarge):
        twin.parse_twin_message(b" " * (twin.MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(TooLarge):
        twin.parse_twin_message({"twin": {"p": {"actual": {"value": "x" * (twin.MAX_VALUE_BYTES + 1)}}}})


def test_result_has_no_versions_and_report_has() -> None:
    value = MsgTwin(
        actual=Value("1", 7), optional=True, type="int", actual_version=Version(0, 3), expected_version=Version(1, 0)
    )
    plain = {"actual": {"value": "1", "metadata": {"timestamp": 7}}, "optional": True, "metadata": {"type": "int"}}
    assert json.loads(twin.result("e", 9, {"p": value})) == {"event_id": "e", "timestamp": 9, "twin": {"p": plain}}
    report = twin.edge_updated("e", 9, {"p": value})
    assert report["twin"]["p"] == plain | {
        "expected_version": {"cloud": 1, "edge": 0},
        "actual_version": {"cloud": 0, "edge": 3},
    }
    assert twin.parse_twin_message(report).twin["p"] == value


def test_document_and_delta() -> None:
    old, new = MsgTwin(actual=Value("1", 1)), MsgTwin(expected=Value("5", 2), actual=Value("2", 2))
    body = json.loads(twin.document("e", 9, {"p": (None, old), "q": (old, new)}))
    assert body["twin"]["p"]["last"] is None
    assert body["twin"]["q"]["current"]["actual"]["value"] == "2"
    body = json.loads(twin.delta("e", 9, {"q": new}, {"q": "5"}))
    assert body["delta"] == {"q": "5"}
    assert body["twin"]["q"]["expected"]["value"] == "5"


def test_errors_carry_code_and_reason() -> None:
    assert json.loads(twin.error_result("e", 9, twin.DEVICE_UNKNOWN, "no such device")) == {
        "event_id": "e",
        "timestamp": 9,
        "code": 404,
        "reason": "no such device",
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"event_id":"e","timestamp":1,"state":"Online"}',
        {"event_id": "e", "timestamp": 1, "State": "ONLINE"},
        twin.state_update("e", 1, "d", "online", ""),
    ],
)
def test_states_of_every_form(body: object) -> None:
    assert twin.parse_state_update(body) == twin.StateMessage("e", 1, "online")


def test_state_without_state_is_malformed() -> None:
    with pytest.raises(Malformed):
        twin.parse_state_update({"event_id": "e"})


def test_state_to_the_cloud_is_text_with_json() -> None:
    text = twin.state_update("e", 1, "d", "offline", "2026-01-01T00:00:00Z")
    assert json.loads(text)["device"] == {"name": "d", "state": "offline", "lastOnlineTime": "2026-01-01T00:00:00Z"}
    assert twin.parse_state_update(text).last_online == "2026-01-01T00:00:00Z"


def test_membership_round_trip() -> None:
    added = [Member("ns/a", "a", "first")]
    content = twin.membership("e", 3, added=added)
    assert content["removed_devices"] is None
    assert twin.parse_membership(content).added == tuple(added)
    assert twin.parse_membership(content).removed == ()
    detail = twin.membership_detail("e", 3, added)
    assert detail["devices"][0]["twin"] == {}
    assert twin.parse_membership_detail(detail) == tuple(added)
    with pytest.raises(Malformed):
        twin.parse_membership({"added_devices": [{"name": "x"}]})
    with pytest.raises(Malformed):
        twin.parse_membership({"added_devices": {}})


def test_membership_question_is_what_the_go_agent_sends() -> None:
    assert json.loads(twin.membership_detail_request("id", 7, "edge-1")) == {
        "event_type": "group_membership_event",
        "event_id": "id",
        "group_id": "edge-1",
        "operation": "detail",
        "timestamp": 7,
    }


def test_membership_answers_on_mqtt() -> None:
    body = json.loads(twin.membership_get_result("e", 3, [Member("ns/a", "a", state="online")]))
    assert body["devices"][0]["id"] == "ns/a"
    assert body["devices"][0]["state"] == "online"
    change = twin.MembershipChange("e", 3, removed=(Member("ns/b", "b"),))
    assert json.loads(twin.membership_updated("e", 3, change))["removed_devices"][0]["id"] == "ns/b"


def test_plain_requests() -> None:
    assert twin.parse_base(b'{"event_id":"x","timestamp":"12"}') == ("x", 12)
    with pytest.raises(Malformed):
        twin.parse_base(b"1")
