"""Events about pods: one for each thing that happens, whatever ids engines put into their words; seldom repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.component.edge.desk import pod

from skerry.edge.pods.events import PodEvents
from skerry.edge.store.db import open_database
from skerry.edge.store.outbox import EdgeOutbox
from skerry.testing.clock import VirtualClock


class Told:
    """The events that a cloud would get."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.database = open_database(directory)
        self.outbox = EdgeOutbox(self.database, clock=self.clock)
        self.events = PodEvents(self.outbox, node="n1", clock=self.clock)

    async def tell(self, message: str) -> None:
        await self.events.tell(pod(), "Unhealthy", message, container="app", warning=True)

    def all(self) -> list[dict[str, Any]]:
        return [entry.envelope.content for entry in self.outbox.entries()]


async def test_a_thing_that_goes_on_is_told_less_and_less_often(tmp_path: Path) -> None:
    told = Told(tmp_path)
    at = []
    for second in range(0, 600, 2):
        before = told.all()
        await told.tell("Readiness probe failed: no")
        if told.all() != before:  # an entry that waits is replaced by its newer form
            at.append(second)
        await told.clock.advance(2)
    assert at == [0, 10, 30, 70, 150, 310]
    assert len({event["metadata"]["name"] for event in told.all()}) == 1
    assert told.all()[-1]["count"] == 156  # also those that were not told count
    await told.clock.advance(10)
    await told.tell("Readiness probe failed: no")
    assert told.all()[-1]["count"] == 1 and len({event["metadata"]["name"] for event in told.all()}) == 2
    told.database.close()


async def test_ids_of_engines_make_no_new_event(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for number in range(3):
        await told.tell(f'failed to start exec "{number:064x}": no such program')
        await told.clock.advance(300)
    names = {event["metadata"]["name"] for event in told.all()}
    assert len(names) == 1 and told.all()[-1]["message"].startswith('failed to start exec "00')
    await told.tell("failed otherwise")
    assert len({event["metadata"]["name"] for event in told.all()}) == 2
    told.database.close()
