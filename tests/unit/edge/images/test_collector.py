"""What is told of images that cannot be collected, or of too few: once an hour, and anew after it was well."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.edge.images.collector import LOOK_S, TELL_S, ImageCollector
from skerry.edge.images.ledger import ImageLedger
from skerry.runtime.ports import EngineError
from skerry.testing.clock import VirtualClock
from skerry.testing.fakeruntime import FakeEngine, FakeImages

FULL, BROKEN = "FreeDiskSpaceFailed", "ImageGCFailed"


class Images(FakeImages):
    """Of an engine that fails when the test says so, on a file system whose share in use does not matter."""

    def __init__(self, engine: FakeEngine, place: Path) -> None:
        super().__init__(engine)
        self.place: Path | None = place
        self.is_broken = False

    async def filesystem(self) -> Path | None:
        if self.is_broken:
            raise EngineError("the engine does not answer")
        return self.place


class Facts:
    def fact(self, name: str) -> str:
        return ""

    async def remember(self, name: str, value: str) -> None: ...


class Looks:
    """A collector, the clock, and what it told."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock(1000.0)
        self.images = Images(FakeEngine(), directory)
        self.told: list[str] = []
        self.is_kept = True
        ledger = ImageLedger(Facts(), directory=directory, clock=self.clock)
        self._collector = ImageCollector(
            self.images, ledger=ledger, known=set, is_offline=lambda: False, tell=self._tell, clock=self.clock,
            high_percent=0, low_percent=0,
        )  # fmt: skip

    async def _tell(self, reason: str, message: str, *, warning: bool = False) -> bool:
        self.told.append(reason)
        return self.is_kept

    async def look(self, count: int = 1) -> None:
        for _ in range(count):
            await self._collector.look()
            await self.clock.advance(LOOK_S)


@pytest.fixture
def looks(tmp_path: Path) -> Looks:
    return Looks(tmp_path)


async def test_a_full_file_system_is_told_once_an_hour(looks: Looks) -> None:
    await looks.look(int(TELL_S / LOOK_S))
    assert looks.told == [FULL]
    await looks.look()
    assert looks.told == [FULL, FULL]


async def test_it_is_told_anew_when_it_was_well_in_between(looks: Looks) -> None:
    place = looks.images.place
    await looks.look()
    looks.images.place = None
    await looks.look()
    looks.images.place = place
    await looks.look()
    assert looks.told == [FULL, FULL]


async def test_what_could_not_be_kept_is_told_at_the_next_look(looks: Looks) -> None:
    looks.is_kept = False
    await looks.look(2)
    looks.is_kept = True
    await looks.look(2)
    assert looks.told == [FULL] * 3


async def test_an_engine_that_fails_is_told_at_the_second_look_of_each_outage(looks: Looks) -> None:
    for _ in range(2):
        looks.images.is_broken = True
        await looks.look(4)
        looks.images.is_broken = False
        await looks.look()
    assert looks.told == [BROKEN, FULL, BROKEN]
