"""The agent's end of the tunnel: dials the cloud, and serves its streams from the node's kubelet interface.

A stream reaches only this node's own kubelet interface (a unix socket): a request for any other host is refused, so
that the cloud, or whoever speaks in its name, cannot use the node to reach its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import SkerryError
from skerry.base.net.http1 import AnswerReader, BadAnswer, request_head
from skerry.base.obs.log import get_log
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge.tunnel import CALM_PING_S, KUBELET_HOST, PLAIN_EDGE_PING_S, FrameType, StreamRequest
from skerry.wire.kubeedge.tunnelmux import (
    StreamClosed,
    StreamData,
    StreamOpened,
    StreamRefused,
    TunnelClosed,
    TunnelPeer,
    WindowOpened,
)

log = get_log(__name__)

_PIECE_BYTES = 32 * 1024
_INBOUND_BYTES = 1024 * 1024
_CALM_SILENCE_S = 2.5 * CALM_PING_S
_PLAIN_SILENCE_S = 30.0
_CAP_S = 30.0
_SHORT_CAP_S = 5.0
"""Caps the delay while the tunnel is down for less than ``_LONG_S``, as the link does."""
_LONG_S = 600.0


class TunnelSocket(Protocol):
    """A dialled WebSocket; whole messages, opcode Text, any bytes."""

    window_bytes: int

    @property
    def heard_s(self) -> float:
        """Monotonic time when the last byte came."""

    async def receive(self) -> bytes | None:
        """The next message; None when the connection has ended."""

    async def send_text(self, message: bytes) -> None:
        """Send one message. Raises ``ConnectionError``."""

    async def ping(self) -> None:
        """Send a ping."""

    def abort(self) -> None:
        """Cut the connection at once."""


Dial = Callable[[], AbstractAsyncContextManager[TunnelSocket]]


class TunnelClient:
    """Keeps one tunnel to the cloud.

    Args:
        dial: opens the WebSocket; raises ``SkerryError`` or ``OSError`` when it cannot.
        kubelet_socket: the unix socket of the kubelet interface.
    """

    def __init__(self, dial: Dial, *, kubelet_socket: Path, clock: Clock) -> None:
        self._dial = dial
        self._kubelet_socket = kubelet_socket
        self._clock = clock
        self.is_up = False

    async def run(self) -> None:
        """Dial, serve, dial again; never ends."""
        backoff = Backoff(first_s=0.5, cap_s=_CAP_S)
        lost_at_s = self._clock.monotonic_s()
        while True:
            try:
                async with self._dial() as socket:
                    backoff.reset()
                    try:
                        await self._serve(socket)
                    finally:
                        lost_at_s = self._clock.monotonic_s()
            except (SkerryError, OSError) as exc:
                if backoff.failures == 0:
                    log.warning("tunnel.down", error=str(exc), hint=getattr(exc, "hint", ""))
            is_long = self._clock.monotonic_s() - lost_at_s > _LONG_S
            await self._clock.sleep(backoff.next_s(at_most_s=_CAP_S if is_long else _SHORT_CAP_S))

    async def _serve(self, socket: TunnelSocket) -> None:
        self.is_up = True
        log.info("tunnel.up", window_bytes=socket.window_bytes)
        try:
            async with Supervisor("tunnel") as supervisor:
                session = _Session(socket, self._kubelet_socket, supervisor)
                supervisor.detach("alive", self._keep_alive(socket))
                supervisor.detach("flush", session.flush_loop())
                await session.run()
        finally:
            self.is_up = False

    async def _keep_alive(self, socket: TunnelSocket) -> None:
        """Cut a tunnel that is silent for too long. Towards a Go cloud we ping; one of ours does it itself."""
        is_calm = socket.window_bytes > 0
        silence_s = _CALM_SILENCE_S if is_calm else _PLAIN_SILENCE_S
        try:
            while True:
                await self._clock.sleep(CALM_PING_S if is_calm else PLAIN_EDGE_PING_S)
                silent_s = self._clock.monotonic_s() - socket.heard_s
                if silent_s >= silence_s:
                    log.warning("tunnel.silent", silent_s=round(silent_s))
                    socket.abort()
                    return
                if not is_calm:
                    await socket.ping()
        except ConnectionError:
            return


class _Session:
    def __init__(self, socket: TunnelSocket, kubelet_socket: Path, supervisor: Supervisor) -> None:
        self._socket = socket
        self._kubelet_socket = kubelet_socket
        self._supervisor = supervisor
        self._peer = TunnelPeer(window_bytes=socket.window_bytes)
        self._streams: dict[int, _Stream] = {}
        self._wanted = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def run(self) -> None:
        try:
            while (message := await self._socket.receive()) is not None:
                self._peer.receive_message(message)
                if not self._dispatch():
                    return
        except ProtocolError as exc:
            log.warning("tunnel.malformed", error=str(exc))

    async def flush_loop(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                await self.flush()
        except ConnectionError as exc:
            log.debug("tunnel.broken", error=str(exc))

    async def flush(self) -> None:
        async with self._flushing:
            for message in self._peer.messages_to_send():
                await self._socket.send_text(message)

    async def send(self, stream: _Stream, data: bytes) -> None:
        """Send a piece when the window lets it through."""
        while self._peer.sendable_bytes(stream.id) <= 0 and not stream.is_closed:
            stream.window.clear()
            await stream.window.wait()
        self._peer.send_data(stream.id, data)
        await self.flush()

    def consumed(self, stream: _Stream, count: int) -> None:
        self._peer.consumed(stream.id, count)
        self._wanted.set()

    def end(self, stream: _Stream) -> None:
        self._streams.pop(stream.id, None)
        self._peer.close(stream.id)
        self._wanted.set()

    def _dispatch(self) -> bool:
        for event in self._peer.events():
            if isinstance(event, TunnelClosed):
                log.warning("tunnel.closed_by_cloud", why=event.why)
                return False
            if isinstance(event, StreamRefused):
                log.warning("tunnel.stream_refused", stream=event.stream_id, why=event.why)
            elif isinstance(event, StreamOpened):
                stream = _Stream(self, event, self._kubelet_socket)
                self._streams[event.stream_id] = stream
                self._supervisor.detach(f"stream-{event.stream_id}", stream.run())
            elif (known := self._streams.get(event.stream_id)) is not None:
                self._on_known(event, known)
        self._wanted.set()
        return True

    def _on_known(self, event: StreamData | StreamClosed | WindowOpened, stream: _Stream) -> None:
        if isinstance(event, StreamData):
            stream.receive(event.data)
        elif isinstance(event, WindowOpened):
            stream.window.set()
        else:
            self._streams.pop(stream.id, None)
            stream.close()


class _Stream:
    """One request of the cloud, carried to the kubelet interface and back."""

    def __init__(self, session: _Session, opened: StreamOpened, kubelet_socket: Path) -> None:
        self.id = opened.stream_id
        self.window = asyncio.Event()
        self.is_closed = False
        self._session = session
        self._kind = opened.type
        self._request = opened.request
        self._kubelet_socket = kubelet_socket
        self._inbound: asyncio.Queue[bytes] = asyncio.Queue()
        self._inbound_bytes = 0
        self._closed = asyncio.Event()

    def receive(self, data: bytes) -> None:
        """Bytes from the cloud; past the bound (a peer without windows) the stream ends."""
        self._inbound_bytes += len(data)
        if self._inbound_bytes > _INBOUND_BYTES:
            log.warning("tunnel.stream_overflow", stream=self.id)
            self.close()
            return
        self._inbound.put_nowait(data)

    def close(self) -> None:
        """The cloud ended the stream."""
        self.is_closed = True
        self._closed.set()
        self.window.set()

    async def run(self) -> None:
        try:
            await self._carry()
        except (OSError, BadAnswer, ValueError) as exc:
            log.warning("tunnel.stream_failed", stream=self.id, path=self._request.path, error=str(exc))
            await self._refuse(502, str(exc))
        finally:
            self._session.end(self)

    async def _carry(self) -> None:
        if self._request.host != KUBELET_HOST:
            log.warning("tunnel.foreign_host", host=self._request.host, path=self._request.path)
            await self._refuse(403, f"this node serves {KUBELET_HOST} only")
            return
        reader, writer = await asyncio.open_unix_connection(str(self._kubelet_socket))
        try:
            is_raw = self._kind in (FrameType.EXEC_CONNECT, FrameType.ATTACH_CONNECT)
            writer.write(self._head(is_raw))
            await writer.drain()
            async with Supervisor(f"stream-{self.id}") as supervisor:
                if is_raw:
                    supervisor.detach("to-kubelet", self._to_kubelet(writer))
                supervisor.detach("until-closed", self._until_closed(writer))
                await (self._raw(reader) if is_raw else self._body(reader))
        finally:
            writer.close()

    def _head(self, is_raw: bool) -> bytes:
        request: StreamRequest = self._request
        headers = {name: values for name, values in request.headers.items() if name.lower() != "host"}
        headers["Host"] = (KUBELET_HOST,)
        if not is_raw:
            headers = {name: values for name, values in headers.items() if name.lower() != "connection"}
            headers["Connection"] = ("close",)
        return request_head(request.method, quote(request.path, safe="/~:@!$&'()*+,;="), request.query, headers)

    async def _raw(self, reader: asyncio.StreamReader) -> None:
        while not self.is_closed and (data := await reader.read(_PIECE_BYTES)):
            await self._session.send(self, data)

    async def _body(self, reader: asyncio.StreamReader) -> None:
        answer = AnswerReader(self._request.method)
        while not self.is_closed and not answer.is_complete:
            for piece in answer.feed(await reader.read(_PIECE_BYTES)):
                await self._session.send(self, piece)

    async def _to_kubelet(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await self._inbound.get()
                writer.write(data)
                await writer.drain()
                self._inbound_bytes -= len(data)
                self._session.consumed(self, len(data))
        except ConnectionError:
            return

    async def _until_closed(self, writer: asyncio.StreamWriter) -> None:
        await self._closed.wait()
        writer.close()

    async def _refuse(self, status: int, why: str) -> None:
        body = (why + "\n").encode()
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        is_raw = self._kind in (FrameType.EXEC_CONNECT, FrameType.ATTACH_CONNECT)
        try:
            await self._session.send(self, head + body if is_raw else body)
        except ConnectionError as exc:
            log.debug("tunnel.broken", error=str(exc))
