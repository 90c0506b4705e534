"""A forward proxy on loopback with a byte-rate cap, for the container engine's pulls.

CRI cannot ask for a rate, but every engine goes through the proxy that its environment names (``HTTPS_PROXY``). So
names, TLS, passwords and redirects to other hosts stay the engine's own business, and all of it counts.
Bounds: ``_MAX_CONNECTIONS`` at once, heads of 32 KiB, 30 s to arrive or to reach a registry, 5 minutes without a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor, race
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)

_MAX_CONNECTIONS = 32
_HEAD_BYTES = 32 * 1024
_PIECE_BYTES = 16 * 1024
_ARRIVAL_S = 30.0
_SILENCE_S = 300.0
_LEAST_WINDOW, _MOST_WINDOW = 16 * 1024, 1024 * 1024
_PROXY_HEADERS = ("proxy-connection:", "proxy-authorization:", "connection:", "keep-alive:")


class ByteRate:
    """One cap for all connections together: each piece waits for those before it. Pure.

    Args:
        bytes_per_s: in the long run; nothing may be saved up.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0

    def take(self, count: int, now_s: float) -> float:
        """Take the place of ``count`` bytes; how long to wait until the next may come, in seconds."""
        self._free_s = max(self._free_s, now_s) + count / self._bytes_per_s
        return self._free_s - now_s


class Asked(Struct, frozen=True):
    """What a client of the proxy wants.

    Args:
        greeting: bytes for the client once the target is reached.
        opening: bytes for the target.
    """

    host: str
    port: int
    greeting: bytes = b""
    opening: bytes = b""


def asked(head: bytes) -> Asked:
    """Read the head of a request: ``CONNECT host:port``, or a plain request with an absolute address.

    Raises:
        ValueError: neither.
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    method, _, more = first.partition(" ")
    target, _, version = more.rpartition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("this is no HTTP/1 request")
    if method == "CONNECT":
        host, port = _place(target, default=443)
        return Asked(host, port, greeting=b"HTTP/1.1 200 Connection established\r\n\r\n")
    scheme, mark, address = target.partition("://")
    if not mark or scheme.lower() != "http":
        raise ValueError("this is a proxy for image pulls: name it in HTTP_PROXY and HTTPS_PROXY")
    authority, slash, path = address.partition("/")
    host, port = _place(authority, default=80)
    kept = [line for line in rest if line and not line.lower().startswith(_PROXY_HEADERS)]
    lines = [f"{method} {slash or '/'}{path} {version}", *kept, "Connection: close", "", ""]
    return Asked(host, port, opening="\r\n".join(lines).encode("latin-1"))


def _place(text: str, *, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no host and port")
    return host, int(port)


class PullProxy:
    """``run`` serves until it is cancelled.

    Args:
        host, port: where it listens; loopback.
        bytes_per_s: from registries, all connections together.
        listening: told the port, once it listens.
    """

    def __init__(
        self, host: str, port: int, *, bytes_per_s: int, clock: Clock, listening: Callable[[int], None] = lambda _: None
    ) -> None:
        self._host = host
        self._port = port
        self._bytes_per_s = bytes_per_s
        self._rate = ByteRate(bytes_per_s)
        self._clock = clock
        self._listening = listening
        self._open = 0
        self.carried_bytes = 0

    async def run(self) -> None:
        """Serve. Raises ``OSError`` when it cannot listen."""
        async with Supervisor("pull-proxy", clock=self._clock) as supervisor:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if self._open >= _MAX_CONNECTIONS:
                    writer.transport.abort()
                    return
                self._open += 1
                supervisor.detach("connection", self._serve(reader, writer))

            server = await asyncio.start_server(accept, self._host, self._port, limit=_HEAD_BYTES)
            try:
                port = int(server.sockets[0].getsockname()[1])
                log.info("pulls.proxy_listens", host=self._host, port=port, bytes_per_s=self._bytes_per_s)
                self._listening(port)
                await server.serve_forever()
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_ARRIVAL_S):
                wanted = asked(await reader.readuntil(b"\r\n\r\n"))
            try:
                async with asyncio.timeout(_ARRIVAL_S):
                    far_reader, far = await self._reach(wanted)
            except (OSError, TimeoutError) as exc:
                why = f"{wanted.host}:{wanted.port}: {exc or 'no answer in time'}"
                log.info("pulls.not_reached", host=wanted.host, port=wanted.port, why=str(exc))
                await _refuse(writer, "502 Bad Gateway", why)
                return
            writer.write(wanted.greeting)
            far.write(wanted.opening)
            await race(self._carry(reader, far), self._carry_slowly(far_reader, writer))
        except ValueError as exc:
            await _refuse(writer, "400 Bad Request", str(exc))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            log.debug("pulls.connection_ended", why=str(exc))
        finally:
            self._open -= 1
            for each in (writer, far):
                if each is not None:
                    each.close()

    async def _reach(self, wanted: Asked) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect with a receive window of about half a second, so that little is on its way beyond the cap."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{wanted.host} has no address")
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setblocking(False)
                window = min(_MOST_WINDOW, max(_LEAST_WINDOW, self._bytes_per_s // 2))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
                await loop.sock_connect(connection, address)
                return await asyncio.open_connection(sock=connection, limit=_PIECE_BYTES)
            except OSError as exc:
                connection.close()
                failure = exc
            except BaseException:
                connection.close()
                raise
        raise failure

    async def _carry_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await _read(reader):
            self.carried_bytes += len(data)
            wait_s = self._rate.take(len(data), self._clock.monotonic_s())
            writer.write(data)
            await writer.drain()
            await self._clock.sleep(wait_s)
        await writer.drain()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await _read(reader):
            writer.write(data)
            await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(_SILENCE_S):
        return await reader.read(_PIECE_BYTES)


async def _refuse(writer: asyncio.StreamWriter, status: str, why: str) -> None:
    body = f"{why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()
