"""Removes cgroups that a killed engine left behind: without them a node that loses its engine often runs out of them.

An engine that is killed while it makes or ends a container forgets that container's cgroup. Only empty ones go, without
a process and without a child, that were empty at the look before as well; the kernel itself refuses to remove others.
"""

from __future__ import annotations

from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log

log = get_log(__name__)

LOOK_S = 60.0
_ROOT = Path("/sys/fs/cgroup")
_PLACES = ("k8s.io/*", "*/k8s.io/*")
"""Where containerd and CRI-O put containers by default, in a unified tree and in one tree for each controller."""
_ID_LENGTH = 64


class CgroupSweep:
    """Looks every ``LOOK_S``.

    Args:
        root: where cgroups are mounted.
    """

    def __init__(self, *, clock: Clock, root: Path = _ROOT) -> None:
        self._clock = clock
        self._root = root
        self._empty: set[Path] = set()

    async def run(self) -> None:
        """Never ends."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_S)

    def look(self) -> int:
        """Remove what was empty before and still is; how many."""
        found = {path for place in _PLACES for path in self._root.glob(place) if _is_empty(path)}
        gone = {path for path in found & self._empty if _is_removed(path)}
        self._empty = found - gone
        if gone:
            log.info("cgroups.orphans_removed", count=len(gone))
        return len(gone)


def _is_empty(path: Path) -> bool:
    if len(path.name) != _ID_LENGTH or not path.name.isalnum():
        return False
    try:
        return not (path / "cgroup.procs").read_text() and not any(each.is_dir() for each in path.iterdir())
    except OSError:
        return False


def _is_removed(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
