"""The tunnel's door for edge nodes (port 10004): mutual TLS, identity from the certificate, one WebSocket a node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.net.http_server import ClientGone, HttpRequest, HttpResponse, PeerCertificate, WebSocket
from skerry.base.obs.log import get_log
from skerry.cloud.refusals import Refusals
from skerry.cloud.tunnel.sessions import WINDOW_BYTES, NodeTunnel, Tunnels
from skerry.wire.kubeedge.tunnel import (
    CALM_PING_S,
    CONNECT_PATH,
    HEADER_NODE,
    HEADER_WINDOW,
    MAX_DATA_BYTES,
    PLAIN_CLOUD_PING_S,
)

log = get_log(__name__)

_NODE_PREFIX = "system:node:"
_SILENCE_S = 30.0
_SEND_S = 30.0
_GOODBYE_S = 0.5

Judge = Callable[[str, PeerCertificate], Awaitable[str]]
"""(node, its certificate) → why it is refused, or empty text."""
Watch = Callable[[str, str, Callable[[str], None]], AbstractAsyncContextManager[None]]
"""(node, certificate fingerprint, on_revoked): while inside, ``on_revoked`` is called when it is no longer good."""


class TunnelServer:
    """Answers requests of the listener on 10004.

    Args:
        tunnels: where accepted tunnels are registered.
        judge: asked before the upgrade, for instance for revocation.
        watch: tells of a revocation while the tunnel is open.
    """

    def __init__(self, tunnels: Tunnels, *, judge: Judge, watch: Watch) -> None:
        self._tunnels = tunnels
        self._judge = judge
        self._watch = watch
        self.refusals = Refusals(SystemClock())

    async def handle(self, request: HttpRequest) -> HttpResponse | None:
        """One request: refuse with a reason, or carry the tunnel until it ends."""
        peer = request.peer
        node = peer.common_name.removeprefix(_NODE_PREFIX) if peer is not None else ""
        why = await self._refusal(request, node)
        if why:
            self.refusals.note("tunnel.refused", request.address, node=node[:80], why=why[:300])
            return HttpResponse(403, (why + "\n").encode(), "text/plain; charset=utf-8")
        window_bytes = _window(request.headers.get(HEADER_WINDOW, ""))
        headers = {HEADER_WINDOW: str(window_bytes)} if window_bytes else {}
        async with request.websocket(max_message_bytes=MAX_DATA_BYTES + 64, headers=headers) as websocket:
            await self._carry(node, websocket, window_bytes, request)
        return None

    async def _carry(self, node: str, websocket: WebSocket, window_bytes: int, request: HttpRequest) -> None:
        log.info("tunnel.opened", node=node, address=request.address, window_bytes=window_bytes)
        tunnel = NodeTunnel(node, _Socket(websocket), window_bytes=window_bytes)
        async with Supervisor(f"tunnel-alive/{node}") as supervisor:
            every_s = CALM_PING_S if window_bytes else PLAIN_CLOUD_PING_S
            supervisor.detach("ping", _keep_alive(websocket, request.gone, every_s=every_s))
            supervisor.detach("watch", self._end_when_revoked(tunnel, websocket, request))
            await self._tunnels.serve(tunnel)
        log.info("tunnel.ended", node=node, why=websocket.failure or f"code {websocket.close_code}")

    async def _end_when_revoked(self, tunnel: NodeTunnel, websocket: WebSocket, request: HttpRequest) -> None:
        """A certificate that is revoked loses the tunnel that it has opened."""
        assert request.peer is not None
        revoked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def tell(why: str) -> None:
            if not revoked.done():
                revoked.set_result(why)

        async with self._watch(tunnel.node, request.peer.fingerprint, tell):
            why = await revoked
        log.warning("tunnel.revoked", node=tunnel.node, address=request.address, why=why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await tunnel.close(why)
        websocket.abort()

    async def _refusal(self, request: HttpRequest, node: str) -> str:
        peer = request.peer
        if request.path != CONNECT_PATH:
            return f"unknown path {request.path}; the tunnel is {CONNECT_PATH}"
        if peer is None or not peer.common_name.startswith(_NODE_PREFIX):
            return "the client certificate is not that of a node; join this machine first"
        if "system:nodes" not in peer.organizations:
            return "the client certificate has no O=system:nodes"
        claimed = request.headers.get(HEADER_NODE, node)
        if claimed != node:
            return f'the certificate belongs to node "{node}", the header names "{claimed}"'
        return await self._judge(node, peer)


class _Socket:
    """A ``MessageSocket`` over the server's WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | None:
        message = await self._websocket.receive()
        return message.data if message is not None else None

    async def send_text(self, message: bytes) -> None:
        try:
            await self._websocket.send_text(message, timeout_s=_SEND_S)
        except ClientGone as exc:
            raise ConnectionError(str(exc)) from exc

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._websocket.close(code, reason)


async def _keep_alive(websocket: WebSocket, gone: asyncio.Event, *, every_s: float) -> None:
    """Cut a tunnel whose peer answers no ping: a vanished node must not look reachable."""
    while await websocket.ping(timeout_s=_SILENCE_S):
        try:
            async with asyncio.timeout(every_s):
                await gone.wait()
        except TimeoutError:
            continue
        return
    websocket.abort()


def _window(text: str) -> int:
    return min(int(text), WINDOW_BYTES) if text.isdigit() else 0
