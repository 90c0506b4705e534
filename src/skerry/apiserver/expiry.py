"""Events end by themselves: one that was last seen longer ago than its time to live is removed.

Watchers see the removal as any other. Upstream binds the objects to leases of its store; here a sweep looks at them.
"""

from __future__ import annotations

import asyncio

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Missing, Stale
from skerry.apiserver.store.objects import ObjectStore
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log

log = get_log(__name__)

EVENTS = "events"
SWEEP_EVERY_S = 60.0
_TOGETHER = 200


class EventExpiry:
    """Removes old Events.

    Args:
        store: where they are.
        clock: time source.
        ttl_s: how long an Event is kept after it was last seen; 0 keeps all.
    """

    def __init__(self, store: ObjectStore, *, clock: Clock, ttl_s: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl_s = ttl_s

    async def run(self) -> None:
        """Sweep once a minute; never ends."""
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            count = await self.sweep()
            if count and log.is_debug:
                log.debug("events.expired", count=count)

    async def sweep(self) -> int:
        """Remove what is too old now; returns how many."""
        if self._ttl_s <= 0:
            return 0
        before_s = self._clock.now_s() - self._ttl_s
        old = [entry for entry in self._store.collection(EVENTS).entries() if _seen_s(entry) < before_s]
        removed = 0
        for start in range(0, len(old), _TOGETHER):
            removed += sum(await asyncio.gather(*(self._remove(entry) for entry in old[start : start + _TOGETHER])))
        return removed

    async def _remove(self, entry: Entry) -> bool:
        try:
            await self._store.delete(entry.key, entry.content(), expect_rv=entry.rv)
        except (Missing, Stale):  # gone, or seen again
            return False
        return True


def _seen_s(entry: Entry) -> float:
    return float(entry.field("expiry.seen", _last_seen))


def _last_seen(event: Object) -> str:
    """Seconds since 1970 of the newest time in an Event, as text."""
    times = (
        event.get("lastTimestamp"),
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        event["metadata"].get("creationTimestamp"),
    )
    return str(max((parse_rfc3339(text) or 0.0 for text in times if text), default=0.0))
