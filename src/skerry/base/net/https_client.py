"""One HTTPS request at a time for the edge: asyncio and h11, whole bodies with a bound. Used when joining."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import h11

from skerry.base.net.ws_client import ConnectFailed, open_tls
from skerry.base.values import Struct

_READ_BYTES = 64 * 1024
MAX_BODY_BYTES = 4 * 1024 * 1024


class Answer(Struct, frozen=True):
    """Status, headers (lower-case names) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace").strip()


async def get(
    host: str,
    port: int,
    path: str,
    *,
    tls: ssl.SSLContext,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float = 20.0,
    now_s: float | None = None,
) -> Answer:
    """GET, with a body where the peer wants one (KubeEdge's certificate request is such). ``now_s``: see
    ``edge_tls.check_server``.

    Raises:
        ConnectFailed, PeerNotTrusted: as ``ws_client.connect``; ``ConnectFailed`` also for a broken answer.
    """
    reader, writer = await open_tls(host, port, tls=tls, timeout_s=timeout_s, now_s=now_s)
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(reader, writer, f"{host}:{port}", path, dict(headers or {}), body)
    except TimeoutError as exc:
        raise ConnectFailed(f"{host}:{port} did not answer within {timeout_s:g} s") from exc
    except (OSError, ssl.SSLError, h11.RemoteProtocolError) as exc:
        raise ConnectFailed(f"{host}:{port} broke the exchange: {exc}") from exc
    finally:
        writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
) -> Answer:
    http = h11.Connection(h11.CLIENT)
    fields = [("Host", host), ("Connection", "close"), *headers.items()]
    if body:
        fields.append(("Content-Length", str(len(body))))
    request = h11.Request(method="GET", target=path, headers=fields)
    for part in (http.send(request), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())):
        writer.write(part or b"")
    await writer.drain()
    status, found, content = 0, {}, bytearray()
    while True:
        came = http.next_event()
        if came is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            if not data and not status:
                raise ConnectFailed(
                    f"{host} closed the connection without an answer", hint="try again; its log may say why"
                )
            http.receive_data(data)
        elif isinstance(came, h11.Response):
            status = came.status_code
            found = {name.decode("latin-1"): value.decode("latin-1") for name, value in came.headers}
        elif isinstance(came, h11.Data):
            content += came.data
            if len(content) > MAX_BODY_BYTES:
                raise ConnectFailed(f"{host} sent a body over {MAX_BODY_BYTES} bytes")
        elif isinstance(came, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, found, bytes(content))
