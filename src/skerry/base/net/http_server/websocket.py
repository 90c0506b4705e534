"""Accepted WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import WSMsgType, web

from skerry.base.net.http_server.limits import ClientGone


@dataclass(frozen=True, slots=True)
class WsMessage:
    """One data message. Text is given as its bytes, which need not be UTF-8."""

    kind: Literal["text", "binary"]
    data: bytes


class WebSocket:
    """An accepted WebSocket. One reader; any number of writers (messages never mix).

    Pings are answered (and told to ``on_ping``) and pongs noted while somebody is in ``receive``.
    """

    def __init__(self, inner: web.WebSocketResponse[Literal[False]], gone: asyncio.Event) -> None:
        self._inner = inner
        self._gone = gone
        self._pong = asyncio.Event()
        self._refused: int | None = None
        self.failure = ""
        self.on_ping: Callable[[], None] = lambda: None

    @property
    def close_code(self) -> int | None:
        """The code that the other side, or we, closed with; 1006 for a broken connection."""
        return self._refused or self._inner.close_code

    @property
    def is_closed(self) -> bool:
        return self._inner.closed or self._gone.is_set()

    @property
    def protocol(self) -> str:
        """The subprotocol agreed on, or empty."""
        return self._inner.ws_protocol or ""

    async def receive(self) -> WsMessage | None:
        """The next message; None when the WebSocket has ended (``close_code`` and ``failure`` say how)."""
        while True:
            message = await self._inner.receive()
            if message.type is WSMsgType.TEXT:
                return WsMessage("text", message.data)
            if message.type is WSMsgType.BINARY:
                return WsMessage("binary", message.data)
            if message.type is WSMsgType.PING:
                self.on_ping()
                await self._answer_ping(message.data)
            elif message.type is WSMsgType.PONG:
                self._pong.set()
            else:
                if message.type is WSMsgType.ERROR:
                    self.failure = str(message.data)
                    self._refused = getattr(message.data, "code", None)
                return None

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
        self._pong.clear()
        try:
            await self._send(b"", WSMsgType.PING, timeout_s)
            async with asyncio.timeout(timeout_s):
                await self._pong.wait()
        except (TimeoutError, ClientGone):
            return False
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; waits up to 2 s for the other side's close frame. Idempotent."""
        if not self._inner.closed:
            await self._inner.close(code=code, message=reason.encode()[:123])

    def abort(self) -> None:
        """Cut the connection at once."""
        request = self._inner._req
        if request is not None and request.transport is not None:
            request.transport.abort()

    async def _answer_ping(self, data: bytes) -> None:
        try:
            await self._send(data, WSMsgType.PONG, 10.0)
        except ClientGone:
            pass

    async def _send(self, data: bytes, opcode: WSMsgType, timeout_s: float | None) -> None:
        if self.is_closed:
            raise ClientGone("the WebSocket is closed")
        try:
            async with asyncio.timeout(timeout_s):
                await self._inner.send_frame(data, opcode)
        except (ConnectionError, RuntimeError) as exc:
            raise ClientGone(str(exc)) from exc
        except TimeoutError as exc:
            self.abort()
            raise ClientGone(f"the client took no bytes for {timeout_s:g} s") from exc
