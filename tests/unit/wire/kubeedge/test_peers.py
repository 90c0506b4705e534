"""What Skerry peers agree on: versions, features, packed messages, batched acknowledgements."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope, decode
from skerry.wire.kubeedge.session import Acked, CloudPeer, EdgePeer, Received

ALL = peers.FEATURES


def stamps(prefix: str):  # type: ignore[no-untyped-def]
    numbers = iter(range(100_000))
    return lambda: (f"{prefix}-{next(numbers)}", 1)


def pod(name: str, size: int = 4000, *, kind: str = "Pod", type_: str = "pod") -> Envelope:
    content = {"kind": kind, "metadata": {"name": name}, "text": "x" * size}
    return Envelope("", c.SOURCE_EDGE_CONTROLLER, c.GROUP_RESOURCE, c.OP_INSERT, f"default/{type_}/{name}", content)


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("0.3.0", "0.3.0", True), ("0.3.0", "0.1.9", True), ("0.3.0", "0.5.1rc2", True), ("0.3.0", "0.0.1", False),
        ("0.3.0", "0.6.0", False), ("1.0.0", "0.9.0", False), ("0.3.0", "nonsense", False), ("0.3.0", "", False),
        ("0.3.0", "0.99999999999.0", False), ("0.3.0", "0.x", False), ("0.3.0", "1", False),
    ],
)  # fmt: skip
def test_versions_two_minors_apart_work_and_others_are_named(ours: str, theirs: str, fits: bool) -> None:
    problem = peers.version_problem(ours, theirs)
    assert (problem == "") is fits
    assert fits or (ours in problem and theirs in problem)


def test_only_known_features_are_agreed_on() -> None:
    assert peers.from_header("lease, acks,quantum") == {"lease", "acks"}
    assert peers.from_header("") == frozenset()
    assert peers.from_header(peers.to_header(ALL)) == ALL


def test_large_messages_are_packed_both_ways_and_small_ones_are_not() -> None:
    cloud, edge = CloudPeer(0.0, stamps("c"), features=ALL), EdgePeer(0.0, stamps("e"), features=ALL)
    cloud.send_delivery(pod("big"))
    cloud.send_delivery(pod("small", 10))
    big, small = cloud.messages_to_send()
    assert peers.is_packed(big) and not peers.is_packed(small) and len(big) < 300
    for frame in (big, small):
        edge.receive_message(frame)
    assert [event.envelope.resource for event in edge.events()] == ["default/pod/big", "default/pod/small"]
    edge.send(pod("up"))
    (frame,) = edge.messages_to_send()
    cloud.receive_message(frame)
    (event,) = cloud.events()
    assert isinstance(event, Received) and event.envelope.content["text"] == "x" * 4000


def test_secrets_are_never_packed() -> None:
    cloud = CloudPeer(0.0, stamps("c"), features=ALL)
    cloud.send_delivery(pod("s", type_=c.TYPE_SECRET))
    cloud.send_delivery(pod("t", kind="Secret", type_="odd"))
    cloud.send(pod("w", type_=c.TYPE_TOKEN))
    cloud.send(Envelope("", c.SOURCE_META_SERVER, c.GROUP_RESOURCE, c.OP_RESPONSE, c.RESOURCE_APPLICATION, "y" * 5000))
    assert not any(map(peers.is_packed, cloud.messages_to_send()))


def test_without_the_agreement_nothing_is_packed_and_a_packed_message_breaks_the_link() -> None:
    cloud, edge = CloudPeer(0.0, stamps("c")), EdgePeer(0.0, stamps("e"))
    cloud.send_delivery(pod("big"))
    (frame,) = cloud.messages_to_send()
    assert decode(frame).resource == "default/pod/big"
    with pytest.raises(Malformed, match="not agreed"):
        edge.receive_message(peers.pack(frame))


def test_a_bomb_is_stopped_at_the_limit() -> None:
    edge = EdgePeer(0.0, stamps("e"), features=ALL, limit_bytes=100_000)
    with pytest.raises(TooLarge):
        edge.receive_message(peers.pack(b"0" * 50_000_000))
    whole = peers.pack(b'{"a":1}')
    for broken in (whole[:-3], whole + b"x", b"\x01", b"\x01nonsense"):
        with pytest.raises(Malformed):
            peers.unpack(broken, limit_bytes=1000)


@given(st.binary(max_size=4096))
def test_unpack_gives_bytes_or_a_protocol_error(data: bytes) -> None:
    try:
        found = peers.unpack(b"\x01" + data, limit_bytes=2048)
    except (Malformed, TooLarge):
        return
    assert len(found) <= 2048
    assert found == zlib.decompress(data)


def test_acknowledgements_wait_a_moment_and_travel_together() -> None:
    cloud, edge = CloudPeer(0.0, stamps("c"), features=ALL), EdgePeer(0.0, stamps("e"), features=ALL)
    ids = [cloud.send_delivery(pod(f"p{number}", 1)) for number in range(5)]
    for frame in cloud.messages_to_send():
        edge.receive_message(frame)
    for event in edge.events():
        edge.send_ack(event.envelope)
    assert edge.messages_to_send() == []
    assert edge.next_deadline_s() == pytest.approx(0.05)
    edge.tick(0.06)
    (frame,) = edge.messages_to_send()
    assert decode(frame).resource == c.RESOURCE_ACKS
    cloud.receive_message(frame)
    assert cloud.events() == [Acked(msg_id) for msg_id in ids]
    assert cloud.outstanding_count == 0


def test_one_acknowledgement_alone_is_the_usual_one_and_goes_along_with_other_messages() -> None:
    cloud, edge = CloudPeer(0.0, stamps("c"), features=ALL), EdgePeer(0.0, stamps("e"), features=ALL)
    msg_id = cloud.send_delivery(pod("p", 1))
    edge.receive_message(cloud.messages_to_send()[0])
    edge.send_ack(edge.events()[0].envelope)
    edge.send(pod("status", 1))
    frames = edge.messages_to_send()
    assert [decode(frame).parent_id for frame in frames] == ["", msg_id]
    for frame in frames:
        cloud.receive_message(frame)
    assert Acked(msg_id) in cloud.events()


def test_a_batch_from_a_peer_that_has_not_agreed_acknowledges_nothing() -> None:
    cloud = CloudPeer(0.0, stamps("c"))
    msg_id = cloud.send_delivery(pod("p", 1))
    edge = EdgePeer(0.0, stamps("e"), features=ALL)
    edge.receive_message(cloud.messages_to_send()[0])
    forged = Envelope("x", "s", c.GROUP_RESOURCE, c.OP_RESPONSE, c.RESOURCE_ACKS, [msg_id], parent_id="other")
    edge.send(forged)
    cloud.receive_message(edge.messages_to_send()[0])
    assert cloud.outstanding_count == 1


def test_with_folded_leases_pings_are_the_sign_of_life() -> None:
    cloud, edge = CloudPeer(0.0, stamps("c"), features=ALL), EdgePeer(0.0, stamps("e"), features=ALL)
    edge.tick(1000.0)
    assert edge.messages_to_send() == []
    assert edge.next_deadline_s() == float("inf")
    cloud.tick(20.0)
    cloud.heard(20.0)
    cloud.tick(45.0)
    assert cloud.events() == []
    cloud.tick(51.0)
    assert len(cloud.events()) == 1
