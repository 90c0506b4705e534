"""The watch cache: every object in memory as bytes, lists at any remembered revision, and the fan-out of changes.

Order is that of the revisions, the same for every watcher. What is remembered, and what happens to slow watchers, is
decided in ``ring``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from skerry.apiserver.store.entry import Entry, Event
from skerry.apiserver.store.log import LATE, Change, Key, Op, Row
from skerry.apiserver.store.ring import EventRing, Interest, RingReader
from skerry.base.errors import SkerryError
from skerry.base.values import Struct


class TooOld(SkerryError):
    """The revision is older than what is remembered. ``floor_rv`` is the oldest that works."""

    def __init__(self, message: str, *, floor_rv: int) -> None:
        super().__init__(message)
        self.floor_rv = floor_rv


class Page(Struct, frozen=True):
    """Part of a list, as it was at ``rv``."""

    entries: list[Entry]
    rv: int
    next_start: str = ""
    remaining: int = 0


SortKey = tuple[str, str]


class Collection:
    """The objects of one storage resource."""

    def __init__(self, gr: str, *, floor_rv: int) -> None:
        self.gr = gr
        self.last_rv = floor_rv
        self.ring = EventRing(floor_rv=floor_rv)
        self._entries: dict[SortKey, Entry] = {}
        self._order: list[SortKey] = []

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ns: str, name: str) -> Entry | None:
        """The newest state."""
        return self._entries.get((ns, name))

    def load(self, row: Row) -> None:
        """Take a stored state at start; rows come in key order."""
        sort_key = (row.key.ns, row.key.name)
        self._entries[sort_key] = Entry(row.key, row.uid, row.crv, row.rv, row.body)
        self._order.append(sort_key)
        self.last_rv = max(self.last_rv, row.rv)

    def remember(self, change: Change, before: Entry | None) -> Entry:
        """Take a change of an earlier run into the ring, without telling anybody; returns its entry."""
        row = change.row
        entry = Entry(row.key, row.uid, row.crv, row.rv, row.body)
        is_blind = before is None and change.op != "ADDED"
        self.ring.remember(Event(change.op, entry, None if change.op == "ADDED" else before, change.ts, is_blind))
        self.last_rv = row.rv
        return entry

    def apply(self, op: Op, entry: Entry, ts: float) -> Event:
        """Take a committed change and tell every watcher."""
        sort_key = (entry.key.ns, entry.key.name)
        before = self._entries.get(sort_key)
        if op == "DELETED":
            self._entries.pop(sort_key, None)
            at = bisect_left(self._order, sort_key)
            if at < len(self._order) and self._order[at] == sort_key:
                del self._order[at]
        else:
            if before is None:
                insort(self._order, sort_key)
            self._entries[sort_key] = entry
        event = Event(op, entry, before, ts)
        self.last_rv = entry.rv
        self.ring.push(event)
        return event

    @property
    def floor_rv(self) -> int:
        """The oldest revision whose later changes are all remembered."""
        return self.ring.floor_rv

    def namespaces(self) -> set[str]:
        """Every namespace that has an object here."""
        return {ns for ns, _ in self._order}

    def entries(self, ns: str | None = None) -> Iterator[Entry]:
        """The newest states, of one namespace or of all, in key order."""
        low, high = self._range(self._order, ns)
        for sort_key in self._order[low:high]:
            yield self._entries[sort_key]

    def page(
        self,
        *,
        ns: str | None,
        current_rv: int,
        at_rv: int | None = None,
        start: str = "",
        limit: int = 0,
        matches: Callable[[Entry], bool] | None = None,
    ) -> Page:
        """A list, whole or in part.

        Args:
            ns: None for all namespaces.
            current_rv: the server's newest revision.
            at_rv: show the state at this revision; None for the newest.
            start: continue after this key, as ``next_start`` of the page before.
            limit: most entries; 0 for all.
            matches: which entries count.

        Raises:
            TooOld: the state at ``at_rv`` cannot be told any more.
        """
        order, entries = self._order, self._entries
        if at_rv is not None and self.last_rv > at_rv and len(self.ring):
            entries = self._snapshot(at_rv)
            order = sorted(entries)
        elif at_rv is not None and at_rv < self.floor_rv:
            raise self._too_old(at_rv)
        low, high = self._range(order, ns)
        if start:
            at = start.partition("/")
            low = max(low, bisect_right(order, (at[0], at[2])))
        found: list[Entry] = []
        for index in range(low, high):
            entry = entries[order[index]]
            if matches is not None and not matches(entry):
                continue
            if limit and len(found) >= limit:
                last = found[-1].key
                return Page(found, at_rv or current_rv, f"{last.ns}/{last.name}", high - index)
            found.append(entry)
        return Page(found, at_rv or current_rv)

    def since(self, rv: int) -> list[Event]:
        """Remembered changes after ``rv``.

        Raises:
            TooOld: some of them are forgotten.
        """
        if rv < self.floor_rv:
            raise self._too_old(rv)
        return self.ring.since(rv)

    def reader(self, interest: Interest | None = None) -> RingReader:
        """Changes from now on; those of no interest may be left out."""
        return self.ring.reader(interest)

    def _snapshot(self, at_rv: int) -> dict[SortKey, Entry]:
        """The state at ``at_rv``: the newest one with the later changes undone."""
        if at_rv < self.floor_rv:
            raise self._too_old(at_rv)
        entries = dict(self._entries)
        for event in self.ring.newest_first():
            if event.entry.rv <= at_rv:
                break
            sort_key = (event.entry.key.ns, event.entry.key.name)
            if event.is_blind:
                raise self._too_old(at_rv)
            if event.before is None:
                entries.pop(sort_key, None)
            else:
                entries[sort_key] = event.before
        return entries

    def _too_old(self, rv: int) -> TooOld:
        return TooOld(f"too old resource version: {rv} ({self.floor_rv})", floor_rv=self.floor_rv)

    @staticmethod
    def _range(order: list[SortKey], ns: str | None) -> tuple[int, int]:
        if ns is None:
            return 0, len(order)
        return bisect_left(order, (ns, "")), bisect_left(order, (ns + "\0", ""))


class WatchCache:
    """All collections of a server."""

    def __init__(self, *, rv: int, compacted_rv: int, late_floor_rv: int = 0) -> None:
        self.rv = rv
        self._compacted_rv = compacted_rv
        self._late_floor_rv = late_floor_rv
        self._collections: dict[str, Collection] = {}

    def collection(self, gr: str) -> Collection:
        """The objects of a storage resource; made empty when new."""
        found = self._collections.get(gr)
        if found is None:
            floor_rv = max(self._compacted_rv, self._late_floor_rv) if gr in LATE else self._compacted_rv
            found = self._collections[gr] = Collection(gr, floor_rv=floor_rv)
        return found

    def collections(self) -> list[Collection]:
        """Every collection that has been touched."""
        return list(self._collections.values())

    def load(self, rows: Iterable[Row], changes: Iterable[Change]) -> None:
        """Fill from the disk at start."""
        for row in rows:
            self.collection(row.key.gr).load(row)
        before: dict[Key, Entry] = {}
        for change in changes:
            key = change.row.key
            before[key] = self.collection(key.gr).remember(change, before.get(key))

    def apply(self, op: Op, row: Row, ts: float, *, labels: dict[str, Any] | None = None) -> Entry:
        """Publish a committed change; must be called in the order of the revisions."""
        entry = Entry(row.key, row.uid, row.crv, row.rv, row.body)
        entry._labels = labels
        self.rv = max(self.rv, row.rv)
        self.collection(row.key.gr).apply(op, entry, ts)
        return entry
