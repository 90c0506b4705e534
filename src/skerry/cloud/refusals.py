"""Log lines about refused strangers: the first of its kind at once, the others counted.

Whoever knocks decides how often we refuse; it must not decide how much we log or remember.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log

log = get_log(__name__)

MAX_KEYS = 1024


class Refusals:
    """One line per (event, address) and period.

    Bound: ``MAX_KEYS`` remembered pairs; the oldest is forgotten first (and may then be logged again).

    Args:
        clock: time source.
        every_s: period in which further refusals of the same kind are only counted.
    """

    def __init__(self, clock: Clock, *, every_s: float = 60.0) -> None:
        self._clock = clock
        self._every_s = every_s
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self.count = 0

    def note(self, event: str, address: str, **fields: Any) -> None:
        """Count a refusal, and log it unless one of this kind from this address was logged lately."""
        self.count += 1
        key = (event, address)
        now_s = self._clock.monotonic_s()
        logged_s, silent = self._seen.pop(key, (float("-inf"), 0))
        if now_s - logged_s < self._every_s:
            self._seen[key] = (logged_s, silent + 1)
            return
        self._seen[key] = (now_s, 0)
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)
        log.warning(event, address=address, not_logged=silent, **fields)


class FailureLimit:
    """How many failures per address are answered before it has to wait.

    Only failures count, so that a site of many nodes behind one address is not slowed down.
    Bound: ``MAX_KEYS`` addresses; the one that failed longest ago is forgotten first.

    Args:
        clock: time source.
        burst: failures that are free.
        refill_s: seconds until one more is free again.
    """

    def __init__(self, clock: Clock, *, burst: int = 10, refill_s: float = 6.0) -> None:
        self._clock = clock
        self._burst = burst
        self._refill_s = refill_s
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until this address is answered again; 0 when it may go on."""
        debt = self._debt(address)
        return max(0.0, (debt - self._burst + 1) * self._refill_s) if debt > self._burst - 1 else 0.0

    def failed(self, address: str) -> None:
        """Remember a failure."""
        debt = self._debt(address)
        self._debts.pop(address, None)
        self._debts[address] = (min(debt + 1, self._burst * 2.0), self._clock.monotonic_s())
        if len(self._debts) > MAX_KEYS:
            self._debts.popitem(last=False)

    def _debt(self, address: str) -> float:
        debt, at_s = self._debts.get(address, (0.0, 0.0))
        return max(0.0, debt - (self._clock.monotonic_s() - at_s) / self._refill_s)
