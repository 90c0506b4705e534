import asyncio
from pathlib import Path
from typing import Any

import pytest

from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.sqlite import Database
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.edge.store.outbox import SWEEP_S, EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.testing.clock import VirtualClock
from skerry.wire.kubeedge.envelope import Envelope


def objects(database: Database) -> EdgeObjects:
    return EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())


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


async def test_a_confirmed_state_is_gone_at_once_and_its_row_with_the_next_transaction(database: Database) -> None:
    def rows() -> int:
        return int(database.read("SELECT count(*) FROM outbox")[0][0])

    outbox = EdgeOutbox(database, clock=SystemClock())
    await outbox.leave("a", envelope("1"))
    await outbox.leave("b", envelope("1" * 5000))
    first, second = outbox.entries()
    assert second.envelope.content == "1" * 5000
    outbox.confirm(first)
    assert [e.key for e in outbox.entries()] == ["b"]
    assert await database.write(lambda connection: outbox.waiting(connection, "a")) is None
    assert (outbox.depth(), rows(), outbox.oldest_s()) == (1, 2, second.created_at_s)
    await outbox.leave("c", envelope("1"))
    assert (outbox.depth(), rows()) == (2, 2)


async def test_a_newer_state_outlives_the_confirmation_of_the_older(database: Database) -> None:
    outbox = EdgeOutbox(database, clock=SystemClock())
    await outbox.leave("a", envelope("1"))
    (old,) = outbox.entries()
    await outbox.leave("a", envelope("2"))
    outbox.confirm(old)
    assert [e.envelope.content for e in outbox.entries()] == ["2"]
    assert outbox.depth() == 1


async def test_rows_of_confirmed_states_go_without_another_transaction(database: Database) -> None:
    clock = VirtualClock()
    outbox = EdgeOutbox(database, clock=clock)
    await outbox.leave("a", envelope("1"))
    outbox.confirm(outbox.entries()[0])
    async with Supervisor("test") as supervisor:
        supervisor.keep("outbox", outbox.run)
        while database.read("SELECT count(*) FROM outbox") != [(0,)]:
            await clock.advance(SWEEP_S)
            await asyncio.sleep(0.01)
    assert outbox.depth() == 0


async def test_an_agent_that_stops_leaves_no_row_of_what_is_confirmed(database: Database) -> None:
    clock = VirtualClock()
    outbox = EdgeOutbox(database, clock=clock)
    async with Supervisor("test", clock=clock) as supervisor:
        supervisor.keep("outbox", outbox.run)
        await clock.advance(0)
        for key in ("a", "b"):
            await outbox.leave(key, envelope("1"))
        outbox.confirm(outbox.entries()[0])
        await clock.wait_sleepers(1)
    assert database.read("SELECT key FROM outbox") == [("b",)]


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


SECRET = "default/secret/s"


async def test_secrets_and_tokens_are_unreadable_on_the_disk(database: Database, tmp_path: Path) -> None:
    store = objects(database)
    await store.put(SECRET, obj("1", data={"k": "cGFzc3dvcmQtb2YtdGhlLXBsYW50"}))
    await store.put("default/serviceaccounttoken/default|u1||3600", {"metadata": {}, "token": "eyJ-the-token"})
    await store.put(KEY, obj("1", data={"k": "readable"}))
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"readable" in on_disk
    assert b"cGFzc3dvcmQtb2YtdGhlLXBsYW50" not in on_disk and b"eyJ-the-token" not in on_disk


async def test_rows_of_another_key_are_dropped_and_the_others_stay(database: Database) -> None:
    store = objects(database)
    await store.put(SECRET, obj("1"))
    await store.put(KEY, obj("1"))
    other = EdgeObjects(database, codec=SealingCodec(b"\x01" * 32), clock=SystemClock())
    assert other.get(SECRET) is None and other.get(KEY) == obj("1")
    assert objects(database).get(SECRET) is None
    await other.put(SECRET, obj("1"))
    assert other.get(SECRET) == obj("1")


async def test_rows_of_a_former_key_are_opened_and_sealed_anew(database: Database) -> None:
    await objects(database).put(SECRET, obj("1"))
    changed = EdgeObjects(database, codec=SealingCodec(b"\x01" * 32, [bytes(32)]), clock=SystemClock())
    assert changed.get(SECRET) == obj("1")
    assert EdgeObjects(database, codec=SealingCodec(b"\x01" * 32), clock=SystemClock()).get(SECRET) == obj("1")


async def test_rows_wait_for_a_key_that_may_come_back_unless_the_cloud_has_news_of_them(database: Database) -> None:
    gone, news, same = SECRET, "default/secret/t", "default/secret/u"
    for key in (gone, news, same):
        await objects(database).put(key, obj("1"))
    meanwhile = EdgeObjects(database, codec=SealingCodec(b"\x01" * 32), clock=SystemClock(), keeps_unread=True)
    assert not meanwhile.holdings(), "the cloud is to send them"
    assert not await meanwhile.delete(gone)
    assert await meanwhile.put(news, obj("2"))
    back = EdgeObjects(database, codec=SealingCodec(bytes(32), [b"\x01" * 32]), clock=SystemClock())
    assert {key: back.get(key) for key in (gone, news, same)} == {gone: None, news: obj("2"), same: obj("1")}


async def test_a_row_that_rotted_on_the_disk_is_dropped_and_the_others_stay(database: Database) -> None:
    store = objects(database)
    await store.put(KEY, obj("1"))
    await store.put("default/configmap/b", obj("1"))
    await database.write(lambda connection: connection.execute("UPDATE object SET body = ? WHERE key = ?", (b"{", KEY)))
    again = objects(database)
    assert again.get(KEY) is None and again.get("default/configmap/b") == obj("1")


async def test_a_body_moved_to_another_row_is_not_taken(database: Database) -> None:
    store = objects(database)
    await store.put(SECRET, obj("1", data={"k": "b25l"}))
    await store.put("default/secret/t", obj("1", data={"k": "dHdv"}))
    swap = "UPDATE object SET body = (SELECT body FROM object WHERE key = ?) WHERE key = ?"
    await database.write(lambda connection: connection.execute(swap, (SECRET, "default/secret/t")))
    again = objects(database)
    assert again.get(SECRET) is not None and again.get("default/secret/t") is None


async def test_plain_rows_of_an_older_store_are_read_and_sealed(database: Database) -> None:
    body = b'\x00{"metadata":{"name":"a","uid":"u1","resourceVersion":"1"}}'
    insert = "INSERT INTO object VALUES (?, 'secret', 'u1', '1', ?, 0)"
    await database.write(lambda connection: connection.execute(insert, (SECRET, body)))
    assert objects(database).get(SECRET) == obj("1")
    [(stored,)] = database.read("SELECT body FROM object WHERE key = ?", (SECRET,))
    assert stored[:1] == b"\x01" and objects(database).get(SECRET) == obj("1")


async def test_versions_of_another_store_count_no_longer(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())

    def config(version: str, value: str) -> dict[str, Any]:
        return {"metadata": {"name": "c", "uid": "u", "resourceVersion": version}, "data": {"a": value}}

    assert not await objects.bind("cluster/one")
    assert await objects.put("default/configmap/c", config("50", "new"))
    await objects.put("default/serviceaccounttoken/x", {"metadata": {}, "token": "t"})
    assert not await objects.put("default/configmap/c", config("40", "old"))
    assert objects.holdings() == {"default/configmap/c": ("u", "50")}
    assert not await objects.bind("cluster/one")
    assert await objects.bind("cluster/two")
    assert objects.holdings() == {"default/configmap/c": ("u", "")}
    assert objects.get("default/configmap/c") == config("50", "new"), "it stays until its successor comes"
    database.close()
    database = open_database(tmp_path)
    again = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    assert again.bound_to == "cluster/two"
    assert again.holdings() == {"default/configmap/c": ("u", "")}
    assert await again.put("default/configmap/c", config("40", "restored"))
    assert not await again.put("default/configmap/c", config("39", "older"))
    assert again.holdings() == {"default/configmap/c": ("u", "40")}
    database.close()
