from pathlib import Path
from typing import Any

import pytest

from skerry.base.aio.clock import SystemClock
from skerry.base.sqlite import Database
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import PlainCodec
from skerry.wire.kubeedge.envelope import Envelope


def objects(database: Database) -> EdgeObjects:
    return EdgeObjects(database, codec=PlainCodec(), clock=SystemClock())


def obj(version: str, uid: str = "u1", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "uid": uid, "resourceVersion": version}, **more}


def envelope(content: str) -> Envelope:
    return Envelope("", "edged", "meta", "patch", "default/podpatch/a", content)


@pytest.fixture
def database(tmp_path: Path) -> Any:
    database = open_database(tmp_path)
    yield database
    database.close()


KEY = "default/configmap/a"


async def test_only_newer_versions_of_one_uid_replace(database: Database) -> None:
    store = objects(database)
    seen: list[Change] = []
    store.subscribe(seen.append)
    assert await store.put(KEY, obj("9"))
    assert not await store.put(KEY, obj("9"))
    assert not await store.put(KEY, obj("8"))
    assert await store.put(KEY, obj("10"))
    assert await store.put(KEY, obj("3", uid="u2"))
    assert [c.new["metadata"]["resourceVersion"] for c in seen if c.new] == ["9", "10", "3"]


async def test_objects_survive_a_restart(database: Database, tmp_path: Path) -> None:
    await objects(database).put("default/secret/s", obj("1", data={"k": "djE="}))
    database.close()
    again = open_database(tmp_path)
    assert objects(again).get("default/secret/s") == obj("1", data={"k": "djE="})
    again.close()


async def test_delete_of_another_uid_keeps_the_object(database: Database) -> None:
    store = objects(database)
    await store.put(KEY, obj("1"))
    assert not await store.delete(KEY, uid="other")
    assert await store.delete(KEY, uid="u1")
    assert store.get(KEY) is None
    assert not await store.delete(KEY)


async def test_list_is_by_type(database: Database) -> None:
    store = objects(database)
    await store.put(KEY, obj("1"))
    await store.put("default/pod/a", obj("1"))
    assert list(store.list("pod")) == ["default/pod/a"]


async def test_answer_to_an_older_value_keeps_the_newer(database: Database) -> None:
    outbox = EdgeOutbox(database, clock=SystemClock())
    await outbox.leave("k", envelope("1"))
    (old,) = outbox.entries()
    await outbox.leave("k", envelope("2"))
    await outbox.settle(old)
    (new,) = outbox.entries()
    assert new.envelope.content == "2"
    await outbox.settle(new)
    assert outbox.depth() == 0


async def test_sequences_are_bounded_and_counted(database: Database) -> None:
    outbox = EdgeOutbox(database, clock=SystemClock(), max_sequence=3)
    await outbox.leave("state", envelope("s"))
    for number in range(5):
        await outbox.leave(f"event-{number}", envelope(str(number)), is_sequence=True)
    assert [e.key for e in outbox.entries()] == ["state", "event-2", "event-3", "event-4"]
    assert outbox.dropped == 2


async def test_facts_are_kept(database: Database) -> None:
    store = objects(database)
    assert store.fact("cluster") == ""
    await store.remember("cluster", "a")
    await store.remember("cluster", "b")
    assert store.fact("cluster") == "b"
