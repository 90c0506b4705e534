"""The I/O shell of ``EdgePeer``: one WebSocket to the hub, from its opening to its end."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable

from skerry.base.aio.supervise import Supervisor
from skerry.base.net.ws_client import WebSocketClient
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.edge.link.ports import LinkBroken
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.session import Answered, EdgePeer

log = get_log(__name__)


def stamp() -> tuple[str, int]:
    """Id and time of a new message."""
    return str(uuid.uuid4()), int(time.time() * 1000)


class Liveness(Struct, frozen=True):
    """When a silent connection counts as dead. Every hub answers WebSocket pings, so silence is a broken path.

    Args:
        ping_every_s: pause between pings.
        silence_s: the connection is cut when not one byte came for so long; looked at before each ping.
    """

    ping_every_s: float = 10.0
    silence_s: float = 25.0


CALM = Liveness(ping_every_s=peers.PING_EVERY_S, silence_s=35.0)
"""Towards a cloud that takes pings for keepalives: no more of them than it needs. A pong may take 20 s."""


class LinkSession:
    """One session.

    Args:
        websocket: just opened.
        deliver: takes messages that answer no request, one at a time, in order; acknowledges through ``ack``.
        liveness: when a silent connection counts as dead.
        features: agreed on with the cloud (``wire.kubeedge.peers``).
    """

    def __init__(
        self,
        websocket: WebSocketClient,
        *,
        deliver: Callable[[Envelope], Awaitable[None]],
        liveness: Liveness | None = None,
        features: frozenset[str] = frozenset(),
    ) -> None:
        self.features = features
        self._websocket = websocket
        self._deliver = deliver
        self._liveness = liveness or (CALM if peers.LEASE in features else Liveness())
        self._cut_because = ""
        self._peer = EdgePeer(time.monotonic(), stamp, features=features)
        self._answers: dict[str, asyncio.Future[Envelope]] = {}
        self._inbound: asyncio.Queue[Envelope] = asyncio.Queue(maxsize=256)
        self._wanted = asyncio.Event()
        self._wanted.set()

    async def run(self) -> str:
        """Carry messages until the connection ends; returns why it did."""
        why = "the cloud closed the connection"
        try:
            async with Supervisor("link") as supervisor:
                supervisor.detach("write", self._write_loop())
                supervisor.detach("deliver", self._deliver_loop())
                supervisor.detach("liveness", self._liveness_loop())
                await self._read_loop()
                why = self._cut_because or self._websocket.close_reason or why
        except ProtocolError as exc:
            why = f"the cloud broke the protocol: {exc}"
        except ConnectionError as exc:
            why = self._cut_because or str(exc) or "the connection broke"
        finally:
            self._end(why)
        return why

    def send(self, envelope: Envelope) -> None:
        """Write a message soon."""
        self._peer.send(envelope)
        self._wanted.set()

    def ack(self, envelope: Envelope) -> None:
        """Acknowledge a delivery that has been stored."""
        self._peer.send_ack(envelope)
        self._wanted.set()

    def refuse(self, envelope: Envelope, why: str) -> None:
        """Tell that a delivery could not be stored."""
        self._peer.send_refusal(envelope, why)
        self._wanted.set()

    async def request(self, envelope: Envelope, *, timeout_s: float) -> Envelope:
        """Send, and wait for the answer.

        Raises:
            LinkBroken: the session ended first.
            TimeoutError: no answer in time.
        """
        msg_id = self._peer.send_request(envelope)
        answer: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        self._answers[msg_id] = answer
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._answers.pop(msg_id, None)
            self._peer.forget(msg_id)

    async def _read_loop(self) -> None:
        while (message := await self._websocket.receive()) is not None:
            self._peer.receive_message(message)
            for event in self._peer.events():
                if isinstance(event, Answered):
                    self._answer(event)
                else:
                    await self._inbound.put(event.envelope)
            self._wanted.set()

    def _answer(self, event: Answered) -> None:
        if event.needs_ack:
            self._peer.send_ack(event.envelope)
        future = self._answers.get(event.request_id)
        if future is not None and not future.done():
            future.set_result(event.envelope)

    async def _deliver_loop(self) -> None:
        try:
            while True:
                await self._deliver(await self._inbound.get())
        finally:
            self._websocket.abort()  # without this loop the session would be deaf; what was not stored comes again

    async def _liveness_loop(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._liveness.ping_every_s)
                silent_s = time.monotonic() - self._websocket.heard_s
                if silent_s >= self._liveness.silence_s:
                    raise ConnectionResetError(f"nothing came from the cloud for {silent_s:.0f} s")
                await self._websocket.ping(timeout_s=self._liveness.silence_s)
        except ConnectionError as exc:
            self._cut_because = str(exc)
            self._websocket.abort()

    async def _write_loop(self) -> None:
        try:
            while True:
                self._peer.tick(time.monotonic())
                for message in self._peer.messages_to_send():
                    if peers.is_packed(message):
                        await self._websocket.send_binary(message)
                    else:
                        await self._websocket.send_text(message)
                await self._pause()
        except ConnectionError as exc:
            log.debug("link.write_failed", error=str(exc))
            self._websocket.abort()

    async def _pause(self) -> None:
        deadline_s = self._peer.next_deadline_s()
        delay_s = None if deadline_s == math.inf else max(0.0, deadline_s - time.monotonic())
        try:
            async with asyncio.timeout(delay_s):
                await self._wanted.wait()
        except TimeoutError:
            return
        self._wanted.clear()

    def _end(self, why: str) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkBroken(why))
                answer.exception()
