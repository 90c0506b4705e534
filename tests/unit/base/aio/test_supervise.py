"""Named tasks, and the race between several."""

import asyncio
import contextlib

import pytest

from skerry.base.aio.supervise import race, shielded


async def test_a_race_gives_the_first_and_ends_the_others() -> None:
    ended: list[str] = []

    async def late() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("late")
        return "late"

    async def first() -> str:
        return "first"

    assert await race(late(), first()) == (1, "first")
    assert ended == ["late"]


async def test_a_race_raises_what_the_first_raised() -> None:
    async def wrong() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await race(asyncio.Event().wait(), wrong())


async def test_a_cancelled_race_ends_all() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await race(wait(1), wait(2))
    assert sorted(ended) == [1, 2]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_caller_waits_for_what_it_shields_and_ends_also_when_that_fails(times: int) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()
        raise ValueError("somebody else was faster")

    async def caller() -> None:
        while not ended.is_set():
            with contextlib.suppress(ValueError):
                await shielded(work())
        await asyncio.Event().wait()

    task = asyncio.ensure_future(caller())
    await begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)  # it is told
    assert not task.done(), "it must wait for the work"
    may_end.set()
    await asyncio.wait([task], timeout=10)
    assert ended.is_set() and task.cancelled()
