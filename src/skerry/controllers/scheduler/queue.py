"""Pods that wait for a node: the most important first, and the unschedulable ones aside until something changes. Pure.

Bound: one place per pod. A pod that is put in twice keeps its first place, unless its priority changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from skerry.base.values import Struct, field
from skerry.kube.informer import Key

FIRST_DELAY_S, LAST_DELAY_S = 1.0, 10.0
"""An unschedulable pod is looked at again no earlier than this after the first, and after many attempts."""


class _Parked(Struct):
    attempts: int
    since_s: float


class SchedulingQueue(Struct):
    """Keys of pods."""

    _heap: list[tuple[int, int, Key]] = field(default_factory=list)
    _ready: dict[Key, int] = field(default_factory=dict)
    _parked: dict[Key, _Parked] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return len(self._ready)

    def put(self, key: Key, priority: int) -> None:
        """The pod is to be looked at."""
        if self._ready.get(key) == priority:
            return
        self._count += 1
        self._ready[key] = priority
        heapq.heappush(self._heap, (-priority, self._count, key))

    def pop(self) -> Key | None:
        """The most important pod, of equal ones the one that waits longest; None when none is ready."""
        while self._heap:
            priority, _, key = heapq.heappop(self._heap)
            if self._ready.get(key) == -priority:
                del self._ready[key]
                return key
        return None

    def drop(self, key: Key) -> None:
        """The pod is bound or gone."""
        self._ready.pop(key, None)
        self._parked.pop(key, None)

    def park(self, key: Key, now_s: float) -> None:
        """The pod fits nowhere now."""
        before = self._parked.get(key)
        self._parked[key] = _Parked(before.attempts + 1 if before else 1, now_s)

    def wake(self, now_s: float, *, only: Callable[[Key], bool] = lambda key: True) -> Iterable[tuple[Key, float]]:
        """Something changed: which parked pods to look at, and in how many seconds.

        Args:
            only: which of them the change may help.
        """
        return [(key, self._wait_s(parked, now_s)) for key, parked in self._parked.items() if only(key)]

    @staticmethod
    def _wait_s(parked: _Parked, now_s: float) -> float:
        delay_s = min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(parked.attempts - 1, 8))
        return max(0.0, parked.since_s + delay_s - now_s)
