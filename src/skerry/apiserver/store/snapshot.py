"""Copies of the store's file: taken while a server writes to it, and made ready to serve in the place of a lost one.

A restored store forgets changes that clients have seen. So that nobody takes an old state for a new one, its revisions
go on beyond any that the lost store can have given out, its log is empty (watches begin anew), and its generation is
another one, which hub and agents compare.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from skerry.base.errors import StoreError
from skerry.base.values import Struct

AHEAD_LEAST = 1 << 20
"""Revisions left out by a restore, at least."""

WRITES_PER_S = 10_000
"""More than one server commits; what a store can have given out since the copy was taken."""

_NEWEST = 1 << 52
"""Clients in languages without whole numbers beyond 2^53 read revisions too."""


class StoreFacts(Struct, frozen=True):
    """What a file says of itself."""

    cluster_uid: str
    generation: str
    newest_rv: int
    format: int
    objects: int


def copy(source: Path, target: Path) -> StoreFacts:
    """Copy a store that may be in use: every write that was acknowledged before the call is in it.

    Raises:
        StoreError: the source is missing or damaged, or the target cannot be written.
    """
    if not source.exists():
        raise StoreError(f"there is no database {source}", hint="name the cloud's directory with --data")
    target.touch(mode=0o600)
    try:
        with closing(_open(source, "ro")) as old, closing(_open(target, "rwc")) as new:
            old.backup(new, pages=4096)
            new.execute("PRAGMA journal_mode=DELETE")
            found = new.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise StoreError(f"database {source} is damaged: {found}", hint="restore an earlier backup")
    except sqlite3.Error as exc:
        raise StoreError(f"cannot copy database {source} to {target}: {exc}", hint="check free disk space") from exc
    return facts(target)


def facts(path: Path) -> StoreFacts:
    """What the store in ``path`` holds.

    Raises:
        StoreError: it is no store, or damaged.
    """
    try:
        with closing(_open(path, "ro")) as db:
            meta = dict(db.execute("SELECT k, v FROM meta").fetchall())
            newest = db.execute("SELECT seq FROM sqlite_sequence WHERE name='log'").fetchone()
            count = db.execute("SELECT count(*) FROM cur").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as exc:
        raise StoreError(f"{path} is no store of a cloud, or is damaged: {exc}") from exc
    return StoreFacts(
        meta.get("cluster_uid", ""), meta.get("generation", ""), int(newest[0]) if newest else 1, version, count
    )


def renew(path: Path, *, age_s: float, at_least_rv: int = 0) -> StoreFacts:
    """Make a copy serve in the place of a lost store.

    Args:
        age_s: seconds since the copy was taken.
        at_least_rv: newest revision of the lost store, where it is known.

    Raises:
        StoreError: it cannot be written.
    """
    before = facts(path)
    ahead = max(AHEAD_LEAST, int(age_s * WRITES_PER_S))
    base = min(max(before.newest_rv, at_least_rv) + ahead, _NEWEST)
    base = max(base, before.newest_rv + AHEAD_LEAST, at_least_rv + AHEAD_LEAST)
    try:
        with closing(_open(path, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM log")
            db.execute("DELETE FROM sqlite_sequence WHERE name='log'")
            db.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('log', ?)", (base,))
            for key, value in (("compacted_rv", str(base)), ("generation", str(uuid.uuid4()))):
                db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))
            db.execute("COMMIT")
    except sqlite3.Error as exc:
        raise StoreError(f"cannot write database {path}: {exc}", hint="check free disk space") from exc
    return facts(path)


def _open(path: Path, mode: str) -> sqlite3.Connection:
    uri = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{uri}?mode={mode}", uri=True, isolation_level=None, timeout=30.0)
