"""The driver that every control loop shares: keys from informers, one worker per key, retries with growing delays.

Bound: one waiting entry per key. Overflow rule: a key that waits already is not added again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from skerry.api.gvk import Object
from skerry.api.status import AlreadyExists, ApiError, Conflict, NotFound
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.obs.log import get_log
from skerry.kube.informer import Informer, Key, key_of

log = get_log(__name__)

K = TypeVar("K", bound=Hashable)


class Loop(Generic[K]):
    """Runs ``sync(key)`` for every key handed in, newest state only.

    Args:
        name: for logs and tasks.
        sync: brings one object nearer to what it should be; may return seconds after which to look again. An
            ``ApiError`` is retried with growing delays; any other exception is logged as a bug and retried, too.
        informers: caches that must be filled before the first ``sync``.
        workers: keys worked on at once.
    """

    def __init__(
        self,
        name: str,
        sync: Callable[[K], Awaitable[float | None]],
        *,
        informers: Sequence[Informer],
        workers: int = 4,
    ) -> None:
        self._name = name
        self._sync = sync
        self._informers = informers
        self._workers = workers
        self._early: dict[K, None] = {}
        self._queue: KeyedQueue[K, None] | None = None

    def add(self, key: K) -> None:
        """Look at ``key`` soon."""
        if self._queue is None:
            self._early[key] = None
        else:
            self._queue.put(key, None)

    def add_after(self, key: K, delay_s: float) -> None:
        """Look at ``key`` in a while, unless something makes it look earlier."""
        if self._queue is None:
            self._early[key] = None
        else:
            self._queue.put_after(key, None, delay_s)

    def follow(self: Loop[Key], informer: Informer) -> None:
        """Look at every object of this informer when it changes."""

        def changed(kind: str, old: Object | None, new: Object | None) -> None:
            obj = new or old
            if obj is not None:
                self.add(key_of(obj))

        informer.on_event(changed)

    async def run(self) -> None:
        """Wait for the caches, then work; never ends."""
        for informer in self._informers:
            await informer.wait_synced()
        self._queue = KeyedQueue(
            self._name, self._work, workers=self._workers, on_error=self._failed, retry_first_s=0.01, retry_cap_s=30.0
        )
        early, self._early = self._early, {}
        for key in early:
            self._queue.put(key, None)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            queue, self._queue = self._queue, None
            await queue.aclose()

    async def _work(self, key: K, value: None) -> None:
        again_s = await self._sync(key)
        if again_s is not None:
            self.add_after(key, again_s)

    def _failed(self, key: K, exc: Exception) -> bool:
        what = "/".join(str(part) for part in key if part) if isinstance(key, tuple) else str(key)
        if isinstance(exc, Conflict | NotFound | AlreadyExists):
            log.debug("controller.raced", controller=self._name, key=what, error=str(exc))
        elif isinstance(exc, ApiError):
            log.warning("controller.retries", controller=self._name, key=what, error=str(exc))
        else:
            log.exception("controller.failed", exc, controller=self._name, key=what)
        return True
