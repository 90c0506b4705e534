"""Virtual time: a ``Clock`` that moves only when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools

START_S = 1_750_000_000.0


class VirtualClock:
    """Time under the control of a test.

    ``advance(s)`` moves it and wakes sleepers in the order of their deadlines; each gets the chance to run and to
    sleep again before time moves on, so that a loop that sleeps five seconds runs twelve times in a minute.

    Args:
        start_s: the wall clock's first reading.
    """

    def __init__(self, start_s: float = START_S) -> None:
        self._start_s = start_s
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = asyncio.Event()

    def now_s(self) -> float:
        return self._start_s + self._elapsed_s

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def set(self, now_s: float) -> None:
        """Set the wall clock; nobody is woken, as when a machine's clock is set."""
        self._start_s = now_s - self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + max(0.0, delay_s), next(self._order), future))
        self._slept.set()
        await future

    async def wait_sleepers(self, count: int) -> None:
        """Wait until ``count`` tasks sleep: whoever was woken has done its work."""
        while self.sleeper_count < count:
            self._slept.clear()
            await self._slept.wait()

    @property
    def sleeper_count(self) -> int:
        """How many tasks sleep now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def advance(self, delay_s: float) -> None:
        """Move time by ``delay_s``, waking whoever is due on the way."""
        end_s = self._elapsed_s + delay_s
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, due_s)
            if not future.done():
                future.set_result(None)
                await _settle()
        self._elapsed_s = end_s
        await _settle()


async def _settle(turns: int = 20) -> None:
    """Let every task that can run do so. Work that waits for threads or sockets is not covered."""
    for _ in range(turns):
        await asyncio.sleep(0)
