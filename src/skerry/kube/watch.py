"""The reflector: list, then watch from there, for ever. Here: paging, resume, bookmarks, 410, delays between tries.

Not here: what is done with the objects (``informer.py``).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from skerry.api.gvk import Object, Resource
from skerry.api.status import ApiError, Gone
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.kube.ports import KubeApi, WatchEvent

log = get_log(__name__)

PAGE_COUNT = 500
WATCH_FIRST_S, WATCH_LAST_S = 300.0, 600.0
"""A watch is renewed after a random time between these, so that a dead connection is noticed."""
QUICK_END_S = 1.0
"""A watch that ends sooner than this counts as a failed try."""


class Scope(Struct, frozen=True):
    """What is listed and watched."""

    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""

    def __str__(self) -> str:
        parts = (self.resource.group_resource, self.namespace, self.label_selector, self.field_selector)
        return ",".join(part for part in parts if part)


class Reflector:
    """Keeps a consumer in step with one collection.

    Args:
        api: the cluster.
        scope: what to list and watch.
        on_list: gets the complete collection after each list; it must find out by itself what vanished.
        on_change: gets each change after that list, in order. BOOKMARKs are not passed on.
        clock: for delays and ages.
        backoff: delays after failures; jittered, 0.2 s to 30 s by default.
        rng: for the length of watches.
    """

    def __init__(
        self,
        api: KubeApi,
        scope: Scope,
        *,
        on_list: Callable[[list[Object]], None],
        on_change: Callable[[WatchEvent], None],
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._api = api
        self._scope = scope
        self._on_list = on_list
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(first_s=0.2, cap_s=30.0)
        self._draw = rng.uniform if rng else random.uniform
        self._broken_since_s: float | None = self._clock.monotonic_s()
        self._last_error = ""
        self.resource_version = ""

    def stale_s(self) -> float:
        """Seconds since the connection to the collection broke; 0 while it stands."""
        return 0.0 if self._broken_since_s is None else self._clock.monotonic_s() - self._broken_since_s

    async def run(self) -> None:
        """List and watch; never ends. Every ``ApiError`` is answered with another try."""
        self.resource_version = ""
        while True:
            try:
                await self._list_if_needed()
                started_s = self._clock.monotonic_s()
                await self._watch()
                if self._clock.monotonic_s() - started_s < QUICK_END_S:
                    await self._clock.sleep(self._backoff.next_s())
                else:
                    self._is_well()
            except Gone as exc:
                self.resource_version = ""
                await self._pause(exc)
            except ApiError as exc:
                await self._pause(exc)

    async def _list_if_needed(self) -> None:
        if self.resource_version:
            return
        items, version = await self._list()
        self._on_list(items)
        self.resource_version = version
        self._broken_since_s = None

    async def _list(self) -> tuple[list[Object], str]:
        try:
            return await self._list_pages(PAGE_COUNT)
        except Gone:  # the continue token grew too old on a long list: take it in one piece
            return await self._list_pages(0)

    async def _list_pages(self, limit: int) -> tuple[list[Object], str]:
        scope, items, token = self._scope, list[Object](), ""
        while True:
            page = await self._api.list(
                scope.resource,
                namespace=scope.namespace,
                label_selector=scope.label_selector,
                field_selector=scope.field_selector,
                limit=limit,
                continue_token=token,
            )
            items += page.items
            token = page.continue_token
            if not token:
                return items, page.resource_version

    async def _watch(self) -> None:
        scope = self._scope
        events = self._api.watch(
            scope.resource,
            resource_version=self.resource_version,
            namespace=scope.namespace,
            label_selector=scope.label_selector,
            field_selector=scope.field_selector,
            timeout_s=self._draw(WATCH_FIRST_S, WATCH_LAST_S),
        )
        async for event in events:
            if event.type != "BOOKMARK":
                self._on_change(event)
            self.resource_version = event.object["metadata"]["resourceVersion"]
            self._is_well()

    def _is_well(self) -> None:
        self._backoff.reset()
        self._broken_since_s = None
        self._last_error = ""

    async def _pause(self, exc: ApiError) -> None:
        if self._broken_since_s is None:
            self._broken_since_s = self._clock.monotonic_s()
        delay_s = self._backoff.next_s()
        if str(exc) != self._last_error:  # once per cause, not once per try
            self._last_error = str(exc)
            log.warning("watch.broken", scope=str(self._scope), error=str(exc), retry_s=delay_s)
        await self._clock.sleep(delay_s)
