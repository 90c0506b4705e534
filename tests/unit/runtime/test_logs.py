"""Reading log files: tails, times, limits, rotation. Follow is in the component tests."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from skerry.runtime.logs import LogFiles
from skerry.testing.clock import VirtualClock
from skerry.wire.kubelet import crilog


def write(path: Path, *texts: str, start: int = 0, stream: str = "stdout") -> None:
    with path.open("ab") as file:
        for number, text in enumerate(texts):
            file.write(crilog.encode((1_000 + start + number) * 10**9, stream, text.encode()))


async def read(path: Path, **options: Any) -> bytes:
    async def never() -> bool:
        return False

    defaults: dict[str, Any] = {
        "follow": False,
        "is_running": never,
        "tail_lines": None,
        "since_s": None,
        "timestamps": False,
        "limit_bytes": None,
    }
    return b"".join([piece async for piece in LogFiles()(path, **(defaults | options))])


async def test_whole_log_over_rotated_files(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for suffix, text in ((".2", "a"), (".1", "b"), ("", "c")):
        write(tmp_path / f"0.log{suffix}", text)
    assert await read(path) == b"a\nb\nc\n"


@pytest.mark.parametrize(("count", "expected"), [(0, b""), (1, b"c\n"), (2, b"b\nc\n"), (9, b"a\nb\nc\n")])
async def test_tail_reaches_back_into_rotated_files(tmp_path: Path, count: int, expected: bytes) -> None:
    write(tmp_path / "0.log.1", "a")
    write(tmp_path / "0.log", "b", "c")
    assert await read(tmp_path / "0.log", tail_lines=count) == expected


async def test_tail_over_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, *(f"{n:05} " + "x" * 100 for n in range(3000)))
    lines = (await read(path, tail_lines=1500)).splitlines()
    assert len(lines) == 1500
    assert lines[0].startswith(b"01500") and lines[-1].startswith(b"02999")


async def test_since_and_timestamps_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, "a", "b", "c")
    assert await read(path, since_s=1001) == b"b\nc\n"
    assert await read(path, since_s=1002, timestamps=True) == b"1970-01-01T00:16:42.000000000Z c\n"
    assert await read(path, limit_bytes=3) == b"a\nb"


async def test_partial_entries_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(
        crilog.encode(10**12, "stdout", b"one ", is_partial=True)
        + crilog.encode(10**12, "stdout", b"line")
        + b"rubbish\n"
    )
    assert await read(path, timestamps=True) == b"1970-01-01T00:16:40.000000000Z one line\n"


async def test_missing_file_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "0.log") == b""
    assert await read(tmp_path / "0.log", tail_lines=5) == b""


async def test_follow_survives_two_rotations_between_polls(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    clock = VirtualClock()
    running = True
    got: list[bytes] = []

    async def is_running() -> bool:
        return running

    async def follow() -> None:
        reader = LogFiles(clock=clock)
        async for piece in reader(
            path,
            follow=True,
            is_running=is_running,
            tail_lines=1,
            since_s=None,
            timestamps=False,
            limit_bytes=None,
        ):
            got.append(piece)

    write(path, "a", "b")
    task = asyncio.ensure_future(follow())
    await clock.advance(0.3)
    assert b"".join(got) == b"b\n"
    for text in ("c", "d"):
        write(path, text)
        if (tmp_path / "0.log.1").exists():
            (tmp_path / "0.log.1").rename(tmp_path / "0.log.2")
        path.rename(tmp_path / "0.log.1")
    write(path, "e")
    await clock.advance(0.3)
    assert b"".join(got) == b"b\nc\nd\ne\n"
    write(path, "last")
    running = False
    await clock.advance(0.3)
    await asyncio.wait_for(task, 1)
    assert b"".join(got) == b"b\nc\nd\ne\nlast\n"
