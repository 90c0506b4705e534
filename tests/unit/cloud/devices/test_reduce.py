"""Reports laid over a DeviceStatus."""

from __future__ import annotations

from typing import Any

from skerry.cloud.devices import reduce
from skerry.wire.kubeedge.twin import MsgTwin, Value, Version

DEVICE: dict[str, Any] = {
    "metadata": {"name": "d", "namespace": "ns", "uid": "u1"},
    "spec": {"properties": [{"name": "b"}, {"name": "a"}]},
}


def says(value: str, *, at: int = 1, version: int | None = 1, expected: str | None = None) -> MsgTwin:
    return MsgTwin(
        actual=Value(value, at),
        expected=None if expected is None else Value(expected, at),
        type="float",
        actual_version=None if version is None else Version(0, version),
        expected_version=None if version is None else Version(0, version),
    )


def test_the_first_report_is_kept_whole_and_in_the_device_s_order() -> None:
    twins, stale = reduce.merge_twins(DEVICE, [], {"a": says("1", at=7), "b": says("2", expected="3"), "x": says("9")})
    assert [twin["propertyName"] for twin in twins] == ["b", "a"]
    assert twins[1] == {
        "propertyName": "a",
        "reported": {"value": "1", "metadata": {"timestamp": "7", "type": "float", "version": "1"}},
        "observedDesired": {"value": ""},
    }
    assert twins[0]["observedDesired"]["value"] == "3"
    assert stale == 0


def test_what_is_not_said_stays() -> None:
    twins, _ = reduce.merge_twins(DEVICE, [], {"a": says("1", expected="5"), "b": says("2")})
    after, _ = reduce.merge_twins(DEVICE, twins, {"b": says("3", version=2)})
    assert after[1] == twins[1]
    assert after[0]["reported"]["value"] == "3"


def test_the_same_report_twice_changes_nothing() -> None:
    report = {"a": says("1", expected="5")}
    twins, _ = reduce.merge_twins(DEVICE, [], report)
    assert reduce.merge_twins(DEVICE, twins, report) == (twins, 0)


def test_an_older_report_is_ignored_and_a_fresh_disk_is_heard() -> None:
    twins, _ = reduce.merge_twins(DEVICE, [], {"a": says("new", at=100, version=9)})
    assert reduce.merge_twins(DEVICE, twins, {"a": says("old", at=90, version=8)}) == (twins, 1)
    heard, stale = reduce.merge_twins(DEVICE, twins, {"a": says("fresh", at=200, version=1)})
    assert heard[0]["reported"]["value"] == "fresh"
    assert stale == 0
    back, _ = reduce.merge_twins(DEVICE, twins, {"a": says("clock went back", at=50, version=10)})
    assert back[0]["reported"]["value"] == "clock went back"


def test_reports_without_versions_are_taken_as_they_come() -> None:
    twins, _ = reduce.merge_twins(DEVICE, [], {"a": says("1", version=None)})
    assert "version" not in twins[0]["reported"]["metadata"]
    assert reduce.merge_twins(DEVICE, twins, {"a": says("2", at=0, version=None)})[0][0]["reported"]["value"] == "2"


def test_properties_that_left_the_device_leave_its_status() -> None:
    twins, _ = reduce.merge_twins(DEVICE, [], {"a": says("1"), "b": says("2")})
    smaller = DEVICE | {"spec": {"properties": [{"name": "b"}]}}
    assert [t["propertyName"] for t in reduce.merge_twins(smaller, twins, {})[0]] == ["b"]


def test_two_waiting_reports_become_the_newer_of_each_side() -> None:
    first, second = says("2", at=2, version=2, expected="e2"), says("1", at=1, version=1)
    merged = reduce.newest(first, second)
    assert (merged.actual, merged.expected) == (Value("2", 2), Value("e2", 2))
    assert reduce.newest(second, first).actual == Value("2", 2)
    assert reduce.newest(None, first) == first


def test_ownership() -> None:
    status = reduce.new_status(DEVICE)
    assert status["metadata"]["ownerReferences"][0]["controller"] is True
    assert reduce.belongs_to(status, DEVICE)
    assert not reduce.belongs_to(status, {"metadata": {"uid": "u2"}})
    assert reduce.belongs_to({"metadata": {}}, DEVICE)
