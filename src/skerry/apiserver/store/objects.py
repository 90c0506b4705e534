"""Guarded create, update and delete over the revision log, and reads from the watch cache.

Contents are decoded objects; they are stored without kind, apiVersion and resourceVersion. A write that changes
nothing makes no revision. What a method returns is on the disk (heartbeats of nodes and Events: soon will be) and has
been told to every watcher.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from skerry.api.gvk import Object
from skerry.apiserver.store.entry import Entry, encode
from skerry.apiserver.store.log import Key, Op, RevisionLog, Row, is_late
from skerry.apiserver.store.watch import Collection, WatchCache
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor, shielded
from skerry.base.obs.log import get_log

log = get_log(__name__)

COMPACT_EVERY_S = 300.0
KEEP_LOG_ROWS = 100


class ObjectStore:
    """The objects of one server.

    Args:
        path: the SQLite file.
        clock: time of log rows.
        synchronous: FULL or NORMAL.
    """

    def __init__(self, path: Path, *, clock: Clock, synchronous: str = "FULL") -> None:
        self._clock = clock
        self._log = RevisionLog(path, synchronous=synchronous)
        self.cluster_uid = self._log.cluster_uid()
        self.generation = self._log.generation()
        self.cache = WatchCache(
            rv=self._log.newest_rv(), compacted_rv=self._log.compacted_rv(), late_floor_rv=self._log.late_floor_rv
        )
        self.cache.load(self._log.rows(), self._log.changes(since_rv=self._log.compacted_rv()))
        self._supervisor = Supervisor("apiserver-store", clock=clock)
        self.oldest_page_rv = 0
        """Pages of lists begun before this revision have ended: they are five to ten minutes old."""

    @property
    def rv(self) -> int:
        """The newest revision that watchers have been told."""
        return self.cache.rv

    def start(self) -> None:
        """Start compaction."""
        self._supervisor.keep("compact", self._compact_loop)

    async def aclose(self) -> None:
        """End compaction and close the file."""
        await self._supervisor.aclose()
        self._log.close()

    def collection(self, gr: str) -> Collection:
        """The objects of a storage resource."""
        return self.cache.collection(gr)

    def get(self, key: Key) -> Entry | None:
        """The newest state of one object."""
        return self.cache.collection(key.gr).get(key.ns, key.name)

    async def create(self, key: Key, content: Object) -> Entry:
        """Store a new object; its uid is in the content.

        Raises:
            Exists: the key is taken.
        """
        body = encode(content)
        uid = str(content["metadata"]["uid"])
        ts = self._clock.now_s()
        return await self._write("ADDED", key, lambda c: self._log.put_new(c, key, uid, body, ts), ts)

    async def update(self, key: Key, content: Object, *, expect_rv: int) -> Entry:
        """Replace the state at ``expect_rv``.

        Raises:
            Missing: it is gone.
            Stale: it changed meanwhile.
        """
        body = encode(content)
        current = self.get(key)
        if current is not None and current.rv == expect_rv and current.body == body:
            return current
        ts = self._clock.now_s()
        return await self._write(
            "MODIFIED", key, lambda c: self._log.put_next(c, key, body, ts, expect_rv=expect_rv), ts
        )

    async def delete(self, key: Key, content: Object, *, expect_rv: int) -> Entry:
        """Remove the state at ``expect_rv``; watchers see ``content`` as its last state.

        Raises:
            Missing: it is gone already.
            Stale: it changed meanwhile.
        """
        body = encode(content)
        ts = self._clock.now_s()
        return await self._write(
            "DELETED", key, lambda c: self._log.put_gone(c, key, body, ts, expect_rv=expect_rv), ts
        )

    async def compact(self, *, older_than_s: float = COMPACT_EVERY_S, keep: int = KEEP_LOG_ROWS) -> int:
        """Forget old log rows; watches that run are not touched."""
        return await self._log.compact(before_ts=self._clock.now_s() - older_than_s, keep=keep)

    async def _write(self, op: Op, key: Key, put: Callable[[sqlite3.Connection], Row], ts: float) -> Entry:
        written: list[Entry] = []

        async def run() -> None:
            row = await self._log.database.write(put, late=is_late(key))
            written.append(self.cache.apply(op, row, ts))

        # Writes resolve in the order of their revisions, and so do these tasks. A caller that is cancelled must not
        # take the publication with it, for the commit happens anyway.
        await shielded(run())
        return written[0]

    async def _compact_loop(self) -> None:
        last_rv = self.rv
        while True:
            await self._clock.sleep(COMPACT_EVERY_S)
            self.oldest_page_rv, last_rv = last_rv, self.rv
            count = await self.compact()
            if log.is_debug:
                log.debug("store.compacted", rows=count)
