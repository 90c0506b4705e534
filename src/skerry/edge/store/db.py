"""The agent's database: its tables, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from skerry.base.sqlite import Database
from skerry.edge.store import twins

FILE = "edge.db"

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

MIGRATIONS = (_OBJECTS, _OUTBOX, twins.TABLES)
"""Never edit one that shipped: append."""


def open_database(directory: Path) -> Database:
    """The agent's database in ``directory``; made when missing.

    Every commit is on the disk before it is acknowledged (``synchronous=FULL``); commits of a few milliseconds go
    together, which halves the wear of flash storage.

    Raises:
        StoreError: damaged, of a newer format, or the disk refuses.
    """
    return Database(directory / FILE, migrations=MIGRATIONS, synchronous="FULL", cache_kib=1024, gather_s=0.005)
