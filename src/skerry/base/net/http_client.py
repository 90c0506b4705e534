"""HTTP client of cloud processes and the command line: the only door to aiohttp's client.

Bodies and lines are bounded. Nothing is retried here. The edge agent never imports this.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from skerry.base.values import Struct, field

from skerry.base.net.lean_aiohttp import aiohttp  # isort: skip
from yarl import URL

from skerry.base.errors import Retryable, SkerryError

BODY_LIMIT_BYTES = 256 * 1024 * 1024
LINE_LIMIT_BYTES = 8 * 1024 * 1024


class HttpBroken(SkerryError, Retryable):
    """No answer, or one that broke off: refused, timed out, closed, not TLS, not HTTP, too long."""


class HttpAnswer(Struct, frozen=True):
    """A complete answer; ``warnings`` are the values of its Warning headers."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()


class HttpRequest(Struct, frozen=True):
    """What to ask.

    Args:
        method: such as GET.
        path: decoded, beginning with a slash.
        query: raw, without the question mark.
        headers: in addition to the client's own.
        body: may be empty.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpStream:
    """An answer whose body is still coming."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def read(self, *, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
        """The whole body.

        Raises:
            HttpBroken: it broke off, or is longer than ``limit_bytes``.
        """
        with _translated(str(self._response.url)):
            return await _whole(self._response, limit_bytes)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        with _translated(str(self._response.url)):
            async for part in self._response.content.iter_any():
                yield part

    async def lines(self, *, limit_bytes: int = LINE_LIMIT_BYTES) -> AsyncIterator[bytes]:
        """Lines without their end. A last line without an end counts.

        Raises:
            HttpBroken: the stream broke, or a line is longer than ``limit_bytes``.
        """
        rest = bytearray()
        async for part in self.chunks():
            rest += part
            *whole, last = rest.split(b"\n") if b"\n" in part else [rest]
            for line in whole:
                yield bytes(line)
            rest = last
            if len(rest) > limit_bytes:
                raise HttpBroken(f"a line of {self._response.url} is longer than {limit_bytes} bytes")
        if rest:
            yield bytes(rest)


class HttpClient:
    """Connections to one server.

    Args:
        base_url: ``https://host:port``; a path in it is put before every request's path.
        tls: for https.
        server_name: checked in the certificate instead of the host.
        connect_s: limit for a connection, TLS included.
        read_s: limit for silence on a connection.
    """

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        connect_s: float = 10.0,
        read_s: float = 60.0,
    ) -> None:
        self._base = URL(base_url.rstrip("/"))
        self._tls = tls
        self._server_name = server_name or None
        self._where = self._base.host or str(self._base)
        self._connect_s = connect_s
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=read_s)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: HttpRequest, *, limit_bytes: int = BODY_LIMIT_BYTES) -> HttpAnswer:
        """Ask and read the whole answer.

        Raises:
            HttpBroken: there is none.
        """
        with _translated(self._where):
            response = await self._ask(request, self._timeout)
            try:
                body = await _whole(response, limit_bytes)
            finally:
                _let_go(response)
        headers = response.headers
        return HttpAnswer(response.status, headers, body, tuple(headers.getall("Warning", ())))

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, read_s: float | None = None) -> AsyncIterator[HttpStream]:
        """Ask, and read the body piece by piece; leaving the block ends the request.

        Args:
            request: what to ask.
            read_s: another limit for silence; 0 for none.
        """
        timeout = self._timeout
        if read_s is not None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=read_s or None)
        with _translated(self._where):
            response = await self._ask(request, timeout)
        try:
            yield HttpStream(response)
        finally:
            _let_go(response)

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, request: HttpRequest, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        return await self._open().request(
            request.method,
            self._url(request),
            headers=request.headers,
            data=request.body or None,
            timeout=timeout,
            allow_redirects=False,
            server_hostname=self._server_name,
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._tls or (ssl.create_default_context() if self._base.scheme == "https" else True)
            connector = aiohttp.TCPConnector(ssl=tls, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, headers={"Accept-Encoding": "identity"}, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    def _url(self, request: HttpRequest) -> URL:
        url = self._base.with_path(self._base.path.rstrip("/") + request.path)
        return URL(f"{url}?{request.query}", encoded=True) if request.query else url


async def _whole(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    parts = []
    size = 0
    while part := await response.content.readany():
        size += len(part)
        if size > limit_bytes:
            raise HttpBroken(f"answer of {response.url} is longer than {limit_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def _let_go(response: aiohttp.ClientResponse) -> None:
    """The connection serves others, unless something of the answer is still to come."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


class _translated:
    """Turns the library's errors into ``HttpBroken``."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, aiohttp.ClientError | TimeoutError | OSError):
            text = str(exc) or type(exc).__name__
            raise HttpBroken(f"{self._what}: {text}") from exc
