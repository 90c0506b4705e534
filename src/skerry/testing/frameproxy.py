"""A proxy that ends TLS on both sides and does to messages what no network may: drop, double, delay, swap.

Messages of one object keep their order (a WebSocket would, too), but for copies of deliveries that come late: those an
edge must know again. Which message meets what is drawn from a seeded generator, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from skerry.base.aio.supervise import Supervisor
from skerry.base.net.http_server import ClientGone, HttpRequest, HttpResponse, HttpServer, WebSocket, server_tls
from skerry.base.values import Struct
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope, decode
from skerry.wire.kubeedge.join import node_of_subject

_MAX_BYTES = 64 * 1024 * 1024
_PASSED = (c.HEADER_NODE_ID, c.HEADER_PROJECT_ID, c.HEADER_CONNECTION_USE)


class Faults(Struct, frozen=True):
    """Probabilities per message, and the longest delay in seconds."""

    drop: float = 0.02
    double: float = 0.02
    late_copy: float = 0.02
    delay: float = 0.05
    swap: float = 0.05
    longest_s: float = 0.3


class FrameProxy:
    """Between agents and a hub.

    Args:
        upstream: gives the hub's URL now, such as ``wss://127.0.0.1:10000``.
        client_tls: gives the TLS with which a node's messages go on, its own certificate in it.
        rng: draws.
    """

    def __init__(
        self, *, upstream: Callable[[], str], client_tls: Callable[[str], ssl.SSLContext], faults: Faults,
        rng: random.Random,
    ) -> None:  # fmt: skip
        self._upstream = upstream
        self._client_tls = client_tls
        self._rng = rng
        self.faults = faults
        self.is_mischievous = True
        self.done: Counter[str] = Counter()
        self.port = 0

    async def handle(self, request: HttpRequest) -> HttpResponse | None:
        """One connection of an agent."""
        peer = request.peer
        assert peer is not None
        node = node_of_subject(peer.common_name, peer.organizations)
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        headers |= {name: value for name, value in request.headers.items() if name.lower().startswith("skerry-")}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(
                    self._upstream() + request.path, ssl=self._client_tls(node), headers=headers, max_msg_size=0
                ) as far,
            ):
                answer = {n: v for n, v in far._response.headers.items() if n.lower().startswith("skerry-")}
                async with request.websocket(max_message_bytes=_MAX_BYTES, headers=answer) as near:
                    await self._carry(near, far)
        except aiohttp.WSServerHandshakeError as exc:
            return HttpResponse(exc.status, exc.message.encode())
        except (aiohttp.ClientError, OSError):
            return HttpResponse(503, b"the hub cannot be reached")
        except ClientGone:
            return None
        return None

    async def _carry(self, near: WebSocket, far: aiohttp.ClientWebSocketResponse) -> None:
        async def to_far(data: bytes) -> None:
            with contextlib.suppress(ConnectionError):
                await far.send_frame(data, aiohttp.WSMsgType.TEXT)

        async def to_near(data: bytes) -> None:
            with contextlib.suppress(ClientGone):
                await near.send_text(data)

        async with Supervisor("frameproxy") as supervisor:
            up = _Way(to_far, supervisor, self, has_late_copies=False)
            down = _Way(to_near, supervisor, self, has_late_copies=True)
            ended = asyncio.Event()
            near.on_ping(lambda: _carry_ping(supervisor, far))

            async def read_near() -> None:
                while (message := await near.receive()) is not None:
                    await up.take(message.data)
                ended.set()

            async def read_far() -> None:
                async for message in far:
                    if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        break
                    await down.take(message.data.encode() if isinstance(message.data, str) else message.data)
                ended.set()

            supervisor.detach("up", read_near())
            supervisor.detach("down", read_far())
            await ended.wait()
            near.abort()
            await far.close()

    def draw(self, kind: str, probability: float) -> bool:
        """Whether this happens now."""
        if not self.is_mischievous or self._rng.random() >= probability:
            return False
        self.done[kind] += 1
        return True

    def delay_s(self) -> float:
        """How long."""
        return self._rng.uniform(0.0, self.faults.longest_s)


class _Way:
    """One direction of one connection."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], supervisor: Supervisor, proxy: FrameProxy, *,
        has_late_copies: bool,
    ) -> None:  # fmt: skip
        self._send = send
        self._supervisor = supervisor
        self._proxy = proxy
        self._has_late_copies = has_late_copies
        self._held: dict[str, deque[bytes]] = {}
        self._swapped: tuple[str, bytes] | None = None

    async def take(self, data: bytes) -> None:
        """One message: on its way at once, later, twice, behind the next one, or never."""
        proxy, faults = self._proxy, self._proxy.faults
        envelope = _read(data)
        if envelope is None or envelope.operation == c.OP_KEEPALIVE:
            await self._send(data)
            return
        if proxy.draw("dropped", faults.drop):
            return
        key = object_of(envelope)
        if key in self._held:
            self._held[key].append(data)
            return
        if proxy.draw("delayed", faults.delay):
            self._held[key] = deque([data])
            self._supervisor.detach("held", self._release(key, proxy.delay_s()))
            return
        is_delivery = envelope.operation in c.DELIVERY_OPERATIONS and not envelope.parent_id
        if self._has_late_copies and is_delivery and proxy.draw("copied late", faults.late_copy):
            self._supervisor.detach("copy", self._later(data, proxy.delay_s()))
        if self._swapped is None and proxy.draw("swapped", faults.swap):
            self._swapped = (key, data)
            self._supervisor.detach("swap", self._unswap(data))
            return
        await self._pass(key, data)
        if proxy.draw("doubled", faults.double):
            await self._send(data)

    async def _pass(self, key: str, data: bytes) -> None:
        swapped, self._swapped = self._swapped, None
        if swapped is not None and swapped[0] == key:
            await self._send(swapped[1])
            swapped = None
        await self._send(data)
        if swapped is not None:
            await self._send(swapped[1])

    async def _unswap(self, data: bytes) -> None:
        """Nothing came after it."""
        await asyncio.sleep(self._proxy.faults.longest_s)
        if self._swapped is not None and self._swapped[1] is data:
            self._swapped = None
            await self._send(data)

    async def _release(self, key: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        held = self._held[key]
        while held:
            await self._send(held.popleft())
        del self._held[key]

    async def _later(self, data: bytes, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._send(data)


def _carry_ping(supervisor: Supervisor, far: aiohttp.ClientWebSocketResponse) -> None:
    """The hub takes pings for signs of life; we answer the agent's ourselves, so each goes on as one of ours."""

    async def ping() -> None:
        with contextlib.suppress(ConnectionError):
            await far.ping()

    with contextlib.suppress(RuntimeError):
        supervisor.detach("ping", ping())


def object_of(envelope: Envelope) -> str:
    """What a message is about: everything about one pod is one thing."""
    namespace, _, rest = envelope.resource.partition("/")
    kind, _, name = rest.partition("/")
    return f"{namespace}/{c.TYPE_POD}/{name}" if kind in (c.TYPE_POD, c.TYPE_POD_PATCH) else envelope.resource


def _read(data: bytes) -> Envelope | None:
    try:
        return decode(data)
    except ProtocolError:
        return None


@asynccontextmanager
async def frame_proxy(proxy: FrameProxy, *, cert: Path, key: Path, ca: Path) -> AsyncIterator[FrameProxy]:
    """Serve it on a free port of 127.0.0.1."""
    server = HttpServer(proxy.handle, name="frameproxy")
    tls = server_tls(cert_file=cert, key_file=key, client_ca_file=ca, require_client=True)
    proxy.port = await server.listen("127.0.0.1", 0, tls=tls)
    try:
        yield proxy
    finally:
        await server.aclose()
