"""Ports between the hub and the cloud's duties. Duties see only this file of the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from skerry.api.gvk import Object
from skerry.wire.kubeedge.envelope import Envelope

NodeName = NewType("NodeName", str)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One object to bring to a node, or the news that it is gone.

    Args:
        key: wire resource, ``<namespace or null>/<type>/<name>``; the outbox keeps the newest per key and uid.
        operation: ``insert``, ``update`` or ``delete``.
        uid: the object's uid.
        resource_version: decimal; for a delete that of the deletion, or empty.
        content: the object (kind and apiVersion filled in); for a delete at least name, namespace, uid.
        source: upstream's sender literal, such as ``edgecontroller``.
        order: lower goes first when both wait (configs before pods).
    """

    key: str
    operation: str
    uid: str
    resource_version: str
    content: Object
    source: str = "edgecontroller"
    order: int = 50


@dataclass(frozen=True, slots=True)
class NodeLink:
    """The state of one node's link, for ``skerry node list`` and metrics. Times are wall-clock seconds."""

    node: NodeName
    connected_since_s: float
    last_seen_s: float
    address: str
    fingerprint: str
    waiting: int
    oldest_unacked_s: float
    is_skerry: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """An upstream envelope with the identity that the certificate proved."""

    node: NodeName
    envelope: Envelope


UpstreamHandler = Callable[[Request], Awaitable[Envelope | None]]
"""Answers a request; None when the message needs no answer. ``ApiError`` becomes the error form of that route."""


class Outbox(Protocol):
    """Where duties leave what a node must get. Never blocks; keyed, newest wins, survives a reconnect."""

    def put(self, node: NodeName, delivery: Delivery) -> None:
        """Bring this to the node, also if it is offline now (it is then found again by the resync)."""

    def send(self, node: NodeName, envelope: Envelope) -> bool:
        """Fire and forget; False when the node has no session."""

    def connected(self) -> Sequence[NodeLink]:
        """Nodes with a session."""


class Resync(Protocol):
    """Asked by the hub when a node connects: everything that the node should hold now."""

    async def desired(self, node: NodeName) -> Sequence[Delivery]:
        """Every object of the node; the hub's cursor decides what of it is sent."""


class Cursor(Protocol):
    """What each node has acknowledged: ObjectSync and ClusterObjectSync, written behind."""

    async def load(self, node: NodeName) -> dict[str, Acked]:
        """By object uid."""

    def acked(self, node: NodeName, delivery: Delivery) -> None:
        """The node has stored this version (or, for a delete, the removal)."""


@dataclass(frozen=True, slots=True)
class Acked:
    """One cursor entry."""

    uid: str
    kind: str
    api_version: str
    namespace: str
    name: str
    resource_version: str
