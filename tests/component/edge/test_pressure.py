"""A node that runs short: who is not taken, who goes, and what the cloud is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.component.edge.desk import Desk, pod

from skerry.base.aio.clock import SystemClock
from skerry.edge.resources.admission import admit
from skerry.edge.resources.pressure import DISK, MEMORY, Amount
from skerry.edge.resources.ranking import Usage
from skerry.edge.resources.warden import Warden
from skerry.testing.clock import VirtualClock
from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime

MIB = 1 << 20
AMOUNTS = {"cpu": 1000, "memory": 512 * MIB, "pods": 10}


class Short:
    """A desk with a warden over it whose machine runs short as told."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.engine = FakeEngine(clock=self.clock)
        self.desk = Desk(
            directory, FakeRuntime(self.engine), FakeImages(self.engine), clock=self.clock,
            admit=lambda new, others: admit(new, others, amounts=AMOUNTS, node={"metadata": {"name": "edge-1"}}),
        )  # fmt: skip
        self.left = {"memory.available": Amount(100 * MIB, 512 * MIB), "nodefs.available": Amount(50, 100)}
        self.room = 0
        self.told: list[tuple[str, str, bool]] = []
        self.warden = Warden(
            self.desk.roster, read=self._read, usage=self._usage, make_room=self._make_room, tell=self._tell,
            thresholds={"memory.available": "50Mi", "nodefs.available": "10%"}, clock=self.clock,
        )  # fmt: skip

    async def _read(self) -> Mapping[str, Amount]:
        return self.left

    async def _usage(self) -> Mapping[str, Usage]:
        stats = await self.desk.runtime.stats()
        seen = await self.desk.runtime.observe()
        return {
            uid: Usage(sum(stats[c.id].memory_bytes for c in p.containers if c.id in stats)) for uid, p in seen.items()
        }

    async def _make_room(self, wanted: int) -> int:
        return self.room

    async def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.told.append((reason, message, warning))

    async def run(self, name: str, *, requests: dict[str, str] | None = None, **spec: object) -> None:
        container = {"resources": {"requests": requests or {}}}
        await self.desk.objects.put(f"default/pod/{name}", pod(name=name, uid=f"u-{name}", container=container, **spec))
        await self.desk.until(lambda: self.phase(name) in ("Running", "Failed"))

    def phase(self, name: str) -> str:
        return str(self.desk.status(name).get("phase"))

    def evicted(self) -> list[str]:
        """Names from the Events, in order."""
        entries = [e.envelope.content for e in self.desk.outbox.entries() if "/event/" in e.key]
        return [event["involvedObject"]["name"] for event in entries if event["reason"] == "Evicted"]

    def ended(self) -> dict[str, str]:
        names = [p["metadata"]["name"] for p in self.desk.roster.pods()]
        return {name: self.desk.status(name).get("reason", "") for name in names if self.phase(name) == "Failed"}


@pytest.fixture
async def short(tmp_path: Path) -> AsyncIterator[Short]:
    short = Short(tmp_path / "edge")
    await short.desk.roster.start()
    yield short
    await short.desk.close()


async def test_a_pod_that_does_not_fit_fails_with_the_reason_and_starts_nothing(short: Short) -> None:
    await short.run("first", requests={"cpu": "700m"})
    await short.run("second", requests={"cpu": "700m"})
    assert short.ended() == {"second": "OutOfcpu"}
    assert "requested: 700, used: 700, capacity: 1000" in short.desk.status("second")["message"]
    assert [name for call, name in short.engine.calls if call == "create_sandbox"] == ["first"]
    await short.run("third", requests={"cpu": "300m"})
    assert short.ended() == {"second": "OutOfcpu"}


async def test_pods_that_run_are_adopted_though_there_is_no_room_any_more(short: Short, tmp_path: Path) -> None:
    await short.run("first", requests={"cpu": "700m"})
    await short.desk.close()
    again = Desk(
        tmp_path / "edge", FakeRuntime(short.engine), FakeImages(short.engine), clock=short.clock,
        admit=lambda new, others: admit(new, others, amounts={"cpu": 1}, node={"metadata": {"name": "edge-1"}}),
    )  # fmt: skip
    await again.roster.start()
    await again.until(lambda: again.roster.summary()[0]["ready"] == 1)
    await again.close()


async def test_memory_is_taken_from_one_pod_at_a_time_by_quality_of_service(short: Short) -> None:
    await short.run("guaranteed", requests={"memory": "100Mi"})
    await short.run("burstable", requests={"memory": "10Mi"})
    await short.run("besteffort")
    short.engine.memory = dict.fromkeys(("guaranteed", "burstable", "besteffort"), 50 * MIB)
    await short.warden.look()
    assert short.ended() == {} and not short.warden.pressures.holds(MEMORY) and not short.told
    short.left["memory.available"] = Amount(20 * MIB, 512 * MIB)
    while len(short.ended()) < 3:
        await short.warden.look()
        await short.clock.advance(1)
        assert {short.phase(name) for name in short.engine.memory} <= {"Running", "Failed"}
        await SystemClock().sleep(0.02)
    assert short.evicted() == ["besteffort", "burstable", "guaranteed"]
    assert set(short.ended().values()) == {"Evicted"} and short.warden.pressures.holds(MEMORY)
    assert set(short.told) == {("EvictionThresholdMet", "Attempting to reclaim memory", True)}
    status = short.desk.status("besteffort")
    assert "The node was low on resource: memory" in status["message"]
    assert {item["type"]: item["status"] for item in status["conditions"]}["DisruptionTarget"] == "True"


async def test_nobody_else_goes_while_memory_still_comes_back(short: Short) -> None:
    for name in ("first", "second"):
        await short.run(name)
    short.engine.memory = {"first": 60 * MIB, "second": 50 * MIB}
    short.left["memory.available"] = Amount(10 * MIB, 512 * MIB)
    await short.warden.look()
    await short.desk.until(lambda: short.ended() == {"first": "Evicted"})
    for left in range(12, 48, 4):
        short.left["memory.available"] = Amount(left * MIB, 512 * MIB)
        await short.warden.look()
        await short.clock.advance(1)
    assert len(short.told) == 1 and short.ended() == {"first": "Evicted"}
    await short.warden.look()  # it comes back no more, and is not enough
    await short.desk.until(lambda: short.ended() == {"first": "Evicted", "second": "Evicted"})


async def test_disk_is_taken_from_images_before_pods(short: Short) -> None:
    await short.run("web")
    short.left["nodefs.available"] = Amount(5, 100)
    short.room = 5
    await short.warden.look()
    assert short.ended() == {} and short.warden.pressures.holds(DISK)
    assert short.told == [("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage", True)]
    short.room = 0
    await short.warden.look()
    await short.desk.until(lambda: short.ended() == {"web": "Evicted"})


async def test_a_static_pod_is_never_evicted(short: Short) -> None:
    await short.run("system", priority=2_000_000_000)
    short.left["memory.available"] = Amount(0, 512 * MIB)
    await short.warden.look()
    assert short.ended() == {} and short.phase("system") == "Running"
