"""The watch cache: lists, pages, history and its limits."""

from __future__ import annotations

import asyncio

import pytest

from skerry.api.status import BadRequest, Invalid
from skerry.apiserver.handlers.lists import decode_continue, encode_continue, list_options
from skerry.apiserver.handlers.watch import translate
from skerry.apiserver.request_info import parse
from skerry.apiserver.store.entry import Entry, Event, encode
from skerry.apiserver.store.log import Key, Op, Row
from skerry.apiserver.store.ring import KEEP_ANYWAY, KEEP_COUNT, RELAYED_A_TURN, EventRing
from skerry.apiserver.store.watch import Collection, TooOld, WatchCache
from skerry.base.aio.fanout import SlowReader


def content(name: str, **labels: str) -> dict[str, object]:
    return {"metadata": {"name": name, "uid": f"u-{name}", "labels": labels}, "data": {"k": "v"}}


class Cache(WatchCache):
    def __init__(self) -> None:
        super().__init__(rv=1, compacted_rv=0)
        self.ts = 0.0

    def put(self, op: Op, name: str, *, ns: str = "a", **labels: str) -> Entry:
        rv = self.rv + 1
        return self.apply(op, Row(Key("cm", ns, name), f"u-{name}", rv, rv, encode(content(name, **labels))), self.ts)

    @property
    def cm(self) -> Collection:
        return self.collection("cm")


def names(entries: list[Entry]) -> list[str]:
    return [entry.key.name for entry in entries]


def test_bodies_have_neither_kind_nor_version_and_get_them_when_served() -> None:
    body = encode({"kind": "X", "apiVersion": "v1", "metadata": {"name": "a", "resourceVersion": "9"}, "b": 1, "a": 2})
    assert body == b'{"metadata":{"name":"a"},"a":2,"b":1}'
    entry = Entry(Key("x", "", "a"), "u", 1, 7, body)
    assert entry.wire(b'{"kind":"X",') == b'{"kind":"X","metadata":{"resourceVersion":"7","name":"a"},"a":2,"b":1}'
    assert entry.object(kind="X", api_version="v1")["metadata"] == {"name": "a", "resourceVersion": "7"}
    assert Entry(Key("x", "", "a"), "u", 0, 0, body).wire() == body
    assert encode({"metadata": {"name": "a"}}) == b'{"metadata":{"name":"a"}}'


def test_lists_are_ordered_by_namespace_and_name() -> None:
    cache = Cache()
    for ns, name in (("b", "1"), ("a", "2"), ("a-b", "3"), ("a", "1")):
        cache.put("ADDED", name, ns=ns)
    page = cache.cm.page(ns=None, current_rv=cache.rv)
    assert [(entry.key.ns, entry.key.name) for entry in page.entries] == [
        ("a", "1"), ("a", "2"), ("a-b", "3"), ("b", "1"),
    ]  # fmt: skip
    assert names(cache.cm.page(ns="a", current_rv=cache.rv).entries) == ["1", "2"]


def test_pages_show_one_state_while_objects_come_and_go() -> None:
    cache = Cache()
    for name in "abcdef":
        cache.put("ADDED", name)
    first = cache.cm.page(ns=None, current_rv=cache.rv, limit=2)
    assert (names(first.entries), first.remaining) == (["a", "b"], 4)
    cache.put("DELETED", "c")
    cache.put("ADDED", "bb")
    cache.put("MODIFIED", "d", changed="yes")
    second = cache.cm.page(ns=None, current_rv=cache.rv, at_rv=first.rv, start=first.next_start, limit=3)
    assert names(second.entries) == ["c", "d", "e"]
    assert second.entries[1].labels() == {}
    assert second.rv == first.rv
    newest = cache.cm.page(ns=None, current_rv=cache.rv, start=first.next_start)
    assert names(newest.entries) == ["bb", "d", "e", "f"]


def test_history_is_bounded_by_age_and_count() -> None:
    cache = Cache()
    cache.put("ADDED", "old")
    for number in range(KEEP_COUNT):
        cache.put("ADDED", f"n{number}")
    assert len(cache.cm.since(1)) == KEEP_COUNT + 1
    cache.ts = 100.0
    cache.put("ADDED", "new")
    with pytest.raises(TooOld):
        cache.cm.since(1)
    with pytest.raises(TooOld):
        cache.cm.page(ns=None, current_rv=cache.rv, at_rv=1)
    assert names([event.entry for event in cache.cm.since(cache.rv - 1)]) == ["new"]
    assert cache.cm.since(cache.rv + 100) == []


def test_selectors_translate_changes() -> None:
    cache = Cache()
    reader = cache.cm.reader()
    cache.put("ADDED", "a", x="no")
    cache.put("MODIFIED", "a", x="yes")
    cache.put("MODIFIED", "a", x="yes", y="1")
    cache.put("MODIFIED", "a", x="no", y="2")
    cache.put("DELETED", "a", x="no")
    steps = [translate(event, lambda entry: entry.labels().get("x") == "yes") for event in reader.drain()]
    assert [step and step.type for step in steps] == [None, "ADDED", "MODIFIED", "DELETED", None]
    gone = steps[3]
    assert gone is not None
    assert gone.entry is not None
    assert (gone.entry.labels(), gone.rv) == ({"x": "yes", "y": "1"}, 5)


def test_continue_tokens() -> None:
    assert decode_continue(encode_continue(7, "ns/name")) == ("ns/name", 7)
    for token in ("x", "bm8", encode_continue(1, "a")[:-4] + "!!!!"):
        with pytest.raises(BadRequest):
            decode_continue(token)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("resourceVersion=abc", BadRequest),
        ("limit=x", BadRequest),
        ("resourceVersionMatch=Exact", Invalid),
        ("resourceVersionMatch=Wrong&resourceVersion=1", Invalid),
        ("resourceVersionMatch=Exact&resourceVersion=0", Invalid),
        ("continue=abc&resourceVersion=5", BadRequest),
        ("sendInitialEvents=true", Invalid),
        ("watch=1&sendInitialEvents=true", Invalid),
    ],
)
def test_list_options_that_do_not_go_together(query: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        list_options(parse("GET", "/api/v1/pods", query))


def test_history_is_bounded_in_bytes_but_for_the_newest_changes() -> None:
    ring = EventRing(floor_rv=0, keep_bytes=10_000)
    for rv in range(1, 101):
        ring.push(event(rv, size=1000))
    assert len(ring) == KEEP_ANYWAY
    assert ring.floor_rv == 100 - KEEP_ANYWAY
    for rv in range(101, 301):
        ring.push(event(rv, size=10))
    assert ring.size_bytes <= 10_000
    assert [found.entry.rv for found in ring.since(298)] == [299, 300]


def test_watchers_read_one_ring_in_one_order_and_the_slow_one_is_told() -> None:
    ring = EventRing(floor_rv=0, keep_bytes=10_000)
    fast, slow = ring.reader(), ring.reader()
    seen = []
    for rv in range(1, 101):
        ring.push(event(rv, size=1000))
        seen += [found.entry.rv for found in fast.drain()]
    assert seen == list(range(1, 101))
    with pytest.raises(SlowReader, match="84 changes were dropped"):
        slow.drain()
    late = ring.reader()
    assert late.drain() == []
    late.close()
    assert ring.reader_count == 2


def test_changes_of_no_interest_do_not_make_a_watcher_slow() -> None:
    ring = EventRing(floor_rv=0, keep_bytes=10_000)
    reader = ring.reader(lambda found: found.entry.rv % 50 == 0)
    for rv in range(1, 51):
        ring.push(event(rv, size=1000))
    assert [found.entry.rv for found in reader.drain()] == [50]
    ring.push(event(51, size=1000))
    assert reader.drain() == []


async def test_a_waiting_watcher_wakes_and_ends() -> None:
    ring = EventRing(floor_rv=0)
    reader = ring.reader()
    waiting = asyncio.ensure_future(reader.batch())
    await asyncio.sleep(0)
    for rv in range(1, 200):
        ring.push(event(rv))
    assert [found.entry.rv for found in await waiting] == list(range(1, 65))
    assert (await reader.get()).entry.rv == 65
    assert [found.entry.rv for found in reader.drain()] == list(range(66, 200))
    reader.close()
    with pytest.raises(StopAsyncIteration):
        await reader.batch()


async def test_a_sink_gets_what_comes_while_the_task_waits_and_what_it_refuses_is_for_the_task() -> None:
    ring = EventRing(floor_rv=0)
    reader, given = ring.reader(), []
    is_open = True

    def sink(events: list[Event]) -> bool:
        if is_open:
            given.append([found.entry.rv for found in events])
        return is_open

    reader.sink = sink
    ring.push(event(1))  # nobody waits yet: this is for the task
    await asyncio.sleep(0)
    assert [found.entry.rv for found in await reader.batch()] == [1]
    waiting = asyncio.ensure_future(reader.batch())
    await asyncio.sleep(0)
    ring.push(event(2))
    ring.push(event(3))
    await asyncio.sleep(0)
    assert given == [[2, 3]]
    assert not waiting.done()
    is_open = False
    ring.push(event(4))
    assert [found.entry.rv for found in await waiting] == [4]
    assert given == [[2, 3]]
    reader.close()


async def test_many_watchers_are_told_in_turns_and_late_ones_get_all_at_once() -> None:
    ring, given = EventRing(floor_rv=0), []
    count = RELAYED_A_TURN + 1
    readers = [ring.reader() for _ in range(count)]
    waiting = [asyncio.ensure_future(reader.batch()) for reader in readers]
    for reader in readers:
        reader.sink = lambda events: given.append([found.entry.rv for found in events]) is None
    await asyncio.sleep(0)
    ring.push(event(1))
    await asyncio.sleep(0)
    assert len(given) == RELAYED_A_TURN
    ring.push(event(2))
    for _ in range(3):
        await asyncio.sleep(0)
    assert given.count([1, 2]) == 1
    assert given.count([2]) == RELAYED_A_TURN
    for reader in readers:
        reader.close()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(end) for end in ends} == {StopAsyncIteration}


def event(rv: int, *, size: int = 1) -> Event:
    return Event("MODIFIED", Entry(Key("cm", "a", "x"), "u", 1, rv, b"x" * size), None, float(rv))
