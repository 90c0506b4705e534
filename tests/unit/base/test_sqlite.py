import asyncio
import sqlite3
from pathlib import Path

import pytest

from skerry.base.errors import StoreError
from skerry.base.sqlite import Database

TABLE = "CREATE TABLE t(k TEXT PRIMARY KEY, v INT)"


def insert(key: str, value: int):  # type: ignore[no-untyped-def]
    return lambda connection: connection.execute("INSERT INTO t VALUES(?,?)", (key, value)).rowcount


async def test_write_is_visible_to_reads_after_it_returns(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", migrations=[TABLE])
    assert await database.write(insert("a", 1)) == 1
    assert database.read("SELECT v FROM t WHERE k=?", ("a",)) == [(1,)]
    database.close()


async def test_a_failing_write_undoes_only_itself(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", migrations=[TABLE])

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES('half',1)")
        raise ValueError("no")

    results = await asyncio.gather(
        database.write(insert("a", 1)), database.write(half), database.write(insert("b", 2)), return_exceptions=True
    )
    assert isinstance(results[1], ValueError)
    assert database.read("SELECT k FROM t ORDER BY k") == [("a",), ("b",)]
    database.close()


async def test_unique_violation_reaches_the_caller(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", migrations=[TABLE])
    await database.write(insert("a", 1))
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(insert("a", 2))
    database.close()


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path, migrations=[TABLE]).close()
    database = Database(path, migrations=[TABLE, "ALTER TABLE t ADD COLUMN w INT DEFAULT 7"])
    database.write_blocking(lambda connection: connection.execute("INSERT INTO t(k) VALUES('a')"))
    assert database.read("SELECT w FROM t") == [(7,)]
    database.close()


def test_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path, migrations=[TABLE, "CREATE TABLE u(x)"]).close()
    with pytest.raises(StoreError, match="format 2"):
        Database(path, migrations=[TABLE])


def test_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"x\.db"):
        Database(path, migrations=[TABLE])


def test_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path, migrations=[TABLE]).close()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_write_that_waits_for_company_is_not_left_alone(tmp_path: Path) -> None:
    """A timeout that has passed before the wait begins, as on a machine that is busy elsewhere, is no endless one."""
    database = Database(tmp_path / "x.db", migrations=[TABLE], synchronous="OFF", gather_s=1e-6)
    async with asyncio.timeout(15):
        for number in range(200):
            assert await database.write(insert(str(number), number)) == 1
    database.close()
