"""The drain on a real outbox, with a link whose answers a test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.edge.store.db import open_database
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.sync.drain import WINDOW, Drain
from skerry.edge.sync.pace import Pace
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge.envelope import Envelope


class AnswerLink:
    """A ``Link`` that keeps its questions until a test answers them."""

    is_up = True
    is_to_skerry = True
    down_since_s = 0.0
    why_down = ""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future[Envelope]] = {}
        self.order: list[str] = []
        self.sent: list[Envelope] = []
        self.changed = asyncio.Event()

    async def request(self, envelope: Envelope, *, timeout_s: float = 20.0) -> Envelope:
        self.asked[envelope.resource] = asyncio.get_running_loop().create_future()
        self.order.append(envelope.resource)
        self.changed.set()
        return await self.asked[envelope.resource]

    async def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)
        self.changed.set()

    def on_envelope(self, handler: object) -> None: ...

    def on_state(self, handler: Callable[[bool], None]) -> None: ...

    def answer(self, resource: str, content: object = "OK") -> None:
        self.asked.pop(resource).set_result(Envelope("a", "edgecontroller", "resource", "response", resource, content))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


Parts = tuple[EdgeOutbox, AnswerLink]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    database = open_database(tmp_path)
    outbox = EdgeOutbox(database, clock=SystemClock())
    link = AnswerLink()
    drain = Drain(outbox, link, clock=SystemClock())
    async with Supervisor("drain-test") as supervisor:
        supervisor.keep("drain", drain.run)
        yield outbox, link
    database.close()


def patch(name: str, content: str = "x") -> Envelope:
    return Envelope("", "edged", "meta", "patch", f"default/podpatch/{name}", content)


async def leave(outbox: EdgeOutbox, envelope: Envelope) -> None:
    await outbox.leave(envelope.resource, envelope)


async def until_empty(outbox: EdgeOutbox) -> None:
    while outbox.depth():
        await asyncio.sleep(0.01)


async def test_entries_go_together_up_to_the_window(parts: Parts) -> None:
    outbox, link = parts
    for number in range(WINDOW + 4):
        await leave(outbox, patch(f"p{number}"))
    await link.until(lambda: len(link.asked) == WINDOW)
    first = link.order[0]
    link.answer(first)
    await link.until(lambda: len(link.order) == WINDOW + 1)
    assert len(link.asked) == WINDOW
    while outbox.depth():
        for resource in list(link.asked):
            link.answer(resource)
        await asyncio.sleep(0.01)
    assert len(link.order) == len(set(link.order)) == WINDOW + 4


async def test_everything_about_one_pod_goes_in_its_order(parts: Parts) -> None:
    outbox, link = parts
    await leave(outbox, patch("web"))
    await link.until(lambda: "default/podpatch/web" in link.asked)
    await leave(outbox, patch("web", "newer"))
    await leave(outbox, Envelope("", "edged", "meta", "delete", "default/pod/web", {}))
    await leave(outbox, patch("other"))
    await link.until(lambda: "default/podpatch/other" in link.asked)
    assert link.order == ["default/podpatch/web", "default/podpatch/other"]
    link.answer(
        "default/podpatch/web", answer.failed_write({"code": 500, "reason": "InternalError", "message": "later"})
    )
    await link.until(lambda: link.order.count("default/podpatch/web") == 2)
    assert "default/pod/web" not in link.order
    link.answer("default/podpatch/web")
    await link.until(lambda: "default/pod/web" in link.asked)
    link.answer("default/pod/web")
    link.answer("default/podpatch/other")
    await until_empty(outbox)


async def test_towards_a_go_cloud_there_is_a_brake(parts: Parts) -> None:
    outbox, link = parts
    link.is_to_skerry = False
    for number in range(75):
        event = Envelope("", "edged", "meta", "insert", f"default/event/e{number}", {})
        await outbox.leave(event.resource, event, is_sequence=True)
    await link.until(lambda: len(link.sent) >= 60)
    await until_empty(outbox)
    assert len(link.sent) == 75


def test_the_pace() -> None:
    pace = Pace(per_s=10.0, burst=3)
    assert [pace.take(100.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])
    assert pace.take(100.5) == 0.0
    assert [pace.take(200.0) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.0, 0.1])
