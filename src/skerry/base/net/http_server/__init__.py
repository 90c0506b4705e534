"""The cloud's HTTP server: the only door to aiohttp's server side.

One handler answers every request of a listener: it returns an ``HttpResponse``, or answers by itself through
``request.stream()``, ``request.websocket()`` or ``request.hijack()`` and returns None.

Doors are guarded before Python's TLS sees a byte: a connection that sends nothing costs a socket, not a TLS buffer;
plain HTTP on a TLS port gets a clear answer; a connection is handed to TLS only when its first byte is that of a
handshake. Bounds are in ``HttpLimits``, each with its overflow rule.
"""

import skerry.base.net.lean_aiohttp  # isort: skip  # noqa: F401
from skerry.base.net.http_server.limits import (
    BadUpgrade,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    HttpLimits,
    HttpResponse,
    PeerCertificate,
)
from skerry.base.net.http_server.request import HttpRequest
from skerry.base.net.http_server.server import Handler, HttpServer
from skerry.base.net.http_server.streams import RawStream, ResponseStream
from skerry.base.net.http_server.tls import server_tls, tune_tls_buffers
from skerry.base.net.http_server.websocket import WebSocket, WsMessage

__all__ = [
    "BadUpgrade",
    "BodyTooLarge",
    "BodyTooSlow",
    "ClientGone",
    "Handler",
    "HttpLimits",
    "HttpRequest",
    "HttpResponse",
    "HttpServer",
    "PeerCertificate",
    "RawStream",
    "ResponseStream",
    "WebSocket",
    "WsMessage",
    "server_tls",
    "tune_tls_buffers",
]
