"""Runs the probes of one pod: a task per container and kind, and what counts now.

Not here: when outcomes count (``probes``), how they are got (``handlers``), what follows (``plan``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.handlers import Aim, Handlers, Outcome
from skerry.edge.pods.probes import ProbeKind, Tally, first, is_over, probe_of, tally, times_of
from skerry.edge.pods.view import PodView
from skerry.runtime.ports import ObservedContainer, ObservedPod

_TRIES = 3

Key = tuple[str, ProbeKind]
Spawn = Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task that its owner ends: ``Supervisor.detach``."""


class Prober:
    """The probes of one pod's containers.

    Args:
        spawn: owner of the tasks; they end with their container, or with the owner.
        changed: called when something else counts than before.
    """

    def __init__(
        self, *, spawn: Spawn, handlers: Handlers, events: PodEvents, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._spawn = spawn
        self._handlers = handlers
        self._events = events
        self._clock = clock
        self._changed = changed
        self._tallies: dict[Key, Tally] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._started: dict[str, asyncio.Event] = {}
        self._pod: Object = {}

    def follow(self, pod: Object, observed: ObservedPod | None, *, ip: str) -> None:
        """Probe exactly the containers that run now.

        Args:
            pod: with the status that was reported last: a container that was ready stays so over a restart of the
                agent until its probe says otherwise.
        """
        self._pod = pod
        view = PodView(pod, observed)
        wanted: dict[Key, tuple[ObservedContainer, Mapping[str, Any]]] = {}
        for running in view.running():
            found = view.definition(running.name)
            if found is None or found[0] == "ephemeralContainers":
                continue
            if found[0] == "initContainers" and not view.is_sidecar(found[1]):
                continue
            for kind in ProbeKind:
                if probe_of(found[1], kind) and (kind is ProbeKind.READINESS or not view.is_deleting):
                    wanted[running.id, kind] = (running, found[1])
        for key in self._tallies.keys() - wanted.keys():
            self._forget(key)
        for key, (running, container) in wanted.items():
            if key not in self._tallies:
                self._begin(key, running, container, ip)

    def close(self) -> None:
        """Stop probing."""
        for key in list(self._tallies):
            self._forget(key)

    def unhealthy(self) -> dict[str, str]:
        """Kind of the probe that asks for a restart, by container id."""
        kinds = (ProbeKind.STARTUP, ProbeKind.LIVENESS)
        return {
            key[0]: str(key[1]) for key, found in self._tallies.items() if key[1] in kinds and found.counts is False
        }

    def unready(self) -> frozenset[str]:
        """Ids of containers whose readiness probe does not count as good."""
        ready = ProbeKind.READINESS
        return frozenset(key[0] for key, found in self._tallies.items() if key[1] is ready and not found.counts)

    def unstarted(self) -> frozenset[str]:
        """Ids of containers whose startup probe has not succeeded."""
        startup = ProbeKind.STARTUP
        return frozenset(key[0] for key, found in self._tallies.items() if key[1] is startup and not found.counts)

    def _begin(self, key: Key, running: ObservedContainer, container: Mapping[str, Any], ip: str) -> None:
        kind = key[1]
        was = _reported(self._pod, running)
        self._tallies[key] = first(kind)
        if (kind is ProbeKind.READINESS and was.get("ready")) or (kind is ProbeKind.STARTUP and was.get("started")):
            self._tallies[key] = Tally(True)
        started = self._started.setdefault(running.id, asyncio.Event())
        startup = self._tallies.get((running.id, ProbeKind.STARTUP))
        if startup is None or startup.counts:
            started.set()
        if not is_over(kind, self._tallies[key]):
            name = f"probe-{running.name}-{kind}"
            self._tasks[key] = self._spawn(name, self._run(key, running, container, ip))

    def _forget(self, key: Key) -> None:
        del self._tallies[key]
        if not any(other[0] == key[0] for other in self._tallies):
            self._started.pop(key[0], None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    async def _run(self, key: Key, running: ObservedContainer, container: Mapping[str, Any], ip: str) -> None:
        kind = key[1]
        probe = probe_of(container, kind) or {}
        times = times_of(probe)
        aim = Aim(running.id, ip, container.get("ports") or ())
        await self._clock.sleep(max(0.0, running.started_at_s + times.initial_delay_s - self._clock.now_s()))
        if kind is not ProbeKind.STARTUP:
            await self._started[running.id].wait()
        while True:
            outcome = await self._outcome(probe, aim, times.timeout_s)
            if key not in self._tallies:
                return
            before, now = self._tallies[key], tally(self._tallies[key], outcome.is_good, times)
            self._tallies[key] = now
            if not outcome.is_good:
                await self._tell(kind, running.name, outcome)
            if kind is ProbeKind.STARTUP and now.counts:
                self._started[running.id].set()
            if now.counts is not before.counts:
                self._changed()
            if is_over(kind, now):
                return
            await self._clock.sleep(times.period_s)

    async def _outcome(self, probe: Mapping[str, Any], aim: Aim, timeout_s: float) -> Outcome:
        """Ask again at once when the question could not be put."""
        for _ in range(_TRIES):
            outcome = await self._handlers.check(probe, aim, timeout_s=timeout_s)
            if outcome.is_good is not None:
                break
        return outcome

    async def _tell(self, kind: ProbeKind, name: str, outcome: Outcome) -> None:
        how = "failed" if outcome.is_good is False else "errored"
        text = f"{kind.capitalize()} probe {how}: {outcome.text}"
        await self._events.tell(self._pod, "Unhealthy", text, container=name, warning=True)


def _reported(pod: Object, running: ObservedContainer) -> Mapping[str, Any]:
    """What the last status told of exactly this container."""
    status = pod.get("status") or {}
    for told in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        if str(told.get("containerID") or "").rpartition("//")[2] == running.id:
            found: Mapping[str, Any] = told
            return found
    return {}
