"""What becomes of garbage in a program that serves for long."""

from __future__ import annotations

import asyncio
import gc
import weakref

from skerry.base.memory import COLLECT_S, TRIM_S, keep_settled
from skerry.testing.clock import VirtualClock


class Ring:
    """Refers to itself, so that only the collector ends it."""

    def __init__(self) -> None:
        self.me = self


async def test_old_garbage_goes_though_the_interpreter_would_keep_it() -> None:
    clock = VirtualClock()
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(keep_settled(clock))
        await clock.wait_sleepers(1)
        ring = Ring()
        gc.collect()  # old now: the interpreter looks at it only when a quarter of all objects is new
        seen = weakref.ref(ring)
        del ring
        gc.collect(1)
        assert seen() is not None
        await clock.advance(COLLECT_S)
        assert seen() is None
        await clock.wait_sleepers(1)
        keeper.cancel()


async def test_it_goes_on_after_giving_memory_back() -> None:
    clock = VirtualClock()
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(keep_settled(clock))
        for _ in range(int(TRIM_S / COLLECT_S) + 1):
            await clock.wait_sleepers(1)
            await clock.advance(COLLECT_S)
        assert not keeper.done()
        keeper.cancel()
