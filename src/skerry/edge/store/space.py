"""Disk space that is kept for the store: a file that takes room while all is well, and is given up when the disk fills.

What degrades, in this order, as the disk fills:

1. unused images go, and old container logs beyond the budget (``edge.resources``);
2. with less than ``_TIGHT`` reserves left, Events are no longer kept for the cloud; they are counted as dropped;
3. when a commit finds no room, the reserve is given up and the commit is tried again: what the cloud wants, statuses
   and readings go on being stored from it;
4. when that is used up too, new writes fail: deliveries are refused (the cloud sends them again), reports are tried
   again; what was acknowledged stays readable, and pods go on.
"""

from __future__ import annotations

import os
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log

log = get_log(__name__)

FILE = "reserve"
LOOK_S = 5.0
_LEAST, _MOST, _SHARE = 4 << 20, 32 << 20, 100
_TIGHT = 2


class StoreSpace:
    """The reserve of one data directory.

    Args:
        size_bytes: of the reserve; 0 takes a hundredth of the file system, 4 to 32 MiB.
    """

    def __init__(self, directory: Path, *, clock: Clock, size_bytes: int = 0) -> None:
        self._path = directory / FILE
        self._clock = clock
        found = os.statvfs(directory)
        self.size_bytes = size_bytes or max(_LEAST, min(_MOST, found.f_blocks * found.f_frsize // _SHARE))

    @property
    def is_held(self) -> bool:
        """Whether the reserve is there."""
        return self._path.exists()

    def is_tight(self) -> bool:
        """Whether only what matters most is to be written now."""
        return not self.is_held or self._free() < _TIGHT * self.size_bytes

    def hold(self) -> bool:
        """Take the reserve if there is room for it and as much again; whether it is there now."""
        if self.is_held:
            return True
        if self._free() < 2 * self.size_bytes:
            return False
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size_bytes)
            temporary.rename(self._path)
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            log.warning("reserve.not_held", why=str(exc))
            return False
        return True

    def give_up(self) -> bool:
        """Let the store have the reserve; whether there was one. Called from the store's thread."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        log.error("disk.full", hint="free some space: see the node's DiskPressure", reserve_bytes=self.size_bytes)
        return True

    async def run(self) -> None:
        """Take the reserve again when there is room; never ends."""
        while True:
            if not self.is_held and self._free() > 3 * self.size_bytes and self.hold():
                log.info("reserve.held", bytes=self.size_bytes)
            await self._clock.sleep(LOOK_S)

    def _free(self) -> int:
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize
