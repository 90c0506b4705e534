"""The durable upward queue. Keyed: the newest envelope of a key is what the cloud gets.

Two kinds of entry. A *state* has a key such as ``default/podpatch/web``: a newer one replaces it, and the answer to an
older one never removes the newer. A *sequence* (events) keeps every entry, at most ``max_sequence`` of them; the oldest
go first, and ``dropped`` counts them, with those that a full disk had no room for.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.base.sqlite import Database
from skerry.wire.kubeedge.envelope import Envelope, decode, encode

log = get_log(__name__)

MAX_SEQUENCE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What waits. ``seq`` changes with every new value of a key."""

    seq: int
    key: str
    envelope: Envelope
    created_at_s: float


class EdgeOutbox:
    """Entries in the order in which they were left."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        max_sequence: int = MAX_SEQUENCE,
        is_tight: Callable[[], bool] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_sequence = max_sequence
        self._is_tight = is_tight or (lambda: False)
        self._committed = asyncio.Event()
        self.dropped = 0

    def waiting(self, connection: sqlite3.Connection, key: str) -> Envelope | None:
        """The envelope of a key that the cloud has not confirmed. Part of the caller's transaction."""
        row = connection.execute("SELECT envelope FROM outbox WHERE key = ?", (key,)).fetchone()
        return decode(row[0]) if row else None

    def put(self, connection: sqlite3.Connection, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        """Leave an envelope in the caller's transaction; call ``wake`` after the commit."""
        connection.execute("DELETE FROM outbox WHERE key = ?", (key,))
        connection.execute(
            "INSERT INTO outbox (key, is_sequence, envelope, created_at) VALUES (?, ?, ?, ?)",
            (key, int(is_sequence), encode(envelope), self._clock.now_s()),
        )
        if is_sequence:
            self._trim(connection)

    def wake(self) -> None:
        """Say that something new was committed. Never blocks."""
        self._committed.set()

    async def leave(self, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        """``put`` in a transaction of its own; returns after the commit. Sequences are dropped while space is tight."""
        if is_sequence and self._is_tight():
            self.dropped += 1
            return
        await self._database.write(lambda connection: self.put(connection, key, envelope, is_sequence=is_sequence))
        self.wake()

    async def settle(self, entry: Entry) -> None:
        """The cloud has confirmed this entry; a newer value of its key stays."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM outbox WHERE seq = ?", (entry.seq,))
        )

    async def drop(self, key: str) -> None:
        """Forget what waits under a key."""
        await self._database.write(lambda connection: connection.execute("DELETE FROM outbox WHERE key = ?", (key,)))

    def entries(self, *, after_seq: int = 0, limit: int = 100) -> list[Entry]:
        """What waits, oldest first."""
        rows = self._database.read(
            "SELECT seq, key, envelope, created_at FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
        )
        return [Entry(seq, key, decode(envelope), created_at_s) for seq, key, envelope, created_at_s in rows]

    def depth(self) -> int:
        """How many entries wait."""
        return int(self._database.read("SELECT count(*) FROM outbox")[0][0])

    def oldest_s(self) -> float | None:
        """Wall-clock time of the oldest entry; None when nothing waits."""
        found = self._database.read("SELECT min(created_at) FROM outbox")[0][0]
        return float(found) if found is not None else None

    async def changed_within(self, timeout_s: float) -> bool:
        """Wait until something was committed since the last call, at most ``timeout_s``; whether it was."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._committed.wait()
        except TimeoutError:
            return False
        self._committed.clear()
        return True

    def _trim(self, connection: sqlite3.Connection) -> None:
        over = connection.execute("SELECT count(*) FROM outbox WHERE is_sequence").fetchone()[0] - self._max_sequence
        if over <= 0:
            return
        connection.execute(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE is_sequence ORDER BY seq LIMIT ?)", (over,)
        )
        self.dropped += over
