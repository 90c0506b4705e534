"""Ends containers: preStop hooks, the order of sidecars, the grace, then the kill.

Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go:killContainer (1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.handlers import Aim, HandlerError, Handlers
from skerry.edge.pods.interrupt import Interrupt
from skerry.edge.pods.plan import StopContainer
from skerry.edge.pods.view import PodView
from skerry.runtime.ports import PodRuntime

log = get_log(__name__)

_LEAST_GRACE_S = 2.0
"""Hooks and order may use up the grace; a container has this much in any case."""


class Stopper:
    """Ends containers of one pod; remembers which hooks ran, so that a second try does not run them again."""

    def __init__(
        self, runtime: PodRuntime, *, handlers: Handlers, events: PodEvents, clock: Clock, interrupt: Interrupt
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._events = events
        self._clock = clock
        self._interrupt = interrupt
        self._told: set[str] = set()
        self._hooked: set[str] = set()

    async def stop(self, pod: Object, stops: Sequence[StopContainer], *, ip: str) -> None:
        """End containers side by side, each after those that it waits for.

        Raises:
            EngineError, Interrupted: the first that failed; the others have been tried.
        """
        ended = {stop.name: asyncio.Event() for stop in stops}
        work = (self._one(pod, stop, ended, ip) for stop in stops)
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _one(self, pod: Object, stop: StopContainer, ended: Mapping[str, asyncio.Event], ip: str) -> None:
        if stop.id not in self._told:
            self._told.add(stop.id)
            text = stop.why or f"Stopping container {stop.name}"
            await self._events.tell(pod, "Killing", text, container=stop.name)
        begun_s = self._clock.monotonic_s()
        try:
            await self._interrupt.guard(self._prepare(pod, stop, ended, ip))
            left_s = stop.grace_s - (self._clock.monotonic_s() - begun_s)
            grace_s = max(_LEAST_GRACE_S, left_s)
            await self._interrupt.guard(self._runtime.stop_container(stop.id, grace_s=grace_s))
        finally:
            ended[stop.name].set()

    async def _prepare(self, pod: Object, stop: StopContainer, ended: Mapping[str, asyncio.Event], ip: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stop.grace_s):
                await self._pre_stop(pod, stop, ip)
                for name in stop.after:
                    if name in ended:
                        await ended[name].wait()

    async def _pre_stop(self, pod: Object, stop: StopContainer, ip: str) -> None:
        found = PodView(pod, None).definition(stop.name)
        container: Mapping[str, Any] = found[1] if found else {}
        hook = (container.get("lifecycle") or {}).get("preStop")
        if not hook or stop.grace_s <= 0 or stop.id in self._hooked:
            return
        self._hooked.add(stop.id)
        try:
            await self._handlers.hook(hook, Aim(stop.id, ip, container.get("ports") or ()))
        except HandlerError as exc:
            log.info("hook.failed", hook="preStop", container=stop.name, why=str(exc))
            await self._events.tell(pod, "FailedPreStopHook", "PreStopHook failed", container=stop.name, warning=True)
