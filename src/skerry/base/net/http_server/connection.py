"""One client's connection: deadlines, identity, and the sign of its departure."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from skerry.base.net.http_server.limits import Address, HttpLimits, PeerCertificate
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)


class Owner(Protocol):
    """The server that a connection belongs to."""

    limits: HttpLimits
    connections: set[Connection]

    @property
    def inner(self) -> web.Server:
        """aiohttp's side of the server."""

    def left(self, address: Address) -> None:
        """A connection of this address has ended."""

    def go_on(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        """Run what outlives its request; ends with the server."""


class Opening(Struct):
    """A connection that is not ours yet: until ``is_taken`` nobody else closes or uncounts it."""

    peer: socket.socket
    address: Address
    is_taken: bool = False


class Connection(RequestHandler):
    """aiohttp's connection, with a deadline for request heads, the peer's identity, and a sign of departure."""

    __slots__ = (
        "_certificate", "_head_timer", "_listeners", "_opening", "_released", "address", "behind_handshake",
        "gone", "owner",
    )  # fmt: skip

    def __init__(self, owner: Owner, opening: Opening) -> None:
        limits = owner.limits
        super().__init__(
            owner.inner,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keepalive_s,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            auto_decompress=False,
            lingering_time=1.0,
        )
        self.owner = owner
        self._opening = opening
        self.address = opening.address
        self.gone = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._head_timer: asyncio.TimerHandle | None = None
        self._certificate: PeerCertificate | Literal[False] | None = False
        self._released = False
        self.behind_handshake = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening.is_taken = True
        self.owner.connections.add(self)
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

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """A WebSocket begins. Whoever takes it over reads with a parser of its own, also what came already."""
        self.behind_handshake, self._message_tail = self._message_tail, b""
        super().set_parser(parser, data_received_cb)

    def release(self) -> None:
        """Forget this connection: it is lost, or was taken over and has ended."""
        if self._released:
            return
        self._forget()
        self.mark_gone()
        self.owner.left(self.address)

    def hand_over(self) -> Callable[[], None]:
        """The request ends and its WebSocket stays: forget all but the count; call the result when it is gone."""
        certificate = self.transport.get_extra_info("peercert") if self.transport is not None else None
        if certificate:
            certificate.clear()  # asyncio keeps it, decoded, for as long as the connection stands
        self.transport = None  # aiohttp closes what it forgets
        self._forget()
        return partial(self.owner.left, self.address)

    def _forget(self) -> None:
        self._released = True
        self._disarm()
        self.owner.connections.discard(self)
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
        self._head_timer = self._loop.call_later(self.owner.limits.head_s, self._head_late)

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
