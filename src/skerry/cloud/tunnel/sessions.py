"""Tunnels by node, and the streams in them.

The read loop of a tunnel never waits on a reader: each stream has its own buffer. Towards a Skerry peer the window of
the stream bounds it; towards a Go peer, which knows no flow control, a stream whose buffer passes ``SPILL_BYTES`` is
ended with the reason, and the other streams go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from skerry.api.status import Unavailable
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.wire.errors import OutOfOrder, ProtocolError
from skerry.wire.kubeedge.tunnel import FrameType, StreamRequest
from skerry.wire.kubeedge.tunnelmux import StreamClosed, StreamData, TunnelClosed, TunnelPeer, WindowOpened

log = get_log(__name__)

WINDOW_BYTES = 256 * 1024
SPILL_BYTES = 8 * 1024 * 1024


class MessageSocket(Protocol):
    """A WebSocket as the tunnel needs it: whole messages, opcode Text, any bytes."""

    async def receive(self) -> bytes | None:
        """The next message; None when the connection has ended."""

    async def send_text(self, message: bytes) -> None:
        """Send one message of opcode Text without looking at its bytes. Raises ``ConnectionError``."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection."""


class TunnelStream:
    """One stream to a node: a ``kube.ports.ByteStream``."""

    def __init__(self, session: NodeTunnel, stream_id: int) -> None:
        self._session = session
        self._id = stream_id
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._ended = False
        self._failure = ""
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            Unavailable: the tunnel broke, or this reader was too slow.
        """
        while not self._pieces:
            if self._failure:
                raise Unavailable(self._failure)
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        self._session.consumed(self._id, len(piece))
        return piece

    async def write(self, data: bytes) -> None:
        """Send; waits while the node's window is full."""
        while data and not self._ended:
            room = self._session.sendable_bytes(self._id)
            if room <= 0:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._session.send_data(self._id, data[:room])
            data = data[room:]
        if self._ended:
            raise Unavailable(self._failure or "the node ended the stream")

    async def write_eof(self) -> None:
        """KubeEdge's tunnel knows no half close: the node sees the end only with ``close``."""

    async def close(self) -> None:
        """End the stream on both sides; idempotent."""
        self._session.end(self._id)
        self.finish()

    def receive(self, data: bytes) -> bool:
        """Take bytes from the node; False when they pass the bound."""
        self._pieces.append(data)
        self._buffered += len(data)
        self._wake.set()
        return self._buffered <= SPILL_BYTES

    def wake(self) -> None:
        """The window has opened."""
        self._wake.set()

    def finish(self, failure: str = "") -> None:
        """No more will come."""
        self._ended = True
        self._failure = self._failure or failure
        self._wake.set()


class NodeTunnel:
    """The tunnel of one node.

    Args:
        node: name from the certificate.
        socket: the accepted WebSocket.
        window_bytes: per stream when the peer named a window too, else 0.
    """

    def __init__(self, node: str, socket: MessageSocket, *, window_bytes: int) -> None:
        self.node = node
        self._socket = socket
        self._peer = TunnelPeer(window_bytes=window_bytes)
        self._streams: dict[int, TunnelStream] = {}
        self._flushing = asyncio.Lock()
        self._flush_wanted = asyncio.Event()

    def open(self, kind: FrameType, request: StreamRequest) -> TunnelStream:
        """Ask the node for a stream.

        Raises:
            Unavailable: too many streams are open on this tunnel.
        """
        try:
            stream_id = self._peer.open(kind, request)
        except OutOfOrder as exc:
            raise Unavailable(f'node "{self.node}": {exc}') from exc
        stream = TunnelStream(self, stream_id)
        self._streams[stream_id] = stream
        self._flush_wanted.set()
        return stream

    async def run(self) -> None:
        """Carry messages until the connection ends; then every stream ends."""
        why = "the tunnel to the node ended"
        try:
            async with Supervisor(f"tunnel/{self.node}") as supervisor:
                supervisor.detach("flush", self._flush_loop())
                while (message := await self._socket.receive()) is not None:
                    self._peer.receive_message(message)
                    self._dispatch()
        except ProtocolError as exc:
            why = f"the node broke the tunnel's format: {exc}"
            log.warning("tunnel.malformed", node=self.node, error=str(exc))
        finally:
            for stream in self._streams.values():
                stream.finish(f'node "{self.node}": {why}')
            self._streams.clear()

    async def close(self, reason: str) -> None:
        """End the tunnel; ``run`` returns."""
        await self._socket.close(1001, reason)

    def consumed(self, stream_id: int, count: int) -> None:
        """A reader took bytes."""
        self._peer.consumed(stream_id, count)
        self._flush_wanted.set()

    def sendable_bytes(self, stream_id: int) -> int:
        """The window left towards the node."""
        return self._peer.sendable_bytes(stream_id)

    async def send_data(self, stream_id: int, data: bytes) -> None:
        """Send and wait until the socket took it, so that a slow node slows the writer."""
        self._peer.send_data(stream_id, data)
        await self._flush()

    def end(self, stream_id: int) -> None:
        """Tell the node that the stream is over."""
        self._streams.pop(stream_id, None)
        self._peer.close(stream_id)
        self._flush_wanted.set()

    def _dispatch(self) -> None:
        for event in self._peer.events():
            if isinstance(event, TunnelClosed):
                log.warning("tunnel.closed_by_node", node=self.node, why=event.why)
            elif (stream := self._streams.get(event.stream_id)) is None:
                continue
            elif isinstance(event, StreamData):
                if not stream.receive(event.data):
                    stream.finish(f"reader is {SPILL_BYTES} bytes behind; the stream was ended to spare the others")
                    self.end(event.stream_id)
            elif isinstance(event, StreamClosed):
                self._streams.pop(event.stream_id, None)
                stream.finish()
            elif isinstance(event, WindowOpened):
                stream.wake()
        self._flush_wanted.set()

    async def _flush_loop(self) -> None:
        while True:
            await self._flush_wanted.wait()
            self._flush_wanted.clear()
            try:
                await self._flush()
            except ConnectionError as exc:
                log.debug("tunnel.broken", node=self.node, error=str(exc))
                return

    async def _flush(self) -> None:
        async with self._flushing:
            for message in self._peer.messages_to_send():
                await self._socket.send_text(message)


class Tunnels:
    """All tunnels of this process by node name; the newest of a node wins."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._by_node: dict[str, NodeTunnel] = {}
        self._lost_at_s: dict[str, float] = {}

    async def serve(self, tunnel: NodeTunnel, *, on_change: Callable[[str, bool], None] | None = None) -> None:
        """Register a tunnel, carry it until it ends, forget it."""
        previous = self._by_node.get(tunnel.node)
        self._by_node[tunnel.node] = tunnel
        self._lost_at_s.pop(tunnel.node, None)
        if previous is not None:
            log.info("tunnel.replaced", node=tunnel.node)
            await previous.close("a newer tunnel of this node took over")
        if on_change is not None:
            on_change(tunnel.node, True)
        try:
            await tunnel.run()
        finally:
            if self._by_node.get(tunnel.node) is tunnel:
                del self._by_node[tunnel.node]
                self._lost_at_s[tunnel.node] = self._clock.now_s()
                if on_change is not None:
                    on_change(tunnel.node, False)

    def find(self, node: str) -> NodeTunnel:
        """The tunnel of a node.

        Raises:
            Unavailable: it has none; says since when and what to look at.
        """
        tunnel = self._by_node.get(node)
        if tunnel is not None:
            return tunnel
        lost_s = self._lost_at_s.get(node)
        since = f" for {self._clock.now_s() - lost_s:.0f} s" if lost_s else " since this cloud process started"
        raise Unavailable(
            f'node "{node}" has had no tunnel{since}; logs and exec need one. '
            f"See `skerry node show {node}`, and `skerry edge status` on the node itself"
        )

    async def drop(self, node: str, reason: str) -> None:
        """End a node's tunnel (revocation)."""
        tunnel = self._by_node.get(node)
        if tunnel is not None:
            await tunnel.close(reason)

    def nodes(self) -> list[str]:
        """Names of nodes with a tunnel."""
        return sorted(self._by_node)
