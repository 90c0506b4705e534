"""MQTT 3.1.1: packets, filters, the client's state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.wire.errors import Malformed, OutOfOrder, ProtocolError, TooLarge
from skerry.wire.mqtt import codec, session
from skerry.wire.mqtt.codec import Packet
from skerry.wire.mqtt.topics import is_filter, matches

PACKETS: list[Packet] = [
    codec.Connect("me"),
    codec.Connect("", 0, False, "u", b"p", "will/topic", b"bye", 1, True),
    codec.ConnAck(5, True),
    codec.Publish("a/b", b"\0\xff", 0),
    codec.Publish("$hw/x", b"", 1, True, True, 7),
    codec.PubAck(1),
    codec.PubRec(2),
    codec.PubRel(3),
    codec.PubComp(65535),
    codec.Subscribe(9, (("a/+", 1), ("#", 0))),
    codec.SubAck(9, (1, 0x80)),
    codec.Unsubscribe(10, ("a/+", "b")),
    codec.UnsubAck(10),
    codec.PingReq(),
    codec.PingResp(),
    codec.Disconnect(),
]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda p: type(p).__name__)
def test_packets_round_trip_byte_by_byte(packet: Packet) -> None:
    decoder = codec.Decoder()
    found = [p for byte in codec.encode(packet) for p in decoder.feed(bytes([byte]))]
    assert found == [packet]


def test_known_bytes() -> None:
    assert codec.encode(codec.Connect("a", 60)).hex() == "100d00044d5154540402003c000161"
    assert codec.encode(codec.Publish("a", b"x", 1, packet_id=10)).hex() == "3206000161000a78"
    assert codec.encode(codec.Subscribe(1, (("a", 1),))).hex() == "820600010001" + "61" + "01"


@given(st.lists(st.binary(min_size=0, max_size=400), min_size=1, max_size=5), st.integers(1, 50))
def test_streams_cut_anywhere(payloads: list[bytes], step: int) -> None:
    packets = [codec.Publish("t", payload) for payload in payloads]
    stream = b"".join(codec.encode(packet) for packet in packets)
    decoder = codec.Decoder()
    found = [p for at in range(0, len(stream), step) for p in decoder.feed(stream[at : at + step])]
    assert found == packets


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        for packet in codec.Decoder().feed(data):
            assert packet is not None
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "hexed",
    [
        "00 00", "f0 00", "c1 00",  # unknown types, flags where none may be
        "30 80 80 80 80 01",  # length of five bytes
        "36 03 00 01 61",  # quality 3
        "30 02 00 00",  # empty topic
        "30 03 00 01 2b",  # wildcard in a topic
        "32 05 00 01 61 00 00",  # packet id 0
        "40 03 00 01 00",  # a byte too many
        "40 01 00",  # a byte too few
        "82 02 00 01",  # no filter
        "82 06 00 01 00 01 61 03",  # quality 3 wanted
        "30 03 00 01 ff",  # not UTF-8
        "30 03 00 01 00",  # null character
        "10 0d 00 04 4d 51 54 54 05 02 00 3c 00 01 61",  # another protocol level
    ],
)  # fmt: skip
def test_broken_packets_are_malformed(hexed: str) -> None:
    with pytest.raises(Malformed):
        list(codec.Decoder().feed(bytes.fromhex(hexed)))


def test_limits() -> None:
    with pytest.raises(TooLarge):
        list(codec.Decoder(limit_bytes=10).feed(b"\x82\x0b"))
    with pytest.raises(ValueError):
        codec.encode(codec.Publish("t" * 70000))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_message_over_the_limit_is_skipped_and_the_next_one_read(step: int) -> None:
    big, small = codec.Publish("a/b", b"x" * 500, 1, packet_id=9), codec.Publish("c", b"y")
    stream = codec.encode(big) + codec.encode(small)
    decoder = codec.Decoder(limit_bytes=100)
    found = [p for at in range(0, len(stream), step) for p in decoder.feed(stream[at : at + step])]
    assert found == [codec.Oversized("a/b", 507, 1, 9), small]
    with pytest.raises(Malformed):
        list(codec.Decoder(limit_bytes=3).feed(b"\x32\x04\xff\xff"))


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$hw/a", False),
        ("+/a", "$hw/a", False),
        ("$hw/#", "$hw/a", True),
        ("$hw/events/device/+/+/twin/+", "$hw/events/device/ns/d/twin/update", True),
        ("$hw/events/device/+/+/twin/+", "$hw/events/device/ns/d/twin/update/result", False),
        ("a/b", "a", False),
    ],
)
def test_filters(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@pytest.mark.parametrize(
    ("text", "good"), [("a/+/#", True), ("a+/b", False), ("a/#/b", False), ("a#", False), ("", False)]
)
def test_filter_syntax(text: str, good: bool) -> None:
    assert is_filter(text) is good


def _open(**kwargs: int) -> session.MqttClient:
    client = session.MqttClient(codec.Connect("me", kwargs.pop("keep_alive_s", 60)), **kwargs)
    client.data_to_send()
    client.receive_data(codec.encode(codec.ConnAck()))
    assert client.events() == [session.Connected()]
    client.tick(0.0)
    return client


def test_connect_comes_first_and_refusals_are_named() -> None:
    client = session.MqttClient(codec.Connect("me"))
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.Connect("me")]
    with pytest.raises(OutOfOrder):
        client.send_publish("t", b"")
    client.receive_data(codec.encode(codec.ConnAck(5)))
    assert client.events() == [session.Rejected(5, "not authorised")]


def test_messages_wait_for_their_receipt_within_the_window() -> None:
    client = _open(window=2)
    first, second = client.send_publish("t", b"1"), client.send_publish("t", b"2")
    assert not client.can_publish
    with pytest.raises(OutOfOrder):
        client.send_publish("t", b"3")
    client.receive_data(codec.encode(codec.PubAck(first)))
    assert client.events() == [session.Delivered(first)]
    assert [p.packet_id for p in client.unacked()] == [second]
    assert client.send_publish("t", b"q0", qos=0) == 0


def test_incoming_messages_are_acknowledged_when_accepted() -> None:
    client = _open()
    client.receive_data(codec.encode(codec.Publish("t", b"x", 1, packet_id=4)))
    (message,) = client.events()
    assert isinstance(message, session.Message)
    assert client.data_to_send() == b""
    client.accept(message)
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.PubAck(4)]


def test_a_message_over_the_limit_is_acknowledged_unread() -> None:
    client = _open()
    client.receive_data(codec.encode(codec.Publish("t", b"x" * codec.MAX_PACKET_BYTES, 1, packet_id=4)))
    (event,) = client.events()
    assert isinstance(event, session.Skipped)
    assert event.topic == "t"
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.PubAck(4)]


def test_quality_two_from_the_broker_is_completed() -> None:
    client = _open()
    client.receive_data(codec.encode(codec.Publish("t", b"x", 2, packet_id=4)))
    (message,) = client.events()
    assert isinstance(message, session.Message)
    client.accept(message)
    client.receive_data(codec.encode(codec.PubRel(4)))
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.PubRec(4), codec.PubComp(4)]


def test_subscriptions_tell_what_was_refused() -> None:
    client = _open()
    client.send_subscribe(("a", "b"))
    (packet,) = codec.Decoder().feed(client.data_to_send())
    assert isinstance(packet, codec.Subscribe)
    client.receive_data(codec.encode(codec.SubAck(packet.packet_id, (1, 0x80))))
    assert client.events() == [session.Subscribed(("b",))]
    with pytest.raises(OutOfOrder):
        client.receive_data(codec.encode(codec.SubAck(99, (1,))))


def test_pings_and_silence() -> None:
    client = _open(keep_alive_s=10)
    assert client.next_deadline_s() == 5.0
    client.tick(4.9)
    assert client.data_to_send() == b""
    client.tick(5.0)
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.PingReq()]
    client.receive_data(codec.encode(codec.PingResp()))
    client.tick(9.0)
    assert client.data_to_send() == b""
    client.tick(10.0)
    client.tick(15.0)
    assert client.events() == [session.Silent()]


def test_a_broker_must_behave_as_one() -> None:
    with pytest.raises(OutOfOrder):
        session.MqttClient(codec.Connect("me")).receive_data(codec.encode(codec.Publish("t")))
    with pytest.raises(OutOfOrder):
        _open().receive_data(codec.encode(codec.PingReq()))
    with pytest.raises(OutOfOrder):
        _open().receive_data(codec.encode(codec.ConnAck()))


def test_leaving() -> None:
    client = _open()
    client.send_disconnect()
    assert list(codec.Decoder().feed(client.data_to_send())) == [codec.Disconnect()]
    assert client.next_deadline_s() is None


def test_a_password_without_a_user_name_is_malformed() -> None:
    frame = b"\x10\x12\x00\x04MQTT\x04\x42\x00\x3c\x00\x02me\x00\x02pw"
    with pytest.raises(Malformed, match="without a user name"):
        list(codec.Decoder().feed(frame))


@pytest.mark.parametrize("flags", [0x0A, 0x22, 0x1E])
def test_a_will_of_quality_3_and_the_quality_of_no_will_are_malformed(flags: int) -> None:
    will = b"\x00\x01w\x00\x00" if flags & 4 else b""
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c\x00\x02me" + will
    with pytest.raises(Malformed, match="will"):
        list(codec.Decoder().feed(bytes([0x10, len(body)]) + body))
