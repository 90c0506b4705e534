"""The agent's database: its tables, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skerry.base.errors import StoreDamaged
from skerry.base.obs.log import get_log
from skerry.base.sqlite import Database
from skerry.edge.store import allotments, twins

log = get_log(__name__)

FILE = "edge.db"
DAMAGED = "edge.db.damaged"

_OBJECTS = """
CREATE TABLE object (
    key TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    uid TEXT NOT NULL,
    rv TEXT NOT NULL,
    body BLOB NOT NULL,
    stored_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX object_type ON object (type);
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_OUTBOX = """
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    is_sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    created_at REAL NOT NULL
);
"""

MIGRATIONS = (_OBJECTS, _OUTBOX, twins.TABLES, allotments.TABLES)
"""Never edit one that shipped: append."""


def open_database(directory: Path, *, relieve: Callable[[], bool] | None = None) -> Database:
    """The agent's database in ``directory``; made when missing.

    A damaged one is moved aside as ``edge.db.damaged`` (the last one is kept) and made anew: all that is in it can be
    had again from the cloud and the container engine, but for reports that waited.

    Every commit is on the disk before it is acknowledged (``synchronous=FULL``); commits of a few milliseconds go
    together, which halves the wear of flash storage.

    Args:
        relieve: makes room when the disk is full; see ``Database``.

    Raises:
        StoreError: of a newer format, or the disk refuses.
    """
    try:
        return _open(directory, relieve)
    except StoreDamaged as exc:
        log.error("store.damaged", hint=f"kept as {directory / DAMAGED}; check the disk", why=str(exc))
    _move_aside(directory)
    return _open(directory, relieve)


def _move_aside(directory: Path) -> None:
    for ending in ("-shm", "-wal", ""):
        (directory / f"{DAMAGED}{ending}").unlink(missing_ok=True)
        path = directory / f"{FILE}{ending}"
        if path.exists():
            path.rename(directory / f"{DAMAGED}{ending}")


def _open(directory: Path, relieve: Callable[[], bool] | None) -> Database:
    return Database(
        directory / FILE, migrations=MIGRATIONS, synchronous="FULL", cache_kib=1024, gather_s=0.005, relieve=relieve
    )
