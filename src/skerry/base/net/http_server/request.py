"""One request, as handlers see it, and the ways to answer it other than with a whole body."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from skerry.base.net.http_server.connection import Connection
from skerry.base.net.http_server.limits import (
    BadUpgrade,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    HttpLimits,
    PeerCertificate,
)
from skerry.base.net.http_server.streams import RawStream, ResponseStream
from skerry.base.net.http_server.tls import TUNED_TLS_BYTES
from skerry.base.net.http_server.websocket import WebSocket


class HttpRequest:
    """One request, as handlers see it.

    Attributes:
        method: upper case.
        path: percent-decoded, without the query; ``raw_path`` as it came.
        query: raw query string, without the question mark.
        headers: case-insensitive; ``getall`` gives repeated ones.
        peer: the verified client certificate, or None.
        address: of the client.
        gone: set when the client has left or the server is closing; long answers must watch it.
    """

    def __init__(self, inner: web.BaseRequest, limits: HttpLimits) -> None:
        self._inner = inner
        self._limits = limits
        connection = inner.protocol
        assert isinstance(connection, Connection)
        self.connection = connection
        self.streamed: web.StreamResponse | None = None
        self.is_hijacked = False
        target = inner.raw_path
        if not target.startswith("/"):
            target = inner.rel_url.raw_path_qs
        self.method = inner.method
        self.raw_path, _, self.query = target.partition("?")
        self.path = unquote(self.raw_path)
        self.headers: Any = inner.headers

    @property
    def gone(self) -> asyncio.Event:
        return self.connection.gone

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when ``gone`` is set (at once when it is already)."""
        self.connection.on_gone(callback)

    @property
    def peer(self) -> PeerCertificate | None:
        return self.connection.certificate()

    @property
    def address(self) -> str:
        return self.connection.address

    @property
    def local_address(self) -> tuple[str, int]:
        """Our address and port as the client reached them."""
        name = self.connection.sockname or ("", 0)
        return str(name[0]), int(name[1])

    @property
    def is_upgrade(self) -> bool:
        """Whether the client asks to leave HTTP (WebSocket, SPDY)."""
        return "upgrade" in self.headers.get("Connection", "").lower() and bool(self.headers.get("Upgrade"))

    @property
    def body_bytes(self) -> int | None:
        """Length of the body as announced: 0 for none, None when only its end will tell."""
        return self._inner.content_length if self._inner.body_exists else 0

    async def body(self, *, limit_bytes: int | None = None) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: over ``limit_bytes`` (default: the server's limit).
            BodyTooSlow: it did not arrive in time.
            ClientGone: the client left.
        """
        limit = self._limits.max_body_bytes if limit_bytes is None else limit_bytes
        length = self._inner.content_length
        if length is not None and length > limit:
            raise BodyTooLarge(f"request body of {length} bytes is larger than the limit of {limit} bytes")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while part := await self._inner.content.readany():
                    size += len(part)
                    if size > limit:
                        raise BodyTooLarge(f"request body is larger than the limit of {limit} bytes")
                    parts.append(part)
        except TimeoutError as exc:
            raise BodyTooSlow(f"request body did not arrive within {self._limits.body_s:g} s") from exc
        except (web.RequestPayloadError, ConnectionError) as exc:
            raise ClientGone(f"the client left while sending its body: {exc}") from exc
        return b"".join(parts)

    @asynccontextmanager
    async def stream(
        self,
        status: int = 200,
        *,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> AsyncIterator[ResponseStream]:
        """Answer piece by piece (chunked). The head is on the wire when this is entered; the end when it is left."""
        response = web.StreamResponse(status=status, headers=header_map(headers, content_type))
        self.streamed = response
        try:
            await response.prepare(self._inner)
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        yield ResponseStream(response, self.connection)
        with contextlib.suppress(ConnectionError):
            await response.write_eof()

    @asynccontextmanager
    async def websocket(
        self, *, max_message_bytes: int, protocols: Iterable[str] = (), headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[WebSocket]:
        """Accept a WebSocket, without compression; closed with 1000 when this is left open.

        Raises:
            BadUpgrade: the request does not ask for a WebSocket.
        """
        websocket = await self.accept(max_message_bytes=max_message_bytes, protocols=protocols, headers=headers)
        try:
            yield websocket
        finally:
            await websocket.close()

    async def accept(
        self, *, max_message_bytes: int, protocols: Iterable[str] = (), headers: Mapping[str, str] | None = None
    ) -> WebSocket:
        """As ``websocket``; the caller closes it, or hands it over by ``go_on``."""
        response: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            protocols=tuple(protocols),
            compress=False,
            max_msg_size=max_message_bytes,
            decode_text=False,
        )
        response.headers.update(headers or {})
        try:
            await response.prepare(self._inner)
        except web.HTTPBadRequest as exc:
            raise BadUpgrade((exc.text or "not a WebSocket request").strip()) from exc
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        self.is_hijacked = True
        return WebSocket(self.connection, response, max_message_bytes)

    def go_on(self, websocket: WebSocket, name: str, body: Coroutine[Any, Any, None]) -> None:
        """End this request, and let ``body`` go on with its WebSocket in a task of the server; it must close it.

        For WebSockets that stay for days: nothing of the request is kept. The server's end cancels ``body``.
        """
        websocket.outlive_request(self.connection.hand_over())
        self.connection.owner.go_on(name, body)

    @asynccontextmanager
    async def hijack(self) -> AsyncIterator[RawStream]:
        """Take the connection over as raw bytes; the caller writes the answer's head itself. Closed on leaving.

        For upgrades other than WebSocket (SPDY/3.1): the client sends nothing after its head until it has seen 101.
        """
        transport = self.connection.transport
        if transport is None:
            raise ClientGone("the client has left")
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=TUNED_TLS_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.is_hijacked = True
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        transport.resume_reading()
        try:
            yield RawStream(reader, writer)
        finally:
            writer.close()


def header_map(extra: Iterable[tuple[str, str]], content_type: str) -> CIMultiDict[str]:
    headers = CIMultiDict(extra)
    if content_type:
        headers["Content-Type"] = content_type
    return headers
