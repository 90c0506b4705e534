import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge.tunnel import (
    MAX_DATA_BYTES,
    Frame,
    FrameType,
    StreamRequest,
    decode,
    decode_request,
    encode,
    encode_request,
)
from skerry.wire.kubeedge.tunnelmux import (
    MAX_STREAMS,
    StreamClosed,
    StreamData,
    StreamOpened,
    StreamRefused,
    TunnelClosed,
    TunnelPeer,
    WindowOpened,
)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(1, FrameType.DATA, b"hi"), "01036869"),
        (Frame(300, FrameType.REMOVE_CONNECT), "ac0204"),
        (Frame(0, FrameType.CLOSE_CONNECT, b"x"), "000578"),
    ],
)
def test_vectors(frame: Frame, message: str) -> None:
    assert encode(frame).hex() == message
    assert decode(bytes.fromhex(message)) == frame


@given(st.integers(0, 2**64 - 1), st.integers(0, 100), st.binary(max_size=100))
def test_frames_round_trip(connection_id: int, kind: int, data: bytes) -> None:
    assert decode(encode(Frame(connection_id, kind, data))) == Frame(connection_id, kind, data)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_malformed(message: bytes) -> None:
    try:
        frame = decode(message)
    except Malformed:
        return
    assert 0 <= frame.connection_id < 2**64


def test_too_large_data_is_refused_both_ways() -> None:
    with pytest.raises(TooLarge):
        encode(Frame(1, 3, bytes(MAX_DATA_BYTES + 1)))
    with pytest.raises(TooLarge):
        decode(b"\x01\x03" + bytes(MAX_DATA_BYTES + 1))


def test_request_has_gos_form() -> None:
    body = encode_request(1, StreamRequest("/containerLogs/default/web-0/nginx", "tailLines=10"), with_method=False)
    assert body.startswith(b'{"MessID":1,"url":{"Scheme":"http","Opaque":"","User":null,"Host":"127.0.0.1:10350"')
    assert b'"method"' not in body


def test_request_names_match_without_case() -> None:
    request = decode_request(b'{"messid":1,"URL":{"host":"h","PATH":"/p","rawquery":"q"},"Header":{"A":["b"]}}')
    assert request == StreamRequest("/p", "q", host="h", headers={"A": ("b",)})


@pytest.mark.parametrize("body", [b"", b"[]", b'{"url":1}', b'{"url":{"Path":1}}', b'{"url":{},"header":[1]}'])
def test_bad_requests_are_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_request(body)


def carry(sender: TunnelPeer, receiver: TunnelPeer) -> list[object]:
    for message in sender.messages_to_send():
        receiver.receive_message(message)
    return list(receiver.events())


def test_a_stream_lives_and_ends() -> None:
    cloud, edge = TunnelPeer(), TunnelPeer()
    request = StreamRequest("/exec/a/b/c", "command=ls", method="POST", headers={"Upgrade": ("SPDY/3.1",)})
    stream_id = cloud.open(FrameType.EXEC_CONNECT, request)
    assert carry(cloud, edge) == [StreamOpened(stream_id, FrameType.EXEC_CONNECT, request)]
    edge.send_data(stream_id, b"out")
    edge.close(stream_id)
    edge.close(stream_id)
    assert carry(edge, cloud) == [StreamData(stream_id, b"out"), StreamClosed(stream_id)]
    edge.send_data(stream_id, b"late")
    assert edge.messages_to_send() == []


def test_the_window_stops_and_reopens_a_sender() -> None:
    cloud, edge = TunnelPeer(window_bytes=1000), TunnelPeer(window_bytes=1000)
    stream_id = cloud.open(FrameType.LOGS_CONNECT, StreamRequest("/x"))
    carry(cloud, edge)
    edge.send_data(stream_id, bytes(1000))
    assert edge.sendable_bytes(stream_id) == 0
    carry(edge, cloud)
    cloud.consumed(stream_id, 400)
    assert carry(cloud, edge) == [WindowOpened(stream_id)]
    assert edge.sendable_bytes(stream_id) == 400


def test_peers_without_windows_are_not_limited() -> None:
    peer = TunnelPeer()
    stream_id = peer.open(FrameType.LOGS_CONNECT, StreamRequest("/x"))
    peer.send_data(stream_id, bytes(10_000_000))
    assert peer.sendable_bytes(stream_id) > 10_000_000


def test_repeated_id_and_bad_request_are_refused_and_answered() -> None:
    edge = TunnelPeer()
    edge.receive_message(
        encode(Frame(1, FrameType.LOGS_CONNECT, encode_request(1, StreamRequest("/x"), with_method=False)))
    )
    edge.receive_message(encode(Frame(2, FrameType.LOGS_CONNECT, b"{")))
    opened, refused = edge.events()
    assert isinstance(opened, StreamOpened)
    assert isinstance(refused, StreamRefused)
    assert edge.messages_to_send() == [encode(Frame(2, FrameType.REMOVE_CONNECT))]


def test_streams_are_bounded() -> None:
    edge = TunnelPeer()
    body = encode_request(1, StreamRequest("/x"), with_method=False)
    for stream_id in range(1, MAX_STREAMS + 2):
        edge.receive_message(encode(Frame(stream_id, FrameType.LOGS_CONNECT, body)))
    assert isinstance(edge.events()[-1], StreamRefused)


def test_unknown_types_and_streams_are_ignored_and_close_is_told() -> None:
    peer = TunnelPeer()
    peer.receive_message(encode(Frame(9, 77, b"x")))
    peer.receive_message(encode(Frame(9, FrameType.DATA, b"x")))
    peer.receive_message(encode(Frame(0, FrameType.CLOSE_CONNECT, b"port")))
    assert peer.events() == [TunnelClosed("port")]
