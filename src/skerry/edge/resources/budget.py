"""One budget for what the agent itself keeps on the disk: the store, and the logs of containers.

Over it, log files that nobody writes any more go, oldest first: rotated ones, and those of attempts before the newest.
The newest file of a container never goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)

LOOK_S = 60.0


class LogFile(Struct, frozen=True):
    """One file below ``pod-logs``. ``is_old``: nobody writes it any more."""

    path: Path
    size_bytes: int
    changed_s: float
    is_old: bool


def superfluous(files: Sequence[LogFile], *, over_bytes: int) -> list[LogFile]:
    """Files to remove so that ``over_bytes`` go, or as many as may."""
    chosen: list[LogFile] = []
    for file in sorted((file for file in files if file.is_old), key=lambda file: file.changed_s):
        if over_bytes <= 0:
            break
        chosen.append(file)
        over_bytes -= file.size_bytes
    return chosen


def log_files(directory: Path) -> Iterator[LogFile]:
    """Every log file: ``<pod>/<container>/<attempt>.log`` and ``….log.<number>``."""
    for place in directory.glob("*/*"):
        attempts = [int(path.name.partition(".")[0]) for path in place.glob("*.log*") if path.name[0].isdecimal()]
        newest = f"{max(attempts, default=0)}.log"
        for path in place.glob("*.log*"):
            try:
                found = path.stat()
            except OSError:
                continue
            yield LogFile(path, found.st_size, found.st_mtime, path.name != newest)


def remove_old_logs(data: Path, *, of_bytes: int) -> int:
    """Make room on a full disk: log files that nobody writes any more, oldest first; how many bytes went."""
    gone = superfluous(list(log_files(data / "pod-logs")), over_bytes=of_bytes)
    for file in gone:
        file.path.unlink(missing_ok=True)
    freed = sum(file.size_bytes for file in gone)
    if gone:
        log.error("disk.full", hint="free some space: see the node's DiskPressure", removed=len(gone), bytes=freed)
    return freed


class DiskBudget:
    """Keeps store and logs together below ``limit_bytes``."""

    def __init__(self, data: Path, *, limit_bytes: int, clock: Clock) -> None:
        self._data = data
        self._limit_bytes = limit_bytes
        self._clock = clock

    async def run(self) -> None:
        """Look every ``LOOK_S``; never ends."""
        while True:
            await self._clock.sleep(LOOK_S)
            await asyncio.to_thread(self.keep)

    def keep(self) -> int:
        """Remove what is too much; how many files went."""
        files = list(log_files(self._data / "pod-logs"))
        used = sum(file.size_bytes for file in files) + sum(path.stat().st_size for path in self._data.glob("edge.db*"))
        gone = superfluous(files, over_bytes=used - self._limit_bytes)
        for file in gone:
            file.path.unlink(missing_ok=True)
        if gone:
            log.warning("logs.over_budget", used_bytes=used, limit_bytes=self._limit_bytes, removed=len(gone))
        return len(gone)
