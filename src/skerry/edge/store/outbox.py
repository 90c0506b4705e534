"""The durable upward queue. Keyed: the newest envelope of a key is what the cloud gets.

Two kinds of entry. A *state* has a key such as ``default/podpatch/web``: a newer one replaces it, and the answer to an
older one never removes the newer. A *sequence* (events) keeps every entry, at most ``max_sequence`` of them; the oldest
go first, and ``dropped`` counts them, with those that a full disk had no room for.

Rows are small and few for the sake of flash storage: long envelopes are deflated, and the row of a confirmed state goes
with the next transaction that writes here anyway.
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.errors import StoreError
from skerry.base.obs.log import get_log
from skerry.base.sqlite import Database
from skerry.base.values import Struct
from skerry.wire.kubeedge.envelope import Envelope, decode, encode

log = get_log(__name__)

MAX_SEQUENCE = 1000
SWEEP_S = 5.0
_DEFLATED_FROM_BYTES = 512
_DEFLATED = b"\x78"
"""First byte of a deflated row; others begin with a brace."""


class Entry(Struct, frozen=True):
    """What waits. ``seq`` changes with every new value of a key."""

    seq: int
    key: str
    envelope: Envelope
    created_at_s: float
    is_sequence: bool = False


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
        self._confirmed: dict[int, None] = {}
        self._has_confirmed = asyncio.Event()
        self.dropped = 0

    def waiting(self, connection: sqlite3.Connection, key: str) -> Envelope | None:
        """The envelope of a key that the cloud has not confirmed. Part of the caller's transaction."""
        row = connection.execute("SELECT seq, envelope FROM outbox WHERE key = ?", (key,)).fetchone()
        return _unpack(row[1]) if row and row[0] not in self._confirmed else None

    def put(self, connection: sqlite3.Connection, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        """Leave an envelope in the caller's transaction; call ``wake`` after the commit."""
        self._sweep(connection, list(self._confirmed))
        connection.execute("DELETE FROM outbox WHERE key = ?", (key,))
        connection.execute(
            "INSERT INTO outbox (key, is_sequence, envelope, created_at) VALUES (?, ?, ?, ?)",
            (key, int(is_sequence), _pack(envelope), self._clock.now_s()),
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

    def confirm(self, entry: Entry) -> None:
        """As ``settle``, for a state, and without a transaction of its own: after a crash it may be sent once more."""
        self._confirmed[entry.seq] = None
        self._has_confirmed.set()

    async def run(self) -> None:
        """Remove the rows of confirmed states that no other transaction took along; never ends.

        When it is stopped it removes them at once: who reads the store then must not take them for what still waits.
        """
        try:
            while True:
                await self._has_confirmed.wait()
                self._has_confirmed.clear()
                await self._clock.sleep(SWEEP_S)
                gone = list(self._confirmed)
                try:
                    await self._database.write(partial(self._sweep, seqs=gone))
                except StoreError as exc:
                    log.warning("outbox.not_swept", why=str(exc))
                    self._has_confirmed.set()
                    continue
                for seq in gone:
                    del self._confirmed[seq]
        finally:
            self._sweep_last()

    async def drop(self, key: str) -> None:
        """Forget what waits under a key."""
        await self._database.write(lambda connection: connection.execute("DELETE FROM outbox WHERE key = ?", (key,)))

    def entries(self, *, after_seq: int = 0, limit: int = 100) -> list[Entry]:
        """What waits, oldest first."""
        rows = self._database.read(
            "SELECT seq, key, envelope, created_at, is_sequence FROM outbox WHERE seq > ?"
            " AND seq NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?",
            (after_seq, self._told(), limit),
        )
        return [Entry(seq, key, _unpack(row), at_s, bool(is_sequence)) for seq, key, row, at_s, is_sequence in rows]

    def depth(self) -> int:
        """How many entries wait."""
        sql = "SELECT count(*) FROM outbox WHERE seq NOT IN (SELECT value FROM json_each(?))"
        return int(self._database.read(sql, (self._told(),))[0][0])

    def oldest_s(self) -> float | None:
        """Wall-clock time of the oldest entry; None when nothing waits."""
        sql = "SELECT min(created_at) FROM outbox WHERE seq NOT IN (SELECT value FROM json_each(?))"
        found = self._database.read(sql, (self._told(),))[0][0]
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

    def _sweep_last(self) -> None:
        if not self._confirmed or self._database.is_closed:
            return
        try:
            self._database.write_blocking(partial(self._sweep, seqs=list(self._confirmed)))
        except StoreError as exc:
            log.warning("outbox.not_swept", why=str(exc))

    def _told(self) -> str:
        """Numbers of the confirmed rows that may still be there, as a JSON array."""
        return json.dumps(list(self._confirmed)).decode()

    @staticmethod
    def _sweep(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
        connection.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])

    def _trim(self, connection: sqlite3.Connection) -> None:
        over = connection.execute("SELECT count(*) FROM outbox WHERE is_sequence").fetchone()[0] - self._max_sequence
        if over <= 0:
            return
        connection.execute(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE is_sequence ORDER BY seq LIMIT ?)", (over,)
        )
        self.dropped += over


def _pack(envelope: Envelope) -> bytes:
    plain = encode(envelope)
    return zlib.compress(plain, 1) if len(plain) >= _DEFLATED_FROM_BYTES else plain


def _unpack(row: bytes) -> Envelope:
    return decode(zlib.decompress(row) if row[:1] == _DEFLATED else row)
