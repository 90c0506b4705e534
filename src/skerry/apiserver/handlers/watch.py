"""The watch verb: from remembered and new changes to steps, the same for HTTP and for callers inside the process.

A watcher that is too slow ends with ``Gone``; the client lists again. Selectors translate: an object that stops
matching is DELETED (with its earlier state), one that starts matching is ADDED.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from skerry.api.status import Gone, ServerTimeout
from skerry.apiserver.calls import Call
from skerry.apiserver.handlers.crud import Objects
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.store.watch import Entry, Event, TooOld
from skerry.base.aio.fanout import Reader, SlowReader
from skerry.kube.ports import EventType

BOOKMARK_EVERY_S = 60.0
BOOKMARK_BEFORE_END_S = 2.0
SHORTEST_S = 1800.0
LONGEST_S = 3600.0

Matches = Callable[[Entry], bool]
OnStop = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to tell a watcher. A BOOKMARK has no entry; ``rv`` is always the revision to go on from."""

    type: EventType
    rv: int
    entry: Entry | None = None
    is_initial_end: bool = False


class Watches:
    """Runs watches over the store's memory."""

    def __init__(self, objects: Objects, *, rng: random.Random | None = None) -> None:
        self._objects = objects
        self._rng = rng or random.Random()

    def run(self, call: Call, options: ListOptions, *, on_stop: OnStop | None = None) -> AsyncGenerator[Step, None]:
        """Begin a watch. What is wrong with the request is raised here, not at the first step.

        Args:
            on_stop: is given a function that ends the watch from outside (client gone, server closing).

        Raises:
            Gone: the revision is too old.
            BadRequest: a selector cannot be read.
        """
        matches = self._objects.semantics.matcher(call.kind, options.label_selector, options.field_selector)
        collection = self._objects.collection(call)
        namespace = call.namespace
        wants_state = options.send_initial if options.send_initial is not None else options.rv == 0
        steps: list[Step] = []
        if wants_state:
            if options.rv > self._objects.store.rv:
                raise ServerTimeout(f"Too large resource version: {options.rv}, current: {self._objects.store.rv}")
            for entry in collection.entries(namespace or None):
                if matches is None or matches(entry):
                    steps.append(Step("ADDED", entry.rv, entry))
            if options.send_initial and options.wants_bookmarks:
                steps.append(Step("BOOKMARK", self._objects.store.rv, is_initial_end=True))
        elif options.rv:
            try:
                for event in collection.since(options.rv):
                    told = translate(event, matches) if _is_in(event, namespace) else None
                    if told is not None:
                        steps.append(told)
            except TooOld as exc:
                raise Gone(str(exc)) from exc
        reader = collection.reader()
        if on_stop is not None:
            on_stop(reader.close)
        return self._steps(steps, reader, matches, namespace, options)

    async def _steps(
        self, first: list[Step], reader: Reader[Event], matches: Matches | None, namespace: str, options: ListOptions
    ) -> AsyncGenerator[Step, None]:
        loop = asyncio.get_running_loop()
        end = loop.time() + (options.timeout_s or self._rng.uniform(SHORTEST_S, LONGEST_S))
        marks: Iterator[float] = _Marks(loop.time(), end) if options.wants_bookmarks else iter(())
        mark = next(marks, None)
        try:
            for step in first:
                yield step
            while loop.time() < end:
                due = end if mark is None else min(mark, end)
                try:
                    async with asyncio.timeout_at(due):
                        events = [await reader.get(), *reader.drain()]
                except TimeoutError:
                    if mark is not None and loop.time() >= mark:
                        mark = next(marks, None)
                        yield Step("BOOKMARK", self._objects.store.rv)
                    continue
                for event in events:
                    if _is_in(event, namespace) and (told := translate(event, matches)) is not None:
                        yield told
        except StopAsyncIteration:
            return
        except SlowReader as exc:
            raise Gone(f"the watch is too slow and was closed: {exc}; list again") from exc
        finally:
            reader.close()


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


def _is_in(event: Event, namespace: str) -> bool:
    return not namespace or event.entry.key.ns == namespace


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
