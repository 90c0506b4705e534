"""Many streams over one tunnel: the state machine that both ends drive. Takes and gives whole WebSocket messages.

Flow control: KubeEdge's protocol has none. Between peers that both named ``HEADER_WINDOW`` each stream has a window:
a sender stops when ``window_bytes`` are unread and goes on when the reader reports bytes as consumed. Towards other
peers ``sendable_bytes`` is without limit, and the shell bounds what it buffers.
"""

from __future__ import annotations

from skerry.base.values import Struct
from skerry.wire.errors import Malformed, OutOfOrder
from skerry.wire.kubeedge.tunnel import (
    MAX_DATA_BYTES,
    Frame,
    FrameType,
    StreamRequest,
    decode,
    decode_request,
    decode_varint,
    encode,
    encode_request,
    encode_varint,
)

MAX_STREAMS = 256
UNLIMITED = 1 << 62
_CONNECTS = {
    FrameType.LOGS_CONNECT, FrameType.EXEC_CONNECT, FrameType.METRIC_CONNECT, FrameType.ATTACH_CONNECT,
}  # fmt: skip


class StreamOpened(Struct, frozen=True):
    """The cloud asks for a stream (seen by the edge)."""

    stream_id: int
    type: FrameType
    request: StreamRequest


class StreamRefused(Struct, frozen=True):
    """The cloud asked for a stream that cannot be; the end of it is already in ``messages_to_send``."""

    stream_id: int
    why: str


class StreamData(Struct, frozen=True):
    """Bytes of a stream."""

    stream_id: int
    data: bytes


class StreamClosed(Struct, frozen=True):
    """The other side ended the stream."""

    stream_id: int


class WindowOpened(Struct, frozen=True):
    """The reader took bytes: ``sendable_bytes`` has grown."""

    stream_id: int


class TunnelClosed(Struct, frozen=True):
    """The cloud ends the whole session; ``why`` is its text."""

    why: str


Event = StreamOpened | StreamRefused | StreamData | StreamClosed | WindowOpened | TunnelClosed


class _Stream:
    __slots__ = ("consumed", "credit")

    def __init__(self, window_bytes: int) -> None:
        self.credit = window_bytes or UNLIMITED
        self.consumed = 0


class TunnelPeer:
    """One end of a tunnel.

    Args:
        window_bytes: per stream, when both sides named it; 0 when not.
    """

    def __init__(self, *, window_bytes: int = 0) -> None:
        self._window_bytes = window_bytes
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1
        self._events: list[Event] = []
        self._out: list[bytes] = []

    def open(self, kind: FrameType, request: StreamRequest) -> int:
        """Ask for a stream (cloud side); returns its id, never used before in this session.

        Raises:
            OutOfOrder: ``MAX_STREAMS`` are open.
        """
        if len(self._streams) >= MAX_STREAMS:
            raise OutOfOrder(f"{MAX_STREAMS} streams are open on this tunnel")
        stream_id, self._next_id = self._next_id, self._next_id + 1
        self._streams[stream_id] = _Stream(self._window_bytes)
        has_method = kind in (FrameType.EXEC_CONNECT, FrameType.ATTACH_CONNECT)
        self._put(stream_id, kind, encode_request(stream_id, request, with_method=has_method))
        return stream_id

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Send bytes; the shell has asked ``sendable_bytes`` before. Nothing happens on an ended stream."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.credit -= len(data)
        for at in range(0, len(data), MAX_DATA_BYTES):
            self._put(stream_id, FrameType.DATA, data[at : at + MAX_DATA_BYTES])

    def sendable_bytes(self, stream_id: int) -> int:
        """How much may be sent now; 0 or less means wait for ``WindowOpened``."""
        stream = self._streams.get(stream_id)
        return stream.credit if stream is not None else UNLIMITED

    def consumed(self, stream_id: int, count: int) -> None:
        """The local reader took ``count`` bytes."""
        stream = self._streams.get(stream_id)
        if stream is None or not self._window_bytes:
            return
        stream.consumed += count
        if stream.consumed * 4 >= self._window_bytes:
            self._put(stream_id, FrameType.WINDOW, encode_varint(stream.consumed))
            stream.consumed = 0

    def close(self, stream_id: int) -> None:
        """End a stream; idempotent."""
        if self._streams.pop(stream_id, None) is not None:
            self._put(stream_id, FrameType.REMOVE_CONNECT)

    def receive_message(self, message: bytes) -> None:
        """Take one WebSocket message.

        Raises:
            Malformed, TooLarge: the peer broke the format.
        """
        frame = decode(message)
        if frame.type in _CONNECTS:
            self._opened(frame)
        elif frame.type == FrameType.CLOSE_CONNECT:
            self._events.append(TunnelClosed(frame.data.decode(errors="replace")[:500]))
        elif (stream := self._streams.get(frame.connection_id)) is not None:
            self._on_stream(frame, stream)

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def messages_to_send(self) -> list[bytes]:
        """WebSocket messages to send, opcode Text."""
        out, self._out = self._out, []
        return out

    def _opened(self, frame: Frame) -> None:
        stream_id = frame.connection_id
        if stream_id in self._streams or len(self._streams) >= MAX_STREAMS:
            self._refuse(stream_id, f"stream {stream_id} is open already, or {MAX_STREAMS} are")
            return
        try:
            request = decode_request(frame.data)
        except Malformed as exc:
            self._refuse(stream_id, str(exc))
            return
        self._streams[stream_id] = _Stream(self._window_bytes)
        self._events.append(StreamOpened(stream_id, FrameType(frame.type), request))

    def _refuse(self, stream_id: int, why: str) -> None:
        self._put(stream_id, FrameType.REMOVE_CONNECT)
        self._events.append(StreamRefused(stream_id, why))

    def _on_stream(self, frame: Frame, stream: _Stream) -> None:
        if frame.type == FrameType.DATA:
            self._events.append(StreamData(frame.connection_id, frame.data))
        elif frame.type == FrameType.REMOVE_CONNECT:
            del self._streams[frame.connection_id]
            self._events.append(StreamClosed(frame.connection_id))
        elif frame.type == FrameType.WINDOW and self._window_bytes:
            count, _ = decode_varint(frame.data, 0)
            stream.credit = min(self._window_bytes, stream.credit + count)
            self._events.append(WindowOpened(frame.connection_id))

    def _put(self, stream_id: int, kind: FrameType, data: bytes = b"") -> None:
        self._out.append(encode(Frame(stream_id, kind, data)))
