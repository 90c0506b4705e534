"""The link: dial, run a session, back off, dial again; and renew the certificate in time."""

from __future__ import annotations

import math
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence

from skerry import __version__
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock
from skerry.base.errors import SkerryError
from skerry.base.net.edge_tls import PeerNotTrusted
from skerry.base.net.ws_client import Target, connect, server_certificate
from skerry.base.obs.log import get_log
from skerry.base.x509_child import Certificate
from skerry.edge.link import enrol
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.ports import Greeter, Offline
from skerry.edge.link.session import LinkSession, Liveness
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import MAX_FRAME_BYTES, Envelope

log = get_log(__name__)

FIRST_S = 0.5
CAP_S = 30.0
SHORT_CAP_S = 5.0
"""Caps the delay while the link is down for less than ``LONG_S``: most outages are short, and then seconds count."""
LONG_S = 600.0
LOOK_EVERY_S = 3600.0
RENEW_RETRY_S = 600.0
RENEW_SPREAD_S = 3600.0


class DialledLink:
    """A ``link.ports.Link`` over one of several hub addresses.

    Args:
        addresses: ``(host, port)`` of the hub; tried in turn.
        node: our name; also the certificate's.
        files: the node's certificate.
        liveness: when a silent connection counts as dead; None fits it to the cloud.
        greeter: what is said at the beginning of a session.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        node: str,
        files: CertificateFiles,
        clock: Clock,
        liveness: Liveness | None = None,
        greeter: Greeter | None = None,
    ) -> None:
        self._addresses = list(addresses)
        self._node = node
        self._files = files
        self._clock = clock
        self._liveness = liveness
        self._greeter = greeter
        self._is_to_skerry = False
        self._store_id = ""
        self._contexts: dict[tuple[str, int], ssl.SSLContext] = {}
        self._session: LinkSession | None = None
        self._down_since_s = clock.now_s()
        self._lost_at_s = clock.monotonic_s()
        self._why_down = "not connected yet"
        self._renew_at_s = math.inf
        self._handler: Callable[[Envelope], Awaitable[None]] | None = None
        self._state_handlers: list[Callable[[bool], None]] = []

    @property
    def is_up(self) -> bool:
        return self._session is not None

    @property
    def is_to_skerry(self) -> bool:
        return self._is_to_skerry

    @property
    def down_since_s(self) -> float:
        return self._down_since_s

    @property
    def why_down(self) -> str:
        return self._why_down

    @property
    def folds_lease(self) -> bool:
        return self._session is not None and peers.LEASE in self._session.features

    def use_addresses(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Dial these from the next time on."""
        self._addresses = list(addresses)

    def forget_servers(self) -> None:
        """Verify every server anew the next time: the authorities that we trust have changed."""
        self._contexts.clear()

    def renew_soon(self, *, within_s: float = RENEW_SPREAD_S) -> None:
        """Ask for a new certificate at some time within ``within_s``, so that a fleet does not do it at once."""
        if self._renew_at_s == math.inf:
            self._renew_at_s = self._clock.now_s() + random.uniform(0, within_s)

    def on_envelope(self, handler: Callable[[Envelope], Awaitable[None]]) -> None:
        self._handler = handler

    def on_state(self, handler: Callable[[bool], None]) -> None:
        self._state_handlers.append(handler)

    async def send(self, envelope: Envelope) -> None:
        self._up().send(envelope)

    async def request(self, envelope: Envelope, *, timeout_s: float = 20.0) -> Envelope:
        return await self._up().request(envelope, timeout_s=timeout_s)

    def ack(self, envelope: Envelope) -> None:
        """Acknowledge a delivery; nothing happens when the session has ended (the cloud sends it again)."""
        if self._session is not None:
            self._session.ack(envelope)

    def refuse(self, envelope: Envelope, why: str) -> None:
        """Tell that a delivery could not be stored."""
        if self._session is not None:
            self._session.refuse(envelope, why)

    async def run(self) -> None:
        """Keep a session; never ends."""
        backoff = Backoff(first_s=FIRST_S, cap_s=CAP_S)
        turn = 0
        while True:
            host, port = self._addresses[turn % len(self._addresses)]
            turn += 1
            try:
                why = await self._one(host, port, backoff)
            except PeerNotTrusted as exc:
                why = exc.explained()
                if self._contexts.pop((host, port), None) is not None:
                    turn -= 1  # its certificate may be a new one of our authority: look again, there
            except SkerryError as exc:
                why = exc.explained()
            self._why_down = why
            if backoff.failures in (0, 5) or backoff.failures % 20 == 0:
                log.warning("link.down", host=host, port=port, why=why, failures=backoff.failures)
            is_long = self._clock.monotonic_s() - self._lost_at_s > LONG_S
            await self._clock.sleep(backoff.next_s(at_most_s=CAP_S if is_long else SHORT_CAP_S))

    async def keep_certificate(self, joins: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """Renew at 70 to 90 % of the certificate's life, or when ``renew_soon`` says so; never ends.

        The wait is cut into pieces: a machine that slept, or whose clock was set, finds out soon after.

        Args:
            joins: ``(host, port)`` of the join servers now; each is tried.
        """
        share = random.uniform(0.7, 0.9)
        certificate = await self._readable_certificate()
        while True:
            life_s = certificate.not_after_s - certificate.not_before_s
            due_s = min(self._renew_at_s, certificate.not_before_s + share * life_s)
            wait_s = due_s - self._clock.now_s()
            if wait_s > 0:
                await self._clock.sleep(min(wait_s, LOOK_EVERY_S))
            elif await self._renew(joins()):
                self._renew_at_s = math.inf
                certificate = await self._readable_certificate()
            else:
                await self._clock.sleep(random.uniform(0.5, 1.0) * RENEW_RETRY_S)

    async def _readable_certificate(self) -> Certificate:
        """Our certificate, once it can be read: pods go on without it, and somebody may put it back."""
        while True:
            try:
                return await self._files.certificate()
            except SkerryError as exc:
                log.error("certificate.unusable", why=str(exc), hint=exc.hint)
            await self._clock.sleep(RENEW_RETRY_S)

    async def _renew(self, joins: Sequence[tuple[str, int]]) -> bool:
        for host, port in joins:
            try:
                await enrol.renew(host, port, node=self._node, files=self._files, now_s=self._clock.now_s())
            except SkerryError as exc:
                log.warning("certificate.not_renewed", host=host, port=port, why=exc.explained())
                continue
            self._contexts.clear()
            return True
        return False

    def _up(self) -> LinkSession:
        if self._session is None:
            raise Offline(f"no link to the cloud: {self._why_down}", since_s=self._down_since_s, why=self._why_down)
        return self._session

    async def _one(self, host: str, port: int, backoff: Backoff) -> str:
        headers = {
            c.HEADER_NODE_ID: self._node,
            c.HEADER_PROJECT_ID: c.PROJECT_ID,
            c.HEADER_CONNECTION_USE: c.CONNECTION_USE_MESSAGES,
            c.HEADER_SKERRY: __version__,
            c.HEADER_SKERRY_FEATURES: peers.to_header(peers.FEATURES),
        }
        if self._greeter is not None:
            headers[c.HEADER_STORE] = self._greeter.bound_to
        target = Target(host, port, f"/{c.PROJECT_ID}/{self._node}/events", headers)
        tls = await self._context(host, port)
        now_s = self._clock.now_s()
        async with connect(target, tls=tls, limit_bytes=MAX_FRAME_BYTES, now_s=now_s) as websocket:
            features = peers.from_header(websocket.headers.get(c.HEADER_SKERRY_FEATURES.lower(), ""))
            session = LinkSession(websocket, deliver=self._deliver, liveness=self._liveness, features=features)
            self._is_to_skerry = c.HEADER_SKERRY.lower() in websocket.headers
            await self._greet(session, websocket.headers.get(c.HEADER_STORE.lower(), ""))
            self._began(session, host, port)
            started_s = self._clock.monotonic_s()
            try:
                why = await session.run()
            finally:
                self._ended()
            if self._clock.monotonic_s() - started_s > 5.0:
                backoff.reset()
            return why

    async def _greet(self, session: LinkSession, store_id: str) -> None:
        self._store_id = store_id
        greeting = await self._greeter.greet(store_id) if self._greeter is not None else None
        if greeting is not None:
            session.send(greeting)

    async def _context(self, host: str, port: int) -> ssl.SSLContext:
        """TLS that sends our certificate alone; the first time, the server is verified in a handshake of its own."""
        known = self._contexts.get((host, port))
        if known is None:
            now_s = self._clock.now_s()
            server_der = await server_certificate(host, port, tls=self._files.context(), now_s=now_s)
            known = self._contexts[host, port] = self._files.pinned(server_der)
        return known

    async def _deliver(self, envelope: Envelope) -> None:
        if envelope.resource == c.RESOURCE_HOLDINGS:  # the cloud waits for our greeting: it asks again
            await self._greet(self._up(), self._store_id)
        elif self._handler is not None:
            await self._handler(envelope)

    def _began(self, session: LinkSession, host: str, port: int) -> None:
        away_s = self._clock.monotonic_s() - self._lost_at_s
        log.info("link.up", host=host, port=port, away_s=round(away_s, 1))
        self._session, self._why_down, self._down_since_s = session, "", 0.0
        for handler in self._state_handlers:
            handler(True)

    def _ended(self) -> None:
        self._session, self._down_since_s = None, self._clock.now_s()
        self._lost_at_s = self._clock.monotonic_s()
        for handler in self._state_handlers:
            handler(False)
