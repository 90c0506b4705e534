"""Accepted WebSockets.

After the handshake the connection leaves aiohttp's request handling: ``_Line`` takes its place under the transport and
keeps only what frames need, so that an idle WebSocket is cheap. Frames are read by aiohttp's own reader. Its writer is
for clients and compression, too, and keeps much for that: a server's frames need ten lines. Pings are answered where
they are read, so that one costs no turn of a task.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Literal

from aiohttp import WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketError
from aiohttp.streams import EofStream

from skerry.base.net.http_server.connection import Connection
from skerry.base.net.http_server.limits import ClientGone
from skerry.base.values import Struct

CLOSE_WAIT_S = 2.0
_CLOSE_OK, _CLOSE_UNSAID, _CLOSE_BROKEN = 1000, 1005, 1006


class WsMessage(Struct, frozen=True):
    """One data message. Text is given as its bytes, which need not be UTF-8."""

    kind: Literal["text", "binary"]
    data: bytes


_QUEUE_BYTES = 64 * 1024
_COPIED_BYTES = 16 * 1024
"""A shorter message is copied behind its head, so that both are one record."""
_PINGS_AT_ONCE = 8
_FINAL = 0x80
_MOST_REASON_BYTES = 123


class _Messages(WebSocketDataQueue):
    """What waits for ``receive``. A ping waits only behind many others, or when the client does not take our bytes."""

    __slots__ = ()
    _protocol: _Line

    def feed_data(self, data: Any, size: int) -> None:
        if data[0] is not WSMsgType.PING or not self._protocol.answer_ping(data[1]):
            super().feed_data(data, size)


class _Line(BaseProtocol):
    """The connection below a WebSocket: bytes to the reader, and the news that it is gone."""

    __slots__ = ("_answered", "_has_ended", "_on_lost", "_reader", "has_said_goodbye", "is_broken", "on_ping", "queue")

    def __init__(self, connection: Connection, max_message_bytes: int) -> None:
        super().__init__(connection._loop)
        self._upgraded = True
        self.is_broken = False
        self.has_said_goodbye = False
        self._answered = 0
        self.on_ping: Callable[[], None] = _nobody_listens
        self._has_ended: asyncio.Event | None = None
        self._on_lost: Callable[[], None] = connection.release
        self.queue = _Messages(self, _QUEUE_BYTES, loop=connection._loop)
        self._reader = WebSocketReader(self.queue, max_message_bytes, compress=False, decode_text=False)
        self._paused = connection.writing_paused
        transport, self.transport = connection.transport, connection.transport
        connection._payload_parser = None  # it would end our queue when aiohttp forgets its connection
        if transport is None:
            self.connection_lost(None)
            return
        transport.set_protocol(self)
        self.resume_reading()
        if connection.behind_handshake:
            self.data_received(connection.behind_handshake)

    def data_received(self, data: bytes) -> None:
        """After a broken or too large frame nothing more is read: taking in the rest would cost others their time."""
        if not self.is_broken:
            self._answered = 0
            self.is_broken, _ = self._reader.feed_data(data)
            if self.is_broken:
                self.pause_reading()

    def eof_received(self) -> None:
        self.queue.feed_eof()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if not self.queue.is_eof():
            self.queue.feed_eof()
        if self._has_ended is not None:
            self._has_ended.set()
        self._on_lost()

    def answer_ping(self, data: bytes) -> bool:
        """Tell of a ping and answer it; False, and nothing done, when it cannot be answered now.

        Of those that come in one piece only the first few are: the others wait in the queue, which is bounded.
        """
        transport = self.transport
        if self._answered == _PINGS_AT_ONCE or self._paused or self.has_said_goodbye:
            return False
        if transport is None or transport.is_closing():
            return False
        self._answered += 1
        self.on_ping()
        self.send(WSMsgType.PONG, data)
        return True

    def send(self, opcode: WSMsgType, data: bytes) -> None:
        """Write one frame.

        Raises:
            ConnectionError: the connection is closing.
        """
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is closing")
        head = _frame_head(opcode, len(data))
        if len(data) > _COPIED_BYTES:
            transport.write(head)
            transport.write(data)
        else:
            transport.write(head + data)

    def say_goodbye(self, code: int, reason: bytes = b"") -> None:
        """Write the close frame, the last one.

        Raises:
            ConnectionError: the connection is closing.
        """
        self.has_said_goodbye = True
        self.send(WSMsgType.CLOSE, struct.pack("!H", code) + reason[:_MOST_REASON_BYTES])

    async def wait_lost(self) -> None:
        """Wait until the connection has ended."""
        if self.transport is not None:
            self._has_ended = asyncio.Event()
            await self._has_ended.wait()

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        await self._drain_helper()

    def keep_without(self, on_lost: Callable[[], None]) -> None:
        """The request that it came from is over; ``on_lost`` is called in its place."""
        self._on_lost = on_lost
        if self.transport is None:
            on_lost()


class WebSocket:
    """An accepted WebSocket. One reader; any number of writers (messages never mix).

    Pings are answered (and told to ``on_ping``) as they come, while they are few and the client takes our bytes; else,
    and pongs in any case, while somebody is in ``receive``.
    """

    __slots__ = ("_is_closed", "_is_receiving", "_line", "_pong", "_queue", "close_code", "failure", "protocol")

    def __init__(self, connection: Connection, response: web.WebSocketResponse[Any], max_message_bytes: int) -> None:
        self.protocol = response.ws_protocol or ""
        self.failure = ""
        self.close_code: int | None = None
        self._line = _Line(connection, max_message_bytes)
        self._queue = self._line.queue
        self._pong: asyncio.Event | None = None
        self._is_receiving = False
        self._is_closed = False

    def on_ping(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` for every ping; it must not block."""
        self._line.on_ping = listener

    @property
    def is_closed(self) -> bool:
        return self._is_closed or self._line.transport is None

    async def receive(self) -> WsMessage | None:
        """The next message; None when the WebSocket has ended (``close_code`` and ``failure`` say how), or after
        ``stop_receiving``.
        """
        self._is_receiving = True
        try:
            while True:
                message = await self._next()
                if message.type is WSMsgType.TEXT:
                    return WsMessage("text", message.data)
                if message.type is WSMsgType.BINARY:
                    return WsMessage("binary", message.data)
                if message.type is WSMsgType.PING:
                    self._line.on_ping()
                    await self._answer_ping(message.data)
                elif message.type is WSMsgType.PONG:
                    if self._pong is not None:
                        self._pong.set()
                else:
                    return None
        finally:
            self._is_receiving = False

    def stop_receiving(self) -> None:
        """Let ``receive`` return None, now or at its next call."""
        self._queue.feed_data(WSMessage(WSMsgType.CLOSING, None, None), 0)

    async def send_text(self, data: bytes, *, timeout_s: float | None = None) -> None:
        """Send a text message of these very bytes.

        Raises:
            ClientGone: it left, or took nothing for ``timeout_s``; the connection is cut.
        """
        await self._send(data, WSMsgType.TEXT, timeout_s)

    async def send_binary(self, data: bytes, *, timeout_s: float | None = None) -> None:
        """As ``send_text``, as a binary message."""
        await self._send(data, WSMsgType.BINARY, timeout_s)

    async def ping(self, *, timeout_s: float) -> bool:
        """Whether a pong came within ``timeout_s``. Somebody else must be in ``receive``."""
        self._pong = pong = asyncio.Event()
        try:
            await self._send(b"", WSMsgType.PING, timeout_s)
            async with asyncio.timeout(timeout_s):
                await pong.wait()
        except (TimeoutError, ClientGone):
            return False
        finally:
            self._pong = None
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; waits up to 2 s for the other side's close frame. Idempotent."""
        if self._line.transport is None:
            return
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                if self._is_closed:
                    await self._line.wait_lost()
                else:
                    self._is_closed = True
                    self.close_code = self.close_code or _CLOSE_BROKEN
                    self._line.say_goodbye(code, reason.encode())
                    await self._wait_for_close()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._hang_up()

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._line.transport is not None:
            self._line.transport.abort()

    def outlive_request(self, on_lost: Callable[[], None]) -> None:
        """Its request ends now, and it goes on; ``on_lost`` is called once when its connection has ended."""
        self._line.keep_without(on_lost)

    async def _wait_for_close(self) -> None:
        if self._is_receiving:
            await self._line.wait_lost()  # whoever receives sees the close frame, and hangs up
            return
        while (await self._next()).type is not WSMsgType.CLOSE:
            pass

    async def _next(self) -> Any:
        """The next message of any kind; however it ends, the end is a CLOSE."""
        try:
            message: Any = await self._queue.read()
        except EofStream:
            self.close_code = self.close_code or _CLOSE_BROKEN
            self._hang_up()
            return WSMessage(WSMsgType.CLOSE, self.close_code, None)
        except WebSocketError as exc:
            self.failure, self.close_code = str(exc), int(exc.code)
            self._answer_close(self.close_code)  # while it still sends: ``close`` gives it time to read this
            return WSMessage(WSMsgType.CLOSE, self.close_code, None)
        if message.type is WSMsgType.CLOSE:
            self.close_code = int(message.data or 0) or _CLOSE_UNSAID
            self._answer_close(_CLOSE_OK)
            self._hang_up()
        return message

    def _answer_close(self, code: int) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._line.say_goodbye(code)
        except ConnectionError:
            self._hang_up()

    def _hang_up(self) -> None:
        self._is_closed = True
        transport = self._line.transport
        if transport is None:
            return
        if self._line.is_broken:
            transport.abort()  # it would wait for the end of what we do not read
        else:
            transport.close()

    async def _answer_ping(self, data: bytes) -> None:
        try:
            await self._send(data, WSMsgType.PONG, 10.0)
        except ClientGone:
            pass

    async def _send(self, data: bytes, opcode: WSMsgType, timeout_s: float | None) -> None:
        if self.is_closed:
            raise ClientGone("the WebSocket is closed")
        try:
            self._line.send(opcode, data)
            if self._line.writing_paused:  # no timer as long as the client keeps up
                async with asyncio.timeout(timeout_s):
                    await self._line.drain()
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        except TimeoutError as exc:
            self.abort()
            raise ClientGone(f"the client took no bytes for {timeout_s:g} s") from exc


def _frame_head(opcode: int, size: int) -> bytes:
    """The head of a server's frame, which is never masked and, here, never a part of a message."""
    if size < 126:
        return bytes((_FINAL | opcode, size))
    if size < 1 << 16:
        return struct.pack("!BBH", _FINAL | opcode, 126, size)
    return struct.pack("!BBQ", _FINAL | opcode, 127, size)


def _nobody_listens() -> None:
    """What a ping means to whoever has not asked to be told."""
