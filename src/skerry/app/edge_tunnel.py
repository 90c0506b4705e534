"""The tunnel of the agent: dials the cloud, whose streams reach the node's kubelet interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.net.ws_client import Target, WebSocketClient, connect
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.places import Places
from skerry.edge.tunnel.client import TunnelClient
from skerry.wire.kubeedge.tunnel import CONNECT_PATH, HEADER_ADDRESS, HEADER_NODE, HEADER_WINDOW, MAX_DATA_BYTES

_WINDOW_BYTES = 256 * 1024


class TunnelParts:
    """Builds the tunnel's client, and dials for it.

    Args:
        address: of this node, now.
    """

    def __init__(self, *, node: str, address: Callable[[], str], places: Places, files: CertificateFiles) -> None:
        self._node = node
        self._address = address
        self._places = places
        self._files = files
        self._turn = 0

    def client(self, kubelet_socket: Path, *, clock: Clock) -> TunnelClient:
        """The client; run it."""
        return TunnelClient(self._dial, kubelet_socket=kubelet_socket, clock=clock)

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[_TunnelSocket]:
        """Each try takes the next address."""
        host, port = self._places.tunnels[self._turn % len(self._places.tunnels)]
        self._turn += 1
        headers = {HEADER_NODE: self._node, HEADER_ADDRESS: self._address(), HEADER_WINDOW: str(_WINDOW_BYTES)}
        target = Target(host, port, CONNECT_PATH, headers)
        async with connect(target, tls=self._files.context(), limit_bytes=MAX_DATA_BYTES + 64) as websocket:
            yield _TunnelSocket(websocket)


class _TunnelSocket:
    """A ``TunnelSocket`` over the edge's WebSocket client."""

    def __init__(self, websocket: WebSocketClient) -> None:
        self._websocket = websocket
        text = websocket.headers.get("skerry-stream-window", "")
        self.window_bytes = min(int(text), _WINDOW_BYTES) if text.isdigit() else 0

    @property
    def heard_s(self) -> float:
        return self._websocket.heard_s

    async def receive(self) -> bytes | None:
        return await self._websocket.receive()

    async def send_text(self, message: bytes) -> None:
        await self._websocket.send_text(message)

    async def ping(self) -> None:
        await self._websocket.ping(b"ping you")

    def abort(self) -> None:
        self._websocket.abort()
