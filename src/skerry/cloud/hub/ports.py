"""Ports between the hub and the cloud's duties. Duties see only this file of the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NewType, Protocol

from skerry.api.gvk import Object
from skerry.base.net.http_server import PeerCertificate
from skerry.base.values import Struct
from skerry.wire.kubeedge.envelope import Envelope

NodeName = NewType("NodeName", str)


class Delivery(Struct, frozen=True):
    """One object to bring to a node, or the news that it is gone.

    Args:
        key: wire resource, ``<namespace or null>/<type>/<name>``; the outbox keeps the newest per key and uid.
        operation: ``insert``, ``update`` or ``delete``.
        uid: the object's uid.
        resource_version: decimal; for a delete that of the deletion, or empty.
        content: the object (kind and apiVersion filled in); for a delete at least name, namespace, uid.
        source: upstream's sender literal, such as ``edgecontroller``. What ``dynamiccontroller`` sends is for watches:
            no cursor remembers it.
        order: lower goes first when both wait (configs before pods).
        digest: of what a node acts on in ``content``; filled in by the outbox when the node has it.
    """

    key: str
    operation: str
    uid: str
    resource_version: str
    content: Object
    source: str = "edgecontroller"
    order: int = 50
    digest: bytes = b""


class NodeLink(Struct, frozen=True):
    """The state of one node's link, for ``skerry node list`` and metrics. Times are wall-clock seconds.

    Args:
        oldest_unacked_age_s: of the oldest delivery under way; 0 when there is none.
        received_bytes, sent_bytes: of messages, since the link was made.
        features: agreed on with a Skerry agent (``wire.kubeedge.peers``).
    """

    node: NodeName
    connected_since_s: float
    last_seen_s: float
    address: str
    fingerprint: str
    waiting: int
    oldest_unacked_age_s: float
    is_skerry: bool = False
    received_bytes: int = 0
    sent_bytes: int = 0
    features: frozenset[str] = frozenset()


class Request(Struct, frozen=True):
    """An upstream envelope with the identity that the certificate proved. ``is_skerry``: the agent is ours."""

    node: NodeName
    envelope: Envelope
    is_skerry: bool = False


UpstreamHandler = Callable[[Request], Awaitable[Envelope | None]]
"""Answers a request; None when the message needs no answer. ``ApiError`` becomes the error form of that route."""


ErrorForm = Literal["queried", "written", "text", "silent"]
"""How a handler's ``ApiError`` travels: ``{"ErrStatus"}``, ``{"Object","Err"}``, operation ``error``, not at all."""


class RouteEntry(Struct, frozen=True):
    """One row of the hub's table: who answers which messages.

    Args:
        type: as ``wire.kubeedge.route.resource_type`` says it, such as ``podpatch`` or ``device/twin/edge_updated``.
        operation: such as ``query``; ``*`` for every other one.
        handler: gives the answer, or None where the message needs none.
        errors: form of an error answer.
    """

    type: str
    operation: str
    handler: UpstreamHandler
    errors: ErrorForm = "text"


class Outbox(Protocol):
    """Where duties leave what a node must get. Never blocks; keyed, newest wins, survives a reconnect."""

    def put(self, node: NodeName, delivery: Delivery) -> None:
        """Bring this to the node, also if it is offline now (it is then found again by the resync)."""

    def advance(self, node: NodeName, delivery: Delivery, *, from_version: str) -> None:
        """The object changed in nothing that the node needs: where it holds ``from_version`` or nothing is under
        way, only the cursor moves; else as ``put``."""

    def resync(self, node: NodeName, *, force: bool = False) -> None:
        """Compare once more what the node holds with what it should; ``force``: it has lost everything."""

    def disconnect(self, node: NodeName, reason: str) -> None:
        """End the node's session, if there is one."""

    def send(self, node: NodeName, envelope: Envelope) -> bool:
        """Fire and forget; False when the node has no session."""

    def last_seen_s(self, node: NodeName) -> float:
        """When the node was last heard, wall-clock seconds; 0 without a session."""

    def connected(self) -> Sequence[NodeLink]:
        """Nodes with a session."""

    def is_connected(self, node: NodeName) -> bool:
        """Whether the node has a session."""


class Resync(Protocol):
    """Asked by the hub when a node connects: everything that the node should hold now."""

    async def desired(self, node: NodeName) -> Sequence[Delivery]:
        """Every object of the node; the hub's cursor decides what of it is sent."""


class Cursor(Protocol):
    """What each node has acknowledged: ObjectSync and ClusterObjectSync, written behind."""

    async def load(self, node: NodeName) -> dict[str, Acked]:
        """By object uid."""

    def acked(self, node: NodeName, entry: Acked, *, can_wait: bool = False) -> None:
        """The node needs nothing of this version any more. ``can_wait``: worth no write by itself."""

    def noted(self, node: NodeName, entry: Acked) -> None:
        """As ``acked``, of a node that says itself what it holds: kept in memory, never written for this."""

    def removed(self, node: NodeName, uid: str) -> None:
        """The node has removed the object."""


class Gate(Protocol):
    """Asked by the hub before a node comes in: is its certificate still good?"""

    async def admit(self, node: str, certificate: PeerCertificate) -> None:
        """Raises ``base.errors.Refused`` with cause and remedy; ``ApiError`` when nobody can tell now."""

    async def connected(self, node: str, fingerprint: str) -> None:
        """The node has a session with this certificate."""

    def watch(
        self, node: str, fingerprint: str, on_revoked: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """While inside, ``on_revoked`` is called with the reason when the certificate is no longer good."""


class Clone(Struct, frozen=True):
    """Two living connections with one identity: a copied machine or card. The newer one was refused."""

    first_address: str
    first_fingerprint: str
    second_address: str
    second_fingerprint: str


class Presence(Protocol):
    """Told by the hub about sessions."""

    async def connected(self, link: NodeLink) -> None:
        """A session has begun."""

    async def disconnected(self, link: NodeLink, reason: str) -> None:
        """A session has ended."""

    async def cloned(self, node: NodeName, clone: Clone) -> None:
        """A second living connection was refused."""


class Acked(Struct, frozen=True):
    """One cursor entry.

    Args:
        resource_version: the node needs nothing of this version or an older one; empty when it holds an unknown one.
        content_version: the version that it really holds, where that is an older one with the same content; else empty.
        digest: of what it holds, where that is known: only in memory.
    """

    uid: str
    kind: str
    api_version: str
    namespace: str
    name: str
    resource_version: str
    content_version: str = ""
    digest: bytes = b""
