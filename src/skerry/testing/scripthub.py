"""A hub that a test drives by hand: real TLS and WebSocket, and every message is the test's own decision.

For edges under test, ours or foreign ones. What a whole hub does is in ``hubkit``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skerry.base import certificates, x509
from skerry.base.aio.supervise import wait_for_condition
from skerry.base.net.http_server import ClientGone, HttpRequest, HttpResponse, HttpServer, WebSocket, server_tls
from skerry.testing.hollow import stamp
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join
from skerry.wire.kubeedge.envelope import Envelope, decode, encode
from skerry.wire.kubeedge.session import answer_to


class ScriptedHub:
    """One port that nodes dial; the newest session counts.

    Attributes:
        acks: ids of messages that were acknowledged, in order, with repetitions.
        refusals: ids of messages that the edge could not take.
        received: what came that is no acknowledgement.
        sessions: how many sessions there were.
        keepalives: how many there were, over all sessions.
        headers: of the newest session's request.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = x509.new_ca("KubeEdge")
        self.port = 0
        self.acks: list[str] = []
        self.refusals: list[str] = []
        self.received: list[Envelope] = []
        self.sessions = 0
        self.changed = asyncio.Event()
        self.keepalives = 0
        self.headers: dict[str, str] = {}
        self._delivered: set[str] = set()
        self._websocket: WebSocket | None = None

    def credential(self, node: str) -> certificates.Credential:
        """A certificate of this hub's authority for a node."""
        return x509.issue_client(self.ca, join.common_name(node), organizations=(c.CERT_ORGANIZATION,))

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
        """Wait for something that the edge does.

        Raises:
            TimeoutError: it did not.
        """
        if not await wait_for_condition(condition, self.changed, timeout_s=timeout_s):
            raise TimeoutError(f"acks {self.acks[-5:]}, refusals {self.refusals[-5:]}, sessions {self.sessions}")

    async def deliver(self, operation: str, resource: str, content: Any, *, msg_id: str = "", version: str = "") -> str:
        """Send one delivery; its id. A given ``msg_id`` repeats a message."""
        made_id, made_ms = stamp()
        envelope = Envelope(
            msg_id or made_id, source=c.SOURCE_EDGE_CONTROLLER, group=c.GROUP_RESOURCE, operation=operation,
            resource=resource, content=content, resource_version=version, timestamp_ms=made_ms,
        )  # fmt: skip
        self._delivered.add(envelope.msg_id)
        await self.send_raw(encode(envelope))
        return envelope.msg_id

    async def answer(self, request: Envelope, content: Any) -> None:
        """Answer a request of the edge."""
        await self.send_raw(encode(answer_to(request, stamp, content)))

    async def send_raw(self, data: bytes) -> None:
        """Write these bytes as one text message."""
        assert self._websocket is not None, "no edge is connected"
        await self._websocket.send_text(data)

    async def cut(self) -> None:
        """End the session."""
        assert self._websocket is not None, "no edge is connected"
        await self._websocket.close(1001, "cut")

    async def handle(self, request: HttpRequest) -> HttpResponse | None:
        """One connection."""
        with contextlib.suppress(ClientGone):
            async with request.websocket(max_message_bytes=1 << 24) as websocket:
                self._websocket = websocket
                self.sessions += 1
                self.headers = dict(request.headers)
                self.changed.set()
                while (message := await websocket.receive()) is not None:
                    self._take(decode(message.data))
                    self.changed.set()
        return None

    def _take(self, envelope: Envelope) -> None:
        if envelope.operation == c.OP_KEEPALIVE:
            self.keepalives += 1
        elif envelope.parent_id in self._delivered:
            (self.refusals if envelope.operation == c.OP_ERROR else self.acks).append(envelope.parent_id)
        else:
            self.received.append(envelope)


@asynccontextmanager
async def scripted_hub(folder: Path) -> AsyncIterator[ScriptedHub]:
    """Listening on a free port of 127.0.0.1; gone when left."""
    folder.mkdir(exist_ok=True)
    hub = ScriptedHub(folder)
    ca, cert, key = folder / "ca.crt", folder / "hub.crt", folder / "hub.key"
    ca.write_bytes(hub.ca.cert_pem)
    certificates.save(x509.issue_server(hub.ca, ["127.0.0.1", "localhost"], common_name="cloudhub"), cert, key)
    server = HttpServer(hub.handle, name="scripted-hub")
    tls = server_tls(cert_file=cert, key_file=key, client_ca_file=ca, require_client=True)
    hub.port = await server.listen("127.0.0.1", 0, tls=tls)
    try:
        yield hub
    finally:
        await server.aclose()
