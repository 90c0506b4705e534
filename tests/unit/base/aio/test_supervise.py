"""Named tasks, and the race between several."""

import asyncio

import pytest

from skerry.base.aio.supervise import race


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
