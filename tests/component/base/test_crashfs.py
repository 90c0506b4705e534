"""The power-cut tool finds programs that do not sync, and passes those that do."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from tests.crashfs import Recording, record

_COUNTER = """
import os, sys
for number in range(20):
    fd = os.open("counter.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, b"%06d" % number * 200)
    if "file" in sys.argv:
        os.fsync(fd)
    os.close(fd)
    os.rename("counter.tmp", "counter")
    if "directory" in sys.argv:
        directory = os.open(".", os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    os.write(1, b"%d\\n" % number)
"""


def _recorded(directory: Path, *syncs: str) -> Recording:
    program = f"import os; os.chdir({str(directory)!r})\n{_COUNTER}"
    return record([sys.executable, "-c", program, *syncs], directory)


def _lost(recording: Recording, directory: Path) -> list[str]:
    """What is wrong after a cut at each place."""
    found = []
    for cut in range(len(recording) + 1):
        place = directory / f"cut-{cut}"
        recording.rebuild(cut, place, seed=cut)
        told = recording.told(cut)
        counter = place / "counter"
        text = counter.read_text() if counter.exists() else ""
        least = int(told[-1]) if told else -1
        if text not in [f"{number:06d}" * 200 for number in (least, least + 1) if number >= 0] and (text or told):
            found.append(f"cut {cut}: told {least}, found {text[:12]!r} of {len(text)}")
    return found


def test_a_program_that_syncs_file_and_directory_loses_nothing(tmp_path: Path) -> None:
    assert _lost(_recorded(tmp_path / "root", "file", "directory"), tmp_path) == []


def test_a_missing_sync_is_found(tmp_path: Path) -> None:
    for name, syncs in (("no-file", ["directory"]), ("no-directory", ["file"]), ("none", [])):
        directory = tmp_path / name
        directory.mkdir()
        assert _lost(_recorded(directory / "root", *syncs), directory), f"{name}: nothing was found"


def test_a_cut_keeps_what_was_there_before(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep/old").write_bytes(b"kept")
    recording = _recorded(root)
    recording.rebuild(0, tmp_path / "cut", seed=1)
    assert (tmp_path / "cut/deep/old").read_bytes() == b"kept" and not (tmp_path / "cut/counter").exists()
    assert recording.told(len(recording)) == [str(number) for number in range(20)]


def test_a_database_that_does_not_sync_is_found(tmp_path: Path) -> None:
    program = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1] + "/t.db", isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=" + sys.argv[2])
connection.execute("CREATE TABLE t (n INTEGER)")
for number in range(30):
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    os.write(1, b"%d\\n" % number)
"""
    assert _rows_lost(tmp_path / "full", program, "FULL") == 0
    assert _rows_lost(tmp_path / "off", program, "OFF") > 0


def _rows_lost(directory: Path, program: str, synchronous: str) -> int:

    directory.mkdir()
    root = directory / "root"
    recording = record([sys.executable, "-c", program, str(root), synchronous], root)
    lost = 0
    for cut in range(0, len(recording) + 1, 5):
        place = directory / f"cut-{cut}"
        recording.rebuild(cut, place, seed=cut)
        told = recording.told(cut)
        if not told:
            continue
        connection = sqlite3.connect(place / "t.db")
        try:
            rows = {row[0] for row in connection.execute("SELECT n FROM t")}
        except sqlite3.DatabaseError:
            rows = set()
        connection.close()
        lost += not {int(number) for number in told} <= rows
    return lost
