"""Questions for objects on a real store: asked once, ended by the answer or by the object itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skerry.api.gvk import Object
from skerry.api.status import NotFound
from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.asked import UnusedClaims
from skerry.edge.sync.remote import ObjectSource, Remote
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge.envelope import Envelope

KEY = "default/configmap/settings"
CONFIG = {
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "default", "uid": "u", "resourceVersion": "5"},
}


class QuestionLink:
    """A ``Link`` whose questions a test answers."""

    is_up = True
    is_to_skerry = True
    down_since_s = 0.0
    why_down = ""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[asyncio.Future[Envelope]] = []

    async def request(self, envelope: Envelope, *, timeout_s: float = 20.0) -> Envelope:
        self.asked.append(envelope.resource)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def send(self, envelope: Envelope) -> None:
        raise AssertionError("nothing else is sent")

    def on_envelope(self, handler: object) -> None: ...

    def on_state(self, handler: Callable[[bool], None]) -> None: ...

    def answer(self, content: object, index: int = -1) -> None:
        self.answers[index].set_result(Envelope("a", "edgecontroller", "resource", "response", KEY, content))


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[QuestionLink, EdgeObjects, ObjectSource]]:
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    link = QuestionLink()
    yield link, objects, ObjectSource(objects, Remote(link))
    database.close()


Parts = tuple[QuestionLink, EdgeObjects, ObjectSource]


async def test_many_ask_and_the_cloud_is_asked_once(parts: Parts) -> None:
    link, objects, source = parts
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(source.get("configmap", "default", "settings")) for _ in range(10)]
        while not link.answers:
            await asyncio.sleep(0)
        link.answer(CONFIG)
    assert [task.result() for task in asking] == [CONFIG] * 10
    assert link.asked == [KEY]
    assert objects.get(KEY) == CONFIG
    assert await source.get("configmap", "default", "settings") == CONFIG


async def test_an_object_that_comes_by_itself_ends_the_wait(parts: Parts) -> None:
    link, objects, source = parts
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(source.get("configmap", "default", "settings")) for _ in range(2)]
        while not link.answers:
            await asyncio.sleep(0)
        await objects.put(KEY, CONFIG)
    assert [task.result() for task in asking] == [CONFIG] * 2
    assert not link.answers[0].done() or link.answers[0].cancelled(), "the question was answered after all"


async def test_every_asker_hears_of_the_failure_and_the_next_asks_again(parts: Parts) -> None:
    link, _, source = parts
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(_failure(source)) for _ in range(3)]
        while not link.answers:
            await asyncio.sleep(0)
        link.answer(answer.failed_query({"reason": "NotFound", "code": 404, "message": "no"}))
    assert [task.result() for task in asking] == ["no"] * 3
    async with asyncio.TaskGroup() as group:
        again = group.create_task(source.get("configmap", "default", "settings"))
        while len(link.answers) < 2:
            await asyncio.sleep(0)
        link.answer(CONFIG)
    assert again.result() == CONFIG


async def test_when_the_first_asker_leaves_another_asks(parts: Parts) -> None:
    link, _, source = parts
    async with asyncio.TaskGroup() as group:
        first = group.create_task(source.get("configmap", "default", "settings"))
        second = group.create_task(source.get("configmap", "default", "settings"))
        while not link.answers:
            await asyncio.sleep(0)
        first.cancel()
        while len(link.answers) < 2:
            await asyncio.sleep(0)
        link.answer(CONFIG)
    assert first.cancelled()
    assert second.result() == CONFIG


async def test_the_newest_is_asked_for_and_what_is_gone_is_not_kept(parts: Parts) -> None:
    link, objects, source = parts
    await objects.put(KEY, CONFIG)
    newer = CONFIG | {"metadata": {**CONFIG["metadata"], "resourceVersion": "6"}}  # type: ignore[dict-item]
    async with asyncio.TaskGroup() as group:
        first = group.create_task(source.fresh("configmap", "default", "settings"))
        second = group.create_task(source.fresh("configmap", "default", "settings"))
        while not link.answers:
            await asyncio.sleep(0)
        first.cancel()
        while len(link.answers) < 2:
            await asyncio.sleep(0)
        link.answer(newer)
    assert first.cancelled() and second.result() == newer == objects.get(KEY)
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_failure(source, is_fresh=True))
        while len(link.answers) < 3:
            await asyncio.sleep(0)
        link.answer(answer.failed_query({"reason": "NotFound", "code": 404, "message": "no"}))
    assert gone.result() == "no" and objects.get(KEY) is None


def test_a_cloud_that_says_nothing_of_its_store_answers_no_such_questions(parts: Parts) -> None:
    link, _, source = parts
    assert source.is_answered()
    link.is_to_skerry = False
    assert not source.is_answered()
    link.is_up = False
    assert not source.is_answered(), "no cloud that could was ever seen"


async def test_after_a_restart_without_a_cloud_the_last_one_counts(parts: Parts) -> None:
    link, objects, source = parts
    link.is_up = link.is_to_skerry = False
    await objects.bind("cluster/1")
    assert source.is_answered()


async def test_claims_of_a_pod_that_is_gone_are_not_used_again(parts: Parts) -> None:
    link, objects, _ = parts
    unused = UnusedClaims(objects)
    source = ObjectSource(objects, Remote(link), unused=unused)

    def pod(name: str, *claims: str, uid: str = "p") -> Object:
        volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
        return {"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": {"volumes": volumes}}

    for claim in ("one", "two"):
        found = {"metadata": {"name": claim, "uid": claim}, "spec": {"volumeName": f"pv-{claim}"}}
        await objects.put(f"default/persistentvolumeclaim/{claim}", found)
        await objects.put(f"default/persistentvolume/pv-{claim}", {"metadata": {"name": f"pv-{claim}", "uid": "v"}})
    await objects.put("default/pod/a", pod("a", "one", "two"))
    await objects.put("default/pod/b", pod("b", "two"))
    await objects.put("default/pod/a", pod("a", "one", uid="another"))
    assert await source.get("persistentvolumeclaim", "default", "two"), "the other pod mounts it"
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(source.get("persistentvolumeclaim", "default", "one"))
        while not link.answers:
            await asyncio.sleep(0)
        link.answer({"metadata": {"name": "one", "uid": "one-again"}, "spec": {"volumeName": "pv-new"}})
    assert asking.result()["spec"]["volumeName"] == "pv-new"
    keeping = asyncio.ensure_future(unused.run())
    await objects.delete("default/pod/b")
    while any(objects.get(f"default/{key}") for key in ("persistentvolumeclaim/two", "persistentvolume/pv-two")):
        await asyncio.sleep(0)
    keeping.cancel()
    assert objects.get("default/persistentvolume/pv-one") is None, "it was of the claim that came before"
    assert objects.get("default/persistentvolumeclaim/one") == asking.result()


async def _failure(source: ObjectSource, *, is_fresh: bool = False) -> str:
    try:
        await (source.fresh if is_fresh else source.get)("configmap", "default", "settings")
    except NotFound as exc:
        return exc.message
    return ""
