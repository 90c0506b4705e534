"""Port to the cloud, as the rest of the agent sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry.base.errors import Retryable, SkerryError
from skerry.wire.kubeedge.envelope import Envelope


class LinkError(SkerryError, Retryable):
    """The link failed."""


class LinkBroken(LinkError):
    """The world closed it."""


class Offline(LinkError):
    """There is no link now. ``since_s`` is wall-clock seconds, ``why`` the last failure in words."""

    def __init__(self, message: str, *, since_s: float = 0.0, why: str = "") -> None:
        super().__init__(message)
        self.since_s = since_s
        self.why = why


class Greeter(Protocol):
    """What is said at the beginning of a session."""

    @property
    def bound_to(self) -> str:
        """For the handshake: which store ours belongs to, or ``-``."""

    async def greet(self, store_id: str) -> Envelope | None:
        """The first message; ``store_id`` is what the cloud said of its store, empty when it said nothing."""


class Link(Protocol):
    """One agent's link. It dials and backs off by itself; users see envelopes and the state."""

    @property
    def is_up(self) -> bool:
        """Whether a session with the cloud stands now."""

    @property
    def is_to_skerry(self) -> bool:
        """Whether the cloud of this session, or of the last one, is ours."""

    @property
    def down_since_s(self) -> float:
        """Wall-clock seconds when the session ended; 0 while up."""

    @property
    def why_down(self) -> str:
        """The last failure, in words with the remedy; empty while up."""

    @property
    def folds_lease(self) -> bool:
        """Whether the cloud renews the node's Lease by itself while this session stands."""

    async def send(self, envelope: Envelope) -> None:
        """Hand an envelope to the session.

        Raises:
            Offline: no session now.
            LinkBroken: it broke while sending.
        """

    async def request(self, envelope: Envelope, *, timeout_s: float = 20.0) -> Envelope:
        """Send and wait for the envelope whose parent is this one's id.

        Raises:
            Offline, LinkBroken: as ``send``; also when the session ends before the answer.
            TimeoutError: no answer in time.
        """

    def on_envelope(self, handler: Callable[[Envelope], Awaitable[None]]) -> None:
        """Where envelopes go that answer no request. Called one at a time, in the order of arrival."""

    def on_state(self, handler: Callable[[bool], None]) -> None:
        """Called with True after a session began, False after it ended."""
