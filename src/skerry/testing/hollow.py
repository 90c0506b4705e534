"""Hollow edge nodes: real TLS, real WebSocket, real wire, and a dictionary where an agent has its store.

For tests of the cloud side and for load (``bench/``). Certificates come from the test's own authority or by joining.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from skerry import __version__
from skerry.base import certificates, x509
from skerry.base.aio.supervise import Supervisor, wait_for_condition
from skerry.base.certificates import Credential
from skerry.wire.kubeedge import answer, join, peers
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope, decode
from skerry.wire.kubeedge.session import Answered, EdgePeer, Received


class Refusal(Exception):
    """The server answered with an HTTP error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


def stamp() -> tuple[str, int]:
    """Id and time of a message."""
    return str(uuid.uuid4()), int(time.time() * 1000)


def client_tls(folder: Path, credential: Credential | None, ca_pem: bytes) -> ssl.SSLContext:
    """TLS of a client that trusts one CA and shows one certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_pem.decode())
    if credential is not None:
        cert, key = folder / f"{uuid.uuid4()}.crt", folder / f"{uuid.uuid4()}.key"
        certificates.save(credential, cert, key)
        context.load_cert_chain(cert, key)
    return context


async def fetch(
    url: str, tls: ssl.SSLContext, *, headers: Mapping[str, str] | None = None, body: bytes = b"", method: str = "GET"
) -> bytes:
    """One HTTPS request; the body of a 200.

    Raises:
        Refusal: any other status.
    """
    async with aiohttp.ClientSession() as session:
        async with session.request(
            method, url, ssl=tls, headers=dict(headers or {}), data=io.BytesIO(body) if body else None
        ) as response:
            data = await response.read()
            if response.status != 200:
                raise Refusal(response.status, data.decode(errors="replace"))
            return data


async def enrol(url: str, token: str, node: str, *, ca_der: bytes, folder: Path) -> Credential:
    """Get a certificate by a join token."""
    parsed = join.parse_token(token)
    if not join.is_ca_of(parsed, ca_der):
        raise ValueError("the token pins another CA")
    csr, key = x509.new_csr(join.common_name(node), organizations=(c.CERT_ORGANIZATION,))
    tls = client_tls(folder, None, certificates.to_pem("CERTIFICATE", ca_der))
    headers = join.request_headers(node, jwt=parsed.jwt)
    cert = await fetch(url + join.PATH_CERTIFICATE, tls, headers=headers, body=csr)
    return Credential(cert, key)


class HollowNode:
    """An edge that stores every delivery in memory and acknowledges it.

    Attributes:
        objects: by wire resource, as the cloud last delivered them.
        log: ``(operation, resource, resource version)`` of every delivery applied, in order.
        copies: message ids of all copies of deliveries, when the node does not acknowledge.
    """

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        *,
        acks: bool = True,
        features: frozenset[str] = frozenset(),
    ) -> None:
        self.features = features
        self.packed_count = 0
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, str, str]] = []
        self.others: list[Envelope] = []
        self.copies: list[str] = []
        self.acks = acks
        self.on_applied: Callable[[dict[str, Any]], None] = lambda obj: None
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self.close_code: int | None = None
        self._websocket = websocket
        self._wanted = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Envelope]] = {}
        self._peer = EdgePeer(time.monotonic(), stamp, features=features)

    async def run(self) -> None:
        """Read until the connection ends."""
        await self._flush()
        async for message in self._websocket:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                break
            if not self.acks:
                self._note(message.data)
            self.packed_count += message.type is aiohttp.WSMsgType.BINARY
            self._peer.receive_message(message.data)
            for event in self._peer.events():
                self._take(event)
            await self._flush()
            self._wanted.set()
            self.changed.set()
        self.close_code = self._websocket.close_code
        self.ended.set()
        self.changed.set()

    async def request(
        self, operation: str, resource: str, content: Any = None, *, timeout_s: float = 10.0
    ) -> answer.Outcome:
        """Ask and wait for the answer."""
        return answer.read(await self.exchange(operation, resource, content, timeout_s=timeout_s))

    async def exchange(
        self, operation: str, resource: str, content: Any = None, *, timeout_s: float = 10.0
    ) -> Envelope:
        """As ``request``; the whole envelope."""
        envelope = Envelope("", c.SOURCE_EDGED, c.GROUP_META, operation, resource, content)
        return await self.ask(envelope, timeout_s=timeout_s)

    async def ask(self, envelope: Envelope, *, timeout_s: float = 10.0) -> Envelope:
        """Send a request of any form; the answer."""
        msg_id = self._peer.send_request(envelope)
        future: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        self._answers[msg_id] = future
        await self._flush()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            self._answers.pop(msg_id, None)

    async def send(self, envelope: Envelope) -> None:
        """Write and forget."""
        self._peer.send(envelope)
        await self._flush()

    async def send_raw(self, data: bytes) -> None:
        """Write these very bytes as one text message."""
        await self._websocket.send_frame(data, aiohttp.WSMsgType.TEXT)

    async def until(self, condition: Callable[[HollowNode], bool], *, timeout_s: float = 10.0) -> None:
        """Wait until ``condition(self)`` holds.

        Raises:
            TimeoutError: it did not in time; names what the node holds.
        """
        if not await wait_for_condition(lambda: condition(self), self.changed, timeout_s=timeout_s):
            raise TimeoutError(f"not reached in {timeout_s:g} s; the node holds {sorted(self.objects)[:20]}")

    async def keep_alive(self) -> None:
        """Keepalives, pings and delayed acknowledgements, as an agent sends them; ends with the connection."""
        pinged_s = 0.0
        while not self.ended.is_set():
            now_s = time.monotonic()
            if peers.LEASE in self.features and now_s - pinged_s >= peers.PING_EVERY_S:
                pinged_s = now_s
                await self._websocket.ping()
            self._peer.tick(now_s)
            await self._flush()
            delay_s = min(self._peer.next_deadline_s(), pinged_s + peers.PING_EVERY_S) - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, delay_s)):
                    await self._wanted.wait()
            self._wanted.clear()

    async def close(self) -> None:
        """Leave with a close frame."""
        await self._websocket.close()

    def _note(self, frame: bytes | str) -> None:
        """Keep the id of each copy of a delivery, before repetitions are swallowed."""
        envelope = decode(frame)
        if envelope.operation in c.DELIVERY_OPERATIONS and envelope.group == c.GROUP_RESOURCE:
            self.copies.append(envelope.msg_id)

    def _take(self, event: Received | Answered) -> None:
        if isinstance(event, Answered):
            future = self._answers.get(event.request_id)
            if future is not None and not future.done():
                future.set_result(event.envelope)
            if event.needs_ack:
                self._peer.send_ack(event.envelope)
            return
        envelope = event.envelope
        if envelope.operation not in c.DELIVERY_OPERATIONS or envelope.group != c.GROUP_RESOURCE:
            self.others.append(envelope)
            return
        if not self.acks:
            return
        self.log.append((envelope.operation, envelope.resource, envelope.resource_version))
        if envelope.operation == c.OP_DELETE:
            self.objects.pop(envelope.resource, None)
        else:
            self.objects[envelope.resource] = envelope.content
            self.on_applied(envelope.content)
        self._peer.send_ack(envelope)

    async def _flush(self) -> None:
        for frame in self._peer.messages_to_send():
            kind = aiohttp.WSMsgType.BINARY if peers.is_packed(frame) else aiohttp.WSMsgType.TEXT
            await self._websocket.send_frame(frame, kind)


@asynccontextmanager
async def connect(
    url: str,
    node: str,
    tls: ssl.SSLContext,
    *,
    headers: Mapping[str, str] | None = None,
    is_skerry: bool = True,
    acks: bool = True,
    autoping: bool = True,
    features: frozenset[str] = frozenset(),
    source: str = "",
) -> AsyncIterator[HollowNode]:
    """A hollow node with a session; gone when left. ``source``: our own address, such as another one of loopback.

    Raises:
        Refusal: the hub refused the upgrade.
    """
    named = {c.HEADER_NODE_ID: node, c.HEADER_PROJECT_ID: c.PROJECT_ID, c.HEADER_CONNECTION_USE: "msg"}
    if is_skerry:
        named[c.HEADER_SKERRY] = __version__
        named[c.HEADER_SKERRY_FEATURES] = peers.to_header(features)
    all_headers = {key: value for key, value in (named | dict(headers or {})).items() if value}
    connector = aiohttp.TCPConnector(local_addr=(source, 0)) if source else None
    async with aiohttp.ClientSession(connector=connector) as session, Supervisor(f"hollow-{node}") as supervisor:
        try:
            websocket = await session.ws_connect(
                url + c.events_path(node), ssl=tls, headers=all_headers, max_msg_size=0, autoping=autoping
            )
        except aiohttp.WSServerHandshakeError as exc:
            raise Refusal(exc.status, exc.message) from exc
        agreed = peers.from_header(websocket._response.headers.get(c.HEADER_SKERRY_FEATURES, ""))
        hollow = HollowNode(websocket, acks=acks, features=agreed)
        supervisor.detach("read", hollow.run())
        if agreed:
            supervisor.detach("keep-alive", hollow.keep_alive())
        try:
            yield hollow
        finally:
            with contextlib.suppress(ConnectionError):
                await websocket.close()
