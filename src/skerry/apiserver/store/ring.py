"""Recent changes of one resource, kept once for all of its watchers.

A watcher is a place in the ring, not a queue of its own: a thousand watchers that read nothing cost a thousand numbers.
Bounds: the changes of the last ``KEEP_S`` seconds and at least the last ``KEEP_COUNT``, at most ``KEEP_MOST``, and no
more than ``KEEP_BYTES`` of bodies (but always the newest ``KEEP_ANYWAY``). Overflow rule: the oldest change goes, and a
watcher that has not read it is closed with ``SlowReader``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice, takewhile

from skerry.apiserver.store.entry import Event
from skerry.base.aio.fanout import SlowReader

KEEP_S = 75.0
KEEP_COUNT = 1000
KEEP_MOST = 100_000
KEEP_BYTES = 32 * 1024 * 1024
KEEP_ANYWAY = 16
BATCH = 64
RELAYED_A_TURN = 100
"""Watchers that are told of a change before the loop does something else."""

Interest = Callable[[Event], bool]
Sink = Callable[[list[Event]], bool]
"""Takes changes for a watcher that waits, and says whether it did."""


class EventRing:
    """The writer's end.

    Args:
        floor_rv: changes up to this revision are not here.
        keep_bytes: most bytes of bodies.
    """

    def __init__(self, *, floor_rv: int, keep_bytes: int = KEEP_BYTES) -> None:
        self.floor_rv = floor_rv
        self._keep_bytes = keep_bytes
        self._events: deque[Event] = deque()
        self._first = 0
        self._bytes = 0
        self._readers: set[RingReader] = set()
        self._due: dict[RingReader, None] = {}
        self._is_serving = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size_bytes(self) -> int:
        """Bytes of the bodies that are kept here."""
        return self._bytes

    @property
    def reader_count(self) -> int:
        """Watchers now."""
        return len(self._readers)

    @property
    def last(self) -> Event | None:
        """The newest change."""
        return self._events[-1] if self._events else None

    def remember(self, event: Event) -> None:
        """Take a change of an earlier run, of which nobody needs to be told."""
        self._events.append(event)
        self._bytes += len(event.entry.body)
        self._forget(event.ts)

    def push(self, event: Event) -> None:
        """Take a change and wake those whom it concerns."""
        end = self._first + len(self._events)
        self._events.append(event)
        self._bytes += len(event.entry.body)
        self._forget(event.ts)
        for reader in self._readers:
            if reader.at == end and reader.interest is not None and not reader.interest(event):
                reader.at = end + 1
            elif reader.sink is None:
                reader.wake()
            else:
                self._due[reader] = None
        if self._due and not self._is_serving:
            self._is_serving = True
            asyncio.get_running_loop().call_soon(self._serve)

    def since(self, rv: int) -> list[Event]:
        """Changes after ``rv``, which is at least ``floor_rv``."""
        found = list(takewhile(lambda event: event.entry.rv > rv, reversed(self._events)))
        found.reverse()
        return found

    def newest_first(self) -> Iterator[Event]:
        """Changes backwards."""
        return reversed(self._events)

    def reader(self, interest: Interest | None = None) -> RingReader:
        """A watcher of what comes from now on.

        Args:
            interest: changes for which it says no may be passed over; the reader must still look at what it gets.
        """
        reader = RingReader(self, self._first + len(self._events), interest)
        self._readers.add(reader)
        return reader

    def take(self, reader: RingReader, most: int) -> list[Event]:
        """The next changes for a reader.

        Raises:
            SlowReader: some of them are gone.
        """
        at = reader.at - self._first
        if at < 0:
            raise SlowReader(f"{-at} changes were dropped before this watcher read them")
        count = len(self._events)
        if at >= count:
            return []
        if count - at <= most:  # the usual case: from the near end of the deque
            found = [self._events[index] for index in range(at - count, 0)]
        else:
            found = list(islice(self._events, at, at + most))
        reader.at += len(found)
        return found

    def drop(self, reader: RingReader) -> None:
        """A watcher has ended."""
        self._readers.discard(reader)
        self._due.pop(reader, None)

    def _serve(self) -> None:
        """Tell the next watchers. Those of one turn are few, so that a thousand do not hold up everybody else; what
        comes meanwhile goes to the later ones in the same write."""
        for reader in list(islice(self._due, RELAYED_A_TURN)):
            del self._due[reader]
            reader.relay()
        self._is_serving = bool(self._due)
        if self._is_serving:
            asyncio.get_running_loop().call_soon(self._serve)

    def _forget(self, now_ts: float) -> None:
        events = self._events
        while len(events) > KEEP_ANYWAY and (
            self._bytes > self._keep_bytes
            or (len(events) > KEEP_COUNT and (len(events) > KEEP_MOST or events[0].ts < now_ts - KEEP_S))
        ):
            gone = events.popleft().entry
            self._first += 1
            self._bytes -= len(gone.body)
            self.floor_rv = max(self.floor_rv, gone.rv)


class RingReader:
    """One watcher's place. Iterate, or ``get()`` / ``drain()`` / ``batch()``; ``close()`` when done.

    With a ``sink``, changes that come while it waits go there, and its task sleeps on: to wake a task costs as much as
    to send a change. What the sink does not take is for the task, as without one.
    """

    __slots__ = ("_closed", "_ring", "_waiting", "at", "interest", "sink")

    def __init__(self, ring: EventRing, at: int, interest: Interest | None) -> None:
        self._ring = ring
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self.at = at
        self.interest = interest
        self.sink: Sink | None = None

    async def batch(self) -> list[Event]:
        """The next changes, at most ``BATCH``; waits for one.

        Raises:
            SlowReader: this watcher fell behind what the ring keeps.
            StopAsyncIteration: closed.
        """
        while not (found := await self.next_batch()):
            pass
        return found

    async def next_batch(self) -> list[Event]:
        """As ``batch``, but empty when ``wake`` was called before a change came."""
        if self._closed:
            raise StopAsyncIteration
        found = self._ring.take(self, BATCH)
        if found:
            return found
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
        return [] if self._closed else self._ring.take(self, BATCH)

    async def get(self) -> Event:
        """The next change; raises as ``batch``."""
        found = await self.batch()
        self.at -= len(found) - 1
        return found[0]

    def drain(self, most: int = KEEP_MOST) -> list[Event]:
        """Changes that are there, without waiting."""
        return self._ring.take(self, most)

    def close(self) -> None:
        """End this watcher; a waiting ``batch`` ends too."""
        self._closed = True
        self._ring.drop(self)
        self.wake()

    def relay(self) -> None:
        """Give what is there to the sink, if the task waits."""
        if self._waiting is None or self._waiting.done() or self.sink is None:
            self.wake()
            return
        try:
            found = self._ring.take(self, BATCH)
        except SlowReader:
            self.wake()  # the task meets it itself
            return
        if found and not self.sink(found):
            self.at -= len(found)
            self.wake()

    def wake(self) -> None:
        """End the wait: something is there, or it is time for something else."""
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def __aiter__(self) -> RingReader:
        return self

    async def __anext__(self) -> Event:
        return await self.get()
