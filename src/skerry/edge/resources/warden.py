"""Watches what is left of the machine: makes room, and evicts pods one by one when that is not enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.base.errors import SkerryError
from skerry.base.obs.log import get_log
from skerry.edge.resources.admission import has_ended
from skerry.edge.resources.pressure import DISK, SETTLE_S, Amount, Pressures, Shortage, is_near, judge
from skerry.edge.resources.ranking import Usage, message, ranked
from skerry.edge.sync.events import Tell

log = get_log(__name__)

LOOK_S = 10.0
LOOK_SOON_S = 1.0
"""Where memory or process ids are near their thresholds, which a program can use up in less than ``LOOK_S``; and while
an evicted pod ends."""
_CALM_S = 3.0
"""Until the next pod may go: the kernel takes a while to bury a thousand processes and to count what they held."""
_RISING = 10
"""What an evicted pod used still comes back if a shortage would be over in so many looks at this rate."""
_RECLAIM_S = 30.0
"""For how long the next pod waits until what an evicted one used is free. Source: the kubelet's podCleanupTimeout."""
_RECLAIMED = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "imagefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}
"""What a signal is short of, by the kubelet's words."""


class Pods(Protocol):
    """The pods of this node: ``edge.pods.roster.Roster`` behind two functions."""

    def pods(self) -> Sequence[Object]:
        """Every pod with its newest status."""

    def evict(self, uid: str, message: str) -> None:
        """End a pod for good; its reason is ``Evicted``."""

    def is_reclaimed(self, uid: str) -> bool:
        """Whether an ended pod takes neither memory nor disk any more, or is not there."""


class Warden:
    """Looks every ``LOOK_S``, or ``LOOK_SOON_S``.

    Args:
        read: what is left, by signal.
        usage: what the pods use, by uid.
        make_room: frees disk space without ending a pod; bytes that it freed.
        tell: makes an Event about the node.
        thresholds: by signal.
        settle_s: for how long a shortage must be over before its pressure ends.
        changed: told when a pressure begins or ends.
    """

    def __init__(
        self,
        pods: Pods,
        *,
        read: Callable[[], Awaitable[Mapping[str, Amount]]],
        usage: Callable[[], Awaitable[Mapping[str, Usage]]],
        make_room: Callable[[int], Awaitable[int]],
        tell: Tell,
        thresholds: Mapping[str, str],
        clock: Clock,
        settle_s: float = SETTLE_S,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._pods = pods
        self._read = read
        self._usage = usage
        self._make_room = make_room
        self._tell = tell
        self._thresholds = thresholds
        self._clock = clock
        self._settle_s = settle_s
        self._changed = changed
        self._evicting, self._evicted_at_s, self._ended_at_s = "", 0.0, -_RECLAIM_S
        self._amounts: Mapping[str, Amount] = {}
        self._pause_s = LOOK_S
        self.pressures = Pressures()

    async def run(self) -> None:
        """Never ends."""
        while True:
            await self._clock.sleep(self._pause_s)
            try:
                await self.look()
            except (SkerryError, OSError) as exc:
                log.warning("pressure.not_read", why=str(exc))

    async def look(self) -> None:
        """One look: at most one pod is evicted, and none while the one before is still ending or pays back.

        Raises:
            SkerryError, OSError: something could not be read; nothing is evicted then.
        """
        before, amounts, now_s = self.pressures, await self._read(), self._clock.monotonic_s()
        self._pause_s = LOOK_SOON_S if is_near(amounts, self._thresholds) else LOOK_S
        self.pressures = judge(amounts, self._thresholds, before, now_s=now_s, settle_s=self._settle_s)
        for kind in self.pressures.last_s.keys() - before.last_s.keys():
            log.warning("pressure.began", kind=kind, shortages=[s.signal for s in self.pressures.shortages])
        for kind in before.last_s.keys() - self.pressures.last_s.keys():
            log.info("pressure.ended", kind=kind)
        if self.pressures.last_s.keys() != before.last_s.keys():
            self._changed()
        is_ending = self._is_ending()
        is_rising, self._amounts = self._is_rising(amounts), dict(amounts)
        if is_ending or is_rising or self._clock.monotonic_s() - self._ended_at_s < _CALM_S:
            self._pause_s = LOOK_SOON_S
            return
        for shortage in self.pressures.shortages:
            text = f"Attempting to reclaim {_RECLAIMED.get(shortage.signal, shortage.signal)}"
            await self._tell("EvictionThresholdMet", text, warning=True)
            if not await self._relieved(shortage):
                await self._evict(shortage)
                return

    async def _relieved(self, shortage: Shortage) -> bool:
        """Whether room was made without ending a pod."""
        if shortage.kind != DISK or not shortage.signal.endswith(".available"):
            return False
        return await self._make_room(shortage.threshold - shortage.available) >= shortage.threshold - shortage.available

    def _is_rising(self, amounts: Mapping[str, Amount]) -> bool:
        """Whether what the pod that went last used still comes back: the kernel takes seconds for gigabytes."""
        if self._clock.monotonic_s() - self._ended_at_s >= _RECLAIM_S:
            return False
        return any(
            (amounts[s.signal].available - before.available) * _RISING > s.threshold - s.available
            for s in self.pressures.shortages
            if (before := self._amounts.get(s.signal)) is not None
        )

    def _is_ending(self) -> bool:
        """Whether the pod that went last still runs, or what it used is not free yet."""
        if not self._evicting:
            return False
        now_s = self._clock.monotonic_s()
        pod = next((p for p in self._pods.pods() if p["metadata"].get("uid") == self._evicting), None)
        if pod is not None and not has_ended(pod):
            return True
        if not self._pods.is_reclaimed(self._evicting) and now_s - self._evicted_at_s < _RECLAIM_S:
            return True
        self._evicting, self._ended_at_s = "", now_s
        return False

    async def _evict(self, shortage: Shortage) -> None:
        usage = await self._usage()
        candidates = ranked(self._pods.pods(), usage, shortage.kind)
        if not candidates:
            log.error("pressure.nobody_to_evict", hint="free some by hand", signal=shortage.signal)
            return
        pod = candidates[0]
        self._evicting, self._evicted_at_s = str(pod["metadata"]["uid"]), self._clock.monotonic_s()
        text = message(pod, usage.get(self._evicting, Usage()), shortage)
        self._pause_s = LOOK_SOON_S
        log.warning("pod.evicted", ns=pod["metadata"]["namespace"], name=pod["metadata"]["name"], why=text)
        self._pods.evict(self._evicting, text)
