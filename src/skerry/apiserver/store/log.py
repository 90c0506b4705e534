"""The revision log on SQLite: every change gets the next revision, and is on the disk when it is acknowledged.

Two tables: ``cur`` has the newest body of each object, ``log`` every change since the last compaction. A revision is
``log.rv`` (AUTOINCREMENT: never reused, comparable across all resources). Bodies are opaque bytes here.
Heartbeats of nodes and Events are written late (``is_late``): a power cut may take the last of them back. Even so
their revisions are not given out again: ``meta.reserved_rv`` is on the disk before any of them, and after such an end
the count goes on behind it. Who watched them up to a revision before that lists again: ``late_floor_rv``.
Compare-and-swap runs inside the writer's transaction, so it needs no lock elsewhere.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from skerry.base.errors import SkerryError
from skerry.base.sqlite import Database
from skerry.base.values import Struct

RESERVED_AHEAD = 2000
"""Revisions that one sync reserves for late writes; an unclean end skips what is left of them."""
_NODE_LEASES = ("leases.coordination.k8s.io", "kube-node-lease")
LATE = frozenset({"events", _NODE_LEASES[0]})
"""Storage resources of which some changes are written late."""

Op = Literal["ADDED", "MODIFIED", "DELETED"]

_OPS: tuple[Op, ...] = ("ADDED", "MODIFIED", "DELETED")

_MIGRATIONS = (
    """
CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cur(
  gr TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
  crv INTEGER NOT NULL, rv INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(gr, ns, name)
) WITHOUT ROWID;
CREATE TABLE log(
  rv INTEGER PRIMARY KEY AUTOINCREMENT, ts REAL NOT NULL, gr TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
  uid TEXT NOT NULL, crv INTEGER NOT NULL, op INTEGER NOT NULL, body BLOB NOT NULL
);
""",
)


class Key(Struct, frozen=True):
    """Where an object is stored: ``gr`` such as ``pods`` or ``deployments.apps``; ``ns`` empty for cluster scope."""

    gr: str
    ns: str
    name: str


class Row(Struct, frozen=True):
    """One stored state. ``crv`` is the revision of the object's creation."""

    key: Key
    uid: str
    crv: int
    rv: int
    body: bytes


class Change(Struct, frozen=True):
    """One row of the log; for DELETED ``row.body`` is the last state."""

    op: Op
    row: Row
    ts: float


class Exists(SkerryError):
    """An object of this key is there already."""


class Missing(SkerryError):
    """No object of this key."""


class Stale(SkerryError):
    """The object has another revision than expected. ``rv`` is the current one."""

    def __init__(self, message: str, *, rv: int) -> None:
        super().__init__(message)
        self.rv = rv


def is_late(key: Key) -> bool:
    """Whether a change of this object need not be on the disk when it is acknowledged: it is soon made again."""
    return key.gr == "events" or (key.gr, key.ns) == _NODE_LEASES


class _Reservation:
    """``base.sqlite.LateWrites``: revisions are reserved on the disk before late writes use them."""

    def may(self, connection: sqlite3.Connection, count: int) -> bool:
        return _newest(connection) + count <= _meta(connection, "reserved_rv")

    def prepare(self, connection: sqlite3.Connection, count: int) -> None:
        _put_meta(connection, "reserved_rv", _newest(connection) + count + RESERVED_AHEAD)


class RevisionLog:
    """The file. Methods named ``put_*`` run in the writer's thread; the others on the loop."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self.database = Database(
            path,
            migrations=_MIGRATIONS,
            synchronous=synchronous,
            cache_kib=16 * 1024,
            mmap_bytes=64 * 1024 * 1024,
            late=_Reservation() if synchronous == "FULL" else None,
        )
        self.late_floor_rv = self.database.write_blocking(_go_on_behind_reserved)
        """The newest revision up to which late changes may have been taken back; 0 when none ever was."""

    def close(self) -> None:
        """Finish what is queued and close. What was reserved and not used is given back."""
        if not self.database.is_closed:
            self.database.write_blocking(lambda c: _put_meta(c, "reserved_rv", _newest(c)))
        self.database.close()

    def cluster_uid(self) -> str:
        """Made with the file, and kept."""

        def make(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT OR IGNORE INTO meta VALUES('cluster_uid', ?)", (str(uuid.uuid4()),))
            return str(connection.execute("SELECT v FROM meta WHERE k='cluster_uid'").fetchone()[0])

        return self.database.write_blocking(make)

    def generation(self) -> str:
        """Another one after each restore from a backup: who has seen a newer state must not trust its revisions."""

        def make(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT OR IGNORE INTO meta VALUES('generation', ?)", (str(uuid.uuid4()),))
            return str(connection.execute("SELECT v FROM meta WHERE k='generation'").fetchone()[0])

        return self.database.write_blocking(make)

    def newest_rv(self) -> int:
        """The last revision given out; at least 1, for a client's 0 means "any"."""
        rows = self.database.read("SELECT seq FROM sqlite_sequence WHERE name='log'")
        return int(rows[0][0]) if rows else 1

    def compacted_rv(self) -> int:
        """The newest revision that is no longer in the log; 0 when all are."""
        rows = self.database.read("SELECT v FROM meta WHERE k='compacted_rv'")
        return int(rows[0][0]) if rows else 0

    def rows(self) -> Iterable[Row]:
        """Every object, by key."""
        for gr, ns, name, uid, crv, rv, body in self.database.read(
            "SELECT gr, ns, name, uid, crv, rv, body FROM cur ORDER BY gr, ns, name"
        ):
            yield Row(Key(gr, ns, name), uid, crv, rv, body)

    def changes(self, *, since_rv: int) -> Iterable[Change]:
        """The log after ``since_rv``, in order."""
        for rv, ts, gr, ns, name, uid, crv, op, body in self.database.read(
            "SELECT rv, ts, gr, ns, name, uid, crv, op, body FROM log WHERE rv > ? ORDER BY rv", (since_rv,)
        ):
            yield Change(_OPS[op], Row(Key(gr, ns, name), uid, crv, rv, body), ts)

    def put_new(self, connection: sqlite3.Connection, key: Key, uid: str, body: bytes, ts: float) -> Row:
        """Insert an object.

        Raises:
            Exists: the key is taken.
        """
        if _found(connection, key) is not None:
            raise Exists(f"{key.gr} {key.ns}/{key.name} exists")
        rv = _append(connection, key, uid, None, 0, body, ts)
        connection.execute("INSERT INTO cur VALUES(?, ?, ?, ?, ?, ?, ?)", (key.gr, key.ns, key.name, uid, rv, rv, body))
        return Row(key, uid, rv, rv, body)

    def put_next(self, connection: sqlite3.Connection, key: Key, body: bytes, ts: float, *, expect_rv: int) -> Row:
        """Replace an object whose revision is ``expect_rv``.

        Raises:
            Missing: it is gone.
            Stale: it has another revision.
        """
        uid, crv = _expect(connection, key, expect_rv)
        rv = _append(connection, key, uid, crv, 1, body, ts)
        connection.execute(
            "UPDATE cur SET rv=?, body=? WHERE gr=? AND ns=? AND name=?", (rv, body, key.gr, key.ns, key.name)
        )
        return Row(key, uid, crv, rv, body)

    def put_gone(self, connection: sqlite3.Connection, key: Key, body: bytes, ts: float, *, expect_rv: int) -> Row:
        """Remove an object whose revision is ``expect_rv``; ``body`` is what watchers see as its last state.

        Raises:
            Missing: it is gone already.
            Stale: it has another revision.
        """
        uid, crv = _expect(connection, key, expect_rv)
        rv = _append(connection, key, uid, crv, 2, body, ts)
        connection.execute("DELETE FROM cur WHERE gr=? AND ns=? AND name=?", (key.gr, key.ns, key.name))
        return Row(key, uid, crv, rv, body)

    async def compact(self, *, before_ts: float, keep: int) -> int:
        """Forget log rows older than ``before_ts``, but keep the last ``keep``; returns how many went."""

        def run(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT rv FROM log ORDER BY rv DESC LIMIT 1 OFFSET ?", (keep,)).fetchone()
            if row is None:
                return 0
            last = connection.execute(
                "SELECT rv FROM log WHERE rv <= ? AND ts < ? ORDER BY rv DESC LIMIT 1", (row[0], before_ts)
            ).fetchone()
            if last is None:
                return 0
            count = connection.execute("DELETE FROM log WHERE rv <= ?", (last[0],)).rowcount
            connection.execute("INSERT OR REPLACE INTO meta VALUES('compacted_rv', ?)", (str(last[0]),))
            return count

        return await self.database.write(run)


def _go_on_behind_reserved(connection: sqlite3.Connection) -> int:
    reserved, newest = _meta(connection, "reserved_rv"), _newest(connection)
    if reserved > newest:
        connection.execute("UPDATE sqlite_sequence SET seq=? WHERE name='log'", (reserved,))
        _put_meta(connection, "late_floor_rv", reserved)
    return _meta(connection, "late_floor_rv")


def _newest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='log'").fetchone()
    return int(row[0]) if row is not None else 1


def _meta(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT v FROM meta WHERE k=?", (name,)).fetchone()
    return int(row[0]) if row is not None else 0


def _put_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, str(value)))


def _found(connection: sqlite3.Connection, key: Key) -> tuple[str, int, int] | None:
    found: tuple[str, int, int] | None = connection.execute(
        "SELECT uid, crv, rv FROM cur WHERE gr=? AND ns=? AND name=?", (key.gr, key.ns, key.name)
    ).fetchone()
    return found


def _expect(connection: sqlite3.Connection, key: Key, expect_rv: int) -> tuple[str, int]:
    found = _found(connection, key)
    if found is None:
        raise Missing(f"{key.gr} {key.ns}/{key.name} is gone")
    if found[2] != expect_rv:
        raise Stale(f"{key.gr} {key.ns}/{key.name} has revision {found[2]}, not {expect_rv}", rv=found[2])
    return found[0], found[1]


def _append(
    connection: sqlite3.Connection, key: Key, uid: str, crv: int | None, op: int, body: bytes, ts: float
) -> int:
    if crv is None and connection.execute("SELECT 1 FROM sqlite_sequence WHERE name='log'").fetchone() is None:
        connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('log', 1)")  # the first revision is 2
    cursor = connection.execute(
        "INSERT INTO log(ts, gr, ns, name, uid, crv, op, body) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (ts, key.gr, key.ns, key.name, uid, crv or 0, op, body),
    )
    return int(cursor.lastrowid or 0)
