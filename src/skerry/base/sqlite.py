"""SQLite from asyncio: one writer thread with group commit, short reads inline, migrations.

``write(fn)`` queues ``fn(connection)`` for the writer thread. The thread takes everything that waits (at most
``batch`` functions, waiting ``gather_s`` for company), runs each inside a savepoint of one transaction, commits
once, and only then resolves the futures: a result that you have seen is on the disk.
A ``late`` write is acknowledged before it is on the disk, if all of its batch are late and ``LateWrites`` allows it; a
power cut may take it back, together with all later late ones and nothing else. The next other commit makes it safe.
Queue: bounded by back-pressure of awaiting callers. Reads run on the loop through a read-only connection; keep each
statement indexed and short.
"""

from __future__ import annotations

import asyncio
import errno
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from skerry.base.errors import StoreDamaged, StoreError

R = TypeVar("R")

Write = Callable[[sqlite3.Connection], R]


class LateWrites(Protocol):
    """Says when a late batch may go without a sync. Called in the writer's thread."""

    def may(self, connection: sqlite3.Connection, count: int) -> bool:
        """Whether ``count`` writes may be lost without harm; asked outside of a transaction."""

    def prepare(self, connection: sqlite3.Connection, count: int) -> None:
        """Make room for later ones, in the transaction of a batch that was refused and is synced."""


class Database:
    """One SQLite file.

    Args:
        path: the file; created with mode 0600.
        migrations: SQL scripts; number i brings ``user_version`` from i to i+1. Never edit one that shipped.
        synchronous: FULL (a commit survives a power cut) or NORMAL (it survives a crash of the process).
        cache_kib: page cache of each connection.
        late: for files with late writes; None syncs every commit.
        relieve: called when the disk is full, by the writer thread or while the file is opened; True when there is room
            now, and the batch, or the opening, is tried once more. The functions of a batch may therefore run twice.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[str],
        synchronous: str = "FULL",
        cache_kib: int = 1024,
        mmap_bytes: int = 0,
        batch: int = 64,
        gather_s: float = 0.0,
        late: LateWrites | None = None,
        relieve: Callable[[], bool] | None = None,
    ) -> None:
        self.path = path
        self._synchronous = synchronous
        self._cache_kib = cache_kib
        self._mmap_bytes = mmap_bytes
        self._batch = batch
        self._gather_s = gather_s
        self._late = late
        self._relieve = relieve
        self._vfs = ""
        self._is_synced = True
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        try:
            self._open_anyhow(migrations)
        except (sqlite3.Error, OSError) as exc:
            if _is_damage(exc):
                raise _damaged(path, str(exc)) from exc
            raise StoreError(
                f"cannot open database {path}: {exc}",
                hint="check that the disk is not full and the file not damaged",
            ) from exc
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sqlite-{path.name}", daemon=True)
        self._thread.start()
        self._closed = False

    def _open_anyhow(self, migrations: Sequence[str]) -> None:
        """Open the file, on a full disk too: after room was made, else to be read."""
        for _ in range(2):
            try:
                self._open(migrations)
            except (sqlite3.Error, OSError) as exc:
                if not _is_full(exc):
                    raise
            else:
                return
            if self._relieve is None or not self._relieve():
                break
        self._vfs = _INDEX_IN_MEMORY
        self._open(migrations)

    def _open(self, migrations: Sequence[str]) -> None:
        self.path.touch(mode=0o600, exist_ok=True)
        writer = self._connect(read_only=False)
        try:
            _check(writer, self.path)
            _migrate(writer, migrations, self.path)
            self._reader = self._connect(read_only=True)
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one short query on the loop; sees every commit whose ``write`` has returned."""
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise StoreError(f"cannot read database {self.path}: {exc}") from exc

    async def write(self, fn: Write[R], *, late: bool = False) -> R:
        """Run ``fn`` in the writer's transaction and return its result after the commit.

        An exception of ``fn`` undoes only what ``fn`` did, and is raised here.

        Raises:
            StoreError: the database refused (disk full, damaged); nothing of this batch was kept.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._put(_Job(fn, loop, future, is_late=late))
        return await asyncio.shield(future)

    def write_blocking(self, fn: Write[R]) -> R:
        """As ``write``, for code that runs before or without an event loop."""
        done = threading.Event()
        job = _Job(fn, None, None, done)
        self._put(job)
        done.wait()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Finish what is queued and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._is_closing.set()
        self._queue.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise StoreError(f"database {self.path} is closed")
        self._queue.put(job)

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{_uri(self.path)}?mode={'ro' if read_only else 'rwc'}{self._vfs}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5.0,
            cached_statements=64,
        )
        try:
            if not read_only:
                if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:  # else it writes anyway
                    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(f"PRAGMA synchronous={self._synchronous}")
                connection.execute("PRAGMA journal_size_limit=4194304")
            connection.execute(f"PRAGMA cache_size=-{self._cache_kib}")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA mmap_size={self._mmap_bytes}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _work(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._take()
            if jobs:
                self._commit(jobs)

    def _take(self) -> tuple[list[_Job], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        jobs = [first]
        if self._gather_s:
            self._is_closing.wait(self._gather_s)  # not get(timeout=…): its time passed unseen, that waits for ever
        while len(jobs) < self._batch:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _commit(self, jobs: list[_Job], *, may_relieve: bool = True) -> None:
        try:
            is_late = self._late is not None and all(job.is_late for job in jobs)
            is_refused = is_late and self._late is not None and not self._late.may(self._writer, len(jobs))
            self._sync(is_wanted=not is_late or is_refused)
            self._writer.execute("BEGIN IMMEDIATE")
            if is_refused and self._late is not None:
                self._late.prepare(self._writer, len(jobs))
            for job in jobs:
                self._run(job)
            self._writer.execute("COMMIT")
        except sqlite3.Error as exc:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if may_relieve and _is_full(exc) and self._relieve is not None and self._relieve():
                self._commit(jobs, may_relieve=False)
                return
            failure = StoreError(
                f"cannot write database {self.path}: {exc}",
                hint="check free disk space and the disk's health",
            )
            failure.__cause__ = exc
            for job in jobs:
                job.error = job.error or failure
        for job in jobs:
            job.settle()

    def _sync(self, *, is_wanted: bool) -> None:
        """Whether the next commits wait for the disk; cannot be changed inside a transaction."""
        if is_wanted is not self._is_synced:
            self._writer.execute(f"PRAGMA synchronous={self._synchronous if is_wanted else 'NORMAL'}")
            self._is_synced = is_wanted

    def _run(self, job: _Job) -> None:
        self._writer.execute("SAVEPOINT job")
        try:
            job.result = job.fn(self._writer)
        except sqlite3.OperationalError:
            raise
        except Exception as exc:  # noqa: BLE001 - handed to the caller of write()
            self._writer.execute("ROLLBACK TO job")
            job.error = exc
        self._writer.execute("RELEASE job")


class _Job:
    __slots__ = ("done", "error", "fn", "future", "is_late", "loop", "result")

    def __init__(
        self,
        fn: Write[Any],
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[Any] | None,
        done: threading.Event | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        self.fn = fn
        self.is_late = is_late
        self.loop = loop
        self.future = future
        self.done = done
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        if self.done is not None:
            self.done.set()
        elif self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _uri(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise _damaged(path, str(found[0]) if found else "no answer")


_INCREMENTAL = 2
_INDEX_IN_MEMORY = "&vfs=unix-excl"
"""The index of the write-ahead log takes no file then, for which a full disk has no room; no other process may read."""


def _is_full(failure: Exception) -> bool:
    """A full disk is told by SQLite's own code, and sometimes as a failed write to its log."""
    if isinstance(failure, OSError):
        return failure.errno == errno.ENOSPC
    code = getattr(failure, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


def _is_damage(failure: Exception) -> bool:
    return getattr(failure, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _damaged(path: Path, why: str) -> StoreDamaged:
    return StoreDamaged(
        f"database {path} is damaged: {why}", hint="restore it from a backup, or move it aside to start anew"
    )


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise StoreError(
            f"database {path} has format {version}, this program knows formats up to {len(migrations)}",
            hint="use the program version that wrote it, or a newer one",
        )
    for number in range(version, len(migrations)):
        connection.executescript(f"BEGIN IMMEDIATE;\n{migrations[number]}\n;PRAGMA user_version={number + 1};COMMIT;")
