"""The two ends of the link as state machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.base.values import replace
from skerry.testing.recorded import hub_frames
from skerry.wire.errors import Malformed, OutOfOrder, TooLarge
from skerry.wire.kubeedge.envelope import Envelope, decode, encode
from skerry.wire.kubeedge.session import (
    REMEMBERED_IDS,
    Acked,
    Answered,
    CloudPeer,
    EdgePeer,
    Expired,
    Received,
    Refused,
    Stamp,
    answer_to,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "kubeedge-hub-frames.jsonl"
UPDATE = Envelope("", "edgecontroller", "resource", "update", "default/pod/web", {"kind": "Pod"}, resource_version="7")
QUERY = Envelope("", "edged", "meta", "query", "default/configmap/c")


def _stamp(prefix: str) -> Stamp:
    numbers: Iterator[int] = itertools.count(1)
    return lambda: (f"{prefix}{next(numbers)}", 1_000)


def _cloud(**options: float) -> CloudPeer:
    return CloudPeer(0.0, _stamp("c"), **options)  # type: ignore[arg-type]


def _edge() -> EdgePeer:
    edge = EdgePeer(0.0, _stamp("e"))
    edge.messages_to_send()
    return edge


def _sent(peer: CloudPeer | EdgePeer) -> list[Envelope]:
    return [decode(frame) for frame in peer.messages_to_send()]


def test_the_edge_says_keepalive_at_once_and_every_15_s() -> None:
    edge = EdgePeer(100.0, _stamp("e"))
    first = _sent(edge)
    assert [(m.source, m.group, m.operation, m.resource, m.content) for m in first] == [
        ("websocket", "resource", "keepalive", "node", "ping")
    ]
    assert edge.next_deadline_s() == 115.0
    edge.tick(114.9)
    assert _sent(edge) == []
    edge.tick(115.0)
    assert [m.operation for m in _sent(edge)] == ["keepalive"]


def test_the_cloud_expires_a_silent_link_once() -> None:
    cloud = _cloud()
    assert cloud.next_deadline_s() == 30.0
    cloud.tick(29.0)
    cloud.receive_message(encode(Envelope("1", "websocket", "resource", "keepalive", "node", "ping")))
    cloud.tick(58.9)
    assert cloud.events() == []
    cloud.tick(59.0)
    cloud.tick(60.0)
    assert cloud.events() == [Expired(30.0)]


def test_a_delivery_is_repeated_with_its_id_until_acknowledged() -> None:
    cloud = _cloud()
    msg_id = cloud.send_delivery(UPDATE)
    first = cloud.messages_to_send()
    cloud.tick(4.9)
    assert cloud.messages_to_send() == []
    cloud.tick(5.0)
    assert cloud.messages_to_send() == first
    cloud.tick(14.9)
    assert cloud.messages_to_send() == []
    cloud.tick(15.0)
    assert cloud.messages_to_send() == first
    edge = _edge()
    for frame in first * 2:
        edge.receive_message(frame)
    (received,) = edge.events()
    assert isinstance(received, Received)
    edge.send_ack(received.envelope)
    (ack,) = edge.messages_to_send()
    assert decode(ack).content == "OK"
    cloud.receive_message(ack)
    cloud.receive_message(ack)
    assert cloud.events() == [Acked(msg_id)]
    assert cloud.outstanding_count == 0


def test_a_copy_after_the_acknowledgement_is_acknowledged_again_but_not_applied() -> None:
    cloud, edge = _cloud(), _edge()
    cloud.send_delivery(UPDATE)
    (frame,) = cloud.messages_to_send()
    edge.receive_message(frame)
    (event,) = edge.events()
    edge.send_ack(event.envelope)
    edge.messages_to_send()
    edge.receive_message(frame)
    assert edge.events() == []
    assert [m.operation for m in _sent(edge)] == ["response"]


def test_a_refused_delivery_counts_as_new_when_it_comes_again() -> None:
    cloud, edge = _cloud(), _edge()
    msg_id = cloud.send_delivery(UPDATE)
    (frame,) = cloud.messages_to_send()
    edge.receive_message(frame)
    (event,) = edge.events()
    edge.send_refusal(event.envelope, "disk full")
    (refusal,) = edge.messages_to_send()
    cloud.receive_message(refusal)
    assert cloud.events() == [Refused(msg_id, "disk full")]
    assert cloud.outstanding_count == 1
    edge.receive_message(frame)
    assert len(edge.events()) == 1


def test_the_same_delivery_is_not_started_twice() -> None:
    cloud = _cloud()
    cloud.send_delivery(replace(UPDATE, msg_id="same"))
    with pytest.raises(OutOfOrder):
        cloud.send_delivery(replace(UPDATE, msg_id="same"))
    cloud.forget("same")
    cloud.send_delivery(replace(UPDATE, msg_id="same"))
    assert cloud.outstanding_count == 1


def test_an_edge_request_is_matched_with_its_answer() -> None:
    cloud, edge = _cloud(), _edge()
    request_id = edge.send_request(QUERY)
    for frame in edge.messages_to_send():
        cloud.receive_message(frame)
    (request,) = cloud.events()
    assert isinstance(request, Received)
    cloud.send(answer_to(request.envelope, _stamp("r"), {"kind": "ConfigMap"}, resource_version="3"))
    for frame in cloud.messages_to_send():
        edge.receive_message(frame)
    (answered,) = edge.events()
    assert isinstance(answered, Answered)
    assert answered.request_id == request_id
    assert answered.needs_ack
    assert answered.envelope.source == "edgecontroller"


def test_a_late_answer_is_dropped_and_acknowledged_when_the_cloud_waits_for_that() -> None:
    edge = _edge()
    request_id = edge.send_request(QUERY)
    edge.messages_to_send()
    edge.forget(request_id)
    edge.receive_message(
        encode(Envelope("x", "edgecontroller", "resource", "response", "default/configmap/c", {}, request_id))
    )
    edge.receive_message(
        encode(Envelope("y", "edgecontroller", "resource", "response", "default/podpatch/p", {}, request_id))
    )
    assert edge.events() == []
    assert [m.parent_id for m in _sent(edge)] == ["x"]


def test_a_confirmation_of_the_twin_group_reaches_the_layer_above() -> None:
    edge = _edge()
    edge.receive_message(encode(Envelope("x", "devicecontroller", "twin", "response", "membership/detail", "OK", "q")))
    (event,) = edge.events()
    assert isinstance(event, Received)


def test_a_cloud_request_is_matched_with_its_answer() -> None:
    cloud = _cloud()
    request_id = cloud.send_request(Envelope("", "cloudhub", "resource", "createvolume", "default/volume/v", "{}"))
    cloud.receive_message(
        encode(Envelope("a", "edged", "resource", "response", "default/volume/v", "done", request_id))
    )
    (event,) = cloud.events()
    assert isinstance(event, Answered)
    assert event.envelope.content == "done"


@pytest.mark.parametrize("operation", ["config", "ping", "pong"])
def test_control_operations_are_swallowed_and_answered(operation: str) -> None:
    for peer in (_cloud(), _edge()):
        peer.receive_message(encode(Envelope("m", "x", "resource", operation, "node")))
        assert peer.events() == []
        (reply,) = _sent(peer)
        assert (reply.parent_id, reply.operation, reply.content) == ("m", "response", "ack")


def test_the_shutdown_message_is_tolerated() -> None:
    for peer in (_cloud(), _edge()):
        peer.receive_message(b'{"header":{"msg_id":"","timestamp":0},"route":{},"content":null}\n')
        assert peer.events() == []
        assert peer.messages_to_send() == []


def test_limits_and_broken_frames_reach_the_shell() -> None:
    for peer in (CloudPeer(0.0, _stamp("c"), limit_bytes=100), EdgePeer(0.0, _stamp("e"), limit_bytes=100)):
        with pytest.raises(TooLarge):
            peer.receive_message(b"x" * 101)
        with pytest.raises(Malformed):
            peer.receive_message(b"{]")


def test_the_memory_of_ids_is_bounded() -> None:
    edge = _edge()
    for number in range(REMEMBERED_IDS + 10):
        edge.receive_message(encode(replace(UPDATE, msg_id=f"m{number}")))
    assert len(edge.events()) == REMEMBERED_IDS + 10
    edge.receive_message(encode(replace(UPDATE, msg_id="m0")))
    edge.receive_message(encode(replace(UPDATE, msg_id=f"m{REMEMBERED_IDS + 9}")))
    assert [e.envelope.msg_id for e in edge.events()] == ["m0"]


def test_our_acknowledgements_equal_the_recorded_ones() -> None:
    frames = [frame.message for frame in hub_frames(VECTORS)]
    acks = {
        m["header"]["parent_msg_id"]: m["route"]
        for m in frames
        if m["content"] == "OK" and m["route"].get("operation") == "response" and "parent_msg_id" in m["header"]
    }
    checked = 0
    edge = _edge()
    for frame in hub_frames(VECTORS):
        if frame.direction == "C>E" and frame.message["header"]["msg_id"] in acks:
            edge.send_ack(decode(frame.data))
            (ours,) = edge.messages_to_send()
            ack = decode(ours)
            assert acks[ack.parent_id] == {
                "source": ack.source,
                "group": ack.group,
                "operation": ack.operation,
                "resource": ack.resource,
            }
            checked += 1
    assert checked == 14


def test_recorded_edge_frames_pass_the_cloud_peer() -> None:
    cloud = _cloud()
    requests = 0
    for frame in hub_frames(VECTORS):
        if frame.direction == "E>C":
            cloud.receive_message(frame.data)
            requests += frame.operation not in ("keepalive", "response", "")
    events = cloud.events()
    assert len(events) == requests
    assert all(isinstance(event, Received) for event in events)


def test_recorded_cloud_frames_pass_the_edge_peer() -> None:
    edge = _edge()
    spontaneous = 0
    for frame in hub_frames(VECTORS):
        if frame.direction == "C>E":
            edge.receive_message(frame.data)
            spontaneous += "parent_msg_id" not in frame.message["header"]
    assert len([e for e in edge.events() if isinstance(e, Received)]) == spontaneous


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.booleans(), min_size=0, max_size=40),
    count=st.integers(min_value=1, max_value=12),
)
def test_lost_frames_never_lose_a_delivery(losses: list[bool], count: int) -> None:
    """Whatever is lost on the way, each delivery is applied exactly once and acknowledged in the end."""
    cloud, edge = _cloud(silence_limit_s=1e9), _edge()
    lost = iter(losses)
    expected = {cloud.send_delivery(replace(UPDATE, resource_version=str(n))) for n in range(count)}
    applied: list[str] = []
    acked: set[str] = set()
    now_s = 0.0
    for _ in range(200):
        for frame in cloud.messages_to_send():
            if not next(lost, False):
                edge.receive_message(frame)
        for event in edge.events():
            applied.append(event.envelope.msg_id)
            edge.send_ack(event.envelope)
        for frame in edge.messages_to_send():
            if not next(lost, False):
                cloud.receive_message(frame)
        acked.update(event.msg_id for event in cloud.events() if isinstance(event, Acked))
        if acked == expected:
            break
        now_s = cloud.next_deadline_s()
        cloud.tick(now_s)
    assert acked == expected
    assert sorted(applied) == sorted(expected)
    assert cloud.outstanding_count == 0
