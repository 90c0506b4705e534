"""A small HTTP/1.1 server for the edge, over asyncio and h11: the only door to h11's server side.

One handler answers every request. Bodies of answers may be streams; upgrades hand over the raw connection.
Bounds: ``max_connections`` at once (more are refused with 503), request heads of 64 KiB, request bodies of
``max_body_bytes``, 30 s for a head or body to arrive.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import h11

from skerry.base.aio.supervise import Supervisor, race
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field

log = get_log(__name__)

_HEAD_LIMIT = 64 * 1024
_READ_BYTES = 64 * 1024
_ARRIVAL_S = 30.0


class EdgeRequest(Struct, frozen=True):
    """A request.

    Args:
        path: as sent, still percent-encoded, without the query.
        headers: lower-case names; the last value wins.
        all_headers: every line, in order.
        peer_uid: user id of the process at the other end of a unix socket; None on TCP.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    peer_uid: int | None = None
    all_headers: Sequence[tuple[str, str]] = ()


class EdgeResponse(Struct, frozen=True):
    """An answer: a body at once, or ``stream`` piece by piece (each piece is sent when it comes).

    With ``takeover`` nothing is answered: it gets the connection, after an upgrade request, and writes the head itself.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    stream: AsyncIterator[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    takeover: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None


EdgeHandler = Callable[[EdgeRequest], Awaitable[EdgeResponse]]


class EdgeHttpServer:
    """Serves ``handler`` on a TCP address or a unix socket.

    Args:
        handler: answers one request; an exception it raises becomes a 500 and a log line.
        name: for task names and logs.
    """

    def __init__(
        self, handler: EdgeHandler, *, name: str, max_connections: int = 64, max_body_bytes: int = 1024 * 1024
    ) -> None:
        self._handler = handler
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._supervisor = Supervisor(name)
        self._servers: list[asyncio.Server] = []
        self._open = 0

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen; returns the port (``port`` 0 takes a free one)."""
        server = await asyncio.start_server(self._accept, host, port, limit=_HEAD_LIMIT)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: Path) -> None:
        """Listen on a socket file with mode 0600, replacing a stale one."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, str(path), limit=_HEAD_LIMIT)
        path.chmod(0o600)
        self._servers.append(server)

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        for server in self._servers:
            server.close()
        await self._supervisor.aclose()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= self._max_connections:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        self._open += 1
        self._supervisor.detach("connection", self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._max_body_bytes)
        try:
            while await self._one(connection):
                pass
        except (h11.RemoteProtocolError, ConnectionError, TimeoutError) as exc:
            log.debug("http.broken", error=str(exc))
        finally:
            self._open -= 1
            writer.close()

    async def _one(self, connection: _Connection) -> bool:
        request = await connection.read_request()
        if isinstance(request, EdgeResponse):
            await connection.respond("GET", request)
            return False
        if request is None:
            return False
        try:
            response = await self._handler(request)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as exc:
            log.exception("http.failed", exc, path=request.path)
            response = EdgeResponse(500, b"internal error; the agent's log has the cause\n")
        if response.takeover is not None:
            await connection.hand_over(response.takeover)
            return False
        return await connection.respond(request.method, response)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_body_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._max_body_bytes = max_body_bytes
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)

    async def read_request(self) -> EdgeRequest | EdgeResponse | None:
        """The next request, None at the end, or the refusal to answer with."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > self._max_body_bytes:
                return EdgeResponse(413, f"body larger than {self._max_body_bytes} bytes\n".encode())
        path, _, query = head.target.decode("latin-1").partition("?")
        return EdgeRequest(
            method=head.method.decode("latin-1"),
            path=path,
            query=query,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
            body=bytes(body),
            peer_uid=_peer_uid(self._writer),
            all_headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers],
        )

    async def hand_over(
        self, takeover: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        """Give the raw connection away until it is done with."""
        if self._h11.trailing_data[0]:
            raise ConnectionError("the client wrote before it was let")
        await takeover(self._reader, self._writer)

    async def respond(self, method: str, response: EdgeResponse) -> bool:
        """Send an answer; True when the connection can carry another request."""
        headers = [("Content-Type", response.content_type), *response.headers.items()]
        if response.stream is None:
            headers.append(("Content-Length", str(len(response.body))))
        else:
            headers.append(("Transfer-Encoding", "chunked"))
        self._send(h11.Response(status_code=response.status, headers=headers))
        if response.stream is None:
            self._send(h11.Data(data=b"" if method == "HEAD" else response.body))
        else:
            await self._stream(response.stream)
        self._send(h11.EndOfMessage())
        await self._writer.drain()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return True
        return False

    async def _stream(self, pieces: AsyncIterator[bytes]) -> None:
        try:
            while True:
                which, data = await race(_next(pieces), self._reader.read(1))
                if which:
                    raise ConnectionResetError("the reader went away")
                if data is None:
                    return
                if data:
                    self._send(h11.Data(data=data))
                    await self._writer.drain()
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._writer.write(data)

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            async with asyncio.timeout(_ARRIVAL_S):
                self._h11.receive_data(await self._reader.read(_READ_BYTES))


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def _peer_uid(writer: asyncio.StreamWriter) -> int | None:
    peer = writer.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
