"""Reading and following container log files in the CRI format, over rotation by rename.

Rotated files lie beside the newest as ``<name>.<number or time>``. Memory: one block of 64 KiB and one unfinished
entry, whatever the file's size and ``tail_lines``. Not here: who may read, where a container's file is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.values import Struct, field
from skerry.wire.errors import ProtocolError
from skerry.wire.kubelet import crilog

BLOCK_BYTES = 64 * 1024
_FIRST_POLL_S = 0.1
_LAST_POLL_S = 0.25


class LogFiles:
    """Reads log files; an instance is the ``LogReader`` that the kubelet interface asks for.

    Args:
        clock: paces the polls of followers.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def __call__(
        self,
        path: Path,
        *,
        follow: bool,
        is_running: Callable[[], Awaitable[bool]],
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]:
        """Pieces of the log, oldest first, without the CRI prefix.

        Args:
            path: the newest file; may not be there yet.
            follow: go on with what is written later, until ``is_running`` says no and everything is read.
            tail_lines: only the last so many entries of what is there now.
            since_s: only entries of this time (seconds since 1970) or later.
            timestamps: put each line's time before it.
            limit_bytes: end after so many bytes, in the middle of a line if need be.
        """
        shown = _Shown(since_s=since_s, timestamps=timestamps, left_bytes=limit_bytes)
        chain = _Chain(path)
        try:
            chain.open(tail_lines)
            async for block in self._blocks(chain, is_running if follow else None):
                piece = shown.take(block)
                if piece:
                    yield piece
                if shown.left_bytes == 0:
                    return
            if rest := shown.end():
                yield rest
        finally:
            chain.close()

    async def _blocks(self, chain: _Chain, is_running: Callable[[], Awaitable[bool]] | None) -> AsyncIterator[bytes]:
        pause_s = _FIRST_POLL_S
        while True:
            may_grow = is_running is not None and await is_running()
            while block := chain.read():
                yield block
                pause_s = _FIRST_POLL_S
            if not may_grow:
                return
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_POLL_S)


def read_log(
    path: Path,
    *,
    follow: bool,
    is_running: Callable[[], Awaitable[bool]],
    tail_lines: int | None,
    since_s: float | None,
    timestamps: bool,
    limit_bytes: int | None,
) -> AsyncIterator[bytes]:
    """``LogFiles`` with the system's clock."""
    return LogFiles()(
        path,
        follow=follow,
        is_running=is_running,
        tail_lines=tail_lines,
        since_s=since_s,
        timestamps=timestamps,
        limit_bytes=limit_bytes,
    )


class _Chain:
    """The rotated files and the newest one, read as one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._inode = -1

    def open(self, tail_lines: int | None) -> None:
        """Go to the beginning, or to where the last ``tail_lines`` entries begin."""
        files = _files(self._path)
        if tail_lines is None:
            self._enter(files[:1])
            return
        wanted = tail_lines
        for index in range(len(files) - 1, -1, -1):
            self._enter(files[index : index + 1])
            if self._fd < 0:
                continue
            offset, found = _tail_offset(self._fd, wanted)
            os.lseek(self._fd, offset, os.SEEK_SET)
            wanted -= found
            if wanted <= 0:
                return

    def read(self) -> bytes:
        """The next block; empty when everything that is there now was read."""
        while True:
            block = os.read(self._fd, BLOCK_BYTES) if self._fd >= 0 else b""
            if block:
                return block
            following = self._following()
            if not following:
                return b""
            # The writer may have added to this file between our last read and its rename.
            if self._fd >= 0 and (block := os.read(self._fd, BLOCK_BYTES)):
                return block
            if not self._enter(following):
                return b""

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _following(self) -> list[Path]:
        files = _files(self._path)
        inodes = [_inode(file) for file in files]
        at = inodes.index(self._inode) + 1 if self._inode in inodes else 0
        return files[at:]

    def _enter(self, files: list[Path]) -> bool:
        for file in files:
            try:
                fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            self.close()
            self._fd, self._inode = fd, os.fstat(fd).st_ino
            return True
        return False


class _Shown(Struct):
    """Turns blocks of the file into what the reader sees."""

    since_s: float | None
    timestamps: bool
    left_bytes: int | None
    _rest: bytes = b""
    _is_skipping: bool = False
    _unfinished: set[str] = field(default_factory=set)

    def take(self, block: bytes) -> bytes:
        return self._cut(b"".join(self._lines(block)))

    def end(self) -> bytes:
        """What an entry without its line feed still gives."""
        rest, self._rest = self._rest, b""
        return self._cut(self._one(rest)) if rest else b""

    def _lines(self, block: bytes) -> Iterator[bytes]:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > crilog.MAX_READ_BYTES:
            self._rest, self._is_skipping = b"", True
        if self._is_skipping and lines:
            lines.pop(0)
            self._is_skipping = False
        for line in lines:
            yield self._one(line)

    def _one(self, line: bytes) -> bytes:
        try:
            entry = crilog.decode(line)
            if self.since_s is not None and entry.time_s < self.since_s:
                return b""
        except ProtocolError:
            return b""
        is_new_line = entry.stream not in self._unfinished
        (self._unfinished.add if entry.is_partial else self._unfinished.discard)(entry.stream)
        prefix = entry.time + b" " if self.timestamps and is_new_line else b""
        return prefix + entry.content + (b"" if entry.is_partial else b"\n")

    def _cut(self, piece: bytes) -> bytes:
        if self.left_bytes is None:
            return piece
        piece = piece[: self.left_bytes]
        self.left_bytes -= len(piece)
        return piece


def _files(path: Path) -> list[Path]:
    """Oldest first; the newest, unrotated one last even when it is not there yet."""
    rotated = [file for file in path.parent.glob(f"{path.name}.*") if not file.name.endswith((".tmp", ".gz"))]
    return [*sorted(rotated, key=_age_order), path]


def _age_order(file: Path) -> tuple[int, int | str]:
    suffix = file.name.rsplit(".", 1)[1]
    # Our own numbers grow with age; times, as the kubelet writes them, grow with youth.
    return (0, -int(suffix)) if suffix.isdigit() and len(suffix) < 4 else (1, suffix)


def _inode(file: Path) -> int:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return -2


def _tail_offset(fd: int, wanted: int) -> tuple[int, int]:
    """Where the last ``wanted`` lines begin, and how many lines lie after that place."""
    end = position = os.fstat(fd).st_size
    if wanted <= 0:
        return end, 0
    found = 0
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        block = os.pread(fd, position - start, start)
        at = len(block)
        if position == end and block.endswith(b"\n"):
            at -= 1
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == wanted:
                return start + at + 1, found
        position = start
    return 0, found + (1 if end else 0)
