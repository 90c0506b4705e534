"""The store over a real file: restart, crash, compaction, order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from skerry.apiserver.store.log import Exists, Key, Missing, Stale
from skerry.apiserver.store.objects import ObjectStore
from skerry.apiserver.store.watch import TooOld
from skerry.base.aio.clock import SystemClock


def content(name: str, value: str = "1") -> dict[str, object]:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "data": {"v": value}}


def key(name: str) -> Key:
    return Key("configmaps", "a", name)


def open_store(path: Path) -> ObjectStore:
    return ObjectStore(path, clock=SystemClock(), synchronous="NORMAL")


async def test_writes_guard_each_other(tmp_path: Path) -> None:
    store = open_store(tmp_path / "db")
    first = await store.create(key("x"), content("x"))
    assert first.rv > 1
    with pytest.raises(Exists):
        await store.create(key("x"), content("x"))
    second = await store.update(key("x"), content("x", "2"), expect_rv=first.rv)
    with pytest.raises(Stale) as stale:
        await store.update(key("x"), content("x", "3"), expect_rv=first.rv)
    assert stale.value.rv == second.rv
    assert await store.update(key("x"), content("x", "2"), expect_rv=second.rv) is second
    await store.delete(key("x"), content("x", "2"), expect_rv=second.rv)
    with pytest.raises(Missing):
        await store.update(key("x"), content("x", "3"), expect_rv=second.rv)
    await store.aclose()


async def test_concurrent_writers_lose_nothing_and_are_seen_in_order(tmp_path: Path) -> None:
    store = open_store(tmp_path / "db")
    reader = store.collection("configmaps").reader()

    async def count_up(name: str) -> None:
        entry = await store.create(key(name), content(name, "0"))
        for number in range(1, 20):
            entry = await store.update(key(name), content(name, str(number)), expect_rv=entry.rv)

    await asyncio.gather(*(count_up(f"n{number}") for number in range(10)))
    seen = [event.entry.rv for event in reader.drain()]
    assert len(seen) == 200
    assert seen == sorted(seen)
    await store.aclose()


async def test_a_cancelled_writer_still_publishes_what_was_committed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "db")
    task = asyncio.ensure_future(store.create(key("x"), content("x")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again = await store.create(key("y"), content("y"))
    found = store.get(key("x"))
    assert found is not None
    assert found.rv < again.rv
    await store.aclose()


async def test_a_watch_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "db")
    first = await store.create(key("x"), content("x"))
    await store.update(key("x"), content("x", "2"), expect_rv=first.rv)
    last = await store.create(key("y"), content("y"))
    uid = store.cluster_uid
    await store.aclose()
    store = open_store(tmp_path / "db")
    assert (store.rv, store.cluster_uid) == (last.rv, uid)
    events = store.collection("configmaps").since(first.rv)
    assert [(event.op, event.entry.key.name) for event in events] == [("MODIFIED", "x"), ("ADDED", "y")]
    assert events[0].before is not None
    page = store.collection("configmaps").page(ns=None, current_rv=store.rv, at_rv=first.rv)
    assert [entry.body for entry in page.entries] == [first.body]
    newer = await store.create(key("z"), content("z"))
    assert newer.rv > last.rv
    await store.aclose()


async def test_compaction_forgets_the_past_and_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "db")
    entry = await store.create(key("x"), content("x"))
    first = entry.rv
    for number in range(10):
        entry = await store.update(key("x"), content("x", f"n{number}"), expect_rv=entry.rv)
    assert await store.compact(older_than_s=-10, keep=3) == 8
    await store.aclose()
    store = open_store(tmp_path / "db")
    collection = store.collection("configmaps")
    with pytest.raises(TooOld):
        collection.since(first)
    assert [event.entry.rv for event in collection.since(entry.rv - 2)] == [entry.rv - 1, entry.rv]
    found = store.get(key("x"))
    assert found is not None
    assert found.rv == entry.rv
    await store.aclose()


_WRITER = """
import asyncio, sys
from pathlib import Path
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.objects import ObjectStore
from skerry.base.aio.clock import SystemClock

async def main():
    store = ObjectStore(Path(sys.argv[1]), clock=SystemClock())
    async def work(lane):
        for number in range(100000):
            name = f"{lane}-{number}"
            entry = await store.create(Key("configmaps", "a", name), {"metadata": {"name": name, "uid": name}})
            print(name, entry.rv, flush=True)
    await asyncio.gather(*(work(lane) for lane in range(8)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(tmp_path / "db"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 10) for _ in range(300)]
    os.kill(process.pid, signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    acknowledged = [line.split() for line in lines if line.endswith(b"\n")]
    store = open_store(tmp_path / "db")
    for name, rv in acknowledged:
        entry = store.get(key(name.decode()))
        assert entry is not None
        assert entry.rv == int(rv)
    await store.aclose()
