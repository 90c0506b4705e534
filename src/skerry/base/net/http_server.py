"""The cloud's HTTP server: the only door to aiohttp's server side.

One handler answers every request of a listener: it returns an ``HttpResponse``, or answers by itself through
``request.stream()``, ``request.websocket()`` or ``request.hijack()`` and returns None.

Doors are guarded before Python's TLS sees a byte: a connection that sends nothing costs a socket, not a TLS buffer;
plain HTTP on a TLS port gets a clear answer; a connection is handed to TLS only when its first byte is that of a
handshake. Bounds are in ``HttpLimits``, each with its overflow rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NewType
from urllib.parse import unquote

from aiohttp import WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.obs.log import get_log

log = get_log(__name__)

_TLS_HANDSHAKE = 0x16
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the standard library does not name."""
_RECORD_HEAD_BYTES = 5
_GREETING_BYTES = 1024
"""Of a longer ClientHello the rest may come while TLS runs."""
_PLAIN_ON_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server; use https://\n"
)
_TUNED_TLS_BYTES = 64 * 1024

Address = NewType("Address", str)


class BodyTooLarge(SkerryError):
    """The request's body is over the limit; answer 413."""


class BodyTooSlow(SkerryError):
    """The request's body did not arrive in time; answer 408."""


class ClientGone(SkerryError):
    """The client closed the connection, or did not take our bytes in time."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one server lets in.

    Args:
        max_connections: open connections of this server; beyond it new ones are closed at once.
        per_address: open connections per client address; beyond it new ones are closed at once. 0 = no limit.
        opening: connections that have not finished their TLS handshake; beyond it the one that stalls longest goes.
        handshake_s: from the accept to the end of the TLS handshake.
        head_s: from its first byte (or the handshake) to the end of a request's head; then the connection closes.
        keepalive_s: an idle connection closes after this.
        body_s: for a whole body to arrive.
        max_body_bytes: largest body that ``HttpRequest.body`` reads.
        head_bytes: longest request line, and longest header.
    """

    max_connections: int = 10_000
    per_address: int = 0
    opening: int = 512
    handshake_s: float = 10.0
    head_s: float = 10.0
    keepalive_s: float = 120.0
    body_s: float = 60.0
    max_body_bytes: int = 3 * 1024 * 1024
    head_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The client certificate that TLS has verified.

    Args:
        common_name: CN, empty when absent.
        organizations: every O, in order.
        fingerprint: SHA-256 of the DER form, lower-case hex.
        not_before_s, not_after_s: its validity, Unix seconds; 0 when unknown.
    """

    common_name: str
    organizations: tuple[str, ...]
    fingerprint: str
    der: bytes = field(repr=False, default=b"")
    not_before_s: float = 0.0
    not_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer with its whole body."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Iterable[tuple[str, str]] = ()


Handler = Callable[["HttpRequest"], Awaitable[HttpResponse | None]]


@dataclass(slots=True)
class _Opening:
    """A connection that is not ours yet: until ``is_taken`` nobody else closes or uncounts it."""

    peer: socket.socket
    address: Address
    is_taken: bool = False


def server_tls(
    *,
    cert_file: Path,
    key_file: Path,
    client_ca_file: Path | None = None,
    require_client: bool = False,
    check_client_dates: bool = True,
) -> ssl.SSLContext:
    """TLS for a listener: 1.2 or newer, HTTP/1.1 only, no session tickets.

    Args:
        cert_file: our chain, PEM.
        client_ca_file: CA of client certificates; None asks for none.
        require_client: refuse clients without a certificate (else it is optional; a wrong one is always refused).
        check_client_dates: refuse client certificates out of their time in the handshake, without a reason. When
            False the handler must look at ``PeerCertificate.not_before_s`` and ``not_after_s``, and can say why.

    Raises:
        ConfigError: a file is missing or unusable.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file)
        if client_ca_file is not None:
            context.load_verify_locations(client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
            if not check_client_dates:
                context.verify_flags |= _NO_CHECK_TIME
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"cannot use the TLS files {cert_file}, {key_file}, {client_ca_file}: {exc}",
            hint="check that the files exist, are readable, and that key and certificate belong together",
        ) from exc
    return context


def tune_tls_buffers() -> None:
    """Shrink asyncio's TLS buffer from 256 to 64 KiB per connection; call once when a cloud process starts."""
    from asyncio import sslproto  # its class attribute is the only switch there is

    sslproto.SSLProtocol.max_size = _TUNED_TLS_BYTES


class HttpServer:
    """Serves one handler on any number of addresses.

    Args:
        handler: answers one request. An exception it lets out becomes a 500 and a log line.
        name: for task names and logs.
        limits: what is let in.
    """

    def __init__(self, handler: Handler, *, name: str, limits: HttpLimits | None = None) -> None:
        self._handler = handler
        self.limits = limits or HttpLimits()
        self.name = name
        self._supervisor = Supervisor(name)
        self._sockets: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._inner: web.Server | None = None
        self._connections: set[_Connection] = set()
        self._by_address: dict[Address, int] = {}
        self._opening: OrderedDict[socket.socket, asyncio.Task[None]] = OrderedDict()
        self._open = 0

    @property
    def open_count(self) -> int:
        """Connections now open, with those that still shake hands."""
        return self._open

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, backlog: int = 1024) -> int:
        """Listen on one address; returns the port (``port`` 0 takes a free one).

        Raises:
            ConfigError: the address cannot be bound.
        """
        listener = _bind(host, port, backlog)
        if self._inner is None:
            self._inner = web.Server(self._answer)
        self._sockets.append(listener)
        bound = int(listener.getsockname()[1])
        self._tls = tls
        self._supervisor.keep(f"accept-{bound}", lambda: self._accept_loop(listener, is_tls=tls is not None))
        return bound

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """From now on new connections of the TLS listeners use this; those that are open go on as they are."""
        self._tls = tls

    async def aclose(self, *, grace_s: float = 0.5) -> None:
        """Stop listening, tell streams to end, wait ``grace_s`` for handlers, then cut. Idempotent."""
        await self._supervisor.aclose()
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()
        for connection in tuple(self._connections):
            connection.mark_gone()
        if self._inner is not None:
            self._inner.pre_shutdown()
            await self._inner.shutdown(grace_s)

    async def _accept_loop(self, listener: socket.socket, *, is_tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, address = await loop.sock_accept(listener)
            except OSError as exc:
                log.warning("http.accept_failed", server=self.name, error=str(exc))
                await asyncio.sleep(0.1)  # out of descriptors: the only cure is that others close theirs
                continue
            self._admit(peer, Address(address[0]), self._tls if is_tls else None)

    def _admit(self, peer: socket.socket, address: Address, tls: ssl.SSLContext | None) -> None:
        count = self._by_address.get(address, 0)
        if self._open >= self.limits.max_connections or (self.limits.per_address and count >= self.limits.per_address):
            if log.is_debug:
                log.debug("http.refused", server=self.name, address=address, open=self._open)
            peer.close()
            return
        if len(self._opening) >= self.limits.opening:
            self._opening.popitem(last=False)[1].cancel()
        peer.setblocking(False)
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open += 1
        self._by_address[address] = count + 1
        opening = _Opening(peer, address)
        task = self._supervisor.detach("opening", self._open_connection(opening, tls))
        self._opening[peer] = task
        task.add_done_callback(lambda _: self._opened(opening))

    def _opened(self, opening: _Opening) -> None:
        """Also called for a task that was cancelled before its first step, which runs no ``finally`` of its own."""
        self._opening.pop(opening.peer, None)
        if not opening.is_taken:
            opening.peer.close()
            self._left(opening.address)

    async def _open_connection(self, opening: _Opening, tls: ssl.SSLContext | None) -> None:
        peer, address = opening.peer, opening.address
        try:
            async with asyncio.timeout(self.limits.handshake_s):
                if not await _is_welcome(peer, is_tls=tls is not None):
                    return
                loop = asyncio.get_running_loop()
                await loop.connect_accepted_socket(lambda: _Connection(self, opening), peer, ssl=tls)
        except (OSError, ssl.SSLError, TimeoutError) as exc:
            if log.is_debug:
                log.debug("http.handshake_failed", server=self.name, address=address, error=str(exc))

    def _left(self, address: Address) -> None:
        self._open -= 1
        left = self._by_address.get(address, 1) - 1
        if left:
            self._by_address[address] = left
        else:
            self._by_address.pop(address, None)

    async def _answer(self, inner: web.BaseRequest) -> web.StreamResponse:
        request = HttpRequest(inner, self.limits)
        try:
            response = await self._handler(request)
        except (ConnectionError, ClientGone):
            raise asyncio.CancelledError from None
        except Exception as exc:
            log.exception("http.failed", exc, server=self.name, method=request.method, path=request.path)
            if request._streamed is not None:
                request._connection.abort()
                raise asyncio.CancelledError from None
            response = HttpResponse(500, b"internal error; the server's log has the cause\n", "text/plain")
        request._connection.forget_listeners()
        if request._hijacked:
            request._connection.release()
            raise asyncio.CancelledError
        if request._streamed is not None:
            return request._streamed
        return _to_inner(response or HttpResponse(204, content_type="text/plain"))


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
        assert isinstance(connection, _Connection)
        self._connection = connection
        self._streamed: web.StreamResponse | None = None
        self._hijacked = False
        target = inner.raw_path
        if not target.startswith("/"):
            target = inner.rel_url.raw_path_qs
        self.method = inner.method
        self.raw_path, _, self.query = target.partition("?")
        self.path = unquote(self.raw_path)
        self.headers: Any = inner.headers

    @property
    def gone(self) -> asyncio.Event:
        return self._connection.gone

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when ``gone`` is set (at once when it is already)."""
        self._connection.on_gone(callback)

    @property
    def peer(self) -> PeerCertificate | None:
        return self._connection.certificate()

    @property
    def address(self) -> str:
        return self._connection.address

    @property
    def local_address(self) -> tuple[str, int]:
        """Our address and port as the client reached them."""
        name = self._connection.sockname or ("", 0)
        return str(name[0]), int(name[1])

    @property
    def is_upgrade(self) -> bool:
        """Whether the client asks to leave HTTP (WebSocket, SPDY)."""
        return "upgrade" in self.headers.get("Connection", "").lower() and bool(self.headers.get("Upgrade"))

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
        response = web.StreamResponse(status=status, headers=_headers(headers, content_type))
        self._streamed = response
        try:
            await response.prepare(self._inner)
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        stream = ResponseStream(response, self.gone)
        yield stream
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
        response: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            autoping=False,
            autoclose=True,
            protocols=tuple(protocols),
            compress=False,
            max_msg_size=max_message_bytes,
            decode_text=False,
            timeout=2.0,
        )
        response.headers.update(headers or {})
        try:
            await response.prepare(self._inner)
        except web.HTTPBadRequest as exc:
            raise BadUpgrade((exc.text or "not a WebSocket request").strip()) from exc
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        self._streamed = response
        websocket = WebSocket(response, self.gone)
        try:
            yield websocket
        finally:
            await websocket.close()

    @asynccontextmanager
    async def hijack(self) -> AsyncIterator[RawStream]:
        """Take the connection over as raw bytes; the caller writes the answer's head itself. Closed on leaving.

        For upgrades other than WebSocket (SPDY/3.1): the client sends nothing after its head until it has seen 101.
        """
        transport = self._connection.transport
        if transport is None:
            raise ClientGone("the client has left")
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_TUNED_TLS_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self._hijacked = True
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        transport.resume_reading()
        try:
            yield RawStream(reader, writer)
        finally:
            writer.close()


class BadUpgrade(SkerryError):
    """The request does not ask for the upgrade that its path needs; answer 400."""


class ResponseStream:
    """The body of a chunked answer."""

    def __init__(self, response: web.StreamResponse, gone: asyncio.Event) -> None:
        self._response = response
        self.gone = gone

    async def write(self, data: bytes, *, timeout_s: float | None = 30.0) -> None:
        """Send now; waits while the client is slow.

        Raises:
            ClientGone: it left, or took nothing for ``timeout_s``.
        """
        if self.gone.is_set():
            raise ClientGone("the client has left")
        try:
            async with asyncio.timeout(timeout_s):
                await self._response.write(data)
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        except TimeoutError as exc:
            self.abort()
            raise ClientGone(f"the client took no bytes for {timeout_s:g} s") from exc

    def abort(self) -> None:
        """Cut the connection without an orderly end, so that the client sees the answer as broken."""
        request = self._response._req
        if request is not None and request.transport is not None:
            request.transport.abort()


class RawStream:
    """A hijacked connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        try:
            return await self._reader.read(_TUNED_TLS_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send; waits while the client is slow.

        Raises:
            ClientGone: it left.
        """
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc

    async def write_eof(self) -> None:
        """Send no more (over TLS: close)."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    async def close(self) -> None:
        """End both directions."""
        self._writer.close()


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


class _Connection(RequestHandler):
    """aiohttp's connection, with a deadline for request heads, the peer's identity, and a sign of departure."""

    __slots__ = ("_certificate", "_head_timer", "_listeners", "_opening", "_owner", "_released", "address", "gone")

    def __init__(self, owner: HttpServer, opening: _Opening) -> None:
        assert owner._inner is not None
        limits = owner.limits
        super().__init__(
            owner._inner,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keepalive_s,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            auto_decompress=False,
            lingering_time=1.0,
        )
        self._owner = owner
        self._opening = opening
        self.address = opening.address
        self.gone = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._head_timer: asyncio.TimerHandle | None = None
        self._certificate: PeerCertificate | Literal[False] | None = False
        self._released = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening.is_taken = True
        self._owner._connections.add(self)
        self._arm()

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._disarm()
        elif self._head_timer is None and not self._request_in_progress and not self._upgraded:
            self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.release()

    def release(self) -> None:
        """Forget this connection: it is lost, or was taken over and has ended."""
        if self._released:
            return
        self._released = True
        self._disarm()
        self.mark_gone()
        self._owner._connections.discard(self)
        self._owner._left(self.address)
        if self._manager is not None:
            super().connection_lost(None)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Requests that are no HTTP have been answered with 400: strangers decide how many, so it is no log line."""
        exc = kw.get("exc_info")
        if isinstance(exc, HttpProcessingError):
            if log.is_debug:
                log.debug("http.bad_request", address=self.address, error=str(exc)[:200])
        elif isinstance(exc, Exception):
            log.exception("http.connection_failed", exc, address=self.address)

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self.gone.is_set():
            callback()
        else:
            self._listeners.append(callback)

    def forget_listeners(self) -> None:
        """The request that they belong to is over."""
        self._listeners.clear()

    def mark_gone(self) -> None:
        """Tell whoever waits that the client has left or the server is closing."""
        self.gone.set()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def certificate(self) -> PeerCertificate | None:
        if self._certificate is False:
            self._certificate = _peer_certificate(self.transport)
        return self._certificate

    def _arm(self) -> None:
        self._head_timer = self._loop.call_later(self._owner.limits.head_s, self._head_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _head_late(self) -> None:
        self._head_timer = None
        self.abort()


async def _is_welcome(peer: socket.socket, *, is_tls: bool) -> bool:
    """Wait for the client's greeting, without taking it. Plain HTTP on a TLS port is told so.

    A client that stalls inside its greeting costs a socket: TLS and its buffers come when the greeting is there.
    """
    if not is_tls:
        return True
    await _readable(peer, 1)
    first = peer.recv(1, socket.MSG_PEEK)
    if first and first[0] != _TLS_HANDSHAKE:
        with contextlib.suppress(OSError):
            peer.recv(4096)  # unread bytes would turn our close into a reset and the answer would be lost
            peer.send(_PLAIN_ON_TLS)
        return False
    await _readable(peer, _RECORD_HEAD_BYTES)
    head = peer.recv(_RECORD_HEAD_BYTES, socket.MSG_PEEK)
    if len(head) < _RECORD_HEAD_BYTES:
        return False
    wanted = min(_RECORD_HEAD_BYTES + int.from_bytes(head[3:]), _GREETING_BYTES)
    await _readable(peer, wanted)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return len(peer.recv(wanted, socket.MSG_PEEK)) == wanted


async def _readable(peer: socket.socket, count: int) -> None:
    """Wait until so many bytes are there, or the client has left."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    number = peer.fileno()
    loop.add_reader(number, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(number)


def _bind(host: str, port: int, backlog: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"cannot listen on {host}:{port}: {exc}", hint="choose an address of this machine") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {exc.strerror}",
            hint=f"another program uses port {port} (see `ss -ltnp`), or choose another port",
        ) from exc
    return listener


def _peer_certificate(transport: asyncio.BaseTransport | None) -> PeerCertificate | None:
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        return None
    der = tls.getpeercert(binary_form=True)
    if not der:
        return None
    fields = tls.getpeercert() or {}
    names = [pair for part in fields.get("subject", ()) for pair in part]
    return PeerCertificate(
        common_name=next((value for key, value in names if key == "commonName"), ""),
        organizations=tuple(value for key, value in names if key == "organizationName"),
        fingerprint=hashlib.sha256(der).hexdigest(),
        der=der,
        not_before_s=ssl.cert_time_to_seconds(fields["notBefore"]) if "notBefore" in fields else 0.0,
        not_after_s=ssl.cert_time_to_seconds(fields["notAfter"]) if "notAfter" in fields else 0.0,
    )


def _headers(extra: Iterable[tuple[str, str]], content_type: str) -> CIMultiDict[str]:
    headers = CIMultiDict(extra)
    if content_type:
        headers["Content-Type"] = content_type
    return headers


def _to_inner(response: HttpResponse) -> web.Response:
    return web.Response(
        status=response.status, body=response.body, headers=_headers(response.headers, response.content_type)
    )
