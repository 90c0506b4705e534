"""Graceful shutdown of the node: the machine waits while pods end, ordinary ones first, critical ones last.

A pod that somebody replaces fails with the kubelet's reason and words. Static pods, and every pod while the cloud
cannot be reached, are only ended: they start again with the machine, because nobody else would bring them back.
Source: kubernetes pkg/kubelet/nodeshutdown/nodeshutdown_manager_linux.go (v1.36).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.base.errors import SkerryError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.edge.sync.events import Tell

log = get_log(__name__)

SYSTEM_PRIORITY = 2_000_000_000
REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."
_EVENT = "Shutdown"
_AGAIN_S = 30.0


class Inhibitor(Protocol):
    """Who can hold a shutdown up: ``edge.node.logind.Logind``."""

    async def hold(self) -> float:
        """Delay every shutdown from now on; for how many seconds at most. Raises ``SkerryError``."""

    def release(self) -> None:
        """Let a shutdown go on."""

    def announcements(self) -> AsyncIterator[bool]:
        """True when a shutdown begins, False when it was called off; ends when nothing can be heard any more."""

    async def aclose(self) -> None:
        """Let go."""


class Pods(Protocol):
    """The pods of this node: ``edge.pods.roster.Roster``."""

    def pods(self) -> Sequence[Object]:
        """Every pod with its newest status."""

    async def end(self, uids: Sequence[str], *, within_s: float) -> None:
        """End the containers of pods, with hooks and order, and start none until ``go_on``; returns when all ended."""

    def fail_ended(self, uid: str, reason: str, message: str) -> None:
        """The pod has failed for good."""

    def go_on(self) -> None:
        """Run again what was ended and has not failed."""


class Turn(Struct, frozen=True):
    """Pods that end together, and the seconds that they have."""

    pods: tuple[Object, ...]
    within_s: float


def turns(pods: Sequence[Object], *, grace_s: float, critical_s: float) -> list[Turn]:
    """Which pods end when: those of system priority have the last ``critical_s`` of ``grace_s``."""
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    critical = tuple(pod for pod in running if _is_critical(pod))
    ordinary = tuple(pod for pod in running if not _is_critical(pod))
    found = (Turn(ordinary, max(0.0, grace_s - critical_s)), Turn(critical, min(critical_s, grace_s)))
    return [turn for turn in found if turn.pods]


def _is_critical(pod: Object) -> bool:
    return int((pod.get("spec") or {}).get("priority") or 0) >= SYSTEM_PRIORITY


class NodeShutdown:
    """Holds shutdowns up, and ends the pods when one begins.

    Args:
        returns: whether a pod is to start again with the machine, rather than to fail.
        changed: called when a shutdown begins or is called off.
        tell: makes an Event about the node.
    """

    def __init__(
        self,
        inhibitor: Inhibitor,
        pods: Pods,
        *,
        grace_s: float,
        critical_s: float,
        returns: Callable[[Object], bool],
        changed: Callable[[], None],
        tell: Tell,
        clock: Clock,
    ) -> None:
        self._inhibitor = inhibitor
        self._pods = pods
        self._grace_s = grace_s
        self._critical_s = critical_s
        self._returns = returns
        self._changed = changed
        self._tell = tell
        self._clock = clock
        self.is_shutting_down = False

    async def run(self) -> None:
        """Never ends."""
        while True:
            try:
                await self._hold()
                async for is_coming in self._inhibitor.announcements():
                    await (self._begin() if is_coming else self._call_off())
                log.warning("shutdown.deaf", hint="systemd-logind or the system bus has gone; it is tried again")
            except SkerryError as exc:
                log.warning("shutdown.not_held", why=exc.explained(), hint="pods end abruptly when the machine does")
            await self._clock.sleep(_AGAIN_S)

    async def _hold(self) -> None:
        delay_s = await self._inhibitor.hold()
        if delay_s < self._grace_s:
            log.error(
                "shutdown.delay_short", delay_s=delay_s, grace_s=self._grace_s,
                hint=f"set InhibitDelayMaxSec={self._grace_s:g} in /etc/systemd/logind.conf",
            )  # fmt: skip

    async def _begin(self) -> None:
        self.is_shutting_down = True
        self._changed()
        await self._tell(_EVENT, "Shutdown manager detected shutdown event")
        for turn in turns(self._pods.pods(), grace_s=self._grace_s, critical_s=self._critical_s):
            uids = [str(pod["metadata"]["uid"]) for pod in turn.pods]
            log.info("shutdown.ending_pods", count=len(uids), within_s=turn.within_s)
            try:
                async with asyncio.timeout(turn.within_s):
                    await self._pods.end(uids, within_s=turn.within_s)
            except TimeoutError:
                log.warning("shutdown.pods_left", within_s=turn.within_s)
            for pod, uid in zip(turn.pods, uids, strict=True):
                if not self._returns(pod):
                    self._pods.fail_ended(uid, REASON, MESSAGE)
        self._inhibitor.release()

    async def _call_off(self) -> None:
        self.is_shutting_down = False
        self._pods.go_on()
        self._changed()
        await self._tell(_EVENT, "Shutdown manager detected shutdown cancellation")
        await self._hold()
