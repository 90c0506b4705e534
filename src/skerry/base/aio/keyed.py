"""A keyed queue: the latest value of each key wins, one worker per key at a time.

Bound: one waiting value per key, so the queue never holds more values than there are keys. Overflow rule: an older
waiting value of the same key is replaced by ``merge`` (default: the newer one). Source of the idea: kopf queueing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.supervise import Supervisor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeyedQueue(Generic[K, V]):
    """Runs ``work(key, value)`` for the newest value of each key, keys in parallel up to ``workers``.

    Keys take turns: one that got a new value while it was worked on goes behind those that wait.

    Args:
        name: for task names and logs.
        work: handles one value. An exception it raises is passed to ``on_error``, and the same value is tried
            again after a back-off unless a newer one came meanwhile or ``on_error`` returns False.
        workers: how many keys are worked on at once.
        merge: combines a waiting value with a newer one.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[K, V], Awaitable[None]],
        *,
        workers: int = 4,
        merge: Callable[[V, V], V] | None = None,
        on_error: Callable[[K, Exception], bool] | None = None,
        retry_first_s: float = 0.01,
        retry_cap_s: float = 30.0,
    ) -> None:
        self._work = work
        self._workers = workers
        self._merge = merge or (lambda old, new: new)
        self._on_error = on_error
        self._retry_first_s = retry_first_s
        self._retry_cap_s = retry_cap_s
        self._supervisor = Supervisor(name)
        self._waiting: dict[K, V] = {}
        self._ready: deque[K] = deque()  # the keys that wait and are not worked on, each once
        self._busy: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, key: K, value: V) -> None:
        """Hand over a value; never blocks."""
        if key in self._waiting:
            self._waiting[key] = self._merge(self._waiting[key], value)
        else:
            self._waiting[key] = value
            if key not in self._busy:
                self._ready.append(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._idle.clear()
        self._pump()

    def put_after(self, key: K, value: V, delay_s: float) -> None:
        """Hand over a value later, unless the key gets another one before; of two delays the one that ends first."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._waiting or (timer is not None and timer.when() <= loop.time() + delay_s):
            return
        if timer is not None:
            timer.cancel()
        self._idle.clear()
        self._timers[key] = loop.call_later(delay_s, self._due, key, value)

    async def join(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    async def aclose(self) -> None:
        """Drop what waits, cancel what runs."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._ready.clear()
        await self._supervisor.aclose()

    def __len__(self) -> int:
        return len(self._waiting)

    def _due(self, key: K, value: V) -> None:
        self._timers.pop(key, None)
        if key not in self._waiting:
            self.put(key, value)

    def _pump(self) -> None:
        while self._ready and len(self._busy) < self._workers:
            key = self._ready.popleft()
            self._busy.add(key)
            self._supervisor.detach(f"{key}", self._one(key, self._waiting.pop(key)))

    async def _one(self, key: K, value: V) -> None:
        try:
            await self._work(key, value)
            self._backoffs.pop(key, None)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - on_error decides
            self._again(key, value, exc)
        finally:
            self._busy.discard(key)
            if key in self._waiting:
                self._ready.append(key)
            self._pump_or_idle()

    def _again(self, key: K, value: V, exc: Exception) -> None:
        if self._on_error is not None and not self._on_error(key, exc):
            self._backoffs.pop(key, None)
            return
        if self._on_error is None:
            raise exc
        backoff = self._backoffs.setdefault(
            key, Backoff(first_s=self._retry_first_s, cap_s=self._retry_cap_s, jitter=False)
        )
        if key not in self._waiting:
            self.put_after(key, value, backoff.next_s())

    def _pump_or_idle(self) -> None:
        if self._waiting:
            self._pump()
        if not self._waiting and not self._busy and not self._timers:
            self._idle.set()
