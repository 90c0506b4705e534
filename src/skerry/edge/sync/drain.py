"""The durable outbox to the cloud: oldest first, several at once, until each entry is confirmed.

Entries of one object go one after the other, in the order in which they were left: a pod's last status before the word
that it has ended. Others do not wait for them. An entry that the cloud refuses for good (the object is gone, the
request is invalid) is dropped and counted; one that fails otherwise waits with back-off. Towards a Go cloud the rate
stays below 30 messages a second, its own edge's limit.
"""

from __future__ import annotations

import asyncio

from skerry.api.status import ApiError, BadRequest, Forbidden, Invalid, NotFound, from_status
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.edge.link.ports import Link, LinkError
from skerry.edge.store.outbox import EdgeOutbox, Entry
from skerry.edge.sync.pace import Pace
from skerry.wire.kubeedge import answer, route
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

WINDOW = 16
GO_PER_S = 30.0
GO_BURST = 60
_UNANSWERED = frozenset({c.TYPE_EVENT})
"""Types that a cloud does not answer: they are confirmed by having been written."""
_PERMANENT = (NotFound, Invalid, BadRequest, Forbidden)
_IDLE_S = 5.0


class Drain:
    """Sends what waits while the link is up.

    Args:
        window: entries under way at once.
        answer_within_s: without an answer for so long, an entry is sent again.
    """

    def __init__(
        self, outbox: EdgeOutbox, link: Link, *, clock: Clock, window: int = WINDOW, answer_within_s: float = 20.0
    ) -> None:
        self._outbox = outbox
        self._link = link
        self._clock = clock
        self._answer_within_s = answer_within_s
        self._room = asyncio.Semaphore(window)
        self._pace = Pace(per_s=GO_PER_S, burst=GO_BURST)
        self._under_way: set[str] = set()
        self._has_skipped = False
        self._backoffs: dict[str, Backoff] = {}
        self._not_before_s: dict[str, float] = {}
        self.refused = 0
        link.on_state(self._on_state)

    async def run(self) -> None:
        """Send, wait for news, send; never ends."""
        async with Supervisor("drain", clock=self._clock) as supervisor:
            while True:
                waits_s = await self._pass(supervisor) if self._link.is_up else _IDLE_S
                await self._news(waits_s)

    async def _pass(self, supervisor: Supervisor) -> float:
        """One walk over the outbox; returns how long to wait before the next, without news."""
        after_seq = 0
        met: set[str] = set()
        held: set[str] = set()
        self._has_skipped = False
        while self._link.is_up and (entries := self._outbox.entries(after_seq=after_seq)):
            for entry in entries:
                after_seq = entry.seq
                met.add(entry.key)
                lane = _lane_of(entry)
                if lane in held or lane in self._under_way or self._is_early(entry):
                    held.add(lane)
                    self._has_skipped = True
                    continue
                await self._brake()
                await self._room.acquire()
                if self._is_down():
                    self._room.release()
                    return _IDLE_S
                self._under_way.add(lane)
                supervisor.detach("entry", self._try(entry, lane))
        self._forget_all_but(met)
        now_s = self._clock.monotonic_s()
        return min([_IDLE_S, *(max(0.05, at_s - now_s) for at_s in self._not_before_s.values())])

    def _is_down(self) -> bool:
        return not self._link.is_up

    def _is_early(self, entry: Entry) -> bool:
        return self._clock.monotonic_s() < self._not_before_s.get(entry.key, 0.0)

    async def _brake(self) -> None:
        if self._link.is_to_skerry:
            return
        wait_s = self._pace.take(self._clock.monotonic_s())
        if wait_s:
            await self._clock.sleep(wait_s)

    async def _try(self, entry: Entry, lane: str) -> None:
        """Send one entry; a failed one is sent again later."""
        try:
            await self._one(entry)
        except (LinkError, TimeoutError) as exc:
            self._later(entry, str(exc) or "no answer in time")
        finally:
            self._under_way.discard(lane)
            self._room.release()
            if self._has_skipped:
                self._outbox.wake()

    async def _one(self, entry: Entry) -> None:
        if route.resource_type(entry.envelope.resource) in _UNANSWERED:
            await self._link.send(entry.envelope)
            await self._settle(entry)
            return
        outcome = answer.read(await self._link.request(entry.envelope, timeout_s=self._answer_within_s))
        if outcome.is_ok:
            await self._settle(entry)
            return
        error = from_status(outcome.status or {})
        if isinstance(error, _PERMANENT):
            self._refused(entry, error)
            await self._settle(entry)
        else:
            self._later(entry, error.message)

    def _refused(self, entry: Entry, error: ApiError) -> None:
        self.refused += 1
        if isinstance(error, NotFound):
            log.info("outbox.object_gone", key=entry.key)
        else:
            log.warning("outbox.refused", key=entry.key, code=error.code, why=error.message)

    def _later(self, entry: Entry, why: str) -> None:
        backoff = self._backoffs.setdefault(entry.key, Backoff(first_s=0.5, cap_s=30.0))
        self._not_before_s[entry.key] = self._clock.monotonic_s() + backoff.next_s()
        if backoff.failures in (1, 5, 20):
            log.warning("outbox.retry", key=entry.key, why=why, failures=backoff.failures)

    async def _settle(self, entry: Entry) -> None:
        self._backoffs.pop(entry.key, None)
        self._not_before_s.pop(entry.key, None)
        if entry.is_sequence or _lane_of(entry) != entry.key:
            await self._outbox.settle(entry)
        else:
            self._outbox.confirm(entry)

    def _forget_all_but(self, keys: set[str]) -> None:
        """Entries may leave the outbox without us: trimmed, or dropped by their owner."""
        for key in self._not_before_s.keys() - keys:
            del self._not_before_s[key]
            self._backoffs.pop(key, None)

    async def _news(self, timeout_s: float) -> None:
        await self._outbox.changed_within(timeout_s)

    def _on_state(self, is_up: bool) -> None:
        if is_up:
            self._not_before_s.clear()
            self._backoffs.clear()
            self._outbox.wake()


def _lane_of(entry: Entry) -> str:
    """What goes one after the other: everything about one pod, else the key itself."""
    namespace, _, rest = entry.key.partition("/")
    kind, _, name = rest.partition("/")
    return (
        f"{namespace}/{c.TYPE_POD}/{name}" if kind in (c.TYPE_POD, c.TYPE_POD_PATCH, c.TYPE_POD_STATUS) else entry.key
    )
