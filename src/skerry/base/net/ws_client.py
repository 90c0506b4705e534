"""A WebSocket client over TLS for the edge: asyncio and wsproto. Whole messages, bounded, no compression.

Text messages are given and taken as bytes that need not be UTF-8, because KubeEdge's tunnel sends binary data as text.
So wsproto's frame codec is used, and its message layer, which checks text for UTF-8, is not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import h11
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, ParseFailed

from skerry.base.errors import Refused, SkerryError
from skerry.base.net.edge_tls import check_server, explain
from skerry.base.values import Struct, field

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD_LIMIT = 64 * 1024
_READ_BYTES = 64 * 1024
_HANDSHAKE_S = 20.0


class ConnectFailed(SkerryError):
    """The server cannot be reached, or speaks something else. The text names the hop that failed."""


class UpgradeRefused(Refused):
    """The server answered the handshake with an HTTP error; ``status`` and its text say why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the cloud answered {status}: {text.strip() or 'without a reason'}")
        self.status = status


class Target(Struct, frozen=True):
    """Where to connect.

    Args:
        host, port: of the server; ``host`` is compared with its certificate.
        path: request target.
        headers: of the handshake, besides those of WebSocket itself.
    """

    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


class WebSocketClient:
    """An open WebSocket. One reader, any number of writers.

    Args:
        headers: of the server's answer, lower-case names.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        headers: Mapping[str, str],
        limit_bytes: int,
        first: bytes,
    ) -> None:
        self.headers = headers
        self.close_code = 1006
        self.close_reason = ""
        self._reader = reader
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._decoder = _Decoder(first, limit_bytes)
        self._encoder = FrameProtocol(client=True, extensions=[])
        self._lock = asyncio.Lock()
        self._message = bytearray()
        self.heard_s = time.monotonic()
        """Monotonic time when the last byte came."""

    async def receive(self) -> bytes | None:
        """The next data message; None when the connection has ended (see ``close_code``).

        Raises:
            ConnectionError: a message over the limit, or broken frames; the connection is cut.
        """
        while True:
            frame = self._decoder.next()
            if frame is None:
                try:
                    data = await self._reader.read(_READ_BYTES)
                except (OSError, ssl.SSLError) as exc:
                    self.close_reason = str(exc)
                    return None
                if not data:
                    return None
                self.heard_s = time.monotonic()
                self._decoder.feed(data)
                continue
            done = await self._take(*frame)
            if done is not None:
                return done
            if frame[0] is Opcode.CLOSE:
                return None

    async def send_text(self, message: bytes, *, timeout_s: float = 15.0) -> None:
        """Send these bytes as one text message.

        Raises:
            ConnectionError: the connection is gone, or took nothing for ``timeout_s``.
        """
        await self._send(Opcode.TEXT, message, timeout_s)

    async def send_binary(self, message: bytes, *, timeout_s: float = 15.0) -> None:
        """As ``send_text``, as a binary message."""
        await self._send(Opcode.BINARY, message, timeout_s)

    async def ping(self, payload: bytes = b"", *, timeout_s: float = 15.0) -> None:
        """Send a ping; the pong is taken in silence."""
        await self._send(Opcode.PING, payload, timeout_s)

    async def aclose(self) -> None:
        """Say goodbye and close; idempotent."""
        if not self._writer.is_closing():
            try:
                self._writer.write(self._encoder.close(CloseReason.NORMAL_CLOSURE))
            except (OSError, RuntimeError):
                pass
            self._writer.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._writer.transport.abort()

    async def _take(self, opcode: Opcode, payload: bytes, is_final: bool) -> bytes | None:
        if opcode is Opcode.PING:
            await self._send(Opcode.PONG, payload, 15.0)
        elif opcode is Opcode.CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.close_reason = payload[2:].decode(errors="replace")
        elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
            self._message += payload
            if len(self._message) > self._limit_bytes:
                self.abort()
                raise ConnectionError(f"message over {self._limit_bytes} bytes")
            if is_final:
                message, self._message = bytes(self._message), bytearray()
                return message
        return None

    async def _send(self, opcode: Opcode, payload: bytes, timeout_s: float) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the WebSocket is closed")
        frame = self._encoder._serialize_frame(opcode, payload)
        try:
            async with self._lock, asyncio.timeout(timeout_s):
                self._writer.write(frame)
                await self._writer.drain()
        except TimeoutError as exc:
            self.abort()
            raise ConnectionResetError(f"the other side took nothing for {timeout_s:g} s") from exc
        except ssl.SSLError as exc:
            raise ConnectionResetError(str(exc)) from exc


class _Decoder:
    """Frames from bytes, without wsproto's UTF-8 check of text."""

    def __init__(self, first: bytes, limit_bytes: int) -> None:
        self._inner = FrameDecoder(client=True)
        self._payload = bytearray()
        self._limit_bytes = limit_bytes
        self.feed(first)

    def feed(self, data: bytes) -> None:
        self._inner.receive_bytes(data)

    def next(self) -> tuple[Opcode, bytes, bool] | None:
        """The next whole frame: opcode, payload, whether it ends the message. None: more bytes are needed."""
        try:
            while (part := self._inner.process_buffer()) is not None:
                assert isinstance(part.payload, bytes)
                self._payload += part.payload
                if part.frame_finished:
                    payload, self._payload = bytes(self._payload), bytearray()
                    return part.opcode, payload, part.message_finished
                if len(self._payload) > self._limit_bytes:
                    raise ConnectionError(f"frame over {self._limit_bytes} bytes")
        except ParseFailed as exc:
            raise ConnectionError(f"broken frame: {exc}") from exc
        return None


@asynccontextmanager
async def connect(
    target: Target,
    *,
    tls: ssl.SSLContext,
    limit_bytes: int,
    timeout_s: float = _HANDSHAKE_S,
    now_s: float | None = None,
) -> AsyncIterator[WebSocketClient]:
    """Open a WebSocket; closed when this is left. ``now_s``: see ``edge_tls.check_server``.

    Raises:
        ConnectFailed: name not found, no route, refused, timed out, or no WebSocket there.
        PeerNotTrusted: the server's certificate does not fit.
        UpgradeRefused: HTTP error with the server's reason.
    """
    reader, writer = await open_tls(target.host, target.port, tls=tls, timeout_s=timeout_s, now_s=now_s)
    try:
        async with asyncio.timeout(timeout_s):
            headers, first = await _handshake(reader, writer, target)
    except TimeoutError as exc:
        writer.transport.abort()
        raise ConnectFailed(f"{target.host}:{target.port} did not answer the WebSocket handshake") from exc
    except (OSError, ssl.SSLError) as exc:
        writer.transport.abort()
        raise ConnectFailed(f"{target.host}:{target.port} closed the connection during the handshake: {exc}") from exc
    except BaseException:
        writer.transport.abort()
        raise
    websocket = WebSocketClient(reader, writer, headers=headers, limit_bytes=limit_bytes, first=first)
    try:
        yield websocket
    finally:
        await websocket.aclose()


async def server_certificate(
    host: str, port: int, *, tls: ssl.SSLContext, timeout_s: float = _HANDSHAKE_S, now_s: float | None = None
) -> bytes:
    """The server's certificate (DER) after a handshake that verified it; nothing else is sent.

    Raises:
        ConnectFailed, PeerNotTrusted: as ``connect``.
    """
    _, writer = await open_tls(host, port, tls=tls, timeout_s=timeout_s, now_s=now_s)
    try:
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return der
    finally:
        writer.transport.abort()


async def open_tls(
    host: str, port: int, *, tls: ssl.SSLContext, timeout_s: float, now_s: float | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection whose server certificate was checked against ``host``.

    Raises:
        ConnectFailed, PeerNotTrusted: as ``connect``.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=host, limit=_READ_BYTES, ssl_shutdown_timeout=1.0
            )
    except TimeoutError as exc:
        raise ConnectFailed(f"{where} did not answer within {timeout_s:g} s", hint="a firewall may drop it") from exc
    except ssl.SSLError as exc:
        raise explain(exc, host) from exc
    except ConnectionRefusedError as exc:
        raise ConnectFailed(f"{where} refused the connection", hint="is the cloud running? is the port right?") from exc
    except OSError as exc:
        why = exc.strerror or str(exc) or type(exc).__name__
        raise ConnectFailed(f"cannot reach {where}: {why}", hint="check DNS and the network") from exc
    if tls.verify_mode is not ssl.CERT_NONE:
        try:
            check_server(writer.transport, host, now_s=now_s)
        except BaseException:
            writer.transport.abort()
            raise
    return reader, writer


async def _handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target
) -> tuple[dict[str, str], bytes]:
    key = base64.b64encode(os.urandom(16))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
    headers = [
        ("Host", f"{target.host}:{target.port}"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key.decode()), ("Sec-WebSocket-Version", "13"), *target.headers.items(),
    ]  # fmt: skip
    writer.write(http.send(h11.Request(method="GET", target=target.path, headers=headers)) or b"")
    await writer.drain()
    http.send(h11.EndOfMessage())
    answer = await _answer(reader, http)
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    if answer.status_code != 101:
        raise UpgradeRefused(answer.status_code, await _text(reader, http))
    expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if found.get("sec-websocket-accept") != expected:
        raise ConnectFailed(f"{target.host}:{target.port} is not a WebSocket server")
    return found, bytes(http.trailing_data[0])


async def _answer(reader: asyncio.StreamReader, http: h11.Connection) -> h11.Response | h11.InformationalResponse:
    while True:
        event = _next(http)
        if isinstance(event, h11.Response | h11.InformationalResponse):
            return event
        data = await reader.read(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        http.receive_data(data)


async def _text(reader: asyncio.StreamReader, http: h11.Connection) -> str:
    body = bytearray()
    while len(body) < _HEAD_LIMIT:
        event = _next(http)
        if isinstance(event, h11.Data):
            body += event.data
        elif event is h11.NEED_DATA:
            http.receive_data(await reader.read(_READ_BYTES))
        else:
            break
    return body.decode(errors="replace")


def _next(http: h11.Connection) -> object:
    try:
        return http.next_event()
    except h11.RemoteProtocolError as exc:
        raise ConnectFailed(f"the server does not speak HTTP: {exc}") from exc
