"""One short HTTP request to a container of this machine: status and a bounded piece of the body.

The peer is not trusted and its certificate not verified, as probes and hooks are defined. Redirects are told, not
followed. Not here: requests to the cloud (``https_client``).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import h11

from skerry.base.errors import SkerryError
from skerry.base.net.hosts import in_url

BODY_BYTES = 10 * 1024
_READ_BYTES = 16 * 1024
_HEAD_BYTES = 64 * 1024


class HttpProbeFailed(SkerryError):
    """No HTTP answer: refused, cut off, not HTTP, or a request that cannot be written."""


async def get(
    host: str, port: int, target: str, *, is_tls: bool, headers: Sequence[tuple[str, str]] = ()
) -> tuple[int, str]:
    """GET ``target``; status and the first ``BODY_BYTES`` of the body as text. The caller sets the time limit.

    Raises:
        HttpProbeFailed: there was no answer.
    """
    try:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        names = {name.lower() for name, _ in headers}
        ours = [("Host", f"{in_url(host)}:{port}"), ("Connection", "close")]
        ours = [(name, value) for name, value in ours if name.lower() not in names]
        request = http.send(h11.Request(method="GET", target=target, headers=[*ours, *headers])) or b""
        request += http.send(h11.EndOfMessage()) or b""
    except (h11.LocalProtocolError, UnicodeEncodeError) as exc:
        raise HttpProbeFailed(f"the request cannot be written: {exc}") from exc
    tls = _no_verification() if is_tls else None
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_READ_BYTES)
        try:
            writer.write(request)
            await writer.drain()
            return await _answer(http, reader)
        finally:
            writer.transport.abort()
    except (OSError, ssl.SSLError, h11.RemoteProtocolError) as exc:
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise HttpProbeFailed(text or type(exc).__name__) from exc


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, str]:
    status, body = 0, bytearray()
    while len(body) < BODY_BYTES:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    if not status:
        raise HttpProbeFailed("the connection was closed without an answer")
    return status, body[:BODY_BYTES].decode(errors="replace")


def _no_verification() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
