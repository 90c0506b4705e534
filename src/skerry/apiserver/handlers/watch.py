"""The watch verb: from remembered and new changes to steps, the same for HTTP and for callers inside the process.

A watcher that is too slow ends with ``Gone``; the client lists again. A user may have ``MOST_PER_USER`` watches; one
more is answered with 429. Selectors translate: an object that stops matching is DELETED (with its earlier state), one
that starts matching is ADDED.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from weakref import WeakValueDictionary

from skerry.api.status import Gone, ServerTimeout, TooManyRequests
from skerry.apiserver.calls import Call
from skerry.apiserver.handlers.crud import Objects
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.registry import Kind
from skerry.apiserver.store.entry import Entry, Event
from skerry.apiserver.store.ring import RingReader
from skerry.apiserver.store.watch import TooOld
from skerry.base.aio.fanout import SlowReader
from skerry.base.values import Struct, replace
from skerry.kube.ports import EventType

BOOKMARK_EVERY_S = 60.0
BOOKMARK_BEFORE_END_S = 2.0
SHORTEST_S = 1800.0
LONGEST_S = 3600.0
FIRST_BATCH = 50
MOST_PER_USER = 5_000

Matches = Callable[[Entry], bool]
OnStop = Callable[[Callable[[], None]], None]


class Step(Struct, frozen=True):
    """One thing to tell a watcher. A BOOKMARK has no entry; ``rv`` is always the revision to go on from.

    ``event`` is what it comes of, where a selector is still to be asked.
    """

    type: EventType
    rv: int
    entry: Entry | None = None
    is_initial_end: bool = False
    event: Event | None = None


Show = Callable[[list[Step]], Awaitable[list[Step]]]
Pass = Callable[[list[Step]], bool]


class Watches:
    """Begins watches over the store's memory."""

    def __init__(self, objects: Objects, *, rng: random.Random | None = None) -> None:
        self._objects = objects
        self._rng = rng or random.Random()
        self._by_user: Counter[str] = Counter()
        self._sights: WeakValueDictionary[tuple[str, ...], Sight] = WeakValueDictionary()

    def run(self, call: Call, options: ListOptions, *, on_stop: OnStop | None = None) -> Watch:
        """Begin a watch. What is wrong with the request is raised here, not at the first step.

        Args:
            on_stop: is given a function that ends the watch from outside (client gone, server closing).

        Raises:
            Gone: the revision is too old.
            BadRequest: a selector cannot be read.
            TooManyRequests: the user has too many watches.
        """
        sees = self._sight(call, options)
        first = self._first(call, options, sees)
        user = call.user.name
        if self._by_user[user] >= MOST_PER_USER:
            raise TooManyRequests(f"user {user} has {MOST_PER_USER} watches open; close some of them first")
        self._by_user[user] += 1
        watch = Watch(
            first,
            self._objects.collection(call).reader(sees.concerns if sees.is_narrow else None),
            sees,
            lasts_s=options.timeout_s or self._rng.uniform(SHORTEST_S, LONGEST_S),
            marks=options.wants_bookmarks,
            current_rv=lambda: self._objects.store.rv,
            on_close=lambda: self._ended(user),
            show=self._shower(call, options) if call.kind.custom is not None else None,
        )
        if on_stop is not None:
            on_stop(watch.stop)
        return watch

    def _shower(self, call: Call, options: ListOptions) -> Show:
        """Turns steps into the version that the call wants."""
        kind, conversions, semantics = call.kind, self._objects.conversions, self._objects.semantics
        matches = semantics.matcher(kind, options.label_selector, options.field_selector)

        async def selected(steps: list[Step]) -> list[Step]:
            """Steps of the objects that match in the version that the call wants."""
            found: list[Step | None] = []
            for step in steps:
                if step.entry is None:
                    found.append(step)
                    continue
                event = step.event or Event("ADDED", step.entry, None, 0.0)
                states = [event.entry] if event.before is None else [event.entry, event.before]
                now, *before = await conversions.shown(kind, states)
                shown = Event(event.op, now, before[0] if before else None, event.ts, event.is_blind)
                found.append(translate(shown, matches))
            return [step for step in found if step is not None]

        async def show(steps: list[Step]) -> list[Step]:
            entries = await conversions.shown(kind, [step.entry for step in steps if step.entry is not None])
            rest = iter(entries)
            return [step if step.entry is None else replace(step, entry=next(rest)) for step in steps]

        return selected if semantics.selects_converted(kind, options.field_selector) else show

    def _sight(self, call: Call, options: ListOptions) -> Sight:
        """One for all watchers that see the same."""
        resource = call.kind.resource
        place = (
            resource.api_version, resource.plural, call.namespace, call.name,
            options.label_selector, options.field_selector,
        )  # fmt: skip
        sees = self._sights.get(place)
        if sees is None or sees.kind is not call.kind:
            semantics = self._objects.semantics
            matches = semantics.matcher(call.kind, options.label_selector, options.field_selector)
            is_late = semantics.selects_converted(call.kind, options.field_selector)
            sees = self._sights[place] = Sight(
                None if is_late else matches, call.namespace, call.name, kind=call.kind, keeps_events=is_late
            )
        return sees

    def _first(self, call: Call, options: ListOptions, sees: Sight) -> Iterator[list[Step]]:
        collection, namespace, current_rv = self._objects.collection(call), call.namespace, self._objects.store.rv
        wants_state = options.send_initial if options.send_initial is not None else options.rv == 0
        if wants_state:
            if options.rv > current_rv:
                raise ServerTimeout(f"Too large resource version: {options.rv}, current: {current_rv}")
            entries = [entry for entry in collection.entries(namespace or None) if sees.shows(entry)]
            return _state(entries, current_rv, ends=bool(options.send_initial and options.wants_bookmarks))
        if not options.rv:
            return iter(())
        try:
            return _history(collection.since(options.rv), sees)
        except TooOld as exc:
            raise Gone(str(exc)) from exc

    def _ended(self, user: str) -> None:
        self._by_user[user] -= 1
        if not self._by_user[user]:
            del self._by_user[user]


class Watch:
    """A running watch: iterate over small batches of steps, and ``close()`` in the end.

    Iteration raises ``Gone`` when this watcher fell behind what is remembered.
    """

    def __init__(
        self,
        first: Iterator[list[Step]],
        reader: RingReader,
        sees: Sight,
        *,
        lasts_s: float,
        marks: bool,
        current_rv: Callable[[], int],
        on_close: Callable[[], None],
        show: Show | None = None,
    ) -> None:
        self._show = show
        self._first: Iterator[list[Step]] | None = first
        self._reader = reader
        self._sees = sees
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + lasts_s
        self._marks: Iterator[float] = _Marks(self._loop.time(), self._end) if marks else iter(())
        self._mark = next(self._marks, None)
        self._alarm: asyncio.TimerHandle | None = None
        self._current_rv = current_rv
        self._on_close: Callable[[], None] | None = on_close

    def pass_to(self, give: Pass) -> None:
        """Give steps to ``give`` at once while the iteration waits, as long as it says that it took them."""
        if self._show is not None:  # steps are converted first, which takes its time
            return
        sees = self._sees

        def sink(events: list[Event]) -> bool:
            steps = [step for event in events if (step := sees.told(event)) is not None]
            return not steps or give(steps)

        self._reader.sink = sink

    def stop(self) -> None:
        """End the iteration from outside."""
        self._reader.close()

    def close(self) -> None:
        """Give back what this watch holds. Idempotent."""
        self._reader.close()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> list[Step]:
        while True:
            steps = await self._batch()
            if self._show is not None:
                steps = await self._show(steps)
            if steps:
                return steps

    async def _batch(self) -> list[Step]:
        if self._first is not None:
            batch = next(self._first, None)
            if batch is not None:
                return batch
            self._first = None
        while self._loop.time() < self._end:
            try:
                steps = await self._next()
            except SlowReader as exc:
                raise Gone(
                    f"too old resource version: the watch is too slow and was closed ({exc}); list again"
                ) from exc
            if steps:
                return steps
        raise StopAsyncIteration

    async def _next(self) -> list[Step]:
        if self._alarm is None:  # one timer until it rings, not one a wait
            due = self._end if self._mark is None else min(self._mark, self._end)
            self._alarm = self._loop.call_at(due, self._ring_alarm)
        events = await self._reader.next_batch()
        if events:
            return [step for event in events if (step := self._sees.told(event)) is not None]
        if self._mark is None or self._loop.time() < self._mark:
            return []
        self._mark = next(self._marks, None)
        return [Step("BOOKMARK", self._current_rv())]

    def _ring_alarm(self) -> None:
        self._alarm = None
        self._reader.wake()


class Sight:
    """What watchers see: one namespace or all, one name or all, and what their selectors match.

    Args:
        keeps_events: the selector is asked later, of the version that the watcher wants.
    """

    def __init__(
        self,
        matches: Matches | None,
        namespace: str,
        name: str = "",
        *,
        kind: Kind | None = None,
        keeps_events: bool = False,
    ) -> None:
        self._keeps_events = keeps_events
        self._matches = matches
        self._namespace = namespace
        self._name = name
        self._last: Event | None = None
        self._last_told: Step | None = None
        self.kind = kind

    @property
    def is_narrow(self) -> bool:
        """Whether there can be changes that it does not see."""
        return self._matches is not None or bool(self._namespace or self._name)

    def concerns(self, event: Event) -> bool:
        """Whether it sees anything of a change."""
        return self.told(event) is not None

    def told(self, event: Event) -> Step | None:
        """What it sees of a change; found once for all watchers that share this."""
        if event is not self._last:
            self._last_told = self._translated(event) if self._reaches(event.entry) else None
            self._last = event
        return self._last_told

    def _translated(self, event: Event) -> Step | None:
        if self._keeps_events:
            return Step(event.op, event.entry.rv, event.entry, event=event)
        return translate(event, self._matches)

    def shows(self, entry: Entry) -> bool:
        """Whether it sees an object as it is now."""
        return self._reaches(entry) and (self._matches is None or self._matches(entry))

    def _reaches(self, entry: Entry) -> bool:
        key = entry.key
        return (not self._namespace or key.ns == self._namespace) and (not self._name or key.name == self._name)


def _state(entries: list[Entry], rv: int, *, ends: bool) -> Iterator[list[Step]]:
    for at in range(0, len(entries), FIRST_BATCH):
        yield [Step("ADDED", entry.rv, entry) for entry in entries[at : at + FIRST_BATCH]]
    if ends:
        yield [Step("BOOKMARK", rv, is_initial_end=True)]


def _history(events: list[Event], sees: Sight) -> Iterator[list[Step]]:
    for at in range(0, len(events), FIRST_BATCH):
        batch = [step for event in events[at : at + FIRST_BATCH] if (step := sees.told(event)) is not None]
        if batch:
            yield batch


def translate(event: Event, matches: Matches | None) -> Step | None:
    """What a watcher with this selector sees of a change; None when it concerns nothing that it sees."""
    rv, entry = event.entry.rv, event.entry
    if matches is None:
        return Step(event.op, rv, entry)
    is_match = event.op != "DELETED" and matches(entry)
    before = event.before
    was_match = event.is_blind or (before is not None and matches(before))
    if event.op == "DELETED":
        return Step("DELETED", rv, entry) if was_match or matches(entry) else None
    if is_match:
        return Step("MODIFIED" if was_match else "ADDED", rv, entry)
    if was_match:
        last = entry if before is None else Entry(before.key, before.uid, before.crv, rv, before.body)
        return Step("DELETED", rv, last)
    return None


class _Marks:
    """Times of bookmarks: one a minute, and one shortly before the end."""

    def __init__(self, start: float, end: float) -> None:
        self._next = start + BOOKMARK_EVERY_S
        self._last = end - BOOKMARK_BEFORE_END_S
        self._is_done = False

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        if self._is_done:
            raise StopIteration
        if self._next < self._last:
            mark, self._next = self._next, self._next + BOOKMARK_EVERY_S
            return mark
        self._is_done = True
        return self._last
