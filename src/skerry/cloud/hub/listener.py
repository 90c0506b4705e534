"""The door of port 10000: certificate → node name, one session per node, refusals before the upgrade.

Identity comes from the certificate; the header ``node_id`` must only agree with it. Refusals are plain text with
cause and remedy, and each is logged once a minute and address. A second connection of a node that is connected makes
us ping the first one: no pong within 1 s and the newer wins; a pong and the newer is refused (a copied card).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from skerry import __version__
from skerry.api.status import ApiError
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.errors import Refused
from skerry.base.net.http_server import BadUpgrade, ClientGone, HttpRequest, HttpResponse
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.cloud.hub.doors import Doors
from skerry.cloud.hub.ports import (
    Acked,
    Clone,
    Cursor,
    Delivery,
    Gate,
    NodeLink,
    NodeName,
    Presence,
    Resync,
)
from skerry.cloud.hub.routes import RouteTable
from skerry.cloud.hub.session import Caller, NodeSession, SessionParts
from skerry.cloud.refusals import Refusals
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.join import node_of_subject
from skerry.wire.kubeedge.session import RETRANSMIT_FIRST_S, Stamp

log = get_log(__name__)

PING_LIMIT_S = 1.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What a node may send: three times the largest object that an API server stores, as base64 in an envelope."""


def system_stamp() -> tuple[str, int]:
    """A random id and the present time, for ``wire.kubeedge.session``."""
    return str(uuid.uuid4()), int(time.time() * 1000)


class HubLimits(Struct, frozen=True):
    """What one hub lets in.

    Args:
        max_nodes: sessions; beyond it a new node is refused with 503.
        max_message_bytes: largest message of a node; a larger one ends its session.
        silence_limit_s: a node that says nothing for so long has left.
        calm_limit_s: the same for a node that pings instead of renewing its Lease (feature ``lease``).
        messages_per_s: of one node, on average over ten seconds; a faster one is read more slowly. Each
            16 KiB of a message count as one more.
        holdings_within_s: a node that has not said by then what it holds is asked again.
        retransmit_first_s: until a delivery without acknowledgement is sent again; doubles up to 30 s.
    """

    max_nodes: int = 10_000
    max_message_bytes: int = MAX_MESSAGE_BYTES
    silence_limit_s: float = c.KEEPALIVE_LIMIT_S
    calm_limit_s: float = peers.SILENCE_LIMIT_S
    retransmit_first_s: float = RETRANSMIT_FIRST_S
    messages_per_s: float = 500.0
    holdings_within_s: float = 10.0


class _No(Refused):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Hub:
    """All sessions of one process; implements ``Outbox``. Pass ``handle`` to an ``HttpServer`` with client
    certificates required.

    Args:
        routes: who answers which message.
        gate: whether a certificate is still good.
        cursor: what nodes have acknowledged.
        resync: what a node should hold.
        presence: told about sessions.
        limits: what is let in.
        clock: time source.
        stamp: makes message ids and times.
        store_id: ``<cluster uid>/<generation of its store>``, told to agents of ours.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        gate: Gate,
        cursor: Cursor,
        resync: Resync,
        presence: Presence,
        limits: HubLimits | None = None,
        clock: Clock | None = None,
        stamp: Stamp = system_stamp,
        store_id: str = "",
    ) -> None:
        self._gate = gate
        self._presence = presence
        self._limits = limits or HubLimits()
        self._clock = clock or SystemClock()
        self._parts = SessionParts(
            routes=routes,
            cursor=cursor,
            resync=resync,
            clock=self._clock,
            stamp=stamp,
            max_message_bytes=self._limits.max_message_bytes,
            silence_limit_s=self._limits.silence_limit_s,
            calm_limit_s=self._limits.calm_limit_s,
            retransmit_first_s=self._limits.retransmit_first_s,
            holdings_within_s=self._limits.holdings_within_s,
            messages_per_s=self._limits.messages_per_s,
        )
        self._greeting = {c.HEADER_SKERRY: __version__, c.HEADER_STORE: store_id or "-"}
        self._sessions: dict[NodeName, NodeSession] = {}
        self._doors = Doors()
        self.refusals = Refusals(self._clock)

    async def handle(self, request: HttpRequest) -> HttpResponse | None:
        """One request of the listener."""
        try:
            caller = self._identify(request)
            await self._admit(caller, request)
            await self._serve(caller, request)
        except _No as exc:
            return self._refuse(request, exc)
        except ClientGone:
            return None
        return None

    def put(self, node: NodeName, delivery: Delivery) -> None:
        """See ``Outbox.put``; a node without a session gets it by the resync when it comes."""
        if (session := self._sessions.get(node)) is not None:
            session.put(delivery)

    def advance(self, node: NodeName, delivery: Delivery, *, from_version: str) -> None:
        """See ``Outbox.advance``."""
        if (session := self._sessions.get(node)) is not None:
            session.advance(delivery, from_version=from_version)

    def resync(self, node: NodeName, *, force: bool = False) -> None:
        """See ``Outbox.resync``."""
        if (session := self._sessions.get(node)) is not None:
            session.resync(force=force)

    def learn(self, node: NodeName, entry: Acked) -> None:
        """Another replica has brought this to the node, which may have a session here by now."""
        if (session := self._sessions.get(node)) is not None:
            session.learn(entry)

    def disconnect(self, node: NodeName, reason: str) -> None:
        """See ``Outbox.disconnect``."""
        if (session := self._sessions.get(node)) is not None:
            session.end(reason)

    def send(self, node: NodeName, envelope: Envelope) -> bool:
        """See ``Outbox.send``."""
        session = self._sessions.get(node)
        if session is None:
            return False
        session.send(envelope)
        return True

    def last_seen_s(self, node: NodeName) -> float:
        """See ``Outbox.last_seen_s``."""
        session = self._sessions.get(node)
        return session.last_seen_s if session is not None else 0.0

    def connected(self) -> Sequence[NodeLink]:
        """See ``Outbox.connected``."""
        return [session.link() for session in self._sessions.values()]

    def is_connected(self, node: NodeName) -> bool:
        """See ``Outbox.is_connected``."""
        return node in self._sessions

    def _identify(self, request: HttpRequest) -> Caller:
        """Who is calling.

        Raises:
            _No: not a node, or not a link that we serve.
        """
        peer = request.peer
        if peer is None:
            raise _No(403, "no client certificate", hint="join first: skerry join HOST --token TOKEN")
        node = node_of_subject(peer.common_name, peer.organizations)
        if not node:
            raise _No(
                403,
                f"the certificate (CN={peer.common_name[:80]!r}) is not that of a node",
                hint=f"nodes have O={c.CERT_ORGANIZATION} and CN={c.CERT_NAME_PREFIX}<name>",
            )
        if not request.is_upgrade:
            raise _No(426, "this port serves WebSocket links of edge nodes only", hint="the API has its own port")
        claimed = request.headers.get(c.HEADER_NODE_ID, "")
        if claimed != node:
            raise _No(
                403,
                f"header {c.HEADER_NODE_ID} says {claimed[:80]!r}, but the certificate is that of node {node}",
                hint="a node may act only as itself; correct its name, or join again under the new one",
            )
        use = request.headers.get(c.HEADER_CONNECTION_USE, "")
        if use != c.CONNECTION_USE_MESSAGES:
            raise _No(
                400,
                f"header {c.HEADER_CONNECTION_USE} is {use[:40]!r}",
                hint=f"this hub serves {c.HEADER_CONNECTION_USE}: {c.CONNECTION_USE_MESSAGES}",
            )
        version = request.headers.get(c.HEADER_SKERRY)
        if version is None:
            return Caller(NodeName(node), request.address, peer.fingerprint, is_skerry=False)
        if problem := peers.version_problem(__version__, version):
            raise _No(
                426,
                problem,
                hint=f"install agent {__version__}; up to {peers.OLDER_ACCEPTED} minor versions apart work together",
            )
        features = peers.from_header(request.headers.get(c.HEADER_SKERRY_FEATURES, ""))
        return Caller(
            NodeName(node), request.address, peer.fingerprint, is_skerry=True, features=features,
            tells_holdings=c.HEADER_STORE in request.headers,
        )  # fmt: skip

    async def _admit(self, caller: Caller, request: HttpRequest) -> None:
        assert request.peer is not None
        try:
            await self._gate.admit(caller.node, request.peer)
        except Refused as exc:
            raise _No(403, str(exc), hint=exc.hint) from exc
        except ApiError as exc:
            raise _No(503, f"the cloud cannot check the certificate now: {exc.message}", hint="try again") from exc
        if len(self._sessions) >= self._limits.max_nodes and caller.node not in self._sessions:
            raise _No(
                503, f"this hub serves {self._limits.max_nodes} nodes already", hint="try again, or raise max_nodes"
            )

    async def _serve(self, caller: Caller, request: HttpRequest) -> None:
        """Accept the WebSocket; its session goes on when the request is over."""
        try:
            async with self._doors.of(caller.node):
                await self._make_room(caller)
                websocket = await request.accept(
                    max_message_bytes=self._limits.max_message_bytes, headers=self._answer_headers(caller)
                )
                session = NodeSession(caller, websocket, self._parts)
                self._sessions[caller.node] = session
        except BadUpgrade as exc:
            raise _No(400, str(exc)) from exc
        request.go_on(websocket, f"session-{caller.node}", self._run(session))

    async def _run(self, session: NodeSession) -> None:
        caller = session.caller
        reason = "the hub stops"
        log.info(
            "hub.connected",
            node=caller.node,
            address=caller.address,
            fingerprint=caller.fingerprint,
            skerry=caller.is_skerry,
        )
        try:
            async with self._gate.watch(caller.node, caller.fingerprint, session.end):
                await self._gate.connected(caller.node, caller.fingerprint)
                await self._presence.connected(session.link())
                reason = await session.run()
        except ApiError as exc:
            reason = f"the cluster failed: {exc.message}"
        finally:
            link = session.link()
            if self._sessions.get(caller.node) is session:
                del self._sessions[caller.node]
            log.info("hub.disconnected", node=caller.node, address=caller.address, reason=reason)
            await self._presence.disconnected(link, reason)
            await session.close()

    async def _make_room(self, caller: Caller) -> None:
        """Only one living connection per node.

        Raises:
            _No: the first one is alive.
        """
        first = self._sessions.get(caller.node)
        if first is None:
            return
        if not await first.is_alive(timeout_s=PING_LIMIT_S):
            first.end("a newer connection of the same node took over")
            return
        clone = Clone(first.caller.address, first.caller.fingerprint, caller.address, caller.fingerprint)
        self.refusals.note(
            "hub.cloned_node",
            caller.address,
            node=caller.node,
            first_address=clone.first_address,
            first_fingerprint=clone.first_fingerprint,
            second_address=clone.second_address,
            second_fingerprint=clone.second_fingerprint,
            remedy=f"two machines act as one node; give one its own name: skerry token create, skerry join; "
            f"if the first is lost: skerry node revoke {caller.node}",
        )
        await self._presence.cloned(caller.node, clone)
        raise _No(
            409,
            f"node {caller.node} is connected from {clone.first_address} and that connection is alive",
            hint="two machines use one identity (a copied disk?); join this one under its own name",
        )

    def _refuse(self, request: HttpRequest, no: _No) -> HttpResponse:
        self.refusals.note("hub.refused", request.address, status=no.status, cause=str(no))
        headers = [("Retry-After", "5")] if no.status == 503 else []
        return HttpResponse(no.status, no.explained().encode() + b"\n", "text/plain; charset=utf-8", headers)

    def _answer_headers(self, caller: Caller) -> dict[str, str]:
        """Only a Skerry agent is told anything beyond KubeEdge's wire."""
        if not caller.is_skerry:
            return {}
        return self._greeting | {c.HEADER_SKERRY_FEATURES: peers.to_header(caller.features)}
