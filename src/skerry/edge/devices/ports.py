"""What the device duty needs of its surroundings."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Protocol

from skerry.base.errors import DeviceError, Retryable
from skerry.base.sqlite import R
from skerry.wire.kubeedge.dmi import Message
from skerry.wire.kubeedge.envelope import Envelope


class Store(Protocol):
    """The agent's database: ``base.sqlite.Database`` as it is."""

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Run one short query."""

    async def write(self, fn: Callable[[sqlite3.Connection], R]) -> R:
        """Run ``fn`` in the writer's transaction; returns after the commit."""


class ReportOutbox(Protocol):
    """The durable upward queue, keyed: the newest envelope of a key is what the cloud gets."""

    def waiting(self, connection: sqlite3.Connection, key: str) -> Envelope | None:
        """The envelope of a key that the cloud has not confirmed."""

    def put(self, connection: sqlite3.Connection, key: str, envelope: Envelope) -> None:
        """Leave an envelope, replacing the one that waits under the same key. Part of the caller's transaction."""

    def wake(self) -> None:
        """Say that something new was committed. Never blocks."""


Publisher = Callable[[str, bytes], None]
"""Hands a document to local applications; never blocks."""


class MapperUnreachable(DeviceError, Retryable):
    """Nobody listens on the mapper's socket, or it did not answer in time."""


class MapperRefused(DeviceError):
    """The mapper answered with an error."""


class MapperCaller(Protocol):
    """Calls ``v1beta1.DeviceMapperService`` of a mapper."""

    async def call(self, address: str, method: str, request: Message) -> Message:
        """One call.

        Args:
            address: path of the mapper's unix socket.
            method: such as ``RegisterDevice``.
            request: by field name.

        Raises:
            MapperUnreachable: no connection, or no answer in time.
            MapperRefused: an error answer.
        """

    async def probe(self, address: str) -> bool:
        """Whether somebody listens on a mapper's socket."""
