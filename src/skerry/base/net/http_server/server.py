"""The server: listeners, counts, and one handler for every request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from skerry.base.aio.supervise import Supervisor
from skerry.base.net.http_server.connection import Connection, Opening
from skerry.base.net.http_server.door import is_refused, is_welcome
from skerry.base.net.http_server.limits import Address, ClientGone, HttpLimits, HttpResponse
from skerry.base.net.http_server.request import HttpRequest, header_map
from skerry.base.net.http_server.window import OpeningWindow
from skerry.base.net.listening import bind
from skerry.base.obs.log import get_log

log = get_log(__name__)

BACKLOG = 8192
"""A whole fleet that comes at once waits in the kernel, as far as it allows (net.core.somaxconn); who finds no place
there tries again only after seconds."""
GREETING_S = 1.0
"""Who has not greeted us by then is given up for others, when there is no room."""
Handler = Callable[[HttpRequest], Awaitable[HttpResponse | None]]


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
        self.connections: set[Connection] = set()
        self._by_address: dict[Address, int] = {}
        self._window = OpeningWindow(self.limits.opening, deadline_s=self.limits.handshake_s)
        self._opening: OrderedDict[socket.socket, asyncio.Task[None]] = OrderedDict()
        self._began_s: dict[socket.socket, float] = {}
        self._greeted: set[socket.socket] = set()
        self._has_room = asyncio.Event()
        self._open = 0

    @property
    def inner(self) -> web.Server:
        """aiohttp's side; there is one once a listener is."""
        assert self._inner is not None
        return self._inner

    @property
    def open_count(self) -> int:
        """Connections now open, with those that still shake hands."""
        return self._open

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, backlog: int = BACKLOG) -> int:
        """Listen on one address; returns the port (``port`` 0 takes a free one).

        Raises:
            ConfigError: the address cannot be bound.
        """
        listener = bind(host, port, backlog)
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
        for connection in tuple(self.connections):
            connection.mark_gone()
        if self._inner is not None:
            self._inner.pre_shutdown()
            await self._inner.shutdown(grace_s)

    async def _accept_loop(self, listener: socket.socket, *, is_tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_room()
            try:
                peer, address = await loop.sock_accept(listener)
            except OSError as exc:
                log.warning("http.accept_failed", server=self.name, error=str(exc))
                await asyncio.sleep(0.1)  # out of descriptors: the only cure is that others close theirs
                continue
            self._admit(peer, Address(address[0]), self._tls if is_tls else None)
            await asyncio.sleep(0)  # a full backlog is accepted without a wait: those who are in go between

    async def _wait_for_room(self) -> None:
        """Accept nobody while as many as may are shaking hands, unless one of them stalls.

        Those that come wait in the kernel: when a whole fleet comes at once, each is served in its turn, where to
        let a newer one push an older one out would serve none of them.
        """
        loop = asyncio.get_running_loop()
        while len(self._opening) >= self._window.size:
            first, stalls_s = self._first_to_stall()
            if stalls_s <= loop.time():
                self._opening.pop(first).cancel()
                return
            self._has_room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stalls_s - loop.time()):
                    await self._has_room.wait()

    def _first_to_stall(self) -> tuple[socket.socket, float]:
        """Whom to give up next, and from when on: first of all those that have not even greeted us."""
        silent = next((peer for peer in self._opening if peer not in self._greeted), None)
        first = next(iter(self._opening))
        late_s = self._began_s[first] + self._window.patience_s
        if silent is None or (early_s := self._began_s[silent] + GREETING_S) > late_s:
            return first, late_s
        return silent, early_s

    def _admit(self, peer: socket.socket, address: Address, tls: ssl.SSLContext | None) -> None:
        count = self._by_address.get(address, 0)
        if self._open >= self.limits.max_connections or (self.limits.per_address and count >= self.limits.per_address):
            if log.is_debug:
                log.debug("http.refused", server=self.name, address=address, open=self._open)
            peer.close()
            return
        peer.setblocking(False)
        if tls is not None and is_refused(peer):
            peer.close()
            return
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open += 1
        self._by_address[address] = count + 1
        opening = Opening(peer, address)
        task = self._supervisor.detach("opening", self._open_connection(opening, tls))
        self._opening[peer] = task
        self._began_s[peer] = asyncio.get_running_loop().time()
        task.add_done_callback(lambda _: self._opened(opening))

    def _opened(self, opening: Opening) -> None:
        """Also called for a task that was cancelled before its first step, which runs no ``finally`` of its own."""
        self._opening.pop(opening.peer, None)
        self._began_s.pop(opening.peer, None)
        self._greeted.discard(opening.peer)
        self._has_room.set()
        if not opening.is_taken:
            opening.peer.close()
            self.left(opening.address)

    async def _open_connection(self, opening: Opening, tls: ssl.SSLContext | None) -> None:
        peer, address = opening.peer, opening.address
        try:
            async with asyncio.timeout(self.limits.handshake_s):
                if not await is_welcome(peer, is_tls=tls is not None):
                    return
                self._greeted.add(peer)
                loop = asyncio.get_running_loop()
                await loop.connect_accepted_socket(lambda: Connection(self, opening), peer, ssl=tls)
                self._window.came_through(loop.time() - self._began_s[peer])
        except (OSError, ssl.SSLError, TimeoutError) as exc:
            if log.is_debug:
                log.debug("http.handshake_failed", server=self.name, address=address, error=str(exc))

    def left(self, address: Address) -> None:
        self._open -= 1
        left = self._by_address.get(address, 1) - 1
        if left:
            self._by_address[address] = left
        else:
            self._by_address.pop(address, None)

    def go_on(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        self._supervisor.detach(name, body)

    async def _answer(self, inner: web.BaseRequest) -> web.StreamResponse:
        request = HttpRequest(inner, self.limits)
        try:
            response = await self._handler(request)
        except (ConnectionError, ClientGone):
            if request.is_hijacked:
                request.connection.release()
            raise asyncio.CancelledError from None
        except Exception as exc:
            log.exception("http.failed", exc, server=self.name, method=request.method, path=request.path)
            if request.streamed is not None or request.is_hijacked:
                request.connection.abort()
                raise asyncio.CancelledError from None
            response = HttpResponse(500, b"internal error; the server's log has the cause\n", "text/plain")
        request.connection.forget_listeners()
        if request.is_hijacked:
            request.connection.release()
            raise asyncio.CancelledError
        if request.streamed is not None:
            return request.streamed
        return _to_inner(response or HttpResponse(204, content_type="text/plain"))


def _to_inner(response: HttpResponse) -> web.Response:
    return web.Response(
        status=response.status, body=response.body, headers=header_map(response.headers, response.content_type)
    )
