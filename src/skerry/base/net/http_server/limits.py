"""What a server lets in, what it says when that is exceeded, and the plain values of its requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NewType

from skerry.base.errors import SkerryError

Address = NewType("Address", str)


class BodyTooLarge(SkerryError):
    """The request's body is over the limit; answer 413."""


class BodyTooSlow(SkerryError):
    """The request's body did not arrive in time; answer 408."""


class ClientGone(SkerryError):
    """The client closed the connection, or did not take our bytes in time."""


class BadUpgrade(SkerryError):
    """The request does not ask for the upgrade that its path needs; answer 400."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one server lets in.

    Args:
        max_connections: open connections of this server; beyond it new ones are closed at once.
        per_address: open connections per client address; beyond it new ones are closed at once. 0 = no limit.
        opening: connections that have not finished their TLS handshake, fewer while handshakes take long; beyond it
            others wait to be accepted, until one is done, or has not greeted us for 1 s, or takes much longer than
            others did (a quarter of ``handshake_s`` at least); the latter are given up.
        handshake_s: from the accept to the end of the TLS handshake.
        head_s: from its first byte (or the handshake) to the end of a request's head; then the connection closes.
        keepalive_s: an idle connection closes after this.
        body_s: for a whole body to arrive.
        max_body_bytes: largest body that ``HttpRequest.body`` reads.
        head_bytes: longest request line, and longest header.
    """

    max_connections: int = 10_000
    per_address: int = 0
    opening: int = 512
    handshake_s: float = 10.0
    head_s: float = 10.0
    keepalive_s: float = 120.0
    body_s: float = 60.0
    max_body_bytes: int = 3 * 1024 * 1024
    head_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The client certificate that TLS has verified.

    Args:
        common_name: CN, empty when absent.
        organizations: every O, in order.
        fingerprint: SHA-256 of the DER form, lower-case hex.
        not_before_s, not_after_s: its validity, Unix seconds; 0 when unknown.
    """

    common_name: str
    organizations: tuple[str, ...]
    fingerprint: str
    der: bytes = field(repr=False, default=b"")
    not_before_s: float = 0.0
    not_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer with its whole body."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Iterable[tuple[str, str]] = ()
