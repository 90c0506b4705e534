"""Removes images when their file system fills: a few at a time, the longest unused first, and says what went."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.images.ledger import ImageLedger
from skerry.edge.images.plan import bytes_to_free, collectable
from skerry.edge.sync.events import Tell
from skerry.runtime.ports import EngineError, ImageStore

log = get_log(__name__)

LOOK_S = 300.0
TELL_S = 3600.0
"""What stays wrong is told once an hour, not at each look: an Event is a write to flash."""
_BROKEN, _FULL = "ImageGCFailed", "FreeDiskSpaceFailed"
_TOO_FULL = (
    "Insufficient free disk space on the node's image filesystem ({used}% used). Failed to free sufficient space by "
    "deleting unused images (freed {freed} bytes). Investigate disk usage: it may be images in use, logs, volumes, or "
    "other data."
)


class ImageCollector:
    """Keeps the images' file system below its threshold.

    Args:
        known: names of the images of this node's pods.
        tell: makes an Event about the node.
        high_percent, low_percent: collect at this use of the file system, down to that.
    """

    def __init__(
        self,
        images: ImageStore,
        *,
        ledger: ImageLedger,
        known: Callable[[], Collection[str]],
        is_offline: Callable[[], bool],
        tell: Tell,
        clock: Clock,
        high_percent: int = 85,
        low_percent: int = 80,
    ) -> None:
        self._images = images
        self._ledger = ledger
        self._known = known
        self._is_offline = is_offline
        self._tell = tell
        self._clock = clock
        self._has_failed = False
        self._told_s: dict[str, float] = {}
        self._high = high_percent
        self._low = low_percent

    async def run(self) -> None:
        """Look every ``LOOK_S``; never ends."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def look(self) -> int:
        """Collect if the file system is over its threshold; bytes that the removed images had.

        A failure is told when it is not the first in a row: an engine may just be starting.
        """
        try:
            freed = await self._look()
        except (EngineError, OSError) as exc:
            log.debug("images.look_failed", why=str(exc))
            if self._has_failed:
                await self._complain(_BROKEN, f"images cannot be collected: {exc}")
            self._has_failed = True
            return 0
        self._has_failed = False
        self._told_s.pop(_BROKEN, None)
        return freed

    async def _look(self) -> int:
        place = await self._images.filesystem()
        if place is None:
            self._told_s.pop(_FULL, None)
            return 0
        found = os.statvfs(place)
        total, available = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        wanted = bytes_to_free(total, available, high_percent=self._high, low_percent=self._low)
        freed = await self.collect(wanted) if wanted else 0
        if freed < wanted:
            used = 100 - 100 * available // total
            await self._complain(_FULL, _TOO_FULL.format(used=used, freed=freed))
        else:
            self._told_s.pop(_FULL, None)
        return freed

    async def _complain(self, reason: str, message: str) -> None:
        """Tell and log it, unless that was done within the hour and it was not well since."""
        now_s = self._clock.now_s()
        if 0 <= now_s - self._told_s.get(reason, -TELL_S) < TELL_S:
            return
        log.warning("images.not_collected", reason=reason, why=message)
        if await self._tell(reason, message, warning=True):
            self._told_s[reason] = now_s

    async def collect(self, wanted_bytes: int) -> int:
        """Remove images until they had ``wanted_bytes`` together; what they had.

        Raises:
            EngineError: the engine does not answer.
        """
        images = await self._images.list()
        for image_id in self._ledger.entries.keys() - {image.id for image in images}:
            await self._ledger.removed(image_id)
        candidates = collectable(
            images, self._ledger.entries, in_use=await self._images.in_use(), known=self._known(),
            loaded=self._ledger.loaded(), is_offline=self._is_offline(), now_s=self._clock.now_s(),
        )  # fmt: skip
        freed = 0
        for image in candidates:
            if freed >= wanted_bytes:
                break
            name = self._ledger.entries[image.id].name
            await self._images.remove(image.id)
            await self._ledger.removed(image.id)
            freed += image.size_bytes
            log.info("image.collected", image=name, bytes=image.size_bytes)
        if freed < wanted_bytes:
            log.debug("images.not_enough", wanted_bytes=wanted_bytes, freed_bytes=freed, left=len(images))
        return freed
