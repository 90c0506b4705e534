"""The informer's cache, driven by a scripted KubeApi."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.api.gvk import PODS, Object, Resource
from skerry.api.status import ApiError, Gone, Unavailable
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.supervise import Supervisor
from skerry.kube.informer import Informer, InformerSet, by_controller, by_node
from skerry.kube.ports import ObjectList, WatchEvent
from skerry.kube.watch import Reflector, Scope


def pod(name: str, version: int, *, uid: str = "", node: str = "") -> Object:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": uid or name, "resourceVersion": str(version)},
        "spec": {"nodeName": node} if node else {},
    }


class Script:
    """A KubeApi that answers lists and watches in order; the last watch stays open."""

    def __init__(self, *steps: list[Object] | list[WatchEvent] | ApiError) -> None:
        self._steps = list(steps)
        self.calls: list[str] = []
        self.done = asyncio.Event()

    async def list(self, resource: Resource, **options: Any) -> ObjectList:
        self.calls.append(f"list {options['limit']} {options['continue_token']}".rstrip())
        step = self._steps.pop(0)
        if isinstance(step, ApiError):
            raise step
        return ObjectList(step, str(100 * len(self.calls)))  # type: ignore[arg-type]

    async def watch(self, resource: Resource, *, resource_version: str, **options: Any) -> AsyncIterator[WatchEvent]:
        self.calls.append(f"watch {resource_version}")
        if not self._steps:
            self.done.set()
            await asyncio.Event().wait()
        step = self._steps.pop(0)
        if isinstance(step, ApiError):
            raise step
        for event in step:
            yield event  # type: ignore[misc]


class Instant:
    """A clock that never waits, and on which each look takes two seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self.now

    def monotonic_s(self) -> float:
        self.now += 2
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await asyncio.sleep(0)


async def play(informer: Informer, script: Script) -> None:
    async with Supervisor("t") as tasks:
        tasks.keep("informer", informer.run)
        await script.done.wait()


def recorded(informer: Informer) -> list[tuple[str, str | None, str | None]]:
    seen: list[tuple[str, str | None, str | None]] = []

    def version(obj: Object | None) -> str | None:
        return None if obj is None else f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"

    informer.on_event(lambda kind, old, new: seen.append((kind, version(old), version(new))))
    return seen


def made(script: Script, **options: Any) -> Informer:
    return Informer(script, PODS, clock=Instant(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_packed", [False, True])
async def test_list_then_watch(is_packed: bool) -> None:
    script = Script(
        [pod("a", 1)],
        [
            WatchEvent("MODIFIED", pod("a", 101)),
            WatchEvent("ADDED", pod("b", 102)),
            WatchEvent("DELETED", pod("a", 103)),
            WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "150"}}),
        ],
    )
    informer = made(script, is_packed=is_packed)
    seen = recorded(informer)
    await play(informer, script)
    assert [obj["metadata"]["name"] for obj in informer.items()] == ["b"]
    assert seen == [
        ("ADDED", None, "a@1"),
        ("MODIFIED", "a@1", "a@101"),
        ("ADDED", None, "b@102"),
        ("DELETED", "a@103", None),
    ]
    assert [p["metadata"]["name"] for p in informer.items()] == ["b"]
    assert script.calls == ["list 500", "watch 100", "watch 150"]
    assert informer.has_synced


async def test_a_delete_during_a_broken_watch_is_told_after_the_relist() -> None:
    script = Script([pod("a", 1), pod("b", 2)], Gone("too old"), [pod("b", 2)])
    informer = made(script)
    seen = recorded(informer)
    await play(informer, script)
    assert seen == [("ADDED", None, "a@1"), ("ADDED", None, "b@2"), ("DELETED", "a@1", None)]


async def test_made_again_under_the_same_name_is_a_delete_and_an_add() -> None:
    script = Script([pod("a", 1)], Gone("too old"), [pod("a", 5, uid="other")])
    informer = made(script)
    seen = recorded(informer)
    await play(informer, script)
    assert seen == [("ADDED", None, "a@1"), ("DELETED", "a@1", None), ("ADDED", None, "a@5")]


async def test_a_broken_watch_resumes_from_the_last_version_without_a_list() -> None:
    script = Script([], [WatchEvent("ADDED", pod("a", 101))], Unavailable("gone fishing"))
    informer = made(script)
    await play(informer, script)
    assert script.calls == ["list 500", "watch 100", "watch 101", "watch 101"]


async def test_an_expired_continue_token_takes_the_list_in_one_piece() -> None:
    script = Script(Gone("continue token too old"), [pod("a", 1)])
    informer = made(script)
    await play(informer, script)
    assert script.calls == ["list 500", "list 0", "watch 200"]


@pytest.mark.parametrize("error", [Unavailable("down"), Gone("old"), ApiError("boom")])
async def test_errors_are_answered_with_growing_delays(error: ApiError) -> None:
    script = Script(error, error, error, []) if not isinstance(error, Gone) else Script(*[error] * 6, [])
    clock = Instant()
    reflector = Reflector(
        script,  # type: ignore[arg-type]
        Scope(PODS),
        on_list=lambda items: None,
        on_change=lambda event: None,
        clock=clock,
        backoff=Backoff(first_s=1, cap_s=3, jitter=False),
    )
    async with Supervisor("t") as tasks:
        tasks.keep("r", reflector.run)
        await script.done.wait()
    assert clock.slept == [1, 2, 3]


async def test_staleness_is_zero_while_connected() -> None:
    script = Script([pod("a", 1)])
    informer = made(script)
    assert informer.stale_s() > 0
    await play(informer, script)
    assert informer.stale_s() == 0


async def test_indexes_follow_changes() -> None:
    script = Script(
        [pod("a", 1), pod("b", 2, node="n1")],
        [WatchEvent("MODIFIED", pod("a", 3, node="n1")), WatchEvent("MODIFIED", pod("b", 4, node="n2"))],
        [WatchEvent("DELETED", pod("b", 5, node="n2"))],
    )
    informer = made(script, indexes={"node": by_node})
    await play(informer, script)
    assert [p["metadata"]["name"] for p in informer.by_index("node", "n1")] == ["a"]
    assert informer.by_index("node", "n2") == []


async def test_a_late_handler_and_index_see_what_is_there() -> None:
    script = Script([pod("a", 1, node="n1")])
    informer = made(script)
    await play(informer, script)
    seen = recorded(informer)
    informer.add_index("node", by_node)
    assert seen == [("ADDED", None, "a@1")]
    assert len(informer.by_index("node", "n1")) == 1


async def test_a_failing_handler_does_not_blind_the_others() -> None:
    script = Script([pod("a", 1)])
    informer = made(script)

    def broken(*_: object) -> None:
        raise KeyError("bug")

    informer.on_event(broken)
    seen = recorded(informer)
    await play(informer, script)
    assert seen == [("ADDED", None, "a@1")]


def test_by_controller_ignores_other_owners() -> None:
    obj = {"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": True}]}}
    assert list(by_controller(obj)) == ["2"]


async def test_a_set_shares_informers_and_starts_late_ones() -> None:
    script = Script([pod("a", 1)])
    informers = InformerSet(script, clock=Instant())  # type: ignore[arg-type]
    async with Supervisor("t") as tasks:
        tasks.keep("set", informers.run)
        await asyncio.sleep(0)
        first = informers.of(PODS)
        assert informers.of(PODS, indexes={"node": by_node}) is first
        await informers.wait_synced()
    assert len(first) == 1


async def test_a_packed_cache_leaves_out_who_wrote_which_field() -> None:
    obj = pod("a", 5)
    obj["metadata"]["managedFields"] = [{"manager": "x"}]
    script = Script([obj])
    informer = made(script, is_packed=True)
    await play(informer, script)
    assert informer.get("a", "d") == pod("a", 5)
    assert "managedFields" in obj["metadata"], "the object of others was changed"


def test_a_packed_cache_has_no_indexes() -> None:
    with pytest.raises(ValueError, match="packed"):
        made(Script([]), is_packed=True).add_index("node", by_node)
