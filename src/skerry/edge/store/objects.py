"""Objects that the cloud sent, and the feed of their changes. Store first, then tell.

Keys are wire resources: ``<namespace or null>/<type>/<name>``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import shielded
from skerry.base.errors import StoreError
from skerry.base.obs.log import get_log
from skerry.base.sqlite import Database
from skerry.base.values import Struct
from skerry.edge.store import rowcodec
from skerry.edge.store.rowcodec import RowCodec

log = get_log(__name__)

_BOUND = "store"
_SELECT = "SELECT key, type, rv, body, stored_at FROM object"
_FORGET = "DELETE FROM object WHERE key = ?"
_REMEMBER = "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Change(Struct, frozen=True):
    """One committed change. ``old`` or ``new`` is None when the object was not, or is no longer, there."""

    key: str
    type: str
    old: Object | None
    new: Object | None


class EdgeObjects:
    """All objects of this node, in memory and on the disk.

    Objects handed out are shared: never change them in place.

    Args:
        keeps_unread: rows that cannot be opened stay on the disk, because their key may come back.
    """

    def __init__(self, database: Database, *, codec: RowCodec, clock: Clock, keeps_unread: bool = False) -> None:
        self._database = database
        self._codec = codec
        self._clock = clock
        self._by_key: dict[str, Object] = {}
        self._stored_at_s: dict[str, float] = {}
        self._stale: set[str] = set()
        self._handlers: list[Callable[[Change], None]] = []
        self._order = asyncio.Lock()
        self._unread: set[str] = set()
        self._load(keeps_unread=keeps_unread)

    def _load(self, *, keeps_unread: bool) -> None:
        """Read every row. One that cannot be opened is not ours any more: the cloud sends it again after the hello."""
        outdated: list[tuple[bytes, str]] = []
        lost: list[tuple[str]] = []
        for key, kind, version, body, stored_at_s in self._database.read(_SELECT):
            try:
                value, is_current = rowcodec.read(self._codec, kind, key, body)
            except StoreError as exc:
                log.warning("store.row_lost", key=key, why=exc.explained())
                if keeps_unread:
                    self._unread.add(key)
                else:
                    lost.append((key,))
                continue
            if isinstance(value, dict):
                self._by_key[key] = value
                self._stored_at_s[key] = stored_at_s
                if version != _identity(value)[1]:
                    self._stale.add(key)
            if not is_current:
                outdated.append((rowcodec.encode(self._codec, kind, key, value), key))
        if outdated or lost:
            self._database.write_blocking(lambda connection: _mend(connection, outdated, lost))

    def holdings(self) -> dict[str, tuple[str, str]]:
        """Uid and version of every object of the cluster, by key; the version is empty when it is of another store."""
        identities = {key: _identity(obj) for key, obj in self._by_key.items()}
        return {key: (uid, "" if key in self._stale else version) for key, (uid, version) in identities.items() if uid}

    async def bind(self, store_id: str) -> bool:
        """From now on versions are those of this cluster and history of its store; whether that is another one.

        Versions stored before then count no longer: whatever comes replaces them. Objects stay until the cloud has sent
        their successors or removed them.

        Raises:
            StoreError: it could not be written; nothing changed.
        """
        bound = self.fact(_BOUND)
        if bound == store_id:
            return False
        stale = [(key,) for key, (uid, _) in self.holdings().items() if uid] if bound else []

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE object SET rv = '' WHERE key = ?", stale)
            connection.execute(_REMEMBER, (_BOUND, store_id))

        await self._database.write(write)
        self._stale.update(key for (key,) in stale)
        return bool(bound)

    @property
    def bound_to(self) -> str:
        """The store that versions here are of; empty when unknown."""
        return self.fact(_BOUND)

    def subscribe(self, handler: Callable[[Change], None]) -> None:
        """Tell ``handler`` of every change from now on, after its commit, in order. It must not block."""
        self._handlers.append(handler)

    def get(self, key: str) -> Object | None:
        """One object, or None."""
        return self._by_key.get(key)

    def age_s(self, key: str) -> float | None:
        """Seconds since the object was stored; None when it is not here."""
        stored_at_s = self._stored_at_s.get(key)
        return None if stored_at_s is None else max(0.0, self._clock.now_s() - stored_at_s)

    def list(self, kind: str) -> dict[str, Object]:
        """Every object of a type, by key."""
        return {key: obj for key, obj in self._by_key.items() if type_of(key) == kind}

    def count(self) -> int:
        """How many objects there are."""
        return len(self._by_key)

    async def put(self, key: str, obj: Object) -> bool:
        """Store an object unless the same object is here in this or a newer version.

        Returns:
            Whether anything changed.

        Raises:
            StoreError: it could not be stored; nothing changed.
        """
        return await self._in_order(lambda: self._put(key, obj))

    async def delete(self, key: str, *, uid: str = "") -> bool:
        """Remove an object; with ``uid`` only if it is that one.

        Returns:
            Whether anything changed.

        Raises:
            StoreError: it could not be removed; nothing changed.
        """
        return await self._in_order(lambda: self._delete(key, uid))

    async def _in_order(self, change: Callable[[], Awaitable[bool]]) -> bool:
        """One change at a time, to its end even when the caller is cancelled: memory and disk stay the same."""
        outcome: list[bool] = []

        async def work() -> None:
            async with self._order:
                outcome.append(await change())

        await shielded(work())
        return outcome[0]

    async def _put(self, key: str, obj: Object) -> bool:
        old = self._by_key.get(key)
        if old is not None and key not in self._stale and not is_newer(obj, old):
            return False
        uid, version = _identity(obj)
        kind = type_of(key)
        body = rowcodec.encode(self._codec, kind, key, obj)
        now_s = self._clock.now_s()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO object (key, type, uid, rv, body, stored_at) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET uid = excluded.uid, rv = excluded.rv, body = excluded.body,"
                " stored_at = excluded.stored_at",
                (key, kind, uid, version, body, now_s),
            )

        await self._database.write(write)
        self._by_key[key] = obj
        self._unread.discard(key)
        self._stale.discard(key)
        self._stored_at_s[key] = now_s
        self._tell(Change(key, kind, old, obj))
        return True

    async def _delete(self, key: str, uid: str) -> bool:
        old = self._by_key.get(key)
        if old is None and key in self._unread:
            await self._database.write(lambda connection: connection.execute(_FORGET, (key,)))
            self._unread.discard(key)
        if old is None or (uid and _identity(old)[0] not in ("", uid)):
            return False
        await self._database.write(lambda connection: connection.execute(_FORGET, (key,)))
        self._by_key.pop(key, None)
        self._stale.discard(key)
        self._stored_at_s.pop(key, None)
        self._tell(Change(key, type_of(key), old, None))
        return True

    def fact(self, name: str) -> str:
        """A remembered fact about the cloud or this node; empty when unknown."""
        rows = self._database.read("SELECT value FROM fact WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    async def remember(self, name: str, value: str) -> None:
        """Keep a fact."""
        await self._database.write(lambda connection: connection.execute(_REMEMBER, (name, value)))

    def _tell(self, change: Change) -> None:
        for handler in self._handlers:
            handler(change)


def _mend(connection: sqlite3.Connection, sealed: list[tuple[bytes, str]], lost: list[tuple[str]]) -> None:
    connection.executemany("UPDATE object SET body = ? WHERE key = ?", sealed)
    connection.executemany(_FORGET, lost)


def type_of(key: str) -> str:
    """The type in ``<namespace>/<type>/<name>``."""
    parts = key.split("/", 2)
    return parts[1] if len(parts) > 1 else ""


def is_newer(obj: Object, than: Object) -> bool:
    """Whether ``obj`` replaces ``than``: another uid, or a higher resourceVersion of the same one.

    A version that is not a decimal number always replaces: such objects carry no order.
    """
    (new_uid, new), (old_uid, old) = _identity(obj), _identity(than)
    if new_uid != old_uid or not (new.isdecimal() and old.isdecimal()):
        return True
    return int(new) > int(old)


def _identity(obj: Object) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or "")
