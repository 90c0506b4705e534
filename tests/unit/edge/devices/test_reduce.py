"""Twin reducers."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.base import json
from skerry.edge.devices import reduce
from skerry.edge.devices.reduce import Device, Outcome, Reading, Twin, TwinRefused
from skerry.wire.kubeedge.twin import MsgTwin, TwinMessage, Value

NOW = 1_700_000_000_000
D = Device("ns/d")


def read(device: Device, now_ms: int = NOW, **values: Any) -> Outcome:
    readings = {n: v if isinstance(v, Reading) else Reading(actual=Value(v, now_ms)) for n, v in values.items()}
    return reduce.read(device, readings, event_id="e", now_ms=now_ms)


def update(device: Device, **twin: MsgTwin | None) -> Outcome:
    return reduce.update(device, TwinMessage("e", NOW, twin), now_ms=NOW)


def desire(device: Device, now_ms: int = NOW, **wanted: str | None) -> Outcome:
    return reduce.desire(device, wanted, dict.fromkeys(wanted, "FLOAT"), event_id="e", now_ms=now_ms)


def topics(outcome: Outcome) -> list[str]:
    return [p.topic.removeprefix("$hw/events/device/ns/d/") for p in outcome.publish]


def test_first_reading_is_stored_published_and_reported() -> None:
    outcome = read(D, t="21.5")
    assert outcome.device.twins["t"].actual == Value("21.5", NOW)
    assert outcome.changed == {"t"}
    assert topics(outcome) == ["twin/update/document"]
    assert outcome.report["t"].actual == Value("21.5", NOW)


def test_one_report_carries_every_changed_property() -> None:
    first = read(D, a="1", b="1", c="1")
    assert set(first.report) == {"a", "b", "c"}
    assert set(read(first.device, NOW + 1, a="2", b="1", c="3").report) == {"a", "c"}


def test_the_same_value_is_told_again_only_after_the_refresh_time() -> None:
    first = read(D, t="1")
    assert read(first.device, NOW + 59_999, t="1") == Outcome(first.device)
    again = read(first.device, NOW + 60_000, t="1")
    assert again.report["t"].actual == Value("1", NOW + 60_000)


def test_the_mapper_s_time_is_kept_and_ours_fills_in() -> None:
    outcome = read(D, kept=Reading(actual=Value("1", 5)), filled=Reading(actual=Value("1")))
    assert outcome.report["kept"].actual == Value("1", 5)
    assert outcome.report["filled"].actual == Value("1", NOW)


def test_versions_only_grow_and_survive_a_lost_disk() -> None:
    first = read(D, t="1").report["t"].actual_version
    second = read(read(D, t="1").device, NOW + 1, t="2").report["t"].actual_version
    assert first is not None and second is not None
    assert second.edge == first.edge + 1
    fresh = read(D, NOW + 3_600_000, t="3").report["t"].actual_version
    assert fresh is not None and fresh.edge > second.edge


def test_desired_becomes_expected_and_a_delta_but_no_report() -> None:
    outcome = desire(D, set="21")
    assert outcome.device.twins["set"].expected == Value("21", NOW)
    assert topics(outcome) == ["twin/update/delta"]
    assert json.loads(outcome.publish[0].payload)["delta"] == {"set": "21"}
    assert outcome.report == {}
    assert desire(outcome.device, NOW + 1, set="21").changed == frozenset()


def test_observed_is_told_after_the_device_took_the_value() -> None:
    wished = desire(D, set="21").device
    before = read(wished, NOW + 1, set="19")
    assert before.report["set"].expected is None
    assert topics(before) == ["twin/update/document", "twin/update/delta"]
    after = read(before.device, NOW + 2, set="21.0")
    assert after.report["set"].expected == Value("21", NOW + 2)
    assert topics(after) == ["twin/update/document"]


def test_observed_said_by_the_mapper() -> None:
    wished = desire(D, set="21").device
    outcome = read(wished, NOW + 1, set=Reading(actual=Value("20.9"), observed=Value("21")))
    assert outcome.report["set"].expected == Value("21", NOW + 1)


def test_a_new_wish_forgets_what_was_observed() -> None:
    settled = read(desire(D, set="21").device, NOW + 1, set="21").device
    assert settled.twins["set"].observed is not None
    wished = desire(settled, NOW + 2, set="25")
    assert wished.device.twins["set"].observed is None
    assert desire(wished.device, NOW + 3, set=None).device.twins["set"].expected is None


def test_update_answers_result_then_document_then_delta() -> None:
    outcome = update(D, p=MsgTwin(expected=Value("5"), actual=Value("4"), type="int"))
    assert topics(outcome) == ["twin/update/result", "twin/update/document", "twin/update/delta"]
    assert outcome.report["p"].expected == Value("5", NOW)
    again = update(outcome.device, p=MsgTwin(actual=Value("4")))
    assert topics(again)[:2] == ["twin/update/result", "twin/update/document"]
    assert again.report == {}


def test_update_removes_optional_properties_only() -> None:
    device = update(D, p=MsgTwin(actual=Value("1"))).device
    gone = update(device, p=None)
    assert gone.device.twins == {}
    assert gone.changed == {"p"}
    fixed = desire(device, p="1").device
    with pytest.raises(TwinRefused, match="not optional"):
        update(fixed, p=None)
    assert update(D, unknown=None).changed == frozenset()


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (Twin(type="int"), MsgTwin(actual=Value("1.5"))),
        (Twin(type="int"), MsgTwin(actual=Value(str(2**63)))),
        (Twin(type="boolean"), MsgTwin(actual=Value("True"))),
        (Twin(type="float"), MsgTwin(expected=Value("warm"))),
        (Twin(type="int"), MsgTwin(type="float")),
        (Twin(), MsgTwin(type="colour")),
        (Twin(optional=False), MsgTwin(optional=True)),
    ],
)
def test_impossible_updates_are_refused_as_a_whole(before: Twin, wanted: MsgTwin) -> None:
    with pytest.raises(TwinRefused) as caught:
        update(Device("ns/d", twins={"p": before}), p=wanted, q=MsgTwin(actual=Value("1")))
    assert caught.value.code == 400


def test_a_device_cannot_have_endless_properties() -> None:
    with pytest.raises(TwinRefused):
        read(D, **{f"p{n}": "1" for n in range(reduce.MAX_PROPERTIES + 1)})


def test_states() -> None:
    up = reduce.state(D, "Online", event_id="e", now_ms=NOW, now_text="2026-01-01T00:00:00Z")
    assert (up.device.state, up.device.last_online, up.state_changed) == ("online", "2026-01-01T00:00:00Z", True)
    down = reduce.state(up.device, "offline", event_id="e", now_ms=NOW, now_text="2026-01-01T00:01:00Z")
    assert (down.device.state, down.device.last_online) == ("offline", "2026-01-01T00:01:00Z")
    later = reduce.state(down.device, "offline", event_id="e", now_ms=NOW, now_text="2026-01-01T00:02:00Z")
    assert (later.device.last_online, later.state_changed) == ("2026-01-01T00:01:00Z", False)
    with pytest.raises(TwinRefused):
        reduce.state(D, "disconnected", event_id="e", now_ms=NOW, now_text="")


def test_get_shows_every_twin() -> None:
    answer = reduce.get(read(D, t="1").device, event_id="q", now_ms=NOW)
    assert answer.topic.endswith("ns/d/twin/get/result")
    assert json.loads(answer.payload)["twin"]["t"]["actual"]["value"] == "1"
